"""Three roles: what each may do in the database, held against the server, and how they begin."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from pydantic import SecretStr

from lifecycle.local import Servers
from lifecycle.postgres import views
from lifecycle.postgres.connection import end_stalled_sessions, open_pool
from lifecycle.postgres.migrate import migrate
from lifecycle.postgres.roles import FUNCTIONS, TABLES, Role, RolesError, role_name
from lifecycle.postgres.schema import check_schema, ensure_partitions, needless_rights
from lifecycle.settings import Settings
from lifecycle.telemetry import configure_logging
from tests.support.ground import connected, login_of, own_database, own_roles, with_database
from tests.support.worker import running_worker
from tests.unit.vault_keys import write_keys

_DATA = ("SELECT", "INSERT", "UPDATE", "DELETE")
_NEVER = ("TRUNCATE", "REFERENCES", "TRIGGER")

# Written apart from the code, as the statements in lifecycle/postgres need it. The first letters of
# SELECT, INSERT, UPDATE, DELETE; for the worker and for the reader.
_RIGHTS = {
    "alembic_version": ("S", "S"),
    "card": ("SIUD", "S"),
    "card_product": ("SIU", "S"),
    "cascade": ("SIUD", "S"),
    "consumer": ("SIUD", "S"),
    "dead_letter": ("SI", "S"),
    "dispatch": ("SID", "S"),
    "intake_batch": ("SI", "S"),
    "dropped_event": ("S", "S"),
    "known_key": ("SI", ""),
    "lane_in": ("SIU", "S"),
    "lane_out": ("SIU", "S"),
    "lane_pub": ("SIU", "S"),
    "log_reader": ("S", "S"),
    "operation": ("SI", "S"),
    "pan": ("SIUD", ""),
    "pan_fingerprint": ("SIUD", ""),
    "past_command": ("SI", "S"),
    "pending_operation": ("SIUD", "S"),
    "retention_limit": ("S", "S"),
    "retired_pan": ("", ""),
    "schema_support": ("S", "S"),
    "timer": ("SIUD", "S"),
}


@asynccontextmanager
async def _connection(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@pytest_asyncio.fixture
async def url(servers: Servers, template: str) -> AsyncIterator[str]:
    """The address of a database of its own, for a superuser."""
    async with own_database(servers, template) as name:
        yield with_database(servers.database_url, name)


async def _relations(connection: asyncpg.Connection) -> dict[str, bool]:
    """Every table, view and sequence of the schema, and whether it is a partition."""
    rows = await connection.fetch(
        "SELECT relname, relispartition FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relkind NOT IN ('i', 'I', 'c')"
    )
    return {row[0]: row[1] for row in rows}


async def test_every_table_and_every_function_has_a_line(url: str) -> None:
    """Whoever adds one says in `lifecycle/postgres/roles.py` who may use it."""
    async with _connection(url) as connection:
        tables = {name for name, is_part in (await _relations(connection)).items() if not is_part}
        functions = await connection.fetch(
            "SELECT oid::regprocedure::text FROM pg_proc"
            " WHERE pronamespace = 'public'::regnamespace"
        )
    assert tables == set(TABLES)
    assert {row[0] for row in functions} == set(FUNCTIONS)


@pytest.mark.parametrize("role", [Role.WORKER, Role.READER])
async def test_a_role_has_the_rights_of_the_table_and_no_others(
    url: str, template: str, role: Role
) -> None:
    async with _connection(url) as connection:
        name = role_name(template, role)
        relations = await _relations(connection)
        assert sum(relations.values()) > 1, "partitions are among them"
        for table, is_partition in relations.items():
            letters = "" if is_partition else _RIGHTS[table][role is Role.READER]
            expected = {right for right in _DATA if right[0] in letters}
            found = {
                right
                for right in (*_DATA, *_NEVER)
                if await connection.fetchval(
                    "SELECT has_table_privilege($1::name, $2, $3)"
                    " OR $3 NOT IN ('TRUNCATE', 'TRIGGER', 'DELETE')"
                    " AND has_any_column_privilege($1::name, $2, $3)",
                    *(name, f'"{table}"', right),
                )
            }
            assert found == expected, (table, role)


async def test_nobody_but_the_roles_has_a_right(url: str) -> None:
    async with _connection(url) as connection:
        of_everybody = await connection.fetch(
            """
            SELECT oid::regclass::text FROM pg_class, aclexplode(relacl) AS acl
            WHERE relnamespace = 'public'::regnamespace AND acl.grantee = 0
            UNION ALL
            SELECT oid::regprocedure::text FROM pg_proc
            WHERE pronamespace = 'public'::regnamespace
                AND has_function_privilege('public', oid, 'EXECUTE')
            UNION ALL
            SELECT 'public' WHERE has_schema_privilege('public', 'public', 'CREATE')
            """
        )
        assert of_everybody == []


async def test_only_the_owner_creates_something(url: str, template: str) -> None:
    async with _connection(url) as connection:
        for role in Role:
            may = await connection.fetchval(
                "SELECT has_schema_privilege($1::name, 'public', 'CREATE')",
                role_name(template, role),
            )
            assert may == (role is Role.OWNER)
            row = await connection.fetchrow(
                "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls,"
                " rolcanlogin FROM pg_roles WHERE rolname = $1",
                role_name(template, role),
            )
            assert tuple(row) == (False, False)


async def test_what_runs_as_the_owner_can_be_called_by_the_worker_alone(
    url: str, template: str
) -> None:
    """And finds nothing of the caller's on its way."""
    async with _connection(url) as connection:
        rows = await connection.fetch(
            """
            SELECT oid::regprocedure::text, proconfig, pg_get_userbyid(proowner),
                has_function_privilege($1::name, oid, 'EXECUTE'),
                has_function_privilege($2::name, oid, 'EXECUTE')
            FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef
            """,
            role_name(template, Role.WORKER),
            role_name(template, Role.READER),
        )
        assert {row[0] for row in rows} == {
            "drop_week(text,bigint,bigint,integer,integer)",
            "ensure_operation_partitions(integer)",
            "ensure_partitions(integer)",
            "forget_past_commands(integer)",
            "weeks_kept(text,bigint,bigint,integer,integer)",
        }
        for row in rows:
            assert row[1][0] == "search_path=public, pg_temp"
            assert tuple(row)[2:] == (
                role_name(template, Role.OWNER),
                True,
                False,
            )


async def test_everything_belongs_to_the_owner_role(url: str, template: str) -> None:
    async with _connection(url) as connection:
        owners = await connection.fetch(
            """
            SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class
            WHERE relnamespace = 'public'::regnamespace
            UNION SELECT pg_get_userbyid(proowner) FROM pg_proc
            WHERE pronamespace = 'public'::regnamespace
            """
        )
        assert [row[0] for row in owners] == [role_name(template, Role.OWNER)]


_OF_THE_LOG = (
    "UPDATE {} SET lane = 1",
    "DELETE FROM {}",
    "TRUNCATE {}",
    "DROP TABLE {} CASCADE",
    "ALTER TABLE {} DISABLE TRIGGER ALL",
    "ALTER TABLE {} ADD COLUMN mine text",
    "CREATE TRIGGER mine BEFORE INSERT ON {} EXECUTE FUNCTION forbid_change()",
    "CREATE INDEX ON {} (seq)",
)


@pytest.mark.parametrize("role", [Role.WORKER, Role.READER])
async def test_no_worker_and_no_reader_touches_the_log(url: str, template: str, role: Role) -> None:
    async with _connection(url) as superuser:
        partition = await superuser.fetchval(
            "SELECT min(inhrelid::regclass::text) FROM pg_inherits"
            " WHERE inhparent = 'operation'::regclass"
        )
    statements = [
        *(statement.format(name) for statement in _OF_THE_LOG for name in ("operation", partition)),
        f"ALTER TABLE operation DETACH PARTITION {partition}",
        f"INSERT INTO {partition} SELECT * FROM operation",  # noqa: S608 - of the catalogue
        "DROP FUNCTION forbid_change()",
        "SELECT make_insert_only('operation')",
        "CREATE TABLE mine ()",
        "CREATE SCHEMA mine",
        f"SET ROLE {role_name(template, Role.OWNER)}",
        "SET session_replication_role = replica",
    ]
    async with _connection(login_of(url, template, role)) as connection:
        for statement in statements:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)


async def test_a_worker_makes_partitions_and_not_too_many(url: str, template: str) -> None:
    settings = Settings(database_url=SecretStr(login_of(url, template, Role.WORKER)))
    async with _connection(url) as superuser:
        last = await superuser.fetchval(
            "SELECT max(inhrelid::regclass::text) FROM pg_inherits"
            " WHERE inhparent = 'operation'::regclass"
        )
        await superuser.execute(f"DROP TABLE {last}")
    async with await open_pool(settings) as pool:
        assert await ensure_partitions(pool) == 1
        for weeks in (-1, 54):
            with pytest.raises(asyncpg.RaiseError, match="must be 0 to 53"):
                await pool.execute("SELECT ensure_operation_partitions($1)", weeks)


async def test_a_table_of_the_callers_does_not_mislead_what_runs_as_the_owner(
    url: str, template: str
) -> None:
    """A temporary table would come first on the caller's own path."""
    async with _connection(login_of(url, template, Role.WORKER)) as connection:
        await connection.execute("CREATE TEMPORARY TABLE operation (LIKE operation)")
        await connection.execute("SET search_path = pg_temp, public")
        await connection.execute("SELECT ensure_operation_partitions(20)")
        assert (
            await connection.fetchval(
                "SELECT count(*) FROM pg_inherits WHERE inhparent = 'public.operation'::regclass"
            )
            == 22
        )


async def test_a_reader_sees_cards_and_operations_and_no_number(url: str, template: str) -> None:
    settings = Settings(database_url=SecretStr(login_of(url, template, Role.READER)))
    async with await open_pool(settings) as pool:
        await check_schema(pool)
        assert await views.find_card(pool, "BANK000001", "none") is None
        page = await views.list_operations(
            pool, "BANK000001", "BANK000001/none", offset=0, limit=1, clock_offset_seconds=0
        )
        assert page.events == []
        await views.load_totals(pool)
        await views.load_progress(pool, clock_offset_seconds=0)
        for relation in ("pan", "pan_fingerprint", "retired_pan"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await pool.fetch(f"SELECT 1 FROM {relation}")  # noqa: S608 - one of three
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute("DELETE FROM timer")


async def test_a_worker_sees_and_ends_sessions_of_its_own_role_alone(
    url: str, template: str
) -> None:
    settings = Settings(database_url=SecretStr(login_of(url, template, Role.WORKER)))
    async with await open_pool(settings) as pool, _connection(url) as superuser:
        assert await end_stalled_sessions(pool, settings) == 0
        pid = superuser.get_server_pid()
        assert await pool.fetchval("SELECT query FROM pg_stat_activity WHERE pid = $1", pid) == (
            "<insufficient privilege>"
        )
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute("SELECT pg_terminate_backend($1)", pid)


# --- setting up


@asynccontextmanager
async def _plain_login(servers: Servers) -> AsyncIterator[tuple[str, str]]:
    """A database that belongs to a login without any right on the server: its name, its address."""
    name = f"lifecycle_test_{uuid4().hex[:16]}"
    async with _connection(servers.database_url) as superuser:
        await superuser.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{name}'")
        try:
            async with own_database(servers) as database:
                await superuser.execute(f"ALTER DATABASE {database} OWNER TO {name}")
                host = with_database(servers.database_url, database)
                yield name, _as_login(host, name)
        finally:
            await superuser.execute(f"DROP ROLE {name}")


def _as_login(url: str, name: str) -> str:
    host = url.split("@", 1)[1]
    return f"postgresql://{name}:{name}@{host}"


async def test_one_login_that_owns_everything_needs_no_roles(servers: Servers) -> None:
    """Development on a given server: nothing but a database and its login."""
    async with _plain_login(servers) as (_, url):
        settings = Settings(database_url=SecretStr(url))
        await asyncio.to_thread(migrate, settings)
        async with await open_pool(settings) as pool:
            await check_schema(pool)
            assert await ensure_partitions(pool) == 0
            assert await needless_rights(pool) == "the tables belong to it"


async def test_who_may_create_no_roles_is_told_what_to_do(servers: Servers) -> None:
    async with _plain_login(servers) as (name, url):
        settings = Settings(database_url=SecretStr(url), database_role_prefix=f"{name}_x")
        with pytest.raises(RolesError, match=f"role {name}_x_owner does not exist.*administrator"):
            await asyncio.to_thread(migrate, settings, with_roles=True)


async def test_the_tables_of_one_login_are_handed_over(servers: Servers) -> None:
    """An installation of before gets its roles; an administrator does it, or the login itself."""
    async with own_roles(servers) as prefix, _plain_login(servers) as (name, url):
        one_login = Settings(database_url=SecretStr(url), database_role_prefix=prefix)
        await asyncio.to_thread(migrate, one_login)
        with pytest.raises(RolesError, match="can't be given to"):
            await asyncio.to_thread(migrate, one_login, with_roles=True)
        owner = role_name(prefix, Role.OWNER)
        async with _connection(servers.database_url) as superuser:
            await superuser.execute(f"GRANT {owner} TO {name}")
        await asyncio.to_thread(migrate, one_login, with_roles=True)
        async with _connection(url) as connection:
            strangers = await connection.fetch(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
                " AND relowner <> $1::regrole",
                owner,
            )
            assert strangers == []
        async with await open_pool(
            Settings(database_url=SecretStr(login_of(url, prefix, Role.WORKER)))
        ) as pool:
            await check_schema(pool)
            assert await needless_rights(pool) is None
            assert await ensure_partitions(pool) == 0


async def test_an_owner_without_rights_on_the_server_sets_up_its_own_database(
    servers: Servers,
) -> None:
    """The commands of docs/operate.md: roles and database are there, `migrate` does the rest."""
    async with own_roles(servers) as prefix, own_database(servers) as database:
        url = with_database(servers.database_url, database)
        owner = role_name(prefix, Role.OWNER)
        async with _connection(servers.database_url) as superuser:
            await superuser.execute(f"ALTER DATABASE {database} OWNER TO {owner}")
        settings = Settings(
            database_url=SecretStr(login_of(url, prefix, Role.WORKER)),
            database_owner_url=SecretStr(login_of(url, prefix, Role.OWNER)),
            database_role_prefix=prefix,
        )
        for _ in range(2):
            await asyncio.to_thread(migrate, settings)
            async with await open_pool(settings) as pool:
                await check_schema(pool)
                assert await ensure_partitions(pool) == 0
                assert await needless_rights(pool) is None
        # A right that somebody gave since is taken back.
        async with _connection(url) as superuser:
            await superuser.execute(
                f"GRANT ALL ON operation, pan TO {role_name(prefix, Role.READER)}"
            )
        await asyncio.to_thread(migrate, settings)
        async with _connection(login_of(url, prefix, Role.READER)) as reader:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.execute("SELECT FROM pan")
        # Who is no owner can't migrate, and is told who can.
        other = settings.model_copy(update={"database_owner_url": None})
        with pytest.raises(RolesError, match=f"belong to {owner}.*LIFECYCLE_DATABASE_OWNER_URL"):
            await asyncio.to_thread(migrate, other)


async def test_two_installations_on_one_server_do_not_meet(
    servers: Servers, template: str, url: str
) -> None:
    async with own_roles(servers) as prefix, own_database(servers) as database:
        other = with_database(servers.database_url, database)
        await asyncio.to_thread(
            migrate,
            Settings(database_url=SecretStr(other), database_role_prefix=prefix),
            with_roles=True,
        )
        for address, theirs in ((other, template), (url, prefix)):
            async with _connection(login_of(address, theirs, Role.OWNER)) as connection:
                for statement in (
                    "SELECT FROM operation",
                    "DROP TABLE operation",
                    "CREATE TABLE t ()",
                ):
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await connection.execute(statement)


# --- what a worker says of it


@pytest.mark.parametrize(
    ("login", "environment", "told"),
    [
        ("worker", "production", None),
        ("owner", "production", "the tables belong to it"),
        ("superuser", "production", "it is a superuser"),
        ("superuser", "development", None),
    ],
)
async def test_a_worker_with_needless_rights_says_so_in_production(  # noqa: PLR0913, PLR0917 - fixtures
    ground: Settings,
    template: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    login: str,
    environment: str,
    told: str | None,
) -> None:
    assert ground.database_owner_url is not None
    superuser = ground.database_owner_url.get_secret_value()
    address = superuser if login == "superuser" else login_of(superuser, template, Role(login))
    keys_file = tmp_path / "keys.json"
    write_keys(keys_file)  # production does not start without
    settings = ground.model_copy(
        update={
            "database_url": SecretStr(address),
            "environment": environment,
            "keys_file": keys_file,
        }
    )
    configure_logging(settings)
    async with running_worker(settings), connected(ground):
        pass
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line[:1] == "{"]
    warnings = [line["login"] for line in lines if line["event"] == "needless_database_rights"]
    assert warnings == ([] if told is None else [told])
