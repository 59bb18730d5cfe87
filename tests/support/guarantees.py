"""Judges what a scenario left behind against the guarantees of design.md 6.

The definitions are written out again here, from design.md and with other libraries than the
service's (rfc8785, aiokafka's murmur2), so that a mistake is not made twice.
"""

import json
from collections import Counter, defaultdict
from hashlib import sha256
from itertools import pairwise
from uuid import UUID

import rfc8785

from lifecycle.settings import Settings
from tests.support.bank import Message, Place, home
from tests.support.evidence import Evidence, Json, Logged, gather_evidence
from tests.support.legal_paths import verify_every_path_is_legal
from tests.support.reading import Record
from tests.support.rebuilding import verify_events_rebuild_the_cards


async def verify_all(settings: Settings) -> Evidence:
    """Wait until everything is settled, then check G1 to G7."""
    evidence = await gather_evidence(settings)
    verify_evidence(evidence)
    return evidence


def verify_evidence(evidence: Evidence) -> None:
    """Check everything that holds whatever was sent and whatever crashed."""
    verify_every_record_has_one_outcome(evidence)
    verify_versions_are_dense(evidence)
    verify_no_command_takes_effect_twice(evidence)
    verify_pending_operations(evidence)
    verify_commands_of_a_card_keep_their_order(evidence)
    verify_time_does_not_step_back(evidence)
    verify_every_path_is_legal(evidence)
    verify_events_lie_on_their_partition(evidence)
    verify_hash_chains(evidence)
    verify_published_is_what_was_committed(evidence)
    verify_ids_are_derived(evidence)
    verify_no_event_appears_twice(evidence)
    verify_dead_letters(evidence)
    verify_stored_state_is_that_of_the_last_event(evidence)
    verify_state_topic(evidence)
    verify_events_rebuild_the_cards(evidence)


# --- G1


def verify_every_record_has_one_outcome(evidence: Evidence) -> None:
    """G1: the batches cover the topics without gap or overlap, and their counts are true."""
    _verify_batches(evidence, "commands", evidence.commands, evidence.positions)
    _verify_batches(evidence, "replies", evidence.replies, evidence.reply_positions)
    _verify_nothing_was_made_up(evidence)
    _verify_duplicates_and_signals(evidence)
    _verify_ignored_replies(evidence)


def _verify_batches(
    evidence: Evidence, source: str, topic: dict[int, list[Record]], positions: dict[int, int]
) -> None:
    outcome = _outcome if source == "commands" else _outcome_of_reply
    for partition, records in topic.items():
        batches = [
            batch
            for batch in evidence.batches
            if batch["partition"] == partition and batch["source"] == source
        ]
        for before, after in pairwise(batches):
            assert before["to_offset"] == after["from_offset"], (dict(before), dict(after))
        if records:
            assert batches[0]["from_offset"] == 0
            assert batches[-1]["to_offset"] == positions[partition]
            assert positions[partition] == records[-1].offset + 1
        for batch in batches:
            places = [
                Place(partition, record.offset)
                for record in records
                if batch["from_offset"] <= record.offset < batch["to_offset"]
            ]
            outcomes = Counter(outcome(evidence, place) for place in places)
            counted = {
                "operation": batch["operations"],
                "dead letter": batch["dead_letters"],
                "nothing": batch["duplicates"] + batch["ignored"],
            }
            assert batch["records"] == len(places), dict(batch)
            assert outcomes == Counter(counted), dict(batch)


def _outcome(evidence: Evidence, place: Place) -> str:
    is_operation = place in evidence.of_commands or _is_time_out(evidence, place)
    is_dead_letter = place in evidence.dead_letter_rows
    assert not (is_operation and is_dead_letter), f"{place} has two outcomes"
    return "operation" if is_operation else "dead letter" if is_dead_letter else "nothing"


def _is_time_out(evidence: Evidence, place: Place) -> bool:
    """Whether the command at `place` is the TIME_OUT that ended an operation."""
    records = [
        record
        for record in evidence.commands[place.partition]
        if b'"TIME_OUT"' in (record.value or b"")
    ]
    record = next((record for record in records if record.offset == place.offset), None)
    if record is None or place in evidence.dead_letter_rows:
        return False
    operation_id = json.loads(record.value or b"")["operationId"]
    end = evidence.ends.get(operation_id)
    return (
        end is not None
        and end.event["operation"].get("errorCode") == "OPERATION_TIMED_OUT"
        and evidence.has_ended_by(record, records, operation_id)
    )


def _outcome_of_reply(evidence: Evidence, place: Place) -> str:
    if place in evidence.reply_dead_letter_rows:
        return "dead letter"
    records = [
        record
        for record in evidence.replies[place.partition]
        if Place(place.partition, record.offset) not in evidence.reply_dead_letter_rows
    ]
    record = next(record for record in records if record.offset == place.offset)
    operation_id = json.loads(record.value or b"")["operationId"]
    return "operation" if evidence.has_ended_by(record, records, operation_id) else "nothing"


def _verify_ignored_replies(evidence: Evidence) -> None:
    """A reply that left nothing behind came for an operation that does not wait."""
    waiting = {str(row["operation_id"]) for row in evidence.pending}
    for partition, records in evidence.replies.items():
        for record in records:
            if _outcome_of_reply(evidence, Place(partition, record.offset)) == "nothing":
                assert json.loads(record.value or b"")["operationId"] not in waiting


def _verify_nothing_was_made_up(evidence: Evidence) -> None:
    there = {Place(record.partition, record.offset) for record in evidence.all_commands()}
    assert evidence.of_commands.keys() <= there
    assert evidence.dead_letter_rows.keys() <= there


# domain.md 8: ignored where they do not apply.
_SIGNALS = frozenset({"LOCK", "CARD_PRESENT", "EXPIRE", "AUTO_RENEW", "DELETE_DUE", "TIME_OUT"})


def _verify_duplicates_and_signals(evidence: Evidence) -> None:
    """What left nothing behind repeats a command that did, or is a signal."""
    taken = {(row.key, row.event["commandId"]) for row in evidence.log if not row.caused}
    repeats: Counter[tuple[bool, bool]] = Counter()
    for record in evidence.all_commands():
        if _outcome(evidence, Place(record.partition, record.offset)) != "nothing":
            continue
        assert record.key is not None
        assert record.value is not None
        command = json.loads(record.value)
        is_signal = command["command"] in _SIGNALS
        was_taken = (record.key.decode(), command["commandId"]) in taken
        assert is_signal or was_taken, f"{command} has no outcome"
        repeats[is_signal, was_taken] += 1
    # A signal that was sent twice may have been ignored before it was taken.
    either = repeats[True, True]
    duplicates, ignored = evidence.count("duplicates"), evidence.count("ignored")
    assert repeats[False, True] <= duplicates <= repeats[False, True] + either
    assert repeats[True, False] <= ignored <= repeats[True, False] + either
    assert duplicates + ignored == repeats.total()


# --- G2


def verify_versions_are_dense(evidence: Evidence) -> None:
    """G2: from 1, without gap or repeat; 0 for what is not known yet."""
    for key, rows in evidence.by_subject.items():
        version = 0
        for row in rows:
            assert row.event["version"] in {version, version + 1}, f"{key}: {row.event}"
            version = row.event["version"]
            # A consumer that a CREATE named first is known without an operation of its own.
            is_known = _view(row.event) is not None
            assert version == 0 or is_known, f"{key}: {row.event}"
            assert version >= 1 or not is_known or "/consumer/" in key, f"{key}: {row.event}"


def verify_no_command_takes_effect_twice(evidence: Evidence) -> None:
    """G2: one operation for one commandId of one subject."""
    begun = [row for row in evidence.log if not row.is_end]
    own = Counter((row.key, row.event["commandId"]) for row in begun if not row.caused)
    assert [command for command, times in own.items() if times > 1] == []
    ids = Counter(row.operation_id for row in begun)
    assert [operation_id for operation_id, times in ids.items() if times > 1] == []


def verify_pending_operations(evidence: Evidence) -> None:
    """domain.md 5, 8: each ends once, as the operation that it was, and was asked of someone."""
    begun = {row.operation_id: row for row in evidence.log if not row.is_end}
    ended = [row for row in evidence.log if row.is_end]
    assert len({row.operation_id for row in ended}) == len(ended), "an operation ended twice"
    kept = ("operationId", "operation", "startTime", "requestorType", "requestorId")
    for row in ended:
        before, after = begun[row.operation_id].event, row.event
        assert before["operation"]["status"] == "PENDING"
        assert after["operation"]["status"] in {"SUCCESSFUL", "FAILED"}
        for name in kept:
            assert after["operation"][name] == before["operation"][name]
        for name in ("commandId", "correlationId", "command", "cardId"):
            assert after[name] == before[name]
        assert after["operation"]["endTime"] >= after["operation"]["startTime"]
    pending = {
        row.operation_id for row in begun.values() if row.event["operation"]["status"] == "PENDING"
    }
    assert {row["operation_id"] for row in evidence.pending} == pending - {
        row.operation_id for row in ended
    }
    asked = set()
    for partition, records in evidence.requests.items():
        for record in records:
            request = json.loads(record.value or b"")
            assert record.key is not None
            assert partition == home(record.key, evidence.partitions)
            assert record.key.decode() == f"{request['issuerId']}/{request['cardId']}"
            asked.add(UUID(request["operationId"]))
    assert asked == pending, "who is asked is what waits, or has waited"


def verify_commands_of_a_card_keep_their_order(evidence: Evidence) -> None:
    """The commands of a card that lie on one partition are decided in their order."""
    for key, rows in evidence.by_subject.items():
        places = [row.place for row in rows if not (row.caused or row.is_end)]
        if len({place.partition for place in places}) == 1:
            assert places == sorted(places), key


# --- G4


def verify_time_does_not_step_back(evidence: Evidence) -> None:
    """Design.md 4: no operation starts before the last one of its subject did."""
    for key, rows in evidence.by_subject.items():
        started = [row.event["operation"]["startTime"] for row in rows if not row.is_end]
        assert started == sorted(started), key


def verify_events_lie_on_their_partition(evidence: Evidence) -> None:
    """G4: one partition for one subject, murmur2 of its key, and in version order there."""
    versions: dict[bytes, int] = defaultdict(int)
    for partition, records in evidence.events.items():
        for record in records:
            assert record.key is not None
            assert partition == home(record.key, evidence.partitions), record.key
            event = _event(record)
            assert record.key.decode() == _key_of(event)
            assert event["version"] >= versions[record.key], record.key
            versions[record.key] = event["version"]


def verify_hash_chains(evidence: Evidence) -> None:
    """`hash` is over the event without it, `previousHash` that of the event before it."""
    last: dict[bytes | None, str] = {}
    for records in evidence.events.values():
        for record in records:
            event = _event(record)
            hashed = {name: member for name, member in event.items() if name != "hash"}
            assert event["hash"] == sha256(rfc8785.dumps(hashed)).hexdigest()
            if _view(event) is None:
                assert event["previousHash"] is None
                continue
            assert event["previousHash"] == last.get(record.key), record.key
            last[record.key] = event["hash"]


# --- G5


def verify_published_is_what_was_committed(evidence: Evidence) -> None:
    """G5: the log and the event topic hold the same, byte for byte and in the same order."""
    for partition in range(evidence.partitions):
        log = [row for row in evidence.log if row.lane == partition]
        assert [row.seq for row in log] == list(range(1, len(log) + 1))
        published = evidence.events[partition]
        assert len(log) == len(published), f"partition {partition}"
        for row, record in zip(log, published, strict=True):
            _verify_record(row, record)


def _verify_record(row: Logged, record: Record) -> None:
    assert record.value == row.payload
    assert record.key == row.key.encode()
    event, operation = row.event, row.event["operation"]
    kebab = operation["operation"].lower().replace("_", "-")
    subject = row.key.rpartition("/")[2]
    expected = [
        ("ce_specversion", "1.0"),
        ("ce_id", event["eventId"]),
        ("ce_type", f"cards.{kebab}.{operation['status'].lower()}.v1"),
        ("ce_source", f"/issuers/{event['issuerId']}"),
        ("ce_subject", subject),
        ("ce_time", operation["endTime"] or operation["startTime"]),
        ("ce_sequence", f"{row.seq:020d}"),
        ("content-type", "application/json"),
    ]
    headers = [(name, value) for name, value in record.headers if name != "traceparent"]
    assert headers == [(name, value.encode()) for name, value in expected]


def verify_ids_are_derived(evidence: Evidence) -> None:
    """Every id follows from what it names (design.md 4)."""
    ordinals: Counter[str] = Counter()
    # The operations that one command caused may lie in other lanes than its own; those of one
    # command were recorded in the order of their lanes' numbers only when they share a lane,
    # which a replacement and its predecessor always do.
    for row in evidence.log:
        event = row.event
        operation_id = UUID(event["operation"]["operationId"])
        assert row.operation_id == operation_id
        if row.caused:
            cause = event["causationId"]
            ordinals[cause] += 1
            assert operation_id == _derived(["caused", cause, ordinals[cause]])
        else:
            prefix, _, cause = event["commandId"].partition("CASCADE:")
            is_cascade = not prefix and cause
            assert event["causationId"] == (cause if is_cascade else None)
            issuer_id, *kind, subject = row.key.split("/")
            named = ["operation", kind[0] if kind else "card", issuer_id, subject]
            assert operation_id == _derived([*named, event["commandId"]])
        status = event["operation"]["status"]
        assert UUID(event["eventId"]) == _derived(["event", str(operation_id), status])
        assert row.event_id == UUID(event["eventId"])


def _derived(name: list[str | int]) -> UUID:
    """RFC 9562 version 8 with the variant of its section 4.1."""
    digest = bytearray(sha256(rfc8785.dumps(list(name))).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return UUID(bytes=bytes(digest))


# --- G6


def verify_no_event_appears_twice(evidence: Evidence) -> None:
    """G6: dense for read_committed readers; for others a repeat is told by its number."""
    for records in evidence.events.values():
        sequence = [record.number("ce_sequence") for record in records]
        assert sequence == list(range(1, len(sequence) + 1))
    for partition, records in evidence.events_uncommitted.items():
        last = 0
        committed = evidence.events[partition]
        for record in records:
            number = record.number("ce_sequence")
            assert number <= last + 1, f"{number} follows {last}"
            assert record.value == committed[number - 1].value, "a repeat says something else"
            last = max(last, number)
        assert last == len(committed)


# --- dead letters


def verify_dead_letters(evidence: Evidence) -> None:
    """Each is published once, in order, beside its command, with what was sent (design.md 5)."""
    for partition, letters in evidence.dead_letters.items():
        for source, found, records in (
            ("commands", evidence.dead_letter_rows, evidence.commands[partition]),
            ("replies", evidence.reply_dead_letter_rows, evidence.replies[partition]),
        ):
            topic = f"{evidence.topic_prefix}.{source}.v1".encode()
            own = [letter for letter in letters if letter.header("dlq-topic") == topic]
            offsets = [letter.number("dlq-offset") for letter in own]
            assert offsets == sorted(
                place.offset for place in found if place.partition == partition
            )
            sent = {record.offset: record for record in records}
            for letter in own:
                command = sent[letter.number("dlq-offset")]
                code = found[Place(partition, command.offset)]
                _verify_dead_letter(code, letter, command)


def _verify_dead_letter(code: str, letter: Record, command: Record) -> None:
    assert letter.header("dlq-error-code") == code.encode()
    assert letter.header("dlq-partition") == str(command.partition).encode()
    assert letter.header("dlq-timestamp") == str(command.timestamp).encode()
    assert letter.header("dlq-error")
    if code == "SENSITIVE_DATA":
        return  # What holds the number is left out: the scenario itself says what that is.
    assert letter.key == command.key
    assert letter.value == command.value
    assert senders_headers(letter) == senders_headers(command)


def senders_headers(record: Record | Message) -> list[tuple[str, bytes | None]]:
    """The headers of a record without those that the service writes on a dead letter."""
    return [header for header in record.headers if header[0] not in _SERVICES_HEADERS]


_SERVICES_HEADERS = {
    *("dlq-error-code", "dlq-error", "dlq-topic", "dlq-partition", "dlq-offset", "dlq-timestamp"),
    "dlq-value-sha256",
}


# --- the stored cards


def verify_stored_state_is_that_of_the_last_event(evidence: Evidence) -> None:
    """What the tables say of a subject is what its last event says."""
    stored = {f"{row['issuer_id']}/{row['card_id']}": row for row in evidence.cards}
    stored |= {
        f"{row['issuer_id']}/consumer/{row['consumer_id']}": row for row in evidence.consumers
    }
    stored |= {
        f"{row['issuer_id']}/product/{row['card_product_id']}": row for row in evidence.products
    }
    for key, row in stored.items():
        rows = evidence.by_subject.get(key, [])
        known = [logged for logged in rows if _view(logged.event) is not None]
        if not known:
            # A consumer that a CREATE named first is registered without an operation of its own.
            assert "/consumer/" in key, key
            assert (row["state"], row["version"], row["last_hash"]) == ("ACTIVE", 0, None)
            continue
        event = known[-1].event
        assert row["version"] == event["version"], key
        assert row["last_hash"].hex() == event["hash"], key
        if "/product/" not in key:
            assert row["state"] == _view(event)["state"], key
    for key, rows in evidence.by_subject.items():
        if any(_view(row.event) is not None for row in rows):
            assert key in stored, f"{key} has events, but is not stored"


def verify_state_topic(evidence: Evidence) -> None:
    """The newest record of each card is the card of its last change, where its events lie."""
    if not evidence.state:
        return
    newest: dict[str, tuple[int, Json]] = {}
    for partition, records in evidence.state.items():
        for record in records:
            assert record.key is not None, "compaction goes by the key"
            before = newest.get(record.key.decode())
            told = _event(record)
            assert before is None or before[1]["version"] < told["version"], record.key
            newest[record.key.decode()] = (partition, told)
    for key, rows in evidence.by_subject.items():
        cards = [row for row in rows if row.event["card"] is not None]
        if not cards:
            assert key not in newest, key
            continue
        names = ("issuerId", "cardId", "version", "card")
        last = {name: cards[-1].event[name] for name in names}
        assert newest[key] == (cards[-1].lane, last), key


def _event(record: Record) -> Json:
    assert record.value is not None
    event: Json = json.loads(record.value)
    return event


def _key_of(event: Json) -> str:
    for kind, field in (("consumer", "consumerId"), ("product", "cardProductId")):
        if field in event:
            return f"{event['issuerId']}/{kind}/{event[field]}"
    return f"{event['issuerId']}/{event['cardId']}"


def _view(event: Json) -> Json:
    """The subject after the operation; None for an unknown one."""
    view: Json = event.get("consumer") or event.get("product") or event["card"]
    return view
