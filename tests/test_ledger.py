"""The equation ledger: the book's own is complete, and an incomplete one is refused."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import ledger

ROOT = Path(__file__).resolve().parents[1]

TEST = '''
import pytest

@pytest.mark.equation("vae-elbo", "vae-kl", tolerance="4 standard errors")
def test_bound():
    """Compare the bound with log p(x) where it is known."""

class TestKL:
    @pytest.mark.equation("vae-kl")
    def test_quadrature(self):
        """Integrate the definition.

        Over a grid."""
        assert_close(a, b, rtol=1e-6, atol=0)
'''


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A book of one notebook and one page: two labelled equations, and the tests that claim them."""
    (tmp_path / "_toc.yml").write_text(
        "root: book/index\nparts:\n- caption: A\n  chapters:\n  - file: book/vae\n", "utf-8"
    )
    (tmp_path / "book").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "book/index.md").write_text(
        "# Book\n\n```{math}\n:label: vae-kl\nD = 0\n```\n\n```python\n'$$ a $$ (not-prose)'\n```\n"
        "\nInline `$$ b $$ (not-prose)`.\n",
        "utf-8",
    )
    cells = [
        new_markdown_cell("# VAE\n\n$$\n\\log p(x) \\ge L\n$$ (vae-elbo)\n\n$$ unnumbered = 1 $$\n"),
        new_code_cell("'$$ c $$ (not-prose)'"),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "book/vae.ipynb")
    (tmp_path / "tests/test_vae.py").write_text(TEST, "utf-8")
    return tmp_path


def test_every_equation_of_the_book_is_claimed_and_every_claim_has_its_equation():
    found = ledger.read(ROOT)
    assert found.equations, "the book numbers no equation at all"
    assert not found.problems, "\n".join(found.problems)


def test_equations_and_claims_are_read_as_written(book):
    found = ledger.read(book)
    assert found.problems == ()
    assert [(e.label, e.page, e.latex) for e in found.equations] == [
        ("vae-kl", "book/index", "D = 0"),
        ("vae-elbo", "book/vae", "\\log p(x) \\ge L"),
    ]
    first, second = found.of_label("vae-kl")
    assert (first.test, first.tolerance) == ("tests/test_vae.py::test_bound", "4 standard errors")
    assert (second.test, second.does) == (
        "tests/test_vae.py::TestKL::test_quadrature",
        "Integrate the definition.",
    )
    assert second.tolerance == "rtol 1e-06, atol 0"
    assert (first.path, first.line) == ("tests/test_vae.py", 5)


def test_an_equation_without_a_test_is_named(book):
    (book / "tests/test_vae.py").write_text(TEST.replace('"vae-elbo", ', ""), "utf-8")
    (problem,) = ledger.read(book).problems
    assert problem.startswith("no test claims the equation vae-elbo (book/vae.ipynb, cell 1")


def test_a_claim_without_an_equation_is_named(book):
    (book / "book/index.md").write_text("# Book\n", "utf-8")
    assert {p.split(" claims ")[1].split(",")[0] for p in ledger.read(book).problems} == {"vae-kl"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"""Compare the bound with log p(x) where it is known."""', "pass", "has no docstring"),
        ("@pytest.mark.equation(", "@pytest.mark.skip\n@pytest.mark.equation(", "may be skipped"),
        ('tolerance="4 standard errors"', "tolerance=tol", "plain strings"),
        ('tolerance="4 standard errors"', 'tol="1e-6"', "plain strings"),
        ("def test_bound", "def bound", "only as a decorator of a test"),
    ],
)  # fmt: skip
def test_a_claim_that_nothing_stands_behind_is_refused(book, old, new, message):
    assert old in TEST
    (book / "tests/test_vae.py").write_text(TEST.replace(old, new, 1), "utf-8")
    assert any(message in problem for problem in ledger.read(book).problems)


@pytest.mark.parametrize(
    ("markdown", "message"),
    [
        ("$$ a = b $$ (vae-elbo)", "stands at more than one equation"),
        ("$$ a = b $$ (Elbo)", "not of the form"),
        ("$$ \\begin{equation} a \\end{equation} $$", "numbers itself"),
        ("$$ a \\tag{7} $$", "numbers itself"),
    ],
)
def test_a_number_that_the_ledger_cannot_follow_is_refused(book, markdown, message):
    page = book / "book/index.md"
    page.write_text(page.read_text("utf-8") + f"\n{markdown}\n", "utf-8")
    assert any(message in problem for problem in ledger.read(book).problems)


def test_equations_inside_directives_and_lists_are_seen():
    text = (
        "- item\n\n  $$\n  a\n  $$ (x-list)\n\n"
        "````{admonition} Solution\n:class: dropdown\n```{math}\n:label: x-inner\nb\n```\n$$c$$ (x-after)\n````\n"
        ":::{note}\n$$d$$ (x-colon)\n:::\n\n```{code-cell}\n$$e$$ (x-code)\n```\n$$f$$ (x-last)\n"
    )
    assert [label for label, _, _ in ledger.math_blocks(text)] == [
        "x-list",
        "x-inner",
        "x-after",
        "x-colon",
        "x-last",
    ]


@pytest.mark.parametrize(("claim", "count", "status"), [("vae-elbo", 2, 0), ("vae-gone", 1, 1)])
def test_make_ledger_prints_both_counts_and_fails_where_they_differ(book, claim, count, status):
    (book / "tests/test_vae.py").write_text(TEST.replace("vae-elbo", claim), "utf-8")
    done = subprocess.run([sys.executable, ledger.__file__, str(book)], capture_output=True, text=True)
    assert done.stdout == f"equations: 2, claimed: {count}\n"
    assert done.returncode == status
    assert ("vae-gone" in done.stderr) == bool(status)
