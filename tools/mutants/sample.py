"""A sample of what the oracle is asked: recorded once, then compared without a test run.

The tests of the oracle walk through hundreds of thousands of cases; one in some hundred is enough
for most mutants, and without the walk that is a fifth of a second.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import NamedTuple

import pytest

from tools.mutants.steps import ORACLE_TESTS, QUIETLY, WITHOUT_THE_ORACLES_OWN

_ORACLE = "tests.oracle.adapters"
_COMPARISONS = ("disagreements", "reply_disagreements")
_ONE_IN = 211
_SPREAD = 97


class Case(NamedTuple):
    """A comparison of the oracle with the code, and what it is given: plain data."""

    comparison: str
    given: tuple[object, ...]


def sampled_cases() -> list[Case]:
    """The sample, neighbours far apart; recorded in a process of its own, which imports ours."""
    receiving, sending = get_context("fork").Pipe(duplex=False)
    recorder = get_context("fork").Process(target=_record, args=(sending,))
    recorder.start()
    sending.close()
    cases: list[Case] = receiving.recv()
    recorder.join()
    assert cases, "the tests of the oracle have asked it nothing"
    return [case for start in range(_SPREAD) for case in cases[start::_SPREAD]]


def agrees_with_the_oracle(cases: Sequence[Case]) -> bool:
    """Whether the code, as it is imported now, does what the oracle says in each case."""
    oracle = import_module(_ORACLE)
    return not any(getattr(oracle, case.comparison)(*case.given) for case in cases)


def _record(sending: Connection) -> None:
    cases: list[Case] = []
    oracle = import_module(_ORACLE)
    for name in _COMPARISONS:
        setattr(oracle, name, _recorder(name, cases))
    pytest.main([*QUIETLY, *WITHOUT_THE_ORACLES_OWN, *ORACLE_TESTS])
    sending.send(cases)


def _recorder(name: str, cases: list[Case]) -> Callable[..., list[str]]:
    """In the place of a comparison: finds no fault, and writes one case in so many down."""
    asked = 0

    def compare(*given: object) -> list[str]:
        nonlocal asked
        asked += 1
        if asked % _ONE_IN == 0:
            cases.append(Case(name, given))
        return []

    return compare
