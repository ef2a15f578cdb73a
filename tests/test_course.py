"""The pages of a course say what is there and give nothing away; and the book can be published under another name."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest
import yaml
from tests.test_assignments import SECRET, lines, small

import course_page
import coursework
import notebook_form
import publish_as

ROOT = Path(__file__).resolve().parents[1]

# ---- under another name ------------------------------------------------------------------------------------------

OWN = {
    "title": 'Pictures: "by numbers" & more',
    "author": "Zoë Müller's group",
    "url": "https://github.com/zoe/pictures",
}


@pytest.fixture
def edition(tmp_path):
    """Return a copy of the files that carry the book's name, with two notebooks."""
    for name in (*publish_as.FILES, "book/latent/vae.ipynb", "book/adversarial/gan.ipynb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_one_command_publishes_the_book_under_another_name(edition):
    assert publish_as.publish_as(**OWN, root=edition)
    config = yaml.safe_load((edition / "_config.yml").read_text("utf-8"))
    cited = yaml.safe_load((edition / "CITATION.cff").read_text("utf-8"))
    assert (config["title"], config["author"]) == (OWN["title"], OWN["author"])
    assert (cited["title"], cited["authors"]) == (OWN["title"], [{"name": OWN["author"]}])
    assert cited["repository-code"] == notebook_form.address(edition) == OWN["url"]
    for name in ("README.md", "book/index.md"):
        assert f"\n# {OWN['title']}\n" in "\n" + (edition / name).read_text("utf-8")
    for path in notebook_form.notebooks(edition):
        assert notebook_form.problems(notebook_form.read(path), OWN["url"]) == []
    # where it comes from stays, once, also for an edition of the edition
    assert (
        "Generating Images" in config["html"]["extra_footer"]
        and "CC BY 4.0" in config["html"]["extra_footer"]
    )
    again = publish_as.publish_as("Second", "Someone", "https://codeberg.org/s/second", root=edition)
    assert len(again) == len(publish_as.FILES) + 2
    cited = yaml.safe_load((edition / "CITATION.cff").read_text("utf-8"))
    assert [entry["title"] for entry in cited["references"]].count("Generating Images") == 1
    assert (edition / "_config.yml").read_text("utf-8").count("extra_footer") == 1
    # the tree still names no host where the site is configured, and all else is as it was
    assert "https:" not in (edition / "_config.yml").read_text("utf-8")
    ours, theirs = (yaml.safe_load((f / "_config.yml").read_text("utf-8")) for f in (ROOT, edition))
    for changed in ("title", "author"):
        ours.pop(changed), theirs.pop(changed)
    theirs["html"].pop("extra_footer"), ours["html"].pop("extra_footer", None)
    assert ours == theirs


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("title", ""),
        ("title", "two\nlines"),
        ("title", "<script>"),
        ("author", " "),
        ("author", "x" * 101),
        ("url", "github.com/zoe/pictures"),
        ("url", "http://github.com/zoe/pictures"),
        ("url", "https://github.com/zoe"),
        ("url", "https://github.com/zoe/pictures.git"),
        ("url", 'https://github.com/zoe/pic"tures'),
        ("url", "https://me:secret@github.com/zoe/pictures"),
    ],
)
def test_a_name_that_cannot_be_changes_nothing(edition, what, text):
    before = contents(edition)
    with pytest.raises(ValueError, match="expected"):
        publish_as.publish_as(**{**OWN, what: text}, root=edition)
    assert contents(edition) == before


def test_all_files_get_the_new_name_or_none(edition, monkeypatch):
    (edition / "book/index.md").write_text("no heading\n")
    before = contents(edition)
    with pytest.raises(ValueError, match="index.md does not begin with a heading"):
        publish_as.publish_as(**OWN, root=edition)
    assert contents(edition) == before
    shutil.copy2(ROOT / "book/index.md", edition / "book/index.md")
    before, replace, calls = contents(edition), publish_as.os.replace, []

    def fails(*paths):
        calls.append(paths)
        if len(calls) == 4:
            raise OSError("disk full")
        replace(*paths)

    monkeypatch.setattr(publish_as.os, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        publish_as.publish_as(**OWN, root=edition)
    assert len(calls) == 4 and contents(edition) == before


# ---- the pages ---------------------------------------------------------------------------------------------------


def secrets():
    """Return the lines of solutions, rubrics and hidden tests that no public part of any source holds."""
    secret, public = set(), set()
    for path in coursework.SOURCE.glob("*/*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            parts = SECRET.split(cell.source)
            public |= lines(parts[::2])
            secret |= lines(parts[1::2])
    return {line for line in secret - public if len(line) > 40}


def plain(text):
    """Return text without marks of any language, so that a line is found however it was rendered."""
    return re.sub(r"[\W_]+", "", re.sub(r"&\w+;|&#\d+;", "", text))


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Return the pages of the course as Sphinx writes them, with empty chapters behind their links."""
    from sphinx.application import Sphinx

    root = tmp_path_factory.mktemp("pages")
    (root / "book").mkdir()
    (root / "src/imagegen").mkdir(parents=True)
    for name in ("_toc.yml", "book/assignments", course_page.WEIGHTS):
        (root / name).symlink_to(ROOT / name)
    (root / "book/course").mkdir()
    for path in (ROOT / "book/course").glob("*.md"):
        shutil.copy2(path, root / "book/course")
    for name in course_page.chapters(ROOT):
        path = root / f"{name}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"# Chapter {path.stem}\n")
        (root / f"{name}.ipynb").symlink_to(ROOT / f"{name}.ipynb")
    (root / "index.md").write_text("# Book\n")
    settings = {
        "extensions": ["myst_parser", "course_page"],
        "include_patterns": ["index.md", "book/course/*.md", "book/*/*.md"],
        "myst_enable_extensions": ["dollarmath"],
        "source_suffix": {".md": "markdown"},
        "html_theme": "basic",
    }
    with open(root / "log", "w") as log:
        app = Sphinx(root, None, root / "_out", root / "_trees", "html", settings, log, log)
        app.build()
    return {path.stem: path.read_text("utf-8") for path in (root / "_out/book/course").glob("*.html")}


def test_the_list_says_of_each_assignment_what_its_cells_say(pages):
    found = course_page.read_assignments(ROOT)
    assert list(found) == coursework.names()
    for name, one in found.items():
        cells = nbformat.read(coursework.SOURCE / name / f"{name}.ipynb", as_version=4).cells
        graded = [c for c in cells if coursework.is_graded(c)]
        points = sum(c.metadata.nbgrader.points for c in graded)
        assert one.total("by_tests") + one.total("by_hand") == points
        assert one.total("tests") + one.total("written") == len(graded)
        assert all(part.title for part in one.parts)
        for part in one.parts:  # the table at the top of the notebook
            (row,) = re.findall(rf"^\| {re.escape(part.title)} \| (\d+) \|$", cells[0].source, re.M)
            assert float(row) == part.by_tests + part.by_hand, f"{name}, {part.title}"
        assert f"assignment-{name}" in pages["assignments"] and f"{name}.ipynb" in pages["assignments"]


def test_the_pages_hold_no_solution_no_rubric_and_no_hidden_test(pages):
    secret = {plain(line) for line in secrets()}
    assert len(secret) > 100 and len(pages) == 5
    for name, text in pages.items():
        text = plain(re.sub(r"<[^>]+>", "", text))
        assert not [line for line in secret if line in text], name
    toc = (ROOT / "_toc.yml").read_text("utf-8")
    assert "book/assignments" not in toc


@pytest.mark.site
def test_the_built_site_holds_no_solution_no_rubric_and_no_hidden_test():
    site = ROOT / "_build/html"
    assert not [path for path in site.rglob("*") if "assignments/source" in path.as_posix()]
    taught = set()  # a line that a chapter has as well is no secret
    for path in [*(ROOT / "book").glob("*/*.ipynb"), *(ROOT / "book").glob("*/*.md")]:
        cells = nbformat.read(path, as_version=4).cells if path.suffix == ".ipynb" else []
        text = "\n".join(cell.source for cell in cells) or path.read_text("utf-8")
        taught |= {plain(line) for line in text.splitlines()}
    secret = {plain(line) for line in secrets()} - taught
    rubrics = [line for line in secret if "Rubric" in line]
    assert len(secret) > 100 and rubrics
    for path in [p for p in site.rglob("*") if p.suffix in (".html", ".ipynb", ".md", ".txt")]:
        if "vendor" not in path.parts:
            text = re.sub(r"<[^>]+>", "", path.read_text("utf-8", "replace")).replace("\\n", "\n")
            found = secret & {plain(line) for line in text.splitlines()}
            whole = plain(text)
            assert not found | {line for line in rubrics if line in whole}, path


def test_a_list_that_contradicts_its_notebook_does_not_build(tmp_path):
    source = small(tmp_path / course_page.SOURCE)
    path = source / "small/small.ipynb"
    with pytest.raises(ValueError, match="does not begin with a title"):
        course_page.read_assignment(path)
    notebook = nbformat.read(path, as_version=4)
    title = "# Assignment 9: small\n\nOne hour, {} points. You do little."
    part = nbformat.v4.new_markdown_cell("## A. All of $x$")
    for points in (4, 3):
        first = nbformat.v4.new_markdown_cell(title.format(points))
        nbformat.write(nbformat.v4.new_notebook(cells=[first, part, *notebook.cells]), path)
        if points == 4:
            with pytest.raises(ValueError, match="says 4 points, its cells have 3"):
                course_page.read_assignment(path)
    one = course_page.read_assignment(path)
    assert (one.title, one.hours, one.story) == ("Small", "One hour", "You do little.")
    assert one.parts == [course_page.Part("A. All of $x$", tests=1, by_tests=2, written=1, by_hand=1)]


def test_the_weights_that_a_chapter_loads_are_found_also_where_their_name_is_computed():
    shipped = ["vae", "restore-a", "restore-a-adversarial", "super-a", "super-b"]
    found = {
        'load("vae")': ["vae"],
        'load("nothing")': [],
        'load("restore-a" + end)': ["restore-a", "restore-a-adversarial"],
        'load(f"super-{subject}{end}")': ["super-a", "super-b"],
        "load(name)": [],
    }
    for call, names in found.items():
        node = course_page.ast.parse(call).body[0].value.args[0]
        assert course_page.weights_named(node, shipped) == names


def test_the_guide_names_only_commands_that_are_there():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    text = "".join(path.read_text("utf-8") for path in (ROOT / "book/course").glob("*.md"))
    fenced = "".join(re.findall(r"```bash\n(.*?)```", text, re.S))
    named = set(re.findall(r"`make ([a-z-]+)", text) + re.findall(r"^make ([a-z-]+)", fenced, re.M))
    assert (
        {"assignments", "collect", "grade-contained", "feedback", "publish-as", "check"} <= named <= targets
    )


def test_a_week_gives_out_what_is_due_later_and_each_thing_once():
    text = (ROOT / "book/course/syllabus.md").read_text("utf-8").split("\n## ")[2]
    assert text.startswith("The weeks")
    rows = re.findall(r"^\| (\d+|after) \|(.*)\|(.*)\|(.*)\|$", text, re.M)
    assert [row[0] for row in rows] == [*map(str, range(1, 11)), "after"]
    out, due = ({name: i for i, row in enumerate(rows) for name in re.findall(r"`([\w-]+)`", row[column])}
                for column in (2, 3))  # fmt: skip
    assert set(out) == set(due) >= set(coursework.names()) and all(out[name] < due[name] for name in out)
    read = [page for row in rows for page in re.findall(r"\(\.\./([\w/-]+)\)", row[1])]
    assert [f"book/{page}" for page in read] == course_page.chapters(ROOT)
