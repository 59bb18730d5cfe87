"""What the headers and a CloudEvents envelope say about a command (design.md 3).

Both modes of CloudEvents 1.0 end here in the plain command object; where header or envelope and
body speak of the same thing they must agree.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

from lifecycle.domain.commands import CommandName
from lifecycle.kafka.records import DeadLetterCode, RefusedError, shown

SPEC_VERSION = "1.0"
CONTENT_TYPE_HEADER = "content-type"
TRACEPARENT_HEADER = "traceparent"
ATTRIBUTE_PREFIX = "ce_"

_STRUCTURED_MEDIA_TYPE = "application/cloudevents+json"
_JSON_MEDIA_TYPE = re.compile(r"application/(?:json|[a-z0-9!#$&^_.+-]+\+json)")
_REQUIRED_ATTRIBUTES = ("specversion", "id", "type", "source")
_COMMAND_TYPE = re.compile(r"cards\.command\.([a-z0-9]+(?:-[a-z0-9]+)*)\.v1")
# W3C Trace Context, level 1: the all-zero ids and version ff are invalid.
_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)


class Unwrapped(NamedTuple):
    """A command object, and what of its envelope stood beside it (empty unless structured)."""

    body: dict[str, object]
    envelope: Mapping[str, object]


def command_type(name: CommandName) -> str:
    """The CloudEvents `type` of a command: `cards.command.<kebab-case>.v1`."""
    return f"cards.command.{name.lower().replace('_', '-')}.v1"


_COMMAND_OF_TYPE = {command_type(name): name.value for name in CommandName}


def counted_headers(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, str]:
    """`content-type` and `ce_*`, by name; names are case-sensitive.

    All of `ce_*` count, also those that are ignored for want of `ce_specversion`: a sender whose
    headers are broken is told so. Raises RefusedError HEADERS for one that is null, repeated or
    not UTF-8.
    """
    counted: dict[str, str] = {}
    for name, content in headers:
        if not (name.startswith(ATTRIBUTE_PREFIX) or name == CONTENT_TYPE_HEADER):
            continue
        if content is None:
            raise _bad_header(name, "is null; leave it out or give it a value")
        if name in counted:
            raise _bad_header(name, "is repeated; send it once")
        try:
            counted[name] = content.decode()
        except UnicodeDecodeError:
            raise _bad_header(name, "is not UTF-8; send it in UTF-8") from None
    return counted


def is_structured(headers: Mapping[str, str]) -> bool:
    """Whether the value is a CloudEvents envelope, by its media type.

    Raises RefusedError CONTENT_TYPE. Media types are compared as RFC 9110 says: letters in any
    case, parameters (`; charset=utf-8`) left aside, since the bytes themselves show the encoding.
    """
    content_type = headers.get(CONTENT_TYPE_HEADER)
    if content_type is None:
        return False
    media_type = content_type.partition(";")[0].strip(" \t").lower()
    if _JSON_MEDIA_TYPE.fullmatch(media_type) is None:
        raise RefusedError(
            DeadLetterCode.CONTENT_TYPE,
            "Header content-type is neither application/json nor application/*+json; "
            "send JSON, or leave the header out.",
        )
    return media_type == _STRUCTURED_MEDIA_TYPE


def traceparent(headers: Sequence[tuple[str, bytes | None]]) -> str | None:
    """The trace that the command belongs to: of several `traceparent` headers the last valid one.

    Tracing never costs a command (design.md 3): one that is null or malformed counts as absent.
    Clients that observe themselves add theirs to the one that the application has set.
    """
    found = None
    for name, content in headers:
        if name == TRACEPARENT_HEADER and content is not None and _TRACEPARENT.fullmatch(content):
            found = content
    return None if found is None else found.decode("ascii")


def binary_attributes(headers: Mapping[str, str]) -> Mapping[str, object] | None:
    """The attributes of binary mode, or None without `ce_specversion`, which makes it one."""
    if "ce_specversion" not in headers:
        return None
    return {
        attribute: headers.get(ATTRIBUTE_PREFIX + attribute) for attribute in _REQUIRED_ATTRIBUTES
    }


def hint(body: Mapping[str, object], headers: Sequence[tuple[str, bytes | None]]) -> str:
    """What makes a CloudEvent of a record that says no command, if it looks like one; or nothing.

    Begins with a blank.
    """
    if "specversion" in body and "data" in body:
        return (
            f" This is a CloudEvents envelope: send it with the header {CONTENT_TYPE_HEADER} (in"
            f" lower case) {_STRUCTURED_MEDIA_TYPE}."
        )
    names = {name for name, _ in headers}
    if f"{ATTRIBUTE_PREFIX}type" in names and f"{ATTRIBUTE_PREFIX}specversion" not in names:
        return f" The {ATTRIBUTE_PREFIX} headers count only with {ATTRIBUTE_PREFIX}specversion."
    return ""


def unwrap(envelope: Mapping[str, object]) -> Unwrapped:
    """The command inside a structured-mode envelope. Raises RefusedError CLOUDEVENT_INVALID."""
    data = envelope.get("data")
    if "data_base64" in envelope or not isinstance(data, dict):
        raise _bad_event("data is not a JSON object; put the command there, not in data_base64")
    data_content_type = envelope.get("datacontenttype")
    if data_content_type is not None and not (
        isinstance(data_content_type, str)
        and _JSON_MEDIA_TYPE.fullmatch(data_content_type.partition(";")[0].strip(" \t").lower())
    ):
        raise _bad_event("datacontenttype is not JSON; send application/json or leave it out")
    body = cast("dict[str, object]", data)
    adopt(body, envelope, prefix="")
    return Unwrapped(
        body, {name: envelope[name] for name in envelope if name not in {"id", "data"}}
    )


def adopt(body: dict[str, object], attributes: Mapping[str, object], *, prefix: str) -> None:
    """Take commandId and command from the attributes where the body leaves them out.

    Raises RefusedError CLOUDEVENT_INVALID when an attribute is missing, wrong, or says otherwise
    than the body. `prefix` (`ce_` for headers) leads the attributes' names in errors.
    """
    for attribute in _REQUIRED_ATTRIBUTES:
        value = attributes.get(attribute)
        if not isinstance(value, str) or not value:
            raise _bad_event(f"{prefix}{attribute} is not a non-empty string; send it")
    if attributes["specversion"] != SPEC_VERSION:
        raise _bad_event(f"{prefix}specversion is not {SPEC_VERSION}; send {SPEC_VERSION}")
    command = _command_of(str(attributes["type"]))
    if command is None:
        raise _bad_event(f"{prefix}type is not cards.command.<command in kebab-case>.v1")
    for field, attribute, said in (
        ("commandId", "id", attributes["id"]),
        ("command", "type", command),
    ):
        given = body.get(field)
        if given is None:
            body[field] = said
        elif isinstance(given, str) and given != said:
            raise _bad_event(f"{prefix}{attribute} and field {field} disagree; send the same")


def _command_of(event_type: str) -> str | None:
    known = _COMMAND_OF_TYPE.get(event_type)
    if known is not None:
        return known
    # A type of the right form names a command that is not known: another code than a bad type.
    named = _COMMAND_TYPE.fullmatch(event_type)
    return named[1].upper().replace("-", "_") if named else None


def _bad_header(name: str, what: str) -> RefusedError:
    return RefusedError(DeadLetterCode.HEADERS, f"Header {shown(name)} {what}.")


def _bad_event(what: str) -> RefusedError:
    return RefusedError(DeadLetterCode.CLOUDEVENT_INVALID, f"Not a CloudEvent of ours: {what}.")
