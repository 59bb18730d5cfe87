"""What Kafka's committed offsets are told while a poll is in hand (design.md 7)."""

from collections.abc import Mapping, Sequence

from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from lifecycle.domain.sources import Partition, Source
from lifecycle.kafka.intake import Intake
from lifecycle.kafka.records import RawRecord
from lifecycle.settings import Settings
from tests.unit.wire_records import record

TOPIC = "cards.commands.v1"


class Consumer:
    """Stands in for aiokafka's: its position has moved over all that it ever handed out."""

    def __init__(self, positions: Mapping[int, int]) -> None:
        self._positions = positions
        self.committed: list[dict[int, int]] = []

    def assignment(self) -> set[TopicPartition]:
        return {TopicPartition(TOPIC, number) for number in self._positions}

    async def position(self, tp: TopicPartition) -> int:
        return self._positions[tp.partition]

    async def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        self.committed.append({tp.partition: found.offset for tp, found in offsets.items()})


async def test_what_is_in_hand_is_not_committed_and_nothing_goes_back_behind_the_lane() -> None:
    # Partition 0: a marker, then a poll in hand. 1: only a marker. 2: held. 3: no longer ours.
    lanes = {0: 10, 1: 20, 2: 30, 3: 40}
    consumer = Consumer({0: 13, 1: 21, 2: 0})

    async def follow(_: object) -> None:
        await intake.commit({Partition(Source.COMMANDS, one): lanes[one] for one in lanes})

    async def take(records: Sequence[RawRecord]) -> None:
        await follow(records)
        lanes[0] = 13
        await follow(records)

    intake = Intake(
        Settings(kafka_bootstrap_servers="nowhere:9092"),
        on_poll=take,
        on_assigned=follow,
        on_revoked=follow,
        on_failure=print,
    )
    intake._subscriber.consumer = consumer  # noqa: SLF001 - FastStream would connect
    await intake._handle([record(b"{", place=(0, 11)), record(b"{", place=(0, 12))])  # noqa: SLF001
    await follow(None)
    assert consumer.committed == [
        {0: 11, 1: 21, 2: 30},
        {0: 13, 1: 21, 2: 30},
        {0: 13, 1: 21, 2: 30},
    ]
