"""Who may do what in the database: the roles, and one table of their rights.

A role is a group without a login; logins are made members of it. The owner has the tables and runs
`migrate`; a worker has what its statements need, and nothing with which the log could be changed; a
reader reads, but no card number and no fingerprint. Roles belong to the whole server, so that their
names begin with `LIFECYCLE_DATABASE_ROLE_PREFIX`.

A new table is a new line in `TABLES`, a new function one in `FUNCTIONS`; a test fails without it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from types import MappingProxyType
from typing import LiteralString

import psycopg
from sqlalchemy.engine import make_url

from lifecycle.postgres.schema import SchemaError

Connection = psycopg.Connection[tuple[object, ...]]


KEEPALIVE_SECONDS = 30


class Role(StrEnum):
    """A role, by the last word of its name."""

    OWNER = "owner"
    WORKER = "worker"
    READER = "reader"


_APPEND = "SELECT, INSERT"
_KEEP = "SELECT, INSERT, UPDATE"
_ALL = "SELECT, INSERT, UPDATE, DELETE"
_READ = "SELECT"

TABLES: Mapping[str, Mapping[Role, str]] = MappingProxyType(
    {
        "alembic_version": {Role.WORKER: _READ, Role.READER: _READ},
        "card": {Role.WORKER: _ALL, Role.READER: _READ},
        "card_product": {Role.WORKER: _KEEP, Role.READER: _READ},
        "cascade": {Role.WORKER: _ALL, Role.READER: _READ},
        "consumer": {Role.WORKER: _ALL, Role.READER: _READ},
        "dead_letter": {Role.WORKER: _APPEND, Role.READER: _READ},
        "dispatch": {Role.WORKER: "SELECT, INSERT, DELETE", Role.READER: _READ},
        "intake_batch": {Role.WORKER: _APPEND, Role.READER: _READ},
        "dropped_event": {Role.WORKER: _READ, Role.READER: _READ},
        "known_key": {Role.WORKER: _APPEND},
        "lane_in": {Role.WORKER: _KEEP, Role.READER: _READ},
        "lane_out": {Role.WORKER: _KEEP, Role.READER: _READ},
        "lane_pub": {Role.WORKER: _KEEP, Role.READER: _READ},
        "log_reader": {Role.WORKER: _READ, Role.READER: _READ},
        "operation": {Role.WORKER: _APPEND, Role.READER: _READ},
        "pan": {Role.WORKER: _ALL},
        "pan_fingerprint": {Role.WORKER: _ALL},
        "past_command": {Role.WORKER: _APPEND, Role.READER: _READ},
        "pending_operation": {Role.WORKER: _ALL, Role.READER: _READ},
        "retention_limit": {Role.WORKER: _READ, Role.READER: _READ},
        "retired_pan": {},
        "schema_support": {Role.WORKER: _READ, Role.READER: _READ},
        "timer": {Role.WORKER: _ALL, Role.READER: _READ},
    }
)
"""Every table and view, and what a role may do with it. Partitions have no line and no rights of
their own: they are reached by the name of their table. The owner may do everything."""

FUNCTIONS: Mapping[str, frozenset[Role]] = MappingProxyType(
    {
        "drop_week(text,bigint,bigint,integer,integer)": frozenset({Role.WORKER}),
        "ensure_operation_partitions(integer)": frozenset({Role.WORKER}),
        "ensure_partitions(integer)": frozenset({Role.WORKER}),
        "forbid_change()": frozenset(),
        "forget_past_commands(integer)": frozenset({Role.WORKER}),
        "keep_command_of_log()": frozenset(),
        "keep_commands_of_subject()": frozenset(),
        "known_key_stays()": frozenset(),
        "make_insert_only(regclass)": frozenset(),
        "retention_clock(bigint,bigint)": frozenset(),
        "retired_pan_stays()": frozenset(),
        "weekly_partitions()": frozenset(),
        "weeks_kept(text,bigint,bigint,integer,integer)": frozenset({Role.WORKER}),
        "why_kept(name,name,timestamp with time zone,timestamp with time zone,integer,integer)": (
            frozenset()
        ),
    }
)
"""Every function, and who may call it beside the owner."""


class RolesError(SchemaError):
    """The roles can't be used as they are; says what to do, and who."""


def role_name(prefix: str, role: Role) -> str:
    """The name of a role on the server."""
    return f"{prefix}_{role}"


def create_roles(connection: Connection, prefix: str) -> None:
    """Create the roles that are missing.

    Raises:
        RolesError: one is missing, and this login may create none.
    """
    for role in Role:
        name = role_name(prefix, role)
        if _exists(connection, name):
            continue
        try:
            _run(connection, "CREATE ROLE %I NOLOGIN", name)
        except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            continue  # Another installation that shares the roles was faster.
        except psycopg.errors.InsufficientPrivilege:
            raise RolesError(
                f"The role {name} does not exist, and this login may create none: let an"
                " administrator create the roles as docs/operate.md says."
            ) from None
        if role is Role.OWNER and not _is_superuser(connection):
            # Whoever creates a role may grant it, but is no member of it by that alone.
            _run(connection, "GRANT %I TO CURRENT_USER", name)


def is_handed_over(connection: Connection, prefix: str) -> bool:
    """Whether the database, or the tables in it, belong to the owner role."""
    return _is_true(
        connection,
        """
        SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s AND oid IN (
            (SELECT datdba FROM pg_database WHERE datname = current_database()),
            (SELECT relowner FROM pg_class WHERE oid = to_regclass('operation'))))
        """,
        role_name(prefix, Role.OWNER),
    )


def open_schema(connection: Connection, prefix: str) -> None:
    """Let the roles use the schema, only the owner create something in it, and nobody else.

    Raises:
        RolesError: it is not so, and this login may not change it.
    """
    owner = role_name(prefix, Role.OWNER)
    everyone = [role_name(prefix, role) for role in Role]
    is_so = _is_true(
        connection,
        """
        SELECT bool_and(has_schema_privilege(role, 'public', 'USAGE'))
            AND has_schema_privilege(%s, 'public', 'CREATE')
            AND NOT has_schema_privilege('public', 'public', 'CREATE')
        FROM unnest(%s::text[]) AS u(role)
        """,
        owner,
        everyone,
    )
    if is_so:
        return
    try:
        _run(connection, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        _run(connection, "GRANT CREATE ON SCHEMA public TO %I", owner)
        for name in everyone:
            _run(connection, "GRANT USAGE ON SCHEMA public TO %I", name)
    except psycopg.errors.InsufficientPrivilege:
        raise RolesError(
            "This login may not grant rights on the schema public: let the owner of the database"
            " or a superuser run `lifecycle migrate --roles`, or do what docs/operate.md says."
        ) from None


def hand_over(connection: Connection, prefix: str) -> None:
    """Give what belongs to the service, and not to the owner role yet, to it; as the login itself.

    Raises:
        RolesError: this login may not.
    """
    connection.execute("RESET ROLE")
    statements = connection.execute(
        """
        SELECT format('ALTER TABLE %%I OWNER TO %%I', relname, owner)
        FROM pg_class, (SELECT %(owner)s::text AS owner) AS given
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
            AND pg_get_userbyid(relowner) <> owner
            AND (relname = ANY(%(tables)s) OR EXISTS (
                SELECT FROM pg_inherits JOIN pg_class AS parent ON parent.oid = inhparent
                WHERE inhrelid = pg_class.oid AND parent.relname = ANY(%(tables)s)))
        UNION ALL
        SELECT format('ALTER FUNCTION %%s OWNER TO %%I', pg_proc.oid::regprocedure, owner)
        FROM pg_proc, (SELECT %(owner)s::text AS owner) AS given
        WHERE pg_proc.oid = ANY(%(functions)s::regprocedure[])
            AND pg_get_userbyid(proowner) <> owner
        """,
        {
            "owner": role_name(prefix, Role.OWNER),
            "tables": list(TABLES),
            "functions": list(FUNCTIONS),
        },
    ).fetchall()
    try:
        for (statement,) in statements:
            connection.execute(str(statement).encode())
    except psycopg.errors.InsufficientPrivilege as error:
        raise RolesError(
            f"The tables can't be given to {role_name(prefix, Role.OWNER)}:"
            f" {error.diag.message_primary}. Use a login that owns them and is a member of that"
            " role, or a superuser."
        ) from None


def become_owner(connection: Connection, prefix: str) -> None:
    """Do what follows on this connection as the owner role.

    Raises:
        RolesError: this login is no member of it.
    """
    owner = role_name(prefix, Role.OWNER)
    try:
        connection.execute("SELECT set_config('role', %s, false)", [owner])
    except psycopg.errors.InsufficientPrivilege:
        raise RolesError(
            f"The tables belong to {owner}, and this login is no member of it: set"
            " LIFECYCLE_DATABASE_OWNER_URL to one that is."
        ) from None


def grant_rights(connection: Connection, prefix: str) -> None:
    """Give each role what `TABLES` and `FUNCTIONS` say, and nothing else; as the owner role.

    Raises:
        RolesError: something in the schema does not belong to the owner role.
    """
    try:
        with connection.transaction():
            _grant_rights(connection, prefix)
    except psycopg.errors.InsufficientPrivilege as error:
        raise RolesError(
            f"Not all tables belong to {role_name(prefix, Role.OWNER)}:"
            f" {error.diag.message_primary}. Run `lifecycle migrate --roles` with a login that owns"
            " them and is a member of that role, or as a superuser."
        ) from None


def _grant_rights(connection: Connection, prefix: str) -> None:
    others = [(role, role_name(prefix, role)) for role in Role if role is not Role.OWNER]
    for table, rights in TABLES.items():
        _run(connection, "REVOKE ALL ON TABLE %I FROM PUBLIC", table)
        for role, name in others:
            _run(connection, "REVOKE ALL ON TABLE %I FROM %I", table, name)
            if role in rights:
                _run(connection, "GRANT %s ON TABLE %I TO %I", rights[role], table, name)
    for function, callers in FUNCTIONS.items():
        _run(connection, "REVOKE ALL ON FUNCTION %s FROM PUBLIC", function)
        for role, name in others:
            _run(connection, "REVOKE ALL ON FUNCTION %s FROM %I", function, name)
            if role in callers:
                _run(connection, "GRANT EXECUTE ON FUNCTION %s TO %I", function, name)


def ensure_logins(url: str, prefix: str, password: str) -> dict[Role, str]:
    """Give each role a login of its own, for development and tests; their addresses.

    Args:
        url: the address of a login that may create roles.
        prefix: how the names of the roles begin; those that are missing are created.
        password: of each of the logins, from now on.
    """
    addresses = {}
    with connected(url) as connection:
        create_roles(connection, prefix)
        for role in Role:
            name = f"{role_name(prefix, role)}_login"
            if not _exists(connection, name):
                _run(connection, "CREATE ROLE %I", name)
            _run(connection, "ALTER ROLE %I LOGIN PASSWORD %L", name, password)
            _run(connection, "GRANT %I TO %I", role_name(prefix, role), name)
            addresses[role] = (
                make_url(url)
                .set(username=name, password=password)
                .render_as_string(hide_password=False)
            )
    return addresses


@contextmanager
def connected(
    url: str, *, connect_seconds_max: int = 10, lock_ms_max: int = 0
) -> Iterator[Connection]:
    """A connection for the functions above; what is done on it is committed at once.

    Raises:
        psycopg.OperationalError: the server can't be reached, or refuses the login.
    """
    with psycopg.connect(
        url,
        autocommit=True,
        connect_timeout=connect_seconds_max,
        keepalives_idle=KEEPALIVE_SECONDS,  # it is idle for as long as the migrations take
    ) as connection:
        connection.execute(
            "SELECT set_config('lock_timeout', %s, false),"
            " set_config('search_path', 'public', false)",
            [str(lock_ms_max)],
        )
        yield connection


def _exists(connection: Connection, role: str) -> bool:
    return _is_true(connection, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s)", role)


def _is_superuser(connection: Connection) -> bool:
    return _is_true(connection, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")


def _is_true(connection: Connection, query: LiteralString, *parameters: object) -> bool:
    return connection.execute(query, parameters).fetchone() == (True,)


def _run(connection: Connection, template: str, *words: str) -> None:
    # A statement about a role or a table takes no parameters: the server itself quotes the words.
    found = connection.execute(
        "SELECT format(%s, VARIADIC %s::text[])", [template, list(words)]
    ).fetchone()
    assert found is not None, "format() gives one row"
    connection.execute(str(found[0]).encode())
