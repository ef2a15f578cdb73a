"""Grading in a box, what a student is told afterwards, and what a student can check before."""

import csv
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
from tests.assignments import simulated
from tests.assignments.submission import Submission
from tests.test_assignments import small

import check_notebook
import collect
import contained
import coursework
import feedback

ROOT = Path(__file__).resolve().parents[1]

TRIES = f"""
import os, socket, sqlite3
for attempt in (
    lambda: socket.create_connection(("192.0.2.1", 80), timeout=5),
    lambda: open({str(ROOT / "src/written")!r}, "w"),
    lambda: open({str(ROOT / "tests/written")!r}, "w"),
    lambda: os.listdir({str(ROOT / "book")!r}),
    lambda: os.listdir(os.path.expanduser("~root/.ssh")),
    lambda: sqlite3.connect("/course/gradebook.db").execute("SELECT id FROM student WHERE id <> 'tries'").fetchone()[0],
):
    try:
        attempt()
    except (OSError, TypeError):  # refused; None has no first part
        continue
    return 4
return 3
"""
FORGES = """
import sqlite3
with sqlite3.connect("/course/gradebook.db") as book:
    book.execute("UPDATE grade_cells SET max_score = 99")
return 4
"""
ANSWERS = {
    "anna": "return 3",
    "ben": "print(In)\nreturn 4",
    "dies": "import os\nos._exit(1)",
    "tries": TRIES,
    "forges": FORGES,
}


def class_of(folder, students):
    """Return a course in which the students have handed in the assignment "small"."""
    source, course = small(folder / "source"), folder / "course"
    coursework.release(course, source=source)
    made = {name: Submission(name, "", {"q": ANSWERS[name]}) for name in students}
    simulated.hand_in(course, "small", made)
    return course


def unboxed(box):
    """Return the command that grades a box's folder without a box: how points come out of it is the same."""
    script = str(ROOT / "scripts/coursework.py")
    return [sys.executable, script, "grade", "--course", str(box)], None


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    course = class_of(tmp_path_factory.mktemp("graded"), ["anna", "ben", "dies"])
    (course / "submitted/anna/notes").mkdir()
    return course, contained.grade(course, unboxed, minutes=5)


def test_points_are_given_outside_the_box_for_what_was_run_in_it(graded, tmp_path):
    course, (path, failures) = graded
    table = simulated.rows(path)
    found = {name: (row["tests"], row["of"], row["to_grade_by_hand"]) for name, row in table.items()}
    assert found == {
        "anna": ("2.0", "3.0", "1"),
        "ben": ("0.0", "3.0", "1"),
        "dies": ("", "3.0", ""),
    }
    assert "Kernel died" in table["dies"]["remark"]
    assert [(f.student, f.assignment) for f in failures] == [("anna", "notes"), ("dies", "small")]
    assert simulated.scores(course, "small", "anna") == {"test-q": 2.0}
    again = shutil.copytree(course, tmp_path / "again")
    path, failures = contained.grade(again, lambda box: (["true"], None), minutes=1)  # nothing comes out
    assert {row["tests"] for row in simulated.rows(path).values()} == {""} and len(failures) == 4
    assert "nothing came out" in failures[-1].reason
    assert simulated.scores(again, "small", "anna") == {"test-q": None}  # what was won before is taken back
    with pytest.raises(FileNotFoundError, match="grade first"):  # and nobody is told of it
        feedback.feedback(again)


def test_what_comes_out_of_a_box_is_not_trusted(tmp_path):
    box, stage = tmp_path / "box", tmp_path / "stage"
    path = box / "autograded/anna/small/small.ipynb"
    path.parent.mkdir(parents=True)
    (tmp_path / "secret.ipynb").write_text(nbformat.writes(nbformat.v4.new_notebook()))
    (box / "grades.csv").write_text("student,assignment,remark\nanna,small,\n")
    path.symlink_to(tmp_path / "secret.ipynb")
    assert "it is a link" in contained.brought_back(box, "anna", "small", stage)
    path.unlink()
    os.mkfifo(path)  # reading it would wait for ever
    assert "no file" in contained.brought_back(box, "anna", "small", stage)
    path.unlink()
    path.write_text("[]")
    assert "cannot be read" in contained.brought_back(box, "anna", "small", stage)
    (box / "grades.csv").write_text("student,assignment,remark\nanna,small,=A1\x1b[2J\n")
    assert contained.brought_back(box, "anna", "small", stage) == "A1[2J"
    (box / "grades.csv").write_bytes(b"\xff\xfe")
    assert "cannot be read" in contained.brought_back(box, "anna", "small", stage)
    (box / "grades.csv").unlink()
    os.mkfifo(box / "grades.csv")
    assert "no file" in contained.brought_back(box, "anna", "small", stage)
    assert not stage.exists()


def test_a_box_is_thrown_away_however_deep_it_is(tmp_path):
    with contained.thrown_away() as box:
        (box / "locked").mkdir()
        (box / "locked/link").symlink_to(tmp_path)
        (box / "locked").chmod(0)
        digs = "import os\nfor _ in range(1500):\n    os.mkdir('d'); os.chdir('d')"
        subprocess.run([sys.executable, "-c", digs], cwd=box, check=True)
    assert not box.exists() and tmp_path.is_dir()


def test_a_box_that_does_not_start_is_noticed_before_anything_is_graded():
    contained.tried(unboxed)
    with pytest.raises(RuntimeError, match="does not start: no daemon"):
        contained.tried(lambda box: (["sh", "-c", "echo no daemon >&2"], None))


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_a_container_has_no_network_no_rights_and_one_folder_to_write_to(engine, capsys, monkeypatch):
    monkeypatch.setattr(contained, "data_folder", lambda: Path("/data-here"))
    assert contained.main(["--engine", engine, "--dry-run", "--minutes", "7"]) == 0
    command = capsys.readouterr().out.split()
    assert command[:2] == [engine, "run"] and {"--network=none", "--read-only", "--cap-drop=ALL"} <= set(
        command
    )
    assert {"--security-opt=no-new-privileges", "--pids-limit=512", "--memory=6g"} <= set(command)
    mounts = [part.removeprefix("--volume=") for part in command if part.startswith("--volume=")]
    assert [mount.split(":")[1] for mount in mounts] == ["/course", "/data"]
    assert "ro" in mounts[1].split(":")[2].split(",")
    inside = command[command.index(contained.IMAGE) + 1 :]
    assert inside[:3] == ["timeout", "--kill-after=10", "420"] and "/book/scripts/coursework.py" in inside


def test_the_image_is_made_of_what_is_there(monkeypatch):
    seen = {}

    def run(command, check):
        folder = Path(command[-1])
        seen["command"] = command
        seen["files"] = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    monkeypatch.setattr(contained.subprocess, "run", run)
    contained.image("docker")
    copied = re.findall(r"^COPY (\S+)", (ROOT / "scripts/Containerfile").read_text("utf-8"), re.M)
    assert set(copied) - {"."} <= seen["files"] and seen["command"][:2] == ["docker", "build"]
    assert {"pyproject.toml", "scripts/coursework.py", "tests/mutants/registry.py"} <= seen["files"]
    assert not [name for name in seen["files"] if name.endswith(".ipynb")]  # no solutions


def bubbles():
    """Say whether this machine makes boxes: bubblewrap is there, and the system lets it."""
    probe = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"]
    return shutil.which("bwrap") and subprocess.run(probe, capture_output=True).returncode == 0


@pytest.mark.skipif(not bubbles(), reason="no bubblewrap here, or it may not make a box")
def test_in_bubblewrap_nothing_gets_out(tmp_path):
    course = class_of(tmp_path, ["tries", "forges"])
    assert contained.main(["--course", str(course), "--engine", "bwrap", "--minutes", "5"]) == 0
    found = {name: row["tests"] for name, row in simulated.rows(course / "grades.csv").items()}
    assert found == {"tries": "2.0", "forges": "0.0"}
    ran = nbformat.read(course / "autograded/forges/small/small.ipynb", as_version=4)
    assert [o.ename for c in ran.cells for o in c.get("outputs", [])] == [
        "AssertionError"
    ]  # it did write in its box
    with coursework.database(course) as book:
        assert book.find_assignment("small").max_score == 3


def test_an_error_is_told_in_one_short_line_that_quotes_no_test():
    output = nbformat.v4.new_output(
        "error", ename="ValueError", evalue="", traceback=["a", "test(q) == 31415"]
    )
    for text, told in {
        "3, expected 4\nmore": "ValueError: 3, expected 4",
        "seen: test(q) == 31415": "ValueError",
        "x" * 999: "ValueError: " + "x" * (feedback.LONGEST - 12),
    }.items():
        output.evalue = text
        assert feedback.first_line(output, {"test(q) == 31415"}).traceback == [told]


def test_an_error_that_is_called_like_a_test_tells_nothing():
    for name, text in (
        ("near(q(), 3)" * 9, ""),
        ("x" * 190 + "near(q(), 3)", "y"),
        ("E", "x" * 195 + "near(q(), 3)"),
    ):
        output = nbformat.v4.new_output("error", ename=name, evalue=text, traceback=[])
        (told,) = feedback.first_line(output, {"near(q(), 3)"}).traceback
        assert told in ("an error", "E")


def test_feedback_shows_what_was_asked_for(tmp_path, graded):
    course = tmp_path / "course"
    shutil.copytree(graded[0], course)
    for student in ("anna", "ben"):  # as if Moodle had sent them
        row = collect.Taken(
            student, "small", "moodle", student, "5", "", f"{student}_5_x/small.ipynb", "z.zip", "1"
        )
        with open(course / "collected.csv", "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, collect.asdict(row))
            if not file.tell():
                writer.writeheader()
            writer.writerow(collect.asdict(row))
    with coursework.database(course) as book:
        (written,) = [g for g in book.find_submission("small", "ben").notebooks[0].grades if g.name == "why"]
        written.manual_score, written.needs_manual_grade = 0.5, False
        book.db.commit()
    remarks = {name: row["remark"] for name, row in simulated.rows(course / "grades.csv").items()}
    pages = {}
    for show in feedback.SHOWN:
        made = feedback.feedback(course, show=show)
        assert made[-1] == course / "feedback/small-moodle.zip"
        pages[show] = {path.parts[-3]: path.read_text("utf-8") for path in made[:-1]}
        assert set(pages[show]) == {"anna", "ben"}
    assert zipfile.ZipFile(made[-1]).namelist() == ["anna_5_x/small.html", "ben_5_x/small.html"]

    def holds(show, student, words):
        return words in re.sub(r"<[^>]+>", "", pages[show][student])

    hidden = "near(q(), 3)"
    for student in ("anna", "ben"):
        assert holds("all", student, hidden) and holds("results", student, "assert q() &gt; 0")
        for show in ("results", "points"):
            assert not holds(show, student, hidden) and not holds(show, student, "SEED")
            assert holds(show, student, "Score: ")
    assert holds("results", "ben", "AssertionError") and not holds("points", "ben", "AssertionError")
    assert "Score: 2.0 / 3.0" in pages["points"]["anna"] and "Score: 0.5 / 3.0" in pages["points"]["ben"]
    table = simulated.rows(course / "grades.csv")
    assert (table["ben"]["written"], table["ben"]["score"], table["ben"]["to_grade_by_hand"]) == (
        "0.5",
        "0.5",
        "0",
    )
    assert {name: row["remark"] for name, row in table.items()} == remarks and remarks["dies"]
    with pytest.raises(FileNotFoundError, match="grade first"):
        feedback.feedback(tmp_path / "nothing")
    with pytest.raises(ValueError, match="expected one of results"):
        feedback.feedback(course, show="everything")


# ---- before handing in -------------------------------------------------------------------------------------------


def test_a_student_is_told_what_is_missing(tmp_path, capsys):
    source, course = small(tmp_path / "source"), tmp_path / "course"
    coursework.release(course, source=source)
    released = course / "release/small/small.ipynb"
    said = check_notebook.check(released)
    assert [line.split(":")[0] for line in said] == ["q", "why", "test-q"]
    assert "YOUR CODE HERE" in said[0] and "YOUR ANSWER HERE" in said[1] and "NotImplementedError" in said[2]
    simulated.hand_in(course, "small", {"anna": Submission("anna", "", {"q": "return 4"})})
    path = course / "submitted/anna/small/small.ipynb"
    assert check_notebook.main([str(path)]) == 0 and "hidden ones" in capsys.readouterr().out
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].source = "pass"
    notebook.cells.append(notebook.cells[1].copy())
    assert [line.split(":")[0] for line in check_notebook.before_running(notebook)] == ["q", "test-q"]
    path.write_text("{")
    assert check_notebook.main([str(path)]) == 1 and "cannot be read" in capsys.readouterr().out
    assert "no notebook of an assignment" in check_notebook.before_running(nbformat.v4.new_notebook())[0]


@pytest.mark.parametrize(
    ("code", "words"),
    [("import time\ntime.sleep(99)", "longer than 3 seconds"), ("import os\nos._exit(1)", "kernel died")],
)
def test_a_notebook_that_hangs_or_dies_is_named(code, words, monkeypatch):
    monkeypatch.setattr(check_notebook, "TIMEOUT", 3)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    (line,) = check_notebook.run(notebook)
    assert words in line
