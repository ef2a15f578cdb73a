"""The course's assignments: what students are given, and the grading of what they hand in, by nbgrader.

    python scripts/coursework.py release [--seed S] [--source DIR] [--course DIR]    the students' notebooks
    python scripts/coursework.py grade [--course DIR] [--timeout SECONDS]            grade submitted/, write grades.csv

The source notebooks hold solutions and hidden tests. `release` copies them into COURSE/source with the seed of the
hidden tests' draws, and lets nbgrader make COURSE/release, which holds neither. `grade` takes what lies at
COURSE/submitted/STUDENT/ASSIGNMENT/ASSIGNMENT.ipynb. Scores, and what was given for written answers by hand (`nbgrader
formgrader`), are kept in COURSE/gradebook.db.

A submission runs with the rights of whoever grades it. It can read and write whatever that user can, the sources and
the gradebook too, and can replace what the hidden tests call in torch itself. So grade what others hand in by
contained.py, and let nobody's grade hang on these tests alone.
"""

import argparse
import csv
import logging
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.apps import NbGraderAPI
from nbgrader.converters import Autograde
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import is_grade
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.mutants.registry import MUTANTS  # noqa: E402

SOURCE, COURSE = ROOT / "book/assignments/source", ROOT / "course"
HIDDEN = "### BEGIN HIDDEN TESTS"
SEED = re.compile(r"^(\s*)SEED = \d+$", re.MULTILINE)
PLANTED = re.compile(r"^(\s*)MUTANTS = \"(.*)\"$", re.MULTILINE)
STUDENT = re.compile(r"[\w.@+-]+")
TOOLS = "tools"  # the cell of what tests compare with
TIMEOUT = 60  # seconds a cell
COLUMNS = ("student", "assignment", "score", "of", "tests", "written", "to_grade_by_hand", "remark")


class Failure(NamedTuple):
    """A submission without a score, or one that was graded with something missing, and why."""

    student: str
    assignment: str
    reason: str


class OnlyErrors(NbGraderPreprocessor):
    """Keep of a graded cell's outputs the errors alone.

    nbgrader takes a displayed number for partial points, which a solution could display itself, and any warning for a
    failed test.
    """

    def preprocess(self, nb, resources):
        for cell in nb.cells:
            if cell.cell_type == "code" and is_grade(cell):
                cell.outputs = [output for output in cell.outputs if output.output_type == "error"]
        return nb, resources


def config_of(course: Path, *, timeout: int = TIMEOUT) -> Config:
    """Return nbgrader's settings: everything lies in the course's folder, and a cell that hangs is interrupted."""
    here = str(Path(sys.executable).parent)  # nbgrader calls `alembic` by name when it makes its database
    if here not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join((here, os.environ["PATH"]))
    steps = list(Autograde.autograde_preprocessors.default_args[0])
    config = Config()
    config.CourseDirectory.root = str(course.absolute())
    config.CourseDirectory.course_id = "imagegen"
    config.ExecutePreprocessor.timeout = timeout
    config.ExecutePreprocessor.interrupt_on_timeout = True
    config.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE\nraise NotImplementedError()"}
    config.Autograde.autograde_preprocessors = [steps[0], OnlyErrors, *steps[1:]]  # after the execution
    config.NbGraderAPI.log_level = logging.WARNING
    return config


def database(course: Path) -> Gradebook:
    return Gradebook(f"sqlite:///{course / 'gradebook.db'}")


def grade_id(cell: nbformat.NotebookNode) -> str:
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")


def is_graded(cell: nbformat.NotebookNode) -> bool:
    return bool(cell.metadata.get("nbgrader", {}).get("grade"))


# ---- the students' notebooks -------------------------------------------------------------------------------------


def names(source: Path = SOURCE) -> list[str]:
    """Return the assignments. Raises: FileNotFoundError: the folder holds none."""
    found = sorted(path.parent.name for path in source.glob("*/*.ipynb") if path.stem == path.parent.name)
    if not found:
        raise FileNotFoundError(f"{source} holds no assignment, expected NAME/NAME.ipynb")
    return found


def spelled_out(line: re.Match) -> str:
    """Return the line MUTANTS = "NAME NAME ..." of a hidden test with what each mutant of the suite replaces.

    That is NAME: (module, old text, new text, story). Raises: ValueError: there is no mutant of that name.
    """
    known, found = {mutant.name: mutant for mutant in MUTANTS}, {}
    for name in line[2].split():
        if name not in known:
            raise ValueError(f"there is no mutant {name!r}")
        mutant = known[name]
        module = f"imagegen.{mutant.file}".replace("/", ".").removesuffix(".__init__")
        found[name] = (module, mutant.old, mutant.new, mutant.story)
    return f"{line[1]}MUTANTS = {found!r}"


def prepared(notebook: nbformat.NotebookNode, seed: int) -> nbformat.NotebookNode:
    """Return a source notebook whose hidden tests draw from the seed, and begin with the cell of tools anew.

    So what a student's cell has bound to the name of a tool or of a builtin is bound back. Mutants that a hidden test
    names are spelled out. Raises: ValueError: there is no such cell, a hidden test has no line SEED = NUMBER, or it
    names a mutant that the suite does not have.
    """
    tools = [cell.source for cell in notebook.cells if grade_id(cell) == TOOLS]
    if len(tools) != 1:
        raise ValueError(f"{len(tools)} cells are called {TOOLS!r}, expected one")
    for cell in notebook.cells:
        if HIDDEN in cell.source:
            before, hidden = cell.source.split(HIDDEN, 1)
            if not SEED.search(hidden):
                raise ValueError(f"the hidden tests of {grade_id(cell)} have no line SEED = NUMBER")
            hidden = PLANTED.sub(spelled_out, SEED.sub(rf"\g<1>SEED = {seed}", hidden))
            cell.source = f"{before}{HIDDEN}\nfrom builtins import *\n{tools[0]}{hidden}"
    return notebook


def check_replaceable(course: Path, name: str, notebook: nbformat.NotebookNode) -> None:
    """Raises: RuntimeError: the notebook has other graded cells than the one that students have handed in."""
    if not (course / "gradebook.db").exists():
        return
    with database(course) as book:
        try:
            known = book.find_notebook(name, name)
        except MissingEntry:
            return
        before = {cell.name for cell in known.grade_cells}
        after = {grade_id(cell) for cell in notebook.cells if is_graded(cell)}
        if known.submissions and before != after:
            raise RuntimeError(
                f"{name}: submissions are there, and the graded cells {', '.join(sorted(before ^ after))} differ: "
                "release it in another course"
            )


def release(course: Path = COURSE, *, source: Path = SOURCE, seed: int = 1) -> list[Path]:
    """Make the students' notebooks of all assignments; return their paths.

    What the course held of them is replaced; submissions and grades stay.
    Raises: ValueError: the source lies where the course keeps its copy, or a notebook cannot be prepared. RuntimeError:
        its graded cells have changed since students handed it in, or nbgrader refuses it.
    """
    if source.resolve() == (course / "source").resolve():
        raise ValueError(f"the source is {source}, where the course keeps its copy: name another folder")
    made = {}
    for name in names(source):
        made[name] = prepared(nbformat.read(source / name / f"{name}.ipynb", as_version=4), seed)
        check_replaceable(course, name, made[name])
    api = NbGraderAPI(config=config_of(course))
    for name, notebook in made.items():
        target = course / "source" / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source / name, target, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
        nbformat.write(notebook, target / f"{name}.ipynb")
        answer = api.generate_assignment(name, force=True, create=True)
        if not answer["success"]:
            raise RuntimeError(f"nbgrader does not take {name}: {answer['log']}")
    return [course / "release" / name / f"{name}.ipynb" for name in made]


# ---- what was handed in ------------------------------------------------------------------------------------------


def staged(path: Path, target: Path, released: Path) -> str:
    """Copy a handed-in notebook, without what steers its execution; return which graded cells are missing, in words.

    Only the notebook is taken, as a file beside it could stand for a library. Of a cell's metadata nbgrader's is kept:
    by a tag a cell would not be executed. Raises: any Exception: it cannot be read as a notebook.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "nbgrader"}
    target.parent.mkdir(parents=True)
    nbformat.write(notebook, target)
    there = {grade_id(cell) for cell in notebook.cells if is_graded(cell)}
    given = nbformat.read(released, as_version=4)
    missing = [grade_id(cell) for cell in given.cells if is_graded(cell) and grade_id(cell) not in there]
    return f"graded cells are missing: {', '.join(missing)}" if missing else ""


def forget(course: Path, name: str, student: str) -> None:
    """Take back the notebook and the scores that tests gave this student before; what was given by hand stays."""
    shutil.rmtree(course / "autograded" / student / name, ignore_errors=True)
    with database(course) as book:
        try:
            submission = book.find_submission(name, student)
        except MissingEntry:
            return
        for notebook in submission.notebooks:
            for score in notebook.grades:
                score.auto_score = None
        book.db.commit()


def plain(text: str) -> str:
    """Return a program's words as a remark: one short line, which no spreadsheet takes for a formula."""
    return "".join(letter for letter in text if letter.isprintable())[:300].lstrip("=+-@ ")


def grade_one(api: NbGraderAPI, course: Path, stage: Path, path: Path) -> str:
    """Grade one submission; return what went wrong, in words, or ""."""
    name, student = path.stem, path.parents[1].name
    forget(course, name, student)
    if not path.is_file():
        return f"there is no {path.name}"
    try:
        missing = staged(path, stage / student / name / path.name, course / "release" / name / path.name)
    except Exception as error:  # of a file in which anything may stand
        return f"it cannot be read: {plain(str(error))[:100]}"
    answer = api.autograde(name, student, force=True, create=True)
    if not answer["success"]:
        lines = [
            line.strip() for line in (answer["log"] or "").splitlines() if re.match(r"\s*[\w.]+Error\b", line)
        ]
        return plain(f"it could not be run to its end: {lines[-1] if lines else answer.get('error')}")
    return missing


def submissions(course: Path) -> tuple[list[Path], list[Failure]]:
    """Return the folders STUDENT/ASSIGNMENT of what was handed in, and those that cannot be one.

    Raises: FileNotFoundError: nothing was released, or nothing handed in.
    """
    released = {path.name for path in (course / "release").glob("*") if path.is_dir()}
    folders = sorted(path for path in (course / "submitted").glob("*/*") if path.is_dir())
    if not released or not folders:
        what = "submitted/STUDENT/ASSIGNMENT" if released else "release, see `release`"
        raise FileNotFoundError(f"{course} has nothing in {what}")
    good = [path for path in folders if path.name in released and STUDENT.fullmatch(path.parent.name)]
    wrong = "no such assignment, or no name for a student"
    return good, [Failure(path.parent.name, path.name, wrong) for path in folders if path not in good]


def write_table(course: Path, rows: list[dict]) -> Path:
    """Write COURSE/grades.csv, whole or not at all; return its path."""
    path = course / "grades.csv"
    part = path.with_suffix(".part")
    with open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(part, path)
    return path


def grade(course: Path = COURSE, *, timeout: int = TIMEOUT) -> tuple[Path, list[Failure]]:
    """Grade all that was handed in, one after the other; return the CSV of the scores and what could not be graded.

    One that fails does not stop the others: it has no score, and its row says why.
    Raises: FileNotFoundError: nothing was released, or nothing handed in.
    """
    (folders, failures), rows = submissions(course), []
    with tempfile.TemporaryDirectory() as stage:
        config = config_of(course, timeout=timeout)
        config.CourseDirectory.submitted_directory = stage
        api = NbGraderAPI(config=config)
        for folder in folders:
            student, name = folder.parent.name, folder.name
            if wrong := grade_one(api, course, Path(stage), folder / f"{name}.ipynb"):
                failures.append(Failure(student, name, wrong))
            rows.append(row_of(course, student, name, wrong))
    return write_table(course, rows), failures


def row_of(course: Path, student: str, name: str, remark: str) -> dict[str, str | float | int]:
    """Return a student's row: the score of tests and of written answers; empty where no test was run.

    Points that were given by hand, for a test too, stand in the place of what the test gave.
    """
    row: dict[str, str | float | int] = dict.fromkeys(COLUMNS, "")
    row |= {"student": student, "assignment": name, "remark": remark}
    with database(course) as book:
        row["of"] = book.find_assignment(name).max_score
        try:
            (notebook,) = book.find_submission(name, student).notebooks
        except (MissingEntry, ValueError):
            return row
        ran = [g for g in notebook.grades if g.cell_type == "code"]
        written = [g for g in notebook.grades if g.cell_type != "code"]
        row["to_grade_by_hand"] = sum(bool(g.needs_manual_grade) for g in written)
        if any(g.auto_score is not None or g.manual_score is not None for g in ran):
            tests, by_hand = sum(g.score for g in ran), sum(g.score for g in written)
            row |= {"tests": tests, "written": by_hand, "score": tests + by_hand}
    return row


def told(path: Path, failures: list[Failure]) -> int:
    """Print where the table lies and what could not be graded; return the exit status."""
    print(path)
    for failure in failures:
        print(f"{failure.student}, {failure.assignment}: {failure.reason}", file=sys.stderr)
    return 1 if failures else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("release", "grade"):
        command = commands.add_parser(name)
        command.add_argument("--course", type=Path, default=COURSE)
        if name == "release":
            command.add_argument("--source", type=Path, default=SOURCE)
            command.add_argument("--seed", type=int, default=1)
        else:
            command.add_argument("--timeout", type=int, default=TIMEOUT)
    options = vars(parser.parse_args(arguments))
    try:
        if options.pop("command") == "release":
            print(*release(**options), sep="\n")
            return 0
        path, failures = grade(**options)
    except (OSError, RuntimeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return told(path, failures)


if __name__ == "__main__":
    sys.exit(main())
