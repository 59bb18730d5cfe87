"""Reads every batch that the broker took, whatever its producer put in it (issue 3, "Bad input").

The broker checks less than aiokafka relies on. A header name that is not UTF-8, a record attribute
byte above 127, offsets inside a batch that lie, bytes behind a compressed stream: the broker takes
them all, and aiokafka then raises at that record for ever, or hands out wrong offsets, so that
records are skipped. And a batch of some kilobytes may decompress to gigabytes. `install` replaces
aiokafka's reader of fetched batches; it was written against aiokafka 0.14.
"""

import struct
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from operator import attrgetter
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecord, DefaultRecordBase, DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint_py

from lifecycle.kafka.decompression import PLAIN_BYTES_MAX, decompress

RECORD_BYTES_MAX = 1024 * 1024
"""A longer record of a compressed batch is cut: the dead-letter topic would not take it whole. One
that is not compressed is as long as its topic allows: dead letters are longer than commands."""
UNREAD_HEADER = "unread"
"""The only header of a record that could not be read, or not whole. Its value says why."""

_VALUE_BYTES_KEPT = 960 * 1024  # Above every LIFECYCLE_MAX_COMMAND_BYTES, so it stays TOO_LARGE.
_KEY_BYTES_KEPT = 4 * 1024
_ESCAPED_RECORD_BYTES_MAX = 256 * 1024
_OFFSET = attrgetter("offset")
_CHUNK_RECORDS = 512
# Our own parser takes a microsecond for each, and nothing else runs meanwhile.
_BATCH_HEADERS_MAX = 200_000
# What one fetched buffer may take, in memory and in time of its thread, before the fetcher asks for
# the rest.
_FETCH_PLAIN_BYTES_MAX = PLAIN_BYTES_MAX
_FETCH_CPU_SECONDS_MAX = 0.25

_HEADER: struct.Struct = DefaultRecordBase.HEADER_STRUCT
_LENGTH = struct.Struct(">i")
_LENGTH_AT = 8
_LOG_OVERHEAD_BYTES = 12
_MAGIC_AT = 16
_MAGIC = 2
_ATTRIBUTES_LOW_BYTE_AT = 22


def install() -> None:
    """Make every consumer of this process read tolerantly. May be called again."""
    assert fetcher.MemoryRecords in {MemoryRecords, TolerantRecords}, "this aiokafka is another one"
    fetcher.MemoryRecords = TolerantRecords


class TolerantRecords:
    """The batches of one fetched buffer, as aiokafka's own MemoryRecords gives them out."""

    def __init__(self, fetched: bytes) -> None:
        """`fetched` holds whole batches, and perhaps the beginning of another."""
        self._fetched = fetched
        self._records = MemoryRecords(fetched)
        self._position = 0
        self._spent = _Spent()

    def size_in_bytes(self) -> int:
        """The length of the buffer."""
        return len(self._fetched)

    def has_next(self) -> bool:
        """Whether there is another whole batch that may still be read.

        When the batches before it grew too long (G11) or took too long there is none: the fetcher
        then asks the broker for the rest, from the next batch on, and others get their turn.
        """
        return not self._spent.is_enough() and bool(self._records.has_next())

    def next_batch(self) -> Any:  # noqa: ANN401 - aiokafka ships no types
        """The next batch; one that the broker wrote or compacted comes as aiokafka reads it."""
        batch = self._records.next_batch()
        if batch is None:
            return None
        start = self._position
        (length,) = _LENGTH.unpack_from(self._fetched, start + _LENGTH_AT)
        self._position = start + _LOG_OVERHEAD_BYTES + length
        if self._fetched[start + _MAGIC_AT] < _MAGIC or batch.is_control_batch:
            return batch
        raw = memoryview(self._fetched)[start : self._position]
        *_, record_count = _HEADER.unpack_from(raw)
        if batch.next_offset - batch.base_offset != record_count:
            return batch  # It has holes, which only compaction makes: no topic that others write.
        return _TolerantBatch(batch, raw, record_count, self._spent)


@dataclass(slots=True)
class _Spent:
    """What the unusual batches of one fetched buffer took so far."""

    plain_bytes: int = 0
    cpu_seconds: float = 0.0

    def is_enough(self) -> bool:
        return (
            self.plain_bytes >= _FETCH_PLAIN_BYTES_MAX or self.cpu_seconds >= _FETCH_CPU_SECONDS_MAX
        )


class _TolerantBatch:
    """One batch with an outcome for every offset: aiokafka's parser first, ours where it fails."""

    def __init__(
        self,
        batch: Any,  # noqa: ANN401 - aiokafka ships no types
        raw: memoryview,
        record_count: int,
        spent: _Spent,
    ) -> None:
        self._batch = batch
        self._raw = raw
        self._record_count = record_count
        self._record_bytes_max = RECORD_BYTES_MAX if batch.compression_type else len(raw)
        self._spent = spent
        self._headers_left = _BATCH_HEADERS_MAX
        self.validate_crc: Callable[[], bool] = batch.validate_crc
        self.base_offset: int = batch.base_offset
        self.next_offset: int = batch.next_offset
        self.producer_id: int = batch.producer_id
        self.is_transactional: bool = batch.is_transactional
        self.is_control_batch = False

    def __iter__(self) -> Iterator[Any]:
        # A chain of lists: the records of the usual batch pass through no Python frame.
        return chain.from_iterable(self._chunks())

    def _chunks(self) -> Iterator[Iterable[Any]]:
        batch, plain = self._batch, self._raw[_HEADER.size :]
        if batch.compression_type:
            started = time.thread_time()
            memory, length = decompress(batch.compression_type, plain, room_before=_HEADER.size)
            self._spent.cpu_seconds += time.thread_time() - started
            self._spent.plain_bytes += length or 0
            plain = memory[_HEADER.size :][:length]
            batch = None if length is None else self._as_uncompressed(memory, length)
        taken = 0
        if batch is not None and len(plain) <= self._record_bytes_max:
            # One islice over all: aiokafka's batch can't be asked for its iterator again.
            records = islice(batch, self._record_count)
            while taken < self._record_count:
                chunk = self._next_chunk(records, taken)
                if chunk is None:
                    break
                yield chunk
                taken += len(chunk)
        if taken < self._record_count:
            yield islice(self._records_of(plain), taken, None)

    def _as_uncompressed(self, memory: memoryview, length: int) -> Any:  # noqa: ANN401 - see above
        memory[: _HEADER.size] = self._raw[: _HEADER.size]
        memory[_ATTRIBUTES_LOW_BYTE_AT] &= ~DefaultRecordBatch.CODEC_MASK & 0xFF
        return DefaultRecordBatch(memory[: _HEADER.size + length])

    def _next_chunk(self, records: Iterator[Any], taken: int) -> list[Any] | None:
        """Records that aiokafka reads well; None when it does not."""
        size = min(_CHUNK_RECORDS, self._record_count - taken)
        try:
            chunk = list(islice(records, size))
        except Exception:  # noqa: BLE001 - whatever it stumbled over, our own parser reads it again
            return None
        first = self.base_offset + taken
        if list(map(_OFFSET, chunk)) != list(range(first, first + size)):
            return None
        return chunk

    def _records_of(self, plain: memoryview) -> Iterator[DefaultRecord]:
        """Every record of the batch, read leniently; what can't be read is empty and says so."""
        position = 0
        offset = self.base_offset
        try:
            while offset < self.next_offset:
                record, position = self._record(plain, position, offset)
                self._spent.plain_bytes += len(record.value or b"")
                yield record
                offset += 1
        except (ValueError, IndexError):
            # What could not be decompressed or parsed has offsets all the same, and each of them
            # gets an outcome (G1).
            for unread in range(offset, self.next_offset):
                yield self._unread(unread, b"the batch could not be read from here on")

    def _record(self, plain: memoryview, position: int, offset: int) -> tuple[DefaultRecord, int]:
        """The record at `position`, and the position behind it.

        Its own offset is not believed: those of a batch are dense.

        Raises:
            ValueError, IndexError: there is no record here.
        """
        length, position = decode_varint_py(plain, position)
        end = position + length
        if not position < end <= len(plain):
            raise ValueError("a record that ends behind its batch")
        position += 1  # The attributes: one byte, not the varint that aiokafka takes it for.
        delta_ms, position = decode_varint_py(plain, position)
        _, position = decode_varint_py(plain, position)
        key, position = _nullable(plain, position, end)
        value, position = _nullable(plain, position, end)
        if length > self._record_bytes_max:
            return self._cut(offset, key, value, length), end
        headers = []
        count, position = decode_varint_py(plain, position)
        self._headers_left -= count
        if self._headers_left < 0:
            raise ValueError("a batch of more headers than are read")
        # Visible, harmless in logs and JSON, and never equal to a name that counts. An escape has
        # four bytes for one, and the dead letter of a long record must not outgrow its topic.
        escape = "backslashreplace" if length <= _ESCAPED_RECORD_BYTES_MAX else "ignore"
        for _ in range(count):
            name, position = _nullable(plain, position, end)
            content, position = _nullable(plain, position, end)
            text = b"" if name is None else bytes(name)
            headers.append((text.decode(errors=escape), _bytes(content)))
        if position != end:
            raise ValueError("a record that does not end where it says")
        record = DefaultRecord(
            offset,
            self._timestamp_ms(delta_ms),
            self._batch.timestamp_type,
            _bytes(key),
            _bytes(value),
            headers,
        )
        return record, end

    def _timestamp_ms(self, delta_ms: int) -> int:
        log_append_time = self._batch.timestamp_type
        if log_append_time:
            return int(self._batch.max_timestamp)
        return int(self._batch.first_timestamp) + delta_ms

    def _cut(
        self, offset: int, key: memoryview | None, value: memoryview | None, length: int
    ) -> DefaultRecord:
        """A record that is too long, cut so that it can only become a dead letter."""
        is_short_key = key is not None and len(key) <= _KEY_BYTES_KEPT
        is_long_value = value is not None and len(value) > _VALUE_BYTES_KEPT
        return self._unread(
            offset,
            b"a record of %d bytes; at most %d are read" % (length, self._record_bytes_max),
            _bytes(key) if is_short_key else None,
            bytes(value[:_VALUE_BYTES_KEPT]) if value is not None and is_long_value else b"",
        )

    def _unread(
        self, offset: int, why: bytes, key: bytes | None = None, value: bytes = b""
    ) -> DefaultRecord:
        return DefaultRecord(
            offset,
            int(self._batch.max_timestamp),
            self._batch.timestamp_type,
            key,
            value,
            [(UNREAD_HEADER, why)],
        )


def _nullable(plain: memoryview, position: int, end: int) -> tuple[memoryview | None, int]:
    """A length and that many bytes, or None for a negative length; and the position behind."""
    length, position = decode_varint_py(plain, position)
    if length < 0:
        return None, position
    if position + length > end:
        raise ValueError("a field that ends behind its record")
    return plain[position : position + length], position + length


def _bytes(field: memoryview | None) -> bytes | None:
    return None if field is None else bytes(field)
