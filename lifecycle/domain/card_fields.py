"""The fields of a command that its card needs, forbids or outgrows, and its `encryptedData`.

Steps (6) and (8) of design.md 5, "Which error": what is judged here depends on the card. An issued
card's id, number and expiry are made by the platform, a registered card's come with the command
(domain.md 3.1).
"""

from lifecycle.domain import months
from lifecycle.domain.cards import Card, Origin
from lifecycle.domain.commands import Activate, Create, Register, Renew, Replace
from lifecycle.domain.credentials import VIRTUAL_PAN_DIGITS_MIN, Credentials, member
from lifecycle.domain.errors import ErrorCode
from lifecycle.domain.fields import Refusal
from lifecycle.domain.guards import Case, generated_expiry_is_later
from lifecycle.domain.operations import Context
from lifecycle.domain.products import ActivationMethod, Form
from lifecycle.domain.reasons import replaces_card

AMEX = "AMEX"
"""The scheme whose cards are renewed with `encryptedData` only (domain.md 3.3)."""


def refused_by_card(case: Case) -> Refusal | None:
    """What a REPLACE or RENEW lacks, says too much or says too early: step (6)."""
    command = case.command
    match command:
        case Replace():
            return _replace_refused(case.existing, command)
        case Renew():
            card = case.existing
            return (
                _renew_lacks(card, command)
                or _renew_forbids(card, command)
                or _renew_outgrown(case, command)
            )
    return None


def moves(command: Renew) -> bool:
    """Whether a v1 renew gives the card another id."""
    return command.new_card_id not in (None, command.card_id)


def _missing(field: str) -> Refusal:
    return Refusal(ErrorCode.FIELD_MISSING, field)


def _wrong(field: str) -> Refusal:
    return Refusal(ErrorCode.FIELD_INVALID_VALUE, field)


def _first(lines: tuple[tuple[str, bool], ...]) -> str | None:
    """The first field whose line is true."""
    return next((field for field, applies in lines if applies), None)


def _replace_refused(card: Card, command: Replace) -> Refusal | None:
    has_id, has_number = command.new_card_id is not None, command.encrypted_data is not None
    if card.origin is Origin.ISSUED:
        forbidden = _first((("newCardId", has_id), ("encryptedData", has_number)))
        return None if forbidden is None else _wrong(forbidden)
    lacking = _first((("newCardId", not has_id), ("encryptedData", not has_number)))
    if lacking is not None:
        return _missing(lacking)
    return _wrong("newCardId") if command.new_card_id == card.card_id else None


def _renew_lacks(card: Card, command: Renew) -> Refusal | None:
    is_registered = card.origin is Origin.REGISTERED
    # Under another id the expiry comes with the number.
    stays = is_registered and not moves(command)
    is_amex_v1 = is_registered and command.new_card_id is not None and card.terms.scheme == AMEX
    has_id, has_state = command.new_card_id is not None, command.new_card_state is not None
    needs_auxiliary = stays and card.has_auxiliary_pan
    lacking = _first(
        (
            ("newCardId", has_state and not has_id),
            ("newCardState", has_id and not has_state),
            ("newExp", stays and command.new_exp is None),
            ("newAuxiliaryExp", needs_auxiliary and command.new_auxiliary_exp is None),
            ("encryptedData", is_amex_v1 and command.encrypted_data is None),
        )
    )
    return None if lacking is None else _missing(lacking)


def _renew_forbids(card: Card, command: Renew) -> Refusal | None:
    is_issued = card.origin is Origin.ISSUED
    keeps_number = is_issued or command.new_card_id is None
    brings_number = command.encrypted_data is not None or moves(command)
    has_auxiliary = not is_issued and (card.has_auxiliary_pan or brings_number)
    product_id = command.new_card_product_id
    forbidden = _first(
        (
            ("newCardId", is_issued and moves(command)),
            ("newExp", is_issued and command.new_exp is not None),
            ("newAuxiliaryExp", not has_auxiliary and command.new_auxiliary_exp is not None),
            ("encryptedData", keeps_number and command.encrypted_data is not None),
            ("newCardProductId", product_id not in (None, card.card_product_id)),
        )
    )
    return None if forbidden is None else _wrong(forbidden)


def _renew_outgrown(case: Case, command: Renew) -> Refusal | None:
    """A renewal lasts longer than what it renews; a replacement need not (domain.md 3.4)."""
    card = case.existing
    if moves(command) and replaces_card(case.reason_code):
        return None
    if card.origin is Origin.ISSUED:
        is_later = generated_expiry_is_later(card, case.context)
        return None if is_later else Refusal(ErrorCode.FIELD_INVALID_VALUE)
    if command.new_exp is not None and not _is_later(command.new_exp, card.exp):
        return _wrong("newExp")
    auxiliary = command.new_auxiliary_exp
    if auxiliary is not None and not _is_later(auxiliary, card.auxiliary_exp):
        return _wrong("newAuxiliaryExp")
    return None


def _is_later(exp: str, current: str | None) -> bool:
    return current is None or months.month_of_expiry(exp) > months.month_of_expiry(current)


def refused_by_credentials(case: Case, *, is_answer_asked: bool) -> Refusal | None:
    """What is wrong with the number that a command brings, or with the drawn one: step (8).

    `is_answer_asked`: an ACTIVATE has to prove something here. Where it has not, nobody minds
    what it brings.
    """
    command, context = case.command, case.context
    refusal = None
    match command:
        case Register():
            assert context.product is not None, "its row needs a product"
            refusal = _number_refused(context, context.product.form)
        case Create():
            refusal = _drawn_number_refused(context)
        case Replace() if case.existing.origin is Origin.ISSUED:
            refusal = _drawn_number_refused(context)
        case Replace():
            refusal = _number_refused(context, case.existing.terms.form)
        case Renew() if case.is_answered and context.opened is None:
            refusal = _missing("encryptedData")
        case Renew() if case.is_answered or command.encrypted_data is not None:
            refusal = _renewed_number_refused(case, command)
        case Activate(encrypted_data=str()) if is_answer_asked and _asks_for_cvv(case):
            opened = context.opened
            refusal = opened if isinstance(opened, Refusal) else None
    return refusal


def _asks_for_cvv(case: Case) -> bool:
    """Whether the answer to the card's activation method lies in `encryptedData`."""
    return case.existing.terms.activation_method is ActivationMethod.CVV


def _drawn_number_refused(context: Context) -> Refusal | None:
    drawn = context.generated_last4
    return Refusal(drawn) if isinstance(drawn, ErrorCode) else None


def _renewed_number_refused(case: Case, command: Renew) -> Refusal | None:
    """What is wrong with the number of a v1 renew, from the command or from the issuer's CMS.

    Where both the command and the number name an expiry, they name the same.
    """
    card = case.existing
    refusal = _number_refused(case.context, card.terms.form)
    if refusal is not None:
        return refusal
    credentials = case.context.opened
    assert isinstance(credentials, Credentials), "what is none was refused"
    if command.new_exp not in (None, credentials.exp):
        return _wrong("newExp")
    auxiliary = credentials.auxiliary_exp
    if None not in (command.new_auxiliary_exp, auxiliary) and (
        command.new_auxiliary_exp != auxiliary
    ):
        return _wrong("newAuxiliaryExp")
    # In place the expiries are those of the command, which were judged before.
    if not replaces_card(case.reason_code):
        if not _is_later(credentials.exp, card.exp):
            return _wrong(member("exp"))
        if auxiliary is not None and not _is_later(auxiliary, card.auxiliary_exp):
            return _wrong(member("auxiliaryExp"))
    return None


def _number_refused(context: Context, form: Form) -> Refusal | None:
    """DECRYPTION_FAILED, PAN_LUHN_INVALID, then PAN_NOT_REUSABLE (design.md 5)."""
    opened = context.opened
    if opened is None:
        # Nobody could open it.
        return Refusal(
            ErrorCode.DECRYPTION_FAILED,
            sentence="This service has no keys that open encryptedData.",
        )
    if isinstance(opened, Refusal):
        return opened
    if form is Form.VIRTUAL and len(opened.pan) < VIRTUAL_PAN_DIGITS_MIN:
        return Refusal(ErrorCode.PAN_LUHN_INVALID, member("pan"))
    return None if context.pan_is_free else Refusal(ErrorCode.PAN_NOT_REUSABLE)
