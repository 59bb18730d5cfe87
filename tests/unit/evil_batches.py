"""Record batches byte by byte: those that the broker takes although aiokafka stumbles over them.

Relies on nothing of ours, so that the tests can hold our reader against the format itself.
"""

import gzip
import struct
from collections.abc import Mapping, Sequence

import cramjam
from aiokafka.codec import lz4_encode
from aiokafka.record.util import calc_crc32c, encode_varint

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
_LOG_APPEND_TIME = 0x08
TIME_MS = 1_700_000_000_000


def varint(number: int) -> bytes:
    """Zigzag, as Kafka writes lengths."""
    out = bytearray()
    encode_varint(number, out.append)
    return bytes(out)


def _nullable(content: bytes | None) -> bytes:
    return varint(-1) if content is None else varint(len(content)) + content


def record(
    value: bytes | None,
    *,
    key: bytes | None = b"k",
    headers: Sequence[tuple[bytes, bytes | None]] = (),
    attributes: int = 0,
    offset_delta: int = 0,
) -> bytes:
    """One record; `offset_delta` is what it says of itself."""
    body = bytes([attributes]) + varint(0) + varint(offset_delta)
    body += _nullable(key) + _nullable(value) + varint(len(headers))
    for name, content in headers:
        body += _nullable(name) + _nullable(content)
    return varint(len(body)) + body


def batch(payload: bytes, count: int, *, codec: int = 0, base_offset: int = 0) -> bytes:
    """A batch around `payload`, as the broker stores it under LogAppendTime."""
    return _batch(payload, count, codec | _LOG_APPEND_TIME, base_offset)


def batch_to_send(payload: bytes, count: int, codec: int) -> bytes:
    """A batch as a producer sends it."""
    return _batch(payload, count, codec, 0)


def _batch(payload: bytes, count: int, attributes: int, base_offset: int) -> bytes:
    tail = struct.pack(">hiqqqhii", attributes, count - 1, TIME_MS, TIME_MS, -1, -1, -1, count)
    tail += payload
    head = struct.pack(">qiibI", base_offset, len(tail) + 9, -1, 2, calc_crc32c(tail))
    return head + tail


def records(values: Sequence[bytes]) -> bytes:
    """Good records, one after the other."""
    return b"".join(record(value, offset_delta=at) for at, value in enumerate(values))


def compressed(payload: bytes, codec: int) -> bytes:
    """As the usual producers compress."""
    if codec == GZIP:
        return gzip.compress(payload)
    if codec == SNAPPY:
        return xerial(payload)
    if codec == LZ4:
        return bytes(lz4_encode(payload))
    return bytes(cramjam.zstd.compress(payload))


def xerial(*chunks: bytes, version: int = 1) -> bytes:
    """Snappy as Java producers frame it."""
    out = b"\x82SNAPPY\0" + struct.pack(">ii", version, 1)
    for chunk in chunks:
        packed = bytes(cramjam.snappy.compress_raw(chunk))
        out += struct.pack(">i", len(packed)) + packed
    return out


def _zstd_of_repeated(before: bytes, byte: int, times: int, after: bytes) -> bytes:
    """`before`, `times` times `byte`, `after`, in a frame of some bytes per 128 KiB."""
    blocks = [(0, len(before), before)]
    while times:
        size = min(times, 128 * 1024)
        blocks.append((1, size, bytes([byte])))
        times -= size
    blocks.append((0, len(after), after))
    out = struct.pack("<I", 0xFD2FB528) + bytes([0, 7 << 3])
    for kind, size, content in blocks:
        is_last = content is after
        out += (size << 3 | kind << 1 | is_last).to_bytes(3, "little") + content
    return out


def long_record(value_bytes: int, after: bytes = b"") -> bytes:
    """A record of one repeated letter, zstd-compressed, and the good records `after` it."""
    before = b"\0" + varint(0) + varint(0) + _nullable(b"k") + varint(value_bytes)
    length = varint(len(before) + value_bytes + 1)
    return _zstd_of_repeated(length + before, ord("a"), value_bytes, varint(0) + after)


_GOOD = record(b"evil")
_HALVES = _GOOD[:10], _GOOD[10:]
_LZ4_WITH_CHECKSUM = cramjam.lz4.Compressor(content_checksum=True, block_linked=False)
_LZ4_WITH_CHECKSUM.compress(_GOOD)
_CHECKSUMMED = bytes(_LZ4_WITH_CHECKSUM.finish())

# By what is wrong: payload, number of records, codec. Every one is taken by Kafka 4.3.
READABLE: Mapping[str, tuple[bytes, int, int]] = {
    "a header name that is not UTF-8": (record(b"evil", headers=[(b"\xff\xfe", b"1")]), 1, 0),
    "a record attribute byte above 127": (record(b"evil", attributes=0x80), 1, 0),
    "an attribute byte that shifts every field": (
        record(b"evil", attributes=0x80, key=b"key"),
        1,
        0,
    ),
    "two records of one offset": (_GOOD + record(b"2"), 2, 0),
    "an offset far ahead": (_GOOD + record(b"2", offset_delta=1_000), 2, 0),
    "offsets that go back": (
        record(b"evil", offset_delta=5) + record(b"2", offset_delta=-5),
        2,
        0,
    ),
    "bytes behind a gzip stream": (gzip.compress(_GOOD) + b"more, much more", 1, GZIP),
    "a byte or two behind a gzip stream": (gzip.compress(_GOOD) + b"mo", 1, GZIP),
    "bytes behind an lz4 frame": (compressed(_GOOD, LZ4) + b"more, more", 1, LZ4),
    "joined snappy streams": (xerial(_HALVES[0]) + xerial(_HALVES[1]), 1, SNAPPY),
    "a snappy stream of a later version": (xerial(_GOOD, version=9), 1, SNAPPY),
    "bytes behind a snappy stream": (xerial(_GOOD) + b"\0\0\0", 1, SNAPPY),
    "half a zstd frame behind a zstd stream": (
        compressed(_GOOD, ZSTD) + struct.pack("<I", 0xFD2FB528),
        1,
        ZSTD,
    ),
}
# The same, of which aiokafka's decoders give nothing, or what no memory should hold.
UNREADABLE: Mapping[str, tuple[bytes, int, int]] = {
    "a wrong lz4 content checksum": (
        _CHECKSUMMED[:-1] + bytes([_CHECKSUMMED[-1] ^ 1]),
        1,
        LZ4,
    ),
    "a record of 300 MB in 10 KB": (long_record(300_000_000), 1, ZSTD),
}
