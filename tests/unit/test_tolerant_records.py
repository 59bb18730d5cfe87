"""No sequence of bytes on the topic stops or skips anything (issue 3, "Bad input").

Read through aiokafka's own fetcher, from buffers as the broker sends them.
"""

from collections.abc import Iterator

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.memory_records import MemoryRecords

import lifecycle.kafka.clients  # noqa: F401 - opening any client of ours installs the reader
from lifecycle.kafka import tolerant
from lifecycle.kafka.decompression import PLAIN_BYTES_MAX
from lifecycle.kafka.records import RawRecord
from lifecycle.kafka.tolerant import RECORD_BYTES_MAX, UNREAD_HEADER, TolerantRecords
from tests.unit import evil_batches as evil

EVIL = {**evil.READABLE, **evil.UNREADABLE}
CODECS = pytest.mark.parametrize("codec", [0, evil.GZIP, evil.SNAPPY, evil.LZ4, evil.ZSTD])


def read(fetched: bytes, *, from_offset: int = 0, tolerantly: bool = True) -> list[RawRecord]:
    return list(unpacked(fetched, from_offset=from_offset, tolerantly=tolerantly))


def unpacked(
    fetched: bytes, *, from_offset: int = 0, tolerantly: bool = True
) -> Iterator[RawRecord]:
    records = (fetcher.MemoryRecords if tolerantly else MemoryRecords)(fetched)
    found: Iterator[RawRecord] = fetcher.PartitionRecords(
        TopicPartition("t", 0),
        records,
        aborted_transactions=None,
        fetch_offset=from_offset,
        key_deserializer=None,
        value_deserializer=None,
        check_crcs=True,
        isolation_level=fetcher.READ_COMMITTED,
    )
    return found


def between_good_ones(payload: bytes, count: int, codec: int) -> bytes:
    return (
        evil.batch(evil.record(b"before"), 1)
        + evil.batch(payload, count, codec=codec, base_offset=1)
        + evil.batch(evil.record(b"after"), 1, base_offset=1 + count)
    )


def test_every_client_of_ours_reads_tolerantly() -> None:
    assert fetcher.MemoryRecords is TolerantRecords


@pytest.mark.parametrize("wrong", EVIL)
def test_an_evil_batch_is_read_between_good_neighbours(wrong: str) -> None:
    payload, count, codec = EVIL[wrong]
    found = read(between_good_ones(payload, count, codec))
    assert [record.offset for record in found] == list(range(count + 2))
    assert [found[0].value, found[-1].value] == [b"before", b"after"]
    assert {record.timestamp for record in found} == {evil.TIME_MS}


@pytest.mark.parametrize("wrong", evil.READABLE)
def test_what_the_broker_could_read_is_read(wrong: str) -> None:
    payload, count, codec = evil.READABLE[wrong]
    found = read(between_good_ones(payload, count, codec))
    assert [record.value for record in found[1:-1]] == [b"evil", b"2"][:count]


@pytest.mark.parametrize("wrong", evil.UNREADABLE)
def test_what_can_not_be_read_is_empty_and_says_so(wrong: str) -> None:
    payload, count, codec = evil.UNREADABLE[wrong]
    (found,) = read(between_good_ones(payload, count, codec))[1:-1]
    assert (found.key, found.value) == (None, b"")
    assert [name for name, _ in found.headers] == [UNREAD_HEADER]


@pytest.mark.parametrize("wrong", evil.READABLE)
def test_aiokafka_alone_raises_or_reads_otherwise(wrong: str) -> None:
    """Once this fails for all of them the patch has outlived its reason."""
    payload, count, codec = evil.READABLE[wrong]
    try:
        found = read(between_good_ones(payload, count, codec), tolerantly=False)
    except Exception:  # noqa: BLE001 - of many kinds, KafkaError among them
        return
    assert [record.offset for record in found] != list(range(count + 2))


@pytest.mark.parametrize("count", [1, 512, 513, 2_000])
def test_usual_batches_never_reach_the_slow_parser(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError(f"the slow parser was asked for {arguments}")

    monkeypatch.setattr(tolerant, "decode_varint_py", never)
    payload = evil.records([b"v"] * count)
    zipped = evil.compressed(payload, evil.LZ4)
    fetched = evil.batch(payload, count)
    fetched += evil.batch(zipped, count, codec=evil.LZ4, base_offset=count)
    assert len(read(fetched)) == 2 * count


def test_a_header_name_keeps_its_bytes_in_a_form_that_can_be_read() -> None:
    headers = [(b"caf\xe9", b"1"), ("café".encode(), None), (b"", b"\xff")]
    (found,) = read(evil.batch(evil.record(b"v", headers=headers), 1))
    assert list(found.headers) == [("caf\\xe9", b"1"), ("café", None), ("", b"\xff")]


@CODECS
def test_batches_of_every_codec_are_read(codec: int) -> None:
    values = [b"%d" % at for at in range(2_000)]
    payload = evil.records(values)
    if codec:
        payload = evil.compressed(payload, codec)
    fetched = evil.batch(payload, 2_000, codec=codec) + evil.batch(
        payload, 2_000, codec=codec, base_offset=2_000
    )
    found = read(fetched)
    assert [record.value for record in found] == values + values
    assert [record.offset for record in found] == list(range(4_000))


@CODECS
def test_an_evil_record_late_in_its_batch_repeats_and_loses_nothing(codec: int) -> None:
    good = [evil.record(b"%d" % at, offset_delta=at) for at in range(1_500)]
    good[1_200] = evil.record(b"1200", offset_delta=1_200, headers=[(b"\xff", None)])
    payload = b"".join(good)
    if codec:
        payload = evil.compressed(payload, codec)
    found = read(evil.batch(payload, 1_500, codec=codec))
    assert [record.value for record in found] == [b"%d" % at for at in range(1_500)]
    assert [record.offset for record in found] == list(range(1_500))


def test_a_fetch_may_begin_inside_a_batch() -> None:
    payload = evil.record(b"0", headers=[(b"\xff", None)]) + evil.record(b"1", offset_delta=1)
    (found,) = read(evil.batch(payload, 2, base_offset=10), from_offset=11)
    assert (found.offset, found.value) == (11, b"1")


def test_a_batch_that_the_fetch_cut_off_is_left_to_the_next_one() -> None:
    whole = evil.batch(evil.record(b"0"), 1)
    assert [record.value for record in read(whole + whole[:-1])] == [b"0"]


def test_a_wrong_checksum_is_still_an_error() -> None:
    fetched = bytearray(evil.batch(evil.record(b"0"), 1))
    fetched[-2] ^= 1
    with pytest.raises(Exception, match="Invalid CRC"):
        read(bytes(fetched))


def test_a_record_that_no_dead_letter_could_hold_is_cut_and_its_neighbour_is_not() -> None:
    after = evil.record(b"next", offset_delta=1)
    fetched = evil.batch(evil.long_record(3_000_000, after), 2, codec=evil.ZSTD)
    long, following = read(fetched)
    assert long.value is not None
    assert long.value == b"a" * len(long.value)
    assert 900_000 < len(long.value) < RECORD_BYTES_MAX  # LIFECYCLE_MAX_COMMAND_BYTES at most.
    assert [name for name, _ in long.headers] == [UNREAD_HEADER]
    assert following.value == b"next"


def test_a_record_that_is_not_compressed_is_never_cut() -> None:
    """The dead-letter topic has such records, and the notes in their headers are read back."""
    value = b"a" * (RECORD_BYTES_MAX + 100_000)
    headers = [(b"dlq-offset", b"7"), (b"\xff", None)]
    (found,) = read(evil.batch(evil.record(value, headers=headers), 1))
    assert found.value == value
    assert found.headers[0] == ("dlq-offset", b"7")


def test_names_that_are_not_utf8_do_not_make_a_long_record_longer() -> None:
    sent = [(b"n\xff" * 30, b"")] * 10_000
    (found,) = read(evil.batch(evil.record(b"v", headers=sent), 1))
    assert found.value == b"v"
    assert [name for name, _ in found.headers] == ["n" * 30] * 10_000


def test_batches_that_grow_too_long_are_fetched_one_at_a_time() -> None:
    bomb = evil.long_record(PLAIN_BYTES_MAX - 100)
    fetched = b"".join(
        evil.batch(bomb, 1, codec=evil.ZSTD, base_offset=offset) for offset in range(3)
    )
    records = TolerantRecords(fetched)
    assert records.has_next()
    list(records.next_batch())
    list(records.next_batch())
    assert not records.has_next()


def test_more_headers_than_are_read_in_python_end_the_batch_but_not_the_reading() -> None:
    many = [(b"\xff", None)] * 300_000
    found = read(between_good_ones(evil.record(b"v", headers=many), 1, 0))
    assert [record.value for record in found] == [b"before", b"", b"after"]
