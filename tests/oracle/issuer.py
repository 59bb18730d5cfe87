"""One issuer's consumers, products and cards as the rule book moves them: a whole history's memory.

What the worker does around a decision is done here in a few lines: a number vault that obeys
`numbers`, the list of what waits for an outside party, cascades. So what a decision says beside
the card is tested by what it leads to, and not only by how it looks.
"""

from tests.oracle.fields import Data
from tests.oracle.rule_book import expected, expected_reply, expected_time_out
from tests.oracle.tables import TERMINAL

Subject = tuple[str, str]
"""`card`, `consumer` or `product`, and an id."""


class Issuer:
    """Everything that one issuer has. The caller moves `now_ms`, and says what is drawn next."""

    def __init__(self, now_ms: int, timeouts_ms: dict[str, int]) -> None:
        self.now_ms = now_ms
        self.subjects: dict[Subject, Data] = {}
        self.version_ms: dict[Subject, int] = {}
        self.vault: dict[str, str] = {}
        self.codes: dict[str, str | None] = {}
        self.retired: set[str] = set()
        self.pending: dict[str, tuple[str, Data]] = {}
        self.cascades: list[tuple[str, Data]] = []
        self._timeouts_ms = timeouts_ms
        self.drawn = 0
        self.next_card_id = "generated-0"
        self.next_last4: str | None = "0000"

    # --- what there is

    def card(self, card_id: str | None) -> Data | None:
        return self.subjects.get(("card", card_id or ""))

    def cards(self) -> dict[str, Data]:
        return {name: one for (kind, name), one in self.subjects.items() if kind == "card"}

    def is_registered(self, card_id: str) -> bool:
        card = self.card(card_id)
        return card is not None and card["origin"] == "REGISTERED"

    def of(self, command: Data) -> Data | None:
        """Whom a command is about."""
        return self.subjects.get(subject_of(command))

    # --- what the rule book says

    def context(self, command: Data, number: Data | None = None, code: str | None = None) -> Data:
        """What a decision may look at; `number` and `code` are in the command's `encryptedData`."""
        card_id = command.get("cardId", "")
        card = self.card(card_id)
        real = self.card(command.get("realCardId") or (card["realCardId"] if card else None))
        consumer_id = command.get("consumerId") or (card["consumerId"] if card else "")
        consumer = self.subjects.get(("consumer", consumer_id))
        product_id = command.get("cardProductId") or (card["cardProductId"] if card else "")
        product = self.subjects.get(("product", product_id))
        of_card = self.codes.get(card_id)
        return {
            "startTimeMs": self.now_ms,
            "versionTimeMs": self.version_ms.get(subject_of(command)),
            "issuerTimeZone": "UTC",
            "consumerState": consumer["state"] if consumer else None,
            "product": product["terms"] if product else None,
            "generatedCardId": self.next_card_id,
            "generatedCardIdInUse": False,
            "generatedLast4": self.next_last4,
            "predecessor": self.card(card["predecessorCardId"]) if card else None,
            "opened": number,
            "panIsFree": self._is_free(number, command.get("newCardId") or card_id),
            "cardCvvMatches": None if code is None or of_card is None else code == of_card,
            "newCard": self.card(command.get("newCardId")),
            "realCard": real,
            "realCardVirtualCards": len(self._concerned(_life_of(real))) if real else 0,
            "pending": None,
            "enrolmentIsPending": any(
                one["command"]["command"] == "CLICK_TO_PAY_ENROLMENT"
                for name, one in self.pending.values()
                if name == card_id
            ),
        }

    def outcome(self, command: Data, context: Data) -> Data:
        return expected(self.of(command), command, context)

    def reply_outcome(self, operation_id: str, reply: Data, context: Data) -> Data:
        card_id, pending = self.pending[operation_id]
        card = self.subjects["card", card_id]
        return expected_reply(card, pending, reply, {**context, "pending": pending})

    def time_out_outcome(self, operation_id: str) -> Data:
        card_id, pending = self.pending[operation_id]
        context = {**self.context(pending["command"]), "pending": pending}
        return expected_time_out(self.subjects["card", card_id], pending, context)

    # --- what it leads to

    def take(
        self,
        command: Data,
        outcome: Data,
        number: Data | None = None,
        operation_id: str | None = None,
    ) -> None:
        """Let the outcome of a command come true, or that of the end of `operation_id`."""
        if outcome["ignored"]:
            return
        if outcome["registersConsumer"]:
            named = {name: command[name] for name in ("issuerId", "consumerId")}
            self.subjects["consumer", command["consumerId"]] = {**named, "state": "ACTIVE"}
        subject = subject_of(command)
        if outcome["endsPending"]:
            del self.pending[operation_id or ""]
        elif outcome["request"] is not None:
            wait_ms = self._timeouts_ms[outcome["request"]]
            pending = {
                "command": command,
                "startTimeMs": self.now_ms,
                "deadlineMs": self.now_ms + wait_ms,
                "incarnation": outcome["subject"]["incarnation"],
            }
            self.pending[operation_id or command["commandId"]] = (subject[1], pending)
        for kind, card_id in outcome["numbers"]:
            self._obey(kind, card_id, number)
        for one in [*outcome["caused"], {"kind": outcome["kind"], "card": outcome["subject"]}]:
            self.drawn += one["kind"] == "CREATE" and outcome["status"] == "SUCCESSFUL"
        for one in outcome["caused"]:
            self._store(("card", one["card"]["cardId"]), one["card"])
        if outcome["subject"] is not None:
            self._store(subject, outcome["subject"])
        if outcome["cascadeReason"] is not None:
            after = outcome["subject"]
            is_card = subject[0] == "card"
            whose = _life_of(after) if is_card else {"consumerId": subject[1]}
            self.cascades += [
                (card["cardId"], cascaded(card, outcome["cascadeReason"]))
                for card in self._concerned(whose)
            ]

    def _store(self, subject: Subject, after: Data) -> None:
        if self.subjects.get(subject) != after:
            self.version_ms[subject] = self.now_ms
        self.subjects[subject] = after

    def _is_free(self, number: Data | None, card_id: str) -> bool:
        if number is None or number["pan"] in self.retired:
            return False
        return {name for name, pan in self.vault.items() if pan == number["pan"]} <= {card_id}

    def _obey(self, kind: str, card_id: str, number: Data | None) -> None:
        if kind == "KEEP_WITH_NEW_EXPIRY":
            assert card_id in self.vault
            return
        if kind == "RETIRE":
            self.retired.add(self.vault.pop(card_id))
            del self.codes[card_id]
            return
        new, code = f"drawn {self.drawn} {self.next_last4}", None
        if kind == "ASSIGN_GIVEN":
            assert number is not None
            new, code = number["pan"], number.get("cvv")
        before = self.vault.get(card_id, new)
        if before != new:
            self.retired.add(before)
        elif card_id in self.codes:
            # The number stays: a new code comes to it, and without one the old code counts on.
            code = code or self.codes[card_id]
        self.vault[card_id], self.codes[card_id] = new, code

    def _concerned(self, whose: Data) -> list[Data]:
        """The cards of a consumer, or the virtual ones of a card, that are not terminal by now."""
        return [
            card
            for card in self.cards().values()
            if whose.items() <= card.items() and card["state"] not in TERMINAL
        ]


def is_left_behind(card: Data, issuer: Issuer) -> bool:
    """Whether the card's consumer, or real card, has left without it."""
    consumer = issuer.subjects["consumer", card["consumerId"]]
    real = issuer.card(card["realCardId"])
    has_left = real is not None and (
        real["state"] in TERMINAL or real["incarnation"] != card["realCardIncarnation"]
    )
    return card["state"] not in TERMINAL and (consumer["state"] == "DELETED" or has_left)


def _life_of(real: Data) -> Data:
    """What its virtual cards say of it."""
    return {"realCardId": real["cardId"], "realCardIncarnation": real["incarnation"]}


def cascaded(card: Data, reason: str, command_id: str = "cascade") -> Data:
    """domain.md 8: the DELETE that a consumer or a real card sends when it leaves."""
    return {
        "commandId": command_id,
        "command": "DELETE",
        "issuerId": card["issuerId"],
        "cardId": card["cardId"],
        "reasonCode": reason,
        "requestor": {"type": "SYSTEM", "id": "SYSTEM"},
        "incarnation": card["incarnation"],
    }


def subject_of(command: Data) -> Subject:
    """Whom a command is about."""
    if command["command"] == "PRODUCT_DEFINE":
        return "product", command["cardProductId"]
    if command["command"].startswith("CONSUMER_"):
        return "consumer", command["consumerId"]
    return "card", command["cardId"]
