"""The built site, page by page, with the network cut: run after `make book` (`make test-site`)."""

import os
from pathlib import Path

import harness
import pytest

pytestmark = pytest.mark.site

SITE = Path(os.environ.get("IMAGEGEN_SITE") or harness.ROOT / "_build/html")
APART = ("_static", "_sources", "_sphinx_design_static", "_modules", "_images", "_downloads")
DRIVERS = {"latent-map": ".pad", "image-explorer": ".easel"}


def pages() -> list[str]:
    """Return the site's pages, relative to its root; one that is missing where there is no site."""
    found = [p.relative_to(SITE) for p in sorted(SITE.rglob("*.html"))] if SITE.is_dir() else []
    return [p.as_posix() for p in found if p.parts[0] not in APART] or ["index.html"]


def pages_with(tag: str) -> list[str]:
    return [
        page for page in pages() if (SITE / page).is_file() and f"<{tag} " in (SITE / page).read_text("utf-8")
    ]


@pytest.mark.parametrize("path", pages())
def test_a_page_asks_no_other_host_and_reports_no_error(path, site_address, open_page):
    page, watch = open_page(f"{site_address}{path}")
    page.wait_for_load_state("networkidle")
    assert watch.external == []
    assert watch.errors == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", pages())
def test_axe_finds_nothing_serious(path, theme, site_address, open_page):
    page, _ = open_page(f"{site_address}{path}", dark=theme == "dark")
    page.evaluate(
        "t => { document.documentElement.dataset.mode = t; document.documentElement.dataset.theme = t }",
        theme,
    )
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(300)  # formulas are set, colours have faded over
    assert harness.axe(page) == []


@pytest.mark.parametrize("path", pages())
def test_no_page_is_wider_than_a_phone(path, site_address, open_page):
    page, _ = open_page(f"{site_address}{path}", width=390, height=844, touch=True)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(300)
    wide = """() => [...document.querySelectorAll('main *')]
      .filter(e => e.getBoundingClientRect().right > 391)
      .slice(0, 5).map(e => `${e.localName}.${e.className}`)"""
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, page.evaluate(wide)


@pytest.mark.parametrize("tag", DRIVERS)
def test_the_site_holds_both_explorers(tag, site):
    assert pages_with(tag), f"no page holds a <{tag}>"


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("tag, path", [(tag, path) for tag in DRIVERS for path in pages_with(tag)])
def test_each_explorer_is_driven_by_pointer_and_keyboard(tag, path, width, site_address, open_page):
    page, watch = open_page(f"{site_address}{path}", width=width)
    page.wait_for_load_state("networkidle")
    for i in range(page.locator(tag).count()):
        spot = page.locator(tag).nth(i).locator(DRIVERS[tag])
        spot.scroll_into_view_if_needed()
        box = spot.bounding_box()
        n = harness.count_drawn(page)
        page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.4)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5, steps=4)
        page.mouse.up()
        by_pointer = harness.wait_drawn(page, n)
        assert by_pointer["tag"] == tag
        n = harness.count_drawn(page)
        spot.focus()
        page.keyboard.press("Shift+ArrowLeft")
        by_key = harness.wait_drawn(page, n)
        assert by_key["z"] != by_pointer["z"] and by_key["pixels"] != by_pointer["pixels"]
        n = harness.count_drawn(page)
        page.locator(tag).nth(i).locator(".side input[type=range]").first.focus()
        page.keyboard.press("Home")
        by_slider = harness.wait_drawn(page, n)
        assert by_slider["pixels"] != by_key["pixels"]
        assert max(by_slider["pixels"]) - min(by_slider["pixels"]) > 0.1  # an image, not a grey square
    assert watch.external == []
    assert watch.errors == []
