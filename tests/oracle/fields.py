"""Fields, reasons and dates: what the oracle asks of a command before it looks at the card."""

import json
import re
import unicodedata
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from tests.oracle import tables

Data = dict[str, Any]


class RefusedError(Exception):
    """The command is refused with this error code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class LeftOutError(Exception):
    """The command is a signal that does not apply: it leaves nothing."""


def check_fields(command: Data) -> None:
    """Formats, then values (design.md 5, step 4)."""
    check_formats(command)
    check_requestor(command.get("requestor"))
    check_values(command)


def check_formats(command: Data) -> None:
    for name, pattern in tables.FORMATS.items():
        if name == "name" and command["command"].startswith("CLICK_TO_PAY"):
            check_holder_name(command.get("name"))
        elif command.get(name) is not None and not re.fullmatch(pattern, command[name]):
            raise RefusedError("FIELD_INVALID_FORMAT")
    if len(command.get("encryptedData") or "") > tables.ENCRYPTED_DATA_CHARACTERS_MAX:
        raise RefusedError("FIELD_INVALID_FORMAT")
    for name in ["effectiveDate", "deleteAt"]:
        if command.get(name) is not None:
            milliseconds(command[name])

    for name in ["controls", "limits"]:
        if command.get(name) is not None and settings_text(command[name]) is None:
            raise RefusedError("FIELD_INVALID_FORMAT")


def check_holder_name(name: str | None) -> None:
    if name is None:
        return
    fine = len(name) in tables.HOLDER_NAME_LENGTHS
    for character in name:
        letter_or_number = unicodedata.category(character).startswith(("L", "N"))
        arabic = 0x600 <= ord(character) <= 0x6FF
        fine = fine and (letter_or_number or arabic or character in tables.HOLDER_NAME_SIGNS)
    if not fine:
        raise RefusedError("FIELD_INVALID_FORMAT")


def settings_text(settings: object) -> str | None:
    """Sorted JSON; None when it is too long, too deep or holds a number that a double may alter.

    Only for other numbers that all write alike.
    """
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    outside_strings = re.sub(r'"(\\.|[^"\\])*"', "", text)
    depth = deepest = 0
    for character in outside_strings:
        depth += (character in "[{") - (character in "]}")
        deepest = max(deepest, depth)
    fits = len(text) <= tables.SETTINGS_CHARACTERS_MAX and deepest <= tables.SETTINGS_LEVELS_MAX
    numbers = map(Decimal, re.findall(r"-?[0-9][0-9.eE+-]*", outside_strings))
    exact = all(abs(one) < 2**53 or one % 1 for one in numbers)
    return text if fits and exact else None


def check_values(command: Data) -> None:
    for name, words in tables.WORDS.items():
        if command.get(name) is not None and command[name] not in words:
            raise RefusedError("FIELD_INVALID_VALUE")
    for name, (lowest, highest) in tables.RANGES.items():
        if command.get(name) is not None and command[name] not in range(lowest, highest + 1):
            raise RefusedError("FIELD_INVALID_VALUE")


def check_requestor(requestor: Data | None) -> None:
    if requestor is None:
        return
    if not re.fullmatch(tables.REQUESTOR_ID_FORMAT, requestor["id"]):
        raise RefusedError("FIELD_INVALID_FORMAT")
    if requestor["type"] not in tables.REQUESTOR_TYPES:
        raise RefusedError("FIELD_INVALID_VALUE")


def check_not_stale(command: Data, context: Data, card: Data | None = None) -> None:
    """domain.md 8, for the version of a consumer or product as for that of a card."""
    # Ours: a DELETE may name the life of the card id that it means.
    if card and command.get("incarnation") not in (None, card["incarnation"]):
        raise RefusedError("STALE_COMMAND")
    effective, changed_ms = command.get("effectiveDate"), context["versionTimeMs"]
    if effective is not None and changed_ms is not None and milliseconds(effective) < changed_ms:
        raise RefusedError("STALE_COMMAND")


def check_reason(command: Data, row: str | None) -> str | None:
    """The effective reasonCode, the default filled in (domain.md 2.2, 8)."""
    given = command.get("reasonCode")
    accepted = tables.REASONS.get(row or "")
    if accepted is None:
        if given is not None:
            raise RefusedError("INVALID_REASON")
        return None
    by_user = (command.get("requestor") or {}).get("type") == "USER"
    if given is None and row not in ("REPLACE", None):
        given = "USER_DECISION" if row == "RESUME" and by_user else "ISSUER_DECISION"
    if given not in accepted:
        raise RefusedError("INVALID_REASON")
    if row == "RESUME" and by_user and given not in ("USER_DECISION", "CARD_FOUND"):
        raise RefusedError("INVALID_REASON")
    # domain.md 8 names the reasonCode first; the text is missing whatever the card is.
    if row == "REPLACE" and command.get("reason") is None:
        raise RefusedError("FIELD_MISSING")
    return str(given)


def shown(command: Data, name: str) -> str | None:
    value = command.get(name)
    return value if value is not None and re.fullmatch(tables.FORMATS[name], value) else None


def requestor_shown(command: Data) -> Data:
    """domain.md 8: a wrong requestor is not shown, the default is (design.md 3)."""
    given = command.get("requestor")
    if given is not None:
        try:
            check_requestor(given)
        except RefusedError:
            given = None
    if given is not None:
        return {"type": given["type"], "id": given["id"]}
    if command["command"] in tables.ASKED_BY_SYSTEM:
        return {"type": "SYSTEM", "id": "SYSTEM"}
    return {"type": "ISSUER", "id": command["issuerId"]}


def milliseconds(text: str) -> int:
    if not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?Z", text):
        raise RefusedError("FIELD_INVALID_FORMAT")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise RefusedError("FIELD_INVALID_FORMAT") from None
    # Whole milliseconds, as in the events; a moment of its own would be later than shown.
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


def month(exp: str) -> tuple[int, int]:
    """`MMYY` as (year, month). Every card of this platform expires in this century."""
    return 2000 + int(exp[2:]), int(exp[:2])


def month_now(context: Data) -> tuple[int, int]:
    """The month of startTime where the issuer is (domain.md 2)."""
    there = datetime.fromtimestamp(
        context["startTimeMs"] // 1000, tz=ZoneInfo(context["issuerTimeZone"])
    )
    return there.year, there.month


def months_after(month: tuple[int, int], months: int) -> str:
    year, number = month
    for _ in range(months):
        if (year, number) == tables.LAST_EXPIRY:
            break
        number += 1
        if number == 13:
            year, number = year + 1, 1
    return f"{number:02d}{year % 100:02d}"


def renewed_expiry(card: Data, context: Data) -> str:
    months = [month_now(context)]
    if card["exp"] is not None:
        months.append(month(card["exp"]))
    return months_after(max(months), card["terms"]["validityMonths"])


def is_later(exp: str, current: str | None) -> bool:
    return current is None or month(exp) > month(current)


def today(context: Data) -> date:
    there = datetime.fromtimestamp(
        context["startTimeMs"] // 1000, tz=ZoneInfo(context["issuerTimeZone"])
    )
    return there.date()


def first_day_of_window(exp: str, days: int) -> date:
    """The window opens as many days before the month is over."""
    year, number = month(exp)
    first_after = date(year + number // 12, number % 12 + 1, 1)
    return first_after - timedelta(days=days)


def column(card: Data, context: Data) -> str:
    """domain.md 8: a card whose expiry month is over counts as EXPIRED, terminal ones apart."""
    state = str(card["state"])
    if state in tables.TERMINAL or card["exp"] is None:
        return state
    return "EXPIRED" if month(card["exp"]) < month_now(context) else state
