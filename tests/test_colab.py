"""The first cell of a chapter, where the package is absent: in a Colab that is played here, and elsewhere.

A bare environment sees everything that the tests see, apart from imagegen. The repository's address leads to
a local snapshot of the tree, and pip may ask no index, so the tests need no network, and fail if the package
needed more than is there. In Colab the kernel imports google.colab before the first cell runs; so it does here.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbclient
import nbformat
import pytest

import notebook_form

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = "https://forge.invalid/book/generating-images"
PACKAGED = ("pyproject.toml", "README.md", "LICENSE", "LICENSE-text", "src")

pytestmark = pytest.mark.slow


def run(*command: str | Path, **more) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A git repository with the tree as it is now, committed or not."""
    folder = tmp_path_factory.mktemp("forge") / "repository"
    folder.mkdir()
    for name in PACKAGED:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
            )
        else:
            shutil.copy(ROOT / name, folder / name)
    git = (
        "git",
        "-c",
        "user.name=Reader",
        "-c",
        "user.email=reader@example.org",
        "-c",
        "commit.gpgsign=false",
    )
    for command in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message", "Snapshot")):
        run(*git, *command, cwd=folder)
    return folder


@pytest.fixture
def machine(tmp_path, repository, monkeypatch) -> Path:
    """A machine with an empty folder, that has what the tests have apart from imagegen. Returns its home."""
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", venv)
    everything = tmp_path / "everything"
    everything.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not any(word in entry.name for word in ("imagegen", "__editable__")) and entry.suffix != ".pth":
            (everything / entry.name).symlink_to(entry)
    inside = venv / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    for old in ("setuptools*", "_distutils_hack", "pkg_resources", "distutils-precedence.pth"):
        for entry in inside.glob(old):  # what some Pythons put into a new environment hides the newer one
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    (inside / "everything.pth").write_text(f"{everything}\n{tmp_path / 'played'}\n")
    kernel = tmp_path / "jupyter" / "kernels" / "bare"
    kernel.mkdir(parents=True)
    python = str(venv / "bin" / "python")
    start = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(
        json.dumps({"argv": start, "display_name": "bare", "language": "python"})
    )
    (tmp_path / "empty").mkdir()
    for name in [name for name in os.environ if name.startswith(("PIP_", "GIT_", "IMAGEGEN_", "PYTHON"))]:
        monkeypatch.delenv(name)
    settings = {
        "JUPYTER_PATH": tmp_path / "jupyter",
        "IPYTHONDIR": tmp_path / "ipython",
        "HOME": tmp_path,
        "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",  # what is not there already cannot be had
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads this one the wrong way round: 0 is no isolation
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": ADDRESS,
        "GIT_TERMINAL_PROMPT": "0",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    return tmp_path


def play_colab(machine: Path) -> None:
    """Make every kernel of the machine start as Colab's do, with google.colab imported."""
    (machine / "played" / "google" / "colab").mkdir(parents=True)
    (machine / "played" / "google" / "colab" / "__init__.py").write_text("")
    startup = machine / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00-colab.py").write_text("import google.colab\n")


def read_first_cells(machine: Path, *sources: str) -> list[str]:
    """Run the cells in a fresh kernel in the empty folder, and return what each printed."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    where = {"metadata": {"path": str(machine / "empty")}}
    nbclient.NotebookClient(notebook, kernel_name="bare", timeout=240, resources=where).execute()
    return ["".join(out.get("text", "") for out in cell.outputs) for cell in notebook.cells]


WHERE = "import imagegen, torch\nprint(imagegen.__file__)\nprint(torch.__file__)"
WEIGHTS = "from imagegen.pretrained import load, names\nprint(names())\n_ = [load(name) for name in names()]"


def test_in_colab_the_first_cell_installs_the_package_and_leaves_torch_alone(machine):
    """The package comes from the repository's address, weights included; torch is the one that was there."""
    play_colab(machine)
    setup = notebook_form.setup_cell(ADDRESS)
    _, where, weights = read_first_cells(machine, setup, WHERE, WEIGHTS)
    package, torch = where.split()
    assert Path(package).is_relative_to(machine / "venv")
    assert Path(torch).is_relative_to(machine / "everything")
    shipped = sorted(path.stem for path in (ROOT / "src" / "imagegen" / "pretrained").glob("*.json"))
    assert weights.strip() == str(shipped)
    # Run again, where the package is there now, the cell does nothing, and so asks no address.
    again, where = read_first_cells(machine, notebook_form.setup_cell("https://nowhere.invalid/book"), WHERE)
    assert again == "" and Path(where.split()[0]).is_relative_to(machine / "venv")


def test_elsewhere_the_first_cell_names_the_command(machine):
    """Without the package and outside Colab nothing is installed, and the error says what to run."""
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="run `make env` in a clone"):
        read_first_cells(machine, notebook_form.setup_cell(ADDRESS))
    assert not list((machine / "venv").rglob("imagegen*"))


def test_in_colab_a_copy_without_an_address_says_where_to_write_it(machine):
    play_colab(machine)
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="let REPOSITORY above be the address"):
        read_first_cells(machine, notebook_form.setup_cell(""))


def test_here_the_first_cell_does_nothing(tmp_path):
    """Where the package is installed, as for these tests, the cell neither prints nor installs."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(notebook_form.setup_cell(ADDRESS))])
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=60, resources=where).execute()
    assert notebook.cells[0].outputs == []
