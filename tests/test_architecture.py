"""The package keeps to its plan: which module may import which, and what the core may import from outside.

The imports are read from the source, also those inside functions, so nothing has to run.
"""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "imagegen"
LONGEST_MODULE = 350

FAMILIES = {"vae", "vq", "prior", "hierarchy", "gan", "stylegan", "classifier", "decoder", "restore", "pair"}
BELOW_RECIPES = FAMILIES | {"images", "data", "layers", "augment", "degrade"}
BELOW_RECIPES |= {"objectives", "training", "pretrained", "metrics"}

# module: the modules of the package that it may import. A new module enters this table first.
MAY_IMPORT: dict[str, set[str]] = {
    "images": set(),
    "data": {"images"},
    "layers": set(),
    "augment": set(),
    "degrade": {"images"},
    "vae": {"layers"},
    "vq": {"layers"},
    "hierarchy": {"layers", "vq"},  # two of its quantisers
    "prior": {"layers"},
    "gan": {"layers"},
    "stylegan": set(),
    "restore": {"layers"},
    "pair": {"gan", "restore"},  # both of which one critic judges
    "inverse": {"degrade"},  # any generator or prior, which the caller brings
    "classifier": {"layers"},
    "decoder": {"layers"},
    "objectives": set(),
    "training": set(),
    "metrics": {"images"},
    "pretrained": {"training"} | FAMILIES,  # builds the model that a card describes, and writes files whole
    "recipes": BELOW_RECIPES,  # where data, model and objective meet
    "evaluation": BELOW_RECIPES | {"recipes"},  # the protocol of a data set, for every family
    "viz": {"images"},
    "export": set(),
    "widgets": {"viz", "images", "export", "restore"},
    "cli": BELOW_RECIPES | {"recipes", "evaluation", "export"},
    "__init__": set(),
    "__main__": {"cli"},
}
NEVER_TOGETHER = {"data": "data", "objectives": "objectives"} | dict.fromkeys(FAMILIES, "models")
MODEL_BLIND = ("training", "metrics")
FORBIDDEN_NAMES = {"utils", "util", "helpers", "misc", "common"}


def module_name(path: Path, package: Path) -> str:
    """Return the module of the package that a file belongs to; the files of a folder belong to the folder."""
    return path.relative_to(package).parts[0].removesuffix(".py")


def sources(package: Path) -> list[Path]:
    return sorted(path for path in package.rglob("*.py") if "__pycache__" not in path.parts)


def imports(text: str) -> set[str]:
    """Return the full names of everything that a source imports, at its top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "imagegen" + (f".{node.module}" if node.module else "") if node.level else node.module
            found |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "import_module",
            "importlib.import_module",
        ):
            if node.args and isinstance(node.args[0], ast.Constant):
                found.add(str(node.args[0].value))
    return found


def own_imports(text: str) -> set[str]:
    """Return the modules of the package that a source imports; `from imagegen import *` counts as `*`."""
    parts = [name.split(".") for name in imports(text)]
    return {part[1] for part in parts if part[0] == "imagegen" and len(part) > 1 and part[1] != "__version__"}


def top_level_imports(text: str) -> set[str]:
    """Return the packages that a source imports whenever it is imported itself."""
    found: set[str] = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def violations(package: Path) -> list[str]:
    """Return what in the package breaks the plan, one line a case."""
    said = []
    graph: dict[str, set[str]] = {}
    for path in sources(package):
        name, text = module_name(path, package), path.read_text("utf-8")
        where = path.relative_to(package)
        if name in FORBIDDEN_NAMES or path.stem in FORBIDDEN_NAMES:
            said.append(f"{where}: a module is named for its idea, not {path.stem}")
        if name not in MAY_IMPORT:
            said.append(f"{where}: {name} is not in the table")
        used = own_imports(text) - {name}
        graph.setdefault(name, set()).update(used)
        for other in sorted(used - MAY_IMPORT.get(name, set())):
            said.append(f"{where}: {name} may not import {other}")
        if (length := len(text.splitlines())) > LONGEST_MODULE:
            said.append(f"{where}: {length} lines, more than {LONGEST_MODULE}")
        if name in MODEL_BLIND:
            words = set(re.findall(r"[A-Za-z]+", re.sub(r"[^\x00-\x7f]", "", code_only(text))))
            named = {word for word in words if word.lower() in FAMILIES | {f"{f}config" for f in FAMILIES}}
            said += [f"{where}: {name} names the model {word}" for word in sorted(named)]
    for name, kind in NEVER_TOGETHER.items():
        for other in reachable(name, graph):
            if NEVER_TOGETHER.get(other, kind) != kind:
                said.append(
                    f"{name} reaches {other}: {kind} and {NEVER_TOGETHER[other]} never import one another"
                )
    return said


def code_only(text: str) -> str:
    """Return a source without its comments and docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body[0] = ast.Pass()
    return ast.unparse(tree)


def reachable(name: str, graph: dict[str, set[str]]) -> set[str]:
    """Return every module that importing this one imports too."""
    seen: set[str] = set()
    pending = [name]
    while pending:
        for other in graph.get(pending.pop(), set()) - seen:
            seen.add(other)
            pending.append(other)
    return seen - {name}


def core_packages() -> set[str]:
    """Return the import names of the core dependencies in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = {re.match(r"[\w.-]+", line)[0].lower() for line in project["dependencies"]}
    return {{"pillow": "PIL"}.get(name, name) for name in names}


def foreign(package: Path) -> list[str]:
    """Return the top-level imports of packages that the core does not depend on."""
    allowed = core_packages() | set(sys.stdlib_module_names) | {"imagegen"}
    return [
        f"{path.relative_to(package)}: {other} is no core dependency: import it where it is used"
        for path in sources(package)
        for other in sorted(top_level_imports(path.read_text("utf-8")) - allowed)
    ]


def test_the_package_keeps_to_the_table():
    assert violations(PACKAGE) == []


def test_the_core_imports_only_what_it_depends_on():
    assert foreign(PACKAGE) == []


def test_the_table_has_no_cycle():
    for name in MAY_IMPORT:
        assert name not in {n for other in MAY_IMPORT[name] for n in reachable(other, MAY_IMPORT) | {other}}


def test_the_table_lists_only_modules_that_are_there():
    optional = {"__main__"}
    missing = {n for n in MAY_IMPORT if not (PACKAGE / f"{n}.py").exists() and not (PACKAGE / n).is_dir()}
    assert missing - optional == set()


PLANTED = {
    "data names a model": ("data.py", "from imagegen.vae import VAE", "data may not import vae"),
    "lazily, inside a function": (
        "objectives.py",
        "def f():\n    from imagegen import data\n    return data",
        "objectives may not import data",
    ),
    "by a relative import": (
        "vae.py",
        "from .objectives import gaussian_kl",
        "vae may not import objectives",
    ),
    "by import_module": (
        "metrics.py",
        "import importlib\nm = importlib.import_module('imagegen.vae')",
        "metrics may not import vae",
    ),
    "everything at once": ("layers.py", "from imagegen import *", "layers may not import *"),
    "training knows a model": (
        "training.py",
        "def run(model):\n    return model.VAE",
        "training names the model VAE",
    ),
    "a drawer for everything": ("utils.py", "x = 1", "utils"),
    "a module nobody planned": ("novelty.py", "x = 1", "novelty is not in the table"),
    "a module in a folder": ("vae/extra.py", "import imagegen.data", "vae may not import data"),
    "too long": ("images.py", "x = 1\n" * (LONGEST_MODULE + 1), "351 lines"),
    "a detour": ("layers.py", "import imagegen.data", "vae reaches data"),
}


@pytest.mark.parametrize(("file", "text", "expected"), PLANTED.values(), ids=list(PLANTED))
def test_a_planted_violation_is_found(tmp_path, file, text, expected):
    """The check above can fail: each way around the plan is reported."""
    for name, harmless in (("vae.py", "import imagegen.layers"), ("images.py", '"""VAE in a docstring."""')):
        (tmp_path / name).write_text(harmless)
    assert violations(tmp_path) == []
    (tmp_path / file).parent.mkdir(exist_ok=True)
    if file == "vae/extra.py":
        (tmp_path / "vae.py").unlink()
    (tmp_path / file).write_text(text + ("\nimport imagegen.layers" if file == "vae.py" else ""))
    assert any(expected in line for line in violations(tmp_path)), violations(tmp_path)


def test_a_planted_foreign_import_is_found(tmp_path):
    """A heavy package at the top of a module is reported, and inside a function it is not."""
    (tmp_path / "recipes.py").write_text("def f():\n    import lightning_fabric\n")
    assert foreign(tmp_path) == []
    (tmp_path / "export.py").write_text("import onnx\nimport torch\n")
    assert [line.partition(" is no")[0] for line in foreign(tmp_path)] == ["export.py: onnx"]
