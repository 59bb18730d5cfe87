"""Mutants on trial, each in a process of its own: which step of the tests notices it?

A process is forked from one that has the libraries loaded and nothing of ours, so that a trial
costs the tests and little else. The mutant is imported in place of its module; no file of the
project is written, and a run that is broken off leaves nothing behind.
"""

import gc
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings

from tools.mutants.catalogue import ROOT, Mutant
from tools.mutants.sample import Case, agrees_with_the_oracle, sampled_cases
from tools.mutants.steps import LIBRARIES, QUIETLY, Step

_SURVIVED = 0
_NOTICED = 10
"""Exit codes of a trial: the number of the step that noticed is added to the second."""

_AS_IT_IS = Mutant(module="", place="", name="the code as it is", code="")


class Verdict(NamedTuple):
    """What became of a mutant: the step that noticed it, or None when it survived them all."""

    mutant: Mutant
    noticed_by: str | None


class _Trial(NamedTuple):
    mutant: Mutant
    process: BaseProcess
    steps: Sequence[Step]


def prepared(bytecode: Path) -> list[Case]:
    """Load what all trials share, and give the cases that they ask the oracle.

    Compiled files of ours go to `bytecode`, a temporary folder.
    """
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(bytecode)
    os.chdir(ROOT)
    for name in LIBRARIES:
        import_module(name)
    cases = sampled_cases()
    gc.freeze()
    return cases


def verdicts(
    asked: Iterator[tuple[Mutant, Sequence[Step]]], cases: Sequence[Case], *, at_once: int
) -> Iterator[Verdict]:
    """Try each mutant against its steps, `at_once` of them at a time, as they end."""
    running: dict[int, _Trial] = {}
    is_over = False
    while running or not is_over:
        while len(running) < at_once and not is_over:
            mutant, steps = next(asked, (None, ()))
            if mutant is None:
                is_over = True
            else:
                trial = _started(mutant, steps, cases)
                running[trial.process.sentinel] = trial
        # Each ends by itself: an alarm of its own ends what hangs.
        for sentinel in wait(list(running)):
            assert isinstance(sentinel, int)
            trial = running.pop(sentinel)
            yield Verdict(trial.mutant, _noticed_by(trial))


def failing(steps: Sequence[Step], cases: Sequence[Case]) -> str | None:
    """Which of the steps fails with the code as it is: then no verdict means anything."""
    return _noticed_by(_started(_AS_IT_IS, steps, cases))


def _started(mutant: Mutant, steps: Sequence[Step], cases: Sequence[Case]) -> _Trial:
    process = get_context("fork").Process(target=_try, args=(mutant, steps, cases), daemon=True)
    process.start()
    return _Trial(mutant, process, steps)


def _noticed_by(trial: _Trial) -> str | None:
    trial.process.join()
    code = trial.process.exitcode
    if code == _SURVIVED:
        return None
    if code == -signal.SIGALRM:
        return "time"
    place = -1 if code is None else code - _NOTICED
    # Any other code: the mutant took the whole process with it.
    return trial.steps[place].name if 0 <= place < len(trial.steps) else "crash"


def _try(mutant: Mutant, steps: Sequence[Step], cases: Sequence[Case]) -> None:
    """What a trial's process does; its exit code is the verdict."""
    sys.meta_path.insert(0, _InPlaceOf(mutant))
    # The same examples in every run, and no time spent on making a failing one smaller.
    settings.register_profile(
        "mutants",
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("mutants")
    for number, step in enumerate(steps):
        signal.alarm(step.seconds_max)
        if not _is_passed(step, cases):
            os._exit(_NOTICED + number)
    os._exit(_SURVIVED)


def _is_passed(step: Step, cases: Sequence[Case]) -> bool:
    try:
        if not step.files:
            return agrees_with_the_oracle(cases)
        return pytest.main(["-x", *QUIETLY, *step.options, *step.files]) == pytest.ExitCode.OK
    except BaseException:  # noqa: BLE001 - however a mutant makes it fail, it is noticed
        return False


class _InPlaceOf(MetaPathFinder, InspectLoader):
    """Finds the mutant's code where its module is asked for."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, _path: object = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        is_asked = fullname == self._mutant.module
        return ModuleSpec(fullname, self, origin="mutant") if is_asked else None

    def get_source(self, _fullname: str) -> str:
        """The mutant's."""
        return self._mutant.code
