"""A sample day of two issuers: made from a seed, so that it is the same for everyone.

`sample_day` is all that others use; `samples/` in the repository shows what it gives. Relies on
the wire format for keys and ids, and knows what should become of every record it makes.
"""

from lifecycle.samples.day import Part, Tale, first_operation, last_operation, sample_day
from lifecycle.samples.record_lines import RecordLineError, read_record_line, record_line
from lifecycle.samples.wire import SampleRecord

__all__ = [
    "Part",
    "RecordLineError",
    "SampleRecord",
    "Tale",
    "first_operation",
    "last_operation",
    "read_record_line",
    "record_line",
    "sample_day",
]
