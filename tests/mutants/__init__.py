"""Mutants: the bugs of widely read tutorials, planted one at a time in a copy of the package. The tests must fail.

`mutant.py` says what a mutant is, `of_*.py` list them by the module they break, `registry.py` gathers them, and
`runner.py` plants each and runs the tests that are meant to catch it. `make mutants` runs them all.
"""
