"""Holds one process for an owner and ends it when the owner is gone, however the owner went.

The owner keeps the writing end of our standard input. It closes when the owner asks for a stop
and just as well when the owner is killed with SIGKILL, so there is one way to stop, always tried.
A script of the standard library only, run as `python -I -S keeper.py`: it is up in 20 ms.
"""

import argparse
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

PR_SET_PDEATHSIG = 1  # prctl(2)
TERM_EXIT_CODE = 128 + signal.SIGTERM


def end_with_the_keeper() -> None:
    """Ask Linux to kill this process when the keeper dies, even if by SIGKILL.

    Other systems have no such request: there a killed keeper leaves its server to a person.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def stop_when_the_owner_is_gone(
    process: subprocess.Popen[bytes],
    stop_signal: signal.Signals,
    stop_seconds_max: float,
    owner_is_gone: threading.Event,
) -> None:
    """Wait for the end of standard input, then stop the process, by force after the limit."""
    while os.read(sys.stdin.fileno(), 4096):
        pass  # The owner sends nothing; were it to, it would still be there.
    owner_is_gone.set()
    process.send_signal(stop_signal)
    try:
        process.wait(stop_seconds_max)
    except subprocess.TimeoutExpired:
        process.kill()


def main() -> int:
    """Run the command, and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stop-signal", type=lambda name: signal.Signals[name], required=True)
    parser.add_argument("--stop-seconds-max", type=float, required=True)
    parser.add_argument("--user", type=int, help="uid and gid to run the command as")
    parser.add_argument("--group", type=int)
    parser.add_argument("--input", type=Path, default=Path(os.devnull), help="its standard input")
    parser.add_argument("--remove", type=Path, action="append", default=[])
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()

    with options.input.open("rb") as its_input:
        process = subprocess.Popen(  # noqa: S603 the owner's own command line
            options.command,
            stdin=its_input,
            user=options.user,
            group=options.group,
            extra_groups=None if options.user is None else [],
            # After the change of user, which would clear the request; no thread runs yet.
            preexec_fn=end_with_the_keeper,  # noqa: PLW1509
        )
    owner_is_gone = threading.Event()
    watch = threading.Thread(
        target=stop_when_the_owner_is_gone,
        args=(process, options.stop_signal, options.stop_seconds_max, owner_is_gone),
        daemon=True,
    )
    # A polite kill of the keeper stops the server too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERM_EXIT_CODE))
    watch.start()
    try:
        exit_code = process.wait()
    finally:
        if process.poll() is None:
            process.send_signal(options.stop_signal)
            try:
                process.wait(options.stop_seconds_max)
            except subprocess.TimeoutExpired:
                process.kill()
    # A server that ended by itself leaves its log to the owner, who shows it.
    if owner_is_gone.is_set():
        for path in options.remove:
            shutil.rmtree(path, ignore_errors=True)
    return exit_code if exit_code >= 0 else 128 - exit_code


if __name__ == "__main__":
    sys.exit(main())
