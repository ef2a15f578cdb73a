"""A class of simulated students: what they hand in is written where nbgrader looks for it, graded, and read back."""

from pathlib import Path

import nbformat
from nbgrader.api import Gradebook, MissingEntry
from tests.assignments.submission import Submission, handed_in

import coursework


def hand_in(course: Path, assignment: str, submissions: dict[str, Submission]) -> None:
    """Write the submissions of a released assignment, by student, to submitted/STUDENT/ASSIGNMENT."""
    source, released = (
        nbformat.read(course / part / assignment / f"{assignment}.ipynb", as_version=4)
        for part in ("source", "release")
    )
    for student, submission in submissions.items():
        folder = course / "submitted" / student / assignment
        folder.mkdir(parents=True)
        (folder / f"{assignment}.ipynb").write_text(handed_in(submission, source, released), encoding="utf-8")


def scores(course: Path, assignment: str, student: str) -> dict[str, float]:
    """Return the points of each cell that was graded by running it, by grade_id; empty where nothing was graded."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        try:
            (notebook,) = book.find_submission(assignment, student).notebooks
        except (MissingEntry, ValueError):
            return {}
        return {grade.name: grade.auto_score or 0.0 for grade in notebook.grades if grade.cell_type == "code"}


def held(
    course: Path, assignment: str, submissions: tuple[Submission, ...], *, timeout: int
) -> dict[str, dict]:
    """Return the scores of all submissions by name, graded in one batch."""
    hand_in(course, assignment, {submission.name: submission for submission in submissions})
    coursework.grade(course, timeout=timeout)
    return {submission.name: scores(course, assignment, submission.name) for submission in submissions}
