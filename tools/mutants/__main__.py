"""`python -m tools.mutants [PLACE ...]`, or `make mutants ONLY=...`: try them, name the survivors.

Exits 1 when a mutant survives that `explained.toml` does not explain, and when an explanation is
out of date: a test notices its mutant by now, or there is none of that name any more.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import Progress

from tools.mutants.catalogue import catalogue_of, modules
from tools.mutants.explained import LIST, explanations
from tools.mutants.sample import Case
from tools.mutants.steps import LONG_STEP, QUICK_STEPS, Step
from tools.mutants.trial import Verdict, failing, prepared, verdicts


class Findings(NamedTuple):
    """How many mutants met which fate (the step that noticed them), and whom to look at."""

    fates: Counter[str]
    survivors: list[str]
    outdated: list[str]


def main() -> int:
    """Run, report; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__)
    parser.add_argument("only", nargs="*", metavar="PLACE", help="a module, or module.name")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2))
    parser.add_argument("--quick", action="store_true", help="without the last, long step")
    asked = parser.parse_args()
    console = Console(soft_wrap=True, markup=False, highlight=False)
    with tempfile.TemporaryDirectory() as bytecode:
        cases = prepared(Path(bytecode))
        return _run(asked, cases, console)


def _run(asked: argparse.Namespace, cases: Sequence[Case], console: Console) -> int:
    chosen = {place.partition(".")[0] for place in asked.only}
    catalogues = [catalogue_of(path) for path in modules() if path.stem in chosen or not chosen]
    mutants = [one for all_ in catalogues for one in all_.mutants if _is_in(one.name, asked.only)]
    if not mutants:
        console.print(
            f"lifecycle/domain has no {' '.join(asked.only)}, or nothing to change there."
        )
        return 2
    if _is_failing(QUICK_STEPS, cases, console):
        return 2
    known = explanations()
    # What is explained survived the long step once: the others tell whether it still does.
    trials = (
        (one, QUICK_STEPS if asked.quick or one.name in known else (*QUICK_STEPS, LONG_STEP))
        for one in mutants
    )
    with Progress(console=console) as progress:
        running = verdicts(trials, cases, at_once=asked.jobs)
        found = _found(progress.track(running, total=len(mutants)), known, progress.console)
    if found.fates[LONG_STEP.name] and _is_failing([LONG_STEP], cases, console):
        return 2
    gone = known.keys() - {one.name for one in mutants}
    found.outdated.extend(f"there is no {name}" for name in gone if _is_in(name, asked.only))
    _report(found, sum(one.left_out for one in catalogues), console)
    return 1 if found.survivors or found.outdated else 0


def _is_failing(steps: Sequence[Step], cases: Sequence[Case], console: Console) -> bool:
    step = failing(steps, cases)
    if step is not None:
        console.print(f"These tests fail with the code as it is: {step}. Mend that first.")
    return step is not None


def _is_in(name: str, places: Sequence[str]) -> bool:
    """Whether the mutant `module.name: change` lies in one of `places`; all do, if none is said."""
    place = name.partition(":")[0]
    return not places or any(f"{place}.".startswith(f"{one}.") for one in places)


def _found(verdicts: Iterable[Verdict], known: Mapping[str, str], console: Console) -> Findings:
    """Sort the verdicts; a survivor without an explanation is shown at once."""
    found = Findings(Counter(), [], [])
    for mutant, noticed_by in verdicts:
        found.fates[noticed_by or ("explained" if mutant.name in known else "survived")] += 1
        if noticed_by is not None and mutant.name in known:
            found.outdated.append(f"a test notices {mutant.name}")
        if noticed_by is None and mutant.name not in known:
            found.survivors.append(mutant.name)
            # As a string of TOML, to be copied into the list.
            console.print(json.dumps(mutant.name, ensure_ascii=False) + ",")
    return found


def _report(found: Findings, left_out: int, console: Console) -> None:
    for fate, count in found.fates.items():
        console.print(f"{count:6} {fate}")
    console.print(f"{found.fates.total():6} mutants")
    console.print(f"{left_out:6} other changes left out: no rule is there")
    for sentence in sorted(found.outdated):
        console.print(f"OUT OF DATE in {LIST.name}: {sentence}")
    if found.survivors:
        console.print(
            f"{len(found.survivors)} survived without an explanation: kill them with a test, or"
            f" add the lines above to {LIST.name}, with the reason (docs/extend.md)."
        )


if __name__ == "__main__":
    sys.exit(main())
