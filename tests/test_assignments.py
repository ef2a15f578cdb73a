"""The assignments grade what they should: every right solution in full, every wrong one by its mistake, no trick.

Each assignment is released, and submissions graded in one batch by nbgrader, as an instructor does it. The many honest
ones, which need no kernel of their own, are graded in test_submissions.py.
"""

import re

import nbformat
import pytest
from tests.assignments import classes, simulated
from tests.assignments.submission import Submission, points_of

import coursework

NAMES = list(classes.ALL)
SOURCES = {name: classes.source_of(name) for name in NAMES}
TIMEOUT = 40  # seconds a cell
WRITTEN = {
    name: sum(
        c.metadata.nbgrader.points
        for c in source.cells
        if c.cell_type == "markdown" and coursework.is_graded(c)
    )
    for name, source in SOURCES.items()
}  # points


@pytest.fixture(scope="module")
def courses(tmp_path_factory):
    """Return a folder for each assignment, in which it is released."""
    found = {}
    for name in NAMES:
        found[name] = tmp_path_factory.mktemp(name)
        (found[name] / "sources").mkdir()
        (found[name] / "sources" / name).symlink_to(coursework.SOURCE / name)
        coursework.release(found[name], source=found[name] / "sources", seed=7)  # not the source's own seed
    return found


def by_nbgrader(name):
    """Return the submissions of an assignment that nbgrader grades here; the others are graded in this process.

    The kernel costs more than all else. On one assignment all tricks are tried, on the others two; and on that one a
    right and a wrong submission show that both ways of grading agree.
    """
    shipped = (classes.REFERENCE, classes.nothing_done(name))
    if name == classes.TRIED:
        return (*shipped, classes.ALL[name].RIGHT[-1], classes.ALL[name].WRONG[0], *classes.tricks(name))
    return shipped + tuple(t for t in classes.tricks(name) if t.name in ("crashes", "patches-the-comparison"))


@pytest.fixture(scope="module")
def graded(courses):
    """Return the table of grades and what failed, of an assignment, graded when it is first asked for."""
    found = {}

    def of(name):
        if name not in found:
            simulated.hand_in(courses[name], name, {s.name: s for s in by_nbgrader(name)})
            path, failures = coursework.grade(courses[name], timeout=TIMEOUT)
            found[name] = simulated.rows(path), {failure.student: failure for failure in failures}
        return found[name]

    return of


def left(name, submission):
    """Return the points of each test that the submission's mistakes leave."""
    points = points_of(SOURCES[name])
    assert set(submission.lost) <= set(points)
    return {cell: value - submission.lost.get(cell, 0) for cell, value in points.items()}


def named(value):
    return getattr(value, "name", value)


def test_every_assignment_has_its_class_and_every_class_an_assignment():
    assert coursework.names() == NAMES


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "submission"), [(n, s) for n in NAMES for s in by_nbgrader(n)], ids=named)
def test_a_submission_scores_what_its_mistakes_leave(courses, graded, name, submission):
    wanted, (rows, failures) = left(name, submission), graded(name)
    row, found = rows[submission.name], simulated.scores(courses[name], name, submission.name)
    if submission.remark:  # no score at all, which is not the same as none of the points
        assert submission.remark in row["remark"] == failures[submission.name].reason
        assert set(found.values()) <= {None} and row["tests"] == row["score"] == ""
    else:
        assert found == wanted and float(row["tests"]) == sum(wanted.values())
        assert not row["remark"] and submission.name not in failures
    assert float(row["of"]) == sum(points_of(SOURCES[name]).values()) + WRITTEN[name]


SECRET = re.compile(r"### BEGIN (?:SOLUTION|HIDDEN TESTS)\n(.*?)### END (?:SOLUTION|HIDDEN TESTS)", re.DOTALL)


def lines(parts):
    """Return the lines that say something, of more than 20 characters."""
    return {line.strip() for part in parts for line in part.split("\n") if len(line.strip()) > 20}


@pytest.mark.parametrize("name", NAMES)
def test_the_release_holds_no_solution_and_no_hidden_test(courses, name):
    """No line of a solution, rubric or hidden test that the rest of the source does not hold as well."""
    text = (courses[name] / "release" / name / f"{name}.ipynb").read_text("utf-8")
    shown = "\n".join(cell.source for cell in nbformat.reads(text, as_version=4).cells)
    secret, public = set(), set()
    for cell in SOURCES[name].cells:
        parts = SECRET.split(cell.source)  # public and secret ones by turns
        public |= lines(parts[::2])
        secret |= lines(parts[1::2])
    assert len(secret - public) > 20
    assert not {line for line in secret - public if line in shown}
    for word in ("BEGIN SOLUTION", "BEGIN HIDDEN", "Rubric"):
        assert word in str(SOURCES[name]) and word not in text


def test_the_seed_changes_the_hidden_draws_alone(tmp_path):
    name = NAMES[0]
    texts = []
    for seed in (1, 2):
        notebook = coursework.prepared(nbformat.from_dict(SOURCES[name].copy()), seed)
        texts.append([cell.source for cell in notebook.cells])
    differ = [(a, b) for a, b in zip(*texts, strict=True) if a != b]
    assert len(differ) == len(points_of(SOURCES[name]))
    assert all(a.replace("SEED = 1", "SEED = 2") == b for a, b in differ)


def small(folder, *, points=2, name="q"):
    """Write the source of an assignment "small", with one solution, one test and one written answer."""

    def cell(kind, source, **marks):
        made = kind(source)
        known = {"grade": False, "solution": False, "locked": False, "task": False, "schema_version": 3}
        made.metadata["nbgrader"] = known | marks
        return made

    code, words = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    test = f"assert {name}() > 0\n### BEGIN HIDDEN TESTS\nSEED = 1\nnear({name}(), 3)\n### END HIDDEN TESTS"
    solution = f"def {name}():\n    ### BEGIN SOLUTION\n    return 3\n    ### END SOLUTION"
    written = "### BEGIN SOLUTION\nBecause. Rubric: 1 point.\n### END SOLUTION"
    cells = [
        cell(code, "def near(a, b):\n    assert a == b", grade_id="tools", locked=True),
        cell(code, solution, grade_id=name, solution=True),
        cell(code, test, grade_id=f"test-{name}", grade=True, locked=True, points=points),
        cell(words, written, grade_id="why", grade=True, solution=True, points=1),
    ]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=kernel | {"language_info": {"name": "python"}})
    (folder / "small").mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / "small/small.ipynb")
    return folder


def test_what_was_given_by_hand_stays_and_what_was_run_is_taken_back(tmp_path, capsys):
    """Released twice, handed in twice: the second time the file is cut short, and the old points must not stand."""
    source, course = small(tmp_path / "source"), tmp_path / "course"
    options = ["--course", str(course)]
    assert coursework.main(["grade", *options]) == 1 and "release" in capsys.readouterr().err
    assert coursework.main(["release", *options, "--source", str(source)]) == 0
    assert coursework.main(["grade", *options]) == 1 and "submitted" in capsys.readouterr().err
    good = Submission("anna", "", {"q": "return 3"})
    simulated.hand_in(course, "small", {"anna": good, "ben": Submission("ben", "", {"q": "return 4"})})
    (course / "submitted/anna/small/near.py").write_text("raise SystemExit")
    (course / "submitted/anna/notes").mkdir()
    assert coursework.main(["grade", *options]) == 1
    assert "anna, notes: no such assignment" in capsys.readouterr().err
    with coursework.database(course) as book:
        (written,) = [g for g in book.find_submission("small", "anna").notebooks[0].grades if g.name == "why"]
        written.manual_score, written.needs_manual_grade = 1.0, False
        (ran,) = [g for g in book.find_submission("small", "ben").notebooks[0].grades if g.name == "test-q"]
        ran.manual_score = 1.5  # the test was too strict
        book.db.commit()
    (course / "submitted/anna/notes").rmdir()
    assert coursework.main(["release", *options, "--source", str(source), "--seed", "9"]) == 0
    assert coursework.main(["grade", *options]) == 0
    table = simulated.rows(course / "grades.csv")
    assert (table["anna"]["tests"], table["anna"]["written"], table["anna"]["score"]) == ("2.0", "1.0", "3.0")
    assert (table["ben"]["tests"], table["ben"]["to_grade_by_hand"], table["ben"]["of"]) == (
        "1.5",
        "1",
        "3.0",
    )
    path = course / "submitted/anna/small/small.ipynb"
    path.write_text(path.read_text("utf-8")[:-99], encoding="utf-8")
    no_notebooks = (
        "[]",
        "null",
        '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [3]}',
        "[" * 10**5,
    )
    for i, text in enumerate(no_notebooks):  # nor do these stop the others
        (course / f"submitted/other-{i}/small").mkdir(parents=True)
        (course / f"submitted/other-{i}/small/small.ipynb").write_text(text)
    capsys.readouterr()
    assert coursework.main(["grade", *options]) == 1
    said = capsys.readouterr().err
    assert "anna, small: it cannot be read" in said and said.count("it cannot be read") == 1 + len(
        no_notebooks
    )
    anna = simulated.rows(course / "grades.csv")["anna"]
    assert anna["tests"] == anna["score"] == "" and "cannot be read" in anna["remark"]
    assert simulated.scores(course, "small", "anna") == {"test-q": None}


def test_a_release_that_cannot_be_leaves_the_course_as_it_was(tmp_path, capsys):
    source, course = small(tmp_path / "source"), tmp_path / "course"
    coursework.release(course, source=source)
    simulated.hand_in(course, "small", {"anna": Submission("anna", "", {"q": "return 3"})})
    coursework.grade(course)

    def files():
        return {p: p.read_bytes() for p in sorted(course.rglob("*.ipynb"))}

    before = files()
    small(source, name="other")
    assert coursework.main(["release", "--course", str(course), "--source", str(source)]) == 1
    assert "test-other, test-q differ" in capsys.readouterr().err and files() == before
    with pytest.raises(ValueError, match="keeps its copy"):
        coursework.release(course, source=course / "source")
    bare = nbformat.read(source / "small/small.ipynb", as_version=4)
    bare.cells[2].source = bare.cells[2].source.replace("SEED = 1\n", "")
    with pytest.raises(ValueError, match="test-other have no line SEED"):
        coursework.prepared(bare, 1)
    with pytest.raises(ValueError, match="0 cells are called 'tools'"):
        coursework.prepared(nbformat.v4.new_notebook(), 1)
    with pytest.raises(FileNotFoundError, match="holds no assignment"):
        coursework.names(tmp_path / "nothing")
    assert files() == before
