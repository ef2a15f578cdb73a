"""Grade a simulated class in one batch: python -m tests.assignments [--students N] [--course DIR].

Prints each student's mistake beside the score, and leaves the CSV, the gradebook and the graded notebooks in DIR.
"""

import argparse
import csv
import shutil
import sys
import time
from itertools import cycle, islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from tests.assignments import classes, simulated  # noqa: E402

import coursework  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=int, default=30)
    parser.add_argument("--course", type=Path, default=ROOT / "_build/course-demo")
    options = parser.parse_args()
    shutil.rmtree(options.course, ignore_errors=True)
    coursework.release(options.course)
    everyone = [(name, submission) for name in classes.ALL for submission in classes.of(name)]
    told = {}
    for i, (name, submission) in enumerate(islice(cycle(everyone), options.students), 1):
        student = f"student-{i:02d}"
        told[student] = submission
        simulated.hand_in(options.course, name, {student: submission})
    began = time.perf_counter()
    path = coursework.grade(options.course)
    seconds = time.perf_counter() - began
    with open(path, newline="", encoding="utf-8") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    for student, submission in told.items():
        row = rows.get(student)
        score = f"{row['assignment']:12s} {row['score']:>5s} of {row['max_score']}" if row else "no score"
        print(f"{student}  {score:28s} {submission.name}: {submission.story}")
    print(f"{len(told)} submissions in {seconds:.0f} s, {seconds / len(told):.1f} s each: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
