"""How a worker process ends: with words that say what, where and what to do (design.md 10)."""

import pytest

from lifecycle.cli.exits import Exit, Problem
from lifecycle.cli.worker_process import working
from lifecycle.kafka.polling import UnreadableError
from lifecycle.settings import Settings


def test_a_partition_that_can_not_be_read_is_told_with_its_place_and_the_page_to_read() -> None:
    settings = Settings(
        kafka_bootstrap_servers="nowhere:9092", database_url="postgresql://user@nowhere/database"
    )
    with pytest.raises(Problem) as told, working(settings):
        raise UnreadableError("cards.commands.v1, partition 3, can't be read at offset 7: why")
    assert told.value.exit_code is Exit.FOUND_PROBLEM
    assert "cards.commands.v1, partition 3, can't be read at offset 7" in told.value.message
    assert "docs/operate.md" in told.value.message
