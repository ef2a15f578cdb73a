"""What the site takes from the registry of mutants, tests/mutants/registry.py; mutants_page.py draws it."""

import ast
import difflib
import hashlib
import importlib
import re
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

OWN = "own"
THREAD = re.compile(
    r"https://github\.com/([^/]+/[^/]+)/(?:issues|pull|discussions)/(\d+)"
)
PAPER = re.compile(r"https://arxiv\.org/abs/([\w.]+)")


def registry(root: Path) -> tuple[Any, ...]:
    """Return the mutants of tests/mutants/registry.py, as they stand there."""
    sys.path.insert(0, str(root))
    try:
        return importlib.import_module("tests.mutants.registry").MUTANTS
    finally:
        sys.path.remove(str(root))


def shown(mutants: Iterable[Any]) -> list[Any]:
    """Return those that somebody has met: with the number of a historic bug, or with a public source."""
    return [m for m in mutants if m.bug is not None or m.source != OWN]


def source(mutant: Any) -> str:
    """Return the path of the module that the mutant changes, from the root."""
    return f"src/imagegen/{mutant.file}.py"


def change(mutant: Any, text: str) -> str:
    """Return the lines of the module's text that the mutant changes, before (-) and after (+), without their indent."""
    before, after = text.splitlines(), mutant.plant(text).splitlines()
    lines = [
        line for line in difflib.ndiff(before, after) if line.startswith(("- ", "+ "))
    ]
    plain = textwrap.dedent("\n".join(line[2:] for line in lines)).splitlines()
    return "\n".join(sign[:2] + line for sign, line in zip(lines, plain))


def line_of(mutant: Any, text: str) -> int:
    return text[: text.index(mutant.old)].count("\n") + 1


def test_line(root: Path, test: str) -> int:
    """Return the line of FILE::FUNCTION, or 1 of a FILE alone. Raises: ValueError: there is no such test."""
    file, _, names = test.partition("::")
    if not (root / file).is_file():
        raise ValueError(f"there is no file {file}")
    body, line = [], 1
    if names:
        body = ast.parse((root / file).read_text("utf-8")).body
    for name in names.partition("[")[0].split("::") if names else []:
        found = [node for node in body if getattr(node, "name", None) == name]
        if not found:
            raise ValueError(f"{file} has no {name}")
        line, body = found[0].lineno, found[0].body
    return line


def title(address: str) -> str:
    """Return what a source is called.

    >>> title("https://github.com/pytorch/examples/issues/234"), title("https://arxiv.org/abs/1312.6114")
    ('pytorch/examples 234', 'arXiv:1312.6114')
    """
    if found := THREAD.fullmatch(address):
        return f"{found[1]} {found[2]}"
    if found := PAPER.fullmatch(address):
        return f"arXiv:{found[1]}"
    return address.partition("://")[2].rstrip("/")


def sources(first: Any, others: Iterable[Any]) -> dict[str, list[str]]:
    """Return the public sources of a bug, each once, those of the mutant shown first before the others.

    "Reported in": threads. "Right in": papers, for a paper has it right.
    """
    found = dict.fromkeys(m.source for m in (first, *others) if m.source != OWN)
    made: dict[str, list[str]] = {"Reported in": [], "Right in": []}
    for address in found:
        made["Right in" if PAPER.fullmatch(address) else "Reported in"].append(address)
    return {term: addresses for term, addresses in made.items() if addresses}


def state(root: Path) -> str:
    """Return a hash of all that a page takes from the registry, the modules and the tests that it names."""
    mutants = registry(root)
    files = {source(m) for m in mutants} | {
        t.partition("::")[0] for m in mutants for t in m.tests
    }
    read_too = b"".join(
        (root / file).read_bytes() for file in sorted(files) if (root / file).is_file()
    )
    return hashlib.sha256(repr(mutants).encode() + read_too).hexdigest()


def missing(mutants: Iterable[Any], pages: dict[str, dict[str, Any]]) -> list[str]:
    """Return what is wrong with pages that together should show every numbered bug once, and the table."""
    if not pages:
        return []
    numbers = [number for page in pages.values() for number in page["bugs"]]
    wanted = {m.bug for m in mutants if m.bug is not None}
    said = [
        f"no page shows the bug {number}" for number in sorted(wanted - set(numbers))
    ]
    said += [
        f"the bug {n} is shown {numbers.count(n)} times"
        for n in sorted(set(numbers))
        if numbers.count(n) > 1
    ]
    return said + (
        []
        if any(page["table"] for page in pages.values())
        else ["no page has {mutants}"]
    )
