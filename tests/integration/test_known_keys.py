"""The database knows its keys: who comes with others does not start (docs/decisions/0040)."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from joserfc.jwk import OctKey
from pydantic import SecretStr

from lifecycle.local import Servers
from lifecycle.postgres.connection import Pool, open_pool
from lifecycle.postgres.known_keys import load_known_keys
from lifecycle.postgres.pans import (
    Claims,
    LifeKey,
    PanRow,
    WantedNumber,
    claim_numbers,
    retire_pans,
    store_pans,
)
from lifecycle.settings import Settings, SettingsError
from lifecycle.vault.fingerprints import Fingerprints, fingerprints_with
from lifecycle.vault.keys import Algorithm, KeyRing, KeysError, parse_keys
from lifecycle.vault.keys_file import rotate_file
from lifecycle.vault.sealing import CardLife, CardNumbers, sealing_with
from lifecycle.worker import known_keys
from lifecycle.worker.known_keys import keys_in_use
from lifecycle.worker.service import run_worker
from tests.support import bank
from tests.support.bank import Message, card
from tests.support.ground import connected, own_database, with_database
from tests.support.guarantees import verify_all
from tests.support.waiting import SECONDS_MAX
from tests.support.worker import running_worker
from tests.unit.vault_keys import encrypted, keys_document, write_keys

PAN = "4000000000000002"
OTHER_PAN = "4000000000000010"
LIFE = LifeKey("BANK000001", "card-1", 1)

Jwk = dict[str, Any]


@asynccontextmanager
async def _empty(servers: Servers, template: str) -> AsyncIterator[Settings]:
    async with own_database(servers, template) as name:
        yield Settings(database_url=SecretStr(with_database(servers.database_url, name)))


@pytest.fixture
async def pool(servers: Servers, template: str) -> AsyncIterator[Pool]:
    """An empty database of its own."""
    async with _empty(servers, template) as settings, await open_pool(settings) as opened:
        yield opened


def fingerprint(kid: str, status: str = "previous") -> Jwk:
    return {**OctKey.generate_key(256).as_dict(), "kid": kid, "alg": "HS256", "status": status}


def data(kid: str, status: str = "previous") -> Jwk:
    return {**OctKey.generate_key(256).as_dict(), "kid": kid, "alg": "A256GCM", "status": status}


F1, F2 = fingerprint("f1", "current"), fingerprint("f2")
D1, D2 = data("d1", "current"), data("d2")
STAGED = {"status": "next"}


def ring_of(*jwks: Jwk) -> KeyRing:
    return parse_keys(json.dumps({"keys": jwks}).encode(), Path("keys.json"))


def kids(ring: KeyRing | None) -> list[str]:
    assert ring is not None
    return [key.kid for key in ring.keys]


async def known_kids(pool: Pool) -> list[str]:
    return [key.kid for key in await load_known_keys(pool)]


async def refused(pool: Pool, ring: KeyRing | None) -> str:
    before = await load_known_keys(pool)
    with pytest.raises(KeysError) as error:
        await keys_in_use(pool, ring)
    assert await load_known_keys(pool) == before
    return str(error.value)


async def adopt(pool: Pool, ring: KeyRing) -> list[str]:
    async with pool.acquire() as connection, connection.transaction():
        return [key.kid for key in await known_keys.adopt(connection, ring)]


async def store(pool: Pool, ring: KeyRing, life: LifeKey = LIFE, pan: str = PAN) -> None:
    """A number as a worker of any version stores it."""
    sealed = sealing_with(ring).seal(CardLife(*life), CardNumbers(pan=pan))
    fingerprints = fingerprints_with(ring).of_number(life.issuer_id, pan)
    async with pool.acquire() as connection, connection.transaction():
        claims: Claims = {}
        await claim_numbers(connection, [WantedNumber(fingerprints, life)], claims)
        await store_pans(connection, [PanRow(life, sealed.kid, sealed.box, fingerprints)], claims)


async def test_the_first_process_makes_its_keys_known_and_the_next_finds_them(pool: Pool) -> None:
    ring = ring_of(F1, D1)
    assert kids(await keys_in_use(pool, ring)) == ["d1", "f1"]
    assert await known_kids(pool) == ["d1", "f1"]
    assert kids(await keys_in_use(pool, ring)) == ["d1", "f1"]
    async with pool.acquire() as connection:
        rows = str(await connection.fetch("SELECT * FROM known_key"))
    for jwk in (F1, D1):
        assert jwk["k"] not in rows


async def test_of_processes_with_different_files_that_start_at_once_one_makes_its_keys_known(
    pool: Pool,
) -> None:
    rings = [
        ring_of(fingerprint(f"f-{name}", "current"), data(f"d-{name}", "current"))
        for name in range(6)
    ]
    # The same names as another file has are the same to nobody.
    rings += [ring_of(fingerprint("f-0", "current"), data("d-0", "current")) for _ in range(2)]
    results = await asyncio.gather(
        *(keys_in_use(pool, ring) for ring in rings), return_exceptions=True
    )
    [first] = [result for result in results if isinstance(result, KeyRing)]
    assert all(isinstance(result, KeyRing | KeysError) for result in results)
    assert sorted(kids(first)) == await known_kids(pool)


async def test_a_process_without_keys_is_refused_where_keys_are_known(pool: Pool) -> None:
    assert await keys_in_use(pool, None) is None
    await keys_in_use(pool, ring_of(F1, D1))
    assert "not set" in await refused(pool, None)


async def test_a_key_that_is_known_by_its_name_as_another_one_is_refused(pool: Pool) -> None:
    await keys_in_use(pool, ring_of(F1, D1))
    for other in (
        ring_of(fingerprint("f1", "current"), D1),
        ring_of(F1, data("d1", "current")),
    ):
        told = await refused(pool, other)
        assert "is not the one that the database knows by this name" in told
        with pytest.raises(KeysError, match="by this name"):
            await adopt(pool, other)


async def test_a_file_that_lacks_a_known_key_is_refused(pool: Pool) -> None:
    await keys_in_use(pool, ring_of(F1, F2, D1, D2))
    for missing, ring in (("f2", ring_of(F1, D1, D2)), ("d2", ring_of(F1, F2, D1))):
        assert f"key {missing}, which the database knows" in await refused(pool, ring)
        # With one more, it is no newer file.
        more = KeyRing((*ring.keys, *ring_of(fingerprint("f3")).keys))
        assert f"key {missing}, which the database knows" in await refused(pool, more)
        with pytest.raises(KeysError, match=missing):
            await adopt(pool, more)


@pytest.mark.parametrize("new", [fingerprint("new"), data("new")], ids=["fingerprint", "data"])
async def test_a_new_key_is_refused_until_it_is_made_known(pool: Pool, new: Jwk) -> None:
    await keys_in_use(pool, ring_of(F1, D1))
    newer = ring_of(F1, D1, new)
    assert "lifecycle keys adopt" in await refused(pool, newer)
    assert await adopt(pool, newer) == ["new"]
    assert await adopt(pool, newer) == []
    assert "new" in kids(await keys_in_use(pool, newer))


async def test_a_staged_key_is_not_used_before_it_is_known_and_every_file_has_it_then(
    pool: Pool,
) -> None:
    """The steps of a rotation with many workers; at each, every worker may start anew."""
    older = ring_of(F1, D1)
    staged = ring_of(F1, D1, F2 | STAGED, D2 | STAGED)
    await keys_in_use(pool, older)
    # One worker has the new file, another not yet: both start, and use the same keys.
    for ring in (older, staged):
        assert kids(await keys_in_use(pool, ring)) == ["d1", "f1"]
    # All have it: the key is made known. Who was left behind is told.
    assert await adopt(pool, staged) == ["f2", "d2"]
    assert kids(await keys_in_use(pool, staged)) == ["d1", "d2", "f1", "f2"]
    assert "the newest keys file" in await refused(pool, older)
    # Made current, in one file before the other.
    current = ring_of(F1 | {"status": "previous"}, F2 | {"status": "current"}, D1, D2)
    for ring in (staged, current):
        assert kids(await keys_in_use(pool, ring)) == ["d1", "d2", "f1", "f2"]


async def test_the_order_of_a_file_does_not_matter(pool: Pool) -> None:
    """The oldest fingerprint key makes the content hashes, whichever comes first in the file."""
    first = await keys_in_use(pool, ring_of(F1, D1))
    await adopt(pool, ring_of(F2, F1, D1))
    turned = await keys_in_use(pool, ring_of(F2, F1, D1))
    assert first is not None
    assert turned is not None
    identities = {fingerprints_with(ring).of_text("rubbish") for ring in (first, turned)}
    assert len(identities) == 1


# --- a database of the version before: it holds numbers, and knows no key


async def test_a_database_with_numbers_takes_the_keys_that_they_were_stored_with(
    pool: Pool,
) -> None:
    await store(pool, ring_of(F1, D1))
    later = ring_of(F1, F2, D1 | {"status": "previous"}, D2 | {"status": "current"})
    await store(pool, later, LifeKey("BANK000001", "card-2", 1), OTHER_PAN)
    assert kids(await keys_in_use(pool, later)) == ["d1", "d2", "f1", "f2"]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (ring_of(F1, F2, data("d1", "current")), "does not open the numbers"),
        (ring_of(F1, F2, data("d3", "current")), "does not open the numbers"),
        (ring_of(fingerprint("f1", "current"), F2, D1), "fingerprinted with other keys"),
        (ring_of(F1, D1), "fingerprinted with other keys"),
        (ring_of(F2 | {"status": "current"}, D1), "fingerprinted with other keys"),
    ],
    ids=["another data key", "no data key", "another fingerprint key", "one less", "not the first"],
)
async def test_a_database_with_numbers_takes_no_other_keys(
    pool: Pool, other: KeyRing, told: str
) -> None:
    await store(pool, ring_of(F1, F2, D1))
    assert told in await refused(pool, other)
    with pytest.raises(KeysError, match=told):
        await adopt(pool, other)
    assert await known_kids(pool) == []


async def test_of_numbers_that_have_all_left_somebody_must_say_the_keys(pool: Pool) -> None:
    ring = ring_of(F1, D1)
    await store(pool, ring)
    async with pool.acquire() as connection, connection.transaction():
        await retire_pans(connection, [LIFE])
    assert "say so with `lifecycle keys adopt`" in await refused(pool, ring)
    assert await adopt(pool, ring) == ["f1", "d1"]
    assert kids(await keys_in_use(pool, ring)) == ["d1", "f1"]


# --- what is known stays


async def statements_refused(pool: Pool, *statements: str) -> None:
    for statement in statements:
        with pytest.raises(asyncpg.RaiseError, match="in use"):
            await pool.execute(statement)


async def test_the_database_forgets_no_key_that_is_in_use(pool: Pool) -> None:
    ring = ring_of(F1, D1, D2)
    await keys_in_use(pool, ring)
    await store(pool, ring)
    await statements_refused(
        pool,
        "DELETE FROM known_key WHERE key_id = 'd1'",
        "DELETE FROM known_key WHERE key_id = 'f1'",
        "UPDATE known_key SET check_value = '\\x00'",
        "UPDATE known_key SET ordinal = 7 WHERE key_id = 'd2'",
        "TRUNCATE known_key",
    )
    await pool.execute("DELETE FROM known_key WHERE key_id = 'd2'")
    assert await known_kids(pool) == ["d1", "f1"]


async def test_a_database_without_numbers_forgets_keys_that_were_made_known_by_mistake(
    pool: Pool,
) -> None:
    await keys_in_use(pool, ring_of(F1, D1))
    await pool.execute("DELETE FROM known_key")
    assert kids(await keys_in_use(pool, ring_of(F2 | {"status": "current"}, D1))) == ["d1", "f2"]


# --- workers


async def _stopped(settings: Settings) -> str:
    """Why a worker does not start."""
    with pytest.raises(SettingsError) as error:
        async with asyncio.timeout(SECONDS_MAX):
            await run_worker(settings, asyncio.Event())
    return str(error.value)


def register(card_id: str, command_id: str = "register", **fields: object) -> Message:
    needed = {"consumerId": "consumer-1", "cardProductId": bank.VIRTUAL}
    sealed = {"encryptedData": encrypted({"pan": PAN, "exp": "1229"})}
    return card(card_id, "REGISTER", command_id, **{**needed, **sealed, **fields})


@pytest.fixture
async def bank_with_keys(ground: Settings, tmp_path: Path) -> Settings:
    """Ground whose worker has keys, and products for cards."""
    write_keys(tmp_path / "keys.json")
    settings = ground.model_copy(update={"keys_file": tmp_path / "keys.json"})
    await outcomes(settings, *bank.PRODUCTS)
    return settings


async def outcomes(settings: Settings, *messages: Message) -> list[str]:
    async with running_worker(settings):
        places = await bank.send(settings, messages)
        evidence = await verify_all(settings)
    return evidence.outcomes(places)


async def test_a_worker_with_another_keys_file_gives_no_number_to_a_second_card(
    bank_with_keys: Settings, tmp_path: Path
) -> None:
    """domain.md 4: seen before, two live cards with one number."""
    assert await outcomes(bank_with_keys, register("one")) == ["SUCCESSFUL"]
    other = tmp_path / "other.json"
    jwks = [
        fingerprint("fingerprint-other", "current") if jwk["alg"] == Algorithm.HS256 else jwk
        for jwk in json.loads(keys_document())["keys"]
    ]
    other.write_text(json.dumps({"keys": jwks}))
    other.chmod(0o600)
    await bank.send(bank_with_keys, [register("two")])
    told = await _stopped(bank_with_keys.model_copy(update={"keys_file": other}))
    assert str(other) in told
    assert "which the database knows" in told
    told = await _stopped(bank_with_keys.model_copy(update={"keys_file": None}))
    assert told.startswith("LIFECYCLE_KEYS_FILE")
    async with connected(bank_with_keys) as connection:
        # Nothing was taken by either: the right worker does it.
        assert await connection.fetchval("SELECT count(*) FROM card") == 1
    assert await outcomes(bank_with_keys) == []
    async with connected(bank_with_keys) as connection:
        assert await connection.fetchval("SELECT count(*) FROM pan") == 1


async def test_production_does_not_start_without_keys(ground: Settings) -> None:
    """docs/decisions/0018 holds for development only."""
    told = await _stopped(ground.model_copy(update={"environment": "production"}))
    assert told.startswith("LIFECYCLE_KEYS_FILE is not set")
    assert "lifecycle keys generate" in told


# --- the content hash of what does not open (design.md 5, "Same content")


async def _stored_hashes(settings: Settings) -> set[bytes]:
    async with connected(settings) as connection:
        rows: Sequence[Any] = await connection.fetch(
            "SELECT content_hash FROM operation WHERE aggregateid LIKE '%/shut%'"
        )
    return {bytes(row[0]) for row in rows}


def unkeyed_hash(message: Message) -> bytes:
    """What anyone can work out of a command: its content with its defaults (design.md 5)."""
    assert message.value is not None
    body = json.loads(message.value)
    requestor = {"type": "ISSUER", "id": bank.ISSUER}
    content = {"requestor": requestor, "state": "ACTIVE", **body}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return sha256(canonical.encode()).digest()[:16]


async def test_what_did_not_open_is_the_same_again_after_a_rotation_and_its_hash_is_keyed(
    bank_with_keys: Settings,
) -> None:
    shut = register("shut-1", encryptedData=PAN)
    assert await outcomes(bank_with_keys, shut) == ["DECRYPTION_FAILED"]
    [stored] = await _stored_hashes(bank_with_keys)
    assert stored != unkeyed_hash(shut)

    assert bank_with_keys.keys_file is not None
    rotate_file(bank_with_keys.keys_file, Algorithm.HS256)
    async with connected(bank_with_keys) as connection, connection.transaction():
        ring = parse_keys(bank_with_keys.keys_file.read_bytes(), bank_with_keys.keys_file)
        assert len(await known_keys.adopt(connection, ring)) == 1
    assert await outcomes(bank_with_keys, shut, register("shut-1", encryptedData="other")) == [
        "NOTHING",
        "IDEMPOTENCY_CONFLICT",
    ]


async def test_what_the_version_before_recorded_without_a_key_is_still_a_duplicate(
    bank_with_keys: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut = register("shut-1", encryptedData=PAN)
    with monkeypatch.context() as before:
        before.setattr(Fingerprints, "of_text", lambda _, text: text)
        assert await outcomes(bank_with_keys, shut) == ["DECRYPTION_FAILED"]
    assert await _stored_hashes(bank_with_keys) == {unkeyed_hash(shut)}, "as it was stored then"
    assert await outcomes(bank_with_keys, shut, register("shut-1", encryptedData="other")) == [
        "NOTHING",
        "IDEMPOTENCY_CONFLICT",
    ]


async def test_what_did_not_open_before_its_key_came_is_still_a_duplicate(
    bank_with_keys: Settings,
) -> None:
    assert bank_with_keys.keys_file is not None
    whole = bank_with_keys.keys_file.read_text()
    document = json.loads(whole)
    ecdh_only = [jwk for jwk in document["keys"] if jwk["alg"] != Algorithm.RSA_OAEP_256]
    bank_with_keys.keys_file.write_text(json.dumps({"keys": ecdh_only}))
    early = register("shut-1")
    assert await outcomes(bank_with_keys, early) == ["DECRYPTION_FAILED"]
    bank_with_keys.keys_file.write_text(whole)
    assert await outcomes(bank_with_keys, early, register("shut-1")) == [
        "NOTHING",
        "IDEMPOTENCY_CONFLICT",
    ]


async def test_the_error_of_an_operation_names_the_member_or_says_why_nothing_opened(
    bank_with_keys: Settings,
) -> None:
    sealed = {"pan": PAN, "exp": "12/29"}
    messages = [
        register("bad-exp", encryptedData=encrypted(sealed)),
        register("unknown-member", encryptedData=encrypted({**sealed, PAN: "x"})),
        register("no-jwe", encryptedData="rubbish"),
    ]
    await outcomes(bank_with_keys, *messages)
    async with connected(bank_with_keys) as connection:
        rows = await connection.fetch("SELECT aggregateid, payload FROM operation")
    errors = {
        row[0].split("/")[1]: json.loads(row[1])["operation"].get("error", "") for row in rows
    }
    assert errors["bad-exp"].endswith(" Field: encryptedData.exp.")
    assert errors["unknown-member"].endswith(" Field: encryptedData.")
    assert "no compact JWE" in errors["no-jwe"]
    assert all(len(error) <= 256 for error in errors.values())
    assert PAN not in str(errors)
