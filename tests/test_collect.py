"""What a learning platform's zip holds goes to its students: the latest of each, nothing lost, nothing let out."""

import csv
import doctest
import re
import zipfile

import pytest

import collect
import coursework


def zipped(path, files):
    """Write a zip of (name, content) or of (ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return path


def at(name, minute):
    return zipfile.ZipInfo(name, (2027, 1, 1, 12, minute, 0))


@pytest.fixture
def course(tmp_path):
    """Return the folder of a course that has released two assignments."""
    for name in ("likelihood", "game"):
        (tmp_path / "course/release" / name).mkdir(parents=True)
    return tmp_path / "course"


def handed(course):
    """Return the text of each collected notebook, by student and assignment; no other file may lie there."""
    files = [path for path in (course / "submitted").rglob("*") if path.is_file()]
    assert all(path.stem == path.parent.name and path.suffix == ".ipynb" for path in files)
    return {path.parts[-3:-1]: path.read_text("utf-8") for path in files}


def test_canvas_files_go_to_their_students_and_the_latest_counts(course, tmp_path, capsys):
    files = [
        ("mullerzoe_12345_67890_likelihood.ipynb", "first"),
        ("mullerzoe_LATE_12345_67999_likelihood-1.ipynb", "second"),
        ("doejane_7_90001_likelihood.ipynb", "jane's"),
        ("doejane_8_90002_game (1).ipynb", "another Jane's"),
        ("obrien_9_90003_game.ipynb", "not even JSON"),
        ("LATE_anon_aB3dE_90005_likelihood.ipynb", "whose?"),
        ("obrien_9_90004_notes.pdf", "%PDF"),
    ]
    path = zipped(tmp_path / "canvas.zip", files)
    assert collect.main([str(path), "--course", str(course)]) == 1  # of the PDF
    said = capsys.readouterr()
    assert (
        "notes.pdf: it is no notebook" in said.err and "later one" in said.err and "5 notebooks" in said.out
    )
    assert handed(course) == {
        ("mullerzoe-12345", "likelihood"): "second",
        ("doejane-7", "likelihood"): "jane's",
        ("doejane-8", "game"): "another Jane's",
        ("obrien-9", "game"): "not even JSON",  # for grading to say so
        ("anon-aB3dE", "likelihood"): "whose?",
    }
    with open(course / "collected.csv", newline="", encoding="utf-8") as file:
        row = next(row for row in csv.DictReader(file) if row["student"] == "mullerzoe-12345")
    assert (row["platform"], row["name"], row["id"], row["late"]) == ("canvas", "mullerzoe", "12345", "late")
    assert row["file"] == "mullerzoe_LATE_12345_67999_likelihood-1.ipynb" and row["zip"] == "canvas.zip"


def test_moodle_folders_keep_their_names_and_people_of_one_name_are_kept_apart(course, tmp_path):
    files = [
        (at("Zoë Müller_11_assignsubmission_file_/likelihood.ipynb", 5), "late"),
        (at("Zoë Müller_11_assignsubmission_file_/old/likelihood-2.ipynb", 1), "early"),
        (at("张伟_12_assignsubmission_file/likelihood.ipynb", 1), "other letters"),
        (at("Jo Ann Smith_13_assignsubmission_file_likelihood.ipynb", 1), "without a folder"),
        (at("Ann Lee_14_assignsubmission_file_/likelihood.ipynb", 1), "one"),
        (at("Ann Lee_15_assignsubmission_file_/likelihood.ipynb", 1), "two"),
    ]
    taken, said = collect.collect([zipped(tmp_path / "moodle.zip", files)], course)
    students = {student: text for (student, _), text in handed(course).items()}
    assert students == {
        "zoe-muller": "late",
        "张伟": "other letters",
        "jo-ann-smith": "without a folder",
        "ann-lee-14": "one",
        "ann-lee-15": "two",
    }
    assert all(coursework.STUDENT.fullmatch(student) for student in students)
    assert {one.name for one in taken} >= {"Zoë Müller", "张伟", "Jo Ann Smith", "Ann Lee"}
    assert said == [f"Zoë Müller_11_assignsubmission_file_/old/likelihood-2.ipynb: {collect.LATER}"]
    # Moodle numbers the students of another assignment anew: the folder of one who is alone with the name stays
    other = zipped(tmp_path / "b.zip", [(at("Zoë Müller_99_assignsubmission_file_/game.ipynb", 1), "game")])
    assert [one.student for one in collect.collect([other], course)[0]] == ["zoe-muller"]


def test_collecting_again_takes_what_is_later_and_nothing_else(course, tmp_path):
    name = "Zoë_11_assignsubmission_file_/anything.ipynb"
    for minute, text, wanted in ((5, "b", "b"), (5, "b", "b"), (3, "a", "b"), (9, "c", "c")):
        path = zipped(tmp_path / f"{minute}.zip", [(at(name, minute), text)])
        collect.collect([path], course, assignment="game")
        assert handed(course) == {("zoe", "game"): wanted}
        assert len(collect.table(course)) == 1
    both = [tmp_path / "9.zip", tmp_path / "3.zip"]
    assert [one.zip for one in collect.collect(both, course, assignment="likelihood")[0]] == ["9.zip"]


def test_a_number_at_the_end_of_a_name_may_be_the_assignment_s(course, tmp_path):
    (course / "release/homework-1").mkdir()
    files = [
        ("a_1_5_homework-1.ipynb", "old"),
        ("a_1_6_homework-1-1.ipynb", "new"),
        ("b_2_7_game-1.ipynb", "b"),
    ]
    collect.collect([zipped(tmp_path / "canvas.zip", files)], course)
    assert handed(course) == {("a-1", "homework-1"): "new", ("b-2", "game"): "b"}


def test_a_folder_s_name_is_short_and_of_letters(course, tmp_path):
    assert doctest.testmod(collect).failed == 0
    long = "張" * 200
    files = [(f"{long}{end}_{end}_assignsubmission_file_/game.ipynb", str(end)) for end in (1, 2)]
    collect.collect([zipped(tmp_path / "long.zip", files)], course)
    cut = "張" * collect.LONGEST
    assert handed(course) == {(f"{cut}-1", "game"): "1", (f"{cut}-2", "game"): "2"}


def test_the_table_is_read_as_a_spreadsheet_saves_it(course, tmp_path):
    path = zipped(tmp_path / "a.zip", [("a_1_1_game.ipynb", "x")])
    collect.collect([path], course)
    table = course / "collected.csv"
    before = collect.table(course)
    table.write_text("\ufeff" + table.read_text("utf-8"), "utf-8")
    assert collect.table(course) == before and len(before) == 1
    table.write_text(table.read_text("utf-8").replace(",", ";"), "utf-8")
    with pytest.raises(ValueError, match="expected .'student', 'assignment'"):
        collect.table(course)


def encrypted(path):
    """Set the mark for encryption in all headers of a zip."""
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for found in re.finditer(re.escape(mark), bytes(data)):
            data[found.start() + offset] |= 1
    path.write_bytes(bytes(data))


def test_what_is_dangerous_damaged_or_too_large_stays_in_the_zip(course, tmp_path, monkeypatch):
    link = zipfile.ZipInfo("link_1_1_game.ipynb")
    link.external_attr = 0o120777 << 16
    hostile = [
        ("../../up_1_2_game.ipynb", "leads out"),
        ("/root_1_3_game.ipynb", "leads out"),
        ("C:/c_1_4_game.ipynb", "leads out"),
        ("a\\..\\b_1_5_game.ipynb", "leads out"),
        (link, "a link"),
        ("bomb_1_6_game.ipynb", b" " * (collect.LARGEST + 1)),
        ("__MACOSX/._x_1_7_game.ipynb", "hidden"),
        ("game.ipynb", "nobody's"),
        ("x_1_8_homework.ipynb", "of no assignment"),
        ("good_2_9_game.ipynb", "good"),
    ]
    path = zipped(tmp_path / "hostile.zip", hostile)
    assert path.stat().st_size < 2**17  # a bomb indeed
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    _, said = collect.collect([path], course)
    assert handed(course) == {("good-2", "game"): "good"}
    assert {p for p in tmp_path.rglob("*") if p.is_file()} - before == {
        course / "collected.csv",
        course / "submitted/good-2/game/game.ipynb",
    }
    for words, count in (
        ("out of the zip", 4),
        ("a link", 1),
        ("20 MB", 1),
        ("no notebook", 1),
        ("neither", 1),
    ):
        assert sum(words in line for line in said) == count, words
    assert len(said) == len(hostile) - 1 and "'homework'" in "".join(said)

    locked = zipped(tmp_path / "locked.zip", [("a_1_1_game.ipynb", "x")])
    encrypted(locked)
    assert collect.collect([locked], course) == ([], ["a_1_1_game.ipynb: it is encrypted"])
    damaged = zipped(tmp_path / "damaged.zip", [("a_1_1_game.ipynb", "abc" * 999), ("b_2_2_game.ipynb", "b")])
    data = bytearray(damaged.read_bytes())
    data[60] ^= 0xFF
    damaged.write_bytes(bytes(data))
    taken, said = collect.collect([damaged], course)
    assert [one.student for one in taken] == ["b-2"] and "cannot be unpacked" in said[0]
    state = handed(course)
    monkeypatch.setattr(collect, "LARGEST_SUM", 3)
    many = zipped(tmp_path / "many.zip", [(f"s_{i}_{i}_game.ipynb", "xx") for i in range(10, 13)])
    with pytest.raises(ValueError, match="together"):
        collect.collect([many], course)
    assert handed(course) == state  # not one of them
    monkeypatch.setattr(collect, "MOST", 2)
    with pytest.raises(ValueError, match="3 entries"):
        collect.collect([many], course)
    (tmp_path / "text.zip").write_text("no zip")
    assert collect.main([str(tmp_path / "text.zip"), "--course", str(course)]) == 1
    assert collect.main([str(path), "--course", str(tmp_path / "nothing")]) == 1
    with pytest.raises(FileNotFoundError, match="only game, likelihood"):
        collect.collect([path], course, assignment="essay")
    assert handed(course) == state and not list(course.glob(".collecting-*"))
