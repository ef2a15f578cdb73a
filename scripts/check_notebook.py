"""Check a notebook before it is handed in: python scripts/check_notebook.py FILE

Runs all cells from a fresh start, in a copy, and says what is missing: tests that fail, answers that are still empty,
locked cells that were changed, cells that are there twice, more time than allowed. It sees what a student sees, of the
tests the visible ones, and does not know of cells that were deleted.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbgrader.utils import compute_checksum, is_locked, is_solution

from coursework import TIMEOUT, grade_id, is_graded

MINUTES = 5
EMPTY = ("YOUR CODE HERE", "YOUR ANSWER HERE")


def before_running(notebook: nbformat.NotebookNode) -> list[str]:
    """Return what is wrong with a notebook as it lies there, in words."""
    said = []
    names = [grade_id(cell) for cell in notebook.cells if grade_id(cell)]
    if not names:
        return ["this is no notebook of an assignment: no cell has a mark of nbgrader's"]
    for name in sorted({name for name in names if names.count(name) > 1}):
        said.append(f"{name}: the cell is there twice, delete the copy")
    for cell in notebook.cells:
        known = cell.metadata.get("nbgrader", {}).get("checksum")
        if is_locked(cell) and known and compute_checksum(cell) != known:
            said.append(
                f"{grade_id(cell)}: a given cell was changed; grading takes its own, so change it back"
            )
        if is_solution(cell) and any(mark in cell.source for mark in EMPTY):
            said.append(f"{grade_id(cell)}: still says {next(mark for mark in EMPTY if mark in cell.source)}")
    return said


def run(notebook: nbformat.NotebookNode, *, minutes: float = MINUTES) -> list[str]:
    """Run all cells of a notebook, past errors, in an empty folder; return what went wrong, in words."""
    said, began = [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=min(TIMEOUT, round(60 * minutes)),  # a cell, as in grading
            kernel_name="python3",
            allow_errors=True,
            resources={"metadata": {"path": folder}},
        )
        try:
            client.execute()
        except CellTimeoutError:
            return [f"a cell takes longer than {TIMEOUT} seconds, at which grading stops it"]
        except DeadKernelError:
            return ["it could not be run to its end: the kernel died"]
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        errors = [output for output in cell.outputs if output.output_type == "error"]
        for error in errors:
            what = "its test fails" if is_graded(cell) else "it raises"
            said.append(
                f"{grade_id(cell) or f'code cell {number}'}: {what}: {error.ename}: {error.evalue[:200]}"
            )
    if (seconds := time.monotonic() - began) > 60 * minutes:
        said.append(f"it takes {seconds / 60:.1f} minutes, expected at most {minutes:g}")
    return said


def check(path: Path, *, minutes: float = MINUTES) -> list[str]:
    """Return what a student should mend before handing the file in, in words; an empty list if nothing."""
    try:
        notebook = nbformat.read(path, as_version=4)
        said = before_running(notebook)
    except Exception as error:  # of a file in which anything may stand
        return [f"{path} cannot be read as a notebook: {str(error)[:100]}"]
    return said + run(notebook, minutes=minutes)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    given = parser.parse_args(arguments)
    said = check(given.file, minutes=given.minutes)
    print(*said, sep="\n") if said else print(
        "All visible tests pass. The hidden ones use other numbers and sizes."
    )
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
