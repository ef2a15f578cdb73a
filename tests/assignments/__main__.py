"""Grade a simulated class in one batch: python -m tests.assignments [--students N] [--course DIR].

Prints each student's mistake beside the score, and leaves the CSV, the gradebook and the graded notebooks in DIR.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from tests.assignments import classes, simulated  # noqa: E402

import coursework  # noqa: E402


def drawn(students: int) -> list[tuple[str, simulated.Submission]]:
    """Return who hands in what: every trick once, and a draw of all assignments' other submissions."""
    tricks = [(classes.TRIED, trick) for trick in classes.tricks(classes.TRIED)][:students]
    honest = [(name, submission) for name in classes.ALL for submission in classes.honest(name)]
    random.Random(0).shuffle(honest)
    return sorted(honest[: students - len(tricks)], key=lambda who: who[0]) + tricks


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=int, default=30)
    parser.add_argument("--course", type=Path, help="an empty or new folder; a temporary one unless given")
    options = parser.parse_args()
    course = options.course or Path(tempfile.mkdtemp(prefix="course-"))
    if course.exists() and any(course.iterdir()):
        print(f"{course} is not empty: name another folder", file=sys.stderr)
        return 1
    coursework.release(course)
    told = {}
    for i, (name, submission) in enumerate(drawn(options.students), 1):
        told[f"student-{i:02d}"] = submission
        simulated.hand_in(course, name, {f"student-{i:02d}": submission})
    began = time.perf_counter()
    path, _ = coursework.grade(course)
    seconds = time.perf_counter() - began
    for student, row in simulated.rows(path).items():
        score = f"{row['assignment']:18s} {row['tests'] or 'none':>5s} of {row['of']}"
        remark = f" ({row['remark']})" if row["remark"] else ""
        print(f"{student}  {score:32s} {told[student].name}: {told[student].story}{remark}")
    print(f"{len(told)} submissions in {seconds:.0f} s, {seconds / len(told):.1f} s each: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
