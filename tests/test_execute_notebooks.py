"""Notebooks run side by side before the build, once each, and one that raises stops it."""

import json
from pathlib import Path

import pytest

import execute_notebooks


def book(folder: Path, sources: dict[str, str]) -> None:
    """Write a book with one notebook for each source."""
    for name, source in sources.items():
        cell = {
            "cell_type": "code",
            "id": "a-cell",
            "metadata": {},
            "execution_count": None,
            "outputs": [],
            "source": source,
        }
        kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
        notebook = {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
        (folder / f"{name}.ipynb").write_text(json.dumps(notebook))
    pages = "".join(f"  - file: {name}\n" for name in sources)
    (folder / "index.md").write_text("# Index\n")
    (folder / "_toc.yml").write_text(f"format: jb-book\nroot: index\nchapters:\n{pages}")
    (folder / "_config.yml").write_text("execute: {execute_notebooks: cache, timeout: 60}\n")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setattr(execute_notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(execute_notebooks, "CACHE", tmp_path / "_build" / ".jupyter_cache")
    return tmp_path


def test_each_notebook_runs_once_until_it_changes(here, capfd):
    write = (
        "from pathlib import Path; file = Path('ran-{0}'); file.write_text(file.exists() * 'again' or 'once')"
    )
    book(here, {name: write.format(name) for name in ("one", "two")})
    assert execute_notebooks.main() == 0
    assert execute_notebooks.main() == 0
    assert [(here / f"ran-{name}").read_text() for name in ("one", "two")] == ["once", "once"]
    book(here, {"one": write.format("one"), "two": write.format("two") + "  # changed"})
    assert execute_notebooks.main() == 0
    assert [(here / f"ran-{name}").read_text() for name in ("one", "two")] == ["once", "again"]
    assert "1 notebooks run, 1 found in the cache" in capfd.readouterr().out


def test_a_notebook_that_raises_stops_the_build_and_is_named_with_its_error(here, capfd):
    book(here, {"right": "1 + 1", "wrong": "raise KeyError('nothing of the kind')"})
    assert execute_notebooks.main() == 1
    errors = capfd.readouterr().err
    assert "wrong.ipynb" in errors and "nothing of the kind" in errors
