"""The files that say what the book runs on agree: pyproject, lock, conda door, citation, docs, workflows."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
CONDA_NAMES = {"pytorch": "torch"}
TRIED = ("3.11", "3.12", "3.13")


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def pyproject() -> dict:
    return tomllib.loads(text("pyproject.toml"))


def requirements(lines: list[str]) -> list[Requirement]:
    return [Requirement(line) for line in lines]


def all_requirements(content: dict) -> list[Requirement]:
    project = content["project"]
    groups = [
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *content["dependency-groups"].values(),
    ]
    return requirements([line for group in groups for line in group])


# --- the conda door ----------------------------------------------------------------------------------


def conda_problems(environment: dict, project: dict) -> list[str]:
    """Return where environment.yml and the project table of pyproject.toml differ."""
    said = []
    core = {canonicalize_name(r.name): r.specifier for r in requirements(project["dependencies"])}
    plain = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    by_pip = [
        line for entry in environment["dependencies"] if isinstance(entry, dict) for line in entry["pip"]
    ]
    for entry in plain:
        found = Requirement(entry)
        name = CONDA_NAMES.get(found.name, found.name)
        if name == "python":
            if found.specifier != SpecifierSet(project["requires-python"]):
                said.append(f"{entry}: pyproject has {project['requires-python']}")
        elif name != "pip" and name not in core:
            said.append(f"{entry}: not a dependency of the core")
        elif name != "pip" and found.specifier != core[name]:
            said.append(f"{entry}: pyproject has {name}{core[name]}")
    for name in ("python", "pip"):
        if name not in {Requirement(entry).name for entry in plain}:
            said.append(f"{name} is missing")
    editable = [re.fullmatch(r"-e \.\[([\w,-]+)\]", line) for line in by_pip]
    if len(editable) != 1 or not editable[0]:
        said.append(f"pip installs {by_pip}, and not this package with its extras")
    else:
        extras = set(editable[0][1].split(","))
        said += [f"no extra is called {e}" for e in sorted(extras - set(project["optional-dependencies"]))]
    return said


def test_the_conda_door_agrees_with_pyproject():
    assert conda_problems(yaml.safe_load(text("environment.yml")), pyproject()["project"]) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("pytorch>=2.11", "pytorch>=2.12", "pytorch>=2.12: pyproject has torch"),
        ("python>=3.11", "python>=3.10", "python>=3.10: pyproject has >=3.11"),
        ("numpy>=1.26", "scikit-learn>=1", "scikit-learn>=1: not a dependency"),
        ("[book,", "[books,", "no extra is called books"),
        ("-e .[", "imagegen[", "and not this package"),
        ("  - pip\n", "", "pip is missing"),
    ],
)
def test_a_conda_door_that_differs_is_found(old, new, expected):
    changed = text("environment.yml").replace(old, new)
    assert any(expected in line for line in conda_problems(yaml.safe_load(changed), pyproject()["project"]))


# --- the lock ----------------------------------------------------------------------------------------


def pins(lock: str) -> list[tuple[Requirement, int]]:
    """Return each requirement of the lock with the number of its hashes."""
    entries = re.split(r"\n(?=\S)", lock.replace("\\\n", " "))
    found = []
    for entry in entries:
        line = re.sub(r"#.*", "", entry).strip()
        if line:
            found.append((Requirement(re.sub(r"--hash=\S+", "", line).strip()), line.count("--hash=sha256:")))
    return found


def lock_problems(lock: str, content: dict) -> list[str]:
    """Return what the lock leaves open: a loose pin, one without a hash, a place, a requirement not met."""
    said = []
    if found := re.findall(r"\w+://\S+|^-\S+ .*|@ \S+", lock, re.M):
        said.append(f"the lock names a place: {found[0]}")
        return said
    entries = pins(lock)
    for pin, hashes in entries:
        if [clause.operator for clause in pin.specifier] != ["=="] or not hashes:
            said.append(f"{pin}: not exact, or without a hash")
    for python in TRIED:
        where = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
        where |= {
            "sys_platform": "linux",
            "platform_machine": "x86_64",
            "platform_system": "Linux",
            "os_name": "posix",
        }
        here = {
            canonicalize_name(pin.name): next(iter(pin.specifier)).version
            for pin, _ in entries
            if pin.marker is None or pin.marker.evaluate(where)
        }
        for wanted in all_requirements(content):
            if wanted.marker and not wanted.marker.evaluate(where):
                continue
            got = here.get(canonicalize_name(wanted.name))
            if got is None or not wanted.specifier.contains(got, prereleases=True):
                said.append(f"Python {python}: {wanted} is not met by {got}")
    return said


def test_the_lock_is_exact_hashed_and_meets_every_requirement():
    lock = text("requirements.lock")
    assert len(pins(lock)) > 100
    assert lock_problems(lock, pyproject()) == []


@pytest.mark.parametrize(
    ("pattern", "new", "expected"),
    [
        (r"^torch==[\d.]+", "torch==2.10.0", "torch>=2.11 is not met by 2.10.0"),
        (r"^torch==[\d.]+", "tortch==2.15.0", "is not met by None"),
        (r"^torch==", "torch>=", "not exact"),
        (r"^(tqdm==\S+)[^#]*?(?=\n\S|\n    # via)", r"\1", "without a hash"),
        (r"\A", "--index-url https://example.org/simple\n", "names a place"),
    ],
)
def test_a_lock_that_falls_short_is_found(pattern, new, expected):
    changed, count = re.subn(pattern, new, text("requirements.lock"), count=1, flags=re.M)
    assert count == 1
    assert any(expected in line for line in lock_problems(changed, pyproject()))


# --- one version, one Python, one Colab --------------------------------------------------------------


def test_the_version_is_the_same_everywhere():
    wanted = pyproject()["project"]["version"]
    assert yaml.safe_load(text("CITATION.cff"))["version"] == wanted
    assert version("imagegen") == wanted
    assert f"## {wanted}" in text("CHANGELOG.md")


def test_the_python_is_the_same_everywhere():
    assert pyproject()["project"]["requires-python"] == f">={TRIED[0]}"
    assert f"sys.version_info < ({TRIED[0].replace('.', ', ')})" in text("Makefile")
    assert f"Python {TRIED[0]} to {TRIED[-1]}" in text("README.md")
    assert pyproject()["tool"]["ruff"]["target-version"] == f"py{TRIED[0].replace('.', '')}"
    matrix = yaml.safe_load(text(".github/workflows/check.yml"))["jobs"]["check"]["strategy"]["matrix"]
    assert {TRIED[0], TRIED[-1]} <= set(matrix["python"]) <= set(TRIED)


def test_the_licence_files_are_whole():
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in text("LICENSE")
    assert "Creative Commons Attribution 4.0 International" in text("LICENSE-text")
    assert pyproject()["project"]["license-files"] == ["LICENSE", "LICENSE-text"]


def test_the_core_admits_what_colab_brings():
    """A core floor above Colab's own version would replace it there, and cost the learner a restart."""
    colab = {
        r.name: r
        for r in requirements([x for x in text("tests/colab_constraints.txt").splitlines() if x[0] != "#"])
    }
    core = {r.name: r.specifier for r in requirements(pyproject()["project"]["dependencies"])}
    assert {"torch", "torchvision", "numpy", "ipywidgets"} <= colab.keys() & core.keys()
    for name in colab.keys() & core.keys():
        brought = next(iter(colab[name].specifier)).version.removesuffix(".*")
        assert core[name].contains(brought), f"{name}{core[name]} shuts out Colab's {brought}"


def test_colab_does_not_need_the_book_builder():
    """What the setup cell installs is the core alone, and the core names no builder, lab or trainer."""
    core = {canonicalize_name(r.name) for r in requirements(pyproject()["project"]["dependencies"])}
    assert not core & {
        "jupyter-book",
        "jupyterlab",
        "sphinx",
        "lightning-fabric",
        "onnx",
        "onnxscript",
        "pytest",
    }


def test_every_workflow_calls_targets_that_are_there():
    """A hosted workflow runs `make TARGET` or an installer, so that it does nothing a contributor cannot."""
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.M))
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert [path.stem for path in workflows] == ["check", "links", "publish"]
    for path in workflows:
        commands = [
            step["run"].strip()
            for job in yaml.safe_load(path.read_text("utf-8"))["jobs"].values()
            for step in job["steps"]
            if "run" in step
        ]
        assert commands
        for command in commands:
            assert re.fullmatch(r"make [a-z-]+|bash \.ci/run", command), f"{path.name}: {command}"
            assert command == "bash .ci/run" or command.split()[1] in targets, f"{path.name}: {command}"
    called = re.findall(r"^make ([a-z-]+)", text(".ci/run"), re.M)
    assert called == ["test", "book", "test-site"] and set(called) <= targets
