"""The assignments grade what they should: every right solution in full, every wrong one by its mistake, no trick.

Each assignment is released and a class of simulated submissions graded in one batch, as an instructor does it.
"""

import re

import nbformat
import pytest
from tests.assignments import classes, simulated
from tests.assignments.submission import points_of

import coursework

NAMES = list(classes.ALL)
SOURCES = {name: classes.source_of(name) for name in NAMES}
TIMEOUT = 40  # seconds a cell


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    coursework.release(folder, seed=7)  # not the seed that the source was written with
    return folder


@pytest.fixture(scope="module")
def graded(course):
    """Return the scores by assignment and submission, graded when they are first asked for."""
    found = {}

    def of(name):
        if name not in found:
            found[name] = simulated.held(course, name, classes.of(name), timeout=TIMEOUT)
        return found[name]

    return of


def test_every_assignment_of_the_source_has_its_class():
    assert coursework.names() == sorted(classes.ALL)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "submission"),
    [(n, s) for n in NAMES for s in classes.of(n)],
    ids=lambda v: getattr(v, "name", v),
)
def test_a_submission_scores_what_its_mistakes_leave(graded, name, submission):
    points = points_of(SOURCES[name])
    assert set(submission.lost) <= set(points)
    found = graded(name)[submission.name]
    wanted = {cell: value - submission.lost.get(cell, 0) for cell, value in points.items()}
    assert {cell: found.get(cell, 0) for cell in points} == wanted


@pytest.mark.parametrize("name", NAMES)
def test_there_are_two_other_right_solutions_and_each_test_is_failed_by_a_wrong_one(name):
    made = classes.ALL[name]
    assert len(made.RIGHT) >= 2
    assert {cell for wrong in made.WRONG for cell in wrong.lost} == set(points_of(SOURCES[name]))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_the_release_as_it_is_gets_no_point(course, graded, name):
    graded(name)  # one batch after the other: they share a database
    text = (course / "release" / name / f"{name}.ipynb").read_text("utf-8")
    folder = course / "submitted/nothing-done" / name
    folder.mkdir(parents=True)
    (folder / f"{name}.ipynb").write_text(text, encoding="utf-8")
    for other in (course / "submitted").iterdir():
        if other.name != "nothing-done":
            (other / name).rename(course / f"done-{other.name}-{name}")
    coursework.grade(course, timeout=TIMEOUT)
    found = simulated.scores(course, name, "nothing-done")
    assert found == dict.fromkeys(points_of(SOURCES[name]), 0.0)


SECRET = re.compile(r"### BEGIN (?:SOLUTION|HIDDEN TESTS)\n(.*?)### END (?:SOLUTION|HIDDEN TESTS)", re.DOTALL)


def lines(parts):
    """Return the lines that say something, of more than 20 characters."""
    return {line.strip() for part in parts for line in part.split("\n") if len(line.strip()) > 20}


@pytest.mark.parametrize("name", NAMES)
def test_the_release_holds_no_solution_and_no_hidden_test(course, name):
    """No line of a solution, rubric or hidden test that the rest of the source does not hold as well."""
    text = (course / "release" / name / f"{name}.ipynb").read_text("utf-8")
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
