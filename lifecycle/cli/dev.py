"""`dev`: everything on this machine, from the servers to the events of a sample day."""

from typing import Annotated

import typer

from lifecycle.cli.exits import Exit, Problem, explained, run


def dev(
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Send the sample day to fresh servers, check, and end.")
    ] = False,
    no_sample: Annotated[
        bool, typer.Option("--no-sample", help="Send no sample day, only run everything.")
    ] = False,
) -> None:
    """Start Kafka, PostgreSQL, a worker and simulated outside parties, send a sample day, stay up.

    The servers are those of `LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS` and `LIFECYCLE_DATABASE_URL`, else
    of Docker, else they are installed by themselves; their data are kept in `LIFECYCLE_LOCAL_DIR`
    (`.local`). The sample day is sent to a database that is empty, so once.
    Ctrl-C stops everything.

    `--once` exits 0 only if every command has exactly one outcome, every operation its event, and
    every outcome is what the rule book says.

    Example: `lifecycle dev`

    Example: `lifecycle dev --once`
    """
    with explained():
        if once and no_sample:
            raise Problem(
                "--once sends the sample day, --no-sample does not: give one of them.",
                Exit.WRONG_USE,
            )
    # The worker, Alembic and FastStream: half a second that no other command should wait for.
    from lifecycle.cli.development import check_once, stay_up  # noqa: PLC0415 - see above

    if once:
        run(check_once, fast=True)
    else:
        run(
            lambda settings: stay_up(settings, with_sample=not no_sample),
            fast=True,
            on_interrupt=Exit.OK,
        )
