"""The site's sources and its checks, without building it; tests/browser reads the built site."""

import doctest
import json
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from sphinx.errors import ExtensionError

import ledger
import offline_site
import results_page
from repository import repository

ROOT = Path(__file__).resolve().parents[1]


# ---- sources ---------------------------------------------------------------------------------------------------


def test_every_page_in_the_contents_exists_and_has_an_address_that_can_last():
    for page in ledger.pages(ROOT):
        assert page.is_relative_to(ROOT / "book")
        assert re.fullmatch(r"[a-z/-]+\.(md|ipynb)", page.relative_to(ROOT).as_posix()), page


def test_every_page_of_the_book_is_in_the_contents():
    listed = set(ledger.pages(ROOT))
    written = {
        path
        for pattern in ("*.md", "*.ipynb")
        for path in (ROOT / "book").rglob(pattern)
        if not {"_static", "_ext", "assignments", ".ipynb_checkpoints"} & set(path.relative_to(ROOT).parts)
    }
    assert written == listed


def test_pages_start_with_one_title():
    for page in ledger.pages(ROOT):
        if page.suffix == ".md":
            text = page.read_text("utf-8")
        else:
            cells = json.loads(page.read_text("utf-8"))["cells"]
            text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
        prose = re.sub(r"^(```+|~~~+).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
        assert len(re.findall(r"^# \S", prose, re.MULTILINE)) == 1, page


def test_every_code_cell_with_a_figure_says_what_it_shows():
    for page in ledger.pages(ROOT):
        if page.suffix != ".ipynb":
            continue
        for cell in json.loads(page.read_text("utf-8"))["cells"]:
            alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt")
            if alt is not None:
                assert len(alt.split()) >= 4, f"{page.name}: the alternative text {alt!r} says too little"


def test_the_contents_and_the_configuration_name_no_host():
    for name in ("_config.yml", "_toc.yml", "package.json", "package-lock.json", ".npmrc"):
        assert not re.search(r"https?://", (ROOT / name).read_text("utf-8")), name


def test_npm_packages_are_pinned_and_the_lock_holds_them():
    manifest = json.loads((ROOT / "package.json").read_text("utf-8"))
    locked = json.loads((ROOT / "package-lock.json").read_text("utf-8"))["packages"]
    for name, version in {**manifest["dependencies"], **manifest["devDependencies"]}.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), name
        assert locked[f"node_modules/{name}"]["version"] == version
    assert all("integrity" in entry for name, entry in locked.items() if name)


def test_formulas_come_from_the_vendored_copy():
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["sphinx"]["config"]
    assert config["mathjax_path"] == "vendor/mathjax/tex-mml-chtml.js"
    assert "'tex-mml-chtml.js'" in (ROOT / "book/_ext/vendor.mjs").read_text("utf-8")


def test_references_have_a_year_in_their_key_and_an_address():
    entries = re.findall(
        r"^@\w+\{(\w+),\n(.*?)^\}", (ROOT / "book/references.bib").read_text("utf-8"), re.M | re.S
    )
    assert entries
    assert [key for key, _ in entries] == sorted({key for key, _ in entries})
    for key, body in entries:
        assert re.search(rf"year\s*= \{{{key[-4:]}\}}", body), key
        identifier = re.search(r"(?:url|doi)\s*= \{(\S+)\}", body)
        assert identifier or "Workshop" in body, key


# ---- checks on what was written --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/a.js"></script>',
        '<script src="//cdn.example/a.js"></script>',
        '<link rel="stylesheet" href="https://cdn.example/a.css">',
        '<link rel="preconnect" href="https://cdn.example">',
        '<img alt="A coat." src="https://example.org/coat.png">',
        "<style>@import 'https://cdn.example/a.css';</style>",
        '<p style="background: url(https://example.org/a.png)">a</p>',
        '<svg><image href="https://example.org/a.png"/></svg>',
        '<iframe src="https://example.org"></iframe>',
    ],
)
def test_a_load_from_another_host_is_found(html):
    assert any("host" in problem for problem in offline_site.read_page(html).problems)


@pytest.mark.parametrize(
    "html",
    [
        '<a href="https://example.org">a link loads nothing</a>',
        '<link rel="canonical" href="https://example.org/page">',
        '<script src="../_static/a.js"></script>',
        '<img alt="A coat." src="../_images/coat.png">',
        '<img class="logo__image" alt="" src="../_static/logo.svg">',
        '<div class="output stream">fine</div>',
    ],
)
def test_a_page_in_order_passes(html):
    assert offline_site.read_page(html).problems == []


@pytest.mark.parametrize(
    "alt", ["", " ", "../_images/a0f3.png", "_build/jupyter_execute/a.svg", "figure.png"]
)
def test_a_figure_without_words_for_it_is_found(alt):
    (problem,) = offline_site.read_page(f'<img src="a.png" alt="{alt}">').problems
    assert "no alternative text" in problem
    assert offline_site.read_page('<img src="a.png">').problems


def test_output_on_the_error_stream_is_found_and_quoted():
    html = (
        '<div class="output stderr highlight"><div><pre>Warning: <b>old</b> API</pre></div></div><p>after</p>'
    )
    assert offline_site.read_page(html).problems == ["a cell writes to the error stream: Warning: old API"]


def test_the_models_of_explorers_are_collected(tmp_path):
    page = offline_site.read_page('<latent-map src="map-ab12"></latent-map><image-explorer src="pick-cd34"/>')
    assert page.models == {"map-ab12", "pick-cd34"}
    for tag in (
        "attribute-explorer",
        "code-explorer",
        "prior-explorer",
        "generator-explorer",
        "ring-explorer",
        "truncation-explorer",
        "style-mixer",
        "style-sliders",
        "restoration-explorer",
    ):
        assert offline_site.read_page(f'<{tag} src="faces-ef56">').models == {"faces-ef56"}
    (tmp_path / "map-ab12.json").write_text('{"files": {"decoder": "map-ab12.onnx"}}')
    files, (missing,) = offline_site.model_files(tmp_path, "map-ab12")
    assert "map-ab12.onnx is missing" in missing and "build again" in missing
    (tmp_path / "map-ab12.onnx").touch()
    files, problems = offline_site.model_files(tmp_path, "map-ab12")
    assert [path.name for path in files] == ["map-ab12.json", "map-ab12.onnx"] and not problems
    assert offline_site.model_files(tmp_path, "pick-cd34")[1]


@pytest.mark.skipif(not shutil.which("node"), reason="Node.js is not on this machine")
def test_the_vendored_files_are_copied_again_when_the_script_changes(tmp_path):
    """Also when its length stays: the stamp is of the content."""
    script = tmp_path / "book/_ext/vendor.mjs"
    script.parent.mkdir(parents=True)
    text = (ROOT / "book/_ext/vendor.mjs").read_text("utf-8")
    for name in ("mathjax", "onnxruntime-web"):
        (tmp_path / "node_modules" / name).mkdir(parents=True)
        (tmp_path / "node_modules" / name / "package.json").write_text('{"version": "1.0.0"}')
    copies = re.search(r"const COPIES = \{.*?^\};", text, re.DOTALL | re.MULTILINE)[0]
    text = text.replace(copies, "const COPIES = { mathjax: { from: 'mathjax', files: ['package.json'] } };")

    def copied(text: str) -> bool:
        script.write_text(text, "utf-8")
        return bool(subprocess.run(["node", script], check=True, capture_output=True, text=True).stdout)

    assert copied(text) and not copied(text)
    changed = text.replace("Usage: npm", "usage: npm")
    assert changed != text and len(changed) == len(text) and copied(changed)


# ---- when the notebooks run again ------------------------------------------------------------------------------


def test_another_package_runs_the_notebooks_again_and_an_interrupted_build_reads_them_again(
    tmp_path, monkeypatch
):
    """The cache knows which package filled it; the site that was built last knows which it shows."""
    monkeypatch.setattr(offline_site, "ROOT", tmp_path)
    module = tmp_path / "src/imagegen/vae.py"
    module.parent.mkdir(parents=True)
    module.write_text("ONE = 1")
    build = tmp_path / "_build"
    (build / "html").mkdir(parents=True)
    builder = SimpleNamespace(format="html")
    env = SimpleNamespace(found_docs={"book/vae", "book/notation"}, metadata={"book/vae": {"kernelspec": {}}})

    def read_again():
        """Begin a build; return the pages that it reads again, and the application that would end it."""
        app = SimpleNamespace(outdir=str(build / "html"), builder=builder, env=SimpleNamespace(found_docs=[]))
        return offline_site.read_again(app, env, set(), set(), set()), app

    ran = build / ".jupyter_cache/executed"
    for source in ("ONE = 1", "ONE = 2"):
        module.write_text(source)
        pages, app = read_again()
        assert pages == ["book/vae"] and not ran.exists()
        ran.mkdir()  # the notebooks run, and the build is interrupted
        pages, app = read_again()
        assert pages == ["book/vae"] and ran.exists()
        offline_site.check_site(app, None)  # the build ends
        assert read_again()[0] == [] and ran.exists()


# ---- repository ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"BOOK_REPOSITORY": "https://github.com/a/b.git"}, ("https://github.com/a/b", "main")),
        ({"BOOK_REPOSITORY": "https://github.com/a/b/", "BOOK_BRANCH": "next"}, ("https://github.com/a/b", "next")),
        ({"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "a/b", "GITHUB_REF_NAME": "dev",
          "GITHUB_REF_TYPE": "branch"}, ("https://github.com/a/b", "dev")),
        ({"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "a/b", "GITHUB_REF_NAME": "7/merge",
          "GITHUB_REF_TYPE": "tag"}, ("https://github.com/a/b", "main")),
        ({"CI_PROJECT_URL": "https://gitlab.com/a/b", "CI_DEFAULT_BRANCH": "trunk"},
         ("https://gitlab.com/a/b", "trunk")),
        ({}, None),
    ],
)  # fmt: skip
def test_the_repository_is_what_the_environment_says(tmp_path, environ, expected):
    assert repository(tmp_path, environ) == expected


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("https://github.com/a/b.git", "https://github.com/a/b"),
        ("https://someone:secret@github.com/a/b", "https://github.com/a/b"),
        ("https://host.internal/a/b", None),
        ("/srv/git/b", None),
    ],
)
def test_a_git_remote_counts_only_if_it_is_a_public_forge(tmp_path, monkeypatch, remote, expected):
    monkeypatch.setattr("repository._git", lambda root, *words: remote if words[0] == "remote" else "")
    assert repository(tmp_path, {}) == (expected and (expected, "main"))


# ---- results ---------------------------------------------------------------------------------------------------

RESULT = {
    "name": "vae-fashion",
    "kind": "model",
    "recipe": "vae-fashion",
    "seed": 0,
    "commit": "0123456789abcdef",
    "device": "CPU",
    "seconds": 75,
    "metrics": {"nll": {"value": 232.61, "unit": "nats/image", "n": 10000, "detail": "100 samples"}},
}


def test_results_are_read_and_worded(tmp_path):
    (tmp_path / "vae-fashion.json").write_text(json.dumps(RESULT))
    (tmp_path / "bench-vae.json").write_text(json.dumps({**RESULT, "name": "bench-vae", "kind": "benchmark"}))
    (result,) = results_page.load(tmp_path, "model")
    assert (
        results_page.provenance(result)
        == "recipe vae-fashion · seed 0 · commit 0123456789 · CPU · 1 min 15 s"
    )
    assert results_page.protocol(result["metrics"]["nll"]) == "100 samples, 10,000 images"
    assert [r["name"] for r in results_page.load(tmp_path)] == ["bench-vae", "vae-fashion"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "other"}, "not model or benchmark"),
        ({"metrics": {"nll": {"value": float("nan")}}}, "not a finite number"),
        ({"metrics": {"nll": {}}}, "lacks the field 'value'"),
        ({"metrics": {"nll": {"value": "232.6"}}}, "not a finite number"),
    ],
)
def test_a_result_that_cannot_be_printed_is_refused_by_name(tmp_path, change, message):
    (tmp_path / "odd.json").write_text(json.dumps({**RESULT, **change}))
    with pytest.raises(ValueError, match=message) as raised:
        results_page.load(tmp_path)
    assert "odd.json" in str(raised.value)


def test_the_results_of_the_book_can_be_printed():
    for result in results_page.load(ROOT / "book/results"):
        assert results_page.provenance(result), result["name"]
        assert result["metrics"], result["name"]


def test_numbers_and_times_are_worded_as_their_docstrings_show():
    outcome = doctest.testmod(results_page)
    assert outcome.attempted == 2 and outcome.failed == 0


def test_the_build_is_refused_without_the_vendored_libraries(tmp_path, monkeypatch):
    monkeypatch.setattr(offline_site, "ROOT", tmp_path)
    app = type("App", (), {"builder": type("Builder", (), {"format": "html"})})
    with pytest.raises(ExtensionError, match="npm ci"):
        offline_site.add_static(app)
