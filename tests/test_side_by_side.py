"""Before the pages are read, the notebooks run side by side: each once, and one that fails stops the build."""

import re

import nbformat
import pytest
from jupyter_cache import get_cache
from sphinx.errors import ExtensionError

import side_by_side


@pytest.fixture
def cache(tmp_path):
    return get_cache(str(tmp_path / "cache"))


@pytest.fixture
def write(tmp_path):
    """write(name, source) -> the path of a notebook of one cell, in a folder of its own."""
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}

    def written(name: str, source: str):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)], metadata=kernel)
        path = tmp_path / name / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(notebook, path)
        return path

    return written


def test_notebooks_run_at_the_same_time_and_again_only_where_their_code_has_changed(cache, write):
    """Each waits for a file that the other one writes while it runs."""
    source = (
        "import time; from pathlib import Path; open('runs', 'a').write('x'); other = Path('../{}/runs')\n"
        "for _ in range(600):\n    time.sleep(0.1 * (not other.exists()))\nassert other.exists()"
    )
    paths = [write("one", source.format("two")), write("two", source.format("one"))]
    for change, runs in (("", ["x", "x"]), ("", ["x", "x"]), ("  # changed", ["x", "xx"])):
        write("two", source.format("one") + change)
        side_by_side.fill(cache, paths, workers=2, timeout=90, allow_errors=False)
        assert [(path.parent / "runs").read_text() for path in paths] == runs
        assert not side_by_side.missing(cache, paths)


def test_a_notebook_that_fails_is_named_with_its_error_and_the_others_are_kept(cache, write):
    right = write("right", "print(6 * 7)")
    broken = [
        write("wrong", "raise KeyError('nothing of the kind')"),
        write("dead", "import os; os._exit(3)"),
    ]
    with pytest.raises(ExtensionError) as raised:
        side_by_side.fill(cache, [right, *broken], workers=3, timeout=60, allow_errors=False)
    for path, error in zip(broken, ("CellExecutionError\\n.*nothing of the kind", "DeadKernelError\\n")):
        assert re.search(rf"^{re.escape(str(path))}: .*{error}", raised.value.message, re.M | re.S)
    assert str(right) not in raised.value.message
    assert list(side_by_side.missing(cache, [right, *broken])) == broken  # the larger one first
    _, held = cache.merge_match_into_notebook(nbformat.read(right, as_version=4))
    assert held.cells[0].outputs[0].text == "42\n"
