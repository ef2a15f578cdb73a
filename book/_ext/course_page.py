"""Sphinx extension: what a course is made of, read from the notebooks, so that no page can fall behind them.

`{assignments}` lists the assignments with their parts, points and how each is graded, from the marks in the source
notebooks; of a cell that holds a solution or a test nothing is read but its points. Its lines, `NAME: CHAPTER, ...`,
give the order and the chapters; one that is not there yet is left out. `{chapter-needs}` lists the chapters with the
data and the trained weights that each loads.
"""

import ast
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx import addnodes

SOURCE, WEIGHTS = "book/assignments/source", "src/imagegen/pretrained"
HEADER = re.compile(
    r"^(?P<hours>[\w ]+ hours?), (?P<points>\d+) points\. *(?P<story>.*)", re.M
)
DATA = {"fashion_mnist": "Fashion-MNIST", "avatars": "Avatars"}


@dataclass
class Part:
    """A part of an assignment: its title, and for tests and for written answers how many, and their points."""

    title: str
    tests: int = 0
    by_tests: float = 0
    written: int = 0
    by_hand: float = 0


@dataclass
class Assignment:
    name: str
    title: str
    hours: str
    story: str
    parts: list[Part] = field(default_factory=list)

    def total(self, what: str) -> float:
        return sum(getattr(part, what) for part in self.parts)


# ---- reading ---------------------------------------------------------------------------------------------------


def public_text(cell: dict) -> str:
    """Return the text of a markdown cell that students are shown, "" of any other cell."""
    text = "".join(cell["source"])
    marks = cell["metadata"].get("nbgrader", {})
    secret = marks.get("solution") or marks.get("grade") or "### BEGIN" in text
    return "" if cell["cell_type"] != "markdown" or secret else text


def read_assignment(path: Path) -> Assignment:
    """Return what an assignment's notebook says of itself.

    Raises: ValueError: it does not begin as an assignment does, or its cells have other points than its text says.
    """
    cells = json.loads(path.read_text("utf-8"))["cells"]
    text = public_text(cells[0])
    title = re.match(r"# (?:Assignment \d+: )?(.+)", text)
    header = HEADER.search(text)
    if not title or not header:
        raise ValueError(f"{path.name} does not begin with a title, hours and points")
    name = title[1][0].upper() + title[1][1:]
    found = Assignment(path.stem, name, header["hours"], header["story"].strip())
    part = Part("")
    for cell in cells:
        if heading := re.match(r"## (.+)", public_text(cell)):
            part = Part(heading[1].strip())
            found.parts.append(part)
        marks = cell["metadata"].get("nbgrader", {})
        if marks.get("grade") and cell["cell_type"] == "code":
            part.tests, part.by_tests = part.tests + 1, part.by_tests + marks["points"]
        elif marks.get("grade"):
            part.written, part.by_hand = (
                part.written + 1,
                part.by_hand + marks["points"],
            )
    found.parts = [part for part in found.parts if part.tests or part.written]
    points = found.total("by_tests") + found.total("by_hand")
    if points != float(header["points"]):
        raise ValueError(
            f"{path.name} says {header['points']} points, its cells have {points:g}"
        )
    return found


def read_assignments(root: Path) -> dict[str, Assignment]:
    """Return the assignments that are there, by name. Raises: ValueError: see read_assignment."""
    paths = sorted((root / SOURCE).glob("*/*.ipynb"))
    return {
        path.stem: read_assignment(path)
        for path in paths
        if path.stem == path.parent.name
    }


def chapters(root: Path) -> list[str]:
    """Return the chapters that are notebooks, as the table of contents has them."""
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf-8"))
    files = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    return [
        name
        for name in files
        if (root / f"{name}.ipynb").is_file() and not name.startswith("book/course/")
    ]


def weights_named(node: ast.expr, shipped: list[str]) -> list[str]:
    """Return the shipped weights that an argument of `load` can name: all that fit where a part is computed."""
    if isinstance(node, ast.Constant):
        return [name for name in shipped if name == node.value]
    if isinstance(node, ast.BinOp):
        node = node.left
    elif isinstance(node, ast.JoinedStr):
        node = node.values[0]
    start = node.value if isinstance(node, ast.Constant) else None
    return [name for name in shipped if start and name.startswith(str(start))]


def needs(path: Path, shipped: list[str]) -> tuple[list[str], list[str]]:
    """Return the data sets and the weights that a chapter's notebook loads."""
    data: set[str] = set()
    weights: set[str] = set()
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        code = re.sub(r"^(\s*)[%!].*$", r"\1pass", "".join(cell["source"]), flags=re.M)
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr in DATA:
                    data.add(DATA[node.func.attr])
                elif node.func.attr == "load" and node.args:
                    weights.update(weights_named(node.args[0], shipped))
    return sorted(data), sorted(weights)


# ---- drawing ---------------------------------------------------------------------------------------------------


def words(text: str) -> list[nodes.Node]:
    """Return a line of Markdown as nodes: `code`, $formula$, and plain text."""
    made: list[nodes.Node] = []
    for piece in re.split(r"(`[^`]+`|\$[^$]+\$)", text):
        if piece.startswith("`"):
            made.append(nodes.literal("", piece.strip("`")))
        elif piece.startswith("$"):
            made.append(nodes.math("", piece.strip("$")))
        elif piece:
            made.append(nodes.Text(piece))
    return made


def link(page: str, here: str) -> nodes.Node:
    """Return a link to a chapter, with its title as text."""
    return addnodes.pending_xref(
        "",
        nodes.inline("", ""),
        refdomain="std",
        reftype="doc",
        reftarget=f"/{page}",
        refexplicit=False,
        refwarn=True,
        refdoc=here,
    )


def table(head: list[str], rows: list[list], numeric: set[int]) -> nodes.Node:
    """Return a table; a cell is text or a list of nodes, and those of the columns `numeric` are set right."""

    def row(cells: list) -> nodes.row:
        made = nodes.row()
        for column, cell in enumerate(cells):
            inside = words(cell) if isinstance(cell, str) else cell
            paragraph = nodes.paragraph("", "", *inside)
            made += nodes.entry(
                "", paragraph, classes=["text-right"] if column in numeric else []
            )
        return made

    group = nodes.tgroup("", cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]
    group += nodes.thead("", row(head))
    group += nodes.tbody("", *[row(cells) for cells in rows])
    return nodes.table("", group, classes=["results"])


def counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def separated(found: list[nodes.Node]) -> list[nodes.Node]:
    """Return nodes with commas between them."""
    made: list[nodes.Node] = []
    for node in found:
        made += [nodes.Text(", "), node] if made else [node]
    return made


class Assignments(Directive):
    has_content = True

    def run(self):
        env = self.state.document.settings.env
        note(env)
        order = {}
        for line in filter(None, map(str.strip, self.content)):
            name, _, pages = line.partition(":")
            order[name] = [page.strip() for page in pages.split(",") if page.strip()]
        try:
            found = read_assignments(Path(env.srcdir))
        except ValueError as wrong:
            raise self.error(str(wrong)) from wrong
        if unlisted := sorted(set(found) - set(order)):
            raise self.error(
                f"assignments: no line for {', '.join(unlisted)}, expected NAME: CHAPTER"
            )
        listed = [found[name] for name in order if name in found]
        if not listed:
            text = "This copy of the book holds no assignments."
            return [nodes.note("", nodes.paragraph("", text))]
        rows, sections = [], []
        for one in listed:
            known = [
                page for page in order[one.name] if f"book/{page}" in env.found_docs
            ]
            pages = [link(f"book/{page}", env.docname) for page in known]
            to_it = nodes.reference(
                "", "", *words(one.title), internal=True, refid=f"assignment-{one.name}"
            )
            tests, hand = one.total("by_tests"), one.total("by_hand")
            points = [f"{value:g}" for value in (tests, hand, tests + hand)]
            rows.append([[to_it], separated(pages), one.hours, *points])
            sections.append(self.section(one))
        head = ["Assignment", "Chapters", "Time", "By tests", "By hand", "Points"]
        return [table(head, rows, {3, 4, 5}), *sections]

    def section(self, one: Assignment) -> nodes.Node:
        made = nodes.section("", ids=[f"assignment-{one.name}"], names=[])
        made += nodes.title("", "", *words(one.title))
        named = [nodes.Text("File: "), nodes.literal("", f"{one.name}.ipynb")]
        if not one.name.startswith("hunt-"):  # they all begin alike
            made += nodes.paragraph("", "", *words(one.story))
        made += nodes.paragraph("", "", *named)
        rows = [
            [
                part.title,
                f"{part.by_tests:g} ({counted(part.tests, 'test')})"
                if part.tests
                else "–",
                f"{part.by_hand:g} ({counted(part.written, 'answer')})"
                if part.written
                else "–",
                f"{part.by_tests + part.by_hand:g}",
            ]
            for part in one.parts
        ]
        made += table(["Part", "By tests", "By hand", "Points"], rows, {1, 2, 3})
        return made


class ChapterNeeds(Directive):
    def run(self):
        env = self.state.document.settings.env
        note(env)
        root = Path(env.srcdir)
        sizes = {
            path.stem: path.stat().st_size
            for path in (root / WEIGHTS).glob("*.safetensors")
        }
        rows = []
        for page in chapters(root):
            data, weights = needs(root / f"{page}.ipynb", sorted(sizes))
            size = sum(sizes[name] for name in weights) / 2**20
            mass = f"{len(weights)}, {size:.1f} MB" if weights else "none"
            rows.append(
                [[link(page, env.docname)], ", ".join(data) or "points drawn", mass]
            )
        return [table(["Chapter", "Images", "Trained weights"], rows, {2})]


# ---- keeping the page up to date -------------------------------------------------------------------------------


def state(root: Path) -> str:
    """Return a digest of all that the directives read."""
    found = [
        *sorted((root / SOURCE).glob("*/*.ipynb")),
        *sorted((root / WEIGHTS).glob("*.safetensors")),
    ]
    files = [*found, *(root / f"{page}.ipynb" for page in chapters(root))]  # in order
    digest = hashlib.sha256()
    for path in files:
        notebook = path.suffix == ".ipynb"  # of weights the size is shown
        inside = path.read_bytes() if notebook else str(path.stat().st_size).encode()
        digest.update(path.name.encode() + inside)
    return digest.hexdigest()


def note(env) -> None:
    if not hasattr(env, "course_pages"):
        env.course_pages = {}
    env.course_pages[env.docname] = state(Path(env.srcdir))


def outdated(app, env, added, changed, removed):
    known = getattr(env, "course_pages", {})
    now = state(Path(env.srcdir)) if known else ""
    return [page for page, before in known.items() if before != now]


def forget(app, env, docname):
    getattr(env, "course_pages", {}).pop(docname, None)


def setup(app):
    app.add_directive("assignments", Assignments)
    app.add_directive("chapter-needs", ChapterNeeds)
    app.connect("env-get-outdated", outdated)
    app.connect("env-purge-doc", forget)
    return {
        "version": "1",
        "env_version": 1,
        "parallel_read_safe": False,
        "parallel_write_safe": True,
    }
