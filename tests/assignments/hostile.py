"""Submissions that break or cheat, for any assignment: each is made from its reference, at a cell of its own."""

import copy

import nbformat
from tests.assignments.submission import Notebook, Submission, points_of

from coursework import TOOLS, grade_id


def graded(cell: Notebook) -> bool:
    return cell.cell_type == "code" and bool(cell.metadata.get("nbgrader", {}).get("grade"))


def without_tests(notebook: Notebook) -> str:
    """Return the notebook with every graded cell deleted."""
    notebook = copy.deepcopy(notebook)
    notebook.cells = [cell for cell in notebook.cells if not graded(cell)]
    return nbformat.writes(notebook)


def with_easy_tests(notebook: Notebook) -> str:
    """Return the notebook with `pass` in every graded cell."""
    for cell in filter(graded, notebook.cells):
        cell.source = "pass"
    return nbformat.writes(notebook)


def cut_short(notebook: Notebook) -> str:
    return nbformat.writes(notebook)[:-200]


def with_a_patched_comparison(notebook: Notebook) -> str:
    """Return the notebook with a cell before every other solution that makes any two things near."""
    patch = "far = lambda *_, **__: ''\ntorch.allclose = torch.equal = lambda *_, **__: True"
    at = next(i for i, cell in enumerate(notebook.cells) if grade_id(cell) == TOOLS) + 1
    notebook.cells.insert(at, nbformat.v4.new_code_cell(patch, id="patch"))
    return nbformat.writes(notebook)


def of(source: Notebook, wrong: Submission) -> tuple[Submission, ...]:
    """Return the hostile submissions; `wrong` is one that loses points, which no trick may win back.

    What hangs in the last solution costs the points of its tests, and none before. What kills the kernel, or leaves
    nothing to grade, costs all.
    """
    points, last = points_of(source), solutions_of(source)[-1]
    final = dict([list(points.items())[-1]])
    return (
        Submission("crashes", "The kernel dies.", {last: "import os\nos._exit(1)"}, points),
        Submission("loops", "It never ends.", {last: "while True:\n    pass"}, final),
        Submission("deletes-the-tests", "No graded cell is left.", {}, points, without_tests),
        Submission("edits-the-tests", "Every graded cell passes.", wrong.cells, wrong.lost, with_easy_tests),
        Submission(
            "patches-the-comparison", "All is near.", wrong.cells, wrong.lost, with_a_patched_comparison
        ),
        Submission("is-not-json", "The file is cut off.", {}, points, cut_short),
    )


def solutions_of(notebook: Notebook) -> list[str]:
    return [
        grade_id(cell)
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("solution")
    ]
