"""What all tests share: the site's extensions can be imported, and a claim on an equation is well formed.

The marker `equation` (pyproject.toml declares it) says which numbered equations of the book a test checks:

    @pytest.mark.equation("vae-elbo", tolerance="4 standard errors")
    def test_elbo_is_a_lower_bound():
        '''What the test does, in one line: the ledger page prints it.'''

test_ledger.py holds the claims against the book; `pytest -m equation` runs only the tests that make one.
"""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book/_ext"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("equation"):
            if not mark.args or not all(isinstance(label, str) for label in mark.args):
                raise pytest.UsageError(
                    f"{item.nodeid}: equation(...) takes the labels of equations: {mark.args}"
                )
