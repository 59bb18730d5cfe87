"""What can go wrong on the way to Kafka, sorted for whoever has to tell a person."""

from aiokafka.errors import KafkaConnectionError, NoBrokersAvailable, NodeNotReadyError


def is_unreachable(error: BaseException) -> bool:
    """Whether no broker was reached at all, so that nothing was asked."""
    return isinstance(
        error, KafkaConnectionError | NodeNotReadyError | NoBrokersAvailable | ConnectionError
    )
