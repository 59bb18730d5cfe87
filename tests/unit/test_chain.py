"""What a subject remembers of its commands: the last of them, by operation id (domain.md 5)."""

from hashlib import sha256

import pytest

from lifecycle.domain.chain import (
    Chain,
    ids_and_hashes,
    recent_content_hash,
    remember_command,
)


def named(name: str) -> bytes:
    return sha256(name.encode()).digest()[:16]


def remembered(*names: str, at_most: int = 3) -> bytes:
    recent = b""
    for name in names:
        recent, _ = remember_command(
            recent, named(name), named(f"content of {name}"), recent_commands_max=at_most
        )
    return recent


def test_a_command_is_found_with_the_content_that_it_was_taken_with() -> None:
    recent = remembered("a", "b", "c")
    for name in ("a", "b", "c"):
        assert recent_content_hash(recent, named(name)) == named(f"content of {name}")
    assert recent_content_hash(recent, named("d")) is None
    assert recent_content_hash(b"", named("a")) is None


def test_the_oldest_is_forgotten_first() -> None:
    assert remembered("a", "b", "c", "d") == remembered("b", "c", "d")


def test_what_leaves_is_told_with_its_content() -> None:
    recent = remembered("a", "b", "c")
    for at_most, leaves in ((4, ""), (3, "a"), (1, "abc")):
        kept, leaving = remember_command(
            recent, named("d"), named("content of d"), recent_commands_max=at_most
        )
        entries = [(named(name), named(f"content of {name}")) for name in "abcd"]
        assert ids_and_hashes(leaving) == entries[: len(leaves)]
        assert ids_and_hashes(kept) == entries[len(leaves) :]


def test_only_ids_are_looked_at_and_not_contents() -> None:
    recent = remembered("a", "b")
    assert recent_content_hash(recent, named("content of a")) is None
    # A content that is somebody else's id, or half of two entries, hides nobody.
    hidden, _ = remember_command(b"", named("x"), named("a"), recent_commands_max=3)
    for both in (hidden + recent, recent + hidden, hidden + recent + hidden):
        assert recent_content_hash(both, named("a")) == named("content of a")
    assert recent_content_hash(recent, recent[8:24]) is None
    # The id begins right behind a content that ends as it does.
    nothing = bytes(16)
    recent, _ = remember_command(b"", named("x"), b"x" + nothing[1:], recent_commands_max=3)
    recent, _ = remember_command(recent, nothing, named("y"), recent_commands_max=3)
    assert recent_content_hash(recent, nothing) == named("y")


@pytest.mark.parametrize(("count", "remembers"), [(0, True), (2, True), (3, True), (4, False)])
def test_a_subject_knows_whether_it_remembers_them_all(count: int, remembers: bool) -> None:  # noqa: FBT001
    recent = remembered(*(str(number) for number in range(count)))
    assert Chain(command_count=count, recent_commands=recent).remembers_all() is remembers


def test_a_subject_without_events_stands_at_the_beginning() -> None:
    assert Chain() == (0, None, None, None, 0, b"")
