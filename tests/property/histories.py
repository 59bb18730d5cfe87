"""What may happen to an issuer, as plain steps: drawn the same for memory and for real servers.

Few ids, numbers and months, so that steps meet. A step does not know what came before it: `fitted`
gives it what the card needs by then, most of the time.
"""

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from tests.oracle.fields import Data, months_after
from tests.oracle.issuer import Issuer
from tests.oracle.registered import JWE
from tests.oracle.situations import REQUESTORS
from tests.oracle.tables import REPLACE_REASONS

CARD_IDS = ["card-1", "card-2", "card-3", "card-4", "card-5"]
REAL_CARD_ID = CARD_IDS[0]
CONSUMER_IDS = ["consumer-1", "consumer-2", "consumer-3"]
# Each keeps the form and scheme that it is defined with first.
PRODUCTS = {
    "plastic": {"form": "PHYSICAL", "scheme": "VISA"},
    "virtual": {"form": "VIRTUAL", "scheme": "MASTERCARD"},
    "transit": {"form": "VIRTUAL", "scheme": "VISA"},
    "amex": {"form": "PHYSICAL", "scheme": "AMEX"},
}
# Valid, and of one length: whether one is a number is judged before, when it is opened.
PANS = [
    *("4000000000000002", "4000000000000010", "4000000000000028", "4000000000000036"),
    *("4000000000000044", "4000000000000051"),
]
CODES = ["111", "222"]


@dataclass(frozen=True, slots=True)
class Step:
    """A command without ids of its own; `number` and `code` are what is in its encryptedData."""

    name: str
    fields: Data
    number: Data | None = None
    code: str | None = None
    fits: bool = True


def fitted(step: Step, issuer: Issuer) -> Step:
    """The step with what its card needs, if it is to fit: the answer, or the fields of its origin.

    A registered card needs its new id and number, which an issued one forbids.
    """
    fields = step.fields
    card_id = fields.get("cardId", "")
    if not step.fits:
        return step
    card = issuer.card(card_id)
    if step.name == "ACTIVATE" and card is not None and issuer.codes.get(card_id):
        return replace(step, code=issuer.codes[card_id], fields={**fields, "encryptedData": JWE})
    if step.name == "ACTIVATE" and card is not None:
        return replace(step, fields={**fields, "last4": card["last4"]})
    forbidden: set[str] = set()
    if step.name == "REPLACE" and not issuer.is_registered(card_id):
        forbidden = {"newCardId", "encryptedData"}
    if step.name == "RENEW" and not issuer.is_registered(card_id):
        forbidden = {"newExp", "encryptedData"}
    kept = {name: value for name, value in fields.items() if name not in forbidden}
    return replace(step, fields=kept, number=None if "encryptedData" in forbidden else step.number)


class Draws:
    """The strategies, for histories that begin in a certain month, (year, month)."""

    def __init__(self, now: tuple[int, int]) -> None:
        self.exps = st.sampled_from([months_after(now, months) for months in (2, 15, 40, 75)])
        self.numbers = st.fixed_dictionaries(
            {
                "pan": st.sampled_from(PANS),
                "exp": self.exps,
                "psn": st.none(),
                "auxiliaryPan": st.none(),
                "auxiliaryExp": st.none(),
                "cvv": st.none() | st.sampled_from(CODES),
            }
        )
        self.answers = st.tuples(st.booleans(), st.none() | self.numbers)

    def products(self) -> st.SearchStrategy[Step]:
        flags: dict[str, st.SearchStrategy[Any]] = {
            "activationMethod": st.sampled_from(["NOTHING", "NOTHING", "LAST4", "CVV"]),
            "implicitActivation": st.booleans(),
            "autoRenew": st.booleans(),
        }
        # A window that is open again right after the renewal would renew once more, under a new id.
        renewals = st.sampled_from([(1, 30), (13, 365), (24, 30)])

        def defined(name: str, drawn: Data, renewal: tuple[int, int]) -> Step:
            months, days = renewal
            fields = {"cardProductId": name, "transactions": name != "transit"}
            again = {"validityMonths": months, "autoRenewDays": days}
            return Step("PRODUCT_DEFINE", {**fields, **PRODUCTS[name], **drawn, **again})

        names = st.sampled_from([*PRODUCTS])
        return st.builds(defined, names, st.fixed_dictionaries(flags), renewals)

    def begin(self) -> st.SearchStrategy[list[Step]]:
        """Every product once, then a few cards."""
        each = st.lists(self.products(), min_size=8, max_size=8).map(_one_of_each)
        first = st.lists(self._new_cards(), min_size=3, max_size=3)
        return st.tuples(each, first).map(lambda both: [*both[0], *both[1]])

    def steps(self) -> st.SearchStrategy[Step]:
        """Any command of an issuer, or of one of the service's own timers."""
        return st.one_of(
            self._new_cards(),
            self._simple(),
            self._simple(),
            self._replacements(),
            self._renewals(),
            self._consumers(),
            self.products(),
        )

    def _new_cards(self) -> st.SearchStrategy[Step]:
        named: dict[str, st.SearchStrategy[Any]] = {
            "cardId": st.sampled_from(CARD_IDS),
            "consumerId": st.sampled_from(CONSUMER_IDS),
            "cardProductId": st.sampled_from([*PRODUCTS, "virtual", "virtual"]),
            "state": st.sampled_from([None, None, "ACTIVE", "INACTIVE"]),
            "realCardId": st.sampled_from([None, None, REAL_CARD_ID]),
        }

        def new(fields: Data, number: Data | None) -> Step:
            if fields["cardProductId"] != "virtual" or fields["cardId"] == REAL_CARD_ID:
                fields = {**fields, "realCardId": None}
            if number is None:
                return Step("CREATE", fields)
            return Step("REGISTER", {**fields, "encryptedData": JWE}, number)

        return st.builds(new, st.fixed_dictionaries(named), st.none() | self.numbers)

    def _simple(self) -> st.SearchStrategy[Step]:
        words: list[tuple[str, Data]] = [
            ("ACTIVATE", {}),
            ("ACTIVATE", {}),
            *(("SUSPEND", {"reasonCode": why}) for why in ("USER_DECISION", "CARD_LOST", "FRAUD")),
            ("SUSPEND", {}),
            ("RESUME", {}),
            ("RESUME", {"reasonCode": "CARD_FOUND"}),
            ("DELETE", {}),
            ("LOCK", {"lock": "PIN"}),
            ("LOCK", {"lock": "CVV2"}),
            ("CARD_PRESENT", {}),
            *(("EXPIRE", {}), ("AUTO_RENEW", {}), ("DELETE_DUE", {})),
            ("UPDATE_CONTROLS", {"controls": {"abroad": False}}),
            ("UPDATE_LIMITS", {"limits": {"day": 1}}),
            ("UPDATE_LIMITS", {"limits": {}}),
            ("PRODUCE", {"distributionChannel": "BRANCH_7"}),
            ("CLICK_TO_PAY_ENROLMENT", {"name": "Ann"}),
            ("CLICK_TO_PAY_UPDATE", {"name": "Ann"}),
            ("CLICK_TO_PAY_OPTOUT", {}),
            ("SUSPEND", {"effectiveDate": "2020-01-01T00:00:00Z"}),
        ]

        def asked(card_id: str, word: tuple[str, Data], who: Data | None, *, fits: bool) -> Step:
            return Step(word[0], {"cardId": card_id, "requestor": who, **word[1]}, fits=fits)

        who = st.sampled_from([None, None, *REQUESTORS])
        return st.builds(
            asked,
            self._any_card(),
            st.sampled_from(words),
            who,
            fits=st.sampled_from([True] * 3 + [False]),
        )

    def _any_card(self) -> st.SearchStrategy[str]:
        # The platform counts the cards that it makes here: these exist after a while.
        return st.sampled_from([*CARD_IDS, *CARD_IDS, "generated-0", "generated-1", "generated-2"])

    def _replacements(self) -> st.SearchStrategy[Step]:
        fields: dict[str, st.SearchStrategy[Any]] = {
            "cardId": self._any_card(),
            "newCardId": st.sampled_from(CARD_IDS),
            "reasonCode": st.sampled_from(REPLACE_REASONS),
            "reason": st.just("Left in a taxi"),
            "encryptedData": st.just(JWE),
        }
        return st.builds(Step, st.just("REPLACE"), st.fixed_dictionaries(fields), self.numbers)

    def _renewals(self) -> st.SearchStrategy[Step]:
        def in_place(card_id: str, exp: str, state: str | None) -> Step:
            v1 = {"newCardId": card_id, "newCardState": state} if state is not None else {}
            return Step("RENEW", {"cardId": card_id, "newExp": exp, **v1})

        def elsewhere(fields: Data, number: Data | None) -> Step:
            if number is None:
                return Step("RENEW", fields, fits=False)
            sealed = {"encryptedData": JWE, "newExp": number["exp"]}
            return Step("RENEW", {**fields, **sealed}, number)

        fields = {
            "cardId": self._any_card(),
            "newCardId": st.sampled_from(CARD_IDS),
            "newCardState": st.sampled_from(["ACTIVE", "INACTIVE"]),
            "reasonCode": st.sampled_from([None, "CARD_LOST"]),
        }
        return st.one_of(
            st.builds(in_place, self._any_card(), self.exps, st.none() | st.just("ACTIVE")),
            st.builds(elsewhere, st.fixed_dictionaries(fields), st.none() | self.numbers),
        )

    def _consumers(self) -> st.SearchStrategy[Step]:
        names = st.sampled_from(["REGISTER", "DEACTIVATE", "REACTIVATE", "REACTIVATE", "DELETE"])
        return st.builds(
            lambda name, who: Step(f"CONSUMER_{name}", {"consumerId": who}),
            names,
            st.sampled_from(CONSUMER_IDS),
        )


def _one_of_each(steps: list[Step]) -> list[Step]:
    drawn = {step.fields["cardProductId"]: step for step in steps}
    plain = {
        name: Step("PRODUCT_DEFINE", {"cardProductId": name, "transactions": False, **terms})
        for name, terms in PRODUCTS.items()
    }
    return [{**plain, **drawn}[name] for name in PRODUCTS]


def command_of(step: Step, issuer_id: str, command_id: str) -> Data:
    """The command as it is on the wire; a None is a field that is absent."""
    named = {"commandId": command_id, "command": step.name, "issuerId": issuer_id}
    return {name: value for name, value in {**named, **step.fields}.items() if value is not None}
