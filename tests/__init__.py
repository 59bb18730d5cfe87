"""The tests: each is named after a guarantee (design.md 6) or a rule (domain.md)."""
