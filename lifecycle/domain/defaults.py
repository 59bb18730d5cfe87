"""What a command means where it leaves something out (design.md 3; domain.md 2.2, 8).

The wire fills these values in before it hashes a command, `decide` before it judges one: the same
table for both, or a repeated command would be taken for another.
"""

from lifecycle.domain.commands import CommandName, Requestor, RequestorType

SYSTEM_ID = "SYSTEM"
"""The `id` of the requestor when the service asks itself (domain.md 5)."""

_SYSTEM_COMMANDS = frozenset(
    {
        CommandName.LOCK,
        CommandName.CARD_PRESENT,
        CommandName.EXPIRE,
        CommandName.AUTO_RENEW,
        CommandName.DELETE_DUE,
        CommandName.TIME_OUT,
    }
)

_DEFAULT_REASON_CODE: dict[CommandName, str] = {
    CommandName.SUSPEND: "ISSUER_DECISION",
    CommandName.RESUME: "ISSUER_DECISION",
    CommandName.RENEW: "ISSUER_DECISION",
    CommandName.AUTO_RENEW: "ISSUER_DECISION",
    CommandName.DELETE: "ISSUER_DECISION",
    CommandName.CONSUMER_DELETE: "ISSUER_DECISION",
    CommandName.CLICK_TO_PAY_ENROLMENT: "ISSUER_DECISION",
    CommandName.CLICK_TO_PAY_UPDATE: "ISSUER_DECISION",
    CommandName.CLICK_TO_PAY_OPTOUT: "ISSUER_DECISION",
}

# domain.md 8: a user resumes with USER_DECISION by default, everyone else as in the table above.
_DEFAULT_REASON_CODE_OF_USER: dict[CommandName, str] = {
    **_DEFAULT_REASON_CODE,
    CommandName.RESUME: "USER_DECISION",
}

DEFAULT_STATE = "ACTIVE"
"""The `state` of a CREATE or REGISTER that names none (domain.md 2.1, "Creation")."""

_CREATION = frozenset({CommandName.CREATE, CommandName.REGISTER})


def default_requestor(name: CommandName, issuer_id: str) -> Requestor:
    """Who asks when the command does not say (design.md 3).

    The system for LOCK, signals and timers, else the issuer. The DELETE of a cascade names its
    requestor, the system, itself (domain.md 8).
    """
    if name in _SYSTEM_COMMANDS:
        return Requestor(type=RequestorType.SYSTEM.value, id=SYSTEM_ID)
    return Requestor(type=RequestorType.ISSUER.value, id=issuer_id)


def default_state(name: CommandName) -> str | None:
    """The `state` that a command means when it names none; None where it has no such field."""
    return DEFAULT_STATE if name in _CREATION else None


def default_reason_code(name: CommandName, requestor_type: str) -> str | None:
    """The reason of a command that names none; None where there is no default (domain.md 2.2, 8).

    `requestor_type` is as sent and may be no `RequestorType`: it then counts as not a user's.
    """
    if requestor_type == RequestorType.USER:
        return _DEFAULT_REASON_CODE_OF_USER.get(name)
    return _DEFAULT_REASON_CODE.get(name)
