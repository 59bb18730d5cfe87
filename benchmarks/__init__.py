"""Measurements of the worker, beside a version of it written in the usual way.

Nothing of the product imports this, and no test asserts on a speed.
"""
