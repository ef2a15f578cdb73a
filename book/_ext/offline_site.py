"""Sphinx extension: a site that stands alone. No page asks another host for anything, and the build proves it.

It takes out what the theme's companions load from elsewhere, adds this book's own style, the vendored libraries, the
explorers' module and their models, and links pages to Colab and to the repository where its address is known. At the
end it reads every page that was written, and fails the build on a remote load, a figure without alternative text,
output on the error stream, or a model that is missing.
"""

import hashlib
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

from sphinx.errors import ExtensionError
from sphinx.util import logging

from repository import repository

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
WIDGETS = (
    "latent-map",
    "image-explorer",
    "attribute-explorer",
    "code-explorer",
    "prior-explorer",
    "generator-explorer",
    "ring-explorer",
    "truncation-explorer",
    "style-mixer",
    "style-sliders",
    "restoration-explorer",
)
MODELS = "_build/.models"  # beside _build/.jupyter_cache: a cached notebook does not write its models again
REBUILD = "remove _build/.jupyter_cache and _build/.doctrees and build again, so that the notebooks run"

# ---- what a page may hold --------------------------------------------------------------------------------------

LOADING = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
    "object": "data",
    "link": "href",
    "image": "href",
    "use": "href",
}
LINKS_THAT_LOAD_NOTHING = {
    "canonical",
    "next",
    "prev",
    "index",
    "search",
    "author",
    "license",
    "alternate",
}
REMOTE = re.compile(r"\s*(https?:)?//", re.I)
CSS_REMOTE = re.compile(
    r"""(?:url\(|@import)\s*['"]?\s*(?:https?:)?//[^'")\s]+""", re.I
)
A_PATH = re.compile(r"[^\s]*(/|\\|\.(png|svg|jpe?g|gif|webp))[^\s]*", re.I)


class Page(HTMLParser):
    """Collects what is wrong with one written page, and the models that its explorers ask for."""

    def __init__(self):
        super().__init__()
        self.problems: list[str] = []
        self.models: set[str] = set()
        self._error_output: list[str] | None = None
        self._depth = 0
        self._in_style = False

    def handle_starttag(self, tag, attributes):
        values = {name: value or "" for name, value in attributes}
        address = values.get(LOADING.get(tag, ""), "")
        if tag == "image" and not address:
            address = values.get("xlink:href", "")
        passive = (
            tag == "link"
            and set(values.get("rel", "").lower().split()) <= LINKS_THAT_LOAD_NOTHING
        )
        if REMOTE.match(address) and not passive:
            self.problems.append(f"<{tag}> loads {address[:120]} from another host")
        if CSS_REMOTE.search(values.get("style", "")):
            self.problems.append(f"the style of a <{tag}> loads from another host")
        if tag == "img" and "logo__image" not in values.get(
            "class", ""
        ):  # the logo's name stands beside it
            alt = " ".join(values.get("alt", "").split())
            if not alt or A_PATH.fullmatch(alt):
                self.problems.append(
                    f"the figure {values.get('src', '')[:60]} has no alternative text (alt={alt!r}): in a notebook, "
                    'set the cell\'s metadata {"mystnb": {"image": {"alt": "what the figure shows"}}}'
                )
        if tag in WIDGETS:
            self.models.add(values.get("src", ""))
        classes = values.get("class", "").split()
        if self._error_output is not None and tag == "div":
            self._depth += 1
        elif (
            tag == "div"
            and "output" in classes
            and {"stderr", "traceback"} & set(classes)
        ):
            self._error_output, self._depth = [], 1
        self._in_style = tag == "style"

    def handle_endtag(self, tag):
        self._in_style = False
        if self._error_output is not None and tag == "div":
            self._depth -= 1
            if not self._depth:
                said = " ".join("".join(self._error_output).split())
                self.problems.append(f"a cell writes to the error stream: {said[:160]}")
                self._error_output = None

    def handle_data(self, data):
        if self._error_output is not None:
            self._error_output.append(data)
        if self._in_style and CSS_REMOTE.search(data):
            self.problems.append(
                f"a style sheet in the page loads {CSS_REMOTE.search(data).group()[:120]} from another host"
            )


def read_page(html: str) -> Page:
    page = Page()
    page.feed(html)
    page.close()
    return page


def model_files(folder: Path, name: str) -> tuple[list[Path], list[str]]:
    """Return the files of one explorer's model, and a sentence for each that is missing.

    NAME.json describes the explorer; its `files` names the networks; every other NAME.* goes with them.
    """
    described = folder / f"{name}.json"
    if not name or not described.is_file():
        return [], [
            f"the explorer's model {name or '(no name)'} is missing from {MODELS}: {REBUILD}"
        ]
    named = json.loads(described.read_text("utf-8")).get("files", {})
    named = [
        folder / file for file in (named.values() if isinstance(named, dict) else named)
    ]
    problems = [
        f"the network {path.name} is missing from {MODELS}: {REBUILD}"
        for path in named
        if not path.is_file()
    ]
    found = (
        {path for path in named if path.is_file()}
        | set(folder.glob(f"{name}.*"))
        | {described}
    )
    return sorted(found), problems


# ---- what the build does ---------------------------------------------------------------------------------------


def drop_thebe(app):
    """Disconnect sphinx-thebe, which Jupyter Book always loads and which fetches its script from a CDN."""
    for listeners in app.events.listeners.values():
        listeners[:] = [
            listener
            for listener in listeners
            if listener.handler.__module__ != "sphinx_thebe"
        ]
    app.registry.css_files[:] = [
        file for file in app.registry.css_files if file[0] != "sphinx-thebe.css"
    ]


def set_theme(app, config):
    """Set the name beside the logo; the repository and the Colab button where the address is known, else neither."""
    options = config.html_theme_options
    options["navbar_persistent"] = []  # the sidebar holds the one search field
    options["logo"] = {"text": config.html_title, "alt_text": ""}
    known = repository(ROOT)
    if known:
        options |= {
            "repository_url": known[0],
            "repository_branch": known[1],
            "use_repository_button": True,
        }
        if known[0].startswith(
            "https://github.com/"
        ):  # the one forge that Colab opens notebooks from
            options["launch_buttons"] = {
                "colab_url": "https://colab.research.google.com"
            }


def add_static(app):
    """Add what the site serves, after Jupyter Book's scan, which would load every script below a listed folder."""
    vendor = ROOT / "book/_static/vendor"
    if app.builder.format == "html" and not (vendor / "versions.txt").is_file():
        raise ExtensionError(
            "book/_static/vendor is not filled: npm ci && node book/_ext/vendor.mjs"
        )
    app.config.html_static_path.append(str(ROOT / "book/_static"))
    app.add_css_file("book.css", priority=900)
    app.add_js_file("book.js", type="module")
    explorer = ROOT / "src/imagegen/explorer.js"
    if explorer.is_file():
        app.config.html_static_path.append(str(explorer))


def fresh_cache(build: Path) -> str:
    """Remove the cache if another package ran its notebooks; return the digest of the package that is there.

    The digest is of the package, its weights and the results: what a notebook's outputs depend on beside itself. The
    cache keeps it, so that what ran in a build that failed or was interrupted need not run again.
    """
    sources = sorted(
        [
            *ROOT.glob("src/imagegen/**/*.py"),
            *ROOT.glob("src/imagegen/pretrained/*.json"),
            *ROOT.glob("src/imagegen/recordings/*.json"),
        ]
        + list(ROOT.glob("book/results/*.json"))
    )
    digest = hashlib.sha256()
    for path in sources:
        digest.update(
            path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes()
        )
    cache = build / ".jupyter_cache"
    stamp = cache / ".package"
    if not stamp.is_file() or stamp.read_text() != digest.hexdigest():
        if cache.is_dir():
            log.info("the package or its results have changed: the notebooks run again")
            shutil.rmtree(cache)
        cache.mkdir(parents=True)
        stamp.write_text(digest.hexdigest())
    return digest.hexdigest()


def read_again(app, env, added, changed, removed):
    """Read the notebooks' pages again if the package has changed since the last site that was fit to publish."""
    build = Path(app.outdir).parent
    app.package_digest = fresh_cache(build)
    stamp = build / ".package"
    if stamp.is_file() and stamp.read_text() == app.package_digest:
        return []
    return [
        page for page in env.found_docs if "kernelspec" in env.metadata.get(page, {})
    ]


def dress_page(app, pagename, templatename, context, doctree):
    """Load the explorers' module where a page holds one; leave out the state of Jupyter widgets."""
    context["default_mode"] = (
        context.get("default_mode") or "auto"
    )  # empty, it is a warning on every page
    scripts = context.get("script_files", [])
    scripts[:] = [
        script
        for script in scripts
        if "jupyter.widget"
        not in str(getattr(script, "attributes", {}).get("type", ""))
    ]
    if not pagename.startswith("book/") or not app.env.doc2path(pagename).endswith(
        ".ipynb"
    ):
        buttons = context.get("header_buttons", [])  # Colab opens notebooks only
        buttons[:] = [
            button for button in buttons if button.get("label") != "launch-buttons"
        ]
    if any(f"<{tag}" in context.get("body", "") for tag in WIDGETS):
        app.add_js_file("explorer.js", type="module")


def check_site(app, exception):
    if exception or app.builder.format != "html":
        return
    out = Path(app.outdir)
    models = ROOT / MODELS
    problems: list[str] = []
    wanted: set[Path] = set()
    pages = [out / f"{name}.html" for name in sorted(app.env.found_docs)]
    pages += [
        page
        for page in (out / "search.html", out / "genindex.html", out / "index.html")
        if page.is_file()
    ]
    for path in pages:
        page = read_page(path.read_text("utf-8"))
        found = list(page.problems)
        for name in sorted(page.models):
            files, missing = model_files(models, name)
            wanted.update(files)
            found += missing
        problems += [f"{path.relative_to(out)}: {problem}" for problem in found]
    for path in sorted((out / "_static").rglob("*.css")):
        if remote := CSS_REMOTE.search(path.read_text("utf-8", "replace")):
            problems.append(
                f"{path.relative_to(out)}: {remote.group()[:120]} is on another host"
            )
    if problems:
        raise ExtensionError(
            "the site is not fit to publish:\n  - " + "\n  - ".join(problems)
        )
    served = out / "_static/models"
    shutil.rmtree(served, ignore_errors=True)
    for path in sorted(wanted):
        served.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, served / path.name)
    (out.parent / ".package").write_text(app.package_digest)
    log.info(
        "%d pages checked: nothing loads from another host; %d model files",
        len(pages),
        len(wanted),
    )


def setup(app):
    os.environ["IMAGEGEN_SITE_DIR"] = str(
        ROOT / MODELS
    )  # the notebooks' kernels inherit it
    drop_thebe(app)
    app.connect("config-inited", set_theme, priority=100)
    app.connect("builder-inited", add_static)
    app.connect("env-get-outdated", read_again)
    app.connect("html-page-context", dress_page, priority=900)
    app.connect("build-finished", check_site, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
