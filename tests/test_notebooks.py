"""Every chapter is committed in one form. That its cells run and give what they store, nbval shows."""

import copy
from pathlib import Path

import pytest
import yaml

import notebook_form

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = notebook_form.address()
CHAPTERS = [path for path in notebook_form.notebooks() if "assignments" not in path.parts]


def cell(source: str, **more) -> dict:
    """Return a code cell as a notebook file holds it."""
    made = {"cell_type": "code", "id": more.pop("id", "a-cell"), "metadata": {}, "execution_count": None}
    return {**made, "outputs": [], "source": notebook_form.lines(source), **more}


EXERCISE = "**1. Warm-up.** How much? *Expected: 42.*\n\n:::{dropdown} Solution\nBy hand.\n:::"


def words(text: str, **more) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": notebook_form.lines(text), **more}


def printed(text: str) -> dict:
    return {"output_type": "stream", "name": "stdout", "text": [text]}


def good_notebook() -> dict:
    """Return a small notebook in which nothing is wrong."""
    alt = {"mystnb": {"image": {"alt": "A falling line: the loss in nats an image."}}}
    return {
        "cells": [
            {"cell_type": "markdown", "id": "title", "metadata": {}, "source": ["# A chapter"]},
            cell(notebook_form.setup_cell(ADDRESS), id="setup"),
            {
                **cell("print(6 * 7)", id="exact", metadata={"tags": ["nbval-check-output"]}),
                **{"outputs": [printed("42\n")], "execution_count": 2},
            },
            cell("import matplotlib.pyplot as plt\n\n_ = plt.plot([3, 2, 1])", id="figure", metadata=alt),
            *(words(text, id=f"words-{i}") for i, text in enumerate(("## Exercises", EXERCISE))),
            cell("assert 6 * 7 == 42", id="solution-1", metadata={"tags": ["hide-cell"]}),
            words("## Further reading", id="words-2"),
        ],
        "metadata": {"accelerator": "GPU", "kernelspec": {"display_name": "Python 3", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def test_every_notebook_is_in_the_table_of_contents():
    """And the other way round: what nbval runs under book/ is what the site shows."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    found: list[str] = []
    pending = [toc]
    while pending:
        entry = pending.pop()
        if isinstance(entry, dict):
            found += [value for key, value in entry.items() if key in ("root", "file")]
            pending += [value for value in entry.values() if isinstance(value, list)]
        else:
            pending += entry
    listed = {
        (ROOT / name).with_suffix(".ipynb") for name in found if (ROOT / name).with_suffix(".ipynb").exists()
    }
    assert listed == set(CHAPTERS)
    assert CHAPTERS


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_is_in_the_committed_form(path):
    assert notebook_form.problems(notebook_form.read(path), ADDRESS) == []


def test_the_small_notebook_is_in_the_committed_form():
    assert notebook_form.problems(good_notebook(), ADDRESS) == []


def plant(change):
    notebook = good_notebook()
    change(notebook)
    return notebook_form.problems(notebook, ADDRESS)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda n: n["cells"][1].update(source=["pass"]), "the first code cell is not the setup cell"),
        (
            lambda n: n["cells"].insert(1, cell("pass", id="before")),
            "the first code cell is not the setup cell",
        ),
        (lambda n: n["metadata"].pop("accelerator"), "lack"),
        (lambda n: n["metadata"]["kernelspec"].update(name="my-env"), "kernel"),
        (lambda n: n["cells"][2].update(id="setup"), "same"),
        (lambda n: n["cells"][2].update(source=["1\n"] * 31), "31 lines"),
        (
            lambda n: n["cells"][0].update(source=["See `/home/ada/notes.py`."]),
            "one machine: /home/ada/notes.py",
        ),
        (lambda n: n["cells"][2].update(outputs=[{"output_type": "error"}]), "stores an error"),
        (lambda n: n["cells"][2].update(outputs=[]), "stores no text"),
        (lambda n: n["cells"][3].update(metadata={}), "no alt text"),
        (lambda n: n["cells"][3].update(execution_count=7), "make clean-notebooks"),
        (lambda n: n["cells"][3].update(outputs=[printed("1\n")]), "make clean-notebooks"),
        (lambda n: n["cells"][3]["metadata"].update(tags=["hide-cell"]), "the code of solutions"),
        (lambda n: n["cells"][6].update(metadata={}), "the code of solutions"),
        (lambda n: n["cells"][6].update(source=["6 * 7"]), "exercise 1 has no solution in code"),
        (lambda n: n["cells"].pop(6), "exercise 1 has no solution in code"),
        (lambda n: n["cells"].append(n["cells"].pop(6)), "exercise 1 has no solution in code"),
        (
            lambda n: n["cells"][5].update(source=[EXERCISE.replace("By hand.\n", "")]),
            "exercise 1 has no cell",
        ),
        (
            lambda n: n["cells"][5].update(source=[EXERCISE.replace("Expected", "So")]),
            "exercise 1 has no cell",
        ),
        (lambda n: n["cells"][5].update(source=[EXERCISE + "\n\n**2. More.**"]), "exercise 2 has no"),
    ],
)
def test_a_notebook_out_of_form_is_found(change, expected):
    assert any(expected in line for line in plant(change)), plant(change)


@pytest.mark.parametrize(
    ("source", "draws"),
    [
        ("viz.grid(images)", True),
        ("ax.imshow(image)", True),
        ("from imagegen.viz import show as look\nlook(images)", True),
        ("def show(x):\n    plt.plot(x)", False),
        ("def show(x):\n    plt.plot(x)\n\nshow(1)", True),
        ("import matplotlib.pyplot as plt", False),
        ("history = run(step, batches, 10)", False),
        ("%pip install x\nviz.grid(images)", True),
        ("z = torch.zeros(3).scatter(0, index, 1.0)", False),
    ],
)
def test_a_cell_that_draws_is_known(source, draws):
    assert bool(notebook_form.figure_cells({"cells": [cell(source)]})) == draws
    assert not notebook_form.figure_cells({"cells": [cell(source, metadata={"tags": ["no-figure"]})]})


def test_cleaning_keeps_exact_text_and_nothing_else():
    """Cleaning keeps ids, tags and the texts that nbval compares, and does nothing the second time."""
    notebook = good_notebook()
    result = {"image/png": "AAAA", "text/plain": ["<Figure>"]}
    shown = {"output_type": "execute_result", "data": result, "metadata": {"x": 1}, "execution_count": 9}
    notebook["cells"][2].update(outputs=[shown, printed("42\n")], execution_count=9)
    notebook["cells"][3].update(outputs=[copy.deepcopy(shown)], execution_count=4)
    notebook["cells"][3]["metadata"]["execution"] = {"shell.execute_reply": "2026"}
    notebook["metadata"]["widgets"] = {"state": {}}
    before = copy.deepcopy(notebook)
    cleaned = notebook_form.clean(notebook)
    assert notebook == before
    assert cleaned["cells"][2]["outputs"] == [
        {**shown, "data": {"text/plain": ["<Figure>"]}, "metadata": {}, "execution_count": 2},
        printed("42\n"),
    ]
    assert [c.get("id") for c in cleaned["cells"]] == [c["id"] for c in before["cells"]]
    assert cleaned["cells"][3] == good_notebook()["cells"][3]
    assert "widgets" not in cleaned["metadata"]
    assert notebook_form.clean(cleaned) == cleaned
    assert notebook_form.problems(cleaned, ADDRESS) == []


def test_one_command_writes_the_address_into_every_notebook(tmp_path):
    """The address goes into CITATION.cff and each first code cell, and can be replaced."""
    (tmp_path / "CITATION.cff").write_text("cff-version: 1.2.0\n")
    (tmp_path / "book").mkdir()
    bare = good_notebook()
    del bare["cells"][1]
    for name, notebook in (("old", good_notebook()), ("bare", bare)):
        path = tmp_path / "book" / f"{name}.ipynb"
        path.write_text("{}")
        notebook_form.write(path, notebook)
    for url in ("https://example.org/reader/book", "https://example.org/reader/other.git", ""):
        assert len(notebook_form.write_address(url, tmp_path)) == 3
        assert notebook_form.address(tmp_path) == url
        for path in notebook_form.notebooks(tmp_path):
            assert notebook_form.problems(notebook_form.read(path), url) == []
        assert notebook_form.write_address(url, tmp_path) == []
    with pytest.raises(ValueError, match="is not the https address"):
        notebook_form.write_address('https://example.org/"; import os', tmp_path)
