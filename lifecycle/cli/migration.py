"""What `migrate` does; imported by it only, because it brings SQLAlchemy and Alembic with it."""

import asyncio

from lifecycle.cli.exits import Problem, reaching_database
from lifecycle.postgres.connection import open_pool
from lifecycle.postgres.migrate import migrate
from lifecycle.postgres.moments import TablesInUseError
from lifecycle.settings import Settings, owner_field


async def migrated(
    settings: Settings, *, with_roles: bool = False
) -> tuple[str | None, str | None]:
    """Bring the schema to the newest revision: the revision before and the one after.

    Raises:
        RolesError: the login may not do what is needed.
        Problem: the database can't be reached, refuses, or its tables are in use.
    """
    field = owner_field(settings)
    with reaching_database(settings, field):
        # The pool first: what is wrong with the address is told by one driver, not by two.
        async with await open_pool(
            settings.model_copy(update={"database_url": getattr(settings, field)})
        ):
            pass
    try:
        return await asyncio.to_thread(migrate, settings, with_roles=with_roles)
    except TablesInUseError as error:
        raise Problem(str(error)) from error
