"""How code is changed: mutmut's operators, and ours for what the rule book is made of.

A mutant changes one place. The operators added here empty tables cell by cell, take one word of
an enumeration for the next, move the limits of patterns, and force conditions both ways. What is
left alone, and why, is in `is_left_alone`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import libcst as cst
from libcst import matchers as m
from mutmut.mutation.mutators import (
    mutation_operators,
    operator_arg_removal,
    operator_assignment,
    operator_string,
)

Operator = Callable[[Any], Iterable[cst.CSTNode]]

_NOT_MUTMUTS = (
    # None in the place of a value, and calls with an argument too few: mypy notices, in `make
    # check`. What mypy lets pass, an argument that has a default, is left out below.
    operator_arg_removal,
    operator_assignment,
    # Three other spellings of each word: one is enough.
    operator_string,
)

TEXTS_FOR_PEOPLE = frozenset({"SENTENCE", "_NOTE", "refused"})
"""Names of the tables and functions whose strings are sentences: their wording is no rule."""


class Vocabulary(NamedTuple):
    """Which word may stand for which: the next one of its enumeration or of its kind.

    `members`: of each enumeration, in their order. `aliases`: module constants that name a member,
    as `_ACTIVE`. `effects`: the names that rows of the machine call an effect by.
    """

    members: Mapping[str, tuple[str, ...]]
    aliases: Mapping[str, tuple[str, str]]
    effects: tuple[str, ...]


def operators(vocabulary: Vocabulary) -> list[tuple[type, Operator]]:
    """Every operator with the type of node that it changes."""

    def next_member(node: cst.Attribute) -> Iterator[cst.CSTNode]:
        if isinstance(node.value, cst.Name) and node.value.value in vocabulary.members:
            members = vocabulary.members[node.value.value]
            if node.attr.value in members:
                yield node.with_changes(attr=cst.Name(_next(members, node.attr.value)))

    def next_of_alias(node: cst.Name) -> Iterator[cst.CSTNode]:
        if node.value in vocabulary.aliases:
            enumeration, member = vocabulary.aliases[node.value]
            other = _next(vocabulary.members[enumeration], member)
            yield cst.Attribute(cst.Name(enumeration), cst.Name(other))

    def next_effect(node: cst.SimpleString) -> Iterator[cst.CSTNode]:
        word = node.evaluated_value
        if isinstance(word, str) and word in vocabulary.effects:
            yield cst.SimpleString(f'"{_next(vocabulary.effects, word)}"')

    return [
        *((kind, one) for kind, one in mutation_operators if one not in _NOT_MUTMUTS),
        (cst.SimpleString, _other_word),
        (cst.Attribute, next_member),
        (cst.Name, next_of_alias),
        (cst.SimpleString, next_effect),
        (cst.List, _without_an_element),
        (cst.Tuple, _without_an_element),
        (cst.Set, _without_an_element),
        (cst.Dict, _without_an_element),
        (cst.If, _forced),
        (cst.CompIf, _forced),
        (cst.BooleanOperation, _one_operand),
        (cst.Expr, _nothing_done),
        (cst.Call, _with_a_default),
        (cst.FormattedStringText, _other_text),
        (cst.Call, _other_pattern),
        (cst.Call, _without_a_character),
    ]


def is_left_alone(parent: cst.CSTNode, child: cst.CSTNode, scope: str) -> bool:
    """Whether nothing in `child` is changed: no rule can be broken there."""
    return (
        # Types: mypy's affair, and nothing at run time.
        isinstance(child, cst.Annotation)
        or (isinstance(parent, cst.Assign) and isinstance(child, cst.Subscript))
        # How a value is held or remembered (frozen, slots, cached), not what it is.
        or isinstance(child, cst.Decorator)
        # Words for people: docstrings, and what an assertion or a bug says when it is hit.
        or m.matches(child, m.Expr(m.SimpleString() | m.ConcatenatedString()))
        or isinstance(child, cst.Raise)
        or (isinstance(parent, cst.Assert) and child is parent.msg)
        or (
            scope in TEXTS_FOR_PEOPLE
            and isinstance(child, cst.SimpleString | cst.ConcatenatedString | cst.FormattedString)
        )
        # Names that are given, not used; and what a module offers to others.
        or isinstance(child, cst.AssignTarget | cst.Import | cst.ImportFrom)
        or (isinstance(parent, cst.Arg) and child is parent.keyword)
        or scope == "__all__"
    )


def _next(words: tuple[str, ...], word: str) -> str:
    return words[(words.index(word) + 1) % len(words)]


def _without_an_element(
    node: cst.List | cst.Tuple | cst.Set | cst.Dict,
) -> Iterator[cst.CSTNode]:
    for place in range(len(node.elements)):
        rest = [*node.elements[:place], *node.elements[place + 1 :]]
        # Nothing is written as an empty tuple, whatever it was: `{}` would be a dictionary.
        yield node.with_changes(elements=rest) if rest else cst.Tuple([])


def _forced(node: cst.If | cst.CompIf) -> Iterator[cst.CSTNode]:
    """The condition is asked as before, its answer is always no, or always yes."""
    asked = node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    for operator, answer in ((cst.And(), "False"), (cst.Or(), "True")):
        yield node.with_changes(test=cst.BooleanOperation(asked, operator, cst.Name(answer)))


def _one_operand(node: cst.BooleanOperation) -> Iterator[cst.CSTNode]:
    yield node.left
    yield node.right


def _nothing_done(node: cst.Expr) -> Iterator[cst.CSTNode]:
    if isinstance(node.value, cst.Call):
        yield cst.Pass()


def _with_a_default(node: cst.Call) -> Iterator[cst.CSTNode]:
    """An argument left out where a default may stand for it: a named one, or the last."""
    for place, argument in enumerate(node.args):
        is_last = place == len(node.args) - 1 > 0
        if argument.keyword is not None or (is_last and not argument.star):
            yield node.with_changes(args=[*node.args[:place], *node.args[place + 1 :]])


def _other_word(node: cst.SimpleString) -> Iterator[cst.CSTNode]:
    yield node.with_changes(value=f"{node.prefix}{node.quote}XX{node.raw_value}{node.quote}")


def _other_text(node: cst.FormattedStringText) -> Iterator[cst.CSTNode]:
    yield node.with_changes(value=f"XX{node.value}")


_QUANTIFIER = re.compile(r"(?<=[{,])[0-9]+(?=[,}])")
_CLASS = re.compile(r"\[([^]]+)\]")
_CLASS_MEMBER = re.compile(r".-.|.")


def _other_pattern(node: cst.Call) -> Iterator[cst.CSTNode]:
    """`re.compile` with each limit moved by one, and each member of a class left out."""
    if not m.matches(node, m.Call(func=m.Attribute(m.Name("re"), m.Name("compile")))):
        return
    pattern = node.args[0].value
    if not isinstance(pattern, cst.SimpleString):
        return
    text = pattern.value
    spans = [(*found.span(), str(int(found[0]) + 1)) for found in _QUANTIFIER.finditer(text)]
    spans += [
        (member.start(), member.end(), "")
        for found in _CLASS.finditer(text)
        for member in _CLASS_MEMBER.finditer(text, *found.span(1))
        if member[0] != found[1]
    ]
    for start, end, new in spans:
        yield node.with_deep_changes(pattern, value=f"{text[:start]}{new}{text[end:]}")


def _without_a_character(node: cst.Call) -> Iterator[cst.CSTNode]:
    """`frozenset("abc")` is a table of characters."""
    if m.matches(node, m.Call(func=m.Name("frozenset"), args=[m.Arg(m.SimpleString())])):
        letters = cst.ensure_type(node.args[0].value, cst.SimpleString)
        text = letters.value
        for start, end in pairwise(range(1, len(text))):
            yield node.with_deep_changes(letters, value=text[:start] + text[end:])
