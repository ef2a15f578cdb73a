"""Write what each student is told, COURSE/feedback/STUDENT/ASSIGNMENT/ASSIGNMENT.html, by nbgrader.

    python scripts/feedback.py [--course DIR] [--show results|points|all]

A graded notebook holds the hidden tests, and a traceback quotes them. So by default a student is shown the visible part
of each test, its points and the first line of the error, with the written answers and the comments made by hand;
outputs of other cells are left out, for a submission can print what it has seen of the tests. An error's text is its
author's, too: `points` leaves it out. `all` shows the graded notebook as it is, hidden tests included.

Where `collect` has filled COURSE/submitted, the pages are also packed for each assignment into
COURSE/feedback/ASSIGNMENT-PLATFORM.zip, under the names that the learning platform gave. Points that were given by hand
since grading enter COURSE/grades.csv.
"""

import argparse
import csv
import os
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

import nbformat
from nbgrader.apps import NbGraderAPI

import collect
import coursework

SHOWN = ("results", "points", "all")
LONGEST = 200  # characters of an error's text


def first_line(output: nbformat.NotebookNode, secret: set[str]) -> nbformat.NotebookNode:
    """Return an error with the first line of its text in the place of the traceback, and without a test's words."""
    tellable = (f"{output.ename}: {output.evalue}".strip().split("\n")[0], output.ename, "an error")
    text = next(text for text in tellable if not any(line in text for line in secret))[:LONGEST]
    return nbformat.v4.new_output("error", ename=output.ename, evalue="", traceback=[text])


def shown(graded: nbformat.NotebookNode, released: nbformat.NotebookNode, show: str) -> nbformat.NotebookNode:
    """Return a graded notebook without hidden tests and printed output, with as much of errors as asked."""
    visible = {coursework.grade_id(cell): cell.source for cell in released.cells}
    told = {line.strip() for text in visible.values() for line in text.splitlines()}
    for cell in graded.cells:
        if cell.cell_type != "code":
            continue
        errors = [output for output in cell.outputs if output.output_type == "error"]
        cell.outputs = []
        if coursework.is_graded(cell):
            lines = {line.strip() for line in cell.source.splitlines()} - told
            cell.source = visible.get(coursework.grade_id(cell), "")
            if show == "results":
                cell.outputs = [
                    first_line(error, {line for line in lines if len(line) > 12}) for error in errors
                ]
    return graded


def feedback(course: Path = coursework.COURSE, *, show: str = "results") -> list[Path]:
    """Write the pages of all that was graded; return their paths, then those of the zips.

    Raises: FileNotFoundError: nothing was graded. RuntimeError: nbgrader cannot write a page. ValueError: there is no
    such thing to show.
    """
    if show not in SHOWN:
        raise ValueError(f"show is {show!r}, expected one of {', '.join(SHOWN)}")
    graded = sorted(
        path for path in (course / "autograded").glob("*/*/*.ipynb") if path.stem == path.parent.name
    )
    if not graded:
        raise FileNotFoundError(f"{course} has nothing in autograded: grade first")
    made = []
    with tempfile.TemporaryDirectory() as stage:
        for path in graded:
            student, name = path.parts[-3:-1]
            notebook = nbformat.read(path, as_version=4)
            if show != "all":
                released = nbformat.read(course / "release" / name / path.name, as_version=4)
                notebook = shown(notebook, released, show)
            copy = Path(stage) / student / name / path.name
            copy.parent.mkdir(parents=True)
            nbformat.write(notebook, copy)
        config = coursework.config_of(course)
        config.CourseDirectory.autograded_directory = stage
        api = NbGraderAPI(config=config)
        for path in graded:
            student, name = path.parts[-3:-1]
            answer = api.generate_feedback(name, student, force=True)
            if not answer["success"]:
                raise RuntimeError(f"no page for {student}, {name}: {answer.get('error') or answer['log']}")
            made.append(course / "feedback" / student / name / f"{name}.html")
    brought_up_to_date(course)
    return made + packed(course, made)


def packed(course: Path, pages: list[Path]) -> list[Path]:
    """Pack the pages for each platform and assignment, under the names of what was handed in; return the zips."""
    rows = {(row.student, row.assignment): row for row in collect.table(course)}
    zips: dict[Path, list[tuple[Path, str]]] = {}
    for page in pages:
        if row := rows.get(page.parts[-3:-1]):
            name = str(PurePosixPath(row.file).with_suffix(".html"))
            zips.setdefault(course / "feedback" / f"{row.assignment}-{row.platform}.zip", []).append(
                (page, name)
            )
    for path, members in zips.items():
        part = path.with_suffix(".part")
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for page, name in members:
                archive.write(page, name)
        os.replace(part, path)
    return sorted(zips)


def brought_up_to_date(course: Path) -> None:
    """Write COURSE/grades.csv anew from the gradebook; its remarks stay.

    Raises: ValueError: it has not the columns that grading gave it.
    """
    path = course / "grades.csv"
    if not path.is_file():
        return
    with open(path, newline="", encoding="utf-8-sig") as file:  # as a spreadsheet may have saved it
        try:
            rows = [[row[key] for key in ("student", "assignment", "remark")] for row in csv.DictReader(file)]
        except KeyError as error:
            raise ValueError(f"{path} has no column {error}: grade again") from error
    coursework.write_table(course, [coursework.row_of(course, *row) for row in rows])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--course", type=Path, default=coursework.COURSE)
    parser.add_argument("--show", choices=SHOWN, default=SHOWN[0])
    options = parser.parse_args(arguments)
    try:
        print(*feedback(options.course, show=options.show), sep="\n")
    except (OSError, RuntimeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
