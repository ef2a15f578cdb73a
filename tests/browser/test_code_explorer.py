"""The code explorer in a browser: cells, codes and regions are chosen by pointer and keys; the pixels are PyTorch's."""

import harness
import pytest
import torch

TOLERANCE = 1e-4
TAG = "code-explorer"
ROWS, COLUMNS = 6, 8
LEVEL = 1 / 255
CANVAS = "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
MOUNT = """async ([meta, pixels]) => {
  const { mountCodeExplorer } = await import(new URL('_static/explorer.js', location.href).href);
  const decode = async () => Float32Array.from(pixels);
  const host = document.body.appendChild(document.createElement('div'));
  host.id = 'mounted';
  mountCodeExplorer(host, meta, { decode, note: t => t, running: '' });
}"""


def own(explorer, image: int = 0) -> torch.Tensor:
    """Return the codes (N,) of one of the images."""
    return torch.tensor(explorer.meta["images"][image]["codes"])


def canvas(page, selector: str) -> torch.Tensor:
    """Return a canvas as (4, H, W): red, green, blue, opacity."""
    found = page.locator(selector).first
    return (
        torch.tensor(found.evaluate(CANVAS)).reshape(found.evaluate("c => c.height"), -1, 4).permute(2, 0, 1)
    )


def check_drawn(page, explorer, drawn: dict, codes: torch.Tensor) -> None:
    """What was drawn is what the model decodes from these codes, as numbers and on the canvas."""
    assert drawn["tag"] == TAG
    assert drawn["codes"] == codes.tolist()
    expected = explorer.decode(codes[None])[0]
    assert (torch.tensor(drawn["pixels"]) - expected.flatten()).abs().max() <= TOLERANCE
    shown = canvas(page, f"{TAG} .board canvas")
    assert (shown[:3] - expected * 255).abs().max() <= 0.51 and shown[3].min() == 255


def tap(page, row: int, column: int, *, touch: bool = False) -> None:
    """Tap the middle of a cell of the picture."""
    board = page.locator(f"{TAG} .board").first
    box = board.bounding_box()
    spot = {"x": (column + 0.5) * box["width"] / COLUMNS, "y": (row + 0.5) * box["height"] / ROWS}
    (board.tap if touch else board.click)(position=spot)


def choose(page, explorer, code: int, *, touch: bool = False) -> None:
    """Tap a code of the codebook, where the order says that it is."""
    book, sheet = explorer.meta["book"], page.locator(f"{TAG} .sheet")
    box, place = sheet.bounding_box(), book["order"].index(code)
    rows = -(-book["codes"] // book["columns"])
    spot = {
        "x": (place % book["columns"] + 0.5) * box["width"] / book["columns"],
        "y": (place // book["columns"] + 0.5) * box["height"] / rows,
    }
    (sheet.tap if touch else sheet.click)(position=spot)


def said(page, what: str = ".board") -> str:
    return page.locator(f"{TAG} {what}").first.get_attribute("aria-valuetext")


def button(page, name: str):
    return page.locator(TAG).get_by_role("button", name=name, exact=True)


def test_every_code_of_every_cell_would_be_seen(explorers):
    """The checks here have power: any other code in any cell moves some pixel by far more than is allowed."""
    explorer = explorers[TAG]
    codes = own(explorer)
    assert len(codes.unique()) > 5
    for cell in (0, 13, 47):
        grids = codes.repeat(30, 1)
        grids[:, cell] = torch.arange(30)
        assert torch.pdist(explorer.decode(grids).flatten(1), p=float("inf")).min() > 20 * TOLERANCE


def test_a_picture_is_there_before_anything_is_fetched(explorers, address, open_page):
    page, watch = open_page(address)
    assert not [path for path in watch.requests if "/ort/" in path or path.endswith(".onnx")]
    expected = explorers[TAG].decode(own(explorers[TAG])[None])[0]
    assert (canvas(page, f"{TAG} .board canvas")[:3] - expected * 255).abs().max() <= 0.51
    assert not watch.external and not watch.errors


def test_the_codebook_is_drawn_in_its_order(explorers, address, open_page):
    """Each patch on the one canvas is the middle cell of a grid of that code alone."""
    page, _ = open_page(address)
    explorer, sheet = explorers[TAG], canvas(page, f"{TAG} .sheet canvas")
    book = explorer.meta["book"]
    assert sorted(book["order"]) == list(range(30)) and book["order"] != sorted(book["order"])
    assert page.locator(f"{TAG} .sheet *").count() == 2  # one canvas and one mark, however many codes
    for place, code in enumerate(book["order"]):
        expected = explorer.decode(torch.full((1, ROWS * COLUMNS), code))[0, :, 12:16, 16:20]
        top, left = (1 + 5 * i for i in divmod(place, book["columns"]))
        assert (sheet[:3, top : top + 4, left : left + 4] - expected * 255).abs().max() <= 0.51


def test_tapping_a_cell_tells_its_code(explorers, address, open_page):
    page, watch = open_page(address)
    explorer = explorers[TAG]
    every = torch.stack([own(explorer, i) for i in range(5)])
    for row, column in ((0, 0), (2, 7), (5, 3)):
        tap(page, row, column)
        code = own(explorer)[row * COLUMNS + column].item()
        uses = (every == code).sum().item()
        often = "once" if uses == 1 else f"{uses} times"
        assert (
            said(page) == f"Row {row + 1}, column {column + 1}: code {code}, used {often} in these 5 images"
        )
        assert said(page, ".sheet") == f"code {code}, used {often} in these 5 images"
        assert page.locator(f"{TAG} .told").text_content() == said(page) + "."
    assert not [path for path in watch.requests if path.endswith(".onnx")]  # only looking computes nothing


def test_choosing_a_code_decodes_the_picture_again(explorers, address, open_page):
    page, watch = open_page(address)
    explorer = explorers[TAG]
    codes = own(explorer)
    for n, (row, column, code) in enumerate(((1, 6, 29), (4, 0, 3), (1, 6, 11))):
        assert codes[row * COLUMNS + column] != code
        tap(page, row, column)
        choose(page, explorer, code)
        codes[row * COLUMNS + column] = code
        check_drawn(page, explorer, harness.wait_drawn(page, n), codes)
        assert f"Row {row + 1}, column {column + 1}: code {code}," in said(page)
    assert not watch.external and not watch.errors


def test_what_changed_is_what_differs(explorers, address, open_page):
    """More than the cell: the decoder's receptive field. The told number and the outline are of these pixels."""
    page, _ = open_page(address)
    explorer, codes = explorers[TAG], own(explorers[TAG])
    tap(page, 3, 4)
    choose(page, explorer, 29)
    drawn = harness.wait_drawn(page, 0)
    changed = codes.clone()
    changed[3 * COLUMNS + 4] = 29
    before, after = explorer.decode(torch.stack([codes, changed]))
    difference = (after - before).abs().amax(0)
    mask = torch.tensor(list(drawn["mask"].values()) if isinstance(drawn["mask"], dict) else drawn["mask"])
    clear = (difference - LEVEL).abs().flatten() > 1e-5  # not so near the limit that rounding decides
    assert torch.equal((mask == 1)[clear], (difference > LEVEL).flatten()[clear])
    inside = difference[12:16, 16:20] > LEVEL
    assert inside.all() and (difference > LEVEL).sum() > 4 * inside.numel()
    assert f"{int(mask.sum())} of 768 pixels changed; the replaced code stands for 16." in (
        page.locator(f"{TAG} .told").text_content()
    )
    with_outline = canvas(page, f"{TAG} .over")
    button(page, "Outline changes").click()
    without = canvas(page, f"{TAG} .over")
    moved = (with_outline != without).any(0)
    top, left, scale = 12, 16, 720 / 32
    assert (
        moved.any()
        and not moved[int(top * scale) + 9 : int((top + 4) * scale) - 9, int(left * scale) + 9 :][
            :, :60
        ].any()
    )
    button(page, "Grid").click()
    assert (canvas(page, f"{TAG} .over")[3] > 0).sum() < (without[3] > 0).sum()


def test_keys_choose_cells_and_codes_and_stay_here(explorers, address, open_page):
    page, watch = open_page(address)
    page.evaluate("window.leaked = []; document.addEventListener('keydown', e => window.leaked.push(e.key))")
    explorer, book = explorers[TAG], explorers[TAG].meta["book"]
    board = page.locator(TAG).get_by_role("slider", name="Picture decoded from 6 by 8 codes: painting a")
    board.focus()
    for key, place in (
        ("Home", (1, 1)),
        ("ArrowRight", (1, 2)),
        ("ArrowDown", (2, 2)),
        ("ArrowUp", (1, 2)),
        ("End", (6, 8)),
    ):
        page.keyboard.press(key)
        assert said(page).startswith(f"Row {place[0]}, column {place[1]}: code ")
    page.keyboard.press("ArrowRight")  # the edge
    assert said(page).startswith("Row 6, column 8")
    for name in ("Grid", "Outline changes", "Undo", "Reset", "Choose a code", "Copy from another image"):
        page.keyboard.press("Tab")
        assert button(page, name).evaluate("b => b.getRootNode().activeElement === b")
    page.keyboard.press("Tab")
    sheet = page.locator(TAG).get_by_role("slider", name="Codebook: 30 codes")
    assert sheet.evaluate("s => s.getRootNode().activeElement === s")
    codes = own(explorer)
    for n, (key, place) in enumerate(
        (("Home", 0), ("ArrowRight", 1), ("ArrowDown", 13), ("End", 29), ("ArrowLeft", 28))
    ):
        page.keyboard.press(key)
        codes[-1] = book["order"][place]
        check_drawn(page, explorer, harness.wait_drawn(page, n), codes)
        assert sheet.get_attribute("aria-valuenow") == str(place)
    assert set(page.evaluate("window.leaked")) == {"Tab"}
    assert (
        page.locator(f"{TAG} [aria-live=polite]")
        .text_content()
        .strip()
        .endswith("the replaced code stands for 16.")
    )
    button(page, "Undo").press("Enter")  # what was tried in one cell is undone at once
    check_drawn(page, explorer, harness.wait_drawn(page, 5), own(explorer))
    assert not watch.external and not watch.errors


def test_undo_and_reset(explorers, address, open_page):
    page, _ = open_page(address)
    explorer = explorers[TAG]
    states = [own(explorer)]
    for n, (row, column, code) in enumerate(((0, 1, 20), (5, 5, 21), (0, 1, 22))):
        tap(page, row, column)
        choose(page, explorer, code)
        harness.wait_drawn(page, n)
        states.append(states[-1].clone())
        states[-1][row * COLUMNS + column] = code
    for n, state in enumerate(states[2::-1]):
        button(page, "Undo").click()
        check_drawn(page, explorer, harness.wait_drawn(page, 3 + n), state)
    button(page, "Undo").click()
    assert page.locator(f"{TAG} [role=status]").text_content() == "There is nothing to undo."
    choose(page, explorer, 7)
    harness.wait_drawn(page, 6)
    button(page, "Reset").click()
    check_drawn(page, explorer, harness.wait_drawn(page, 7), own(explorer))


def drag(page, start: tuple[int, int], end: tuple[int, int]) -> None:
    board = page.locator(f"{TAG} .board").first
    board.scroll_into_view_if_needed()
    box = board.bounding_box()
    for act, (row, column) in (("move", start), ("down", start), ("move", end), ("up", end)):
        x = box["x"] + (column + 0.5) * box["width"] / COLUMNS
        y = box["y"] + (row + 0.5) * box["height"] / ROWS
        page.mouse.move(x, y, steps=3) if act == "move" else getattr(page.mouse, act)()


@pytest.mark.parametrize("by", ["pointer", "keys"])
def test_a_region_is_pasted_from_another_image(by, explorers, address, open_page):
    page, watch = open_page(address)
    explorer = explorers[TAG]
    page.locator(TAG).get_by_role("button", name="Copy from another image").click()
    harness.wait_drawn(page, 0)
    assert not page.locator(f"{TAG} .sheet").is_visible()
    page.locator(TAG).get_by_role("radiogroup", name="Image to copy from").get_by_role("radio").nth(3).click()
    harness.wait_drawn(page, 1)
    second = explorer.decode(own(explorer, 3)[None])[0]
    assert (canvas(page, f"{TAG} .board[role=img] canvas")[:3] - second * 255).abs().max() <= 0.51
    if by == "pointer":
        drag(page, (3, 6), (1, 2))
    else:
        page.locator(f"{TAG} .board").first.focus()
        for key in (
            "Home",
            "ArrowDown",
            "ArrowDown",
            "ArrowDown",
            *["ArrowRight"] * 6,
            *["Shift+ArrowUp"] * 2,
            *["Shift+ArrowLeft"] * 4,
        ):
            page.keyboard.press(key)
    assert said(page) == "3 by 5 codes from row 2, column 3 on"
    button(page, "Paste region").click()
    expected = own(explorer).reshape(ROWS, COLUMNS).clone()
    expected[1:4, 2:7] = own(explorer, 3).reshape(ROWS, COLUMNS)[1:4, 2:7]
    assert not torch.equal(expected.flatten(), own(explorer))
    check_drawn(page, explorer, harness.wait_drawn(page, 2), expected.flatten())
    button(page, "Undo").click()
    check_drawn(page, explorer, harness.wait_drawn(page, 3), own(explorer))
    assert not watch.external and not watch.errors


def test_a_code_fills_the_chosen_region(explorers, address, open_page):
    page, _ = open_page(address)
    drag(page, (4, 1), (5, 3))
    choose(page, explorers[TAG], 8)
    expected = own(explorers[TAG]).reshape(ROWS, COLUMNS).clone()
    expected[4:6, 1:4] = 8
    check_drawn(page, explorers[TAG], harness.wait_drawn(page, 0), expected.flatten())


def test_another_image_begins_anew(explorers, address, open_page):
    page, watch = open_page(address)
    choose(page, explorers[TAG], 8)
    harness.wait_drawn(page, 0)
    page.locator(TAG).get_by_role("radio", name="painting c, number 3").click()
    check_drawn(page, explorers[TAG], harness.wait_drawn(page, 1), own(explorers[TAG], 2))
    assert "painting c, number 3" in page.locator(f"{TAG} .board").first.get_attribute("aria-label")
    page.keyboard.press("ArrowRight")
    check_drawn(page, explorers[TAG], harness.wait_drawn(page, 2), own(explorers[TAG], 3))
    assert not watch.external and not watch.errors


def test_touch_on_a_phone(explorers, address, open_page):
    page, watch = open_page(address, width=390, height=844, touch=True)
    explorer, book = explorers[TAG], explorers[TAG].meta["book"]
    tap(page, 2, 2, touch=True)
    choose(page, explorer, 29, touch=True)
    codes = own(explorer)
    codes[2 * COLUMNS + 2] = 29
    check_drawn(page, explorer, harness.wait_drawn(page, 0), codes)
    assert page.locator(f"{TAG} .sheet").bounding_box()["width"] / book["columns"] >= 24  # WCAG 2.2, 2.5.8
    for control in page.locator(f"{TAG} button:visible").all():
        assert control.bounding_box()["height"] >= 24
    board = page.locator(f"{TAG} .board").first
    assert board.evaluate("e => getComputedStyle(e).touchAction") == "none"  # a drag chooses a region
    assert (
        page.locator(f"{TAG} .sheet").evaluate("e => getComputedStyle(e).touchAction") == "auto"
    )  # and here scrolls
    assert not watch.external and not watch.errors


def test_a_decoder_that_fails_is_told(explorers, address, open_page):
    page, _ = open_page(address)
    page.evaluate(MOUNT, [explorers[TAG].meta, [0.5] * 7])
    page.locator("#mounted").get_by_role("slider", name="Codebook").press("ArrowLeft")
    status = page.locator("#mounted [role=status].error")
    status.wait_for()
    assert "the decoder gave 7 values, expected 2304" in status.text_content()


def test_the_running_kernel_decodes(explorers, address, open_page, monkeypatch):
    page, watch = open_page(address)
    explorer = explorers[TAG]
    harness.mount_kernel(page, explorer, monkeypatch)
    page.locator("#kernel").get_by_role("slider", name="Codebook").press("End")
    drawn = harness.wait_drawn(page, 0)
    codes = own(explorer)
    codes[ROWS // 2 * COLUMNS + COLUMNS // 2] = explorer.meta["book"]["order"][-1]
    assert drawn["codes"] == codes.tolist()
    assert torch.equal(torch.tensor(drawn["pixels"]), explorer.decode(codes[None]).flatten())
    assert page.locator("#kernel [role=status]").text_content() == "Computed by the running kernel."
    assert not [path for path in watch.requests if path.endswith(".onnx")]
