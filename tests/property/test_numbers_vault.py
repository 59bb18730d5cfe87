"""Properties of what guards card numbers: nothing else opens, and nothing hostile raises."""

import json
from base64 import urlsafe_b64encode

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lifecycle.domain.credentials import is_pan, passes_luhn
from lifecycle.domain.errors import ErrorCode
from lifecycle.vault.drawing import NumberRange, check_digit, draw
from lifecycle.vault.keys import Algorithm
from lifecycle.vault.opening import ENCRYPTED_DATA_CHARACTERS_MAX, Opened
from lifecycle.vault.sealing import CardLife, CardNumbers, Sealed, SealError
from tests.unit.vault_keys import PLAINTEXT, encrypted, fingerprints, opener, ring, sealing

_DIGITS = st.text("0123456789", min_size=10, max_size=19)
_OPTIONAL = st.none() | st.text("0123456789", min_size=2, max_size=19)
_NUMBERS = st.builds(
    CardNumbers, pan=_DIGITS, auxiliary_pan=_OPTIONAL, psn=_OPTIONAL, cvv=_OPTIONAL
)
_ID = st.text("ABCabc019_-", min_size=1, max_size=48)
_LIFE = st.builds(CardLife, _ID, _ID, st.integers(1, 2**31 - 1))


def opens(life: CardLife, sealed: Sealed) -> CardNumbers | None:
    try:
        return sealing().unseal(life, sealed)
    except SealError:
        return None


@given(_LIFE, _NUMBERS)
def test_what_is_sealed_is_what_is_unsealed(life: CardLife, numbers: CardNumbers) -> None:
    assert opens(life, sealing().seal(life, numbers)) == numbers


@given(_LIFE, _NUMBERS, st.data())
def test_a_row_with_any_bit_changed_does_not_open(
    life: CardLife, numbers: CardNumbers, data: st.DataObject
) -> None:
    sealed = sealing().seal(life, numbers)
    bit = data.draw(st.integers(0, len(sealed.box) * 8 - 1))
    changed = bytearray(sealed.box)
    changed[bit // 8] ^= 1 << bit % 8
    assert opens(life, Sealed(sealed.kid, bytes(changed))) is None


@given(_LIFE, _LIFE, _NUMBERS)
def test_a_row_opens_for_no_other_card(
    life: CardLife, other: CardLife, numbers: CardNumbers
) -> None:
    assume(life != other)
    assert opens(other, sealing().seal(life, numbers)) is None


@given(_ID, _ID, _DIGITS, _DIGITS)
def test_fingerprints_are_equal_only_for_one_number_of_one_issuer(
    issuer: str, other_issuer: str, pan: str, other_pan: str
) -> None:
    one = fingerprints().of_number(issuer, pan)
    other = fingerprints().of_number(other_issuer, other_pan)
    assert (one == other) == ((issuer, pan) == (other_issuer, other_pan))


@given(st.integers(13, 19), st.text("0123456789", min_size=6, max_size=11))
def test_a_drawn_number_passes_the_luhn_check(digits: int, bin_digits: str) -> None:
    pan = draw(NumberRange("BANK000001", bin_digits, digits))
    assert is_pan(pan)
    assert len(pan) == digits
    assert pan.startswith(bin_digits)


@given(st.text("0123456789", min_size=1, max_size=18))
def test_one_check_digit_fits_and_it_is_ours(digits: str) -> None:
    assert [last for last in "0123456789" if passes_luhn(digits + last)] == [check_digit(digits)]


# --- hostile texts

_SEGMENT = st.binary(max_size=64).map(lambda raw: urlsafe_b64encode(raw).rstrip(b"=").decode())
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3)
    ),
    max_leaves=8,
)
_NAMES = st.sampled_from(
    ["alg", "enc", "kid", "epk", "apu", "apv", "zip", "crit", "typ", "jwk", "x5c", "b64", "p2c"]
)
_KIDS = [key.kid for key in ring().keys]
_VALUES = _JSON | st.sampled_from(
    ["RSA-OAEP-256", "ECDH-ES", "dir", "A256GCM", "DEF", "none", "RSA1_5", *_KIDS]
)
_HEADER = st.dictionaries(_NAMES, _VALUES, max_size=6)
_PLAUSIBLE = st.fixed_dictionaries(
    {
        "alg": st.sampled_from(["RSA-OAEP-256", "ECDH-ES"]),
        "enc": st.just("A256GCM"),
        "kid": st.sampled_from(_KIDS),
        "epk": st.fixed_dictionaries(
            {"kty": st.sampled_from(["EC", "OKP", "oct"]), "crv": st.just("P-256")},
            optional={"x": _SEGMENT | _JSON, "y": _SEGMENT | _JSON, "k": _SEGMENT},
        ),
    },
    optional={"apu": _SEGMENT | _JSON, "apv": _SEGMENT | _JSON, "jku": _JSON, "x5c": _JSON},
)


def _encoded(header: object) -> str:
    return urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()


def code_of(opened: Opened) -> ErrorCode | None:
    return None if opened.failure is None else opened.failure.code


_HOSTILE = (
    st.text(max_size=200)
    | st.lists(_SEGMENT | st.text(max_size=20), min_size=4, max_size=6).map(".".join)
    | st.builds(
        lambda header, rest: ".".join([_encoded(header), *rest]),
        _HEADER | _PLAUSIBLE,
        st.lists(_SEGMENT, min_size=4, max_size=4),
    )
)


@settings(max_examples=500)
@given(_HOSTILE)
def test_a_hostile_text_never_raises_and_never_opens(text: str) -> None:
    opened = opener().open(text)
    assert opened.content is None
    assert code_of(opened) is ErrorCode.DECRYPTION_FAILED
    assert opened.identity == opened.text_identity
    assert opened.identity.startswith("hmac-sha256:")


@given(st.sampled_from([Algorithm.RSA_OAEP_256, Algorithm.ECDH_ES]), st.data())
def test_a_text_with_any_character_changed_does_not_open(
    algorithm: Algorithm, data: st.DataObject
) -> None:
    text = encrypted(PLAINTEXT, algorithm)
    at = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.characters())
    assume(character != text[at])
    opened = opener().open(text[:at] + character + text[at + 1 :])
    assert opened.content is None
    assert code_of(opened) is ErrorCode.DECRYPTION_FAILED


@given(st.binary(max_size=200) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_is_inside_is_a_json_object_or_malformed(plaintext: bytes) -> None:
    opened = opener().open(encrypted(plaintext, Algorithm.ECDH_ES))
    assert (opened.content is None) == (code_of(opened) is ErrorCode.FIELD_INVALID_FORMAT)
    assert opened.identity.startswith("hmac-sha256:")


@given(st.integers(ENCRYPTED_DATA_CHARACTERS_MAX + 1, 65_536))
def test_a_text_that_is_too_long_is_malformed_whatever_it_is(length: int) -> None:
    assert code_of(opener().open("." * length)) is ErrorCode.FIELD_INVALID_FORMAT
