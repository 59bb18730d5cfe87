"""Says of each statement that the service runs what PostgreSQL looked at to answer it.

`Explaining` stands in for a connection: what is run on it is explained first, in the same
transaction and with the same arguments, and then runs as ever. A worker keeps its statements
prepared, and so gets either the plan for these arguments or the one for any; each is looked at.
"""

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

_WEEK = re.compile(r"(operation|dead_letter|intake_batch)_\d{8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a statement was answered. `is_generic`: by the plan for any arguments.

    `rows_looked_at` in every step of the plan, also more than once. `scanned` holds the tables that
    were read from end to end, `probed` those that were looked into by an index, with their rows.
    """

    statement: str
    is_generic: bool
    milliseconds: float
    buffers: int
    rows_looked_at: int
    scanned: dict[str, int]
    probed: dict[str, int]

    @property
    def weeks_probed(self) -> int:
        """How many weekly partitions were looked into."""
        return sum(_WEEK.fullmatch(table) is not None for table in self.probed)

    @property
    def rows_scanned_of_log(self) -> int:
        """How many rows of weeks of the log were read that were read from end to end."""
        return sum(rows for table, rows in self.scanned.items() if table.startswith("operation_2"))


class Explaining:
    """A connection whose statements are explained before they run; the plans are in `plans`."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        """Explain nothing yet."""
        self._connection = connection
        self.plans: list[Plan] = []

    async def fetch(self, query: str, *arguments: object) -> Any:  # noqa: ANN401 - as asyncpg has it
        """Explain and run; the rows."""
        await self._explain(query, arguments)
        return await self._connection.fetch(query, *arguments)

    async def fetchval(self, query: str, *arguments: object) -> Any:  # noqa: ANN401 - as asyncpg has it
        """Explain and run; the first value."""
        await self._explain(query, arguments)
        return await self._connection.fetchval(query, *arguments)

    async def fetchrow(self, query: str, *arguments: object) -> Any:  # noqa: ANN401 - as asyncpg has it
        """Explain and run; the first row."""
        await self._explain(query, arguments)
        return await self._connection.fetchrow(query, *arguments)

    async def execute(self, query: str, *arguments: object) -> Any:  # noqa: ANN401 - as asyncpg has it
        """Explain and run; the command tag."""
        await self._explain(query, arguments)
        return await self._connection.execute(query, *arguments)

    async def copy_records_to_table(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as asyncpg has it
        """Run: a COPY has no plan."""
        return await self._connection.copy_records_to_table(*arguments, **options)

    async def _explain(self, query: str, arguments: tuple[object, ...]) -> None:
        prepared = await self._connection.prepare(query)
        literals = [
            await self._connection.fetchval(
                f"SELECT quote_nullable($1::{parameter.name}::text)",
                argument,
            )
            for parameter, argument in zip(prepared.get_parameters(), arguments, strict=True)
        ]
        await self._connection.execute(f"PREPARE explained AS {query}")
        try:
            for is_generic in (False, True):
                async with rolled_back(self._connection):
                    mode = "force_generic_plan" if is_generic else "force_custom_plan"
                    await self._connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
                    given = f"({', '.join(literals)})" if literals else ""
                    text = await self._connection.fetchval(
                        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE explained{given}"
                    )
                self.plans.append(_plan(query, json.loads(text)[0], is_generic=is_generic))
        finally:
            await self._connection.execute("DEALLOCATE explained")


@asynccontextmanager
async def rolled_back(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """A transaction, or a part of one, of which nothing stays."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


def _plan(query: str, explained: dict[str, Any], *, is_generic: bool) -> Plan:
    root = explained["Plan"]
    scanned: dict[str, int] = {}
    probed: dict[str, int] = {}
    rows_looked_at = 0
    for node in _nodes(root):
        passed = node["Actual Rows"] + sum(
            value for name, value in node.items() if name.startswith("Rows Removed by")
        )
        rows = round(passed * node["Actual Loops"])
        rows_looked_at += rows
        # An index scan of a bitmap names the index alone, which begins with its table's name.
        relation = node.get("Relation Name") or node.get("Index Name")
        if node["Actual Loops"] and relation is not None and node["Node Type"].endswith("Scan"):
            read = scanned if node["Node Type"] == "Seq Scan" else probed
            read[relation] = read.get(relation, 0) + rows
    return Plan(
        statement=" ".join(query.split()),
        is_generic=is_generic,
        milliseconds=explained["Execution Time"],
        buffers=root["Shared Hit Blocks"] + root["Shared Read Blocks"],
        rows_looked_at=rows_looked_at,
        scanned=scanned,
        probed=probed,
    )


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)
