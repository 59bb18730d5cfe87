"""The guarantees of design.md 6 over a day of commands, without anything going wrong around it."""

from lifecycle.settings import Settings
from tests.support import bank
from tests.support.guarantees import verify_all
from tests.support.reading import until_settled
from tests.support.worker import running_worker


async def test_a_day_of_commands_keeps_every_guarantee(ground: Settings) -> None:
    """G1, G2, G4, G5, G6."""
    async with running_worker(ground):
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)
        places = await bank.send(ground, bank.day(1, cards=40, commands_of_a_card=12))
        evidence = await verify_all(ground)
    outcomes = set(evidence.outcomes(places))
    assert {"SUCCESSFUL", "NOTHING", "IDEMPOTENCY_CONFLICT", "NOT_JSON", "NULL_VALUE"} <= outcomes
    assert {"CARD_NOT_FOUND", "ALREADY_SUSPENDED", "CARD_REPLACED"} <= outcomes
    assert evidence.count("ignored") > 0
    assert any(row.caused for row in evidence.log)
