"""Sort the notebooks of a learning platform's zip into course/submitted/STUDENT/ASSIGNMENT/ASSIGNMENT.ipynb.

    python scripts/collect.py ZIP [ZIP ...] [--assignment NAME] [--course DIR]

Knows the zips that Canvas ("Download Submissions") and Moodle ("Download all submissions") make:

    Canvas    mullerzoe_12345_67890_likelihood.ipynb, mullerzoe_LATE_12345_67890_likelihood-1.ipynb,
              anon_aB3dE_67890_likelihood.ipynb where grading is anonymous
    Moodle    Zoë Müller_12345_assignsubmission_file_/likelihood.ipynb

Of several notebooks of a student the latest is taken. COURSE/collected.csv says whose folder is whose. Nothing is
unpacked by the name it has in the zip, and what is not taken is named, with the reason; the zips stay as they are.

nbgrader's own zip_collect needs a pattern for each platform, ends where a student has two files, and unpacks whatever
size there is.
"""

import argparse
import csv
import hashlib
import lzma
import os
import re
import sys
import tempfile
import unicodedata
import zipfile
import zlib
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
COURSE = ROOT / "course"
TABLE = "collected.csv"
LARGEST, LARGEST_SUM, MOST = 20 * 2**20, 2 * 2**30, 20_000  # bytes of a notebook and of all; entries of a zip
LONGEST = 50  # characters of a folder's name, at most four bytes each, of 255 that file systems take
CANVAS = re.compile(r"(?P<name>[^/]+?)(?P<late>_LATE)?_(?P<id>\d+)_(?P<upload>\d+)_(?P<file>[^/]+)")
ANONYMOUS = re.compile(r"(?P<late>LATE_)?(?P<name>anon)_(?P<id>[A-Za-z0-9]+)_(?P<upload>\d+)_(?P<file>[^/]+)")
MOODLE = re.compile(
    r"(?:.*/)?(?P<name>[^/]+?)_(?P<id>\d+)_assignsubmission_file(?:_?/|_)(?:.*/)?(?P<file>[^/]+)"
)
# what a platform or a browser puts behind the name of a second file
AGAIN = re.compile(r"(?:-(\d+)| ?\((\d+)\))$")
# what a broken or hostile zip raises
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,  # also NotImplementedError
)
LATER = "there is a later one"


@dataclass(frozen=True)
class Taken:
    """A row of the table: whose notebook of which assignment lies in the student's folder, and where it came from."""

    student: str
    assignment: str
    platform: str
    name: str  # as the platform writes it
    id: str
    late: str
    file: str  # in the zip
    zip: str
    order: str  # of two files of a student the later has the larger
    sha256: str = ""


# ---- what a name says --------------------------------------------------------------------------------------------


def name_of(entry: zipfile.ZipInfo) -> str:
    """Return an entry's name; without the mark for UTF-8 Python has read it in another alphabet."""
    name = entry.orig_filename
    if not entry.flag_bits & 0x800:
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            pass
    return unicodedata.normalize("NFC", name)


def slug(name: str) -> str:
    """Return a name as that of a folder: small letters of any alphabet, without accents, cut where it is long.

    >>> slug("Zoë  Müller-O'Brien"), slug("張 偉"), slug("...")
    ('zoe-muller-o-brien', '張-偉', 'student')
    """
    apart = unicodedata.normalize("NFKD", name)
    plain = "".join(letter for letter in apart if not unicodedata.combining(letter)).lower()
    joined = re.sub(r"[\W_]+", "-", unicodedata.normalize("NFC", plain)).strip("-")
    return joined[:LONGEST].rstrip("-") or "student"


def refusal(entry: zipfile.ZipInfo, name: str) -> str:
    """Return why an entry is not looked at, or ""."""
    path = PurePosixPath(name)
    if "\\" in name or "\0" in name or path.is_absolute() or ".." in path.parts or ":" in name.split("/")[0]:
        return "its path leads out of the zip"
    if entry.external_attr >> 28 == 0o12:
        return "it is a link"
    if entry.flag_bits & 0x1:
        return "it is encrypted"
    if path.suffix.lower() != ".ipynb" or path.name.startswith("."):  # macOS adds hidden twins
        return "it is no notebook"
    if entry.file_size > LARGEST:
        return f"it is larger than {LARGEST // 2**20} MB"
    return ""


def read_name(name: str, entry: zipfile.ZipInfo, archive: str, names: list[str]) -> Taken | None:
    """Return what a name says of its student and assignment, or None where it follows no pattern.

    Args: names: of the assignments; a number at the end of one belongs to it.
    """
    found, platform = MOODLE.fullmatch(name), "moodle"
    if not found:
        # Canvas has no folders but one around all; a student's id is the same in every assignment
        name_alone, platform = name.rpartition("/")[2], "canvas"
        found = ANONYMOUS.fullmatch(name_alone) or CANVAS.fullmatch(name_alone)
    if not found:
        return None
    said, stem = found.groupdict(), PurePosixPath(found["file"]).stem
    again = None if stem in names else AGAIN.search(stem)
    number = int(again[1] or again[2]) if again else 0
    when = "{:04}{:02}{:02}{:02}{:02}{:02}".format(*entry.date_time)
    order = f"{int(said.get('upload') or 0):015}-{when}-{number:05}"
    student = f"{slug(said['name'])}-{said['id']}" if platform == "canvas" else slug(said["name"])
    stem = stem[: again.start()] if again else stem
    late = "late" if said.get("late") else ""
    return Taken(student, stem, platform, said["name"], said["id"], late, name, archive, order)


# ---- what is taken -----------------------------------------------------------------------------------------------


def distinct(found: list[Taken], known: list[Taken]) -> list[Taken]:
    """Return the files with folders apart for people of one name, by their numbers.

    Moodle gives a student another number in each assignment, so the name alone is the folder as long as it is one
    person's: of one spelling, and with one number within an assignment.
    """
    spelt: dict[str, set] = {}
    numbers: dict[tuple, set] = {}
    for one in (*known, *found):
        if one.platform == "moodle":
            spelt.setdefault(slug(one.name), set()).add(one.name)
            numbers.setdefault((slug(one.name), one.assignment), set()).add(one.id)
    shared = {name for name, spellings in spelt.items() if len(spellings) > 1}
    shared |= {name for (name, _), ids in numbers.items() if len(ids) > 1}
    return [
        replace(one, student=f"{slug(one.name)}-{one.id}")
        if one.platform == "moodle" and slug(one.name) in shared
        else one
        for one in found
    ]


def read_zip(path: Path, names: list[str], assignment: str | None) -> tuple[list, list[str]]:
    """Return (file, entry) of each notebook of a zip that says whose it is, and what is wrong with the other entries.

    Raises: FileNotFoundError: there is no such file. ValueError: it is no zip, or has too many entries.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file: name the zip, make collect ZIP=FILE")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"{path} is no zip: {error}") from error
    if len(entries) > MOST:
        raise ValueError(f"{path} has {len(entries)} entries, expected at most {MOST}")
    found, left = [], []
    for entry in entries:
        name = name_of(entry)
        wrong = refusal(entry, name)
        one = None if wrong else read_name(name, entry, path.name, names)
        if not wrong and not one:
            wrong = "its name is neither Canvas's nor Moodle's"
        if one and assignment:
            one = replace(one, assignment=assignment)
        elif one and one.assignment not in names:
            wrong = f"no assignment is called {one.assignment!r}: name the one it is for"
        if wrong:
            left.append(f"{name}: {wrong}")
        else:
            found.append((one, entry))
    return found, left


def content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Return an entry's bytes. Raises: ValueError: it is damaged, or larger than the zip says or than is allowed."""
    try:
        with archive.open(entry) as file:
            data = file.read(LARGEST + 1)
    except DAMAGED as error:
        raise ValueError(f"it cannot be unpacked: {error}") from error
    if len(data) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST // 2**20} MB")
    return data


def table(course: Path) -> list[Taken]:
    """Return the rows of COURSE/collected.csv, none where there is no such file. Raises: ValueError: other columns."""
    path = course / TABLE
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8-sig") as file:  # as a spreadsheet may have saved it
        rows, columns = csv.DictReader(file), [field.name for field in fields(Taken)]
        if rows.fieldnames != columns:
            raise ValueError(f"{path} has the columns {rows.fieldnames}, expected {columns}")
        return [Taken(**row) for row in rows]


def collect(
    zips: list[Path], course: Path = COURSE, *, assignment: str | None = None
) -> tuple[list[Taken], list[str]]:
    """Put the latest notebook of each student in the student's folder; return what was put there, and what was not.

    All is read before the first file is written, each file is whole or not there, and one that lies there is replaced
    by a later one only. Raises: ValueError: a file is no zip, or all are too large together. FileNotFoundError: a zip
    is missing, nothing was released, or no assignment has that name.
    """
    names = sorted(path.name for path in (course / "release").glob("*") if path.is_dir())
    if not names or assignment not in (None, *names):
        what = (
            f"has no assignment {assignment!r}, only {', '.join(names)}"
            if names
            else "has nothing in release"
        )
        raise FileNotFoundError(f"{course} {what}")
    before = table(course)
    now = {(row.student, row.assignment): row for row in before}
    said: list[str] = []
    with tempfile.TemporaryDirectory(dir=course, prefix=".collecting-") as stage, ExitStack() as opened:
        found = []
        for path in zips:
            with_entries, left = read_zip(path, names, assignment)
            found += [(one, entry, path) for one, entry in with_entries]
            said += left
        rows = distinct([one for one, _, _ in found], before)
        parted = {slug(one.name) for one in rows if one.platform == "moodle"} - {one.student for one in rows}
        for name in sorted(parted & {row.student for row in before}):
            said.append(
                f"{name}: more than one person is called so; see whose the folder {name} of before is"
            )
        archives = {path: opened.enter_context(zipfile.ZipFile(path)) for path in zips}
        chosen: dict[tuple, tuple] = {}
        queue = sorted(zip(rows, found, strict=True), key=lambda pair: pair[0].order, reverse=True)
        total = 0
        for one, (_, entry, path) in queue:
            key = one.student, one.assignment
            old = now.get(key)
            if key in chosen or (old and old.order > one.order):
                said.append(f"{one.file}: {LATER}")
                continue
            try:
                data = content(archives[path], entry)
            except ValueError as error:
                said.append(f"{one.file}: {error}")
                continue
            total += len(data)
            if total > LARGEST_SUM:
                raise ValueError(f"the notebooks are larger than {LARGEST_SUM // 2**30} GB together")
            staged = Path(stage) / str(len(chosen))
            staged.write_bytes(data)
            chosen[key] = replace(one, sha256=hashlib.sha256(data).hexdigest()), staged
        for one, staged in chosen.values():
            folder = course / "submitted" / one.student / one.assignment
            folder.mkdir(parents=True, exist_ok=True)
            os.replace(staged, folder / f"{one.assignment}.ipynb")
        now |= {key: one for key, (one, _) in chosen.items()}
        staged = Path(stage) / TABLE
        with open(staged, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Taken)])
            writer.writeheader()
            writer.writerows(asdict(row) for _, row in sorted(now.items()))
        os.replace(staged, course / TABLE)
    return [one for _, (one, _) in sorted(chosen.items())], said


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("zips", nargs="+", type=Path, metavar="ZIP")
    parser.add_argument("--course", type=Path, default=COURSE)
    parser.add_argument("--assignment", help="which one the zip is of, whatever the files are called")
    options = vars(parser.parse_args(arguments))
    try:
        taken, said = collect(options["zips"], options["course"], assignment=options["assignment"])
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    for one in taken:
        print(f"{one.student}, {one.assignment}: {one.file}{', late' if one.late else ''}")
    print(f"{len(taken)} notebooks; whose folder is whose: {options['course'] / TABLE}")
    for line in said:
        print(f"not taken: {line}", file=sys.stderr)
    return 1 if any(not line.endswith(LATER) for line in said) else 0


if __name__ == "__main__":
    sys.exit(main())
