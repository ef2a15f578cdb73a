"""A simulated class: for each assignment the reference, other right solutions, wrong ones, and hostile submissions.

`submission.py` says what a submission is and how a student's notebook is filled in, `of_*.py` list those of each
assignment, `hostile.py` those that try every assignment's grading. `python -m tests.assignments` grades them all.
"""
