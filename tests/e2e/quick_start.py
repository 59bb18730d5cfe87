"""Runs `lifecycle` as a process of its own that need not load its libraries first.

A fork server has them loaded; each run is a fork of it with its own environment, standard streams
and exit code. It saves a second a run, and the runs are many; the tests of the docs, of `watch`,
`dev` and `worker` start the installed program instead.
"""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["lifecycle.cli.app", "lifecycle.cli.migration"])

_STREAMS = (
    (0, "in", os.O_RDONLY),
    (1, "out", os.O_WRONLY | os.O_CREAT),
    (2, "err", os.O_WRONLY | os.O_CREAT),
)


def run(
    arguments: Sequence[str], environment: Mapping[str, str], given: bytes, seconds_max: float
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one run; for a thread, since it waits.

    Raises:
        TimeoutError: it had not ended in time, and was killed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").write_bytes(given)
        process = _context.Process(target=_main, args=(arguments, dict(environment), folder))
        process.start()
        process.join(seconds_max)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"lifecycle {' '.join(arguments)} had not ended")
        out, err = ((folder / stream).read_text() for stream in ("out", "err"))
        return process.exitcode, out, err


def _main(arguments: Sequence[str], environment: dict[str, str], folder: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, stream, flags in _STREAMS:
        os.dup2(os.open(folder / stream, flags), descriptor)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - multiprocessing has taken ours away
    sys.argv = ["lifecycle", *arguments]
    from lifecycle.cli import main  # noqa: PLC0415 - in the child only

    main()
