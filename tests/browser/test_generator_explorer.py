"""The generator explorer in a browser: its faces are PyTorch's, and sliders, seeds and the walk change them."""

import harness
import pytest
import torch

from imagegen.widgets.generators import gaussians, slerp

TOLERANCE = 1e-4
TAG = "generator-explorer"
STEP = 0.1  # of a direction's slider: a thirtieth of its reach

CANVAS = "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
LATENTS = """async ([seeds, shares]) => {
  const { gaussians, slerp } = await import(new URL('_static/explorer.js', location.href).href);
  const z = seeds.map(seed => gaussians(seed, 65));
  return [z.map(v => Array.from(v)), shares.map(t => Array.from(slerp(z[0], z[1], t)))];
}"""
ARCS = """async pairs => {
  const { slerp } = await import(new URL('_static/explorer.js', location.href).href);
  return pairs.map(([a, b, t]) => Array.from(slerp(Float32Array.from(a), Float32Array.from(b), t)));
}"""
MOUNT = """async ([meta, pixels]) => {
  const { mountGeneratorExplorer } = await import(new URL('_static/explorer.js', location.href).href);
  const host = document.body.appendChild(document.createElement('div'));
  host.id = 'mounted';
  mountGeneratorExplorer(host, meta, { decode: async () => Float32Array.from(pixels), note: t => t, running: '' });
}"""


def levels(page, place: int = 0, selector: str = TAG) -> torch.Tensor:
    """Return a canvas as (4, H, W): 0 the image, 1 the small one of A, 2 that of B."""
    canvas = page.locator(f"{selector} canvas").nth(place)
    height = canvas.evaluate("c => c.height")
    return torch.tensor(canvas.evaluate(CANVAS)).reshape(height, -1, 4).permute(2, 0, 1)


def check_drawn(page, explorer, drawn: dict, seeds: tuple[int, int], t: float, offsets=(0.0, 0.0)) -> None:
    """What was drawn is G(slerp(A, B; t) + offsets), as numbers and on the canvas; A and B are those of the seeds."""
    size = explorer.meta["latent_dim"]
    a, b = (gaussians(seed, size) for seed in seeds)
    z = slerp(a, b, t)
    for offset, vector in zip(offsets, harness.directions().values(), strict=True):
        z = z + offset * vector / vector.norm()
    assert drawn["seeds"] == list(seeds) and drawn["t"] == pytest.approx(t)
    assert drawn["offsets"] == pytest.approx(list(offsets), abs=1e-6)
    assert (torch.tensor(drawn["z"]) - z).abs().max() <= 1e-5
    expected = explorer.decode(z[None])[0]
    assert (torch.tensor(drawn["pixels"]) - expected.flatten()).abs().max() <= 2 * TOLERANCE
    for place, image in enumerate((expected, *explorer.decode(torch.stack([a, b])))):
        shown = levels(page, place)
        assert (shown[:3] - image * 255).abs().max() <= 0.55 and shown[3].min() == 255


def slider(page, name: str):
    return page.locator(TAG).get_by_role("slider", name=name, exact=True)


def test_seeds_and_walks_are_those_of_python(address, open_page):
    page, _ = open_page(address)
    seeds, shares = [1, 2, 77, 999_999], [0, 0.25, 0.5, 1]
    found, walked = page.evaluate(LATENTS, [seeds, shares])
    expected = torch.stack([gaussians(seed, 65) for seed in seeds])
    assert (torch.tensor(found) - expected).abs().max() < 1e-6
    arcs = torch.stack([slerp(expected[0], expected[1], t) for t in shares])
    assert (torch.tensor(walked) - arcs).abs().max() < 1e-5
    pairs = [([2, 0], [0, 1], 0.5), ([1, 0], [3, 0], 0.25), ([1, 0], [-1, 0], 0.75)]
    for found, expected in zip(
        page.evaluate(ARCS, pairs), ([2**0.5, 0.5**0.5], [1.5, 0], [-0.5, 0]), strict=True
    ):
        assert found == pytest.approx(expected, abs=1e-6)


def test_the_checks_here_have_power(explorers):
    """Every control moves some pixel by far more than is allowed."""
    explorer, a = explorers[TAG], gaussians(3, 6)
    steps = [STEP * vector / vector.norm() for vector in harness.directions().values()]
    near = [a, *(a + step for step in steps), slerp(a, gaussians(8, 6), 0.01), gaussians(9, 6)]
    pictures = explorer.decode(torch.stack(near)).flatten(1)
    assert torch.pdist(pictures, p=float("inf")).min() > 20 * TOLERANCE


def test_two_faces_are_there_before_anything_is_fetched(explorers, address, open_page):
    page, watch = open_page(address)
    assert not [path for path in watch.requests if "/ort/" in path or path.endswith(".onnx")]
    images = explorers[TAG].decode(torch.stack([gaussians(3, 6), gaussians(8, 6)]))
    for place, image in enumerate((images[0], images[0], images[1])):
        assert (levels(page, place)[:3] - image * 255).abs().max() <= 0.51
    label = page.locator(f"{TAG} canvas").first.get_attribute("aria-label")
    assert label == "Generated face: seed 3"
    assert not watch.external and not watch.errors


def test_a_direction_moves_the_face_and_reset_takes_it_back(explorers, address, open_page):
    page, watch = open_page(address)
    slider(page, "glasses").focus()
    page.keyboard.press("ArrowRight")
    check_drawn(page, explorers[TAG], harness.wait_drawn(page, 0), (3, 8), 0, (0, STEP))
    page.keyboard.press("End")
    check_drawn(page, explorers[TAG], harness.wait_drawn(page, 1), (3, 8), 0, (0, 3))
    slider(page, "red hair").focus()
    page.keyboard.press("Home")
    check_drawn(page, explorers[TAG], harness.wait_drawn(page, 2), (3, 8), 0, (-3, 3))
    assert slider(page, "red hair").get_attribute("aria-valuetext") == "\u22123.00"
    told = "seed 3, red hair \u22123.00, glasses +3.00"
    assert page.locator(f"{TAG} .told").text_content() == f"Shown: {told}."
    assert page.locator(f"{TAG} canvas").first.get_attribute("aria-label") == f"Generated face: {told}"
    slider(page, "Walk").focus()
    page.keyboard.press("End")
    check_drawn(page, explorers[TAG], harness.wait_drawn(page, 3), (3, 8), 1, (-3, 3))
    page.locator(TAG).get_by_role("button", name="Reset", exact=True).click()
    check_drawn(page, explorers[TAG], harness.wait_drawn(page, 4), (3, 8), 0)
    assert slider(page, "glasses").input_value() == slider(page, "Walk").input_value() == "0"
    assert not watch.external and not watch.errors


def test_a_walk_by_pointer_goes_along_the_arc(explorers, address, open_page):
    page, watch = open_page(address)
    slider(page, "Walk").scroll_into_view_if_needed()
    box = slider(page, "Walk").bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.2, y)
    page.mouse.down()
    harness.wait_drawn(page, 0)
    n = harness.count_drawn(page)
    page.mouse.move(box["x"] + box["width"] * 0.6, y)
    drawn = harness.wait_drawn(page, n)
    assert drawn["t"] == pytest.approx(0.6, abs=0.05)
    check_drawn(page, explorers[TAG], drawn, (3, 8), drawn["t"])
    spoken = slider(page, "Walk").get_attribute("aria-valuetext")
    assert spoken == f"{100 * drawn['t']:.0f}\u00a0%"
    n = harness.count_drawn(page)
    page.mouse.move(box["x"] + box["width"] + 200, y)
    page.mouse.up()
    check_drawn(page, explorers[TAG], harness.wait_drawn(page, n), (3, 8), 1)
    assert slider(page, "Walk").get_attribute("aria-valuetext") == "at B"
    assert not watch.external and not watch.errors


def test_seeds_are_typed_and_drawn_anew(explorers, address, open_page):
    page, watch = open_page(address)
    explorer = explorers[TAG]
    page.get_by_role("button", name="New face", exact=True).click()  # never one that is shown
    check_drawn(page, explorer, harness.wait_drawn(page, 0), (9, 8), 0)
    page.get_by_role("button", name="New face B").click()  # shown at once
    check_drawn(page, explorer, harness.wait_drawn(page, 1), (9, 10), 1)
    first = page.locator(TAG).get_by_role("spinbutton", name="A: seed")
    first.fill("3")
    first.press("Enter")
    check_drawn(page, explorer, harness.wait_drawn(page, 2), (3, 10), 1)  # the small one of A is another
    for typed, kept in (("-5", 1), ("7654321", 999_999), ("2.6", 3), ("", 1)):
        n = harness.count_drawn(page)
        first.fill(typed)
        first.press("Tab")
        check_drawn(page, explorer, harness.wait_drawn(page, n), (kept, 10), 1)
        assert first.input_value() == str(kept)
    first.fill("999999")
    first.press("Tab")
    n = harness.wait_drawn(page, 7) and harness.count_drawn(page)
    page.get_by_role("button", name="New face A").click()  # after the last one from the first on
    assert harness.wait_drawn(page, n)["seeds"] == [1, 10]
    assert page.locator(f"{TAG} [aria-live=polite]").text_content() == "face A has seed 1."
    assert not watch.external and not watch.errors


def test_keys_reach_everything_and_stay_with_it(address, open_page):
    page, watch = open_page(address)
    page.evaluate("window.leaked = []; document.addEventListener('keydown', e => window.leaked.push(e.key))")
    page.get_by_role("button", name="New face", exact=True).focus()
    focused = "e => e.getRootNode().activeElement === e"
    for role, name in (
        ("button", "Reset"),
        ("slider", "red hair"),
        ("slider", "glasses"),
        ("slider", "Walk"),
        ("spinbutton", "A: seed"),
        ("button", "New face A"),
        ("spinbutton", "B: seed"),
        ("button", "New face B"),
    ):
        page.keyboard.press("Tab")
        assert page.locator(TAG).get_by_role(role, name=name, exact=True).evaluate(focused)
        if role == "slider":
            page.keyboard.press("ArrowRight")
        elif role == "button":
            page.keyboard.press("Enter")
        else:
            page.keyboard.press("ArrowUp")
    harness.wait_drawn(page, 0)
    assert set(page.evaluate("window.leaked")) == {"Tab"}
    assert not watch.external and not watch.errors


def test_without_directions_there_is_the_walk_alone(explorers, address, open_page):
    page, _ = open_page(address)
    meta = dict(explorers[TAG].meta, directions=[])
    page.evaluate(MOUNT, [meta, [0.25] * (3 * 16 * 16)])
    assert page.locator("#mounted").get_by_role("slider").count() == 1
    page.locator("#mounted").get_by_role("button", name="New face", exact=True).click()
    drawn = harness.wait_drawn(page, 0)
    assert drawn["offsets"] == [] and (torch.tensor(drawn["z"]) - gaussians(9, 6)).abs().max() < 1e-6
    assert (levels(page, 0, "#mounted")[:3] - 63.75).abs().max() <= 0.51


def test_a_generator_that_fails_is_told(explorers, address, open_page):
    page, _ = open_page(address)
    page.evaluate(MOUNT, [explorers[TAG].meta, [0.5] * 7])
    page.locator("#mounted").get_by_role("button", name="Reset", exact=True).click()
    status = page.locator("#mounted [role=status].error")
    status.wait_for()
    assert "the decoder gave 7 values, expected 768" in status.text_content()


def test_touch_on_a_phone(explorers, address, open_page):
    page, watch = open_page(address, width=390, height=844, touch=True)
    page.get_by_role("button", name="New face B").tap()
    check_drawn(page, explorers[TAG], harness.wait_drawn(page, 0), (3, 9), 1)
    for control in page.locator(f"{TAG} button, {TAG} input").all():
        assert control.bounding_box()["height"] >= 24  # WCAG 2.2, 2.5.8
    assert not watch.external and not watch.errors


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_fields_can_be_read_in_both_themes(theme, address, open_page):
    page, _ = open_page(address, dark=theme == "dark")
    page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
    ink, ground = (
        sum(map(int, c[c.index("(") + 1 : -1].split(",")[:3])) / 765
        for c in page.locator(f"{TAG} input[type=number]").first.evaluate(
            "e => { const s = getComputedStyle(e); return [s.color, s.backgroundColor] }"
        )
    )
    assert abs(ink - ground) > 0.5 and (ink < ground) == (theme == "light")


def test_the_running_kernel_draws(explorers, address, open_page, monkeypatch):
    page, watch = open_page(address)
    explorer = explorers[TAG]
    harness.mount_kernel(page, explorer, monkeypatch)
    page.locator("#kernel").get_by_role("slider", name="red hair").focus()
    page.keyboard.press("End")
    drawn = harness.wait_drawn(page, 0)
    expected = explorer.decode(torch.tensor([drawn["z"]])).flatten()
    assert torch.equal(torch.tensor(drawn["pixels"]), expected)
    unit = torch.eye(6)[0]
    assert (torch.tensor(drawn["z"]) - gaussians(3, 6) - 3 * unit).abs().max() < 1e-5
    assert page.locator("#kernel [role=status]").text_content() == "Computed by the running kernel."
    assert not [path for path in watch.requests if path.endswith(".onnx")]
