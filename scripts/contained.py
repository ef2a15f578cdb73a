"""Grade as coursework.py does, with the notebooks of each student run in a box: no network, nothing to break.

    python scripts/contained.py [--course DIR] [--engine docker|podman|bwrap] [--timeout S] [--minutes M] [--dry-run]

For each student a folder is made with the student's notebooks, the released ones and a gradebook that knows no student.
It is all that is writable in the box; code, packages and data are mounted or built in, read-only, and the sources with
the solutions are not there. Out of the box comes the notebook as it was run. What its errors cost is then decided
outside, where nothing is executed, so that no submission reaches another's, or the gradebook. Its own points it can
still forge, as long as it runs in the process that tests it; and until its time is over it can fill the disk that
temporary folders lie on.

docker and podman build an image from scripts/Containerfile first; bwrap (bubblewrap, Linux) takes this environment,
and limits the memory of each process alone, not the number of processes.
"""

import argparse
import csv
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path

import nbformat
from nbgrader.apps import NbGraderAPI
from nbgrader.converters import Autograde
from nbgrader.preprocessors import ClearOutput, Execute

import coursework

ROOT = Path(__file__).resolve().parents[1]
IMAGE = "imagegen-grading"
PARTS = (
    "pyproject.toml",
    "requirements.lock",
    "README.md",
    "LICENSE",
    "LICENSE-text",
)  # of the image, with CODE
CODE = ("src", "scripts", "tests/mutants")
MEMORY, PROCESSES, LARGEST = 6, 512, 50 * 2**20  # GB; number; bytes of a notebook that comes out
STUDENTS = (
    "grade",
    "comment",
    "submitted_notebook",
    "submitted_assignment",
    "student",
)  # tables of the gradebook
ENGINES = ("podman", "docker", "bwrap")


def image(engine: str) -> None:
    """Build the image, from a folder with no more than it needs. Raises: CalledProcessError: the engine cannot."""
    with tempfile.TemporaryDirectory() as folder:
        for part in PARTS:
            shutil.copy2(ROOT / part, folder)
        for part in CODE:
            left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / part, Path(folder) / part, ignore=left_out)
        file = Path(folder) / "scripts/Containerfile"
        subprocess.run([engine, "build", "--tag", IMAGE, "--file", str(file), folder], check=True)


def job(python: str, code: str, *, timeout: int, minutes: int) -> list[str]:
    """Return the command that runs in the box."""
    limit = ["timeout", "--kill-after=10", f"{60 * minutes}"]
    return [
        *limit,
        python,
        f"{code}/scripts/coursework.py",
        "grade",
        "--course=/course",
        f"--timeout={timeout}",
    ]


def in_container(engine: str, box: Path, data: Path, *, name: str, timeout: int, minutes: int) -> list[str]:
    """Return the command line that grades the box's folder in a container of docker or podman."""
    user = "--userns=keep-id" if engine == "podman" else f"--user={os.getuid()}:{os.getgid()}"
    limits = [f"--memory={MEMORY}g", f"--memory-swap={MEMORY}g", f"--pids-limit={PROCESSES}", "--cpus=2"]
    rights = ["--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", user]
    own, label = (":Z", ",z") if engine == "podman" else ("", "")  # what SELinux asks for
    mounts = ["--tmpfs=/tmp:rw,size=2g", f"--volume={box}:/course{own}", f"--volume={data}:/data:ro{label}"]
    told = [f"--env={key}={value}" for key, value in environment().items()]
    ran = job("python", "/book", timeout=timeout, minutes=minutes)
    return [engine, "run", "--rm", "--init", f"--name={name}", *rights, *limits, *mounts, *told, IMAGE, *ran]


def environment() -> dict[str, str]:
    return {"HOME": "/tmp", "IMAGEGEN_DATA": "/data", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}


def in_bubble(box: Path, data: Path, *, timeout: int, minutes: int) -> list[str]:
    """Return the command line that grades the box's folder by bubblewrap, in this environment's packages."""
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
    command += [
        "--setenv",
        "PATH",
        f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "--setenv",
        "LANG",
        "C.UTF-8",
    ]
    for key, value in environment().items():
        command += ["--setenv", key, value]
    command += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--ro-bind", "/usr", "/usr"]
    for path in map(Path, ("/bin", "/sbin", "/lib", "/lib64")):
        if path.is_symlink():
            command += ["--symlink", os.readlink(path), str(path)]
        elif path.exists():
            command += ["--ro-bind", str(path), str(path)]
    base = Path(sys.base_prefix)  # maybe a link, by which the environment finds it
    seen = [Path(sys.prefix), base, base.resolve(), *(ROOT / part for part in CODE)]
    for path in [
        *seen,
        *map(Path, ("/etc/ld.so.cache", "/etc/alternatives", "/etc/passwd", "/etc/localtime")),
    ]:
        if path.exists() and not path.is_relative_to("/usr"):
            command += ["--ro-bind", str(path), str(path)]
    command += ["--ro-bind", str(data), "/data", "--bind", str(box), "/course", "--chdir", "/course"]
    command += ["--remount-ro", "/"]  # where bubblewrap has made folders to mount on
    limits = ["prlimit", f"--data={MEMORY * 2**30}", f"--fsize={2 * 2**30}", "--core=0"]
    return [*command, *limits, *job(sys.executable, str(ROOT), timeout=timeout, minutes=minutes)]


@contextmanager
def thrown_away() -> Iterator[Path]:
    """Give a folder that is deleted afterwards, however deep and locked what a program has left in it is.

    Python's own way recurses and opens each folder, so that enough of them end it.
    """
    folder = tempfile.mkdtemp(prefix="box-")
    try:
        yield Path(folder)
    finally:
        for command in (["chmod", "-R", "u+rwx", folder], ["rm", "-rf", folder]):
            subprocess.run(command, stderr=subprocess.DEVNULL)


def packed(course: Path, folders: list[Path], box: Path) -> None:
    """Fill a box: a student's notebooks, the released ones, and the gradebook without what it knows of students."""
    for folder in folders:
        path, target = folder / f"{folder.name}.ipynb", box / folder.relative_to(course)
        target.mkdir(parents=True)
        if path.is_file() and not path.is_symlink():
            shutil.copyfile(path, target / path.name)
    shutil.copytree(course / "release", box / "release")
    with (
        closing(sqlite3.connect(course / "gradebook.db")) as known,
        closing(sqlite3.connect(box / "gradebook.db")) as bare,
    ):
        known.backup(bare)
        for table in STUDENTS:
            bare.execute(f"DELETE FROM {table}")
        bare.commit()
        bare.execute("VACUUM")  # until then what was deleted is still in the file


def text_of(path: Path, box: Path) -> str:
    """Return the text of a file that came out of a box. Raises: OSError, RuntimeError, ValueError: it is no such file.

    A link would lead out of the box, and reading a pipe would never end.
    """
    whole = path.resolve(strict=True) == box.resolve() / path.relative_to(box) and path.is_file()
    if not whole or path.stat().st_size > LARGEST:
        raise ValueError("it is a link, no file, or too large")
    return path.read_text("utf-8")


def brought_back(box: Path, student: str, name: str, stage: Path) -> str:
    """Stage the notebook that was run, as data; return what the box says went wrong, in words, or ""."""
    remark, path = "", box / "autograded" / student / name / f"{name}.ipynb"
    try:
        table = csv.DictReader(text_of(box / "grades.csv", box).splitlines())
        (row,) = [row for row in table if row["assignment"] == name]
        remark = coursework.plain(row["remark"])
        notebook = nbformat.reads(text_of(path, box), as_version=4)
        nbformat.validate(notebook)
    except FileNotFoundError:
        return remark or "it could not be run to its end: nothing came out of its box"
    except Exception as error:  # of a file that the submission may have written
        why = coursework.plain(f"{type(error).__name__}: {error}")[:100]
        return remark or f"what came out of its box cannot be read: {why}"
    target = stage / student / name / path.name
    target.parent.mkdir(parents=True)
    nbformat.write(notebook, target)
    return remark


def scoring(course: Path, stage: Path) -> NbGraderAPI:
    """Return nbgrader set to give points for notebooks that were run elsewhere: it executes nothing."""
    config = coursework.config_of(course)
    config.CourseDirectory.submitted_directory = str(stage)
    cleaning = Autograde.sanitize_preprocessors.default_args[0]
    config.Autograde.sanitize_preprocessors = [step for step in cleaning if step is not ClearOutput]
    steps = config.Autograde.autograde_preprocessors
    config.Autograde.autograde_preprocessors = [step for step in steps if step is not Execute]
    return NbGraderAPI(config=config)


def grade(course: Path, commands, *, minutes: int) -> tuple[Path, list[coursework.Failure]]:
    """Grade all that was handed in, student by student; return the CSV of the scores and what could not be graded.

    Args: commands: (box) -> the command line that grades it, and the one that ends it by force, or None.
    Raises: FileNotFoundError: nothing was released, or nothing handed in.
    """
    (folders, failures), rows = coursework.submissions(course), []
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    for student, group in groupby(folders, key=lambda folder: folder.parent.name):
        theirs = list(group)
        with thrown_away() as box, tempfile.TemporaryDirectory() as stage:
            packed(course, theirs, box)
            start, end = commands(box)
            try:
                subprocess.run(start, timeout=60 * minutes + 60, **quiet)
            except subprocess.TimeoutExpired:
                if end:
                    subprocess.run(end, **quiet)
            api = scoring(course, Path(stage))
            for name in [folder.name for folder in theirs]:
                coursework.forget(course, name, student)
                wrong = brought_back(box, student, name, Path(stage))
                if (Path(stage) / student / name).is_dir():
                    answer = api.autograde(name, student, force=True, create=True)
                    if not answer["success"]:
                        wrong = wrong or "what came out of its box cannot be graded"
                if wrong:
                    failures.append(coursework.Failure(student, name, wrong))
                rows.append(coursework.row_of(course, student, name, wrong))
    return coursework.write_table(course, rows), failures


def tried(commands) -> None:
    """Start an empty box, in which grading says that there is nothing. Raises: RuntimeError: it does not start."""
    with thrown_away() as box:
        ran = subprocess.run(commands(box)[0], capture_output=True, text=True, errors="replace")
    if "has nothing in release" not in ran.stderr:
        raise RuntimeError(f"a box does not start: {ran.stderr.strip()[-500:]}")


def data_folder() -> Path:
    """Return the folder of Fashion-MNIST. Raises: FileNotFoundError: it is not on this machine."""
    from imagegen.data.fashion import find_fashion_mnist

    if not (found := find_fashion_mnist()):
        raise FileNotFoundError("Fashion-MNIST is not here, and a box has no network: make data")
    return found.absolute()  # a container takes a relative one for the name of a volume


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--course", type=Path, default=coursework.COURSE)
    parser.add_argument("--engine", choices=ENGINES, default=next(filter(shutil.which, ENGINES), ENGINES[0]))
    parser.add_argument("--timeout", type=int, default=coursework.TIMEOUT, help="seconds a cell")
    parser.add_argument("--minutes", type=int, default=30, help="of all notebooks of a student")
    parser.add_argument("--dry-run", action="store_true", help="print the command line of a box")
    given = parser.parse_args(arguments)
    limits = {"timeout": given.timeout, "minutes": given.minutes}
    try:
        data = data_folder()

        def commands(box: Path) -> tuple[list[str], list[str] | None]:
            if given.engine == "bwrap":
                return in_bubble(box, data, **limits), None
            name = f"{IMAGE}-{box.name}"
            return in_container(given.engine, box, data, name=name, **limits), [given.engine, "kill", name]

        if given.dry_run:
            print(*commands(Path("BOX"))[0])
            return 0
        if not shutil.which(given.engine):
            raise FileNotFoundError(f"{given.engine} is not installed, expected one of {', '.join(ENGINES)}")
        if given.engine != "bwrap":
            image(given.engine)
        tried(commands)  # some systems let only root make a box
        path, failures = grade(given.course, commands, minutes=given.minutes)
    except (OSError, RuntimeError, ValueError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    return coursework.told(path, failures)


if __name__ == "__main__":
    sys.exit(main())
