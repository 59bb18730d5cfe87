"""Cards, consumers and products while one batch is decided: as read under the locks, then as left.

Plain memory: the transaction reads them before (`reading.py`) and stores what changed after
(`transaction.py`). Nothing here outlives its batch, because a cache across batches would miss what
another worker wrote in between.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from lifecycle.domain.cards import Card
from lifecycle.domain.chain import Chain
from lifecycle.domain.commands import Subject, SubjectKind
from lifecycle.domain.consumers import Consumer
from lifecycle.domain.products import Product
from lifecycle.postgres.pending import OperationKey, PendingRow
from lifecycle.postgres.subjects import Key, Life

Entity = TypeVar("Entity", Card, Consumer, Product)


@dataclass(slots=True)
class Tracked(Generic[Entity]):
    """One subject, and as it is `stored`; None as long as it is unknown. `read`: its stored chain.

    The chain of an unknown subject is not stored: its events stand outside every chain (design.md
    4). Its command ids are still remembered here, for the subject may come into being in the batch.
    """

    entity: Entity | None
    chain: Chain
    read: Chain
    stored: Entity | None
    has_changed: bool = False


@dataclass(slots=True)
class Subjects:
    """Everything that one batch looks at."""

    cards: dict[Key, Tracked[Card]] = field(default_factory=dict)
    consumers: dict[Key, Tracked[Consumer]] = field(default_factory=dict)
    products: dict[Key, Tracked[Product]] = field(default_factory=dict)
    virtual_cards: Counter[Life] = field(default_factory=Counter)
    """By life of a real card: how many virtual cards that are not terminal stand for it."""
    pending: dict[OperationKey, PendingRow] = field(default_factory=dict)
    """The PENDING operations that replies and TIME_OUTs of the batch name, until they end."""
    enrolments: dict[Key, int] = field(default_factory=dict)
    """By card that opts out of Click to Pay: how many of its enrolments are PENDING."""

    def all(self) -> Iterator[tuple[Subject, Tracked[Any]]]:
        """Every subject that was read, known or not."""
        for kind, tracked_by_key in (
            (SubjectKind.CARD, self.cards),
            (SubjectKind.CONSUMER, self.consumers),
            (SubjectKind.PRODUCT, self.products),
        ):
            for (issuer_id, subject_id), tracked in tracked_by_key.items():
                yield Subject(kind, issuer_id, subject_id), tracked

    def of(self, subject: Subject) -> Tracked[Any]:
        """The card, consumer or product that a command is about."""
        key = (subject.issuer_id, subject.id)
        match subject.kind:
            case SubjectKind.CARD:
                return self.cards[key]
            case SubjectKind.CONSUMER:
                return self.consumers[key]
            case SubjectKind.PRODUCT:
                return self.products[key]
