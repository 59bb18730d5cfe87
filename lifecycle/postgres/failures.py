"""What can go wrong on the way to the database, sorted for whoever has to tell a person.

Relies on asyncpg for the classes; `migrate` meets SQLAlchemy's as well.
"""

import asyncpg
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from lifecycle.settings import Settings, required

FAILURES: tuple[type[Exception], ...] = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    SQLAlchemyError,
    OSError,
    TimeoutError,
)

# The server answered, and what it said is that our settings are wrong.
_REFUSALS: tuple[type[Exception], ...] = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ClientConfigurationError,
)


class AddressError(Exception):
    """The address of the database can't be read; it is not repeated, since it holds a password."""


def is_refused(error: BaseException) -> bool:
    """Whether user, password or database are wrong, so that asking again does not help."""
    return isinstance(error, _REFUSALS)


def address_of(settings: Settings) -> str:
    """`host:port/database`, fit to be shown: without user and password.

    Raises:
        AddressError: the setting is no address.
        SettingsError: it is not set.
    """
    try:
        url = make_url(required(settings, "database_url"))
    except (ArgumentError, ValueError) as error:
        # From None: what SQLAlchemy says repeats the whole address.
        del error
        raise AddressError("it must read postgresql://user:password@host:port/database") from None
    port = f":{url.port}" if url.port else ""
    return f"{url.host or 'the local socket'}{port}/{url.database or ''}"
