"""Commands that no subject's row remembers: their ids and contents, found with one probe each.

A command comes here when it leaves the recent ones of its subject, or was refused for a subject
that has no row. It stays until the log has dropped the week in which it came here, and so at least
as long as the log holds its operation.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from lifecycle.postgres.connection import Connection, Pool


class PastCommand(NamedTuple):
    """A command by its operation id, and the hash of its content.

    `subject_key` is the event key of a subject that had no row, and `last_time_ms` the start of the
    last operation that was refused for it, in milliseconds since the epoch; else both are None.
    """

    issuer_id: str
    operation_id: UUID
    content_hash: bytes
    subject_key: str | None
    last_time_ms: int | None


async def copy_past_commands(connection: Connection, rows: Sequence[PastCommand]) -> None:
    """Keep commands. One that is there already is kept twice, which is harmless."""
    await connection.copy_records_to_table(
        "past_command", columns=PastCommand._fields, records=rows
    )


async def load_content_hashes(
    connection: Connection, operations: Sequence[tuple[str, UUID]]
) -> dict[UUID, bytes]:
    """The content hashes of those commands that are kept, of pairs of issuerId and operation id."""
    rows = await connection.fetch(
        """
        SELECT operation_id, content_hash
        FROM unnest($1::text[], $2::uuid[]) AS u(issuer_id, operation_id)
        JOIN past_command USING (issuer_id, operation_id)
        """,
        [issuer_id for issuer_id, _ in operations],
        [operation_id for _, operation_id in operations],
    )
    return {row[0]: row[1] for row in rows}


async def load_last_times(
    connection: Connection, subjects: Sequence[tuple[str, str]]
) -> dict[str, int]:
    """When the last command was refused for subjects that had no row, by event key.

    `subjects` are pairs of issuerId and event key; those without such a command are left out. The
    time is the start of the operation, in milliseconds since the epoch.
    """
    rows = await connection.fetch(
        """
        SELECT u.subject_key, last.last_time_ms
        FROM unnest($1::text[], $2::text[]) AS u(issuer_id, subject_key)
        CROSS JOIN LATERAL (
            SELECT last_time_ms FROM past_command
            WHERE past_command.issuer_id = u.issuer_id
                AND past_command.subject_key = u.subject_key
            ORDER BY last_time_ms DESC LIMIT 1
        ) AS last
        """,
        [issuer_id for issuer_id, _ in subjects],
        [key for _, key in subjects],
    )
    return {row[0]: row[1] for row in rows}


async def forget_past_commands(pool: Pool, rows_max: int) -> int:
    """Forget some commands whose operations the log has dropped; how many, `rows_max` at most.

    Fewer than `rows_max` says that none is left, or that another call holds some. Waits for nobody,
    and may be called by several at once.
    """
    return int(await pool.fetchval("SELECT forget_past_commands($1)", rows_max))
