"""The course's assignments: what students are given, and the grading of what they hand in, by nbgrader.

    python scripts/coursework.py release [--seed S] [--source DIR] [--course DIR]    the students' notebooks
    python scripts/coursework.py grade [--course DIR] [--timeout SECONDS]            grade submitted/, write grades.csv

The source notebooks hold solutions and hidden tests. `release` copies them into COURSE/source with the seed of the
hidden tests' draws, and lets nbgrader make COURSE/release, which holds neither. `grade` takes what lies at
COURSE/submitted/STUDENT/ASSIGNMENT/ASSIGNMENT.ipynb. A submission runs with the rights of whoever grades it: do that in
a container without network.
"""

import argparse
import ast
import logging
import os
import re
import shutil
import sys
from pathlib import Path

import nbformat
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI
from nbgrader.plugins.export import CsvExportPlugin
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
SOURCE, COURSE = ROOT / "book/assignments/source", ROOT / "_build/course"
HIDDEN = "### BEGIN HIDDEN TESTS"
SEED = re.compile(r"^(\s*)SEED = \d+$", re.MULTILINE)
TOOLS = "tools"  # the cell of what tests compare with
TIMEOUT = 300  # seconds a cell


def config_of(course: Path, *, timeout: int = TIMEOUT) -> Config:
    """Return nbgrader's settings: everything lies in the course's folder, and a cell that hangs is interrupted."""
    here = str(Path(sys.executable).parent)  # nbgrader calls `alembic` by name when it makes its database
    if here not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join((here, os.environ["PATH"]))
    config = Config()
    config.CourseDirectory.root = str(course)
    config.CourseDirectory.course_id = "imagegen"
    config.ExecutePreprocessor.timeout = timeout
    config.ExecutePreprocessor.interrupt_on_timeout = True
    config.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE\nraise NotImplementedError()"}
    config.NbGrader.logfile = ""
    config.Application.log_level = logging.ERROR
    return config


def names(source: Path = SOURCE) -> list[str]:
    """Return the assignments. Raises: FileNotFoundError: the folder holds none."""
    found = sorted(path.parent.name for path in source.glob("*/*.ipynb") if path.stem == path.parent.name)
    if not found:
        raise FileNotFoundError(f"{source} holds no assignment, expected NAME/NAME.ipynb")
    return found


def tools_of(notebook: nbformat.NotebookNode) -> str:
    """Return the functions of the notebook's cell of tools, as source. Raises: ValueError: there is no such cell."""
    cells = [cell for cell in notebook.cells if grade_id(cell) == TOOLS]
    if len(cells) != 1:
        raise ValueError(f"{len(cells)} cells are called {TOOLS!r}, expected one")
    parts = ast.parse(cells[0].source).body
    wanted = (ast.FunctionDef, ast.Import, ast.ImportFrom)
    return "\n".join(ast.unparse(part) for part in parts if isinstance(part, wanted))


def grade_id(cell: nbformat.NotebookNode) -> str:
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")


def prepared(notebook: nbformat.NotebookNode, seed: int) -> nbformat.NotebookNode:
    """Return a source notebook whose hidden tests draw from the seed, and define anew what they compare with.

    A student's cell that runs before them can rebind a function; what the hidden lines define themselves it cannot.
    """
    tools = tools_of(notebook)
    for cell in notebook.cells:
        if HIDDEN in cell.source:
            before, hidden = cell.source.split(HIDDEN, 1)
            if not SEED.search(hidden):
                raise ValueError(f"the hidden tests of {grade_id(cell)} have no line SEED = NUMBER")
            hidden = SEED.sub(rf"\g<1>SEED = {seed}", hidden)
            cell.source = f"{before}{HIDDEN}\n{tools}{hidden}"
    return notebook


def release(course: Path = COURSE, *, source: Path = SOURCE, seed: int = 1) -> list[Path]:
    """Make the students' notebooks of all assignments; return their paths. What the course held of them is replaced.

    Raises: RuntimeError: nbgrader refuses a notebook.
    """
    made = []
    for name in names(source):
        target = course / "source" / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source / name, target, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
        path = target / f"{name}.ipynb"
        nbformat.write(prepared(nbformat.read(path, as_version=4), seed), path)
        made.append(course / "release" / name / path.name)
    api = NbGraderAPI(config=config_of(course))
    for name in names(source):
        answer = api.generate_assignment(name, force=True, create=True)
        if not answer["success"]:
            raise RuntimeError(f"nbgrader does not take {name}: {answer.get('log')}")
    return made


def grade(course: Path = COURSE, *, timeout: int = TIMEOUT) -> Path:
    """Grade all that was handed in, one after the other, and return the CSV of the scores.

    One that cannot be read or graded has no score there and does not stop the others; it is named on stderr.
    """
    api = NbGraderAPI(config=config_of(course, timeout=timeout))
    for folder in sorted((course / "submitted").glob("*/*")):
        student, name = folder.parent.name, folder.name
        answer = api.autograde(name, student, force=True, create=True)
        if not answer["success"]:
            print(f"{student}, {name}: not graded", file=sys.stderr)
    exported = course / "grades.csv"
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        CsvExportPlugin(to=str(exported)).export(book)
    return exported


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
    if options.pop("command") == "grade":
        print(grade(**options))
    else:
        print(*release(**options), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
