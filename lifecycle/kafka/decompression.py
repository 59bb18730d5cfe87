"""Compressed record batches, read as leniently as the broker reads them, and never without end.

The broker takes a compressed batch once its own (Java) decoder has read the records out of it. The
decoders here are stricter: about what follows the data, about checksums, about joined streams. So
what they put out before they failed is kept, and the parser of records says whether it was all.
"""

import struct
from collections.abc import Callable
from mmap import mmap

import cramjam
from aiokafka.record.default_records import DefaultRecordBatch

PLAIN_BYTES_MAX = 32 * 1024 * 1024
"""Longest plain form of one batch: 32 times the longest that the broker takes (1 MiB)."""

# Most batches fit into this much, which is cheaper to get than a mapping.
_USUAL_RATIO = 16
_USUAL_BYTES_MAX = 512 * 1024

_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16


def decompress(
    codec: int, compressed: memoryview, *, room_before: int
) -> tuple[memoryview, int | None]:
    """Memory with the plain form behind `room_before` free bytes, and the length of the form.

    Never raises. The length is None when the form is not known to be complete; then what could be
    read stands at its beginning, zeros behind it, and the memory is the longest there is.
    """
    usual_bytes = _USUAL_RATIO * len(compressed) + _USUAL_RATIO
    if usual_bytes <= _USUAL_BYTES_MAX:
        memory = memoryview(bytearray(room_before + usual_bytes))
        length = _decompress_into(codec, compressed, memory[room_before:])
        if length is not None:
            return memory, length
    # Of a mapping every page costs only once it is written.
    memory = memoryview(mmap(-1, room_before + PLAIN_BYTES_MAX))
    return memory, _decompress_into(codec, compressed, memory[room_before:])


def _decompress_into(codec: int, compressed: memoryview, out: memoryview) -> int | None:
    try:
        return _DECODERS[codec](compressed, out)
    except (cramjam.DecompressionError, struct.error, ValueError):
        # Not lost: whoever asked parses what there is, and makes a dead letter of what is not.
        return None


def _snappy(compressed: memoryview, out: memoryview) -> int:
    """Raw, or in the chunks of the xerial library, of any version, joined or cut off at the end."""
    if compressed[: len(_XERIAL_MAGIC)] != _XERIAL_MAGIC:
        return int(cramjam.snappy.decompress_raw_into(compressed, out))
    position = written = 0
    while len(compressed) - position >= struct.calcsize(">i"):
        if compressed[position : position + len(_XERIAL_MAGIC)] == _XERIAL_MAGIC:
            position += _XERIAL_HEADER_BYTES
            continue
        (chunk_bytes,) = struct.unpack_from(">i", compressed, position)
        position += struct.calcsize(">i")
        if not 0 < chunk_bytes <= len(compressed) - position:
            raise ValueError("a chunk that ends behind the batch")
        chunk = compressed[position : position + chunk_bytes]
        written += int(cramjam.snappy.decompress_raw_into(chunk, out[written:]))
        position += chunk_bytes
    return written


_DECODERS: dict[int, Callable[[memoryview, memoryview], int]] = {
    DefaultRecordBatch.CODEC_GZIP: cramjam.gzip.decompress_into,
    DefaultRecordBatch.CODEC_SNAPPY: _snappy,
    DefaultRecordBatch.CODEC_LZ4: cramjam.lz4.decompress_into,
    DefaultRecordBatch.CODEC_ZSTD: cramjam.zstd.decompress_into,
}
