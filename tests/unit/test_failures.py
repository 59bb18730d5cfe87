"""Whose fault an error is: what is not one record's own never makes a dead letter of it."""

import asyncpg
import pytest

from lifecycle.postgres.connection import NotAcknowledgedError, SessionError, is_time_out
from lifecycle.worker.failures import is_of_one_record, is_of_process


def _caused_by(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        SystemError("an internal error of the interpreter"),
        ImportError("a module that was removed by an update"),
        # asyncpg calls whatever happens while it encodes a value an error of that value.
        _caused_by(asyncpg.DataError("invalid input for query argument $1"), MemoryError()),
    ],
)
def test_a_process_at_its_end_blames_no_record(error: Exception) -> None:
    assert is_of_process(error)
    assert not is_of_one_record(error)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.OutOfMemoryError("53200"),
        asyncpg.DiskFullError("53100"),
        asyncpg.TooManyConnectionsError("53300"),
        asyncpg.InternalServerError("XX000"),
        asyncpg.exceptions.IndexCorruptedError("XX002"),
        OSError(28, "No space left on device"),
        OSError(24, "Too many open files"),
        TimeoutError(),
        NotAcknowledgedError("COMMIT waits for its standby"),
        SessionError("synchronous_commit is 'off'"),
    ],
)
def test_a_server_or_a_machine_at_its_end_blames_no_record(error: Exception) -> None:
    assert not is_of_one_record(error)


def test_a_commit_that_waits_for_a_standby_calls_no_record_slow() -> None:
    assert is_time_out(TimeoutError())
    assert not is_time_out(NotAcknowledgedError("COMMIT waits for its standby"))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a mistake in the rules"),
        RecursionError(),  # how deep the stack grows is up to the record
        asyncpg.DataError("invalid input for query argument $1"),
        asyncpg.RaiseError("a trigger of the bank's refuses this card"),
    ],
)
def test_what_one_record_may_have_caused_is_looked_for(error: Exception) -> None:
    assert is_of_one_record(error)
