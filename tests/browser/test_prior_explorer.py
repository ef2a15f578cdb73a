"""The prior explorer in a browser: each code is drawn as PyTorch's logits say, and the reader can step in."""

import math

import harness
import pytest
import torch

from imagegen.prior import top_p_filter

TOLERANCE = 1e-4
TAG = "prior-explorer"
ROWS, COLUMNS = 6, 8
N = ROWS * COLUMNS
CANVAS = "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
CALL = """async ([name, ...given]) => {
  const module = await import(new URL('_static/explorer.js', location.href).href);
  const found = module[name](...given);
  const plain = ([k, v]) => [k, v?.length === undefined ? v : Array.from(v)];
  return typeof found === 'object' ? Object.fromEntries(Object.entries(found).map(plain)) : found;
}"""
MOUNT = """async ([meta, size]) => {
  const { mountPriorExplorer } = await import(new URL('_static/explorer.js', location.href).href);
  const host = document.body.appendChild(document.createElement('div'));
  host.id = 'mounted';
  window.decoded = [];
  const decode = async codes => { window.decoded.push(Array.from(codes)); return new Float32Array(2304).fill(0.5); };
  const prior = async (codes, labels, place) => new Float32Array(size).map((_, k) => (k * 7 + place) % 5);
  mountPriorExplorer(host, meta, { decode, prior, note: t => t, running: '' });
}"""


def uniform(seed: int, place: int) -> float:
    """What explorer.js says a seed gives at a place: triple32 of seed * 0x9e3779b1 + place, over 2^32."""
    t = (seed * 0x9E3779B1 + place) % 2**32
    for shift, factor in ((17, 0xED5AD4BB), (11, 0xAC4C1B51), (15, 0x31848BAB)):
        t = (t ^ t >> shift) * factor % 2**32
    return (t ^ t >> 14) / 2**32


def shares(logits: list[float], temperature: float = 1.0, top_p: float = 1.0) -> torch.Tensor:
    """Return the probabilities (K,) that `imagegen.prior` draws with, in float64."""
    scaled = torch.tensor(logits, dtype=torch.float64) / (temperature or 1.0)
    if temperature == 0:
        return torch.nn.functional.one_hot(scaled.argmax(), len(logits)).double()
    return torch.softmax(top_p_filter(scaled, top_p), dim=-1)


def draw(probabilities: torch.Tensor, u: float) -> int:
    """Return the code at which the summed probabilities exceed u."""
    return int((probabilities.cumsum(0) > u).nonzero()[0])


def logits(explorer, codes: list[float], place: int, labels: list[float]) -> torch.Tensor:
    """Return what the prior itself says, not through the explorer: (K,)."""
    grid = torch.tensor(codes).long().reshape(1, ROWS, COLUMNS)
    with torch.inference_mode():
        found = explorer._network.prior(grid, labels=torch.tensor([labels]).long())
    return found[0].flatten(1)[:, place]


def check_drawn(page, explorer, drawn: dict) -> None:
    """The logits are the prior's for these codes and labels; the pixels are the decoder's, on the canvas too."""
    assert drawn["tag"] == TAG
    at, codes = drawn["filled"], drawn["codes"]
    assert codes[at:] == [explorer.meta["fill"]] * (N - at)
    if at < N:
        expected = logits(explorer, codes, at, drawn["labels"])
        assert (torch.tensor(drawn["logits"]) - expected).abs().max() <= TOLERANCE
    if drawn["pixels"] is not None:
        expected = explorer.decode(torch.tensor([codes]))[0]
        assert (torch.tensor(drawn["pixels"]) - expected.flatten()).abs().max() <= TOLERANCE


def shown(page, selector: str = f"{TAG} .board canvas") -> torch.Tensor:
    found = page.locator(selector).first
    return (
        torch.tensor(found.evaluate(CANVAS)).reshape(found.evaluate("c => c.height"), -1, 4).permute(2, 0, 1)
    )


def press(page, name: str) -> None:
    page.locator(TAG).get_by_role("button", name=name, exact=True).click()


def set_slider(page, name: str, value: float) -> None:
    page.locator(TAG).get_by_role("slider", name=name, exact=True).fill(str(value))


def wait_rest(page, timeout: float = 60_000) -> list[dict]:
    """Wait until nothing plays and nothing is computed; return all drawings."""
    page.wait_for_function("!document.querySelector('[playing], [drawing]')", timeout=timeout)
    return page.evaluate("window.drawn")


def tap(page, place: int) -> None:
    board = page.locator(f"{TAG} .board")
    box = board.bounding_box()
    x, y = (place % COLUMNS + 0.5) * box["width"] / COLUMNS, (place // COLUMNS + 0.5) * box["height"] / ROWS
    board.click(position={"x": x, "y": y})


def candidates(page, selector: str = TAG) -> list[str]:
    return page.locator(f"{selector} .odds button").evaluate_all(
        "all => all.map(b => b.ariaLabel ?? b.getAttribute('aria-label'))"
    )


def test_the_numbers_depend_on_what_came_before_and_on_the_labels(explorers):
    """The checks here have power: another code or label before a place moves its logits by far more than is allowed."""
    explorer = explorers[TAG]
    codes = explorer.meta["examples"][0]["codes"]
    base = logits(explorer, codes, 20, [0, 0])
    others = [
        logits(explorer, [*codes[:19], k, *codes[20:]], 20, [0, 0]) for k in range(30) if k != codes[19]
    ]
    others += [logits(explorer, codes, 20, labels) for labels in ([1, 0], [-1, 0], [0, 2], [-1, -1])]
    assert min((other - base).abs().max() for other in others) > 100 * TOLERANCE
    assert logits(explorer, [*codes[:20], 0, *codes[21:]], 20, [0, 0]).equal(base)


def test_it_starts_half_filled_before_anything_is_fetched(explorers, address, open_page):
    page, watch = open_page(address)
    explorer = explorers[TAG]
    start = explorer.meta["start"]
    assert not [path for path in watch.requests if "/ort/" in path or path.endswith(".onnx")]
    assert len(start["codes"]) == 24 and start["labels"] == [0, 0]
    codes = start["codes"] + [explorer.meta["fill"]] * 24
    expected = explorer.decode(torch.tensor([codes]))[0]
    assert (shown(page)[:3] - expected * 255).abs().max() <= 0.51
    veil = shown(page, f"{TAG} .over")[3]
    height = veil.shape[0]
    assert (
        (veil[height // 2 + 5 :] > 150).float().mean()
        > 0.95
        > 0.3
        > (veil[: height // 2 - 5] > 150).float().mean()
    )
    p = shares(logits(explorer, codes, 24, [0, 0]).tolist())
    assert [int(text.split()[1][:-1]) for text in candidates(page)] == p.argsort(descending=True)[:8].tolist()
    assert not watch.external and not watch.errors


def test_odds_are_those_of_the_package(address, open_page):
    """Temperature first, then top-p, then the sum is 1 again: as `imagegen.prior` draws."""
    page, _ = open_page(address)
    generator = torch.Generator().manual_seed(0)
    for temperature, top_p in ((1, 1), (0.5, 0.9), (1.5, 0.3), (0.1, 0.05), (1, 0.999), (0, 1), (0, 0.4)):
        row = (3 * torch.randn(40, generator=generator)).tolist()
        found = page.evaluate(CALL, ["odds", row, temperature, top_p])
        expected = shares(row, temperature, top_p)
        assert torch.allclose(torch.tensor(found["drawn"], dtype=torch.float64), expected, atol=1e-12)
        assert found["kept"] == int((expected > 0).sum())
        tempered = torch.softmax(torch.tensor(row, dtype=torch.float64) / (temperature or 1), 0)
        assert torch.allclose(torch.tensor(found["tempered"], dtype=torch.float64), tempered, atol=1e-12)
        assert found["order"] == tempered.argsort(descending=True, stable=True).tolist()
    assert page.evaluate(CALL, ["odds", [0, 0, 0, 0], 1, 0.5])["drawn"] == [
        0.5,
        0.5,
        0,
        0,
    ]  # of equals the first


def test_a_seeds_numbers_are_uniform_and_repeat(address, open_page):
    page, _ = open_page(address)
    pairs = [(seed, place) for seed in range(12) for place in range(64)]
    found = [page.evaluate(CALL, ["uniform", *pair]) for pair in pairs[::97]]
    assert found == [uniform(*pair) for pair in pairs[::97]]
    values = torch.tensor([uniform(*pair) for pair in pairs], dtype=torch.float64).sort().values
    steps = (torch.arange(len(values)) + 0.5) / len(values)
    assert (values - steps).abs().max() < 1.63 / math.sqrt(len(values))  # Kolmogorov-Smirnov at 1 %
    assert page.evaluate(CALL, ["drawCode", [0, 0.25, 0, 0.75], 0.2]) == 1
    assert page.evaluate(CALL, ["drawCode", [0, 0.25, 0, 0.75], 0.25]) == 3
    assert page.evaluate(CALL, ["drawCode", [0, 0.3, 0.6, 0], 0.95]) == 2  # sums that rounding leaves below u


def test_a_step_draws_one_code(explorers, address, open_page):
    page, watch = open_page(address)
    explorer = explorers[TAG]
    start = explorer.meta["start"]
    press(page, "Step")
    drawn = harness.wait_drawn(page, 0)
    check_drawn(page, explorer, drawn)
    assert drawn["filled"] == 25 and drawn["codes"][:24] == start["codes"]
    assert drawn["codes"][24] == draw(shares(start["logits"]), uniform(1, 24))
    expected = explorer.decode(torch.tensor([drawn["codes"]]))[0]
    assert (shown(page)[:3] - expected * 255).abs().max() <= 0.51
    spoken = page.locator(f"{TAG} [aria-live=polite]").text_content()
    assert spoken.startswith(f"Code {drawn['codes'][24]:.0f} drawn, at ") and spoken.endswith("; 25 of 48.")
    top = shares(drawn["logits"]).argsort(descending=True)[:8].tolist()
    assert [int(text.split()[1][:-1]) for text in candidates(page)] == top
    assert not watch.external and not watch.errors


def fill(page, explorer, *, temperature: float = 1.0, top_p: float = 1.0, seed: int = 1) -> dict:
    """Press "Fill the rest", check every step of it, and return the last drawing."""
    before = harness.count_drawn(page)
    press(page, "Fill the rest")
    steps = wait_rest(page)[before:]
    assert steps[-1]["filled"] == N
    for now, then in zip(steps, steps[1:]):
        at = now["filled"]
        check_drawn(page, explorer, now)
        assert then["filled"] == at + 1 and then["codes"][:at] == now["codes"][:at]
        assert then["codes"][at] == draw(shares(now["logits"], temperature, top_p), uniform(seed, at))
    check_drawn(page, explorer, steps[-1])
    assert steps[-1]["pixels"] is not None
    return steps[-1]


def test_the_rest_is_filled_as_the_logits_say(explorers, address, open_page):
    page, watch = open_page(address)
    explorer = explorers[TAG]
    press(page, "Clear")
    harness.wait_drawn(page, 0)
    first = fill(page, explorer)
    assert len(set(first["codes"])) > 5
    press(page, "Clear")
    again = fill(page, explorer)
    assert again["codes"] == first["codes"]  # a seed repeats
    press(page, "Clear")
    page.locator(TAG).get_by_role("spinbutton", name="Seed").fill("77")
    other = fill(page, explorer, seed=77)
    assert other["codes"] != first["codes"]
    press(page, "Fill the rest")  # a full grid: the next seed, from where this one began
    last = wait_rest(page)[-1]
    assert last["seed"] == 78 and last["filled"] == N and last["codes"] != other["codes"]
    assert not watch.external and not watch.errors


def test_temperature_and_top_p_bend_the_draw(explorers, address, open_page):
    page, _ = open_page(address)
    explorer = explorers[TAG]
    start = explorer.meta["start"]["logits"]
    set_slider(page, "Temperature", 0.7)
    set_slider(page, "Top-p", 0.9)
    expected = shares(start, 0.7, 0.9)
    kept = int((expected > 0).sum())
    assert 1 < kept < 8
    cut = [text.endswith(", cut off") for text in candidates(page)]
    assert cut == [False] * kept + [True] * (8 - kept)
    told = page.locator(f"{TAG} .odds .share").evaluate_all("all => all.map(e => e.textContent)")
    for text, p in zip(told[:kept], expected.sort(descending=True).values):
        assert float(text.split("\u00a0")[0]) == pytest.approx(100 * p.item(), abs=0.51)
    assert told[kept:] == ["cut"] * (8 - kept)
    assert f"One of {kept} codes" in page.locator(f"{TAG} .name").first.text_content()
    fill(page, explorer, temperature=0.7, top_p=0.9)
    press(page, "Clear")
    set_slider(page, "Temperature", 0)
    fill(page, explorer, temperature=0)


def test_labels_tell_the_prior_what_to_draw(explorers, address, open_page):
    page, watch = open_page(address)
    explorer = explorers[TAG]
    menu = lambda name: page.locator(TAG).get_by_role("combobox", name=name, exact=True)  # noqa: E731
    for n, (name, option, labels) in enumerate(
        (
            ("kind", "dress", [3, 0]),
            ("sleeve length", "any", [3, -1]),
            ("kind", "any", [-1, -1]),
            ("sleeve length", "long", [-1, 2]),
        )
    ):
        menu(name).select_option(label=option)
        drawn = harness.wait_drawn(page, n)
        assert drawn["labels"] == labels
        check_drawn(page, explorer, drawn)
    assert drawn["filled"] == 24  # what is drawn stays
    fill(page, explorer)
    assert not watch.external and not watch.errors


def test_going_back_clears_what_came_after_and_keeps_what_came_before(explorers, address, open_page):
    page, watch = open_page(address)
    explorer = explorers[TAG]
    whole = fill(page, explorer)
    n = harness.count_drawn(page)
    tap(page, 18)
    drawn = harness.wait_drawn(page, n)
    assert drawn["filled"] == 18 and drawn["codes"][:18] == whole["codes"][:18]
    check_drawn(page, explorer, drawn)
    other = next(
        int(text.split()[1][:-1])
        for text in candidates(page)
        if int(text.split()[1][:-1]) != whole["codes"][18]
    )
    page.locator(TAG).get_by_role("button", name=f"Code {other}:").click()  # by hand, then the prior goes on
    drawn = harness.wait_drawn(page, n + 1)
    assert drawn["codes"][:19] == [*whole["codes"][:18], other]
    check_drawn(page, explorer, drawn)
    completed = fill(page, explorer)
    assert completed["codes"][:19] == drawn["codes"][:19]
    n = harness.count_drawn(page)
    tap(page, 40)
    assert harness.wait_drawn(page, n)["filled"] == 40
    tap(page, 44)
    page.wait_for_timeout(100)
    assert harness.count_drawn(page) == n + 1  # nothing to go back to
    assert "Row 6, column 5 has no code yet." in page.locator(f"{TAG} [role=status]").text_content()
    assert not watch.external and not watch.errors


def test_the_first_rows_of_an_example_are_kept_and_continued(explorers, address, open_page):
    page, watch = open_page(address)
    explorer = explorers[TAG]
    examples = explorer.meta["examples"]
    page.locator(TAG).get_by_role("radio", name="Example 2").click()
    drawn = harness.wait_drawn(page, 0)
    assert drawn["filled"] == 24 and drawn["codes"][:24] == examples[1]["codes"][:24]
    assert drawn["labels"] == examples[1]["labels"]
    set_slider(page, "Rows kept", 2)
    drawn = harness.wait_drawn(page, 1)
    assert drawn["filled"] == 16 and drawn["codes"][:16] == examples[1]["codes"][:16]
    check_drawn(page, explorer, drawn)
    assert fill(page, explorer)["codes"][:16] == examples[1]["codes"][:16]
    press(page, "Play")  # another completion of the same rows
    page.wait_for_function("window.drawn.at(-1).filled > 18")
    press(page, "Pause")
    drawn = wait_rest(page)[-1]
    assert 18 < drawn["filled"] < N and drawn["codes"][:16] == examples[1]["codes"][:16]
    assert not watch.external and not watch.errors


def test_play_shows_every_code_and_pauses(explorers, address, open_page):
    page, _ = open_page(address)
    set_slider(page, "Codes a second", 20)
    press(page, "Play")
    page.wait_for_function("window.drawn.length >= 5")
    press(page, "Pause")
    steps = wait_rest(page)
    assert [step["filled"] for step in steps] == list(range(25, 25 + len(steps)))
    assert all(step["pixels"] is not None for step in steps)  # the picture follows every code
    page.wait_for_timeout(300)
    assert harness.count_drawn(page) == len(steps)
    assert page.locator(TAG).get_by_role("button", name="Play", exact=True).count() == 1


def test_with_reduced_motion_play_shows_whole_rows(explorers, address, open_page):
    page, _ = open_page(address)
    page.emulate_media(reduced_motion="reduce")
    page.evaluate(MOUNT, [explorers[TAG].meta, 30])
    page.locator("#mounted").get_by_role("slider", name="Codes a second").fill("30")
    page.locator("#mounted").get_by_role("button", name="Play").click()
    page.wait_for_function("window.drawn.at(-1)?.filled === 48")
    wait_rest(page)
    fill_code = explorers[TAG].meta["fill"]
    pictures = page.evaluate("window.decoded")
    assert len(pictures) == 3 and pictures[0][32:] == [fill_code] * 16 and pictures[1][40:] == [fill_code] * 8


def test_keys_alone_sample_and_go_back(explorers, address, open_page):
    page, watch = open_page(address)
    page.evaluate("window.leaked = []; document.addEventListener('keydown', e => window.leaked.push(e.key))")
    explorer = explorers[TAG]
    board = page.locator(TAG).get_by_role(
        "slider", name="Picture decoded from 6 by 8 codes, 24 of them drawn"
    )
    board.focus()
    focused = "b => b.getRootNode().activeElement === b"
    for name in ("Play", "Step"):
        page.keyboard.press("Tab")
        assert page.locator(TAG).get_by_role("button", name=name, exact=True).evaluate(focused)
    page.keyboard.press("Enter")
    assert harness.wait_drawn(page, 0)["filled"] == 25
    page.keyboard.press("Space")
    assert harness.wait_drawn(page, 1)["filled"] == 26
    first = page.locator(f"{TAG} .odds button").first
    first.focus()
    code = int(first.get_attribute("aria-label").split()[1][:-1])
    page.keyboard.press("Enter")
    drawn = harness.wait_drawn(page, 2)
    assert drawn["filled"] == 27 and drawn["codes"][26] == code
    assert first.evaluate(focused)  # so that Enter chooses the likeliest again and again
    board = page.locator(f"{TAG} .board")
    board.focus()
    for key, text in (
        ("Home", f"Row 1, column 1: code {drawn['codes'][0]:.0f}"),
        ("ArrowDown", f"Row 2, column 1: code {drawn['codes'][8]:.0f}"),
        ("ArrowRight", f"Row 2, column 2: code {drawn['codes'][9]:.0f}"),
        ("End", "Row 6, column 8: not drawn yet"),
    ):
        page.keyboard.press(key)
        assert board.get_attribute("aria-valuetext") == text
    for key in ("Home", "ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    back = harness.wait_drawn(page, 3)
    assert back["filled"] == 9 and back["codes"][:9] == drawn["codes"][:9]
    assert board.get_attribute("aria-valuetext") == "Row 2, column 2: next to be drawn"
    check_drawn(page, explorer, back)
    assert set(page.evaluate("window.leaked")) == {"Tab"}
    assert not watch.external and not watch.errors


def test_touch_on_a_phone(explorers, address, open_page):
    page, watch = open_page(address, width=390, height=844, touch=True)
    page.locator(TAG).get_by_role("button", name="Step", exact=True).tap()
    check_drawn(page, explorers[TAG], harness.wait_drawn(page, 0))
    box = page.locator(f"{TAG} .board").bounding_box()
    page.locator(f"{TAG} .board").tap(
        position={"x": 1.5 * box["width"] / COLUMNS, "y": 0.5 * box["height"] / ROWS}
    )
    assert harness.wait_drawn(page, 1)["filled"] == 1
    for control in page.locator(f"{TAG} button, {TAG} select, {TAG} input").all():
        assert control.bounding_box()["height"] >= 24  # WCAG 2.2, 2.5.8
    assert not watch.external and not watch.errors


def test_a_prior_that_fails_is_told_and_play_stops(explorers, address, open_page):
    page, _ = open_page(address)
    page.evaluate(MOUNT, [explorers[TAG].meta, 7])
    page.locator("#mounted").get_by_role("button", name="Play").click()
    status = page.locator("#mounted [role=status].error")
    status.wait_for()
    assert "the prior gave 7 values, expected 30" in status.text_content()
    page.locator("#mounted").get_by_role("button", name="Play").wait_for()


def test_the_running_kernel_samples(explorers, address, open_page, monkeypatch):
    page, watch = open_page(address)
    explorer = explorers[TAG]
    harness.mount_kernel(page, explorer, monkeypatch)
    page.locator("#kernel").get_by_role("combobox", name="kind").select_option(label="any")
    drawn = harness.wait_drawn(page, 0)
    assert torch.equal(torch.tensor(drawn["logits"]), logits(explorer, drawn["codes"], 24, [-1, 0]))
    page.locator("#kernel").get_by_role("button", name="Step").click()
    stepped = harness.wait_drawn(page, 1)
    assert stepped["codes"][24] == draw(shares(drawn["logits"]), uniform(1, 24))
    assert torch.equal(
        torch.tensor(stepped["pixels"]), explorer.decode(torch.tensor([stepped["codes"]])).flatten()
    )
    assert page.locator("#kernel [role=status]").text_content() == "Computed by the running kernel."
    assert not [path for path in watch.requests if path.endswith(".onnx")]
