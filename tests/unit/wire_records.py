"""Records as aiokafka hands them over, for the tests of the wire format."""

import json
from collections.abc import Mapping, Sequence
from typing import cast

from aiokafka import ConsumerRecord

from lifecycle.kafka.records import RawRecord

ISSUER = "BANK000001"
KEY = b"BANK000001/card-1"
# Luhn-valid test numbers of the card schemes' documentation, none of which was ever issued.
PAN_16 = "4111111111111111"
PAN_15 = "378282246310005"
PAN_13 = "4222222222222"
PAN_19 = "6304000000000000000"

SUSPEND: Mapping[str, object] = {
    "commandId": "c1",
    "command": "SUSPEND",
    "issuerId": ISSUER,
    "cardId": "card-1",
}
CREATE: Mapping[str, object] = {
    **SUSPEND,
    "command": "CREATE",
    "consumerId": "consumer-1",
    "cardProductId": "gold",
}
REGISTER_CONSUMER: Mapping[str, object] = {
    "commandId": "c1",
    "command": "CONSUMER_REGISTER",
    "issuerId": ISSUER,
    "consumerId": "consumer-1",
}
DEFINE_PRODUCT: Mapping[str, object] = {
    "commandId": "c1",
    "command": "PRODUCT_DEFINE",
    "issuerId": ISSUER,
    "cardProductId": "gold",
    "form": "VIRTUAL",
    "scheme": "VISA",
}
BINARY: tuple[tuple[str, bytes | None], ...] = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"c1"),
    ("ce_type", b"cards.command.suspend.v1"),
    ("ce_source", b"/bank"),
)
STRUCTURED_TYPE: tuple[tuple[str, bytes | None], ...] = (
    ("content-type", b"application/cloudevents+json"),
)


def record(
    value: bytes | Mapping[str, object] | None,
    *,
    key: bytes | None = KEY,
    headers: Sequence[tuple[str, bytes | None]] = (),
    place: tuple[int, int] = (3, 1042),
    timestamp: int = 1_790_000_000_123,
) -> RawRecord:
    """A record of the command topic; a mapping is sent as JSON, with blanks as json writes them.

    `place` is its partition and offset.
    """
    content = json.dumps(value).encode() if isinstance(value, Mapping) else value
    return cast(
        "RawRecord",
        ConsumerRecord(
            topic="cards.commands.v1",
            partition=place[0],
            offset=place[1],
            timestamp=timestamp,
            timestamp_type=1,
            key=key,
            value=content,
            checksum=None,
            serialized_key_size=-1 if key is None else len(key),
            serialized_value_size=-1 if content is None else len(content),
            headers=tuple(headers),
        ),
    )


def envelope(data: object, **attributes: object) -> dict[str, object]:
    """A structured-mode CloudEvent around `data`."""
    return {
        "specversion": "1.0",
        "id": "c1",
        "type": "cards.command.suspend.v1",
        "source": "/bank",
        "data": data,
        **attributes,
    }
