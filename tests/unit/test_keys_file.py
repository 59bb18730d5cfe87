"""The keys file: what is taken, what is refused, and that a rotation loses nothing."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from lifecycle.vault import keys
from lifecycle.vault.fingerprints import fingerprints_with
from lifecycle.vault.keys import Algorithm, KeysError, Status, load_keys, parse_keys, public_jwks
from lifecycle.vault.keys_file import ensure_file, generate_file, rotate_file
from lifecycle.vault.sealing import CardLife, CardNumbers, sealing_with
from tests.unit.vault_keys import capture_log, keys_document, ring, write_keys

ANYWHERE = Path("keys.json")
LIFE = CardLife("BANK000001", "card-1", 1)
NUMBERS = CardNumbers(pan="4000000000000002")


def jwk(key: RSAKey | ECKey | OKPKey | OctKey, **members: str) -> dict[str, Any]:
    return {**key.as_dict(private=key.is_private), "kid": "k1", **members}


def refusal(*jwks: dict[str, Any]) -> str:
    with pytest.raises(KeysError) as refused:
        parse_keys(json.dumps({"keys": list(jwks)}).encode(), ANYWHERE)
    return str(refused.value)


def test_a_new_file_has_one_current_key_of_each_algorithm_and_is_its_owners_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "keys.json"
    generate_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    loaded = load_keys(path)
    assert [key.algorithm for key in loaded.keys] == list(Algorithm)
    assert {key.status for key in loaded.keys} == {Status.CURRENT}
    assert [file.name for file in tmp_path.iterdir()] == ["keys.json"]


def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text("precious")
    with pytest.raises(KeysError, match="there already"):
        generate_file(path)
    assert not ensure_file(path)
    assert path.read_text() == "precious"
    assert [file.name for file in tmp_path.iterdir()] == ["keys.json"]


def test_a_file_in_no_folder_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="can't be written"):
        generate_file(tmp_path / "none" / "keys.json")
    with pytest.raises(KeysError, match="can't be read"):
        load_keys(tmp_path / "none.json")


def test_a_file_that_others_may_read_is_taken_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys.json"
    logs = capture_log(monkeypatch, keys)
    write_keys(path)
    assert logs == []
    path.chmod(0o640)
    load_keys(path)
    assert [line["event"] for line in logs] == ["keys_file_open_to_others"]


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_rotation_makes_a_new_key_current_and_keeps_the_old_one(
    tmp_path: Path, algorithm: Algorithm
) -> None:
    path = tmp_path / "keys.json"
    before = write_keys(path)
    old = before.current(algorithm)
    kid = rotate_file(path, algorithm)
    after = load_keys(path)
    now = after.current(algorithm)
    assert old is not None
    assert now is not None
    assert now.kid == kid != old.kid
    kept = after.by_kid(old.kid)
    assert kept is not None
    assert kept.status is Status.PREVIOUS
    assert kept.material.as_dict(private=True) == old.material.as_dict(private=True)
    assert len(after.keys) == len(before.keys) + 1


def test_rotation_keeps_the_rights_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write_keys(path)
    path.chmod(0o640)
    rotate_file(path, Algorithm.A256GCM)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_rotation_through_a_link_changes_the_file_and_not_the_link(tmp_path: Path) -> None:
    path, link = tmp_path / "keys.json", tmp_path / "link.json"
    write_keys(path)
    link.symlink_to(path)
    kid = rotate_file(link, Algorithm.A256GCM)
    assert link.is_symlink()
    assert load_keys(path).by_kid(kid) is not None


def test_two_rotations_at_once_lose_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    before = write_keys(path)
    with ThreadPoolExecutor(3) as threads:
        made = list(threads.map(lambda _: rotate_file(path, Algorithm.A256GCM), range(6)))
    after = load_keys(path)
    assert {key.kid for key in after.keys} == {key.kid for key in before.keys} | set(made)


def test_a_staged_key_is_known_first_and_current_at_the_next_rotation(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    before = write_keys(path)
    staged = rotate_file(path, Algorithm.RSA_OAEP_256, stage=True)
    between = load_keys(path)
    known = between.by_kid(staged)
    assert known is not None
    assert known.status is Status.NEXT
    current, old = (ring.current(Algorithm.RSA_OAEP_256) for ring in (between, before))
    assert current is not None
    assert old is not None
    assert current.kid == old.kid
    assert staged not in {jwk["kid"] for jwk in public_jwks(between)["keys"]}
    with pytest.raises(KeysError, match="staged already"):
        rotate_file(path, Algorithm.RSA_OAEP_256, stage=True)
    assert rotate_file(path, Algorithm.RSA_OAEP_256) == staged
    after = load_keys(path)
    assert after.current(Algorithm.RSA_OAEP_256) == after.by_kid(staged)
    assert len(after.keys) == len(before.keys) + 1


def test_what_was_sealed_before_a_rotation_opens_after_it(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    before = sealing_with(write_keys(path)).seal(LIFE, NUMBERS)
    kid = rotate_file(path, Algorithm.A256GCM)
    sealing = sealing_with(load_keys(path))
    assert sealing.unseal(LIFE, before) == NUMBERS
    after = sealing.seal(LIFE, NUMBERS)
    assert after.kid == kid != before.kid
    assert sealing.unseal(LIFE, after) == NUMBERS


def test_a_fingerprint_key_that_is_added_changes_no_fingerprint_that_was_there(
    tmp_path: Path,
) -> None:
    path = tmp_path / "keys.json"
    before = fingerprints_with(write_keys(path))
    rotate_file(path, Algorithm.HS256)
    after = fingerprints_with(load_keys(path))
    old = before.of_number("BANK000001", "4000000000000002")
    new = after.of_number("BANK000001", "4000000000000002")
    assert len(old) == 1
    assert len(new) == 2
    assert new[0] == old[0] != new[1]
    content = {"pan": "4000000000000002"}
    assert before.of_content(content) == after.of_content(content)


def test_the_public_keys_hold_nothing_private() -> None:
    published = public_jwks(ring())["keys"]
    assert [jwk["alg"] for jwk in published] == ["RSA-OAEP-256", "ECDH-ES"]
    for published_jwk in published:
        assert not {"d", "p", "q", "dp", "dq", "qi", "oth", "k"} & published_jwk.keys()


@pytest.mark.parametrize("missing", list(Algorithm))
def test_a_file_without_a_key_that_is_needed_is_refused(tmp_path: Path, missing: Algorithm) -> None:
    path = tmp_path / "keys.json"
    jwks = [one for one in json.loads(keys_document())["keys"] if one["alg"] != missing]
    path.write_text(json.dumps({"keys": jwks}))
    if missing in {Algorithm.RSA_OAEP_256, Algorithm.ECDH_ES}:
        # One of the two is enough.
        assert load_keys(path).current(missing) is None
        return
    with pytest.raises(KeysError, match=missing):
        load_keys(path)


def test_a_file_that_opens_no_encrypted_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    jwks = [one for one in json.loads(keys_document())["keys"] if one["kty"] == "oct"]
    path.write_text(json.dumps({"keys": jwks}))
    with pytest.raises(KeysError, match="no current RSA-OAEP-256 or ECDH-ES"):
        load_keys(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"keys": {}}', b'{"keys": [1]}', b'{"keys": [{}]}', b"\xff", b"{" * 9999],
)
def test_what_is_no_jwk_set_is_refused(content: bytes) -> None:
    with pytest.raises(KeysError, match="no JWK Set of ours"):
        parse_keys(content, ANYWHERE)


@pytest.mark.parametrize("curve", ["P-256", "P-384", "P-521"])
def test_the_nist_curves_are_taken(curve: Literal["P-256", "P-384", "P-521"]) -> None:
    loaded = parse_keys(json.dumps({"keys": [jwk(ECKey.generate_key(curve))]}).encode(), ANYWHERE)
    assert loaded.keys[0].algorithm is Algorithm.ECDH_ES
    assert loaded.keys[0].size == curve


def test_x25519_is_taken_and_curves_for_signatures_are_not() -> None:
    good = jwk(OKPKey.generate_key("X25519"))
    assert parse_keys(json.dumps({"keys": [good]}).encode(), ANYWHERE).keys[0].size == "X25519"
    assert "its curve" in refusal(jwk(OKPKey.generate_key("Ed25519")))
    assert "its curve" in refusal(jwk(ECKey.generate_key("secp256k1")))


@pytest.mark.filterwarnings("ignore:Key size should be:joserfc.errors.SecurityWarning")
def test_weak_keys_are_refused() -> None:
    assert "2048" in refusal(jwk(RSAKey.generate_key(1024)))
    assert "32 bytes" in refusal(jwk(OctKey.generate_key(128), alg="A256GCM"))
    assert "32 bytes" in refusal(jwk(OctKey.generate_key(512), alg="A256GCM"))
    assert "32 bytes" in refusal(jwk(OctKey.generate_key(128), alg="HS256"))


def test_a_key_for_something_else_is_refused() -> None:
    curve_key = ECKey.generate_key("P-256")
    assert "does not fit" in refusal(jwk(curve_key, alg="RSA-OAEP-256"))
    assert '"use"' in refusal(jwk(curve_key, use="sig"))
    assert "needs" in refusal(jwk(OctKey.generate_key(256)))
    assert "alg" in refusal(jwk(curve_key, alg="RSA1_5"))
    assert "public part" in refusal({**curve_key.as_dict(private=False), "kid": "k1"})
    assert "kid" in refusal(jwk(curve_key, kid="with blank"))
    assert "two keys with the kid k1" in refusal(jwk(curve_key), jwk(curve_key, status="previous"))
    assert "current" in refusal(jwk(curve_key), jwk(ECKey.generate_key("P-256"), kid="k2"))


def test_no_refusal_repeats_a_key() -> None:
    key = ECKey.generate_key("P-256").as_dict(private=True)
    secret = str(key["d"])
    for broken in (
        {**key, "kid": "k1", "x": "AAAA"},
        {**key, "kid": "k1", "d": secret[:-4]},
        {**key, "kid": "k1", "crv": secret},
        {**key, "kid": secret + "!"},
        {**key, "kid": "k1", "status": secret},
        {**key, "kid": "k1", "alg": secret},
        {**key, "kid": 1},
    ):
        assert secret[:-4] not in refusal(broken)


def test_neither_keys_nor_what_works_with_them_show_a_key() -> None:
    shown = repr(ring()) + repr(sealing_with(ring())) + repr(fingerprints_with(ring()))
    for one in json.loads(keys_document())["keys"]:
        for member in ("k", "d", "n"):
            if member in one:
                assert one[member] not in shown
    for key in ring().of(Algorithm.HS256):
        assert repr(key.material.raw_value) not in shown
