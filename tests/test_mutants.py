"""The registry of mutants says what it should, and the runner tells a survivor from a kill from a mistake."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.mutants.mutant import OWN, Mutant, StaleMutant
from tests.mutants.registry import MUTANTS

import ledger

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "imagegen"
BUGS = set(range(1, 35))  # of the chapters that stand
ADDRESS = re.compile(
    r"https://(github\.com/[\w.-]+/[\w.-]+/(issues|pull|discussions)/\d+|arxiv\.org/abs/\d{4}\.\d{4,5})"
)

# Fakes to try the runner on: a package function, the one test that guards it, and what befalls them.
GUARD = """
from imagegen.objectives import kl_weight

def test_half_way():
    assert kl_weight(5, 10) == 0.5

def test_the_end():
    assert kl_weight(20, 10) == 1.0
"""
LINE = "return min(1.0, step / n_steps) if n_steps else 1.0"


def functions(file: str) -> dict[str, tuple[int, int]]:
    """Return the functions and methods of a module of the package, with their first and last lines."""
    found = {}
    for node in ast.parse((PACKAGE / f"{file}.py").read_text()).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for child in inner:
            if isinstance(child, ast.FunctionDef):
                found[prefix + child.name] = (child.lineno, child.end_lineno)
    return found


def test_no_two_mutants_share_a_name_or_a_change():
    names = Counter(mutant.name for mutant in MUTANTS)
    changes = Counter(
        (mutant.file, mutant.plant((PACKAGE / f"{mutant.file}.py").read_text())) for mutant in MUTANTS
    )
    assert [name for name, count in names.items() if count > 1] == []
    assert max(changes.values()) == 1


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_breaks_the_function_that_it_names(mutant):
    text = (PACKAGE / f"{mutant.file}.py").read_text()
    planted = mutant.plant(text)
    compile(planted, mutant.file, "exec")
    assert ast.dump(ast.parse(planted)) != ast.dump(ast.parse(text)), "only the layout changes"
    first, last = functions(mutant.file)[mutant.function]
    start = text[: text.index(mutant.old)].count("\n") + 1
    pairs = enumerate(zip(mutant.old.split("\n"), mutant.new.split("\n"), strict=False))
    changed = [start + i for i, (before, after) in pairs if before != after] or [start]
    assert all(first <= line <= last for line in changed)


WHOLE = ["vae", "vq", "hierarchy", "gan", "restore", "inverse", "pair", "layers"]
WHOLE += ["objectives/adversarial", "objectives/likelihood"]
WHOLE += ["stylegan/networks", "stylegan/operators", "stylegan/projection", "metrics/paths"]
WHOLE += [
    "augment",
    "recipes/adversarial",
    "recipes/pair",
    "recipes/style",
    "evaluation/adversarial",
    "evaluation/directions",
]
WHOLE += [f"{folder}/restoration" for folder in ("objectives", "recipes")] + ["evaluation/restorers"]
WHOLE += [f"degrade/{part}" for part in ("degradation", "masks", "mixture", "noise", "operators")]
WHOLE += [f"prior/{part}" for part in ("drawing", "grids", "pixelcnn", "transformer")]
WHOLE += [
    f"metrics/{part}"
    for part in ("codes", "features", "likelihood", "modes", "neighbours", "pixels", "samples")
]


@pytest.mark.parametrize("file", WHOLE)
def test_every_function_has_a_mutant(file):
    broken = {mutant.function for mutant in MUTANTS if mutant.file == file}
    assert functions(file).keys() == broken


def test_every_historic_bug_of_the_chapters_is_planted():
    assert BUGS <= {mutant.bug for mutant in MUTANTS}


def test_stories_and_sources_can_be_shown_to_a_reader():
    for mutant in MUTANTS:
        assert mutant.source == OWN or ADDRESS.fullmatch(mutant.source), mutant.name
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", mutant.name)
        assert mutant.story.endswith(".") and 40 <= len(mutant.story) <= 360, mutant.name


def test_every_equation_that_a_mutant_contradicts_is_in_the_book():
    labels = {equation.label for equation in ledger.read(ROOT).equations}
    assert {mutant.equation for mutant in MUTANTS if mutant.equation} <= labels


def test_every_test_that_a_mutant_names_is_there():
    files = {test.split("::")[0] for mutant in MUTANTS for test in mutant.tests}
    assert [file for file in sorted(files) if not (ROOT / file).is_file()] == []
    assert all(mutant.tests for mutant in MUTANTS)


@pytest.mark.parametrize("old", ["return nowhere_to_be_found", "return"])
def test_a_stale_mutant_refuses_to_be_planted(old):
    mutant = Mutant("stale", "objectives/likelihood", "kl_weight", old, "pass", "A story.", OWN, ())
    with pytest.raises(StaleMutant, match="times, expected once"):
        mutant.plant((PACKAGE / "objectives/likelihood.py").read_text())


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """Try the runner on five made-up mutants at once, and twice on one: the importing of torch is what takes time."""
    folder = tmp_path_factory.mktemp("guards")
    (folder / "test_guard.py").write_text(GUARD)
    (folder / "test_red.py").write_text("def test_red():\n    assert False\n")
    (folder / "test_slow.py").write_text(
        "import time\nfrom imagegen import objectives\n\ndef test_slow():\n"
        "    time.sleep(120 if objectives.kl_weight(5, 10) < 0.5 else 0)\n"
    )
    script = f"""
from tests.mutants.mutant import Mutant
from tests.mutants.runner import main

def mutant(name, new, old={LINE!r}, test="test_guard.py"):
    tests = ({str(folder)!r} + "/" + test,)
    return Mutant(name, "objectives/likelihood", "kl_weight", old, new, f"The story of {{name}}.", "own", tests)

killed = mutant("killed-one", "return step / n_steps if n_steps else 1.0")
renamed = mutant("harmless", "weight = min(1.0, step / n_steps) if n_steps else 1.0\\n    return weight")
stale = mutant("stale", "pass", old="this is not there")
name_error = mutant("misspelt", "return mim(1.0, step / n_steps) if n_steps else 1.0")
no_import = mutant("unimportable", "return 1.0\\n\\nimport nowhere_to_be_found")
slow = mutant("slow", "return 0.4", test="test_slow.py")
for name, mutants in {{
    "good": [killed], "survivor": [killed, renamed], "errors": [stale, name_error, no_import, slow],
    "red": [mutant("any", "return 1.0", test="test_red.py")],
    "none": [mutant("any", "return 1.0", test="test_gone.py")],
}}.items():
    print(f"== {{name}}", flush=True)
    print("code", main(["--limit", "8"], mutants=mutants), flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    parts = re.split(r"^== (\w+)\n", done.stdout, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_the_runner_reports_a_kill_and_the_test_that_made_it(tried):
    assert re.search(r"^killed +killed-one .*::test_the_end$", tried["good"], re.MULTILINE)
    assert tried["good"].endswith("mutants: 1, killed: 1\ncode 0\n")


def test_the_runner_reports_a_survivor_with_its_story(tried):
    assert "survived: harmless, though 2 tests ran" in tried["survivor"]
    assert "The story of harmless." in tried["survivor"]
    assert tried["survivor"].endswith("mutants: 2, killed: 1\ncode 1\n")


@pytest.mark.parametrize(
    "name, reason",
    [
        ("stale", "stale mutant: objectives/likelihood holds the text to replace 0 times"),
        ("misspelt", "NameError in call of"),
        ("unimportable", "cannot be imported"),
        ("slow", "took more than 8 seconds"),
    ],
)
def test_a_mutant_that_cannot_be_judged_is_an_error_and_no_kill(tried, name, reason):
    assert re.search(rf"^error: {name}: .*{reason}", tried["errors"], re.MULTILINE)
    assert tried["errors"].endswith("mutants: 4, killed: 0\ncode 1\n")


@pytest.mark.parametrize("case", ["red", "none"])
def test_nothing_is_tried_unless_the_tests_pass_without_a_mutant(tried, case):
    assert "nothing was tried" in tried[case] and tried[case].endswith("code 2\n")
    assert "mutants:" not in tried[case]
