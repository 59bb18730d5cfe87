"""What the pipeline counts: touched once a batch, so that counting costs records nothing.

The counts are of this process, since its start; those of the database are in `intake_batch`.
"""

from collections.abc import Mapping

from prometheus_client import Counter, Gauge, Histogram

from lifecycle.domain.sources import Partition
from lifecycle.worker.recording import Outcome

_RECORDS = Counter(
    "lifecycle_records",
    "Commands and replies that were taken, by what became of them.",
    ["source", "outcome"],
)
_FOREIGN_PARTITION = Counter(
    "lifecycle_foreign_partition_records",
    "Commands on another partition than their key's, from clients without murmur2.",
)
BATCH_SECONDS = Histogram(
    "lifecycle_batch_seconds",
    "From the first read of a batch's transaction to its COMMIT.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0),
)
PUBLISHED = Counter("lifecycle_events_published", "Events that Kafka acknowledged.")
DEAD_LETTERS_PUBLISHED = Counter(
    "lifecycle_dead_letters_published", "Dead letters that Kafka acknowledged."
)
UNPUBLISHED = Gauge(
    "lifecycle_events_unpublished",
    "Events of a lane that are committed and not published: last_seq - published_seq. The lanes of"
    " this worker.",
    ["lane"],
)
UNPUBLISHED_BYTES = Gauge(
    "lifecycle_unpublished_bytes",
    "Bytes of memory of the events and dead letters of a lane that were committed by this worker"
    " and are not published, held or left in the log.",
    ["lane"],
)
STANDSTILL_SECONDS = Gauge(
    "lifecycle_lane_standstill_seconds",
    "For how long a lane has had work and has not moved: commands or replies to take, or events to"
    " publish. The lanes of this worker.",
    ["lane", "work"],
)
LANES = Gauge("lifecycle_lanes", "Lanes that this worker has now.")


def count_outcomes(outcomes: Mapping[Partition, Outcome]) -> None:
    """Count what became of the records of a committed batch."""
    for partition, outcome in outcomes.items():
        for name, records in (
            ("operation", outcome.operations),
            ("duplicate", outcome.duplicates),
            ("ignored", outcome.ignored),
            ("dead_letter", outcome.dead_letters),
        ):
            _RECORDS.labels(partition.source.value, name).inc(records)
        _FOREIGN_PARTITION.inc(outcome.foreign_partition)
