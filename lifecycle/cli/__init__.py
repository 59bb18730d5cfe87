"""The command line: one module for each group of commands, all of them thin.

`main` is the entry point. What a command does is done in the rooms below; here arguments become
calls, answers become tables or JSON lines, and errors become one sentence and an exit code.
"""

import signal
import sys
from types import FrameType

_OK, _INTERRUPTED = 0, 130

# Commands that end in no other way: to them a signal is no failure.
_ENDED_BY_A_SIGNAL = frozenset({"dev", "watch", "worker"})


def main() -> None:
    """Run the command that the arguments name."""
    # From the first moment on: the libraries alone take a second to load.
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, _end)
    from lifecycle.cli.app import app  # noqa: PLC0415 - after the handlers are there

    app(prog_name="lifecycle")


def _end(_number: int, _frame: FrameType | None) -> None:
    """For signals that come before a command has its own way to stop."""
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    sys.exit(_OK if command in _ENDED_BY_A_SIGNAL and "--once" not in sys.argv else _INTERRUPTED)
