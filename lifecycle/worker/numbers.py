"""Card numbers on their way through a batch: claimed before the decisions, settled after them.

Numbers are claimed after the subjects are read, because the database has to say who may have one
before a decision does. What no decision gave to a card is free again when the transaction ends.
"""

import hmac
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from lifecycle.domain.cards import Card
from lifecycle.domain.commands import (
    CardCommand,
    Command,
    Create,
    Register,
    Renew,
    Replace,
)
from lifecycle.domain.credentials import (
    LAST_DIGITS_SHOWN,
    Credentials,
)
from lifecycle.domain.errors import ErrorCode
from lifecycle.domain.operations import NumberChange, NumberChangeKind
from lifecycle.kafka.commands import Broken, Parsed
from lifecycle.kafka.sensitive import Suspect
from lifecycle.postgres import pans
from lifecycle.postgres.connection import Connection
from lifecycle.postgres.pans import Claims, LifeKey, PanRow, SealedRow, WantedNumber
from lifecycle.vault.drawing import Candidate, NumberRange, Wanted, draw_free, pan_digits
from lifecycle.vault.sealing import CardLife, CardNumbers, Sealed
from lifecycle.worker.opening import Opening, Vault
from lifecycle.worker.pending import command_of, waiting_for
from lifecycle.worker.subjects import Subjects
from lifecycle.worker.taken import Taken

# The incarnation of a claim before the decision; `settle` puts the right one or sets it free.
_NO_LIFE_YET = 0


@dataclass(slots=True)
class Numbers:
    """The numbers of one batch, while it is decided.

    `claims`: what this transaction may give to a card. `holders`: which life has a number now,
    `held`: the same by life, `retired`: what has left with a card; all as the batch goes on.
    `drawn`: by operation, what was wanted, and the number that was drawn for it, None when its
    range has none left. `missing`: what turned out to be wanted only when the batch was decided.
    `known`: what is sealed for the lives that a decision may ask about, or adds to. `rows` are
    stored in the end, the numbers of `replaced` are retired before, but for the fingerprints that
    are `kept`, and those of `ended` after that; `resealed` keep their number; `orphans` were given
    and taken back within the batch.
    """

    vault: Vault | None
    claims: Claims = field(default_factory=dict)
    holders: dict[tuple[str, bytes], LifeKey] = field(default_factory=dict)
    held: dict[LifeKey, set[tuple[str, bytes]]] = field(default_factory=dict)
    retired: set[tuple[str, bytes]] = field(default_factory=set)
    drawn: dict[UUID, tuple[Wanted, str | None]] = field(default_factory=dict)
    missing: dict[UUID, Wanted] = field(default_factory=dict)
    known: dict[LifeKey, CardNumbers] = field(default_factory=dict)
    rows: dict[LifeKey, PanRow] = field(default_factory=dict)
    kept: dict[LifeKey, list[tuple[str, bytes]]] = field(default_factory=dict)
    resealed: dict[LifeKey, SealedRow] = field(default_factory=dict)
    orphans: list[tuple[str, bytes]] = field(default_factory=list)
    replaced: list[LifeKey] = field(default_factory=list)
    ended: list[LifeKey] = field(default_factory=list)

    def is_free(self, issuer_id: str, card_id: str, credentials: Credentials) -> bool:
        """Whether this card may get the numbers of `credentials`: each new, or its own."""
        keys = self._keys(issuer_id, credentials)
        return bool(keys) and all(self._is_free(key, card_id) for key in keys)

    def _is_free(self, key: tuple[str, bytes], card_id: str) -> bool:
        if key in self.retired:
            return False
        holder = self.holders.get(key)
        return key in self.claims if holder is None else holder.card_id == card_id

    def on_cards(self, issuer_id: str, suspects: Sequence[Suspect]) -> list[Suspect]:
        """Those that are a number of a card of the issuer, live or retired, as the batch goes on.

        `claim` has looked up all of them.
        """
        if self.vault is None:
            return []
        return [
            suspect
            for suspect in suspects
            for fingerprint in self.vault.fingerprints.of_number(issuer_id, suspect.digits)
            if (issuer_id, fingerprint) in self.holders or (issuer_id, fingerprint) in self.retired
        ]

    def drawn_last4(self, operation_id: UUID, wanted: Wanted | None) -> str | ErrorCode | None:
        """What a decision may know of the number that was drawn for its card.

        An earlier command of the batch may have made the card that is replaced, or changed the
        range of its product: then the number is missing, and the decision does not count.
        """
        if self.vault is None or wanted is None:
            return None
        drawn_for, pan = self.drawn.get(operation_id, (None, None))
        if drawn_for != wanted:
            self.missing[operation_id] = wanted
            return None
        return ErrorCode.BIN_RANGE_EXHAUSTED if pan is None else pan[-LAST_DIGITS_SHOWN:]

    def cvv_matches(self, card: Card, opening: Opening | None) -> bool | None:
        """Whether the answer of an ACTIVATE is the CVV of the card, in constant time."""
        known = self.known.get(_life_of(card))
        if known is None or known.cvv is None:
            return None
        if opening is None or not isinstance(opening.cvv, str):
            return None
        return hmac.compare_digest(opening.cvv.encode(), known.cvv.encode())

    def apply(
        self,
        changes: Sequence[NumberChange],
        cards: Mapping[str, Card],
        opening: Opening | None,
        operation_id: UUID,
    ) -> None:
        """Do what a decision asks for; `cards` are those it leaves, by id."""
        if self.vault is None:
            return
        for change in changes:
            card = cards[change.card_id]
            match change.kind:
                case NumberChangeKind.RETIRE:
                    self._end(_life_of(card))
                case NumberChangeKind.ASSIGN_GIVEN:
                    assert opening is not None
                    assert isinstance(opening.credentials, Credentials)
                    self._assign(_life_of(card), opening.credentials)
                case NumberChangeKind.ASSIGN_GENERATED:
                    _, pan = self.drawn[operation_id]
                    assert pan is not None, "a card gets no number that was not drawn"
                    assert card.exp is not None
                    self._assign(_life_of(card), Credentials(pan=pan, exp=card.exp))
                case NumberChangeKind.KEEP_WITH_NEW_EXPIRY:
                    continue  # what is sealed does not hold the expiry: the card's row does

    def _assign(self, life: LifeKey, credentials: Credentials) -> None:
        assert self.vault is not None
        keys = self._keys(life.issuer_id, credentials)
        if all(self.holders.get(key) == life for key in keys):
            self._add_to(life, credentials)
            return
        kept = [key for key in keys if self.holders.get(key) == life]
        if life in self.rows:
            # Two numbers for one card in one batch: the first was claimed and never is stored.
            self.orphans += [
                key for key in self.held[life] if key in self.claims and key not in kept
            ]
        self._forget(life)
        self.retired.difference_update(kept)
        self.kept[life] = [key for key in kept if key not in self.claims]
        self.replaced.append(life)
        self.resealed.pop(life, None)
        self.known[life] = CardNumbers(
            pan=credentials.pan,
            auxiliary_pan=credentials.auxiliary_pan,
            psn=credentials.psn,
            cvv=credentials.cvv,
        )
        claimed = tuple(key[1] for key in keys if key in self.claims)
        self.rows[life] = self._sealed(life, claimed)
        self.hold(life, keys)

    def hold(self, life: LifeKey, keys: Collection[tuple[str, bytes]]) -> None:
        """Note that a life has these numbers."""
        assert all(self.holders.get(key, life) == life for key in keys), "another life has it"
        self.holders.update(dict.fromkeys(keys, life))
        self.held.setdefault(life, set()).update(keys)

    def _add_to(self, life: LifeKey, credentials: Credentials) -> None:
        """A renewal that keeps the number of its card brings the new CVV with it (domain.md 3)."""
        known = self.known[life]
        self.known[life] = replace(
            known, psn=credentials.psn or known.psn, cvv=credentials.cvv or known.cvv
        )
        if life in self.rows:
            self.rows[life] = self._sealed(life, self.rows[life].fingerprints)
        elif self.known[life] != known:
            row = self._sealed(life, ())
            self.resealed[life] = SealedRow(row.key_id, row.sealed)

    def _sealed(self, life: LifeKey, fingerprints: tuple[bytes, ...]) -> PanRow:
        assert self.vault is not None
        sealed = self.vault.sealing.seal(CardLife(*life), self.known[life])
        return PanRow(life, sealed.kid, sealed.box, fingerprints)

    def _end(self, life: LifeKey) -> None:
        self._forget(life)
        self.ended.append(life)

    def _forget(self, life: LifeKey) -> None:
        for key in self.held.pop(life, ()):
            del self.holders[key]
            self.retired.add(key)

    def _keys(self, issuer_id: str, credentials: Credentials) -> list[tuple[str, bytes]]:
        if self.vault is None:
            return []
        return [
            (issuer_id, fingerprint)
            for pan in _pans(credentials)
            for fingerprint in self.vault.fingerprints.of_number(issuer_id, pan)
        ]


class NumbersNeededError(Exception):
    """Numbers must be drawn that nobody knew to be needed: nothing of the batch was decided."""

    def __init__(self, wanted: Mapping[UUID, Wanted]) -> None:
        """`wanted`: to be drawn as well, by operation, from the start, in a new transaction."""
        super().__init__(f"{len(wanted)} more numbers are needed")
        self.wanted = wanted


async def claim(
    connection: Connection,
    vault: Vault | None,
    batch: Sequence[Taken],
    found: Subjects,
    also_wanted: Mapping[UUID, Wanted],
) -> Numbers:
    """Claim the numbers that the commands of a batch bring, and draw those that they need.

    Looks up, in one query, who has a number that could not be claimed, and which of the suspects in
    identifiers are numbers.

    `also_wanted` is what an attempt before this one found missing. Every number that a command
    brings is claimed, whether or not its command will be allowed: the decision comes later and may
    not wait for the database.
    """
    numbers = Numbers(vault)
    if vault is None:
        return numbers
    wanted = []
    suspected = [key for taken in batch for key in _suspected(vault, taken)]
    for taken in batch:
        if taken.opening is None or not isinstance(taken.opening.credentials, Credentials):
            continue
        command = _command_of(taken, found)
        if command is None:
            continue  # a reply to nothing that waits
        life = LifeKey(*_getting(command), _NO_LIFE_YET)
        for pan in _pans(taken.opening.credentials):
            fingerprints = vault.fingerprints.of_number(life.issuer_id, pan)
            wanted.append(WantedNumber(fingerprints, life))
    if wanted:
        granted = await pans.claim_numbers(connection, wanted, numbers.claims)
        suspected += [
            (number.life.issuer_id, fingerprint)
            for number, is_granted in zip(wanted, granted, strict=True)
            if not is_granted
            for fingerprint in number.fingerprints
        ]
    # What this transaction has claimed is on no card yet, whatever an identifier says.
    asked = [key for key in dict.fromkeys(suspected) if key not in numbers.claims]
    for key, holder in (await pans.load_holders(connection, asked)).items():
        if holder is None:
            numbers.retired.add(key)
        else:
            numbers.hold(holder, [key])
    wanted_of = {
        taken.operation_id: one
        for taken in batch
        if taken.operation_id is not None and (one := number_wanted(taken, found)) is not None
    }
    await _draw(connection, vault, numbers, {**wanted_of, **also_wanted})
    await _read_known(connection, vault, numbers, batch, found)
    return numbers


def _suspected(vault: Vault, taken: Taken) -> list[tuple[str, bytes]]:
    """What the digits in a record's identifiers would be stored as, were they card numbers."""
    if isinstance(taken.parsed, Broken):
        return []
    issuer_id = taken.parsed.subject.issuer_id
    return [
        (issuer_id, fingerprint)
        for suspect in taken.parsed.suspects
        for fingerprint in vault.fingerprints.of_number(issuer_id, suspect.digits)
    ]


def number_wanted(taken: Taken, subjects: Subjects) -> Wanted | None:
    """What is to be drawn for the issued card that a command may make, as things are now."""
    if not isinstance(taken.parsed, Parsed):
        return None
    match taken.parsed.command:
        case Register():
            return None
        case Create() as command:
            product_key = command.issuer_id, command.card_product_id
            card_id: str | None = command.card_id
        case Replace(new_card_id=None) as command:
            card = subjects.cards[command.issuer_id, command.card_id].entity
            if card is None:
                return None
            product_key = command.issuer_id, card.card_product_id
            card_id = taken.generated_card_id
        case _:
            return None
    product = subjects.products[product_key].entity
    if product is None or card_id is None:
        return None
    terms = product.terms
    return Wanted(NumberRange(product.issuer_id, terms.bin, pan_digits(terms.scheme)), card_id)


async def _draw(
    connection: Connection, vault: Vault, numbers: Numbers, wanted: Mapping[UUID, Wanted]
) -> None:
    """Draw a number for every command that may make an issued card."""

    async def claim_candidates(candidates: Sequence[Candidate]) -> Sequence[bool]:
        return await pans.claim_numbers(
            connection,
            [
                WantedNumber(
                    vault.fingerprints.of_number(candidate.range.issuer_id, candidate.pan),
                    LifeKey(candidate.range.issuer_id, candidate.card_id, _NO_LIFE_YET),
                )
                for candidate in candidates
            ],
            numbers.claims,
        )

    if wanted:
        drawn = await draw_free(list(wanted.values()), claim_candidates, vault.filling)
        numbers.drawn = {
            operation_id: (one, pan)
            for (operation_id, one), pan in zip(wanted.items(), drawn, strict=True)
        }


async def _read_known(
    connection: Connection,
    vault: Vault,
    numbers: Numbers,
    batch: Sequence[Taken],
    found: Subjects,
) -> None:
    """Read what is sealed for the cards that are activated by CVV, or renewed with a number."""
    lives = set()
    for taken in batch:
        if taken.opening is None or not isinstance(taken.parsed, Parsed):
            continue
        card = found.of(taken.parsed.subject).entity
        is_asked = isinstance(taken.opening.cvv, str)
        if card is not None and (is_asked or isinstance(taken.parsed.command, Renew)):
            lives.add(_life_of(card))
    if lives:
        for life, row in (await pans.load_pans(connection, sorted(lives))).items():
            numbers.known[life] = vault.sealing.unseal(
                CardLife(*life), Sealed(row.key_id, row.sealed)
            )


async def settle(connection: Connection, numbers: Numbers) -> None:
    """Store and retire what the decisions led to, and set free what no card got."""
    if numbers.replaced:
        kept = [key for keys in numbers.kept.values() for key in keys]
        await pans.retire_pans(connection, numbers.replaced, kept)
    if numbers.orphans:
        await pans.retire_claimed(connection, numbers.orphans, numbers.claims)
    if numbers.claims or numbers.rows:
        await pans.store_pans(connection, list(numbers.rows.values()), numbers.claims)
    if numbers.resealed:
        await pans.reseal_pans(connection, numbers.resealed)
    if numbers.ended:
        await pans.retire_pans(connection, numbers.ended)


def _command_of(taken: Taken, found: Subjects) -> Command | None:
    """The command that a number is for: the record's own, or that of the operation it ends."""
    if isinstance(taken.parsed, Parsed):
        return taken.parsed.command
    row = waiting_for(taken, found.pending)
    return None if row is None else command_of(row)


def _getting(command: Command) -> tuple[str, str]:
    """The card that gets the number in a command's `encryptedData`."""
    match command:
        case Replace(new_card_id=str(card_id)) | Renew(new_card_id=str(card_id)):
            return command.issuer_id, card_id
        case CardCommand():
            return command.issuer_id, command.card_id
    raise AssertionError(f"{type(command).__name__} has no encryptedData")


def _pans(credentials: Credentials) -> list[str]:
    auxiliary = credentials.auxiliary_pan
    return [credentials.pan] if auxiliary is None else [credentials.pan, auxiliary]


def _life_of(card: Card) -> LifeKey:
    return LifeKey(card.issuer_id, card.card_id, card.incarnation)
