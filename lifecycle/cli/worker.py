"""`worker`: the process that runs in production."""

from lifecycle.cli.exits import explained
from lifecycle.settings import load_settings


def worker() -> None:
    """Take commands, keep cards, publish events; until SIGTERM or Ctrl-C.

    Any number of workers may run at once; they share the partitions. With `LIFECYCLE_METRICS_PORT`
    it serves /healthz, /readyz and /metrics. Exit codes: 0 after SIGTERM
    or Ctrl-C, 1 when the database or Kafka was away for longer than `LIFECYCLE_RETRY_MS_MAX`, when
    the two tell different stories, when the database does not get through with one record, or when
    the worker itself failed; 2 on wrong settings, topics or schema.

    Example: `lifecycle worker`, after `lifecycle migrate` and `lifecycle topics create`
    """
    # Alembic and FastStream: half a second that no other command should wait for.
    from lifecycle.cli.worker_process import run_until_stopped  # noqa: PLC0415 - loads slowly

    with explained():
        run_until_stopped(load_settings())
