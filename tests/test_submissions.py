"""Every honest submission of a simulated student scores what its mistakes leave, graded in this process."""

import pytest
from tests.assignments import classes, in_process
from tests.assignments.submission import points_of
from tests.test_assignments import NAMES, SOURCES, left, named

HONEST = [(n, s) for n in NAMES for s in classes.honest(n)[0 if n == classes.TRIED else 2 :]]


@pytest.mark.parametrize(("name", "submission"), HONEST, ids=named)
def test_an_honest_submission_scores_what_its_mistakes_leave(name, submission):
    won, errors = in_process.marked(submission, SOURCES[name])
    assert won == left(name, submission), errors


@pytest.mark.parametrize("name", NAMES)
def test_there_are_two_other_right_solutions_and_each_test_is_failed_by_a_wrong_one(name):
    made = classes.ALL[name]
    assert len(made.RIGHT) >= 2 and not any(right.lost for right in made.RIGHT)
    assert {cell for wrong in made.WRONG for cell in wrong.lost} == set(points_of(SOURCES[name]))
