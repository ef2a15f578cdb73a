"""The page "What tutorials get wrong" shows the registry of mutants: all of it, and as it stands there."""

import ast
import doctest
import json
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import docutils_namespace, patch_docutils
from tests.mutants.mutant import OWN, Mutant
from tests.mutants.registry import MUTANTS

import mutants_page
import mutants_read

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "book/course/what-tutorials-get-wrong.ipynb"
NAMED = {mutant.name: mutant for mutant in MUTANTS}
BUG = re.compile(r"^### (?P<heading>\d+)\. .*?^```\{bug\} (?P<number>\d+)\n(?P<options>.*?)^```", re.M | re.S)


def cells() -> list[dict]:
    return json.loads(PAGE.read_text("utf-8"))["cells"]


def entries() -> list[dict]:
    """Return each bug of the page: number, options, and the code cells under its heading."""
    found: list[dict] = []
    for cell in cells():
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            if found:
                found[-1]["code"].append(source)
        elif bug := BUG.search(source):
            options = dict(re.findall(r"^:(\w+): (.*)$", bug["options"], re.M))
            assert bug["heading"] == bug["number"]
            found.append({"number": int(bug["number"]), "options": options, "code": []})
    return found


def planted(code: str) -> list[list[str]]:
    """Return the arguments of each call of `planted`."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    return [
        [ast.literal_eval(argument) for argument in call.args]
        for call in calls
        if getattr(call.func, "id", "") == "planted"
    ]


# ---- the page and the registry ---------------------------------------------------------------------------------


def test_each_numbered_bug_is_shown_once_in_order():
    numbers = [entry["number"] for entry in entries()]
    assert numbers == sorted({mutant.bug for mutant in MUTANTS if mutant.bug is not None})
    assert "```{mutants}\n```" in "".join("".join(cell["source"]) for cell in cells())


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: str(entry["number"]))
def test_what_a_bug_s_cells_plant_is_what_the_registry_plants(entry):
    """The mutant that the page names is planted, text for text as registered, and the cell asserts its symptom."""
    chosen = NAMED[entry["options"]["mutant"]]
    assert chosen.bug == entry["number"]
    calls = [call for code in entry["code"] for call in planted(code)]
    assert chosen.name in [name for name, *_ in calls]
    for name, *change in calls:
        mutant = NAMED[name]
        assert mutant.bug == entry["number"]
        assert change == [mutant.file, mutant.old, mutant.new]
    drawing = ast.walk(ast.parse(entry["code"][-1]))
    asserts = [
        node
        for node in drawing
        if isinstance(node, ast.Assert)
        or (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "assert_close")
    ]
    assert asserts, "a symptom is drawn and nothing says that it is there"


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: str(entry["number"]))
def test_the_test_of_a_bug_exists_and_belongs_to_its_mutant(entry):
    test = entry["options"]["test"]
    assert test.partition("::")[0] in NAMED[entry["options"]["mutant"]].tests
    assert mutants_read.test_line(ROOT, test) > 1


def test_every_test_that_a_mutant_names_exists():
    for test in {test for mutant in MUTANTS for test in mutant.tests}:
        assert mutants_read.test_line(ROOT, test) >= 1


def test_the_notebook_needs_nothing_but_the_package():
    """A reader in Colab has the notebook and imagegen, and neither the tests nor the rest of the repository."""
    for cell in cells():
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and not source.lstrip().startswith("# In Colab"):
            for node in ast.walk(ast.parse(source)):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) else []
                assert not {"tests", "book", "mutants_read"} & {name.split(".")[0] for name in names}


CATCH = """
import shutil, sys, tempfile
from dataclasses import replace
from pathlib import Path
import torch, torchmetrics, scipy.stats, matplotlib.pyplot
from tests.mutants import runner
from tests.mutants.registry import MUTANTS

wanted = dict(argument.split("=") for argument in sys.argv[1:])
chosen = [replace(m, tests=(wanted[m.name],)) for m in MUTANTS if m.name in wanted]
torch.set_num_threads(1)
with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder).resolve()
    shutil.copytree(runner.PACKAGE, folder / "unchanged/imagegen")
    planted = (runner.plant(mutant, folder) for mutant in chosen)
    runner.run_jobs(planted, folder, workers=1, limit=120, stop_at_first=True, durations={},
                    done=lambda job: print(job.name, job.failed or "SURVIVED", job.error, flush=True))
"""


@pytest.mark.slow
def test_the_test_that_the_page_names_fails_where_the_bug_is_planted():
    """Each bug is planted in a copy of the package, and the one function named on the page is run on it."""
    wanted = {entry["options"]["mutant"]: entry["options"]["test"] for entry in entries()}
    arguments = [f"{name}={test}" for name, test in wanted.items()]
    run = subprocess.run(
        [sys.executable, "-c", CATCH, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=280
    )
    said = dict(line.split(" ", 1) for line in run.stdout.splitlines() if line.split(" ")[0] in wanted)
    assert set(said) == set(wanted), run.stderr[-2000:]
    missed = {name: found for name, found in said.items() if not found.startswith(wanted[name])}
    assert missed == {}
    assert all(found.split("[")[0].strip() == wanted[name] for name, found in said.items())


# ---- what the extension makes of a registry --------------------------------------------------------------------

MODULE = "def half(x):\n    if x > 0:\n        return 0.5 * x\n    return x\n"
HALF = Mutant(
    "no-half", "small", "half", "return 0.5 * x", "return 1.0 * x", "The half is lost.",
    "https://github.com/some/one/issues/7", ("tests/test_small.py",), bug=1,
)  # fmt: skip
SIGN = Mutant(
    "other-side", "small", "half", "x > 0", "x < 0", "The sign is wrong.",
    "https://arxiv.org/abs/1312.6114", ("tests/test_small.py",), bug=1,
)  # fmt: skip
OURS = Mutant("ours", "small", "half", "return x\n", "return -x\n", "Made up.", OWN, ("tests/test_small.py",))
SHOWN = "# Page\n\n```{{bug}} 1\n:mutant: {mutant}\n:test: tests/test_small.py::{test}\n:section: {section}\n```\n\n"
GOOD = SHOWN.format(mutant="no-half", test="test_half", section="a section") + "```{mutants}\n```\n"


@pytest.fixture
def build(tmp_path, monkeypatch):
    """build(markdown, mutants) -> the page's HTML and the warnings; the folder is kept between calls."""
    monkeypatch.setenv("BOOK_REPOSITORY", "https://example.org/a/book")
    (tmp_path / "src/imagegen").mkdir(parents=True)
    (tmp_path / "src/imagegen/small.py").write_text(MODULE)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_small.py").write_text("\n\ndef test_half():\n    assert half(2) == 1\n")

    def built(markdown: str, mutants: tuple[Mutant, ...] = (HALF, SIGN, OURS)):
        for module in (mutants_page, mutants_read):
            monkeypatch.setattr(module, "registry", lambda root: mutants)
        if markdown:
            (tmp_path / "index.md").write_text(markdown)
        warnings, out = StringIO(), tmp_path / "out"
        options = {"extensions": ["myst_parser", "sphinx_design", "mutants_page"]}
        options |= {"exclude_patterns": ["out"]}
        with patch_docutils(), docutils_namespace():
            app = Sphinx(tmp_path, None, out, out / "doctrees", "html", options, None, warnings)
            app.build()
        return (out / "index.html").read_text("utf-8"), warnings.getvalue()

    return built


def test_a_bug_s_facts_are_those_of_the_registry(build):
    html, warnings = build(GOOD)
    assert warnings == ""
    text = re.sub(r"<[^>]+>", "", html)
    assert "The half is lost." in text and "a section" in text
    assert "- return 0.5 * x\n+ return 1.0 * x" in text
    assert "Planted too: one more of its kind." in text
    assert 'href="https://example.org/a/book/blob/main/src/imagegen/small.py#L3"' in html
    assert 'href="https://example.org/a/book/blob/main/tests/test_small.py#L3"' in html
    assert 'href="https://github.com/some/one/issues/7">some/one 7</a>' in html.replace("\n", "")
    assert ">arXiv:1312.6114</a>" in html  # of the other mutant
    assert "3 mutants are planted; 2 of them" in text and "Made up." not in text


def test_a_new_mutant_appears_and_a_page_is_built_anew_for_it(build):
    thread = "https://github.com/some/one/pull/8"
    new = Mutant("new", "small", "half", "0.5", "0.6", "Another one.", thread, HALF.tests)
    build(GOOD)
    html, warnings = build("", (HALF, SIGN, OURS, new))
    assert warnings == "" and "Another one." in html


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mutant": "gone"}, "bug 1 has no mutant 'gone'"),
        ({"test": "test_quarter"}, "tests/test_small.py has no test_quarter"),
        ({"section": ""}, "contradicts no numbered equation: name the section"),
    ],
)
def test_a_page_that_names_what_is_not_there_is_an_error(build, change, message):
    given = {"mutant": "no-half", "test": "test_half", "section": "a section"} | change
    _, warnings = build(SHOWN.format(**given) + "```{mutants}\n```\n")
    assert "ERROR" in warnings and message in warnings


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("# Page\n\n```{mutants}\n```\n", "no page shows the bug 1"),
        (GOOD.partition("```{mutants}")[0], "no page has {mutants}"),
        (GOOD.replace("# Page\n\n", "") + GOOD, "the bug 1 is shown 2 times"),
    ],
)
def test_a_page_that_leaves_something_out_fails_the_build(build, page, message):
    with pytest.raises(ExtensionError, match=re.escape(message)):
        build(page)


def test_a_change_is_shown_by_whole_lines_without_their_indent():
    assert mutants_read.change(HALF, MODULE) == "- return 0.5 * x\n+ return 1.0 * x"
    both = Mutant("b", "small", "half", "    if x > 0:\n        return 0.5", "    if x < 0:\n        return 0.6",
                  "", OWN, ())  # fmt: skip
    lines = mutants_read.change(both, MODULE).splitlines()
    assert sorted(lines) == ["+     return 0.6 * x", "+ if x < 0:", "-     return 0.5 * x", "- if x > 0:"]


def test_sources_are_named_once_the_shown_mutant_s_first():
    twice = Mutant("twice", "small", "half", "0.5", "2", "", "https://github.com/a/b/pull/3", ())
    found = {"Reported in": [twice.source, HALF.source], "Right in": [SIGN.source]}
    assert mutants_read.sources(twice, [HALF, SIGN, twice, OURS, HALF]) == found
    assert mutants_read.sources(OURS, [OURS]) == {}
    assert doctest.testmod(mutants_read).failed == 0
