"""The command line as a process, on a real Kafka and a real PostgreSQL with a worker."""

import asyncio
import bz2
import gzip
import json
import lzma
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer

from lifecycle.postgres.roles import Role
from tests.e2e.conftest import PROGRAM, World, ended
from tests.support.ground import login_of
from tests.support.waiting import SECONDS_MAX, until

ISSUER = "BANK000001"


def lines(*commands: Mapping[str, object]) -> bytes:
    return b"".join(json.dumps(command).encode() + b"\n" for command in commands)


def card_command(card: str, command_id: str, command: str, **fields: object) -> dict[str, object]:
    identity = {"commandId": command_id, "command": command, "issuerId": ISSUER, "cardId": card}
    return {**identity, **fields}


async def define_product(world: World, product: str) -> None:
    """A product under an issuer of its own, waited for as a client does."""
    define = {
        "commandId": "define",
        "command": "PRODUCT_DEFINE",
        "issuerId": ISSUER,
        "cardProductId": product,
        "form": "VIRTUAL",
        "scheme": "VISA",
    }
    assert await world.ok("send", "-", given=lines(define)) == "sent 1 command\n"
    # The first event that the issuer ever had is this one: every test begins here.
    await world.ok("watch", "--from-beginning", "--issuer", ISSUER, "--limit", "1")


async def events_of(world: World, card: str, count: int) -> list[dict[str, Any]]:
    """The first events of a card, from the topic."""
    out = await world.ok(
        "watch", "--from-beginning", "--card", card, "--limit", str(count), "--json"
    )
    return [json.loads(line) for line in out.splitlines()]


async def create_cards(world: World, *cards: str) -> None:
    await define_product(world, "virtual")
    commands = [
        card_command(card, "create", "CREATE", consumerId="anna", cardProductId="virtual")
        for card in cards
    ]
    await world.ok("send", "-", given=lines(*commands))
    for card in cards:
        await events_of(world, card, 1)


def kinds(operations: Sequence[dict[str, Any]]) -> list[str]:
    return [operation["operation"] for operation in operations]


async def test_a_command_becomes_an_operation_an_event_and_a_card(world: World) -> None:
    await create_cards(world, "shown")
    await world.ok(
        "send", "-", given=lines(card_command("shown", "s", "SUSPEND", reasonCode="CARD_LOST"))
    )
    created, suspended = await events_of(world, "shown", 2)

    shown = json.loads(await world.ok("card", "show", ISSUER, "shown", "--json"))
    assert shown == {
        "issuerId": ISSUER,
        "cardId": "shown",
        "version": 2,
        "card": suspended["card"],
    }
    listed = json.loads(await world.ok("operations", "list", ISSUER, "shown", "--json"))
    assert kinds(listed["operations"]) == ["SUSPEND", "CREATE"]
    assert listed["remainingOperations"] == 0
    operation_id = created["operation"]["operationId"]
    one = await world.ok("operations", "show", ISSUER, "shown", operation_id, "--json")
    assert json.loads(one) == created

    operation_id = suspended["operation"]["operationId"]
    for people in (
        await world.ok("card", "show", ISSUER, "shown"),
        await world.ok("operations", "list", ISSUER, "shown"),
        await world.ok("operations", "show", ISSUER, "shown", operation_id),
        await world.ok("watch", "--from-beginning", "--card", "shown", "--limit", "2"),
    ):
        assert "CARD_LOST" in people


async def test_operations_come_newest_first_in_pages(world: World) -> None:
    await create_cards(world, "paged")
    steps = ["SUSPEND", "RESUME", "SUSPEND", "RESUME"]
    commands = [card_command("paged", f"c{at}", step) for at, step in enumerate(steps)]
    await world.ok("send", "-", given=lines(*commands))
    await events_of(world, "paged", 5)

    async def page(*options: str) -> dict[str, Any]:
        out = await world.ok("operations", "list", ISSUER, "paged", "--json", *options)
        answer: dict[str, Any] = json.loads(out)
        return answer

    first = await page("--limit", "2")
    assert kinds(first["operations"]) == ["RESUME", "SUSPEND"]
    assert first["remainingOperations"] == 3
    second = await page("--offset", "3", "--limit", "50")
    assert kinds(second["operations"]) == ["SUSPEND", "CREATE"]
    assert second["remainingOperations"] == 0
    beyond = await page("--offset", "9")
    assert beyond == {"operations": [], "remainingOperations": 0}


async def test_a_card_without_operations_has_an_empty_list_and_is_not_shown(world: World) -> None:
    out = await world.ok("operations", "list", ISSUER, "nobody-knows", "--json")
    assert json.loads(out) == {"operations": [], "remainingOperations": 0}
    result = await world.run("card", "show", ISSUER, "nobody-knows")
    assert (result.exit_code, result.out) == (1, "")
    assert "nobody-knows" in result.err
    for operation_id in ("no-uuid", "00000000-0000-8000-8000-000000000000"):
        result = await world.run("operations", "show", ISSUER, "nobody-knows", operation_id)
        assert (result.exit_code, result.out) == (1, "")


async def test_an_issuer_sees_no_card_of_another(world: World) -> None:
    """G12."""
    await create_cards(world, "mine")
    assert (await world.run("card", "show", "BANK000002", "mine")).exit_code == 1
    out = await world.ok("operations", "list", "BANK000002", "mine", "--json")
    assert json.loads(out)["operations"] == []


async def test_an_operation_is_gone_after_three_months_but_not_while_it_is_pending(
    world: World,
) -> None:
    """G8: the clock of the views is moved, what is stored stays."""
    await create_cards(world, "old")
    later = world.on(
        LIFECYCLE_ENVIRONMENT="development", LIFECYCLE_CLOCK_OFFSET_SECONDS=str(93 * 86_400)
    )
    out = await later.ok("operations", "list", ISSUER, "old", "--json")
    assert json.loads(out) == {"operations": [], "remainingOperations": 0}

    connection = await asyncpg.connect(world.database_url)
    try:
        await connection.execute(
            """
            INSERT INTO operation (lane, seq, id, aggregatetype, aggregateid, type, event_time_ms,
                payload, issuer_id, operation_id, caused, content_hash, status, start_time,
                expires_at)
            SELECT -1, 1, id, aggregatetype, 'BANK000001/waits', type, event_time_ms, payload,
                issuer_id, gen_random_uuid(), caused, content_hash, 'PENDING', start_time,
                expires_at
            FROM operation WHERE aggregateid = 'BANK000001/old'
            """
        )
    finally:
        await connection.close()
    out = await later.ok("operations", "list", ISSUER, "waits", "--json")
    assert len(json.loads(out)["operations"]) == 1


async def test_a_dead_letter_is_listed_shown_and_sent_again_as_it_came(world: World) -> None:
    polish = card_command("shiny", "polish", "POLISH")
    await world.ok("send", "-", given=lines(polish))
    [letter] = await dead_letters(world, polish["cardId"], 1)
    assert letter["code"] == "UNKNOWN_COMMAND"

    shown = json.loads(await world.ok("dead-letters", "show", letter["id"], "--json"))
    assert json.loads(shown["value"]) == polish
    assert shown["headers"] == []
    assert await world.ok("dead-letters", "resend", letter["id"]) == "sent 1 command again\n"

    first, second = await dead_letters(world, polish["cardId"], 2)
    again = json.loads(await world.ok("dead-letters", "show", second["id"], "--json"))
    assert (again["key"], again["value"]) == (shown["key"], shown["value"])
    assert again["headers"] == [["resent-from", first["id"]]]


async def test_what_came_as_a_reply_is_sent_again_as_a_reply(world: World) -> None:
    topic = f"{world.environment['LIFECYCLE_TOPIC_PREFIX']}.replies.v1"
    servers = world.environment["LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS"]
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        await producer.send_and_wait(
            topic, b"{", key=f"{ISSUER}/answered".encode(), headers=[("dlq-mine", b"1")]
        )
    [letter] = await dead_letters(world, "answered", 1)
    assert await world.ok("dead-letters", "resend", letter["id"]) == "sent 1 reply again\n"

    _, again = await dead_letters(world, "answered", 2)
    assert [one["command"]["topic"] for one in (letter, again)] == [topic, topic]
    shown = json.loads(await world.ok("dead-letters", "show", again["id"], "--json"))
    assert shown["headers"] == [["dlq-mine", "1"], ["resent-from", letter["id"]]]


async def dead_letters(world: World, card: object, count: int) -> list[dict[str, Any]]:
    """Those of a card, once there are so many."""
    for _ in range(100):
        out = await world.ok("dead-letters", "list", "--json")
        letters = [json.loads(line) for line in out.splitlines()]
        found = [letter for letter in letters if letter["key"] == f"{ISSUER}/{card}"]
        if len(found) >= count:
            return sorted(found, key=lambda letter: int(letter["id"].split("-")[1]))
    raise AssertionError(f"{count} dead letters of {card}")


async def test_a_dead_letter_whose_value_was_left_out_is_not_sent_again(world: World) -> None:
    """G10."""
    number = "4111 1111 1111 1111"
    told = card_command("told", "told", "SUSPEND", reason=f"Card {number} was lost")
    good = card_command("told", "polish", "POLISH")
    await world.ok("send", "-", given=lines(told, good))
    sensitive, other = await dead_letters(world, "told", 2)
    assert sensitive["code"] == "SENSITIVE_DATA"
    shown = await world.ok("dead-letters", "show", sensitive["id"], "--json")
    assert number not in shown
    assert json.loads(shown)["valueLeftOutSha256"]

    result = await world.run("dead-letters", "resend", other["id"], sensitive["id"])
    assert result.exit_code == 1
    assert "left out" in result.err
    assert len(await dead_letters(world, "told", 2)) == 2, "all of them or none"


async def test_a_dead_letter_that_is_not_there_is_a_problem(world: World) -> None:
    for letter_id in ("0-999999", "999-0"):
        result = await world.run("dead-letters", "show", letter_id)
        assert (result.exit_code, result.out) == (1, "")
        assert letter_id in result.err


async def test_lines_that_are_no_commands_are_named_and_nothing_is_sent(world: World) -> None:
    good = card_command("unsent", "create", "CREATE")
    given = lines(good) + b'not json\n[1]\n{"commandId":"c"}\n'
    result = await world.run("send", "-", given=given)
    assert result.exit_code == 2
    assert [line.split(":")[0] for line in result.err.splitlines()] == [
        "line 2",
        "line 3",
        "line 4",
        "Nothing was sent.",
    ]
    out = await world.ok("operations", "list", ISSUER, "unsent", "--json")
    assert json.loads(out)["operations"] == []


@pytest.mark.parametrize(
    ("encoded", "named"),
    [
        (lambda text: text.encode("utf-8-sig"), "byte order mark"),
        (lambda text: text.encode("utf-16"), "UTF-16"),
        (lambda text: text.encode("utf-16-le"), "UTF-16-LE"),
        (lambda text: text.encode("latin-1"), "no UTF-8 in line 2, perhaps Latin-1"),
        (lambda text: gzip.compress(text.encode()), "compressed (gzip)"),
        (lambda text: bz2.compress(text.encode()), "compressed (bzip2)"),
        (lambda text: lzma.compress(text.encode()), "compressed (xz)"),
    ],
)
async def test_a_file_that_is_no_utf8_is_called_what_it_is(
    world: World, tmp_path: Path, encoded: Callable[[str], bytes], named: str
) -> None:
    command = card_command("unread", "create", "CREATE") | {
        "name": "J\N{LATIN SMALL LETTER O WITH DIAERESIS}rg"
    }
    text = json.dumps(command, ensure_ascii=False)
    file = tmp_path / "commands.jsonl"
    file.write_bytes(encoded(f"{{}}\n{text}\n"))
    for argument, given in ((str(file), b""), ("-", file.read_bytes())):
        result = await world.run("send", argument, given=given)
        assert result.exit_code == 2
        assert named in result.err
        assert "Nothing was sent." in result.err


async def test_watch_ends_with_0_on_ctrl_c_and_shows_only_what_comes_from_now(
    world: World,
) -> None:
    await create_cards(world, "watched")
    async with world.started(PROGRAM, "watch", "--card", "watched", "--json") as watch:
        assert watch.stdout is not None
        shown = asyncio.create_task(watch.stdout.readline())
        # Sent again and again under new ids, because nobody is told when a watch has begun.
        for at in range(100):
            command = card_command("watched", f"again-{at}", "ACTIVATE")
            await world.ok("send", "-", given=lines(command))
            if (await asyncio.wait({shown}, timeout=0.5))[0]:
                break
        assert json.loads(shown.result())["operation"]["operation"] == "ACTIVATE"
        watch.send_signal(signal.SIGINT)
        assert (await ended(watch)).exit_code == 0


async def test_topics_that_differ_from_the_settings_are_named(world: World) -> None:
    assert "as the settings say" in await world.ok("topics", "check")
    result = await world.on(LIFECYCLE_PARTITIONS="5").run("topics", "check")
    assert result.exit_code == 1
    assert "LIFECYCLE_PARTITIONS" in result.err
    result = await world.on(LIFECYCLE_PARTITIONS="5").run("worker")
    assert result.exit_code == 2
    assert "LIFECYCLE_PARTITIONS" in result.err


async def test_set_up_can_be_run_again(world: World) -> None:
    assert "already" in await world.ok("migrate")
    assert "already" in await world.ok("topics", "create")


async def test_what_is_not_set_up_is_said_with_the_command_that_sets_it_up(
    empty_world: World,
) -> None:
    for arguments, hint in (
        (("card", "show", ISSUER, "c"), "lifecycle migrate"),
        (("worker",), "lifecycle migrate"),
        (("watch",), "lifecycle topics create"),
        (("dead-letters", "list"), "lifecycle topics create"),
    ):
        result = await empty_world.run(*arguments)
        assert result.exit_code == 2, result
        assert hint in result.err
        assert "Traceback" not in result.err


async def test_a_worker_tells_how_it_is_and_ends_with_0_on_sigint(world: World) -> None:
    async with world.on(LIFECYCLE_METRICS_PORT="0").started(PROGRAM, "worker") as worker:
        assert worker.stderr is not None
        line = b""
        while b'"monitoring"' not in line:
            line = await asyncio.wait_for(worker.stderr.readline(), SECONDS_MAX)
            assert line, "the worker has ended"
        url = json.loads(line)["url"]
        assert await answer(f"{url}/healthz") == {"status": "healthy", "why": []}

        async def is_ready() -> bool:
            return bool((await answer(f"{url}/readyz"))["status"] == "ready")

        await until(is_ready, "the worker to be ready")
        taken = await world.on(LIFECYCLE_METRICS_PORT=url.rpartition(":")[2]).run("worker")
        assert taken.exit_code == 2
        assert "LIFECYCLE_METRICS_PORT" in taken.err
        worker.send_signal(signal.SIGINT)
        result = await ended(worker)
        assert result.exit_code == 0, result
        assert "Traceback" not in result.err


async def answer(url: str) -> dict[str, Any]:
    def fetched() -> bytes:
        try:
            with urlopen(url, timeout=SECONDS_MAX) as response:  # noqa: S310 - our own
                return bytes(response.read())
        except HTTPError as error:
            return error.read()

    found: dict[str, Any] = json.loads(await asyncio.to_thread(fetched))
    return found


async def test_a_worker_ends_with_0_on_sigint_also_while_it_starts(world: World) -> None:
    async with world.started(PROGRAM, "worker") as worker:
        await asyncio.sleep(0.5)  # Wherever in its start it is then.
        worker.send_signal(signal.SIGINT)
        result = await ended(worker)
    assert result.exit_code == 0, result
    assert "Traceback" not in result.err


async def test_servers_that_are_away_are_named_with_their_setting(world: World) -> None:
    no_kafka = world.on(LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1", LIFECYCLE_RETRY_MS_MAX="0")
    nowhere = "postgresql://someone:secret@127.0.0.1:1/x"
    no_database = world.on(
        LIFECYCLE_DATABASE_URL=nowhere,
        LIFECYCLE_DATABASE_OWNER_URL="",
        LIFECYCLE_RETRY_MS_MAX="0",
    )
    no_owner = world.on(LIFECYCLE_DATABASE_OWNER_URL=nowhere)
    for place, arguments, named in (
        (no_kafka, ("watch",), "127.0.0.1:1 (LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS)"),
        (no_kafka, ("topics", "check"), "127.0.0.1:1 (LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS)"),
        (no_kafka, ("worker",), "LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS"),
        (no_database, ("migrate",), "127.0.0.1:1/x (LIFECYCLE_DATABASE_URL)"),
        (no_owner, ("migrate",), "127.0.0.1:1/x (LIFECYCLE_DATABASE_OWNER_URL)"),
        (no_database, ("card", "show", ISSUER, "c"), "127.0.0.1:1/x (LIFECYCLE_DATABASE_URL)"),
        (no_database, ("worker",), "127.0.0.1:1/x (LIFECYCLE_DATABASE_URL)"),
    ):
        result = await place.run(*arguments)
        assert result.exit_code == 1, result
        assert named in result.err
        assert "Traceback" not in result.err
        assert "secret" not in result.err


async def test_a_wrong_password_or_database_is_a_wrong_setting(world: World) -> None:
    for command, variable in (
        ("migrate", "LIFECYCLE_DATABASE_OWNER_URL"),
        ("worker", "LIFECYCLE_DATABASE_URL"),
    ):
        wrong = world.on(**{variable: f"{world.environment[variable]}-and-more"})
        result = await wrong.run(command)
        assert result.exit_code == 2, result
        assert f"({variable})" in result.err
        assert "Traceback" not in result.err


async def test_a_login_without_the_rights_of_a_worker_is_a_wrong_setting(world: World) -> None:
    """A worker that started with it could only fail later, in the middle of its work."""
    roles = world.environment["LIFECYCLE_DATABASE_ROLE_PREFIX"]
    reader = world.on(LIFECYCLE_DATABASE_URL=login_of(world.database_url, roles, Role.READER))
    assert "operations" in await reader.ok("operations", "list", ISSUER, "none", "--json")
    result = await reader.run("worker")
    assert result.exit_code == 2, result
    assert "(LIFECYCLE_DATABASE_URL) refuses us: permission denied" in result.err
    assert "Traceback" not in result.err


async def test_a_worker_whose_keys_the_database_does_not_know_ends_with_2_and_says_what_to_do(
    empty_world: World, tmp_path: Path
) -> None:
    """docs/decisions/0040: and `keys check` says so before."""
    await empty_world.ok("migrate")
    await empty_world.ok("topics", "create")
    assert "is known now" in await empty_world.ok("keys", "adopt")
    assert "known already" in await empty_world.ok("keys", "adopt")
    await empty_world.ok("keys", "check")

    other_file = tmp_path / "other.json"
    await empty_world.ok("keys", "generate", str(other_file))
    other = empty_world.on(LIFECYCLE_KEYS_FILE=str(other_file))
    for command, code in ((["worker"], 2), (["keys", "check"], 1), (["keys", "adopt"], 2)):
        result = await other.run(*command)
        assert (result.exit_code, result.out) == (code, ""), command
        assert "which the database knows: give this process the newest keys file" in result.err
    without = await empty_world.on(LIFECYCLE_KEYS_FILE="").run("worker")
    assert without.exit_code == 2
    assert "LIFECYCLE_KEYS_FILE" in without.err

    rotated = await empty_world.ok("keys", "rotate", "--kind", "fingerprint")
    assert "lifecycle keys adopt" in rotated
    kid = rotated.split()[1]
    for command, code in ((["worker"], 2), (["keys", "check"], 1)):
        result = await empty_world.run(*command)
        assert result.exit_code == code
        assert kid in result.err
        assert "lifecycle keys adopt" in result.err
    assert f"fingerprint: {kid} is known now" in await empty_world.ok("keys", "adopt")
    async with empty_world.worker():
        await create_cards(empty_world, "numbered")
    for used in (kid, "unheard-of"):
        result = await empty_world.run("keys", "forget", used)
        assert (result.exit_code, result.out) == (1, "")
        assert used in result.err

    staged = (await empty_world.ok("keys", "rotate", "--kind", "data", "--stage")).split()[1]
    assert f"{staged} is staged, and not known yet" in await empty_world.ok("keys", "check")
    await empty_world.ok("keys", "adopt")
    assert "is forgotten" in await empty_world.ok("keys", "forget", staged)


async def test_in_production_a_worker_runs_as_safely_as_its_settings_say(
    empty_world: World,
) -> None:
    """docs/decisions/0041."""
    await empty_world.ok("migrate")
    await empty_world.ok("topics", "create")
    production = empty_world.on(LIFECYCLE_ENVIRONMENT="")
    for command in (["worker"], ["migrate"], ["topics", "check"], ["watch"], ["keys", "check"]):
        result = await production.run(*command)
        assert (result.exit_code, result.out) == (2, "")
        assert "LIFECYCLE_INSECURE_ALLOWED=kafka-plaintext" in result.err
        assert "LIFECYCLE_INSECURE_ALLOWED=database-unverified" in result.err
    allowed = production.on(LIFECYCLE_INSECURE_ALLOWED="kafka-plaintext,database-unverified")
    without_keys = await allowed.on(LIFECYCLE_KEYS_FILE="").run("worker")
    assert without_keys.exit_code == 2
    assert "LIFECYCLE_KEYS_FILE is not set" in without_keys.err
    async with allowed.worker():
        await create_cards(allowed, "in-production")
