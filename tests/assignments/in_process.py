"""Grade the simulated class of an assignment in this process: python -m tests.assignments.in_process [NAME ...].

As nbgrader does it, without a kernel, a gradebook or a time-out: the released notebook with the submission's cells, the
graded cells taken from the source. A hundred milliseconds and the cells' own time instead of seven seconds; fit for
submissions that are honest. Prints what each won, and how long it took.
"""

import contextlib
import io
import random
import sys
import time
import types
from pathlib import Path

import nbformat
import numpy as np
import torch
from IPython.core.inputtransformer2 import TransformerManager

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from tests.assignments.submission import Notebook, Submission, handed_in, points_of

import coursework

SEED = 7  # of the hidden draws: not the source's own


def prepared(source: Notebook, seed: int = SEED) -> Notebook:
    """Return the source as `release` prepares it for grading."""
    return coursework.prepared(nbformat.from_dict(source), seed)


def errors_of(notebook: Notebook) -> dict[str, BaseException]:
    """Run a notebook's cells one after the other, past errors; return the error of each cell that raised one."""
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    main, before, found = types.ModuleType("__main__"), sys.modules["__main__"], {}
    sys.modules["__main__"] = main
    try:
        for cell in notebook.cells:
            if cell.cell_type == "code":
                try:
                    code = TransformerManager().transform_cell(cell.source)
                    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                        exec(compile(code, coursework.grade_id(cell) or cell.id, "exec"), main.__dict__)
                except BaseException as error:
                    if isinstance(error, KeyboardInterrupt):
                        raise
                    found[coursework.grade_id(cell)] = error
    finally:
        sys.modules["__main__"] = before
        plt.close("all")
    return found


def marked(submission: Submission, source: Notebook, seed: int = SEED) -> tuple[dict[str, float], dict]:
    """Return the points of each cell that is graded by running it, and the errors of all cells."""
    graded = prepared(source, seed)
    theirs = nbformat.reads(handed_in(submission, graded, graded), as_version=4)
    tests = {coursework.grade_id(cell): cell.source for cell in graded.cells}
    for cell in theirs.cells:
        if coursework.is_graded(cell) and cell.cell_type == "code":
            cell.source = tests[coursework.grade_id(cell)]
    errors = errors_of(theirs)
    return {cell: 0.0 if cell in errors else value for cell, value in points_of(source).items()}, errors


def main(names: list[str]) -> int:
    from tests.assignments import classes

    bad = 0
    for name in names or list(classes.ALL):
        source = classes.source_of(name)
        for submission in classes.honest(name):
            began = time.process_time()
            won, errors = marked(submission, source)
            seconds = time.process_time() - began
            wanted = {cell: value - submission.lost.get(cell, 0) for cell, value in points_of(source).items()}
            bad += won != wanted
            print(
                f"{name:14s} {submission.name:32s} {sum(won.values()):5.1f} of {sum(points_of(source).values())}",
                f"{seconds:6.1f} s  {'as expected' if won == wanted else 'NOT AS EXPECTED'}",
                flush=True,
            )
            for cell, value in points_of(source).items():
                if won[cell] != wanted[cell]:
                    error = errors.get(cell)
                    print(
                        f"    {cell}: {won[cell]} of {value}, expected {wanted[cell]}; {type(error).__name__}: {error}"
                    )
            for cell, error in errors.items():
                if cell not in submission.lost:
                    print(f"    {cell} raised {type(error).__name__}: {str(error)[:200]}")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
