"""Fixtures of the tests on real servers."""

from tests.support.fixtures import ground, new_ground, template

__all__ = ["ground", "new_ground", "template"]
