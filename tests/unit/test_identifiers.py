"""Ids are derived (design.md 4): known answers, worked out apart from the code."""

from hashlib import sha256
from itertools import islice
from uuid import RFC_4122, UUID

import pytest
import rfc8785

from lifecycle.domain.commands import Subject, SubjectKind
from lifecycle.domain.identifiers import (
    caused_operation_id,
    event_id,
    generated_card_ids,
    operation_id,
)

CARD = Subject(SubjectKind.CARD, "BANK000001", "card-1")
# From a shell: printf '["operation","card","BANK000001","card-1","c1"]' | sha256sum
OPERATION = UUID("fa5a06c9-69e6-8dc5-8133-93f4d29e332e")
CAUSED = UUID("e032bf3c-fc90-854d-9132-8ac0d2fa350d")
EVENT = UUID("c0a28fe2-d135-8be6-afa1-e54103ef2538")
CARD_IDS = ["2e63e9d4-3921-8f1d-936a-5eacddefb670", "17b9aadc-52ce-81a6-8e30-92cb69ff50f3"]


def independently(name: list[str | int]) -> UUID:
    octets = bytearray(sha256(rfc8785.dumps(name)).digest()[:16])
    octets[6] = octets[6] & 0x0F | 0x80
    octets[8] = octets[8] & 0x3F | 0x80
    return UUID(bytes=bytes(octets))


def test_known_answers() -> None:
    assert operation_id(CARD, "c1") == OPERATION
    assert caused_operation_id(OPERATION, 1) == CAUSED
    assert event_id(OPERATION, "SUCCESSFUL") == EVENT
    assert list(islice(generated_card_ids(OPERATION), 2)) == CARD_IDS


@pytest.mark.parametrize("kind", SubjectKind)
def test_every_kind_of_subject_has_operations_of_its_own(kind: SubjectKind) -> None:
    subject = Subject(kind, "BANK000001", "same-id")
    assert operation_id(subject, "a.b:c_d-e") == independently(
        ["operation", kind.value, "BANK000001", "same-id", "a.b:c_d-e"]
    )


def test_ids_are_version_8_uuids() -> None:
    derived = operation_id(CARD, "c2")
    assert (derived.version, derived.variant) == (8, RFC_4122)


def test_generated_card_ids_count_from_one() -> None:
    operation = operation_id(CARD, "c3")
    expected = [str(independently(["card", str(operation), n])) for n in range(1, 30)]
    assert list(islice(generated_card_ids(operation), 29)) == expected


def test_generated_card_ids_have_the_format_of_a_card_id() -> None:
    generated = next(generated_card_ids(OPERATION))
    assert len(generated) == 36
    assert generated.replace("-", "").isalnum()


def test_caused_operations_are_counted_from_one() -> None:
    with pytest.raises(AssertionError):
        caused_operation_id(OPERATION, 0)


def test_the_kinds_of_subjects_have_the_names_that_ids_are_made_of() -> None:
    assert [kind.value for kind in SubjectKind] == ["card", "consumer", "product"]
