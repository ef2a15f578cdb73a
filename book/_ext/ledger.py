"""The equation ledger: every numbered equation of the book, and the tests that check it.

Reads sources only: the pages that _toc.yml lists, and the test files as syntax trees (nothing is imported or run).
The site build (ledger_page.py), tests/test_ledger.py and `make ledger` all stand on this one reading.

Usage: python book/_ext/ledger.py [ROOT]     prints `equations: N, claimed: N`; exits 1 where the two sides disagree.
"""

import ast
import json
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]

LABEL = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+")
FENCE = re.compile(r"(?P<mark>`{3,}|~{3,}|:{3,})\s*(?:\{(?P<directive>[\w:-]+)\})?")
DOLLARS = re.compile(
    r"\$\$(?P<latex>.+?)\$\$(?:[ \t]*\((?P<label>[^()\s]+)\))?", re.DOTALL
)
OPTION = re.compile(r":(label|name):\s*(\S+)\s*$", re.MULTILINE)
UNLABELLED_NUMBER = re.compile(
    r"\\tag\b|\\begin\{(equation|align|gather|multline|eqnarray|alignat|flalign)\}"
)
VERBATIM = {
    "code",
    "code-block",
    "code-cell",
    "sourcecode",
    "literalinclude",
    "raw",
    "parsed-literal",
}


@dataclass(frozen=True)
class Equation:
    label: str
    page: str  # docname, e.g. book/latent/vae
    latex: str
    where: str  # file, and line or cell


@dataclass(frozen=True)
class Claim:
    label: str
    test: str  # pytest's node id
    does: str  # first line of the test's docstring
    tolerance: str
    path: str
    line: int


@dataclass(frozen=True)
class Ledger:
    equations: tuple[Equation, ...]
    claims: tuple[Claim, ...]
    problems: tuple[str, ...]

    def of_label(self, label: str) -> list[Claim]:
        return [claim for claim in self.claims if claim.label == label]

    @property
    def claimed(self) -> int:
        """The number of equations that at least one test claims."""
        return len(
            {claim.label for claim in self.claims}
            & {equation.label for equation in self.equations}
        )


# ---- pages -----------------------------------------------------------------------------------------------------


def pages(root: Path) -> list[Path]:
    """Return the source files that _toc.yml lists, in its order.

    Raises: FileNotFoundError: a listed page has no .md or .ipynb file.
    """

    def names(entry: object) -> list[str]:
        if isinstance(entry, list):
            return [name for item in entry for name in names(item)]
        if isinstance(entry, dict):
            own = [
                str(value) for key, value in entry.items() if key in ("root", "file")
            ]
            return own + [
                name
                for key, value in entry.items()
                if isinstance(value, list)
                for name in names(value)
            ]
        return []

    found = []
    for name in names(yaml.safe_load((root / "_toc.yml").read_text("utf-8"))):
        candidates = [root / name, root / f"{name}.md", root / f"{name}.ipynb"]
        page = next(
            (path for path in candidates if path.suffix and path.is_file()), None
        )
        if page is None:
            raise FileNotFoundError(
                f"_toc.yml lists {name}, and there is no {name}.md or {name}.ipynb"
            )
        found.append(page)
    return found


def math_blocks(markdown: str) -> list[tuple[str | None, str, int]]:
    """Return (label or None, LaTeX, line) of each displayed formula in MyST Markdown, in order.

    Code is skipped; the bodies of other directives (admonitions, exercises, solutions) are read.
    """
    blocks: list[tuple[str | None, str, int]] = []
    prose: list[str] = []  # the lines outside code, with blank lines where code stood
    open_fences: list[str] = []
    lines = markdown.splitlines()
    skip_until = ""  # the closing mark of the code block that we are in
    body: list[str] | None = None  # the lines of the math directive that we are in
    started = 0
    for number, line in enumerate(lines, 1):
        text = re.sub(r"^[\s>]*", "", line)
        fence = FENCE.match(text)
        if skip_until:
            closing = text.rstrip()
            if (
                fence
                and closing == closing[:1] * len(closing)
                and closing.startswith(skip_until)
            ):
                if body is not None:
                    content = "\n".join(body)
                    label = OPTION.search(content)
                    latex = re.sub(
                        r"^:[\w-]+:.*$", "", content, flags=re.MULTILINE
                    ).strip()
                    blocks.append((label.group(2) if label else None, latex, started))
                    body = None
                skip_until = ""
            elif body is not None:
                body.append(line)
            prose.append("")
        elif fence and open_fences and text.rstrip() == open_fences[-1]:
            open_fences.pop()
            prose.append("")
        elif fence:
            directive, mark = fence.group("directive"), fence.group("mark")
            prose.append("")
            if directive == "math":
                skip_until, body, started = mark, [], number
            elif directive in VERBATIM or (directive is None and mark[0] != ":"):
                skip_until = mark
            else:
                open_fences.append(mark)
        else:
            prose.append(line)
    text = re.sub(
        r"(?<!`)(`+)(?!`)[^`\n]*?(?<!`)\1(?!`)",
        lambda m: " " * len(m.group()),
        "\n".join(prose),
    )
    for match in DOLLARS.finditer(text):
        blocks.append(
            (
                match.group("label"),
                match.group("latex").strip(),
                text.count("\n", 0, match.start()) + 1,
            )
        )
    return sorted(blocks, key=lambda block: block[2])


def page_equations(path: Path, root: Path) -> tuple[list[Equation], list[str]]:
    """Return the labelled equations of one page, and what is wrong with the others."""
    name = path.relative_to(root)
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text("utf-8"))["cells"]
        texts = [
            (f"{name}, cell {number}", "".join(cell["source"]))
            for number, cell in enumerate(cells, 1)
            if cell["cell_type"] == "markdown"
        ]
    else:
        texts = [(str(name), path.read_text("utf-8"))]
    equations, problems = [], []
    for where, text in texts:
        for label, latex, line in math_blocks(text):
            place = f"{where}, line {line}"
            if label is None:
                if UNLABELLED_NUMBER.search(latex):
                    problems.append(
                        f"{place}: an equation that numbers itself: write $$ ... $$ (label) instead"
                    )
            elif not LABEL.fullmatch(label):
                problems.append(
                    f"{place}: the label {label!r} is not of the form chapter-name (lower case, hyphens)"
                )
            else:
                equations.append(
                    Equation(label, name.with_suffix("").as_posix(), latex, place)
                )
    return equations, problems


# ---- tests -----------------------------------------------------------------------------------------------------


def is_mark(node: ast.expr, name: str) -> bool:
    """Whether the expression is pytest.mark.NAME or mark.NAME, called or not."""
    node = node.func if isinstance(node, ast.Call) else node
    return (
        isinstance(node, ast.Attribute)
        and node.attr == name
        and ast.unparse(node.value).endswith("mark")
    )


def tolerance_in(test: ast.AST) -> str:
    """Return the tolerances written as keywords in the test's own calls."""
    found = [
        f"{keyword.arg} {ast.unparse(keyword.value)}"
        for call in ast.walk(test)
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg in ("atol", "rtol", "abs", "rel")
    ]
    return ", ".join(dict.fromkeys(found)) or "as in the test"


def test_claims(path: Path, root: Path) -> tuple[list[Claim], list[str]]:
    """Return the claims that one test file makes, and what is wrong with the others."""
    name = path.relative_to(root).as_posix()
    tree = ast.parse(path.read_text("utf-8"), name)
    claims: list[Claim] = []
    problems: list[str] = []
    seen: set[ast.expr] = set()

    def visit(body: list[ast.stmt], prefix: str, above: list[ast.expr]) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
                visit(node.body, f"{prefix}::{node.name}", above + node.decorator_list)
            elif isinstance(
                node, ast.FunctionDef | ast.AsyncFunctionDef
            ) and node.name.startswith("test"):
                marks = above + node.decorator_list
                equations = [
                    mark
                    for mark in marks
                    if isinstance(mark, ast.Call) and is_mark(mark, "equation")
                ]
                if equations:
                    seen.update(equations)
                    claim(node, f"{prefix}::{node.name}", marks, equations)

    def claim(
        test, node_id: str, marks: list[ast.expr], equations: list[ast.Call]
    ) -> None:
        does = (ast.get_docstring(test) or "").strip().split("\n")[0]
        if not does:
            problems.append(
                f"{node_id} claims an equation and has no docstring: the ledger prints its first line"
            )
        if any(
            is_mark(mark, kind)
            for mark in marks
            for kind in ("skip", "skipif", "xfail")
        ):
            problems.append(
                f"{node_id} claims an equation and may be skipped or fail: then nothing checks it"
            )
        for mark in equations:
            stated = {keyword.arg: keyword.value for keyword in mark.keywords}
            values = [*mark.args, *stated.values()]
            if (
                not mark.args
                or set(stated) - {"tolerance"}
                or not all(
                    isinstance(value, ast.Constant) and isinstance(value.value, str)
                    for value in values
                )
            ):
                problems.append(
                    f"{node_id}: equation(...) takes labels, and tolerance=, as plain strings: {ast.unparse(mark)}"
                )
                continue
            tolerance = (
                stated["tolerance"].value
                if "tolerance" in stated
                else tolerance_in(test)
            )
            claims.extend(
                Claim(value.value, node_id, does, tolerance, name, test.lineno)
                for value in mark.args
            )

    visit(tree.body, name, [])
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and is_mark(node, "equation")
            and node not in seen
        ):
            problems.append(
                f"{name}:{node.lineno}: equation(...) claims only as a decorator of a test"
            )
    return claims, problems


# ---- both ------------------------------------------------------------------------------------------------------


def read(root: Path = ROOT) -> Ledger:
    """Return the ledger of the book at `root`; what is wrong is in its `problems`, one sentence each."""
    equations: list[Equation] = []
    claims: list[Claim] = []
    problems: list[str] = []
    for path in pages(root):
        found, wrong = page_equations(path, root)
        equations += found
        problems += wrong
    for path in sorted((root / "tests").rglob("test_*.py")):
        made, wrong = test_claims(path, root)
        claims += made
        problems += wrong
    known, claimed = (
        {equation.label for equation in equations},
        {claim.label for claim in claims},
    )
    twice = [
        label
        for label, count in Counter(equation.label for equation in equations).items()
        if count > 1
    ]
    problems += [
        f"the label {label} stands at more than one equation" for label in twice
    ]
    problems += [
        f"no test claims the equation {equation.label} ({equation.where})"
        for equation in equations
        if equation.label not in claimed
    ]
    problems += [
        f"{claim.test} claims {claim.label}, and no numbered equation of the book has that label"
        for claim in claims
        if claim.label not in known
    ]
    return Ledger(tuple(equations), tuple(claims), tuple(problems))


def main(arguments: list[str]) -> int:
    ledger = read(Path(arguments[0]).resolve() if arguments else ROOT)
    print(f"equations: {len(ledger.equations)}, claimed: {ledger.claimed}")
    for problem in ledger.problems:
        print(f"- {problem}", file=sys.stderr)
    return 1 if ledger.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
