"""Where the records come from that change cards: nothing but these two writes one (design.md 1)."""

from enum import StrEnum
from typing import NamedTuple


class Source(StrEnum):
    """A topic that is taken in: commands, or the replies of outside parties (design.md 2)."""

    COMMANDS = "commands"
    REPLIES = "replies"


class Partition(NamedTuple):
    """One partition of a topic that is taken in; intake of each stands at a place of its own."""

    source: Source
    number: int
