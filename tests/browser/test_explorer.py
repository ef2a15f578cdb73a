"""The explorers in a browser: their numbers are PyTorch's, and pointer, keyboard and touch drive them."""

import harness
import pytest
import torch

from imagegen import images

TOLERANCE = 1e-4
TAGS = ("latent-map", "image-explorer")

# Runs the networks of an explorer as its page does, without its interface. Numbers come back as plain lists.
RUN = """async ([part, files, inputs]) => {
  const { pageBackend } = await import(new URL('_static/explorer.js', location.href).href);
  const backend = pageBackend(files), results = [];
  for (const values of inputs) {
    const r = part === 'decoder' ? { pixels: await backend.decode(Float32Array.from(values)) }
                                 : await backend.encode(Float32Array.from(values));
    results.push(Object.fromEntries(Object.entries(r).map(([k, v]) => [k, Array.from(v)])));
  }
  return results;
}"""


def run_in_page(page, explorer, part: str, inputs: torch.Tensor) -> list[dict]:
    files = explorer.meta["files"] | {"shape": explorer.meta["shape"]}
    return page.evaluate(RUN, [part, files, inputs.flatten(1).tolist()])


def decoded(explorer, z: list[float]) -> torch.Tensor:
    return explorer.decode(torch.tensor([z])).flatten()


def canvas_levels(page, selector: str) -> torch.Tensor:
    """Return the red level of every cell of a canvas."""
    script = "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
    return torch.tensor(page.locator(selector).evaluate(script))[::4]


# ---- numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", TAGS)
def test_the_pages_pixels_are_pytorchs(tag, explorers, address, open_page):
    explorer = explorers[tag]
    page, _ = open_page(address)
    z = 2 * torch.randn(64, explorer.meta["latent_dim"], generator=torch.Generator().manual_seed(0))
    found = torch.tensor([r["pixels"] for r in run_in_page(page, explorer, "decoder", z)])
    expected = explorer.decode(z).flatten(1)
    assert (found - expected).abs().max() <= TOLERANCE
    # The check has power: neighbouring latents differ by far more than is allowed.
    assert (expected[1:] - expected[:-1]).abs().amax(1).min() > 100 * TOLERANCE


def test_the_pages_encoder_is_pytorchs(explorers, address, open_page):
    explorer = explorers["image-explorer"]
    page, _ = open_page(address)
    x = torch.cat([images.to_float(harness.drawings()[0]), torch.rand(8, 1, 28, 28) * 2 - 1])
    found = run_in_page(page, explorer, "encoder", x)
    mean, log_var = explorer.encode(x)
    assert (torch.tensor([r["mean"] for r in found]) - mean).abs().max() <= TOLERANCE
    assert (torch.tensor([r["logVar"] for r in found]) - log_var).abs().max() <= TOLERANCE
    assert (mean[1:] - mean[:-1]).abs().amax(1).min() > 100 * TOLERANCE


# ---- the latent map --------------------------------------------------------------------------------------


def test_nothing_is_fetched_before_the_first_move(address, open_page):
    page, watch = open_page(address)
    assert not [path for path in watch.requests if "/ort/" in path or path.endswith(".onnx")]
    assert canvas_levels(page, "latent-map .side canvas").float().std() > 0  # yet an image is there


def test_dragging_on_the_map_draws_what_is_under_the_pointer(explorers, address, open_page):
    page, watch = open_page(address)
    explorer = explorers["latent-map"]
    box = page.locator("latent-map .pad").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.25, steps=5)
    page.mouse.up()
    drawn = harness.wait_drawn(page, 1)
    assert drawn["z"] == pytest.approx([1.5, 1.5], abs=0.03)  # right and up are positive
    expected = decoded(explorer, drawn["z"])
    assert (torch.tensor(drawn["pixels"]) - expected).abs().max() <= TOLERANCE
    assert (
        canvas_levels(page, "latent-map .side canvas") - expected * 255
    ).abs().max() <= 0.51  # and on the canvas
    assert not watch.external and not watch.errors
    assert not page.workers  # a network that is so small is run in the page itself
    n = harness.count_drawn(page)
    page.mouse.move(box["x"] + 5, box["y"] + 5)  # the button is up: only a drag moves the dot
    page.wait_for_timeout(100)
    assert harness.count_drawn(page) == n


def test_keys_move_on_the_map(explorers, address, open_page):
    page, watch = open_page(address)
    page.evaluate("window.leaked = []; document.addEventListener('keydown', e => window.leaked.push(e.key))")
    pad = page.get_by_role("slider", name="Latent map")
    pad.focus()
    for keys, expected in (
        (["Home"], [0, 0]),
        (["ArrowRight"], [0.06, 0]),
        (["Shift+ArrowUp"], [0.06, 0.3]),
        (["ArrowDown", "ArrowLeft", "ArrowLeft"], [-0.06, 0.24]),
        (["Shift+ArrowLeft"] * 12, [-3, 0.24]),  # stops at the edge
        (["Home"], [0, 0]),
    ):
        n = harness.count_drawn(page)
        for key in keys:
            page.keyboard.press(key)
        drawn = harness.wait_drawn(page, n)
        assert drawn["z"] == pytest.approx(expected, abs=1e-6)
        spoken = ", ".join(f"z[{d}] {v:.2f}" for d, v in enumerate(drawn["z"]))
        assert pad.get_attribute("aria-valuetext") == spoken.replace("-0.00", "0.00")
    assert page.evaluate("window.leaked.filter(k => k.startsWith('Arrow') || k === 'Home')") == []
    page.keyboard.press("x")  # a key that the map does not use stays the page's
    assert page.evaluate("window.leaked").count("x") == 1
    assert not watch.external and not watch.errors


def test_a_slider_moves_one_latent(explorers, address, open_page):
    page, _ = open_page(address)
    slider = page.locator("latent-map").get_by_role("slider", name="z[1]", exact=True)
    slider.focus()
    page.keyboard.press("End")
    drawn = harness.wait_drawn(page, 0)
    assert drawn["z"] == pytest.approx([explorers["latent-map"].meta["start"]["z"][0], 3])
    assert page.locator("latent-map output").nth(1).text_content() == "+3.00"


def test_the_legend_shows_one_class_alone(address, open_page):
    page, _ = open_page(address)
    ink = """c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data
      .reduce((sum, value, i) => sum + (i % 4 === 3) * value, 0)"""
    dots = page.locator("latent-map .pad canvas")
    everything = dots.evaluate(ink)
    button = page.get_by_role("button", name="square")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert dots.evaluate(ink) < 0.7 * everything
    button.click()
    assert dots.evaluate(ink) == everything


def test_the_latest_position_wins(explorers, address, open_page):
    """A slow network never falls behind: of a hundred moves it skips most, and ends on the last."""
    page, _ = open_page(address)
    script = """async meta => {
      const { mountLatentMap } = await import(new URL('_static/explorer.js', location.href).href);
      let calls = 0, flying = 0, most = 0;
      const decode = async z => {
        calls++;
        most = Math.max(most, ++flying);
        await new Promise(r => setTimeout(r, 40));
        flying--;
        return new Float32Array(784).fill(z[0] / 3);
      };
      const host = document.body.appendChild(document.createElement('div'));
      mountLatentMap(host, meta, { decode, note: t => t, running: '' });
      const pad = host.shadowRoot.querySelector('.pad'), right = { key: 'ArrowRight', bubbles: true };
      for (let i = 0; i < 100; i++) pad.dispatchEvent(new KeyboardEvent('keydown', right));
      while (host.hasAttribute('drawing')) await new Promise(r => setTimeout(r, 20));
      const context = host.shadowRoot.querySelector('.side canvas').getContext('2d');
      return { calls, most, last: context.getImageData(0, 0, 1, 1).data[0] };
    }"""
    result = page.evaluate(script, explorers["latent-map"].meta)
    assert result == {"calls": 2, "most": 1, "last": 255}


# ---- the image explorer ----------------------------------------------------------------------------------


def check_drawn(explorer, drawn: dict) -> None:
    """The latent is PyTorch's for that input, and the pixels are PyTorch's for that latent."""
    x = 2 * torch.tensor(drawn["input"]).reshape(1, *explorer.meta["shape"]) - 1
    mean, log_var = explorer.encode(x)
    assert (torch.tensor(drawn["mean"]) - mean[0]).abs().max() <= TOLERANCE
    assert (torch.tensor(drawn["logVar"]) - log_var[0]).abs().max() <= TOLERANCE
    assert (torch.tensor(drawn["pixels"]) - decoded(explorer, drawn["z"])).abs().max() <= TOLERANCE


def test_picking_an_image_encodes_and_decodes_it(explorers, address, open_page):
    page, watch = open_page(address)
    explorer = explorers["image-explorer"]
    page.get_by_role("radio", name="bar, number 7").click()
    drawn = harness.wait_drawn(page, 0)
    assert torch.allclose(
        torch.tensor(drawn["input"]) * 255, harness.drawings()[0][6].flatten().float(), atol=1e-3
    )
    assert drawn["z"] == drawn["mean"]
    check_drawn(explorer, drawn)
    assert (
        page.locator("image-explorer").get_by_role("radio", checked=True).get_attribute("aria-label")
        == "bar, number 7"
    )
    page.keyboard.press("ArrowRight")  # the next one, as in any group of radio buttons
    check_drawn(explorer, harness.wait_drawn(page, 1))
    assert (
        page.locator("image-explorer").get_by_role("radio", checked=True).get_attribute("aria-label")
        == "cross, number 8"
    )
    assert not watch.external and not watch.errors


def test_sliders_move_the_most_active_latents_and_reset_returns(explorers, address, open_page):
    page, watch = open_page(address)
    explorer = explorers["image-explorer"]
    dim = explorer.meta["dims"][1]
    page.locator("image-explorer").get_by_role("slider", name=f"z[{dim}]", exact=True).focus()
    page.keyboard.press("End")
    drawn = harness.wait_drawn(page, 0)
    start = explorer.meta["start"]["z"]
    moved = [d for d, (a, b) in enumerate(zip(drawn["z"], start, strict=True)) if abs(a - b) > 1e-6]
    assert moved == [dim] and drawn["z"][dim] == pytest.approx(explorer.meta["limit"])
    assert (torch.tensor(drawn["pixels"]) - decoded(explorer, drawn["z"])).abs().max() <= TOLERANCE
    page.get_by_role("button", name="Reset to the encoded").click()
    assert harness.wait_drawn(page, 1)["z"] == pytest.approx(start, abs=1e-6)
    assert not watch.external and not watch.errors


def test_drawing_with_the_pointer(explorers, address, open_page):
    page, watch = open_page(address)
    page.locator("image-explorer").get_by_role("button", name="Clear").click()
    assert sum(harness.wait_drawn(page, 0)["input"]) == 0
    box = page.locator("image-explorer .easel").bounding_box()
    at = lambda x, y: (box["x"] + box["width"] * x, box["y"] + box["height"] * y)  # noqa: E731
    n = harness.count_drawn(page)
    page.mouse.move(*at(0.25, 0.5))
    page.mouse.down()
    page.mouse.move(*at(0.75, 0.5), steps=3)  # the gaps between the pointer's places are filled
    page.mouse.up()
    drawn = harness.wait_drawn(page, n)
    ink = torch.tensor(drawn["input"]).reshape(28, 28)
    assert ink[14, 8:20].min() == 1 and ink[:10].sum() == 0 and ink[18:].sum() == 0
    assert ((ink > 0.01) & (ink < 0.99)).sum() >= 8  # a soft edge
    check_drawn(explorers["image-explorer"], drawn)
    assert (
        page.locator("image-explorer").get_by_role("radio", checked=True).count() == 0
    )  # what is shown is none of the test images
    page.get_by_role("button", name="Erase").click()
    n = harness.count_drawn(page)
    page.mouse.move(*at(0.5, 0.5))
    page.mouse.down()
    page.mouse.up()
    erased = torch.tensor(harness.wait_drawn(page, n)["input"]).reshape(28, 28)
    assert erased[14, 13:15].max() == 0 and erased[14, 8] == 1
    assert not watch.external and not watch.errors


def test_drawing_with_the_keyboard(explorers, address, open_page):
    page, watch = open_page(address)
    page.locator("image-explorer").get_by_role("button", name="Clear").click()
    n = harness.count_drawn(page)
    easel = page.locator("image-explorer").get_by_role("application")
    easel.focus()
    page.keyboard.press("ArrowUp")  # moves the cursor and paints nothing
    page.keyboard.press("Space")
    ink = torch.tensor(harness.wait_drawn(page, n)["input"]).reshape(28, 28)
    assert ink[13, 14] == 1 and ink.argmax() == 13 * 28 + 14 - (ink[13, 13] == 1).long() - 28 * (
        ink[12, 14] == 1
    )
    for _ in range(6):
        page.keyboard.press("Shift+ArrowRight")
    drawn = harness.wait_drawn(page, n + 1)
    ink = torch.tensor(drawn["input"]).reshape(28, 28)
    assert ink[13, 14:21].min() == 1 and ink[13, 23:].max() == 0
    assert (
        page.locator("image-explorer [role=status]").text_content() == "Row 14, column 21: 100 percent white."
    )
    check_drawn(explorers["image-explorer"], drawn)
    n = harness.count_drawn(page)
    page.keyboard.press("Delete")
    assert torch.tensor(harness.wait_drawn(page, n)["input"]).reshape(28, 28)[13, 20] == 0
    assert not watch.external and not watch.errors


def test_touch_drives_both(explorers, address, open_page):
    page, watch = open_page(address, width=390, height=844, touch=True)
    for tag, target in (("latent-map", ".pad"), ("image-explorer", ".easel")):
        spot = page.locator(f"{tag} {target}")
        spot.scroll_into_view_if_needed()
        n = harness.count_drawn(page)
        spot.tap(position={"x": 40, "y": 40})
        assert harness.wait_drawn(page, n)["tag"] == tag
        assert spot.evaluate("e => getComputedStyle(e).touchAction") == "none"  # a drag is not a scroll
    assert not watch.external and not watch.errors


# ---- when things go wrong, and who can use it ------------------------------------------------------------


def test_a_missing_model_is_told_and_the_picture_stays(address, open_page):
    page, _ = open_page(f"{address}missing.html")
    status = page.locator("latent-map [role=status]")
    status.wait_for()
    assert "gone-0000000000 could not be fetched (404)" in status.text_content()
    assert page.locator("latent-map > img").is_visible()


def test_a_missing_network_is_told_and_asked_for_again(address, open_page):
    page, watch = open_page(f"{address}no-network.html")
    page.get_by_role("slider", name="Latent map").focus()
    status = page.locator("latent-map [role=status]")
    for attempt in (1, 2):
        page.keyboard.press("ArrowRight")
        page.wait_for_function("!document.querySelector('[drawing]')")
        assert "the decoder gone-0000000000.onnx could not be fetched (404)" in status.text_content()
        assert len([path for path in watch.requests if path.endswith("gone-0000000000.onnx")]) == attempt


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(theme, address, open_page):
    page, _ = open_page(address, dark=theme == "dark")
    page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
    assert harness.axe(page) == []
    page.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<input><img src=x>')")
    assert len(harness.axe(page)) >= 2  # and it would find something


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_no_wider_than_the_screen(width, address, open_page):
    page, _ = open_page(address, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = """tag => {
      const host = document.querySelector(tag), right = e => e.getBoundingClientRect().right;
      const inside = [...host.shadowRoot.querySelectorAll('*')];
      return inside.filter(e => right(e) > right(host) + 1).map(e => e.className);
    }"""
    for tag in harness.TAGS:
        assert page.evaluate(wide, tag) == []


def test_print_shows_the_static_picture(address, open_page):
    page, _ = open_page(address)
    assert not page.locator("latent-map > img").is_visible()
    page.emulate_media(media="print")
    for tag in harness.TAGS:
        assert page.locator(f"{tag} > img").is_visible()
        assert not page.locator(f"{tag} .live").is_visible()


def test_without_javascript_the_picture_is_there(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    for tag in harness.TAGS:
        assert page.locator(f"{tag} > img").is_visible()
        assert len(page.locator(f"{tag} > img").get_attribute("alt")) > 60
    context.close()


def test_the_watch_sees_another_host_and_an_error(address, open_page):
    """The two checks that every test here relies on can fail."""
    page, watch = open_page(address)
    page.evaluate("fetch('https://example.org/x').catch(() => 0)")
    page.evaluate("setTimeout(() => { throw new Error('planted') })")
    page.wait_for_timeout(200)
    assert watch.external == ["https://example.org/x"]
    assert any("planted" in error for error in watch.errors)


# ---- the live kernel's side ------------------------------------------------------------------------------


def test_the_kernel_host_speaks_to_python(explorers, address, open_page, monkeypatch):
    """anywidget's render() with a comm made of this test: messages go to the Python widget and back."""
    explorer = explorers["image-explorer"]
    page, watch = open_page(address)
    harness.mount_kernel(page, explorer, monkeypatch)
    page.locator("#kernel").get_by_role("radio", name="square, number 2", exact=True).click()
    check_drawn(explorer, harness.wait_drawn(page, 0))
    assert page.locator("#kernel [role=status]").text_content() == "Computed by the running kernel."
    page.evaluate("window.spoil = true")
    page.locator("#kernel").get_by_role("radio", name="bar, number 3", exact=True).click()
    page.wait_for_function(
        "document.querySelector('#kernel > div').shadowRoot.querySelector('.error')"
        """?.textContent.includes("op is 'dream'")"""
    )
    assert not [path for path in watch.requests if path.endswith(".onnx")]  # nothing ran in the page
