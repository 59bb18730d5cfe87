"""Every text is compared by its bytes: COLLATE "C", whatever locale the database was made with.

Ids are compared, sorted and locked in order; a locale would make that order depend on the server's
library, and an upgrade of that library would corrupt the indexes.

ALTER COLUMN TYPE makes every index of the column anew, with the table locked, unless the index has
the new collation already. So each large table gets twins of its indexes first, CONCURRENTLY. Then
one transaction, in a moment, drops the indexes, changes the columns and gives their names to the
twins; no table and no index is written anew. An index that belongs to a partitioned one would be,
so the twins of partitions stand alone until the columns are changed, and are attached then. So
would a partial one: its twin is whole, and the partial one is made again afterwards.

Everything is read from the catalog, so this can be run again after it was killed.
"""

from typing import Any, NamedTuple

import psycopg
from alembic import op

from lifecycle.postgres import moments
from lifecycle.postgres.connection import APPLICATION_NAME
from lifecycle.postgres.moments import driver_of, in_a_moment, without_haste

revision = "0013"
down_revision = "0012"

_WHOLE_TWIN_OF = "In place of: "
_NOT_BY_BYTES = """a.atttypid = 'text'::regtype AND a.attnum > 0 AND NOT a.attisdropped
    AND a.attcollation <> 'pg_catalog."C"'::regcollation"""
_TABLES = f"""
    SELECT c.oid, quote_ident(relname), relkind = 'p', array_agg(quote_ident(attname))
    FROM pg_class AS c JOIN pg_attribute AS a ON attrelid = c.oid
    WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
        AND NOT relispartition AND {_NOT_BY_BYTES}
    GROUP BY c.oid, relname, relkind
    -- Every batch begins with lane_in: who waits there holds nothing that we wait for.
    ORDER BY relname <> 'lane_in', relname
"""  # noqa: S608 - constants of this file
_LEAVES = """
    SELECT c.oid, quote_ident(relname), pg_table_size(c.oid) FROM pg_class AS c
    WHERE c.oid = %(table)s AND relkind = 'r'
        OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = %(table)s)
    ORDER BY relname
"""
# Those that ALTER TYPE would make anew: a column is in the index, or in its predicate.
_INDEXES = f"""
    SELECT quote_ident(relname), quote_ident(left(relname, 56) || '_bytes'), indisunique,
        indpred IS NOT NULL, pg_get_indexdef(indexrelid), quote_ident(conname), contype = 'p',
        (SELECT string_agg(quote_ident(attname) || CASE WHEN atttypid = 'text'::regtype
                THEN ' COLLATE "C"' ELSE '' END, ', ' ORDER BY place)
            FROM unnest(indkey::smallint[]) WITH ORDINALITY AS k(attnum, place)
            JOIN pg_attribute USING (attnum) WHERE attrelid = indrelid AND place <= indnkeyatts),
        (SELECT string_agg(quote_ident(attname), ', ' ORDER BY place)
            FROM unnest(indkey::smallint[]) WITH ORDINALITY AS k(attnum, place)
            JOIN pg_attribute USING (attnum) WHERE attrelid = indrelid AND place > indnkeyatts),
        (SELECT quote_ident(parent.relname) FROM pg_inherits JOIN pg_class AS parent
            ON parent.oid = inhparent WHERE inhrelid = indexrelid),
        amname = 'btree' AND indexprs IS NULL AND 0 = ALL (indoption)
    FROM pg_index JOIN pg_class AS c ON c.oid = indexrelid JOIN pg_am ON pg_am.oid = relam
    LEFT JOIN pg_constraint ON conindid = indexrelid AND contype IN ('p', 'u')
    WHERE indrelid = %(table)s AND c.relname NOT LIKE '%%\\_bytes' AND EXISTS (
        SELECT FROM pg_attribute AS a WHERE attrelid = indrelid AND {_NOT_BY_BYTES}
            AND (a.attnum = ANY (indkey::smallint[]) OR EXISTS (
                SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = indexrelid
                    AND refobjid = indrelid AND refobjsubid = a.attnum)))
    ORDER BY relname
"""  # noqa: S608 - constants of this file
_CHECKS = f"""
    SELECT quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint
    WHERE conrelid = %(table)s AND contype = 'c' AND EXISTS (
        SELECT FROM pg_attribute AS a
        WHERE attrelid = conrelid AND a.attnum = ANY (conkey) AND {_NOT_BY_BYTES})
"""  # noqa: S608 - constants of this file
_VIEWS = f"""
    SELECT DISTINCT quote_ident(view.relname), pg_get_viewdef(view.oid, true), (
            SELECT string_agg(format('GRANT %s ON %I TO %s;', privilege_type, view.relname,
                CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END), ' ')
            FROM aclexplode(view.relacl))
    FROM pg_depend JOIN pg_rewrite ON pg_rewrite.oid = objid
    JOIN pg_class AS view ON view.oid = ev_class AND view.relkind = 'v'
    JOIN pg_attribute AS a ON a.attrelid = refobjid AND a.attnum = refobjsubid
    JOIN pg_class AS c ON c.oid = refobjid
    WHERE pg_depend.classid = 'pg_rewrite'::regclass
        AND view.relnamespace = current_schema()::regnamespace
        AND c.relkind IN ('r', 'p') AND {_NOT_BY_BYTES}
"""  # noqa: S608 - constants of this file
# A condition of a trigger (WHEN, or UPDATE OF) names columns.
_TRIGGERS = f"""
    SELECT DISTINCT quote_ident(tgname), c.oid::regclass::text, pg_get_triggerdef(t.oid)
    FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = tgrelid
    JOIN pg_depend AS d ON d.classid = 'pg_trigger'::regclass AND objid = t.oid AND refobjid = c.oid
    JOIN pg_attribute AS a ON attrelid = c.oid AND a.attnum = refobjsubid
    WHERE NOT tgisinternal AND tgparentid = 0 AND relnamespace = current_schema()::regnamespace
        AND {_NOT_BY_BYTES}
"""  # noqa: S608 - constants of this file


class Index(NamedTuple):
    """An index that ALTER TYPE would make anew. Every name is quoted already."""

    name: str
    twin: str
    is_unique: bool
    is_partial: bool
    definition: str
    constraint: str | None
    is_primary_key: bool
    keys: str
    included: str | None
    parent: str | None
    is_plain: bool


def upgrade() -> None:
    """Change every column of type text; can be broken off anywhere and run again."""
    with op.get_context().autocommit_block():
        driver = driver_of(op.get_bind())
        _make_twins(driver)
        changed = [name for _, name, _, _ in driver.execute(_TABLES)]
        if changed:
            in_a_moment(driver, lambda: _change(driver))
        _finish(driver)


def _large_leaves(driver: psycopg.Connection[Any], table: int) -> list[tuple[int, str]]:
    leaves = driver.execute(_LEAVES, {"table": table})
    return [(oid, name) for oid, name, size in leaves if size > moments.SMALL_BYTES_MAX]


def _indexes(driver: psycopg.Connection[Any], table: int) -> list[Index]:
    found = [Index(*row) for row in driver.execute(_INDEXES, {"table": table})]
    for index in found:
        if not index.is_plain or (index.is_unique and index.is_partial):
            raise NotImplementedError(f"index {index.name} has no twin: {index.definition}")
    return found


def _make_twins(driver: psycopg.Connection[Any]) -> None:
    """Build what is missing; nobody waits for it."""
    ready = {
        name
        for (name,) in driver.execute(
            "SELECT quote_ident(relname) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
            " WHERE relname LIKE '%\\_bytes' AND indisvalid"
        )
    }
    for table, _, _, _ in driver.execute(_TABLES).fetchall():
        for leaf, leaf_name in _large_leaves(driver, table):
            for index in _indexes(driver, leaf):
                if index.twin in ready:
                    continue
                # What was broken off is not valid.
                without_haste(driver, f"DROP INDEX CONCURRENTLY IF EXISTS {index.twin}")
                unique = "UNIQUE " if index.is_unique else ""
                included = f" INCLUDE ({index.included})" if index.included else ""
                without_haste(
                    driver,
                    f"CREATE {unique}INDEX CONCURRENTLY {index.twin} ON {leaf_name}"
                    f" ({index.keys}){included}",
                )


class Steps(NamedTuple):
    """The statements of the one transaction: what goes, the change itself, what comes back."""

    before: list[str]
    change: list[str]
    after: list[str]


def _change(driver: psycopg.Connection[Any]) -> str:
    """The one transaction."""
    steps = Steps([], [], [])
    tables = driver.execute(_TABLES).fetchall()
    steps.before.append("SELECT pg_advisory_xact_lock(hashtext('ensure_operation_partitions'));")
    steps.before.extend(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE;" for _, name, _, _ in tables)
    steps.before.append(_AS_PLANNED.format(leaves=_count_leaves(driver)))
    steps.before.append(_PAGES_BEGIN_ANEW)
    for name, relation, definition in driver.execute(_TRIGGERS):
        steps.before.append(f"DROP TRIGGER {name} ON {relation};")
        steps.after.append(f"{definition};")
    for name, definition, grants in driver.execute(_VIEWS):
        steps.before.append(f"DROP VIEW {name};")
        steps.after.append(f"CREATE VIEW {name} AS {definition.rstrip(';')}; {grants or ''}")
    for table, name, is_partitioned, columns in tables:
        for check, definition in driver.execute(_CHECKS, {"table": table}):
            steps.before.append(f"ALTER TABLE {name} DROP CONSTRAINT {check};")
            not_valid = "" if "NOT VALID" in definition else " NOT VALID"
            steps.after.append(
                f"ALTER TABLE {name} ADD CONSTRAINT {check} {definition}{not_valid};"
            )
        actions = ", ".join(f'ALTER {column} TYPE text COLLATE "C"' for column in columns)
        steps.change.append(f"ALTER TABLE {name} {actions};")
        if _large_leaves(driver, table):
            _exchange_indexes(driver, table, name, steps, is_partitioned=is_partitioned)
    # Plans that sessions of workers keep would fail in the middle of a transaction, since what they
    # return is of another collation. A session that ended is opened anew.
    steps.after.append(_SESSIONS_BEGIN_ANEW)
    return "\n".join(steps.before + steps.change + steps.after)


def _exchange_indexes(
    driver: psycopg.Connection[Any], table: int, name: str, steps: Steps, *, is_partitioned: bool
) -> None:
    large = dict(_large_leaves(driver, table))
    if is_partitioned:
        for index in _indexes(driver, table):
            steps.before.append(_dropped(name, index))
            steps.after.append(_made_on_only(name, index))
    for leaf, leaf_name, _ in driver.execute(_LEAVES, {"table": table}).fetchall():
        for index in _indexes(driver, leaf):
            if not is_partitioned:
                steps.before.append(_dropped(leaf_name, index))
            elif index.parent is None:
                raise NotImplementedError(f"index {index.name} of a partition alone")
            steps.after.extend(_put_in_place(leaf_name, index, has_twin=leaf in large))


def _dropped(table: str, index: Index) -> str:
    if index.constraint:
        return f"ALTER TABLE {table} DROP CONSTRAINT {index.constraint};"
    return f"DROP INDEX {index.name};"


def _kind(index: Index) -> str:
    return "PRIMARY KEY" if index.is_primary_key else "UNIQUE"


def _made_on_only(table: str, index: Index) -> str:
    keys = index.keys.replace(' COLLATE "C"', "")
    if index.constraint:
        return (
            f"ALTER TABLE ONLY {table} ADD CONSTRAINT {index.constraint} {_kind(index)} ({keys});"
        )
    if index.is_partial:
        raise NotImplementedError(f"{index.name} of a partitioned table is partial")
    included = f" INCLUDE ({index.included})" if index.included else ""
    unique = "UNIQUE " if index.is_unique else ""
    return f"CREATE {unique}INDEX {index.name} ON ONLY {table} ({keys}){included};"


def _put_in_place(table: str, index: Index, *, has_twin: bool) -> list[str]:
    made = []
    if not has_twin:
        # Small: made anew, in the moment.
        keys = index.keys.replace(' COLLATE "C"', "")
        if index.constraint:
            kind = _kind(index)
            made.append(f"ALTER TABLE {table} ADD CONSTRAINT {index.constraint} {kind} ({keys});")
        else:
            made.append(f"{index.definition};")
    elif index.constraint:
        constraint = f"{index.constraint} {_kind(index)}"
        made.append(f"ALTER TABLE {table} ADD CONSTRAINT {constraint} USING INDEX {index.twin};")
    elif index.is_partial:
        comment = (_WHOLE_TWIN_OF + index.definition).replace("'", "''")
        made.append(f"COMMENT ON INDEX {index.twin} IS '{comment}';")
    else:
        made.append(f"ALTER INDEX {index.twin} RENAME TO {index.name};")
    if index.parent:
        made.append(f"ALTER INDEX {index.parent} ATTACH PARTITION {index.name};")
    return made


def _count_leaves(driver: psycopg.Connection[Any]) -> int:
    row = driver.execute(_COUNT_LEAVES).fetchone()
    assert row is not None, "an aggregate gives a row"
    return int(row[0])


_SESSIONS_BEGIN_ANEW = f"""
DO $$ DECLARE session integer;
BEGIN
    FOR session IN SELECT pid FROM pg_stat_activity WHERE datname = current_database()
            AND application_name = '{APPLICATION_NAME}' AND pid <> pg_backend_pid() LOOP
        BEGIN
            PERFORM pg_terminate_backend(session);
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE WARNING 'start the workers anew: % may not end their sessions', current_user;
        END;
    END LOOP;
END $$;
"""  # noqa: S608 - constants of this file
_COUNT_LEAVES = "SELECT count(*) FROM pg_inherits"
_AS_PLANNED = """
DO $$ BEGIN
    IF (SELECT count(*) FROM pg_inherits) <> {leaves} THEN
        RAISE EXCEPTION 'a partition has come meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
END $$;
"""
# A cascade pages through cards by the order of their ids, which may change now: what was behind
# the last page may lie before it. With no worker there, it begins anew, which is harmless: its
# commands have the same ids again. A worker holds a page in its memory, so its end is waited for.
_PAGES_BEGIN_ANEW = f"""
DO $$ BEGIN
    IF (SELECT datcollate NOT IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8') OR datlocprovider <> 'c'
            FROM pg_database WHERE datname = current_database())
        AND EXISTS (SELECT FROM cascade) THEN
        IF EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                AND application_name = '{APPLICATION_NAME}') THEN
            RAISE EXCEPTION 'a cascade is being sent' USING ERRCODE = 'serialization_failure';
        END IF;
        UPDATE cascade SET after_card_id = '';
    END IF;
END $$;
"""  # noqa: S608 - constants of this file


def _finish(driver: psycopg.Connection[Any]) -> None:
    """Validate, make the partial indexes again, and read what the planner must know anew."""
    for table, check in driver.execute(
        "SELECT conrelid::regclass::text, quote_ident(conname) FROM pg_constraint"
        " WHERE contype = 'c' AND NOT convalidated"
        " AND connamespace = current_schema()::regnamespace"
    ).fetchall():
        without_haste(driver, f"ALTER TABLE {table} VALIDATE CONSTRAINT {check}")
    for twin, comment in driver.execute(
        "SELECT quote_ident(relname), obj_description(oid, 'pg_class') FROM pg_class"
        " WHERE relkind = 'i' AND relname LIKE '%\\_bytes'"
    ).fetchall():
        if not (comment or "").startswith(_WHOLE_TWIN_OF):
            continue
        definition = comment.removeprefix(_WHOLE_TWIN_OF)
        create, _, rest = definition.partition(" INDEX ")
        name = rest.split(" ON ", 1)[0]
        if _is_missing(driver, name):
            without_haste(driver, f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            without_haste(driver, f"{create} INDEX CONCURRENTLY {rest}")
        without_haste(driver, f"DROP INDEX CONCURRENTLY {twin}")
    for (table,) in driver.execute(
        "SELECT DISTINCT c.oid::regclass::text FROM pg_class AS c JOIN pg_attribute AS a"
        " ON attrelid = c.oid WHERE relnamespace = current_schema()::regnamespace"
        " AND relkind = 'r' AND atttypid = 'text'::regtype AND attnum > 0 AND reltuples > 0"
    ).fetchall():
        without_haste(driver, f"ANALYZE {table}")


def _is_missing(driver: psycopg.Connection[Any], name: str) -> bool:
    row = driver.execute(
        "SELECT count(*) = 0 FROM pg_index WHERE indexrelid = to_regclass(%s) AND indisvalid",
        (name,),
    ).fetchone()
    return bool(row and row[0])
