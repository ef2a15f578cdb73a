"""Sphinx extension: a badge at each numbered equation, and the page that lists equations with their tests.

The reading is ledger.py's; here it is held against what Sphinx has numbered, and drawn. The build fails where an
equation has no test, or a test no equation. On a page, `{equation-ledger}` stands for the list.
"""

from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.errors import ExtensionError
from sphinx.util import logging

from ledger import Claim, Equation, Ledger, read
from repository import source_link

log = logging.getLogger(__name__)


class LedgerList(nodes.General, nodes.Element):
    """Marks where the list stands; replaced once every page has been read."""


class LedgerDirective(Directive):
    def run(self):
        self.state.document.settings.env.ledger_docname = (
            self.state.document.settings.env.docname
        )
        return [LedgerList()]


def compare(app, env):
    """Fail where the two sides disagree; return the pages whose badges are out of date."""
    ledger = read(Path(app.srcdir))
    numbered = {
        label: page for label, (page, _) in env.get_domain("math").equations.items()
    }
    expected = {equation.label: equation.page for equation in ledger.equations}
    problems = list(ledger.problems)
    problems += [
        f"{page}: the build numbers the equation {label}, and the ledger does not see it"
        for label, page in numbered.items()
        if expected.get(label) != page
    ]
    problems += [
        f"{page}: the ledger sees the equation {label}, and the build does not number it"
        for label, page in expected.items()
        if label not in numbered
    ]
    if ledger.equations and not getattr(env, "ledger_docname", None):
        problems.append("no page holds the directive {equation-ledger}")
    if problems:
        raise ExtensionError(
            "the equations and their tests disagree:\n  - " + "\n  - ".join(problems)
        )
    log.info("equations: %d, claimed: %d", len(ledger.equations), ledger.claimed)
    app.ledger = ledger

    drawn = {
        page: [
            (e.label, len(ledger.of_label(e.label)))
            for e in ledger.equations
            if e.page == page
        ]
        for page in set(expected.values())
    }
    if page := getattr(env, "ledger_docname", None):
        titles = [env.titles[name].astext() for name in sorted(drawn)]
        drawn[page] = (
            titles,
            ledger.equations,
            ledger.claims,
            source_link(Path(app.srcdir), "", 0),
        )
        env.get_domain("math").data["has_equations"][page] = True
    before, env.ledger_drawn = getattr(env, "ledger_drawn", {}), drawn
    return [page for page in drawn if before.get(page) != drawn[page]]


def draw(app, doctree, docname):
    """Put a badge after each labelled equation, and the list in the place of its mark."""
    ledger: Ledger = app.ledger
    page = getattr(app.env, "ledger_docname", None)
    for block in list(doctree.findall(nodes.math_block)):
        label = block.get("label")
        if label and page and ledger.of_label(label):
            position = block.parent.index(block) + 1
            block.parent.insert(
                position, _badge(app, docname, page, label, len(ledger.of_label(label)))
            )
    for mark in list(doctree.findall(LedgerList)):
        mark.replace_self(_listing(app, docname, ledger))


def _badge(app, docname: str, page: str, label: str, tests: int) -> nodes.Node:
    number = app.env.get_domain("math").get_equation_number_for(label)
    link = nodes.reference(
        "",
        "",
        internal=True,
        refuri=f"{app.builder.get_relative_uri(docname, page)}#ledger-{label}",
    )
    link += nodes.inline("", f"Equation {number}: ", classes=["visually-hidden"])
    link += nodes.Text(f"checked by {tests} {'test' if tests == 1 else 'tests'}")
    return nodes.paragraph("", "", link, classes=["ledger-badge"])


def _listing(app, docname: str, ledger: Ledger) -> list[nodes.Node]:
    tests = len({claim.test for claim in ledger.claims})
    listing: list[nodes.Node] = [
        nodes.paragraph(
            "",
            f"{len(ledger.equations)} numbered equations, each checked; {tests} tests between them.",
        )
    ]
    for page in dict.fromkeys(equation.page for equation in ledger.equations):
        title = app.env.titles[page].astext()
        section = nodes.section(
            "", nodes.title("", title), ids=[nodes.make_id(f"ledger-of-{page}")]
        )
        for equation in ledger.equations:
            if equation.page == page:
                section += _entry(
                    app, docname, equation, ledger.of_label(equation.label)
                )
        listing.append(section)
    return listing


def _entry(app, docname: str, equation: Equation, claims: list[Claim]) -> nodes.Node:
    number = app.env.get_domain("math").get_equation_number_for(equation.label)
    target = app.builder.get_relative_uri(docname, equation.page)
    back = nodes.reference(
        "",
        f"Equation {number}",
        internal=True,
        refuri=f"{target}#{nodes.make_id(f'equation-{equation.label}')}",
    )
    name = nodes.paragraph(
        "", "", back, nodes.Text(" "), nodes.literal("", equation.label)
    )
    name["classes"].append("ledger-name")
    formula = nodes.math_block(
        equation.latex, equation.latex, nowrap=False, number=None
    )
    tests = nodes.bullet_list("")
    for claim in claims:
        where: nodes.Node = nodes.literal("", claim.test)
        if address := source_link(Path(app.srcdir), claim.path, claim.line):
            where = nodes.reference("", "", where, refuri=address, internal=False)
        detail = nodes.paragraph("", "", where, classes=["ledger-test"])
        tolerance = nodes.paragraph(
            "", f"Tolerance: {claim.tolerance}", classes=["ledger-test"]
        )
        tests += nodes.list_item("", nodes.paragraph("", claim.does), detail, tolerance)
    return nodes.container(
        "",
        name,
        formula,
        tests,
        classes=["ledger-entry"],
        ids=[f"ledger-{equation.label}"],
    )


def forget(app, env, docname):
    if getattr(env, "ledger_docname", None) == docname:
        env.ledger_docname = None


def setup(app):
    app.add_node(LedgerList)
    app.add_directive("equation-ledger", LedgerDirective)
    app.connect("env-purge-doc", forget)
    app.connect("env-updated", compare)
    app.connect("doctree-resolved", draw)
    return {
        "version": "1",
        "env_version": 1,
        "parallel_read_safe": False,
        "parallel_write_safe": True,
    }
