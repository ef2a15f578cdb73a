"""A class of simulated students: what they hand in is written where it is looked for, and graded in one batch."""

import csv
from pathlib import Path

import nbformat
from nbgrader.api import MissingEntry
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
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{assignment}.ipynb").write_text(handed_in(submission, source, released), encoding="utf-8")


def scores(course: Path, assignment: str, student: str) -> dict[str, float | None]:
    """Return the points of each cell that is graded by running it, by grade_id, None where it was not run."""
    with coursework.database(course) as book:
        try:
            (notebook,) = book.find_submission(assignment, student).notebooks
        except (MissingEntry, ValueError):
            return {}
        return {grade.name: grade.auto_score for grade in notebook.grades if grade.cell_type == "code"}


def rows(path: Path) -> dict[str, dict[str, str]]:
    """Return the table of grades, by student."""
    with open(path, newline="", encoding="utf-8") as file:
        return {row["student"]: row for row in csv.DictReader(file)}
