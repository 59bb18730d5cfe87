"""A second implementation of the rule book, written from domain.md and design.md alone.

It shares no code and no style with `lifecycle.domain`: plain dictionaries, tables copied cell by
cell, slow and obvious. `rule_book` and `tables` import nothing of the project, so that a mistake
in production cannot hide in both; `adapters` is the only place where the two meet.
"""
