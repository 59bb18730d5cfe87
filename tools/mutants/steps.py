"""Which tests a mutant has to pass, the quickest killers first.

Only what survives a step meets the next one: most mutants end in the first, within a fifth of a
second. The servers are in none of them, a rule that only a server's test holds has no test.
"""

from typing import NamedTuple

LIBRARIES = (
    "aiokafka",
    "asyncpg",
    "cryptography.hazmat.primitives.ciphers.aead",
    "faststream.kafka",
    "hypothesis.stateful",
    "joserfc.jwe",
    "orjson",
    "pydantic.dataclasses",
    "pydantic_settings",
    "pytest_asyncio",
    "rfc8785",
    "transitions",
    # The rule book's own tables import nothing of ours.
    "tests.oracle.registered",
    "tests.oracle.rule_book",
)
"""What the tests import beside our own rooms: loaded once, before the first trial."""


QUIETLY = (
    *("-o", "addopts="),
    *("-p", "no:terminal"),
    *("-p", "no:cacheprovider"),
    "--noconftest",
    "--assert=plain",
)
"""pytest's options for tests whose result is all that counts; conftest only starts servers."""


class Step(NamedTuple):
    """Tests that are run together.

    `seconds_max` is many times what they take: who is not through by then hangs. `options` are
    pytest's. The step without files is the sample of the oracle's cases (`sample.py`).
    """

    name: str
    files: tuple[str, ...]
    seconds_max: int
    options: tuple[str, ...] = ()


def _unit(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/unit/test_{name}.py" for name in names)


ORACLE_TESTS = _unit("rule_book", "rule_registered")

# It asks the oracle alone, so no mutant makes it fail.
WITHOUT_THE_ORACLES_OWN = ("-k", "not test_the_oracle_itself")

QUICK_STEPS = (
    Step("the oracle, a sample", (), seconds_max=30),
    Step(
        "corners",
        _unit(
            "decide_corners", "state_corners", "decide_registered", "decide_fields", "rule_corners"
        ),
        seconds_max=30,
    ),
    Step(
        "sentences",
        _unit(
            "decide_pending",
            "decide_timers",
            "decide_credentials",
            "field_patterns",
            "decide_consumers_and_products",
            "identifiers",
            "retention",
            "months",
            "chain",
            "timer_changes",
            "wire_commands",
            "wire_events",
            "machine",
        ),
        seconds_max=60,
    ),
)

LONG_STEP = Step(
    "everything without a server",
    (
        *_unit(
            "decide_total",
            "wire_cloudevents",
            "wire_replies",
            "wire_dead_letters",
            "wire_sensitive",
        ),
        *_unit("numbers_drawn", "jwe_opening", "cli_arguments"),
        "tests/property/test_numbers_vault.py",
        "tests/property/test_rules.py",
        "tests/property/test_rule_histories.py",
        *ORACLE_TESTS,
    ),
    seconds_max=3_600,
    options=WITHOUT_THE_ORACLES_OWN,
)
