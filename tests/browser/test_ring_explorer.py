"""The ring explorer in a browser: it shows the frames as they were recorded, and keys, menus and Play change them."""

import base64

import harness
import numpy as np
import pytest
import torch

from imagegen.widgets import ring

TAG = "ring-explorer"
RUNS = ("minimax", "minimax", "wasserstein")
SIDE = harness.RING["side"]

CANVAS = """c => {
  const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);
  let text = '';
  for (let i = 0; i < data.length; i += 4096) text += String.fromCharCode(...data.subarray(i, i + 4096));
  return btoa(text); // a list of a million numbers would take seconds
}"""


def plane(page, selector: str = TAG) -> torch.Tensor:
    """Return the plane as (3, H, W) of 0 to 255."""
    canvas = page.locator(f"{selector} .plane canvas")
    height = canvas.evaluate("c => c.height")
    return numbers(canvas.evaluate(CANVAS), height, -1, 4)[..., :3].permute(2, 0, 1)


def menu(page, name: str):
    return page.locator(TAG).get_by_role("combobox", name=name, exact=True)


def slider(page, selector: str = TAG):
    return page.locator(selector).get_by_role("slider", name="Step", exact=True)


def rgb(text: str) -> torch.Tensor:
    return torch.tensor([int(text[i : i + 2], 16) for i in (1, 3, 5)]).float()


def numbers(text: str, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), np.uint8).copy()).reshape(shape).float()


def check_shown(page, explorer, run: int, frame: int) -> None:
    """The plane holds this frame: field, real and generated points in their places; the text says the same."""
    meta, shown = explorer.meta, plane(page)
    recorded, size, n = meta["runs"][run], shown.shape[1], meta["n"]
    frames = len(recorded["steps"])
    points = numbers(recorded["points"], frames, n, 2)[frame]
    field = numbers(recorded["field"], frames, SIDE, SIDE)[frame]
    place = lambda p: (round((1 - p[1].item() / 255) * size), round(p[0].item() / 255 * size))  # noqa: E731
    occupied = torch.zeros(size, size, dtype=torch.bool)
    for p in (*points, *numbers(meta["real"], n, 2)):
        row, column = place(p)
        occupied[max(0, row - 8) : row + 8, max(0, column - 8) : column + 8] = True
    for p in points:
        row, column = place(p)
        assert (
            shown[:, row - 1 : row + 1, column - 1 : column + 1] - rgb(ring.GENERATED)[:, None, None]
        ).abs().max() <= 2
    covered = [place(p) for p in points]
    for p in numbers(meta["real"], n, 2):
        row, column = place(p)
        if min(abs(row - r) + abs(column - c) for r, c in covered) > 16:
            near = shown[:, row - 1 : row + 1, column - 1 : column + 1] - rgb(ring.REAL)[:, None, None]
            assert near.abs().amax(0).min() <= 30  # a line of 1.8 pixels need not fill one
    checked = 0
    for row in range(SIDE):
        for column in range(SIDE):
            y, x = round((row + 0.5) * size / SIDE), round((column + 0.5) * size / SIDE)
            if occupied[y, x]:
                continue
            share = field[row, column].item() / 127.5 - 1
            end = rgb(ring.FIELD[0 if share < 0 else 2])
            middle = rgb(ring.FIELD[1])
            expected = middle + abs(share) * (end - middle)
            assert (shown[:, y, x] - expected).abs().max() <= 6, (row, column)
            checked += 1
    assert checked > SIDE * SIDE // 2
    step, modes, quality = (recorded[k][frame] for k in ("steps", "modes", "high_quality"))
    share = f"{100 * quality:.0f}\u00a0%"
    assert page.locator(f"{TAG} .numbers b").all_text_contents() == [f"{modes} of 8", share]
    text = (
        f"{recorded['label']}. Step {step}: {modes} of 8 modes found, {share} of the points of high quality."
    )
    label = page.locator(f"{TAG} .plane canvas").get_attribute("aria-label")
    assert label.startswith(
        "The plane from -3 to 3 in both directions, with 24 real and 24 generated points."
    )
    assert label.endswith(text)
    assert slider(page).get_attribute("aria-valuetext") == str(step)
    assert page.locator(f"{TAG} output").text_content() == str(step)


def test_it_starts_at_the_end_of_the_best_training_and_fetches_no_network(explorers, address, open_page):
    page, watch = open_page(address)
    check_shown(page, explorers[TAG], 0, 4)
    slider(page).focus()
    page.keyboard.press("Home")
    harness.wait_drawn(page, 0)
    assert not [path for path in watch.requests if "/ort/" in path or path.endswith(".onnx")]
    assert not watch.external and not watch.errors


MOUNT = """async meta => {
  const { mountRingExplorer } = await import(new URL('_static/explorer.js', location.href).href);
  const host = document.body.appendChild(document.createElement('div'));
  host.id = 'mounted';
  mountRingExplorer(host, meta);
}"""


def test_it_starts_with_the_frame_that_it_is_told(explorers, address, open_page):
    page, _ = open_page(address)
    page.evaluate(MOUNT, dict(explorers[TAG].meta, start={"run": 1, "frame": 2}))
    assert page.locator("#mounted .numbers b").all_text_contents() == ["8 of 8", "40\u00a0%"]
    assert slider(page, "#mounted").input_value() == "2"
    chosen = page.locator("#mounted select").evaluate_all("all => all.map(s => s.selectedOptions[0].text)")
    assert chosen == ["Minimax", "momentum, R1"]


def test_the_chart_holds_both_numbers_and_marks_the_step(explorers, address, open_page):
    page, _ = open_page(address)
    for n, (key, frame) in enumerate((("Home", 0), ("ArrowRight", 1), ("End", 4))):
        slider(page).press(key)
        harness.wait_drawn(page, n)
        mark = page.locator(f"{TAG} .chart .now").get_attribute("d")
        assert mark == f"M{25 * frame} 0V100"
    for run, frames in ((0, 5), (2, 4)):
        menu(page, "Loss").select_option(RUNS[run])
        recorded = explorers[TAG].meta["runs"][run]
        for name, values in (
            ("modes", [m / 8 for m in recorded["modes"]]),
            ("quality", recorded["high_quality"]),
        ):
            path = page.locator(f"{TAG} .chart path.{name}").get_attribute("d")
            points = [tuple(map(float, part.split())) for part in path[1:].split("L")]
            expected = [(100 * i / (frames - 1), 100 - 100 * v) for i, v in enumerate(values)]
            assert np.allclose(points, expected, atol=1e-6)
        ends = page.locator(f"{TAG} .chart + .ends span").all_text_contents()
        assert ends == ["step 100", f"step {100 * 2 ** (frames - 1)}"]


def test_keys_go_through_the_steps(explorers, address, open_page):
    page, watch = open_page(address)
    page.evaluate("window.leaked = []; document.addEventListener('keydown', e => window.leaked.push(e.key))")
    slider(page).focus()
    seen = []
    for n, (key, frame) in enumerate((("Home", 0), ("ArrowRight", 1), ("End", 4), ("ArrowLeft", 3))):
        page.keyboard.press(key)
        drawn = harness.wait_drawn(page, n)
        assert (drawn["run"], drawn["frame"]) == (0, frame)
        check_shown(page, explorers[TAG], 0, frame)
        spoken = page.locator(f"{TAG} [aria-live=polite]").text_content()
        modes, share = (0, 2, 8, 6, 6)[frame], f"{20 * frame}\u00a0%"
        assert spoken == (
            f"Minimax. Step {100 * 2**frame}: {modes} of 8 modes found, {share} of the points of high quality."
        )
        seen.append(plane(page))
    assert all((a - b).abs().max() > 50 for i, a in enumerate(seen) for b in seen[:i])
    assert page.evaluate("window.leaked") == []
    assert not watch.external and not watch.errors


def test_the_slider_is_dragged(explorers, address, open_page):
    page, _ = open_page(address)
    slider(page).scroll_into_view_if_needed()
    box = slider(page).bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    assert harness.wait_drawn(page, 0)["frame"] == 2
    check_shown(page, explorers[TAG], 0, 2)


def test_loss_and_setting_are_chosen(explorers, address, open_page):
    page, watch = open_page(address)
    options = "s => [...s.options].map(o => o.text)"
    assert menu(page, "Loss").evaluate(options) == ["Minimax", "Wasserstein"]
    assert menu(page, "Setting").evaluate(options) == ["plain", "momentum, R1"]
    menu(page, "Setting").select_option("r1")
    assert harness.wait_drawn(page, 0)["setting"] == "r1"
    check_shown(page, explorers[TAG], 1, 4)
    menu(page, "Loss").select_option(
        "wasserstein"
    )  # it was not recorded with that setting, and has a frame less
    assert harness.wait_drawn(page, 1)["loss"] == "wasserstein"
    check_shown(page, explorers[TAG], 2, 3)
    assert menu(page, "Setting").evaluate(options) == ["clipped"]
    assert page.locator(f"{TAG} .key .ends").text_content() == "lowesthighest"  # a score, no probability
    spoken = page.locator(f"{TAG} [aria-live=polite]").text_content()
    assert spoken.startswith("Wasserstein, clipped. Step 800: 6 of 8 modes found, 75\u00a0% of")
    menu(page, "Loss").focus()
    page.keyboard.press("ArrowUp")
    drawn = harness.wait_drawn(page, 2)
    assert (drawn["run"], drawn["frame"]) == (0, 3)
    check_shown(page, explorers[TAG], 0, 3)
    assert page.locator(f"{TAG} .key .ends").text_content() == "0: generated1: real"
    assert not watch.external and not watch.errors


def test_play_runs_from_the_first_step_to_the_last_and_stops(explorers, address, open_page):
    page, watch = open_page(address)
    play = page.locator(TAG).get_by_role("button")
    play.focus()
    page.keyboard.press("Enter")
    assert play.text_content() == "Pause"
    page.wait_for_function("!document.querySelector('[playing]')")
    frames = page.evaluate("window.drawn.map(d => d.frame)")
    assert frames == [0, 1, 2, 3, 4] and play.text_content() == "Play"
    times = page.evaluate("window.drawn.map(d => d.t1)")
    assert min(b - a for a, b in zip(times, times[1:])) > 150  # no flicker
    check_shown(page, explorers[TAG], 0, 4)
    assert page.locator(f"{TAG} [aria-live=polite]").text_content().startswith("Minimax. Step 1600")
    assert not watch.external and not watch.errors


def test_play_is_paused_by_its_button_and_by_the_slider(address, open_page):
    page, _ = open_page(address)
    play = page.locator(TAG).get_by_role("button")
    for stop in (lambda: play.click(), lambda: slider(page).press("ArrowLeft")):
        n = harness.count_drawn(page)
        play.click()
        page.wait_for_function("n => window.drawn.length > n + 1", arg=n)
        stop()
        assert not page.locator(TAG).evaluate("e => e.hasAttribute('playing')")
        n = harness.count_drawn(page)
        page.wait_for_timeout(600)
        assert harness.count_drawn(page) == n and play.text_content() == "Play"


def test_a_loss_is_chosen_while_it_plays(address, open_page):
    page, _ = open_page(address)
    page.locator(TAG).get_by_role("button").click()
    page.wait_for_function("window.drawn.length > 1")
    menu(page, "Loss").select_option("wasserstein")
    page.wait_for_function("!document.querySelector('[playing]')")
    last = page.evaluate("window.drawn.at(-1)")
    assert (last["run"], last["frame"]) == (2, 3)


def test_play_is_slow_where_less_motion_is_asked_for(address, open_page):
    page, _ = open_page(address)
    page.emulate_media(reduced_motion="reduce")
    play = page.locator(TAG).get_by_role("button")
    play.click()
    page.wait_for_timeout(1000)
    assert page.evaluate("window.drawn.map(d => d.frame)") == [0]
    page.wait_for_function("window.drawn.length > 1")
    times = page.evaluate("window.drawn.map(d => d.t1)")
    assert times[1] - times[0] > 1000
    play.click()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_plane_is_the_same_in_both_themes(theme, explorers, address, open_page):
    """Its colours are its own, as an image's; the words around it are the theme's."""
    page, _ = open_page(address, dark=theme == "dark")
    page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
    check_shown(page, explorers[TAG], 0, 4)
    ink = page.locator(f"{TAG} .numbers").evaluate("e => getComputedStyle(e).color")
    level = sum(map(int, ink[ink.index("(") + 1 : -1].split(",")[:3])) / 765
    assert level > 0.5 if theme == "dark" else level < 0.5


@pytest.mark.parametrize(("width", "least"), [(1280, 300), (390, 330)])
def test_the_plane_is_large_and_the_controls_can_be_touched(width, least, address, open_page):
    page, watch = open_page(address, width=width, touch=width < 500)
    box = page.locator(f"{TAG} .plane").bounding_box()
    assert box["width"] == pytest.approx(box["height"], abs=1) and box["width"] >= least
    for control in page.locator(f"{TAG} button, {TAG} select, {TAG} input").all():
        assert control.bounding_box()["height"] >= 24  # WCAG 2.2, 2.5.8
    assert slider(page).bounding_box()["y"] < box["y"] + box["height"] + 60  # beside what it changes
    assert not watch.external and not watch.errors


def test_the_running_kernel_shows_it_too(explorers, address, open_page, monkeypatch):
    page, watch = open_page(address)
    harness.mount_kernel(page, explorers[TAG], monkeypatch)
    slider(page, "#kernel").focus()
    page.keyboard.press("Home")
    drawn = harness.wait_drawn(page, 0)
    assert (drawn["run"], drawn["frame"]) == (0, 0)
    on_page = plane(page)
    slider(page).focus()
    page.keyboard.press("Home")
    harness.wait_drawn(page, 1)
    assert torch.equal(plane(page), plane(page, "#kernel")) and not torch.equal(plane(page), on_page)
    assert not watch.errors
