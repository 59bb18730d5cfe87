"""What `migrate` does; imported by it only, because it brings SQLAlchemy and Alembic with it."""

import asyncio

from lifecycle.cli.exits import reaching_database
from lifecycle.postgres.connection import open_pool
from lifecycle.postgres.migrate import migrate
from lifecycle.settings import Settings


async def migrated(settings: Settings) -> tuple[str | None, str | None]:
    """Bring the schema to the newest revision: the revision before and the one after.

    Raises:
        Problem: the database can't be reached, or refuses.
    """
    with reaching_database(settings):
        # The pool first: what is wrong with the address is told by one driver, not by two.
        async with await open_pool(settings):
            pass
    return await asyncio.to_thread(migrate, settings)
