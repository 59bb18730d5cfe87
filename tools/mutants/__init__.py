"""Mutation testing of `lifecycle/domain`: does a test fail when a rule is changed?

mutmut says how code is changed. It changes function bodies only, though, and the rules are tables
as often as functions: so its operators, and some of our own for tables, are applied to whole
modules here, and each mutant is tried in a forked process that never touches a file.
"""
