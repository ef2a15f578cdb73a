"""The form in which a notebook is committed, and the one cell that every notebook starts with.

    python scripts/notebook_form.py clean [FILE ...]     put notebooks in the committed form
    python scripts/notebook_form.py check [FILE ...]     say which are not, and why; exit status 1 if any
    python scripts/notebook_form.py address URL          write the repository's address where it is needed

Without FILE, every notebook under book/. The committed form keeps the text outputs of exact cells, the ones
tagged `nbval-check-output`, with the count that a run from the top gives them, and drops every other output and
count; ids and metadata stay.
"""

import argparse
import ast
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXACT = "nbval-check-output"
NO_FIGURE = "no-figure"
FOLDED = "hide-cell"  # a cell of a solution
EXERCISE = re.compile(r"^\*\*(\d+)\. ", re.MULTILINE)
WORDS = re.compile(r"^:::\{dropdown\} Solution\n+(?!:::)\S", re.MULTILINE)
ONE_MACHINE = re.compile(r"(?<![\w.])/(?:home|root|tmp|Users|work)/\w[^\s\"'`)]*")
LONGEST_CELL = 30
SHORTEST_ALT = 20
ACCELERATOR = "GPU"
TEXT_TYPES = ("text/plain",)

SETUP_CELL = """\
# In Colab, this installs the book's package beside the torch that is there. Elsewhere it only checks.
import sys
from importlib.util import find_spec

REPOSITORY = "{address}"
if find_spec("imagegen") is None and "google.colab" in sys.modules and REPOSITORY:
    %pip install -q "imagegen @ git+{{REPOSITORY}}"
if find_spec("imagegen") is None:
    raise ModuleNotFoundError(
        "The package imagegen is not installed here. In Colab: let REPOSITORY above be the address of the "
        "book's repository, and see what pip printed. On your own machine: run `make env` in a clone of the "
        "book, and choose the Python in its .venv as this notebook's kernel."
    )"""


def setup_cell(address: str) -> str:
    """Return the source of the first code cell; the address is "" where the repository has none yet."""
    return SETUP_CELL.format(address=address)


def address(root: Path = ROOT) -> str:
    """Return the repository's address as CITATION.cff gives it, or "" where it gives none."""
    found = re.search(r'^repository-code: "?([^"\s]+)"?$', (root / "CITATION.cff").read_text("utf-8"), re.M)
    return found[1] if found else ""


def notebooks(root: Path = ROOT) -> list[Path]:
    """Return the notebooks under book/ in order, less what Jupyter and the build leave there."""
    hidden = {".ipynb_checkpoints", "_build"}
    return [path for path in sorted((root / "book").rglob("*.ipynb")) if not hidden & set(path.parts)]


def read(path: Path) -> dict:
    return json.loads(path.read_text("utf-8"))


def write(path: Path, notebook: dict) -> bool:
    """Write the notebook as Jupyter does, if that changes the file; return whether it did."""
    text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    if path.read_text("utf-8") == text:
        return False
    path.write_text(text, "utf-8")
    return True


def source(cell: dict) -> str:
    return "".join(cell["source"])


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


def code_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def lines(text: str | list[str]) -> list[str]:
    """Return text as the list of lines that a notebook file holds."""
    return "".join(text).splitlines(keepends=True)


def clean_output(output: dict, count: int) -> dict | None:
    """Return the output of cell number `count` with nothing but its text; None where it has none or is an error."""
    if output["output_type"] == "stream":
        return {"output_type": "stream", "name": output["name"], "text": lines(output["text"])}
    if output["output_type"] not in ("execute_result", "display_data"):
        return None
    data = {kind: lines(text) for kind, text in output["data"].items() if kind in TEXT_TYPES}
    if not data:
        return None
    kept = {"output_type": output["output_type"], "data": data, "metadata": {}}
    if output["output_type"] == "execute_result":
        kept["execution_count"] = count
    return kept


def clean(notebook: dict) -> dict:
    """Return the notebook in the committed form. The argument is left as it was.

    Raises: ValueError: an exact cell stores an error, which no form can hold.
    """
    cells = []
    count = 0
    for cell in notebook["cells"]:
        cell = {**cell, "source": lines(cell["source"])}
        if cell["cell_type"] == "code":
            count += 1
            metadata = {k: v for k, v in cell["metadata"].items() if k not in ("execution", "ExecuteTime")}
            outputs = cell["outputs"] if EXACT in tags(cell) else []
            if any(output["output_type"] == "error" for output in outputs):
                raise ValueError(f"the exact cell {cell.get('id')} stores an error: run it again")
            kept = [kept for output in outputs if (kept := clean_output(output, count))]
            # nbval compares nothing in a cell that has no count
            cell.update(metadata=metadata, execution_count=count if kept else None, outputs=kept)
        cells.append(cell)
    metadata = {**notebook["metadata"], "accelerator": ACCELERATOR}
    metadata.pop("widgets", None)
    if "language_info" in metadata:  # the version of one machine's Python says nothing about the notebook
        metadata["language_info"] = {
            key: value for key, value in metadata["language_info"].items() if key != "version"
        }
    return {**notebook, "cells": cells, "metadata": metadata}


def with_address(notebook: dict, url: str) -> dict:
    """Return the notebook with the setup cell for this address in the place of its own.

    A first code cell that is not a setup cell is kept, and the setup cell goes before it.
    """
    cells = list(notebook["cells"])
    first = next((i for i, cell in enumerate(cells) if cell["cell_type"] == "code"), len(cells))
    if first < len(cells) and source(cells[first]).startswith(SETUP_CELL.partition("\n")[0]):
        cells[first] = {**cells[first], "source": lines(setup_cell(url))}
    else:
        new = {"cell_type": "code", "id": "setup", "metadata": {}, "execution_count": None, "outputs": []}
        cells.insert(first, {**new, "source": lines(setup_cell(url))})
    return {**notebook, "cells": cells}


# --- what a figure's cell is ----------------------------------------------------------------------

FIGURE_ROOTS = {"plt", "viz"}
FIGURE_METHODS = {"imshow", "plot", "contour", "contourf", "savefig"}


def _parsed(text: str) -> ast.Module:
    """Parse a cell, with the magics that only IPython reads replaced by `pass`."""
    return ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", text, flags=re.M))


def _calls(tree: ast.AST, figure_names: set[str]) -> bool:
    """Say whether the tree calls something that draws, outside the functions that it only defines."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in figure_names:
                return True
            if isinstance(called, ast.Attribute):
                root = called.value
                if isinstance(root, ast.Name) and root.id in FIGURE_ROOTS or called.attr in FIGURE_METHODS:
                    return True
        pending += [
            child
            for child in ast.iter_child_nodes(node)
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        ]
    return False


def figure_cells(notebook: dict) -> list[dict]:
    """Return the code cells that draw a figure.

    A cell draws if it calls anything of `viz` or `plt`, a name imported from imagegen.viz, a drawing method
    of an axis, or a function of this notebook that does. The tag `no-figure` says that a cell which looks so
    draws none.
    """
    names: set[str] = set()
    found = []
    for cell in code_cells(notebook):
        tree = _parsed(source(cell))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "imagegen.viz":
                names |= {alias.asname or alias.name for alias in node.names}
        names |= {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and _calls(ast.Module(node.body, []), names)
        }
        if _calls(tree, names) and NO_FIGURE not in tags(cell):
            found.append(cell)
    return found


def alt_text(cell: dict) -> str:
    return cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")


# --- exercises ------------------------------------------------------------------------------------


def unsolved(notebook: dict) -> list[str]:
    """Return what is wrong with the solutions of a chapter's exercises.

    Each exercise is a cell of text that says what to expect and ends in a folded solution. Folded cells of code follow,
    which run with the chapter and assert what was expected.
    """
    said, solution, section = [], {}, ""
    for cell in notebook["cells"]:
        text = source(cell)
        if cell["cell_type"] == "code":
            if (FOLDED in tags(cell)) != bool(solution and section == "Exercises"):
                said.append(
                    f"cell {cell.get('id')}: the code of solutions, and nothing else, is tagged {FOLDED}"
                )
            elif FOLDED in tags(cell):
                solution[list(solution)[-1]] += text
            continue
        before, section = section, (re.findall(r"^## (.*)$", text, re.MULTILINE) or [section])[-1]
        numbers = EXERCISE.findall(text) if "Exercises" in (before, section) else []
        for number in numbers:
            solution[number] = ""
            if len(numbers) > 1 or "*Expected:" not in text or not WORDS.search(text):
                said.append(
                    f"exercise {number} has no cell of its own with *Expected: ...* and a folded solution"
                )
    return said + [
        f"exercise {number} has no solution in code that asserts what is expected"
        for number, code in solution.items()
        if "assert" not in code
    ]


# --- all that a committed notebook keeps to -------------------------------------------------------


def problems(notebook: dict, url: str) -> list[str]:
    """Return what is wrong with a notebook, in words that say where; an empty list if nothing is."""
    said = []
    cells = code_cells(notebook)
    label = {
        id(cell): f"code cell {number} ({cell.get('id', 'no id')})" for number, cell in enumerate(cells, 1)
    }
    if not cells or source(cells[0]) != setup_cell(url):
        said.append("the first code cell is not the setup cell: make address")
    if notebook["metadata"].get("accelerator") != ACCELERATOR:
        said.append(f'the metadata lack "accelerator": "{ACCELERATOR}", by which Colab offers a GPU')
    if notebook["metadata"].get("kernelspec", {}).get("name") != "python3":
        said.append("the metadata do not name the kernel python3")
    ids = [cell.get("id") for cell in notebook["cells"]]
    if None in ids or len(set(ids)) < len(ids):
        said.append("a cell has no id, or two cells have the same")
    for cell in notebook["cells"]:
        if found := ONE_MACHINE.search(source(cell)):
            said.append(f"cell {cell.get('id', 'with no id')} names a path of one machine: {found[0]}")
    for cell in cells:
        n_lines = len(source(cell).splitlines())
        if n_lines > LONGEST_CELL:
            said.append(f"{label[id(cell)]} has {n_lines} lines: {LONGEST_CELL} at most")
        if any(output["output_type"] == "error" for output in cell["outputs"]):
            said.append(f"{label[id(cell)]} stores an error")
        elif EXACT in tags(cell) and not any(clean_output(output, 0) for output in cell["outputs"]):
            said.append(
                f"{label[id(cell)]} is tagged {EXACT} and stores no text, so nothing would be compared"
            )
    said += unsolved(notebook)
    for cell in figure_cells(notebook):
        if len(alt_text(cell)) < SHORTEST_ALT:
            said.append(
                f"{label[id(cell)]} draws a figure and has no alt text in its metadata: "
                f'{{"mystnb": {{"image": {{"alt": "..."}}}}}}, {SHORTEST_ALT} characters or more '
                f"(or the tag {NO_FIGURE}, if it draws none)"
            )
    try:
        if not said and clean(notebook) != notebook:
            said.append("not in the committed form: make clean-notebooks")
    except ValueError as error:
        said.append(str(error))
    return said


def write_address(url: str, root: Path = ROOT) -> list[Path]:
    """Write the address into CITATION.cff and every notebook's first code cell; return the changed files."""
    if url and not re.fullmatch(r"https://[\w.-]+(/[\w.-]+)+", url):
        raise ValueError(f"{url!r} is not the https address of a repository")
    citation = root / "CITATION.cff"
    old = citation.read_text("utf-8")
    kept = re.sub(r"^repository-code:.*\n", "", old, flags=re.M)
    new = kept + (f'repository-code: "{url}"\n' if url else "")
    if new != old:
        citation.write_text(new, "utf-8")
    changed = [path for path in notebooks(root) if write(path, with_address(read(path), url))]
    return changed + [citation] * (new != old)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("clean", "put notebooks in the committed form"),
        ("check", "say which are not, and why"),
    ):
        commands.add_parser(name, help=text).add_argument("files", nargs="*", type=Path)
    text = "write the repository's address into every notebook"
    commands.add_parser("address", help=text).add_argument("url", nargs="?", default="")
    given = parser.parse_args(arguments)
    if given.command == "address":
        try:
            changed = write_address(given.url or address())
        except ValueError as error:
            parser.error(str(error))
        print("\n".join(f"changed: {path.relative_to(ROOT)}" for path in changed) or "nothing to change")
        return 0
    status = 0
    for path in given.files or notebooks():
        if given.command == "clean":
            if write(path, clean(read(path))):
                print(f"cleaned: {path}")
        else:
            for problem in problems(read(path), address()):
                print(f"{path}: {problem}")
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
