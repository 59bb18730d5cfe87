"""The survivors that are known, each with the reason why no test can or should notice it."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

LIST = Path(__file__).with_name("explained.toml")


def explanations() -> Mapping[str, str]:
    """The reason for each explained mutant, by its name (`catalogue.py`)."""
    reasons: dict[str, str] = {}
    for group in tomllib.loads(LIST.read_text())["explained"]:
        assert group["why"].strip(), f"{group['mutants']} lacks its reason"
        for name in group["mutants"]:
            assert name not in reasons, f"{name} is explained twice"
            reasons[name] = group["why"]
    return reasons
