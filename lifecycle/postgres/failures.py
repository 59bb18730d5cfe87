"""What can go wrong on the way to the database, sorted for whoever has to tell a person."""

from urllib.parse import urlsplit

import asyncpg

from lifecycle.settings import DatabaseField, Settings, required

FAILURES: tuple[type[Exception], ...] = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
    TimeoutError,
)

# The server answered, or was not even asked, because our settings are wrong.
_REFUSALS: tuple[type[Exception], ...] = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.exceptions.ClientConfigurationError,
)


class AddressError(Exception):
    """The address of the database can't be read; it is not repeated, since it holds a password."""


def is_refused(error: BaseException) -> bool:
    """Whether user, password, rights or database are wrong: asking again does not help."""
    return isinstance(error, _REFUSALS)


def address_of(settings: Settings, field: DatabaseField = "database_url") -> str:
    """`host:port/database` of a setting, fit to be shown: without user and password.

    Raises:
        AddressError: the setting is no address.
        SettingsError: it is not set.
    """
    try:
        url = urlsplit(required(settings, field))
        port = f":{url.port}" if url.port else ""
    except ValueError:
        # From None: what the library says repeats a part of the address.
        raise AddressError("it must read postgresql://user:password@host:port/database") from None
    return f"{url.hostname or 'the local socket'}{port}{url.path}"
