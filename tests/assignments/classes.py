"""Who takes part: the submissions of every assignment."""

import nbformat
from tests.assignments import hostile, of_likelihood
from tests.assignments.submission import Notebook, Submission, points_of

import coursework

ALL = {"likelihood": of_likelihood}
REFERENCE = Submission("reference", "The solution of the source.")
TRIED = "likelihood"  # the assignment on which the hostile submissions are tried


def source_of(name: str) -> Notebook:
    return nbformat.read(coursework.SOURCE / name / f"{name}.ipynb", as_version=4)


def of(name: str) -> tuple[Submission, ...]:
    """Return all submissions of an assignment, the reference first."""
    made = ALL[name]
    tricks = hostile.of(source_of(name), made.WRONG[0]) if name == TRIED else ()
    source = source_of(name)
    bare = dict.fromkeys(hostile.solutions_of(source), "raise NotImplementedError")
    nothing = Submission("nothing-done", "Handed in as it was given.", bare, points_of(source))
    return (REFERENCE, nothing, *made.RIGHT, *made.WRONG, *tricks)
