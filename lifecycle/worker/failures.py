"""Whose fault an error is: one record's, or that of everything around it."""

from concurrent.futures import BrokenExecutor

from lifecycle.postgres.connection import is_systemic
from lifecycle.worker.retrying import is_away

# The next command would find the process no better. A RecursionError is not among them: how deep
# the stack grows is up to the record, and its neighbours pass.
_OF_PROCESS = (MemoryError, SystemError, ImportError, BrokenExecutor)


def is_of_process(error: BaseException) -> bool:
    """Whether this process can't go on as it is, and must end.

    The causes are asked as well: asyncpg calls whatever happens while it encodes a value an error
    of that value.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _OF_PROCESS):
            return True
        cause = cause.__cause__
    return False


def is_of_one_record(error: BaseException) -> bool:
    """Whether a batch may have failed for one of its records, so that it is worth looking for."""
    return not (is_away(error) or is_systemic(error) or is_of_process(error))
