"""What a student hands in, made from the reference by changing some of its cells."""

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import nbformat

from coursework import grade_id

Notebook = nbformat.NotebookNode
BETWEEN = re.compile(r"[ \t]*### BEGIN SOLUTION\n(.*?)[ \t]*### END SOLUTION\n?", re.DOTALL)


@dataclass(frozen=True)
class Submission:
    """A notebook that was handed in, and what it must score.

    cells: grade_id of a solution cell -> what stands between its solution marks instead. lost: grade_id of a graded
    cell -> the points that it must lose; all others are won in full. remark: what its row in the table of grades says,
    in part. change: done to the notebook at the end; gives the text that is handed in. story: the mistake, for the
    instructor.
    """

    name: str
    story: str
    cells: dict[str, str] = field(default_factory=dict)
    lost: dict[str, float] = field(default_factory=dict)
    remark: str = ""
    change: Callable[[Notebook], str] = nbformat.writes


def solution_of(cell: Notebook) -> str:
    """Return what stands between the solution marks of a cell of the source."""
    (found,) = BETWEEN.findall(cell.source)
    return found


def indented(code: str) -> str:
    return "".join(f"    {line}\n" if line.strip() else "\n" for line in code.strip("\n").split("\n"))


def points_of(source: Notebook) -> dict[str, float]:
    """Return the points of each cell that is graded by running it."""
    return {
        grade_id(cell): float(cell.metadata.nbgrader.points)
        for cell in source.cells
        if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("grade")
    }


def handed_in(submission: Submission, source: Notebook, released: Notebook) -> str:
    """Return the text of the student's file: the released notebook with every solution cell filled in.

    Raises: KeyError: the submission changes a cell that the assignment does not have.
    """
    notebook, filled = copy.deepcopy(released), {}
    for cell in source.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            name = grade_id(cell)
            theirs = submission.cells.get(name)
            text = solution_of(cell) if theirs is None else indented(theirs)
            filled[name] = BETWEEN.sub(lambda _, text=text: text, cell.source)
    if unknown := set(submission.cells) - set(filled):
        raise KeyError(f"{submission.name} changes {', '.join(sorted(unknown))}, which are no solution cells")
    for cell in notebook.cells:
        cell.source = filled.get(grade_id(cell), cell.source)
    return submission.change(notebook)
