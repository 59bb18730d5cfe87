"""For a night: `pytest --hypothesis-profile=thorough tests/property`."""

from hypothesis import settings

settings.register_profile("thorough", max_examples=50_000, deadline=None)
