"""Grade as coursework.py does, with the notebooks of each student run in a box: no network, nothing to break.

    python scripts/contained.py [--course DIR] [--engine docker|podman|bwrap] [--timeout S] [--minutes M] [--dry-run]

For each student a folder is made with the student's notebooks, the released ones and a gradebook that knows no student.
It is all that is writable in the box; code, packages and data are mounted or built in, read-only, and the sources with
the solutions are not there. Out of the box comes the notebook as it was run. What its errors cost is then decided
outside, where nothing is executed, so that no submission reaches another's, or the gradebook. Its own points it can
still forge, as long as it runs in the process that tests it.

docker and podman build an image from scripts/Containerfile first; bwrap (bubblewrap, Linux) takes this environment.
"""

import argparse
import csv
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
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
    shared = ":Z" if engine == "podman" else ""  # the label that SELinux asks for
    mounts = ["--tmpfs=/tmp:rw,size=2g", f"--volume={box}:/course{shared}", f"--volume={data}:/data:ro"]
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
    seen = [Path(sys.prefix), Path(sys.base_prefix).resolve(), *(ROOT / part for part in CODE)]
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


def packed(course: Path, student: str, box: Path) -> None:
    """Fill a box: the student's notebooks, the released ones, and the gradebook without what it knows of students."""
    for folder in sorted(path for path in (course / "submitted" / student).iterdir() if path.is_dir()):
        path = folder / f"{folder.name}.ipynb"
        (box / "submitted" / student / folder.name).mkdir(parents=True)
        if path.is_file() and not path.is_symlink():
            shutil.copyfile(path, box / "submitted" / student / folder.name / path.name)
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


def brought_back(box: Path, student: str, name: str, stage: Path) -> str:
    """Stage the notebook that was run, as data; return what the box says went wrong, in words, or ""."""
    remark, path = "", box / "autograded" / student / name / f"{name}.ipynb"
    try:
        with open(box / "grades.csv", newline="", encoding="utf-8") as file:
            (row,) = [row for row in csv.DictReader(file) if row["assignment"] == name]
            remark = row["remark"][:300]
        inside = path.resolve(strict=True).is_relative_to(box.resolve())
        if path.is_symlink() or not inside or path.stat().st_size > LARGEST:
            return "what came out of its box is no notebook, or too large"
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except FileNotFoundError:
        return remark or "it could not be run to its end: nothing came out of its box"
    except Exception as error:  # of a file that the submission may have written
        return remark or f"what came out of its box cannot be read: {type(error).__name__}"
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
    released = {path.name for path in (course / "release").glob("*") if path.is_dir()}
    students = sorted(path for path in (course / "submitted").glob("*") if path.is_dir())
    if not released or not students:
        raise FileNotFoundError(f"{course} has nothing in {'submitted' if released else 'release'}")
    rows, failures = [], []
    for student in [path.name for path in students]:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as stage:
            box = Path(folder)
            packed(course, student, box)
            start, end = commands(box)
            quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
            try:
                subprocess.run(start, timeout=60 * minutes + 60, **quiet)
            except subprocess.TimeoutExpired:
                if end:
                    subprocess.run(end, **quiet)
            api = scoring(course, Path(stage))
            for name in sorted(
                path.name for path in (course / "submitted" / student).iterdir() if path.is_dir()
            ):
                if name not in released or not coursework.STUDENT.fullmatch(student):
                    wrong = "no such assignment, or no name for a student"
                    failures.append(coursework.Failure(student, name, wrong))
                    continue
                coursework.forget(course, name, student)
                wrong = brought_back(box, student, name, Path(stage))
                if (Path(stage) / student / name).is_dir():
                    answer = api.autograde(name, student, force=True, create=True)
                    if not answer["success"]:
                        wrong = wrong or "what came out of its box cannot be graded"
                if wrong:
                    failures.append(coursework.Failure(student, name, wrong))
                rows.append(coursework.row_of(course, student, name, wrong))
    path = course / "grades.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, coursework.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path, failures


def data_folder() -> Path:
    """Return the folder of Fashion-MNIST. Raises: FileNotFoundError: it is not on this machine."""
    from imagegen.data.fashion import find_fashion_mnist

    if not (found := find_fashion_mnist()):
        raise FileNotFoundError("Fashion-MNIST is not here, and a box has no network: make data")
    return found


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
        if given.engine == "bwrap":  # some systems let only root make such boxes
            subprocess.run(["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"], check=True)
        else:
            image(given.engine)
        path, failures = grade(given.course, commands, minutes=given.minutes)
    except (OSError, RuntimeError, ValueError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    print(path)
    for failure in failures:
        print(f"{failure.student}, {failure.assignment}: {failure.reason}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
