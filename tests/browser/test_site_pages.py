"""The built site, page by page, with the network cut: run after `make book` (`make test-site`)."""

import os
from collections.abc import Iterator
from pathlib import Path

import harness
import pytest

pytestmark = pytest.mark.site

SITE = Path(os.environ.get("IMAGEGEN_SITE") or harness.ROOT / "_build/html")
APART = ("_static", "_sources", "_sphinx_design_static", "_modules", "_images", "_downloads")
DRIVERS = {"latent-map": ".pad", "image-explorer": ".easel"}
STYLED = {  # role and name of a control, and a key that changes the image
    "truncation-explorer": (
        ("slider", "psi", "Home"),
        ("slider", "psi", "End"),
        ("button", "Another", "Enter"),
    ),
    "style-mixer": (
        ("button", "All from A", "Enter"),
        ("button", "All from B", "Enter"),
        ("radio", "B", "ArrowUp"),
    ),
    "style-sliders": (("slider", "", "End"), ("slider", "", "Home"), ("button", "Another", "Enter")),
}


def pages() -> list[str]:
    """Return the site's pages, relative to its root; one that is missing where there is no site."""
    found = [p.relative_to(SITE) for p in sorted(SITE.rglob("*.html"))] if SITE.is_dir() else []
    return [p.as_posix() for p in found if p.parts[0] not in APART] or ["index.html"]


def pages_with(tag: str) -> list[str]:
    return [
        page for page in pages() if (SITE / page).is_file() and f"<{tag} " in (SITE / page).read_text("utf-8")
    ]


@pytest.fixture(scope="module", params=pages())
def desk(request, browser, site_address) -> Iterator[tuple]:
    """(path, page, watch) of a page in a wide window, opened once for the tests that only look at it."""
    with harness.opened(browser, f"{site_address}{request.param}") as (page, watch):
        page.wait_for_load_state("networkidle")
        yield request.param, page, watch


def test_a_page_asks_no_other_host_and_reports_no_error(desk):
    _, _, watch = desk
    assert watch.external == []
    assert watch.errors == []


def set_theme(page, theme: str) -> None:
    page.evaluate(
        "t => { document.documentElement.dataset.mode = t; document.documentElement.dataset.theme = t }",
        theme,
    )


def test_axe_finds_nothing_serious(desk):
    _, page, _ = desk
    set_theme(page, "light")
    page.wait_for_timeout(300)  # formulas are set
    assert harness.axe(page) == []


def test_every_numbered_equation_fits_a_desktop_window(desk):
    """None is cut off at its right end; on a phone the wide ones scroll in their box."""
    path, page, _ = desk
    if '<div class="math notranslate' not in (SITE / path).read_text("utf-8"):
        return  # a page without equations
    page.wait_for_function("() => document.querySelector('div.math mjx-container mjx-math')")
    page.wait_for_timeout(1000)  # the fonts change widths once more
    cut = """() => [...document.querySelectorAll("div.math mjx-container")]
      .filter(box => box.scrollWidth > box.clientWidth + 1)
      .map(box => `${box.closest("[id]").id}: ${box.scrollWidth - box.clientWidth} pixels too wide`)"""
    assert page.evaluate(cut) == []


@pytest.mark.parametrize("path", pages())
def test_axe_finds_nothing_serious_in_the_dark(path, site_address, open_page):
    page, _ = open_page(f"{site_address}{path}", dark=True)
    set_theme(page, "dark")
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


@pytest.mark.parametrize("tag", harness.TAGS)
def test_the_site_holds_every_explorer(tag, site):
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


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("path", pages_with("attribute-explorer"))
def test_each_attribute_explorer_is_driven_by_menu_keyboard_and_button(path, width, site_address, open_page):
    page, watch = open_page(f"{site_address}{path}", width=width)
    page.wait_for_load_state("networkidle")
    for explorer in page.locator("attribute-explorer").all():
        pictures = []
        for target, act in (
            ("select >> nth=0", lambda spot: spot.select_option(index=2)),
            ("select >> nth=-1", lambda spot: spot.press("End")),
            ("select >> nth=0", lambda spot: spot.press("Home")),  # withheld
            ("text=Random face", lambda spot: spot.click()),
            ("text=Withhold all", lambda spot: spot.click()),
        ):
            n = harness.count_drawn(page)
            act(explorer.locator(target))
            drawn = harness.wait_drawn(page, n)
            assert drawn["tag"] == "attribute-explorer"
            assert max(drawn["pixels"]) - min(drawn["pixels"]) > 0.1  # an image, not a grey square
            pictures.append(tuple(drawn["pixels"]))
        assert len(set(pictures)) == len(pictures)
        assert set(drawn["labels"]) == {-1}
    assert watch.external == []
    assert watch.errors == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("path", pages_with("code-explorer"))
def test_each_code_explorer_is_driven_by_pointer_and_keyboard(path, width, site_address, open_page):
    page, watch = open_page(f"{site_address}{path}", width=width)
    page.wait_for_load_state("networkidle")
    for explorer in page.locator("code-explorer").all():
        board, pictures = explorer.locator(".board").first, []
        for act in (
            lambda spot: spot.locator(".sheet").click(position={"x": 10, "y": 10}),
            lambda spot: spot.locator(".sheet").press("End"),
            lambda spot: spot.get_by_role("radio").nth(1).click(),
            lambda spot: spot.get_by_text("Copy from another image").click(),
        ):
            n = harness.count_drawn(page)
            act(explorer)
            drawn = harness.wait_drawn(page, n)
            pictures.append(tuple(drawn["pixels"]))
            assert max(drawn["pixels"]) - min(drawn["pixels"]) > 0.1  # an image, not a grey square
        assert len(set(pictures)) == 3 and pictures[2] == pictures[3]
        board.focus()
        for key in ("Home", *["Shift+ArrowRight"] * 3, *["Shift+ArrowDown"] * 3):
            page.keyboard.press(key)
        n = harness.count_drawn(page)
        explorer.get_by_role("button", name="Paste region").click()
        drawn = harness.wait_drawn(page, n)
        assert drawn["tag"] == "code-explorer" and tuple(drawn["pixels"]) not in pictures
    assert watch.external == []
    assert watch.errors == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("path", pages_with("prior-explorer"))
def test_each_prior_explorer_samples_to_the_end(path, width, site_address, open_page):
    page, watch = open_page(f"{site_address}{path}", width=width)
    page.wait_for_load_state("networkidle")
    for explorer in page.locator("prior-explorer").all():
        images = []
        for seed in ("1", "2", "1"):
            n = harness.count_drawn(page)
            explorer.get_by_role("button", name="Clear").click()
            assert harness.wait_drawn(page, n)["filled"] == 0
            explorer.get_by_role("spinbutton", name="Seed").fill(seed)
            explorer.get_by_role("button", name="Fill the rest").click()
            page.wait_for_function(
                "() => { const d = window.drawn.at(-1); return d.filled === d.codes.length && d.pixels"
                " && !document.querySelector('[playing], [drawing]') }",
                timeout=60_000,
            )
            drawn = page.evaluate("window.drawn.at(-1)")
            images.append((drawn["codes"], drawn["pixels"]))
            assert max(drawn["pixels"]) - min(drawn["pixels"]) > 0.1  # an image, not a grey square
        assert images[0] == images[2] != images[1]
        n = harness.count_drawn(page)
        explorer.locator(".board").focus()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        back = harness.wait_drawn(page, n)
        assert 0 < back["filled"] < len(back["codes"])
        assert back["codes"][: back["filled"]] == images[2][0][: back["filled"]]
    assert watch.external == []
    assert watch.errors == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("path", pages_with("generator-explorer"))
def test_each_generator_explorer_is_driven_by_keyboard_and_buttons(path, width, site_address, open_page):
    page, watch = open_page(f"{site_address}{path}", width=width)
    page.wait_for_load_state("networkidle")
    for explorer in page.locator("generator-explorer").all():
        pictures = []
        acts = [lambda spot: spot.get_by_role("slider", name="Walk", exact=True).press("End")]
        acts += [
            lambda spot, k=k: spot.get_by_role("slider").nth(k).press("End")
            for k in range(explorer.get_by_role("slider").count() - 1)
        ]  # the directions
        acts += [
            lambda spot: spot.get_by_text("Reset", exact=True).click(),
            lambda spot: spot.get_by_role("button", name="New ").first.click(),
        ]
        for act in acts:
            n = harness.count_drawn(page)
            act(explorer)
            drawn = harness.wait_drawn(page, n)
            assert drawn["tag"] == "generator-explorer"
            assert max(drawn["pixels"]) - min(drawn["pixels"]) > 0.1  # an image, not a grey square
            pictures.append(tuple(drawn["pixels"]))
        assert len(set(pictures)) == len(pictures)
    assert watch.external == []
    assert watch.errors == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("path", pages_with("ring-explorer"))
def test_each_ring_explorer_shows_every_recorded_training(path, width, site_address, open_page):
    page, watch = open_page(f"{site_address}{path}", width=width)
    page.wait_for_load_state("networkidle")
    canvas = "c => c.toDataURL()"
    for explorer in page.locator("ring-explorer").all():
        loss, setting = (explorer.get_by_role("combobox", name=name) for name in ("Loss", "Setting"))
        seen, step = set(), explorer.get_by_role("slider", name="Step")
        runs = 0
        for name in loss.evaluate("s => [...s.options].map(o => o.value)"):
            loss.select_option(name)
            for own in setting.evaluate("s => [...s.options].map(o => o.value)"):
                setting.select_option(own)
                runs += 1
                for key in ("Home", "End"):
                    step.press(key)
                    drawn = page.evaluate("window.drawn.at(-1)")
                    assert (drawn["loss"], drawn["setting"]) == (name, own)
                    seen.add(explorer.locator(".plane canvas").evaluate(canvas))
                assert "of 8 modes found" in explorer.locator(".plane canvas").get_attribute("aria-label")
        assert len(seen) > runs  # a start may be common to some
    assert watch.external == []
    assert watch.errors == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("path", pages_with("restoration-explorer"))
def test_each_restoration_explorer_is_driven_by_pointer_keyboard_and_buttons(
    path, width, site_address, open_page
):
    page, watch = open_page(f"{site_address}{path}", width=width)
    page.wait_for_load_state("networkidle")
    for explorer in page.locator("restoration-explorer").all():
        easel, pictures = explorer.locator(".easel"), []
        for act in (
            explorer.get_by_role("button", name="Clear").click,
            easel.click,
            lambda easel=easel: easel.press("Shift+ArrowLeft"),
            explorer.get_by_role("button", name="Scribble").click,
            lambda explorer=explorer: explorer.get_by_role("slider", name="Noise").press("End"),
        ):
            n = harness.count_drawn(page)
            act()
            drawn = harness.wait_drawn(page, n)
            assert drawn["tag"] == "restoration-explorer"
            pictures.append((tuple(drawn["squared"]), tuple(drawn["adversarial"])))
        assert pictures[0][0] == pictures[0][1]  # nothing is hidden: both give what they see
        assert all(squared != adversarial for squared, adversarial in pictures[1:])
        assert len(set(pictures)) == len(pictures)
        assert 10 < drawn["psnr"][0] < 50  # it is restored from much noise and a scribble, but not wholly
    assert watch.external == []
    assert watch.errors == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("tag, path", [(tag, path) for tag in STYLED for path in pages_with(tag)])
def test_each_style_explorer_is_driven_by_keyboard_and_buttons(tag, path, width, site_address, open_page):
    page, watch = open_page(f"{site_address}{path}", width=width)
    page.wait_for_load_state("networkidle")
    for explorer in page.locator(tag).all():
        pictures = []
        for role, name, key in STYLED[tag]:
            control = explorer.get_by_role(role, name=name).first
            n = harness.count_drawn(page)
            control.press(key)
            drawn = harness.wait_drawn(page, n)
            assert drawn["tag"] == tag
            assert max(drawn["pixels"]) - min(drawn["pixels"]) > 0.1  # an image, not a grey square
            pictures.append(tuple(drawn["pixels"]))
        assert len(set(pictures)) == len(pictures)
    networks = [path for path in watch.requests if path.endswith(".onnx")]
    assert len(networks) == len(set(networks))  # explorers of one generator share them
    assert watch.external == []
    assert watch.errors == []


def test_code_of_88_columns_fits_a_desktop_window(site_address, open_page):
    """Notebooks are folded at 88 columns; a line of that length scrolls on no page 1265 pixels wide or more."""
    page, _ = open_page(f"{site_address}{code_page()}", width=1265)  # 1280 less a scroll bar
    spare = """pre => {
      const line = pre.appendChild(document.createElement('span')), style = getComputedStyle(pre);
      line.textContent = 'x'.repeat(88);
      const inner = pre.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
      return inner - line.getBoundingClientRect().width;
    }"""
    assert page.locator("div.cell_input pre").first.evaluate(spare) >= 0


def code_page() -> str:
    """Return the first page with a code cell."""
    return next(p for p in pages() if "cell_input" in (SITE / p).read_text("utf-8"))
