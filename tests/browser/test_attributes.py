"""The attribute explorer in a browser: menus and keys choose what PyTorch would draw, in the right colours."""

import harness
import pytest
import torch

TOLERANCE = 1e-4
TAG = "attribute-explorer"
ANY = "-1"

CANVAS = "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
MOUNT = """async ([meta, pixels]) => {
  const { mountAttributeExplorer } = await import(new URL('_static/explorer.js', location.href).href);
  const decode = async () => Float32Array.from(pixels);
  const host = document.body.appendChild(document.createElement('div'));
  host.id = 'mounted';
  mountAttributeExplorer(host, meta, { decode, note: t => t, running: '' });
}"""


def levels(page, selector: str = f"{TAG} canvas") -> torch.Tensor:
    """Return the canvas as (4, H, W): red, green, blue, opacity of every cell."""
    canvas = page.locator(selector)
    height = canvas.evaluate("c => c.height")
    return torch.tensor(canvas.evaluate(CANVAS)).reshape(height, -1, 4).permute(2, 0, 1)


def menu(page, name: str):
    return page.locator(TAG).get_by_role("combobox", name=name, exact=True)


def check_drawn(page, explorer, drawn: dict, labels: list[int]) -> None:
    """What was drawn is what the model draws for these labels, as numbers and on the canvas."""
    expected = explorer.draw(torch.tensor([labels]))
    assert drawn["labels"] == labels
    assert torch.equal(
        torch.tensor(drawn["conditions"]), explorer._network.conditions(torch.tensor([labels]))[0]
    )
    assert (torch.tensor(drawn["pixels"]) - expected.flatten()).abs().max() <= TOLERANCE
    shown = levels(page)
    assert (shown[:3] - expected[0] * 255).abs().max() <= 0.51 and shown[3].min() == 255


def test_the_numbers_that_come_out_depend_on_every_attribute(explorers):
    """The checks here have power: each choice, withholding too, moves some pixel by far more than is allowed."""
    explorer, face = explorers[TAG], harness.FACES[:1]
    for a, values in enumerate(harness.ATTRIBUTES.values()):
        pictures = []
        for value in range(-1, len(values)):
            labels = face.clone()
            labels[0, a] = value
            pictures.append(explorer.draw(labels).flatten())
        assert torch.pdist(torch.stack(pictures), p=float("inf")).min() > 0.02


def test_a_face_is_there_before_anything_is_fetched(explorers, address, open_page):
    page, watch = open_page(address)
    assert not [path for path in watch.requests if "/ort/" in path or path.endswith(".onnx")]
    expected = explorers[TAG].draw(harness.FACES[:1])[0]
    assert (levels(page)[:3] - expected * 255).abs().max() <= 0.51
    chosen = page.locator(f"{TAG} select").evaluate_all("all => all.map(s => s.selectedOptions[0].text)")
    assert chosen == ["bob bangs", "red", "glasses", "ink"]
    assert page.locator(f"{TAG} canvas").get_attribute("aria-label") == (
        "Generated face: hair bob bangs, hair colour red, eyes glasses, background ink"
    )


def test_every_menu_starts_with_any_and_names_the_values(address, open_page):
    page, _ = open_page(address)
    options = "s => [...s.options].map(o => o.text)"
    assert menu(page, "hair").evaluate(options) == ["any", "bald", "bob bangs", "curly bun", "mohawk"]
    assert menu(page, "hair colour").evaluate(options) == ["any", "none", "dark", "red"]


def test_a_menu_changes_the_picture(explorers, address, open_page):
    page, watch = open_page(address)
    menu(page, "hair").select_option("mohawk")
    check_drawn(page, explorers[TAG], harness.wait_drawn(page, 0), [3, 2, 0, 4])
    menu(page, "background").select_option("sky")
    check_drawn(page, explorers[TAG], harness.wait_drawn(page, 1), [3, 2, 0, 1])
    spoken = page.locator(f"{TAG} [aria-live=polite]")
    assert spoken.text_content() == "Face: background sky. 4 of 4 attributes given."
    assert not watch.external and not watch.errors


def test_any_withholds_an_attribute(explorers, address, open_page):
    page, watch = open_page(address)
    menu(page, "hair").select_option(ANY)
    check_drawn(page, explorers[TAG], harness.wait_drawn(page, 0), [-1, 2, 0, 4])
    menu(page, "eyes").select_option(ANY)
    check_drawn(page, explorers[TAG], harness.wait_drawn(page, 1), [-1, 2, -1, 4])
    assert page.locator(f"{TAG} .told").text_content().startswith("Withheld: hair, eyes.")
    label = page.locator(f"{TAG} canvas").get_attribute("aria-label")
    assert label == "Generated face: hair any, hair colour red, eyes any, background ink"
    assert not watch.external and not watch.errors


def test_keys_choose_and_stay_with_the_menu(explorers, address, open_page):
    page, watch = open_page(address)
    page.evaluate("window.leaked = []; document.addEventListener('keydown', e => window.leaked.push(e.key))")
    menu(page, "hair").focus()
    for n, (key, hair) in enumerate((("ArrowDown", 2), ("ArrowUp", 1), ("Home", -1), ("End", 3), ("c", 2))):
        page.keyboard.press(key)
        check_drawn(page, explorers[TAG], harness.wait_drawn(page, n), [hair, 2, 0, 4])
    assert page.evaluate("window.leaked") == []  # a notebook would take them for its own
    for name in ("hair colour", "eyes", "background"):
        page.keyboard.press("Tab")
        assert menu(page, name).evaluate("s => s.getRootNode().activeElement === s")
    for name in ("Random face", "Withhold all", "Give all"):
        page.keyboard.press("Tab")
        assert page.get_by_role("button", name=name).evaluate("b => b.getRootNode().activeElement === b")
    assert set(page.evaluate("window.leaked")) == {"Tab"}
    assert not watch.external and not watch.errors


def test_random_faces_are_faces_of_the_data_and_never_the_same_twice(explorers, address, open_page):
    page, watch = open_page(address)
    known, before = harness.FACES.tolist(), harness.FACES[0].tolist()
    seen = set()
    for n in range(12):
        page.get_by_role("button", name="Random face").click()
        drawn = harness.wait_drawn(page, n)
        assert drawn["labels"] in known and drawn["labels"] != before
        check_drawn(page, explorers[TAG], drawn, drawn["labels"])
        before = drawn["labels"]
        seen.add(tuple(before))
    assert len(seen) > 1
    chosen = page.locator(f"{TAG} select").evaluate_all("all => all.map(s => Number(s.value))")
    assert chosen == before
    assert not watch.external and not watch.errors


def test_withhold_all_and_give_all(explorers, address, open_page):
    page, watch = open_page(address)
    menu(page, "hair").select_option("curly bun")
    harness.wait_drawn(page, 0)
    menu(page, "eyes").select_option(ANY)
    harness.wait_drawn(page, 1)
    page.get_by_role("button", name="Withhold all").click()
    check_drawn(page, explorers[TAG], harness.wait_drawn(page, 2), [-1, -1, -1, -1])
    assert "average of all faces" in page.locator(f"{TAG} .told").text_content()
    page.get_by_role("button", name="Give all").click()  # the last value of each, also of the eyes
    check_drawn(page, explorers[TAG], harness.wait_drawn(page, 3), [2, 2, 0, 4])
    assert not watch.external and not watch.errors


def test_without_known_faces_any_combination_is_drawn(explorers, address, open_page):
    page, _ = open_page(address)
    meta = dict(explorers[TAG].meta, faces=None)
    page.evaluate(MOUNT, [meta, [0.5] * (3 * 32 * 32)])
    sizes = [len(values) for values in harness.ATTRIBUTES.values()]
    drawn = []
    for n in range(20):
        page.locator("#mounted").get_by_role("button", name="Random face").click()
        drawn.append(harness.wait_drawn(page, n)["labels"])
    assert all(0 <= k < size for labels in drawn for k, size in zip(labels, sizes, strict=True))
    assert any(labels not in harness.FACES.tolist() for labels in drawn)


def test_colours_and_places_are_right(explorers, address, open_page):
    """A known picture: red grows to the right, green downwards, and one cell is blue."""
    page, _ = open_page(address)
    ramp = torch.arange(32) / 31
    picture = torch.stack([ramp.expand(32, 32), ramp[:, None].expand(32, 32), torch.zeros(32, 32)])
    picture[2, 3, 20] = 1.0
    page.evaluate(MOUNT, [explorers[TAG].meta, picture.flatten().tolist()])
    page.locator("#mounted").get_by_role("button", name="Withhold all").click()
    harness.wait_drawn(page, 0)
    shown = levels(page, "#mounted canvas")
    assert (shown[:3] - picture * 255).abs().max() <= 0.51 and shown[3].min() == 255
    assert shown[:3, 0, 31].tolist() == [255, 0, 0]  # at the right of the top row: red
    assert shown[:3, 31, 0].tolist() == [0, 255, 0]


@pytest.mark.parametrize(("width", "least"), [(1280, 256), (390, 330)])
def test_the_picture_is_large_and_crisp(width, least, address, open_page):
    page, _ = open_page(address, width=width)
    canvas = page.locator(f"{TAG} canvas")
    box = canvas.bounding_box()
    assert box["width"] == pytest.approx(box["height"], abs=1) and box["width"] >= least
    assert canvas.evaluate("c => getComputedStyle(c).imageRendering") == "pixelated"


def test_touch_opens_the_menus_and_presses_the_buttons(explorers, address, open_page):
    page, watch = open_page(address, width=390, height=844, touch=True)
    page.get_by_role("button", name="Withhold all").tap()
    check_drawn(page, explorers[TAG], harness.wait_drawn(page, 0), [-1, -1, -1, -1])
    for control in page.locator(f"{TAG} select, {TAG} button").all():
        assert control.bounding_box()["height"] >= 24  # WCAG 2.2, 2.5.8
    assert not watch.external and not watch.errors


def test_a_network_that_fails_is_told(explorers, address, open_page):
    page, _ = open_page(address)
    page.evaluate(MOUNT, [explorers[TAG].meta, [0.5] * 7])
    page.locator("#mounted").get_by_role("button", name="Withhold all").click()
    status = page.locator("#mounted [role=status].error")
    status.wait_for()
    assert "the decoder gave 7 values, expected 3072" in status.text_content()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_menus_can_be_read_in_both_themes(theme, address, open_page):
    """The text of the open list, which the browser draws outside of the page, contrasts with its background."""
    page, _ = open_page(address, dark=theme == "dark")
    page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
    for selector in ("select", "option"):
        colours = page.locator(f"{TAG} {selector}").first.evaluate(
            "e => { const s = getComputedStyle(e); return [s.color, s.backgroundColor] }"
        )
        ink, ground = (sum(map(int, c[c.index("(") + 1 : -1].split(",")[:3])) / 765 for c in colours)
        assert abs(ink - ground) > 0.5, (selector, colours)
