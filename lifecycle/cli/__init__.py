"""The command line: one module for each group of commands, all of them thin.

`main` is the entry point. What a command does is done in the rooms below; here arguments become
calls, answers become tables or JSON lines, and errors become one sentence and an exit code.
"""

import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command that the arguments name."""
    try:
        # Here, so that Ctrl-C while the libraries are still loading is no traceback either.
        from lifecycle.cli.app import app  # noqa: PLC0415

        app(prog_name="lifecycle")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
