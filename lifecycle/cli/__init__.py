"""The command line: one module for each group of commands, all of them thin.

`main` is the entry point. What a command does is done in the rooms below; here arguments become
calls, answers become tables or JSON lines, and errors become one sentence and an exit code.
"""

from lifecycle.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command that the arguments name."""
    app(prog_name="lifecycle")
