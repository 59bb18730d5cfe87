"""Counts the steps of the service's own code, function by function, whatever the machine is like.

A step is an instruction of the interpreter. What C does within one is not counted.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lifecycle

_SERVICE = str(Path(lifecycle.__file__).parent)

Steps = Counter[str]
"""By file and function."""


@contextmanager
def counted_steps() -> Iterator[Steps]:
    """Count while inside, on this thread."""
    steps: Steps = Counter()

    def begin(frame: FrameType, _event: str, _argument: object) -> Any:  # noqa: ANN401 - a tracer
        code = frame.f_code
        if not code.co_filename.startswith(_SERVICE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        name = f"{code.co_filename.removeprefix(_SERVICE)}:{code.co_qualname}"

        def count(_frame: FrameType, event: str, _argument: object) -> Any:  # noqa: ANN401 - a tracer
            if event == "opcode":
                steps[name] += 1
            return count

        return count

    before = sys.gettrace()
    sys.settrace(begin)
    try:
        yield steps
    finally:
        sys.settrace(before)
