"""What `make mutants` changes, what it leaves alone, and how it names what it finds."""

from pathlib import Path

import pytest

from tools.mutants.catalogue import Catalogue, catalogue_of
from tools.mutants.explained import explanations


def catalogue(tmp_path: Path, code: str) -> Catalogue:
    path = tmp_path / "rules.py"
    path.write_text(code)
    return catalogue_of(path)


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("ENDED = {State.ACTIVE, OTHER}", "{State.ACTIVE, OTHER} -> ENDED = {OTHER}"),
        ("ENDED = {State.ACTIVE}", "{State.ACTIVE} -> ENDED = ()"),
        ("ENDED = {State.ACTIVE}", "{State.ACTIVE} -> ENDED = {State.SUSPENDED}"),
        ("_A = State.ACTIVE\nTABLE = [_A]", "TABLE: TABLE = [_A] -> TABLE = [State.SUSPENDED]"),
        ("ROW = {1: 'a', 2: 'b'}", "{1: 'a', 2: 'b'} -> ROW = {2: 'b'}"),
        ("is_bin = re.compile('[0-9A]{6,11}')", "-> is_bin = re.compile('[0-9A]{6,12}')"),
        ("is_bin = re.compile('[0-9A]{6,11}')", "-> is_bin = re.compile('[A]{6,11}')"),
        ("SIGNS = frozenset(',.')", "-> SIGNS = frozenset('.')"),
        ("def f():\n    if a < b:\n        c()", "if a < b: -> if a <= b:"),
        ("def f():\n    if a < b:\n        c()", "if a < b: -> if (a < b) or True:"),
        ("def f():\n    if a < b:\n        c()", "c() -> pass"),
        ("def f():\n    return a and b", "return a and b -> return a"),
        ("def f():\n    return Refusal(code, 'name')", "-> return Refusal(code, )"),
        ("def f():\n    return f'EXPIRE:{exp}'", "-> return f'XXEXPIRE:{exp}'"),
        ("def f():\n    g()\n    g()", "f: g() -> pass (#2)"),
    ],
)
def test_each_part_of_a_rule_is_changed(tmp_path: Path, code: str, change: str) -> None:
    names = [mutant.name for mutant in catalogue(tmp_path, code).mutants]
    assert [name for name in names if name.endswith(change)] != []


@pytest.mark.parametrize(
    "code",
    [
        "def f(a: int | None) -> 'int | None':\n    '''Text.'''\n    return a",
        "@lru_cache(maxsize=3)\ndef f():\n    '''Text.'''",
        "def f():\n    raise ValueError('a' + b)",
        "def f():\n    assert a, 'words'",
        "def refused():\n    return 'The card has expired.'",
        "Test = Callable[[str], object]",
        "from lifecycle.domain.cards import State",
        "__all__ = ['a']",
    ],
)
def test_types_decorators_and_words_for_people_are_left_alone(tmp_path: Path, code: str) -> None:
    assert [mutant.name for mutant in catalogue(tmp_path, code).mutants] == []


def test_a_mutant_keeps_its_name_when_lines_move(tmp_path: Path) -> None:
    code = "def f():\n    return a < 1\n"
    moved = f"FIRST = 1\n\n\n{code}"
    names = {mutant.name for mutant in catalogue(tmp_path, code).mutants}
    assert names == {
        "rules.f: return a < 1 -> return a <= 1",
        "rules.f: return a < 1 -> return a < 2",
    }
    assert names < {mutant.name for mutant in catalogue(tmp_path, moved).mutants}


def test_each_mutant_is_the_module_with_one_change(tmp_path: Path) -> None:
    code = "LIMITS = (1, 2)\n\n\ndef f():\n    return a < 1\n"
    for mutant in catalogue(tmp_path, code).mutants:
        changed = [line for line in mutant.code.splitlines() if line not in code.splitlines()]
        assert len(changed) == 1
        assert mutant.place == ("rules.LIMITS" if "LIMITS" in changed[0] else "rules.f")


def test_each_explanation_gives_its_reason() -> None:
    assert all(why.strip() for why in explanations().values())
