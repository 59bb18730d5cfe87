"""What production refuses to start with, and what allows it all the same."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lifecycle.cli.app import app
from lifecycle.risks import is_open_to_others, is_plaintext, is_unverified
from lifecycle.settings import SettingsError, load_settings
from tests.unit.vault_keys import write_keys

VERIFIED = "postgresql://user:secret@db.bank.example:5432/lifecycle?sslmode=verify-full"


@pytest.fixture(autouse=True)
def production(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is set: so it is production."""
    for name in os.environ:
        if name.startswith(("LIFECYCLE_", "PG")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SASL_PLAINTEXT"])
def test_kafka_without_encryption_is_a_risk(protocol: str) -> None:
    assert is_plaintext(protocol)


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL"])
def test_kafka_with_encryption_is_none(protocol: str) -> None:
    assert not is_plaintext(protocol)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:secret@db:5432/lifecycle",
        "postgresql://db/lifecycle",
        "postgresql://user@127.0.0.1:5432/lifecycle",
        "postgresql://user@[::1]:5432/lifecycle",
        *(
            f"postgresql://db/lifecycle?sslmode={mode}"
            for mode in ("disable", "allow", "prefer", "require", "", "verify_full", "VERIFY-FULL")
        ),
        "postgresql://db/lifecycle?sslmode=verify-full&sslmode=disable",
        "postgresql:///lifecycle?host=db",
        "postgresql://%2Fvar%2Frun,db/lifecycle",
        "postgresql:///lifecycle?host=/var/run,db",
        "postgresql:///lifecycle?host=/var/run&hostaddr=10.0.0.1",
        "postgresql:///lifecycle?service=elsewhere",
        "postgresql://sslmode=verify-full@db/lifecycle",
    ],
)
def test_a_database_that_anyone_may_answer_for_is_a_risk(url: str) -> None:
    assert is_unverified(url)


@pytest.mark.parametrize(
    "url",
    [
        VERIFIED,
        "postgresql://db/lifecycle?application_name=x&sslmode=verify-ca&sslrootcert=/ca.pem",
        "postgresql:///lifecycle",
        "postgresql://user:secret@/lifecycle",
        "postgresql://:5433/lifecycle",
        "postgresql:///lifecycle?host=/var/run/postgresql",
        "postgresql://user@%2Fvar%2Frun%2Fpostgresql:5432/lifecycle",
    ],
)
def test_a_database_that_is_verified_or_behind_a_unix_socket_is_none(url: str) -> None:
    assert not is_unverified(url)


def test_a_host_from_the_environment_counts_where_the_address_names_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGHOST", "db.bank.example")
    assert is_unverified("postgresql:///lifecycle")
    assert not is_unverified("postgresql:///lifecycle?host=/var/run/postgresql")
    monkeypatch.setenv("PGHOST", "/var/run/postgresql")
    assert not is_unverified("postgresql:///lifecycle")


OURS, ROOTS, SOMEONES = 1000, 0, 2000


@pytest.mark.parametrize(
    ("owner", "mode", "is_open"),
    [
        *((OURS, mode, False) for mode in (0o600, 0o400)),
        *((OURS, mode, True) for mode in (0o640, 0o440, 0o604, 0o660, 0o644)),
        # As Kubernetes mounts a secret: for everyone by default, for its group with an fsGroup.
        *((ROOTS, mode, False) for mode in (0o600, 0o640, 0o440)),
        *((ROOTS, mode, True) for mode in (0o444, 0o644, 0o660, 0o641)),
        *((SOMEONES, mode, True) for mode in (0o600, 0o640, 0o644)),
    ],
)
def test_a_keys_file_is_its_users_alone_or_roots_and_its_groups(
    owner: int, mode: int, monkeypatch: pytest.MonkeyPatch, *, is_open: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: OURS)
    file = os.stat_result((stat.S_IFREG | mode, 0, 0, 1, owner, 0, 0, 0, 0, 0))
    assert is_open_to_others(file) is is_open


def test_root_looks_at_another_users_keys_file_as_that_user_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: ROOTS)
    for owner in (ROOTS, OURS):
        for mode, is_open in ((0o600, False), (0o640, True), (0o604, True)):
            file = os.stat_result((stat.S_IFREG | mode, 0, 0, 1, owner, 0, 0, 0, 0, 0))
            assert is_open_to_others(file) is is_open


# --- at the start of a process


def risky(tmp_path: Path) -> dict[str, dict[str, str]]:
    """For each risk, the settings that have this one alone."""
    keys_file = tmp_path / "keys.json"
    write_keys(keys_file)
    keys_file.chmod(0o644)
    return {
        "kafka-plaintext": {"LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS": "kafka:9092"},
        "database-unverified": {"LIFECYCLE_DATABASE_URL": "postgresql://user:secret@db/lifecycle"},
        "keys-file-readable": {"LIFECYCLE_KEYS_FILE": str(keys_file)},
    }


def refusal() -> str:
    with pytest.raises(SettingsError) as refused:
        load_settings()
    return str(refused.value)


@pytest.mark.parametrize("risk", ["kafka-plaintext", "database-unverified", "keys-file-readable"])
def test_production_refuses_each_risk_unless_a_setting_allows_this_one(
    risk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for others in (risky(tmp_path)[risk], {"LIFECYCLE_INSECURE_ALLOWED": ""}):
        for name, value in others.items():
            monkeypatch.setenv(name, value)
    told = refusal()
    assert f"LIFECYCLE_INSECURE_ALLOWED={risk}" in told
    assert "LIFECYCLE_ENVIRONMENT=development" in told
    assert "secret" not in told
    assert told.count("\n") == 0

    rest = {"kafka-plaintext", "database-unverified", "keys-file-readable"} - {risk}
    monkeypatch.setenv("LIFECYCLE_INSECURE_ALLOWED", ",".join(rest))
    assert refusal() == told
    monkeypatch.setenv("LIFECYCLE_INSECURE_ALLOWED", f"{risk} , {rest.pop()}")
    assert risk in load_settings().insecure_allowed
    monkeypatch.setenv("LIFECYCLE_INSECURE_ALLOWED", "")
    monkeypatch.setenv("LIFECYCLE_ENVIRONMENT", "development")
    load_settings()


def test_the_owners_address_of_the_database_is_judged_as_the_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LIFECYCLE_DATABASE_URL", VERIFIED)
    monkeypatch.setenv("LIFECYCLE_DATABASE_OWNER_URL", "postgresql://owner:secret@db/lifecycle")
    assert refusal().startswith("LIFECYCLE_DATABASE_OWNER_URL: ")


def test_every_risk_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for settings in risky(tmp_path).values():
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
    assert refusal().count("LIFECYCLE_INSECURE_ALLOWED=") == 3


def test_what_is_safe_is_not_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys_file = tmp_path / "keys.json"
    write_keys(keys_file)
    monkeypatch.setenv("LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS", "kafka:9093")
    monkeypatch.setenv("LIFECYCLE_KAFKA_SECURITY_PROTOCOL", "SSL")
    monkeypatch.setenv("LIFECYCLE_DATABASE_URL", VERIFIED)
    monkeypatch.setenv("LIFECYCLE_KEYS_FILE", str(keys_file))
    assert load_settings().insecure_allowed == ()


def test_a_risk_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_INSECURE_ALLOWED", "kafka-plaintext,everything")
    assert "LIFECYCLE_INSECURE_ALLOWED" in refusal()


@pytest.mark.parametrize(
    "command",
    [
        *(["worker"], ["migrate"], ["topics", "check"], ["send", "-"], ["watch"], ["dev"]),
        *(["card", "show", "BANK000001", "c"], ["dead-letters", "list"], ["keys", "list"]),
    ],
    ids=" ".join,
)
def test_every_process_asks_at_its_start_and_ends_with_2(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment: dict[str, Any] = {}
    for settings in risky(tmp_path).values():
        environment |= settings
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert result.stderr.count("LIFECYCLE_INSECURE_ALLOWED=") == 3
    assert "secret" not in result.stderr
