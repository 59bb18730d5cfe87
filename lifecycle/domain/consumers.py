"""Consumers: the card holders of one issuer (domain.md 1)."""

from dataclasses import dataclass
from enum import StrEnum


class ConsumerState(StrEnum):
    """DELETED is for good."""

    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """A consumer of one issuer."""

    issuer_id: str
    consumer_id: str
    state: ConsumerState
