"""The command line without servers: arguments, exit codes, and what is said of wrong settings."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lifecycle.cli.app import app
from lifecycle.domain.commands import CommandName
from lifecycle.domain.diagram import state_diagram

runner = CliRunner()

PROGRAM = Path(sys.executable).with_name("lifecycle")

COMMANDS = [
    ["dev"],
    ["worker"],
    ["migrate"],
    ["topics", "create"],
    ["topics", "check"],
    ["send"],
    ["watch"],
    ["card", "show"],
    ["operations", "list"],
    ["operations", "show"],
    ["retention"],
    ["dead-letters", "list"],
    ["dead-letters", "show"],
    ["dead-letters", "resend"],
    ["diagram"],
    ["schema"],
]
NEED_KAFKA = [
    ["topics", "create"],
    ["topics", "check"],
    ["send", "-"],
    ["watch"],
    ["dead-letters", "list"],
    ["dead-letters", "show", "0-0"],
    ["dead-letters", "resend", "0-0"],
    ["worker"],
]
NEED_DATABASE = [
    ["migrate"],
    ["card", "show", "BANK000001", "c"],
    ["operations", "list", "BANK000001", "c"],
    ["operations", "show", "BANK000001", "c", "o"],
    ["retention", "--dry-run"],
]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server is set, and none could be reached by chance."""
    # What production refuses of an address is told elsewhere, in `test_risks.py`.
    monkeypatch.setenv("LIFECYCLE_ENVIRONMENT", "development")
    monkeypatch.setenv("LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS", "")
    monkeypatch.setenv("LIFECYCLE_DATABASE_URL", "")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_a_help_text_with_an_example(command: list[str]) -> None:
    result = runner.invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Example: lifecycle " + " ".join(command) in " ".join(result.output.split())


@pytest.mark.parametrize("command", NEED_KAFKA, ids=" ".join)
def test_a_missing_kafka_setting_is_named(command: list[str]) -> None:
    result = runner.invoke(app, command)
    assert result.exit_code == 2
    assert "LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS is not set" in result.stderr


@pytest.mark.parametrize("command", NEED_DATABASE, ids=" ".join)
def test_a_missing_database_setting_is_named(command: list[str]) -> None:
    result = runner.invoke(app, command)
    assert result.exit_code == 2
    assert "LIFECYCLE_DATABASE_URL is not set" in result.stderr


@pytest.mark.parametrize("command", [*NEED_KAFKA, *NEED_DATABASE, ["dev"]], ids=" ".join)
def test_a_wrong_setting_is_named_before_anything_is_touched(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_PARTITIONS", "a dozen")
    monkeypatch.setenv("LIFECYCLE_CLOCK_OFFSET_SECONDS", "nine")
    result = runner.invoke(app, command)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "LIFECYCLE_PARTITIONS" in result.stderr
    assert "LIFECYCLE_CLOCK_OFFSET_SECONDS" in result.stderr


def test_a_wait_for_a_lock_must_end_before_a_statement_counts_as_too_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LIFECYCLE_DATABASE_STATEMENT_TIMEOUT_MS", "5000")
    monkeypatch.setenv("LIFECYCLE_DATABASE_LOCK_TIMEOUT_MS", "5000")
    result = runner.invoke(app, ["worker"])
    assert result.exit_code == 2
    assert "LIFECYCLE_DATABASE_LOCK_TIMEOUT_MS must be below" in result.stderr


@pytest.mark.parametrize("addresses", ["kafka", "kafka:port", "kafka:9092,", "kafka:9092;x:1"])
@pytest.mark.parametrize("command", [*NEED_KAFKA[:-1], ["dev"]], ids=" ".join)
def test_addresses_that_are_none_are_a_wrong_setting(
    command: list[str], addresses: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS", addresses)
    result = runner.invoke(app, command)
    assert result.exit_code == 2
    assert "LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS" in result.stderr


def test_a_database_address_that_is_none_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_DATABASE_URL", "postgresql://user:secret@host:port/database")
    for command in NEED_DATABASE:
        result = runner.invoke(app, command)
        assert result.exit_code == 2
        assert "LIFECYCLE_DATABASE_URL" in result.stderr
        assert "secret" not in result.output


@pytest.mark.parametrize(
    "command",
    [
        ["no-such-command"],
        ["card", "show", "BANK000001"],
        ["operations", "list", "BANK000001", "c", "--limit", "51"],
        ["operations", "list", "BANK000001", "c", "--limit", "0"],
        ["operations", "list", "BANK000001", "c", "--offset", "-1"],
        ["watch", "--limit", "0"],
        ["dev", "--once", "--no-sample"],
        ["schema", "POLISH"],
    ],
    ids=" ".join,
)
def test_wrong_use_ends_with_2(command: list[str]) -> None:
    result = runner.invoke(app, command)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr


@pytest.mark.parametrize("letter_id", ["3", "3-", "-1-0", "3-0-0", "a-b", "1.5-2"])
def test_an_id_that_names_no_dead_letter_is_wrong_use(
    letter_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    result = runner.invoke(app, ["dead-letters", "show", "--", letter_id])
    assert result.exit_code == 2
    assert letter_id in result.stderr


class TestSend:
    @pytest.fixture(autouse=True)
    def unreachable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A Kafka that would give exit code 1 as soon as it was asked."""
        monkeypatch.setenv("LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")

    def test_a_file_that_is_not_there_is_named(self) -> None:
        result = runner.invoke(app, ["send", "no-such-file.jsonl"])
        assert result.exit_code == 2
        assert "no-such-file.jsonl" in result.stderr

    @pytest.mark.parametrize(
        "line",
        [
            "oops",
            '"text"',
            "[]",
            "null",
            "{}",
            '{"issuerId":"BANK000001"}',
            '{"issuerId":"BANK000001","cardId":7}',
            '{"command":"CONSUMER_REGISTER","issuerId":"BANK000001","cardId":"c"}',
            '{"command":"PRODUCT_DEFINE","issuerId":"BANK000001","consumerId":"c"}',
        ],
    )
    def test_a_line_without_a_command_is_named_and_kafka_is_not_asked(
        self, line: str, tmp_path: Path
    ) -> None:
        good = '{"command":["SUSPEND"],"issuerId":"BANK000001","cardId":"c"}'
        file = tmp_path / "commands.jsonl"
        file.write_text(f"{good}\n\n{line}\n{good}\n")
        result = runner.invoke(app, ["send", str(file)])
        assert result.exit_code == 2
        assert result.stderr.startswith("line 3: ")
        assert result.stderr.endswith("Nothing was sent.\n")

    @pytest.mark.parametrize(
        "line",
        [
            "oops",
            "{}",
            '{"key":"k"}',
            '{"key":7,"value":"v"}',
            '{"key":"k","value":7}',
            '{"key":"k","value":"v","valueBase64":"dg=="}',
            '{"key":"k","valueBase64":"!"}',
            '{"key":"k","value":"v","headers":{"a":"b"}}',
            '{"key":"k","value":"v","headers":[["a"]]}',
            '{"key":"k","value":"v","topic":"t"}',
        ],
    )
    def test_a_line_without_a_record_is_named_and_kafka_is_not_asked(self, line: str) -> None:
        result = runner.invoke(app, ["send", "--records", "-"], input=line)
        assert result.exit_code == 2
        assert result.stderr.startswith("line 1: ")

    def test_good_lines_go_to_kafka_and_its_absence_is_told(self) -> None:
        line = '{"command":"ANYTHING","issuerId":"BANK000001","cardId":"c"}'
        result = runner.invoke(app, ["send", "-"], input=line)
        assert result.exit_code == 1
        assert "127.0.0.1:1 (LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS)" in result.stderr
        assert "Traceback" not in result.stderr


def test_the_diagram_is_the_machines() -> None:
    assert runner.invoke(app, ["diagram"]).stdout == state_diagram()


def test_there_is_a_schema_for_every_command_that_takes_its_own_fields_only() -> None:
    schemas = json.loads(runner.invoke(app, ["schema"]).stdout)
    assert set(schemas) == set(CommandName)
    suspend = json.loads(runner.invoke(app, ["schema", "SUSPEND"]).stdout)
    assert suspend == schemas["SUSPEND"]
    assert suspend["additionalProperties"] is False
    assert suspend["properties"]["command"]["const"] == "SUSPEND"
    assert set(suspend["required"]) == {"commandId", "command", "issuerId", "cardId"}
    assert "lock" in schemas["LOCK"]["required"]
    assert "consumerId" in schemas["CREATE"]["properties"]


@pytest.mark.parametrize("command", ["worker", "migrate", "dev", "topics create"])
@pytest.mark.parametrize("level", ["1", "2"])
def test_no_command_runs_without_its_assertions(command: str, level: str) -> None:
    """They guard data, and Python leaves them out when it optimises."""
    result = subprocess.run(  # noqa: S603 - our own program
        [PROGRAM, *command.split()],
        env={**os.environ, "PYTHONOPTIMIZE": level},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    assert "PYTHONOPTIMIZE" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_no_module_of_ours_runs_without_its_assertions() -> None:
    """Whoever starts it: -O on a command line of Python's own is the same."""
    result = subprocess.run(
        [sys.executable, "-O", "-c", "import lifecycle.domain.decide"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    assert "-O" in result.stderr
