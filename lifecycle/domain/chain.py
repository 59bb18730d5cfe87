"""What is kept beside a card, consumer or product so that its events form one gapless chain.

Versions, hashes and command ids go on through every life of a card id (domain.md 4): they belong to
the subject, not to the card that holds its id just now.
"""

from typing import NamedTuple

_ID_BYTES = 16
_HASH_BYTES = 16
_ENTRY_BYTES = _ID_BYTES + _HASH_BYTES


class Chain(NamedTuple):
    """Where the events of one subject stand.

    `version_time_ms`: start of the operation that made the current version; `last_time_ms`: start
    of the last operation; `last_hash`: of the last event. `command_count` counts the command ids
    that the subject took, those that were refused before it came into being as one;
    `recent_commands` holds the last of them, each as 16 bytes of operation id and 16 bytes of
    content hash, oldest first.
    """

    version: int = 0
    version_time_ms: int | None = None
    last_time_ms: int | None = None
    last_hash: bytes | None = None
    command_count: int = 0
    recent_commands: bytes = b""

    def remembers_all(self) -> bool:
        """Whether every command id the subject ever took is among the recent ones."""
        return self.command_count * _ENTRY_BYTES == len(self.recent_commands)


def recent_content_hash(recent_commands: bytes, operation_id: bytes) -> bytes | None:
    """The content hash that `operation_id` was taken with, if it is among the recent commands."""
    at = recent_commands.find(operation_id)
    while at >= 0 and at % _ENTRY_BYTES:
        at = recent_commands.find(operation_id, at + 1)
    return None if at < 0 else recent_commands[at + _ID_BYTES : at + _ENTRY_BYTES]


def remember_command(
    recent_commands: bytes, operation_id: bytes, content_hash: bytes, *, recent_commands_max: int
) -> tuple[bytes, bytes]:
    """The recent commands with one more at the end, and the oldest, which leave beyond the limit.

    More than one leave when the limit was lowered.
    """
    assert len(operation_id) == _ID_BYTES
    assert len(content_hash) == _HASH_BYTES
    commands = recent_commands + operation_id + content_hash
    leaving = max(0, len(commands) - recent_commands_max * _ENTRY_BYTES)
    return commands[leaving:], commands[:leaving]


def ids_and_hashes(commands: bytes) -> list[tuple[bytes, bytes]]:
    """Operation id and content hash of each of `commands`, which lie as the recent ones do."""
    return [
        (commands[at : at + _ID_BYTES], commands[at + _ID_BYTES : at + _ENTRY_BYTES])
        for at in range(0, len(commands), _ENTRY_BYTES)
    ]
