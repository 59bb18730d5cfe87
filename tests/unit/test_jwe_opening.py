"""What opens, what does not, and that it fails in the way of the rule book (domain.md 8)."""

import asyncio
import json
import threading
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import pytest
from joserfc import jwe
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from lifecycle.domain.credentials import Credentials, judge_credentials
from lifecycle.domain.errors import ErrorCode
from lifecycle.domain.fields import Refusal
from lifecycle.vault import opening
from lifecycle.vault.encrypting import encrypt_for
from lifecycle.vault.fingerprints import fingerprints_with
from lifecycle.vault.keys import Algorithm, KeyRing, public_jwks
from lifecycle.vault.opening import ENCRYPTED_DATA_CHARACTERS_MAX, Opened, Opener
from tests.unit.vault_keys import PLAINTEXT, encrypted, fingerprints, opener, ring, ring_of

DOES_NOT_OPEN = ErrorCode.DECRYPTION_FAILED
MALFORMED = ErrorCode.FIELD_INVALID_FORMAT

_EVERYTHING = jwe.JWERegistry(
    algorithms=[
        *("RSA-OAEP", "RSA-OAEP-256", "ECDH-ES", "ECDH-ES+A128KW", "A256KW", "dir", "DEF"),
        *("PBES2-HS256+A128KW", "A256GCM", "A128GCM", "A128CBC-HS256", "A256CBC-HS512"),
    ],
    strict_check_header=False,
)


def own_key(algorithm: Algorithm) -> Key:
    key = ring().current(algorithm)
    assert key is not None
    return key.material


def made(key: Key, plaintext: dict[str, str] | None = None, **header: Any) -> str:  # noqa: ANN401 - JSON
    """A JWE with a header of one's choice; a name whose value is None is left out."""
    content = json.dumps(PLAINTEXT if plaintext is None else plaintext)
    wanted = {"alg": "RSA-OAEP-256", "enc": "A256GCM", **header}
    return jwe.encrypt_compact(
        {name: value for name, value in wanted.items() if value is not None},
        content,
        key,
        registry=_EVERYTHING,
    )


def with_header(text: str, **changes: Any) -> str:  # noqa: ANN401 - JSON
    """The same text under another header, which the tag then does not fit."""
    encoded, _, rest = text.partition(".")
    header = json.loads(urlsafe_b64decode(encoded + "=="))
    changed = json.dumps({**header, **changes}).encode()
    return urlsafe_b64encode(changed).rstrip(b"=").decode() + "." + rest


def fingerprint_jwk(kid: str) -> dict[str, Any]:
    """A new fingerprint key, as a keys file has it."""
    return {**OctKey.generate_key(256).as_dict(private=True), "kid": kid, "alg": "HS256"}


def fails(text: str, failure: ErrorCode) -> Opened:
    opened = opener().open(text)
    assert opened.failure is not None
    assert opened.failure.code is failure
    assert opened.content is None
    return opened


def told(text: str, *, by: Opener | None = None) -> str | None:
    """Why a text does not open, as the operation's error says it."""
    opened = (by or opener()).open(text)
    assert opened.failure is not None
    assert opened.failure.code is DOES_NOT_OPEN
    return opened.failure.sentence


@pytest.mark.parametrize("algorithm", [Algorithm.RSA_OAEP_256, Algorithm.ECDH_ES])
def test_what_is_encrypted_for_a_public_key_opens(algorithm: Algorithm) -> None:
    opened = opener().open(encrypted(PLAINTEXT, algorithm))
    assert opened.failure is None
    assert opened.content is not None
    credentials = judge_credentials(opened.content)
    assert isinstance(credentials, Credentials)
    assert credentials.pan == PLAINTEXT["pan"]


@pytest.mark.parametrize(
    "key", [ECKey.generate_key("P-384"), ECKey.generate_key("P-521"), OKPKey.generate_key("X25519")]
)
def test_every_curve_that_is_taken_opens(key: ECKey | OKPKey) -> None:
    keys = ring_of([{**key.as_dict(private=True), "kid": "other"}])
    other = Opener(keys, fingerprints())
    text = encrypt_for(public_jwks(keys), Algorithm.ECDH_ES, json.dumps(PLAINTEXT).encode())
    assert other.open(text).content == PLAINTEXT


def test_a_text_without_kid_is_for_the_current_key() -> None:
    assert opener().open(made(own_key(Algorithm.RSA_OAEP_256))).content == PLAINTEXT


def test_headers_that_mean_nothing_here_are_ignored() -> None:
    text = made(own_key(Algorithm.RSA_OAEP_256), typ="JOSE", cty="json", iat=1, x="y")
    assert opener().open(text).content == PLAINTEXT


def test_an_unknown_kid_does_not_open() -> None:
    key = own_key(Algorithm.RSA_OAEP_256)
    fails(made(key, kid="unknown"), DOES_NOT_OPEN)
    fails(made(key, kid=""), DOES_NOT_OPEN)


def test_the_kid_of_a_key_for_something_else_does_not_open() -> None:
    for algorithm in (Algorithm.ECDH_ES, Algorithm.A256GCM, Algorithm.HS256):
        other = ring().current(algorithm)
        assert other is not None
        fails(made(own_key(Algorithm.RSA_OAEP_256), kid=other.kid), DOES_NOT_OPEN)


def test_a_data_key_opens_no_command() -> None:
    data_key = ring().current(Algorithm.A256GCM)
    assert data_key is not None
    fails(made(data_key.material, alg="dir", kid=data_key.kid), DOES_NOT_OPEN)
    fails(made(data_key.material, alg="A256KW", kid=data_key.kid), DOES_NOT_OPEN)


@pytest.mark.parametrize("alg", ["RSA-OAEP", "PBES2-HS256+A128KW"])
def test_an_algorithm_that_is_not_on_the_list_does_not_open(alg: str) -> None:
    key: Key = own_key(Algorithm.RSA_OAEP_256) if alg == "RSA-OAEP" else OctKey.generate_key(256)
    fails(made(key, alg=alg), DOES_NOT_OPEN)


@pytest.mark.parametrize("enc", ["A128GCM", "A128CBC-HS256", "A256CBC-HS512"])
def test_another_content_encryption_does_not_open(enc: str) -> None:
    fails(made(own_key(Algorithm.RSA_OAEP_256), enc=enc), DOES_NOT_OPEN)


def test_key_wrapping_after_a_key_agreement_does_not_open() -> None:
    fails(made(own_key(Algorithm.ECDH_ES), alg="ECDH-ES+A128KW"), DOES_NOT_OPEN)


def test_nothing_is_decompressed(monkeypatch: pytest.MonkeyPatch) -> None:
    text = made(own_key(Algorithm.RSA_OAEP_256), {"pan": "0" * 1_000_000}, zip="DEF")
    assert len(text) < ENCRYPTED_DATA_CHARACTERS_MAX

    def explodes(*_: object, **__: object) -> None:
        raise AssertionError("something was decompressed")

    monkeypatch.setattr(zlib, "decompress", explodes)
    monkeypatch.setattr(zlib, "decompressobj", explodes)
    fails(text, DOES_NOT_OPEN)
    fails(with_header(encrypted(PLAINTEXT), zip=None), DOES_NOT_OPEN)


def test_a_critical_header_does_not_open() -> None:
    fails(made(own_key(Algorithm.RSA_OAEP_256), crit=["typ"], typ="JOSE"), DOES_NOT_OPEN)
    fails(with_header(encrypted(PLAINTEXT), crit=[]), DOES_NOT_OPEN)


def test_another_number_of_segments_does_not_open() -> None:
    text = encrypted(PLAINTEXT)
    for other in ("", ".", "....", text + ".", text + ".x", text.rpartition(".")[0], "a.b.c"):
        fails(other, DOES_NOT_OPEN)


@pytest.mark.parametrize("segment", range(5))
def test_a_text_with_one_changed_segment_does_not_open(segment: int) -> None:
    segments = encrypted(PLAINTEXT).split(".")
    changed = "A" if segments[segment][0] != "A" else "B"
    segments[segment] = changed + segments[segment][1:]
    fails(".".join(segments), DOES_NOT_OPEN)


@pytest.mark.parametrize("length", range(16))
def test_a_tag_that_is_cut_short_does_not_open(length: int) -> None:
    head, _, tag = encrypted(PLAINTEXT).rpartition(".")
    short = urlsafe_b64encode(urlsafe_b64decode(tag + "==")[:length]).rstrip(b"=").decode()
    fails(f"{head}.{short}", DOES_NOT_OPEN)


def test_a_foreign_key_does_not_open() -> None:
    fails(made(RSAKey.generate_key(2048)), DOES_NOT_OPEN)
    fails(made(ECKey.generate_key("P-256"), alg="ECDH-ES"), DOES_NOT_OPEN)


@pytest.mark.parametrize(
    "epk",
    [
        None,
        1,
        [],
        {},
        {"kty": "EC"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-256", "x": 1, "y": 1},
        {"kty": "EC", "crv": "none", "x": "AA", "y": "AA"},
        {"kty": "OKP", "crv": "X25519", "x": "A" * 43},
        {"kty": "oct", "k": "AAAA"},
        ECKey.generate_key("P-384").as_dict(private=False),
    ],
)
def test_an_ephemeral_key_that_is_none_does_not_open(epk: object) -> None:
    fails(with_header(encrypted(PLAINTEXT, Algorithm.ECDH_ES), epk=epk), DOES_NOT_OPEN)


@pytest.mark.parametrize(
    "header",
    [b"", b"[]", b"null", b'"x"', b"{}", b"\xff", b"[" * 700, b'{"alg":1,"enc":1}', b'{"alg":[]}'],
)
def test_a_header_that_is_none_does_not_open(header: bytes) -> None:
    _, _, rest = encrypted(PLAINTEXT).partition(".")
    fails(urlsafe_b64encode(header).rstrip(b"=").decode() + "." + rest, DOES_NOT_OPEN)


def test_deep_nesting_in_a_header_does_not_open() -> None:
    nested: list[Any] = []
    for _ in range(100):
        nested = [nested]
    fails(made(own_key(Algorithm.RSA_OAEP_256), x=nested), DOES_NOT_OPEN)


def test_more_than_8192_characters_are_malformed_and_not_opened() -> None:
    longest = "x" * ENCRYPTED_DATA_CHARACTERS_MAX
    fails(longest, DOES_NOT_OPEN)
    assert fails(longest + "x", MALFORMED).failure == Refusal(MALFORMED, "encryptedData")


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        b"[]",
        b"null",
        b'"4000000000000002"',
        b"4000000000000002",
        b"{",
        b'{"pan":"1","pan":"2"}',
        b'{"pan":NaN}',
        b'{"pan":1e999}',
        b'{"pan":' + b"9" * 30 + b"}",
        b'{"pan":' + b"9" * 5000 + b"}",
        b'{"pan":"\\ud800"}',
        b"\xff\xfe",
        b'\xef\xbb\xbf{"pan":"1"}',
        b"[" * 5_000,
        b'{"pan":' * 700,
    ],
)
def test_what_opens_and_is_no_json_object_is_malformed(plaintext: bytes) -> None:
    first, second = (fails(encrypted(plaintext), MALFORMED) for _ in range(2))
    assert first.identity == second.identity
    assert first.failure == Refusal(MALFORMED, "encryptedData", opening.NO_OBJECT)


def test_the_members_are_judged_by_the_domain() -> None:
    for plaintext in ({}, {"pan": 1, "exp": "1229"}, {**PLAINTEXT, "other": "x"}):
        content = opener().open(encrypted(plaintext)).content
        assert content == plaintext
        judged = judge_credentials(content)
        assert isinstance(judged, Refusal)
        assert judged.code is MALFORMED


def test_a_member_that_is_null_counts_as_absent() -> None:
    with_null = opener().open(encrypted({**PLAINTEXT, "psn": None}))
    assert with_null.content == PLAINTEXT
    assert with_null.identity == opener().open(encrypted(PLAINTEXT)).identity


def test_the_same_content_encrypted_again_has_the_same_identity() -> None:
    texts = [
        encrypted(PLAINTEXT),
        encrypted(PLAINTEXT),
        encrypted(PLAINTEXT, Algorithm.ECDH_ES),
        encrypted(dict(reversed(PLAINTEXT.items()))),
        encrypted(json.dumps(PLAINTEXT, indent=2).encode()),
    ]
    assert len(set(texts)) == len(texts)
    assert len({opener().open(text).identity for text in texts}) == 1


def test_other_content_has_another_identity() -> None:
    others = [PLAINTEXT, {**PLAINTEXT, "exp": "1230"}, {"pan": PLAINTEXT["pan"]}, {}]
    assert len({opener().open(encrypted(other)).identity for other in others}) == len(others)


def test_what_does_not_open_is_the_same_as_an_equal_text_only() -> None:
    """design.md 5, "Same content"."""
    texts = ["", "x", "x" * 9_000, with_header(encrypted(PLAINTEXT), kid="unknown")]
    identities = [opener().open(text).identity for text in texts]
    assert len(set(identities)) == len(texts)
    assert [opener().open(text).identity for text in texts] == identities


def test_what_stands_for_a_text_that_does_not_open_is_keyed() -> None:
    """A card number that was sent in clear by mistake can't be guessed from its hash."""
    number = PLAINTEXT["pan"]
    other_keys = Opener(ring(), fingerprints_with(ring_of([fingerprint_jwk("other")])))
    here, there = (one.open(number) for one in (opener(), other_keys))
    assert number not in here.identity
    assert here.identity != there.identity


def test_what_stands_for_a_text_stays_when_a_fingerprint_key_is_added() -> None:
    """docs/decisions/0015: only the oldest key makes it."""
    oldest, added = fingerprint_jwk("oldest"), fingerprint_jwk("added") | {"status": "next"}
    before, after = (
        Opener(ring(), fingerprints_with(ring_of(jwks))) for jwks in ([oldest], [oldest, added])
    )
    for text in ("rubbish", encrypted(PLAINTEXT)):
        assert before.open(text).identity == after.open(text).identity


def test_a_text_is_known_again_once_its_key_is_there() -> None:
    """It did not open where its key was not known yet, and opens now: the very same command."""
    text = encrypted(PLAINTEXT, Algorithm.ECDH_ES)
    rsa_only = KeyRing(tuple(ring().of(Algorithm.RSA_OAEP_256)))
    earlier, now = Opener(rsa_only, fingerprints()).open(text), opener().open(text)
    assert earlier.failure is not None
    assert now.content == PLAINTEXT
    assert now.identity != earlier.identity
    assert now.text_identity == earlier.identity


# --- why it does not open: as much as can be said without telling anything of a key


@pytest.mark.parametrize(
    "text",
    ["", "4000000000000002", "a.b.c", '{"protected":"eyJ9"}', "\u00e9.b.c.d.e", "W10.b.c.d.e"],
)
def test_what_is_no_compact_jwe_is_told_so(text: str) -> None:
    assert told(text) == opening.NOT_COMPACT


@pytest.mark.parametrize("alg", [None, "RSA-OAEP", "dir", 1, ["RSA-OAEP-256"]])
def test_an_alg_that_is_not_taken_is_told_with_those_that_are(alg: object) -> None:
    sentence = told(with_header(encrypted(PLAINTEXT), alg=alg))
    assert sentence == opening.ALGORITHM_NOT_TAKEN
    assert all(taken in sentence for taken in ("RSA-OAEP-256", "ECDH-ES", "A256GCM"))


@pytest.mark.parametrize("enc", [None, "A128GCM", "A256CBC-HS512", 1])
def test_an_enc_that_is_not_taken_is_told_with_the_one_that_is(enc: object) -> None:
    sentence = told(with_header(encrypted(PLAINTEXT), enc=enc))
    assert sentence == opening.ENCRYPTION_NOT_TAKEN
    assert "A256GCM" in sentence


@pytest.mark.parametrize("name", ["zip", "crit"])
def test_a_header_that_is_not_taken_is_told_by_its_name(name: str) -> None:
    sentence = told(with_header(encrypted(PLAINTEXT), **{name: "DEF"}))
    assert sentence is not None
    assert f"holds {name}," in sentence


def test_a_kid_that_no_key_has_is_told_and_not_repeated() -> None:
    sensitive = "4000000000000002"
    sentence = told(with_header(encrypted(PLAINTEXT), kid=sensitive))
    assert sentence == opening.NO_SUCH_KEY
    assert sensitive not in sentence


def test_the_kid_of_a_key_for_something_else_is_not_told_from_an_unknown_one() -> None:
    for algorithm in (Algorithm.ECDH_ES, Algorithm.A256GCM, Algorithm.HS256):
        other = ring().current(algorithm)
        assert other is not None
        assert told(with_header(encrypted(PLAINTEXT), kid=other.kid)) == opening.NO_SUCH_KEY


def test_without_a_kid_an_alg_that_has_no_current_key_is_told() -> None:
    rsa_only = Opener(KeyRing(tuple(ring().of(Algorithm.RSA_OAEP_256))), fingerprints())
    text = made(ECKey.generate_key("P-256"), alg="ECDH-ES")
    assert told(text, by=rsa_only) == opening.NO_CURRENT_KEY


def test_whatever_fails_once_a_key_is_tried_is_told_alike() -> None:
    """Nothing may be learned of a key from what is said."""
    head, _, tag = encrypted(PLAINTEXT).rpartition(".")
    wrapped = encrypted(PLAINTEXT).split(".")
    failures = [
        made(RSAKey.generate_key(2048)),
        made(ECKey.generate_key("P-256"), alg="ECDH-ES"),
        f"{head}.{'A' * len(tag)}",
        f"{head}.A",
        ".".join([wrapped[0], "AAAA", *wrapped[2:]]),
        with_header(encrypted(PLAINTEXT, Algorithm.ECDH_ES), epk=1),
        with_header(encrypted(PLAINTEXT), typ="other"),
    ]
    assert {told(text) for text in failures} == {opening.DOES_NOT_OPEN}


def test_every_reason_fits_into_the_error_of_an_operation() -> None:
    """domain.md 5: at most 256 characters."""
    sentences = [
        *(opening.NOT_COMPACT, opening.ALGORITHM_NOT_TAKEN, opening.ENCRYPTION_NOT_TAKEN),
        *(opening.HEADER_NOT_TAKEN, opening.NO_SUCH_KEY, opening.NO_CURRENT_KEY),
        *(opening.DOES_NOT_OPEN, opening.NO_OBJECT),
    ]
    assert all(
        len(f"{sentence} Field: encryptedData.auxiliaryExp.") <= 256 for sentence in sentences
    )


def test_an_opened_text_shows_nothing_of_itself() -> None:
    text = encrypted(PLAINTEXT)
    opened = opener().open(text)
    for secret in (PLAINTEXT["pan"], text, opened.identity, opened.text_identity):
        assert secret not in repr(opened)


async def test_many_are_opened_in_their_order_on_threads() -> None:
    pans = [f"{number:016}" for number in range(40)]
    texts = [encrypted({"pan": pan}, Algorithm.ECDH_ES) for pan in pans]
    opened = await opener().open_all([*texts, "broken"])
    assert [one.content and one.content["pan"] for one in opened[:-1]] == pans
    assert opened[-1].failure == Refusal(DOES_NOT_OPEN, sentence=opening.NOT_COMPACT)


async def test_a_few_are_opened_in_place_and_equal_ones_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[threading.Thread] = []
    count = jwe.decrypt_compact

    def counting(*arguments: Any, **named: Any) -> object:  # noqa: ANN401 - handed on
        threads.append(threading.current_thread())
        return count(*arguments, **named)

    monkeypatch.setattr(jwe, "decrypt_compact", counting)
    one, other = encrypted(PLAINTEXT, Algorithm.ECDH_ES), encrypted({}, Algorithm.ECDH_ES)
    opened = await opener().open_all([one, other, one, one])
    assert threads == [threading.main_thread()] * 2
    assert opened[0] is opened[2] is opened[3]
    assert opened[1].content == {}
    assert await opener().open_all([]) == []


async def test_the_event_loop_goes_on_while_many_are_opened() -> None:
    texts = [encrypted({"n": str(number)}, Algorithm.ECDH_ES) for number in range(200)]
    all_opened = asyncio.ensure_future(opener().open_all(texts))
    turns = 0
    while not all_opened.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10
    assert all(one.failure is None for one in all_opened.result())
