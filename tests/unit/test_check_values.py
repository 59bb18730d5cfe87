"""What the database keeps of a key: enough to know it again, and nothing else."""

from typing import Any

from joserfc.jwk import OctKey

from lifecycle.vault.check_values import CHECK_VALUE_BYTES, check_value, keys_at_rest
from lifecycle.vault.fingerprints import fingerprints_with
from lifecycle.vault.keys import Algorithm, Key
from tests.unit.vault_keys import ring, ring_of

SECRET = OctKey.generate_key(256)


def a_key(kid: str = "k", alg: str = "HS256", secret: OctKey = SECRET, **members: Any) -> Key:  # noqa: ANN401 - JSON
    [key] = ring_of([{**secret.as_dict(), "kid": kid, "alg": alg, **members}]).keys
    return key


def test_the_keys_at_rest_are_those_for_fingerprints_and_for_numbers() -> None:
    assert [key.algorithm for key in keys_at_rest(ring())] == [Algorithm.HS256, Algorithm.A256GCM]


def test_the_same_key_has_the_same_value_whatever_its_status() -> None:
    assert check_value(a_key()) == check_value(a_key(status="previous", iat=1))
    assert len(check_value(a_key())) == CHECK_VALUE_BYTES


def test_another_key_name_or_use_has_another_value() -> None:
    keys = [a_key(), a_key(secret=OctKey.generate_key(256)), a_key(kid="k2"), a_key(alg="A256GCM")]
    assert len({check_value(key) for key in keys}) == len(keys)


def test_a_value_is_neither_the_key_nor_a_fingerprint_that_the_key_makes() -> None:
    key = a_key(kid="4000000000000002")
    assert check_value(key) != SECRET.raw_value
    made = fingerprints_with(ring_of([{**SECRET.as_dict(), "kid": "k", "alg": "HS256"}]))
    assert check_value(key) not in made.of_number("BANK000001", "4000000000000002")
    assert check_value(key).hex() not in made.of_text("4000000000000002")
