"""Who takes part: the submissions of every assignment, `of_NAME.py` for the assignment NAME."""

from importlib import import_module
from pathlib import Path

import nbformat
from tests.assignments import hostile
from tests.assignments.submission import Notebook, Submission, points_of

import coursework

ALL = {
    path.stem.removeprefix("of_").replace("_", "-"): import_module(f"tests.assignments.{path.stem}")
    for path in sorted(Path(__file__).parent.glob("of_*.py"))
}
REFERENCE = Submission("reference", "The solution of the source.")
TRIED = "likelihood"  # the assignment on which every hostile submission is tried


def source_of(name: str) -> Notebook:
    return nbformat.read(coursework.SOURCE / name / f"{name}.ipynb", as_version=4)


def nothing_done(name: str) -> Submission:
    source = source_of(name)
    bare = dict.fromkeys(hostile.solutions_of(source), "raise NotImplementedError")
    return Submission("nothing-done", "Handed in as it was given.", bare, points_of(source))


def honest(name: str) -> tuple[Submission, ...]:
    """Return the submissions of an assignment that try no trick, the reference first."""
    return (REFERENCE, nothing_done(name), *ALL[name].RIGHT, *ALL[name].WRONG)


def tricks(name: str) -> tuple[Submission, ...]:
    """Return the submissions that break or cheat."""
    return hostile.of(source_of(name), ALL[name].WRONG[0])


def of(name: str) -> tuple[Submission, ...]:
    """Return all submissions of an assignment, the reference first."""
    return honest(name) + (tricks(name) if name == TRIED else ())
