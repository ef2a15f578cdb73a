"""Sphinx extension: what the registry of mutants says, on the page "What tutorials get wrong".

`{bug} N` stands for the historic bug N and shows one of its mutants: what goes wrong, the line as it is and as the
mutant has it, the equation that no longer holds, the test that fails, the threads that report it. Options: `mutant`,
its name; `test`, the function that catches it, as FILE::FUNCTION; `section`, a link, where it contradicts no numbered
equation. `{mutants}` stands for all that have a number or a public source, folded. The build fails where a name is
not in the registry, a function is not in its file, or a numbered bug is on no page.
"""

from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from sphinx import addnodes
from sphinx.errors import ExtensionError
from sphinx_design.shared import create_component

from ledger import read
from mutants_read import (
    OWN,
    change,
    line_of,
    missing,
    registry,
    shown,
    source,
    sources,
    state,
    test_line,
    title,
)
from repository import source_link

# ---- drawing ---------------------------------------------------------------------------------------------------


def _link(text: nodes.Node | str, address: str | None) -> nodes.Node:
    inner = nodes.Text(text) if isinstance(text, str) else text
    return (
        nodes.reference("", "", inner, refuri=address, internal=False)
        if address
        else inner
    )


def _listed(items: list[nodes.Node], between: str = ", ") -> list[nodes.Node]:
    made = [part for item in items for part in (nodes.Text(between), item)]
    return made[1:]


def _test(root: Path, test: str, *, whole: bool = True) -> nodes.Node:
    name = test if whole else Path(test.partition("::")[0]).name
    return _link(
        nodes.literal("", name),
        source_link(root, test.partition("::")[0], test_line(root, test)),
    )


def _place(root: Path, mutant: Any, *, file: bool = True) -> nodes.Node:
    text = (root / source(mutant)).read_text("utf-8")
    name = f"imagegen/{mutant.file}.py, {mutant.function}" if file else mutant.function
    return _link(
        nodes.literal("", name),
        source_link(root, source(mutant), line_of(mutant, text)),
    )


def _xref(
    domain: str, kind: str, target: str, docname: str, text: str = ""
) -> nodes.Node:
    made = addnodes.pending_xref(
        "",
        refdomain=domain,
        reftype=kind,
        reftarget=target,
        refdoc=docname,
        refexplicit=bool(text),
        refwarn=True,
    )
    made += nodes.inline("", text or target)
    return made


def _fact(term: str, *content: nodes.Node) -> nodes.Node:
    head = nodes.strong("", f"{term}: ")
    return nodes.paragraph("", "", head, *content, classes=["mutant-fact"])


class BugDirective(Directive):
    required_arguments = 1
    option_spec = dict.fromkeys(("mutant", "test", "section"), directives.unchanged)

    def run(self):
        env = self.state.document.settings.env
        root, number = Path(env.srcdir), int(self.arguments[0])
        _page(env)["bugs"].append(number)
        kin = [m for m in registry(root) if m.bug == number]
        chosen = next((m for m in kin if m.name == self.options.get("mutant")), None)
        if chosen is None:
            raise self.error(
                f"bug {number} has no mutant {self.options.get('mutant')!r}"
            )
        test = self.options.get("test", "")
        if test.partition("::")[0] not in chosen.tests:
            raise self.error(
                f"{chosen.name} is not caught in {test!r}, but in {', '.join(chosen.tests)}"
            )
        try:
            caught = _test(root, test)
        except ValueError as wrong:
            raise self.error(str(wrong)) from wrong
        code = change(chosen, (root / source(chosen)).read_text("utf-8"))
        facts = [
            self.broken(env, chosen),
            _fact("Caught by", caught, *self.others(len(kin) - 1)),
        ]
        for term, addresses in sources(chosen, kin).items():
            links = [_link(title(address), address) for address in addresses]
            facts.append(_fact(term, *_listed(links)))
        return [
            nodes.container(
                "",
                nodes.paragraph("", chosen.story),
                nodes.paragraph("", "", _place(root, chosen), classes=["mutant-place"]),
                nodes.literal_block(code, code, language="diff"),
                *facts,
                classes=["mutant-entry"],
                ids=[f"bug-{number}"],
            )
        ]

    def others(self, count: int) -> list[nodes.Node]:
        """Return a link to the table that holds the bug's other mutants."""
        if not count:
            return []
        said = f"{count} more of its kind" if count > 1 else "one more of its kind"
        link = nodes.reference("", said, refid="all-mutants", internal=True)
        return [nodes.Text(". Planted too: "), link, nodes.Text(".")]

    def broken(self, env, mutant) -> nodes.Node:
        """Return the equation that the mutant contradicts, or else the section that is named."""
        if not mutant.equation:
            if not (section := self.options.get("section")):
                raise self.error(
                    f"{mutant.name} contradicts no numbered equation: name the section"
                )
            return _fact("See", *self.state.inline_text(section, self.lineno)[0])
        pages = env.temp_data.get("pages_of_equations")
        if pages is None:
            found = read(Path(env.srcdir)).equations
            pages = {equation.label: equation.page for equation in found}
            env.temp_data["pages_of_equations"] = pages
        equation = _xref("math", "eq", mutant.equation, env.docname)
        if not (page := pages.get(mutant.equation)):
            raise self.error(f"no page numbers the equation {mutant.equation}")
        chapter = _xref("std", "doc", f"/{page}", env.docname)
        return _fact(
            "Breaks", nodes.Text("equation "), equation, nodes.Text(" of "), chapter
        )


class MutantsDirective(Directive):
    def run(self):
        env = self.state.document.settings.env
        root = Path(env.srcdir)
        _page(env)["table"] = True
        everything = registry(root)
        listed = shown(everything)
        said = (
            f"{len(everything)} mutants are planted; {len(listed)} of them bring back a bug from the list above or one "
            "that a public thread or paper speaks of. They follow here, module by module."
        )
        groups: dict[str, list[Any]] = {}
        for mutant in listed:
            groups.setdefault(mutant.file, []).append(mutant)
        return [
            nodes.paragraph("", said, ids=["all-mutants"]),
            *(self.folded(root, file, groups[file]) for file in sorted(groups)),
        ]

    def folded(self, root: Path, file: str, mutants: list[Any]) -> nodes.Node:
        made = create_component(
            "dropdown", opened=False, type="dropdown", has_title=True, icon=None, chevron=None,
            container_classes=["sd-mb-2"], title_classes=[], body_classes=[],
        )  # fmt: skip
        name = f"imagegen/{file}.py: {len(mutants)}"
        made += nodes.rubric(name, "", nodes.Text(name))
        head = ["Mutant", "What goes wrong", "Source, test"]
        group = nodes.tgroup("", cols=3)
        group += [nodes.colspec(colwidth=width) for width in (26, 48, 26)]
        group += nodes.thead(
            "", nodes.row("", *(nodes.entry("", nodes.paragraph("", h)) for h in head))
        )
        group += nodes.tbody("", *(self.row(root, mutant) for mutant in mutants))
        made += nodes.table("", group, classes=["mutants"])
        return made

    def row(self, root: Path, mutant: Any) -> nodes.row:
        name = nodes.paragraph("", "", nodes.strong("", mutant.name))
        story = nodes.paragraph("", mutant.story)
        if mutant.bug is not None:
            link = nodes.reference(
                "", f"Bug {mutant.bug}", refid=f"bug-{mutant.bug}", internal=True
            )
            story += [nodes.Text(" "), link, nodes.Text(".")]
        seen = (
            [] if mutant.source == OWN else [_link(title(mutant.source), mutant.source)]
        )
        tests = [_test(root, test, whole=False) for test in mutant.tests]
        cells = (
            [name, nodes.paragraph("", "", _place(root, mutant, file=False))],
            [story],
            [nodes.paragraph("", "", *_listed([*seen, *tests]))],
        )
        return nodes.row("", *(nodes.entry("", *cell) for cell in cells))


# ---- keeping the pages up to date, and whole -------------------------------------------------------------------


def _page(env) -> dict[str, Any]:
    """Return what is noted of the page that is being read."""
    if not hasattr(env, "mutants_pages"):
        env.mutants_pages = {}
    new = {"bugs": [], "table": False, "state": state(Path(env.srcdir))}
    return env.mutants_pages.setdefault(env.docname, new)


def compare(app, env):
    pages = getattr(env, "mutants_pages", {})
    if problems := missing(registry(Path(app.srcdir)), pages):
        raise ExtensionError(
            "the registry of mutants and the book disagree:\n  - "
            + "\n  - ".join(problems)
        )


def outdated(app, env, added, changed, removed):
    pages = getattr(env, "mutants_pages", {})
    now = state(Path(app.srcdir)) if pages else ""
    return [page for page, noted in pages.items() if noted["state"] != now]


def forget(app, env, docname):
    getattr(env, "mutants_pages", {}).pop(docname, None)


def setup(app):
    app.add_directive("bug", BugDirective)
    app.add_directive("mutants", MutantsDirective)
    app.connect("env-get-outdated", outdated)
    app.connect("env-purge-doc", forget)
    app.connect("env-check-consistency", compare)
    return {
        "version": "1",
        "env_version": 1,
        "parallel_read_safe": False,
        "parallel_write_safe": True,
    }
