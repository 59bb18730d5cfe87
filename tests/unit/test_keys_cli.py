"""`keys` and `encrypt`: what they print, what they keep to themselves, and their exit codes."""

import json
from base64 import urlsafe_b64decode
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lifecycle.cli.app import app
from lifecycle.vault.fingerprints import fingerprints_with
from lifecycle.vault.keys import Algorithm, load_keys
from lifecycle.vault.opening import Opener
from tests.unit.vault_keys import PLAINTEXT, keys_document, write_keys


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A keys file that the settings name, in an empty folder."""
    path = tmp_path / "keys.json"
    write_keys(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIFECYCLE_KEYS_FILE", str(path))
    return path


def lifecycle(*arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(app, arguments, input=given)


def opened_with(file: Path, text: str) -> object:
    ring = load_keys(file)
    return Opener(ring, fingerprints_with(ring)).open(text.strip()).content


def test_generate_makes_a_file_once(tmp_path: Path) -> None:
    path = tmp_path / "new.json"
    assert lifecycle("keys", "generate", str(path)).exit_code == 0
    assert len(load_keys(path).keys) == 4
    again = lifecycle("keys", "generate", str(path))
    assert again.exit_code == 2
    assert "there already" in again.stderr


def test_list_shows_every_key_and_nothing_of_it(file: Path) -> None:
    shown = lifecycle("keys", "list").stdout
    as_json = lifecycle("keys", "list", str(file), "--json").stdout
    lines = [json.loads(line) for line in as_json.splitlines()]
    for jwk, line in zip(json.loads(keys_document())["keys"], lines, strict=True):
        assert jwk["kid"] == line["kid"]
        assert jwk["kid"] in shown
        assert not {"k", "d", "n", "x"} & line.keys()
        assert jwk.get("k", jwk.get("d")) not in shown + as_json


def test_rotate_makes_the_kind_that_is_named_anew_and_without_one_all_but_the_fingerprints(
    file: Path,
) -> None:
    one = lifecycle("keys", "rotate", "--kind", "fingerprint")
    assert (one.exit_code, one.stdout.count(" is current now")) == (0, 1)
    rest = lifecycle("keys", "rotate", str(file), "--stage")
    assert (rest.exit_code, rest.stdout.count(" is staged now")) == (0, 3)
    assert len(load_keys(file).keys) == 8
    assert lifecycle("keys", "rotate", "--stage").exit_code == 2


def test_what_is_encrypted_for_the_public_keys_opens_with_the_private_ones(file: Path) -> None:
    public = file.with_name("public.json")
    public.write_text(lifecycle("keys", "public").stdout)
    taken = {(jwk["alg"], jwk["enc"]) for jwk in json.loads(public.read_text())["keys"]}
    assert taken == {("RSA-OAEP-256", "A256GCM"), ("ECDH-ES", "A256GCM")}
    public.chmod(0o644)
    for arguments in ([], ["--kind", "ecdh"], ["--to", str(public)]):
        done = lifecycle("encrypt", *arguments, given=json.dumps(PLAINTEXT))
        assert (done.exit_code, done.stderr) == (0, "")
        assert opened_with(file, done.stdout) == PLAINTEXT


def test_of_a_keys_file_with_old_and_staged_keys_the_current_one_is_encrypted_for(
    file: Path,
) -> None:
    lifecycle("keys", "rotate", "--kind", "ecdh")
    lifecycle("keys", "rotate", "--kind", "ecdh", "--stage")
    done = lifecycle("encrypt", "--kind", "ecdh", "--to", str(file), given=json.dumps(PLAINTEXT))
    header = json.loads(urlsafe_b64decode(done.stdout.partition(".")[0] + "=="))
    current = load_keys(file).current(Algorithm.ECDH_ES)
    assert current is not None
    assert header["kid"] == current.kid


def test_a_warning_of_the_files_rights_is_not_among_what_is_printed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_ENVIRONMENT", "development")
    file.chmod(0o644)
    assert len(json.loads(lifecycle("keys", "public").stdout)["keys"]) == 2


def test_what_dev_made_is_used_when_nothing_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIFECYCLE_KEYS_FILE", raising=False)
    monkeypatch.setenv("LIFECYCLE_LOCAL_DIR", str(tmp_path))
    missing = lifecycle("encrypt", given=json.dumps(PLAINTEXT))
    assert missing.exit_code == 2
    assert "LIFECYCLE_KEYS_FILE is not set" in missing.stderr
    write_keys(tmp_path / "keys.json")
    done = lifecycle("encrypt", given=json.dumps(PLAINTEXT))
    assert opened_with(tmp_path / "keys.json", done.stdout) == PLAINTEXT


@pytest.mark.parametrize("given", ["", "4000000000000002", "[1]", "{", "x" * 6_000])
def test_what_is_no_object_is_refused_and_not_repeated(file: Path, given: str) -> None:
    assert file.exists()
    done = lifecycle("encrypt", given=given)
    assert (done.exit_code, done.stdout) == (2, "")
    assert not given or given not in done.stderr


@pytest.mark.parametrize("content", ["", "{}", '{"keys":[]}', '{"keys":[{"alg":"RSA-OAEP-256"}]}'])
def test_encrypting_for_what_is_no_public_key_is_a_sentence(file: Path, content: str) -> None:
    other = file.with_name("other.json")
    other.write_text(content)
    done = lifecycle("encrypt", "--to", str(other), given=json.dumps(PLAINTEXT))
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert lifecycle("encrypt", "--kind", "data", given=json.dumps(PLAINTEXT)).exit_code == 2
