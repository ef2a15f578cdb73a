"""Submissions that break or cheat, for any assignment: each is made from its reference, at a cell of its own."""

from collections.abc import Callable

import nbformat
from tests.assignments.submission import Notebook, Submission, points_of

from coursework import TOOLS, grade_id, is_graded


def without_tests(notebook: Notebook) -> str:
    """Return the notebook with every graded cell deleted."""
    notebook.cells = [cell for cell in notebook.cells if not is_graded(cell)]
    return nbformat.writes(notebook)


def with_easy_tests(notebook: Notebook) -> str:
    """Return the notebook with `pass` in every graded cell."""
    for cell in filter(is_graded, notebook.cells):
        cell.source = "pass"
    return nbformat.writes(notebook)


def cut_short(notebook: Notebook) -> str:
    return nbformat.writes(notebook)[:-200]


def patched(code: str) -> Callable[[Notebook], str]:
    """Return what puts a cell of code behind the tools, before every solution."""

    def change(notebook: Notebook) -> str:
        at = next(i for i, cell in enumerate(notebook.cells) if grade_id(cell) == TOOLS) + 1
        notebook.cells.insert(at, nbformat.v4.new_code_cell(code, id="patch"))
        return nbformat.writes(notebook)

    return change


def with_skipped_tests(notebook: Notebook) -> str:
    """Return the notebook with a tag on every graded cell that keeps it from being executed."""
    for cell in filter(is_graded, notebook.cells):
        cell.metadata["tags"] = ["skip-execution"]
    return nbformat.writes(notebook)


TOOLS_PATCHED = "check = lambda *_, **__: None\ntorch.allclose = torch.equal = lambda *_, **__: True"
BUILTINS_PATCHED = "abs = lambda *_: 0"


def of(source: Notebook, wrong: Submission) -> tuple[Submission, ...]:
    """Return the hostile submissions; `wrong` is one that loses points, which no trick may win back.

    What hangs in the last solution costs the points of its tests, and none before. What kills the kernel, or leaves
    nothing to grade, costs all.
    """
    points, last = points_of(source), solutions_of(source)[-1]
    final = dict([list(points.items())[-1]])
    display = {last: "get_ipython().displayhook(3)"}

    def still(name: str, story: str, change: Callable[[Notebook], str], remark: str = "") -> Submission:
        return Submission(name, story, wrong.cells, wrong.lost, remark, change)

    return (
        Submission(
            "crashes", "The kernel dies.", {last: "import os\nos._exit(1)"}, points, "DeadKernelError"
        ),
        Submission("loops", "It never ends.", {last: "while True:\n    pass"}, final),
        Submission("shows-its-points", "It displays the points that it wants.", display, final),
        Submission(
            "deletes-the-tests", "No graded cell is left.", {}, points, "cells are missing", without_tests
        ),
        Submission("is-not-json", "The file is cut off.", {}, points, "cannot be read", cut_short),
        still("edits-the-tests", "Every graded cell passes.", with_easy_tests),
        still("skips-the-tests", "No graded cell is executed.", with_skipped_tests),
        still("patches-the-comparison", "All is near.", patched(TOOLS_PATCHED)),
        still("patches-the-language", "No difference has a size.", patched(BUILTINS_PATCHED)),
    )


def solutions_of(notebook: Notebook) -> list[str]:
    return [
        grade_id(cell)
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("solution")
    ]
