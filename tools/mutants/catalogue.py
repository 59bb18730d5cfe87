"""Every mutant of a module, each under a name that stays when lines move.

A name is the module, the table or function, and the text of the changed lines before and after:
what a reader of a list needs to see, and what a change elsewhere leaves as it is.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import libcst as cst
from libcst import matchers as m

from tools.mutants.operators import Operator, Vocabulary, is_left_alone, operators

ROOT = Path(__file__).resolve().parents[2]
DOMAIN = ROOT / "lifecycle" / "domain"
_ENUMERATION = m.ClassDef(bases=[m.Arg(m.Name("StrEnum") | m.Name("IntEnum"))])


class Mutant(NamedTuple):
    """One change of one module. `code` is the whole module with it; `place` is `module.scope`."""

    module: str
    place: str
    name: str
    code: str


class Catalogue(NamedTuple):
    """The mutants of one module, and how many changes were left out (`is_left_alone`)."""

    mutants: list[Mutant]
    left_out: int


def modules() -> list[Path]:
    """The modules of the domain, by name."""
    return sorted(path for path in DOMAIN.glob("*.py") if path.stem != "__init__")


def catalogue_of(path: Path) -> Catalogue:
    """All mutants of the module, in the order of its text."""
    module = cst.parse_module(path.read_text())
    known = operators(_vocabulary(path, module))
    texts = [module.code_for_node(statement) for statement in module.body]
    start = "".join(module.code_for_node(line) for line in module.header)
    mutants: list[Mutant] = []
    seen: set[str] = {start + "".join(texts)}
    names: Counter[str] = Counter()
    left_out = 0
    for number, statement in enumerate(module.body):
        scope = _scope(statement)
        for node, changed in _changes(statement, scope, known):
            if changed is None:
                left_out += 1
                continue
            new = module.code_for_node(_replaced(statement, node, changed))
            code = start + "".join([*texts[:number], new, *texts[number + 1 :]])
            if code in seen or not _compiles(code):
                continue
            seen.add(code)
            place = f"{path.stem}.{scope}"
            name = f"{place}: {_difference(texts[number], new)}"
            names[name] += 1
            if names[name] > 1:
                name = f"{name} (#{names[name]})"
            mutants.append(Mutant(f"lifecycle.domain.{path.stem}", place, name, code))
    return Catalogue(mutants, left_out)


def _changes(
    node: cst.CSTNode, scope: str, known: Sequence[tuple[type, Operator]]
) -> Iterator[tuple[cst.CSTNode, cst.CSTNode | None]]:
    """Each node with what it is changed into; None for a change that is left out."""
    for kind, operator in known:
        if isinstance(node, kind):
            for changed in operator(node):
                yield node, changed
    for child in node.children:
        if is_left_alone(node, child, scope):
            yield from ((one, None) for one, _ in _changes(child, "", known))
        else:
            yield from _changes(child, scope, known)


def _replaced(statement: cst.CSTNode, node: cst.CSTNode, changed: cst.CSTNode) -> cst.CSTNode:
    if node is statement:
        return changed
    replaced = statement.deep_replace(node, changed)
    assert isinstance(replaced, cst.CSTNode)
    return replaced


def _compiles(code: str) -> bool:
    try:
        compile(code, "mutant", "exec")
    except (SyntaxError, ValueError):
        # An operator of mutmut made no Python of it: there is nothing to try.
        return False
    return True


def _difference(before: str, after: str) -> str:
    """The lines that differ, as `before -> after`."""
    old, new = before.splitlines(), after.splitlines()
    while old and new and old[0] == new[0]:
        del old[0], new[0]
    while old and new and old[-1] == new[-1]:
        del old[-1], new[-1]
    return f"{_joined(old)} -> {_joined(new)}"


def _joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines) or "(nothing)"


def _scope(statement: cst.CSTNode) -> str:
    """The name that a statement of a module gives to something."""
    match statement:
        case cst.FunctionDef(name=name) | cst.ClassDef(name=name):
            return name.value
        case cst.SimpleStatementLine(body=[cst.Assign(targets=[cst.AssignTarget(target)]), *_]):
            return _code(target)
        case cst.SimpleStatementLine(body=[cst.AnnAssign(target=target), *_]):
            return _code(target)
    return "(module)"


def _code(node: cst.CSTNode) -> str:
    return cst.Module([]).code_for_node(node)


def _vocabulary(path: Path, module: cst.Module) -> Vocabulary:
    members = _members()
    return Vocabulary(
        members=members,
        aliases=dict(_aliases(module, members)),
        effects=_effects() if path.stem == "machine" else (),
    )


@cache
def _members() -> dict[str, tuple[str, ...]]:
    """The enumerations of the domain."""
    return {
        found.name.value: tuple(
            _code(cst.ensure_type(one, cst.AssignTarget).target)
            for one in m.findall(found.body, m.AssignTarget())
        )
        for path in modules()
        for found in cst.parse_module(path.read_text()).body
        if isinstance(found, cst.ClassDef) and m.matches(found, _ENUMERATION)
    }


@cache
def _effects() -> tuple[str, ...]:
    """The names of `effects.py` that rows of the machine refer to."""
    effects = cst.parse_module((DOMAIN / "effects.py").read_text())
    names = [found.name.value for found in effects.body if isinstance(found, cst.FunctionDef)]
    return tuple(name for name in names if not name.startswith("_"))


def _aliases(
    module: cst.Module, members: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[str, tuple[str, str]]]:
    """The constants of a module that name a member: `_ACTIVE = State.ACTIVE`, or a row of them."""
    for statement in module.body:
        match statement:
            case cst.SimpleStatementLine(
                body=[cst.Assign([cst.AssignTarget(cst.Tuple(names))], cst.Tuple(values))]
            ):
                pairs = [
                    (_code(name.value), value.value)
                    for name, value in zip(names, values, strict=True)
                ]
            case cst.SimpleStatementLine(body=[cst.Assign([cst.AssignTarget(name)], value)]):
                pairs = [(_code(name), value)]
            case _:
                pairs = []
        for alias, value in pairs:
            match value:
                case cst.Attribute(cst.Name(enumeration), cst.Name(member)) if (
                    member in members.get(enumeration, ())
                ):
                    yield alias, (enumeration, member)
