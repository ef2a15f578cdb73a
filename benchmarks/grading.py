"""How long nbgrader takes for a submission of each assignment: its reference solution, graded as an instructor does it.

Wall time with one thread a process; the kernel's start and the imports are part of it. The visible and the hidden tests
run, so a student, who runs the visible ones alone, waits for less.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import Unavailable
from benchmarks.record import Claim, make

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 300.0  # seconds that an assignment may take a student, on two cores


def measure(*, quick: bool, say: Callable[[str], object]) -> dict:
    """Return the record `bench-grading`: seconds a submission, by assignment. quick: the first assignment only.

    Raises: Unavailable: the extra `grading` is not installed.
    """
    sys.path[:0] = [folder for folder in (str(ROOT), str(ROOT / "scripts")) if folder not in sys.path]
    try:
        from tests.assignments import classes, simulated

        import coursework
    except ModuleNotFoundError as error:
        raise Unavailable(f"{error}; the extra `grading` is needed") from error
    begun, spent = time.perf_counter(), {}
    with tempfile.TemporaryDirectory() as folder:
        course = Path(folder)
        coursework.release(course)
        for name in list(classes.ALL)[: 1 if quick else None]:
            simulated.hand_in(course, name, {"reference": classes.REFERENCE})
            at = time.perf_counter()
            _, failures = coursework.grade(course)
            spent[name] = time.perf_counter() - at
            if failures:
                raise RuntimeError(f"the reference of {name} was not graded: {failures[0].reason}")
            shutil.rmtree(course / "submitted")
            say(f"  {name}: {spent[name]:.1f} s")
    detail = "wall time of nbgrader on the reference solution, one thread"
    metrics = {
        f"seconds_{name.replace('-', '_')}": {"value": round(value, 2), "unit": "s", "detail": detail, "n": 1}
        for name, value in spent.items()
    }
    mean = sum(spent.values()) / len(spent)
    metrics["seconds_mean"] = {"value": round(mean, 2), "unit": "s", "detail": detail, "n": len(spent)}
    record = make("bench-grading", seconds=time.perf_counter() - begun, metrics=metrics)
    slowest = max(spent, key=spent.__getitem__)
    record["claims"] = [
        Claim(f"seconds of the slowest assignment, {slowest}", round(spent[slowest], 2), LIMIT).as_dict()
    ]
    return record
