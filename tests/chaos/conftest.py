"""Fixtures of the tests in which workers crash."""

from tests.support.fixtures import ground, new_ground, template

__all__ = ["ground", "new_ground", "template"]
