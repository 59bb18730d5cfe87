"""Step (4) of design.md 5, "Which error": the patterns and values of a command's fields.

What is judged here does not depend on the card. Patterns come first, then values, then a field
that the command itself needs; reasons are judged after all of them (`decide.py`). The published
part of the answer holds no value that broke its pattern, whichever error won (domain.md 8).
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple
from unicodedata import category, normalize

from pydantic.alias_generators import to_camel

from lifecycle.domain import patterns
from lifecycle.domain.cards import Lock, State
from lifecycle.domain.commands import (
    Command,
    CommandName,
    Create,
    Requestor,
    RequestorType,
)
from lifecycle.domain.defaults import default_requestor
from lifecycle.domain.errors import ErrorCode
from lifecycle.domain.products import ActivationMethod, Form
from lifecycle.domain.settings_objects import advice_on, canonical

ENCRYPTED_DATA_CHARACTERS_MAX = 8_192
HOLDER_NAME_CHARACTERS_MAX = 26
_HOLDER_NAME_SIGNS = frozenset(" ,.'_#;:/-")
_ARABIC = ("\u0600", "\u06ff")
VALIDITY_MONTHS_MIN, VALIDITY_MONTHS_MAX = 1, 240
INCARNATION_MIN, INCARNATION_MAX = 1, 2**31 - 1
AUTO_RENEW_DAYS_MIN, AUTO_RENEW_DAYS_MAX = 1, 365

_Test = Callable[[str], object]

# Matched as a whole: `$` alone would let a line break through.
_is_reason: _Test = re.compile(patterns.REASON).fullmatch
_is_reason_code: _Test = re.compile(patterns.REASON_CODE).fullmatch
_is_correlation_id: _Test = re.compile(patterns.CORRELATION_ID).fullmatch
_is_requestor_id: _Test = re.compile(patterns.REQUESTOR_ID).fullmatch
_is_consumer_id: _Test = re.compile(patterns.CONSUMER_ID).fullmatch
_is_card_id: _Test = re.compile(patterns.CARD_ID).fullmatch
_is_card_product_id: _Test = re.compile(patterns.CARD_PRODUCT_ID).fullmatch
_is_name: _Test = re.compile(patterns.NAME).fullmatch
_is_status_reason: _Test = re.compile(patterns.STATUS_REASON).fullmatch
_is_expiry: _Test = re.compile(patterns.EXPIRY).fullmatch
_is_scheme: _Test = re.compile(patterns.SCHEME).fullmatch
_is_bin: _Test = re.compile(patterns.BIN).fullmatch
_is_distribution_channel: _Test = re.compile(patterns.DISTRIBUTION_CHANNEL).fullmatch
_is_time = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:Z|\+00:00)"
).fullmatch

_MS_PER_SECOND = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_ms_of(text: str) -> int | None:
    """Milliseconds since the epoch of an ISO 8601 UTC time; None if it is not one.

    It ends in `Z` or `+00:00` (design.md 3). A fraction has one to nine digits; what lies below a
    millisecond is dropped, as in the events.
    """
    found = _is_time(text)
    if found is None:
        return None
    *whole, fraction = found.groups(default="0")
    year, month, day, hour, minute, second = map(int, whole)
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        # No such day or time, as February 30th. The caller says which field.
        return None
    since = moment - _EPOCH
    seconds = since.days * 86_400 + since.seconds
    return seconds * _MS_PER_SECOND + int(fraction.ljust(3, "0")[:3])


def composed(name: str) -> str:
    """A Click to Pay name as it is taken (domain.md 8): `é` as one character, however sent."""
    return normalize("NFC", name)


def _is_holder_name(name: str) -> bool:
    """The name for Click to Pay: letters and digits of any script, and a few signs (S5)."""
    text = composed(name)
    return 0 < len(text) <= HOLDER_NAME_CHARACTERS_MAX and all(
        character in _HOLDER_NAME_SIGNS
        or category(character)[0] in "LN"
        or _ARABIC[0] <= character <= _ARABIC[1]
        for character in text
    )


def _is_settings(settings: dict[str, object]) -> bool:
    return canonical(settings) is not None


def _is_encrypted_data(text: str) -> bool:
    return len(text) <= ENCRYPTED_DATA_CHARACTERS_MAX


def _is_moment(text: str) -> bool:
    return time_ms_of(text) is not None


def _between(minimum: int, maximum: int) -> Callable[[float], bool]:
    """Whole numbers of JSON: 36 and 36.0 are the same one."""

    def test(number: float) -> bool:
        return minimum <= number <= maximum and number == int(number)

    return test


class _Rule(NamedTuple):
    """A field, by its name in Python and on the wire, and the test that it must pass.

    `advice` says what to send instead of a value, where the name of the field alone does not.
    """

    attribute: str
    wire_name: str
    test: Callable[..., object]
    advice: Callable[..., str] | None = None


def _rules(
    advice: Callable[..., str] | None = None, **tests: Callable[..., object]
) -> tuple[_Rule, ...]:
    return tuple(_Rule(name, to_camel(name), test, advice) for name, test in tests.items())


_CREATION = _rules(
    consumer_id=_is_consumer_id,
    card_product_id=_is_card_product_id,
    name=_is_name,
    second_name=_is_name,
    status_reason=_is_status_reason,
    delete_at=_is_moment,
    real_card_id=_is_card_id,
)

# The fields beside those that every command has, in the order in which they are judged.
_PATTERNS: dict[CommandName, tuple[_Rule, ...]] = {
    CommandName.CREATE: _CREATION,
    CommandName.REGISTER: _CREATION + _rules(encrypted_data=_is_encrypted_data),
    # No pattern for last4: a wrong answer of any form is ACTIVATION_FAILED (domain.md 8).
    CommandName.ACTIVATE: _rules(encrypted_data=_is_encrypted_data),
    CommandName.REPLACE: _rules(new_card_id=_is_card_id, encrypted_data=_is_encrypted_data),
    # newCardProductId has no pattern: another value than the product's is refused (domain.md 3.3).
    CommandName.RENEW: _rules(
        new_card_id=_is_card_id,
        new_exp=_is_expiry,
        new_auxiliary_exp=_is_expiry,
        encrypted_data=_is_encrypted_data,
    ),
    CommandName.UPDATE_CONTROLS: _rules(advice_on, controls=_is_settings),
    CommandName.UPDATE_LIMITS: _rules(advice_on, limits=_is_settings),
    CommandName.PRODUCE: _rules(distribution_channel=_is_distribution_channel),
    CommandName.CLICK_TO_PAY_ENROLMENT: _rules(name=_is_holder_name),
    CommandName.CLICK_TO_PAY_UPDATE: _rules(name=_is_holder_name),
    CommandName.CLICK_TO_PAY_OPTOUT: _rules(name=_is_holder_name),
    CommandName.PRODUCT_DEFINE: _rules(scheme=_is_scheme, bin=_is_bin),
}
_INITIAL_STATES = frozenset({State.INACTIVE, State.ACTIVE})
_VALUES: dict[CommandName, tuple[_Rule, ...]] = {
    CommandName.CREATE: _rules(state=_INITIAL_STATES.__contains__),
    CommandName.REGISTER: _rules(state=_INITIAL_STATES.__contains__),
    CommandName.RENEW: _rules(new_card_state=_INITIAL_STATES.__contains__),
    CommandName.DELETE: _rules(incarnation=_between(INCARNATION_MIN, INCARNATION_MAX)),
    CommandName.LOCK: _rules(lock=frozenset(Lock).__contains__),
    CommandName.PRODUCT_DEFINE: _rules(
        form=frozenset(Form).__contains__,
        activation_method=frozenset(ActivationMethod).__contains__,
        auto_renew_days=_between(AUTO_RENEW_DAYS_MIN, AUTO_RENEW_DAYS_MAX),
        validity_months=_between(VALIDITY_MONTHS_MIN, VALIDITY_MONTHS_MAX),
    ),
}
_REQUESTOR_TYPES = frozenset(RequestorType)


class Refusal(NamedTuple):
    """An error code, and the field (its name on the wire) that it is about.

    `sentence` says more closely what is wrong than the sentence of the code (`errors.SENTENCE`),
    `advice` what to send.
    """

    code: ErrorCode
    field: str | None = None
    sentence: str | None = None
    advice: str | None = None


class Judged(NamedTuple):
    """The part of a command that may be published, and what its fields are refused for.

    `requestor` is the default one when none was sent or the one sent was refused; the others are
    None when absent or refused. `effective_time_ms` is `effectiveDate`.
    """

    requestor: Requestor
    reason_code: str | None
    reason: str | None
    correlation_id: str | None
    effective_time_ms: int | None
    refusal: Refusal | None


def _first_broken(command: Command, rules: tuple[_Rule, ...], code: ErrorCode) -> Refusal | None:
    for attribute, wire_name, test, advice in rules:
        value = getattr(command, attribute)
        if value is not None and not test(value):
            return Refusal(code, wire_name, advice=None if advice is None else advice(value))
    return None


def judge(command: Command, name: CommandName, start_time_ms: int) -> Judged:
    """The fields of `command`, whatever strings they hold."""
    # The name of the first field, among those that every command has, that broke its pattern.
    broken: str | None = None
    unknown_type = False
    requestor = command.requestor
    if requestor is None:
        requestor = default_requestor(name, command.issuer_id)
    else:
        unknown_type = requestor.type not in _REQUESTOR_TYPES
        broken = None if _is_requestor_id(requestor.id) else "requestor.id"
        if unknown_type or broken is not None:
            requestor = default_requestor(name, command.issuer_id)

    correlation_id = command.correlation_id
    if correlation_id is not None and not _is_correlation_id(correlation_id):
        broken, correlation_id = broken or "correlationId", None

    effective_time_ms = None
    if command.effective_date is not None:
        effective_time_ms = time_ms_of(command.effective_date)
        if effective_time_ms is None:
            broken = broken or "effectiveDate"

    reason_code = command.reason_code
    if reason_code is not None and not _is_reason_code(reason_code):
        broken, reason_code = broken or "reasonCode", None

    reason = command.reason
    if reason is not None and not _is_reason(reason):
        broken, reason = broken or "reason", None

    if broken is not None:
        refusal: Refusal | None = Refusal(ErrorCode.FIELD_INVALID_FORMAT, broken)
    else:
        refusal = _own_fields_refused(command, name, start_time_ms, unknown_type=unknown_type)
    return Judged(requestor, reason_code, reason, correlation_id, effective_time_ms, refusal)


def _own_fields_refused(
    command: Command, name: CommandName, start_time_ms: int, *, unknown_type: bool
) -> Refusal | None:
    """What is wrong when the patterns of the fields that every command has hold."""
    refusal = _first_broken(command, _PATTERNS.get(name, ()), ErrorCode.FIELD_INVALID_FORMAT)
    if refusal is not None:
        return refusal
    if unknown_type:
        return Refusal(ErrorCode.FIELD_INVALID_VALUE, "requestor.type")
    refusal = _first_broken(command, _VALUES.get(name, ()), ErrorCode.FIELD_INVALID_VALUE)
    if refusal is not None:
        return refusal
    if isinstance(command, Create) and command.delete_at is not None:
        delete_at_ms = time_ms_of(command.delete_at)
        assert delete_at_ms is not None, "its pattern was judged before"
        if delete_at_ms <= start_time_ms:
            return Refusal(ErrorCode.DELETE_TIME_NOT_FUTURE, "deleteAt")
    return None
