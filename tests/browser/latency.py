"""Measure how long an explorer takes from a pointer's move, a menu's change or a key to the pixels on its canvas.

    python tests/browser/latency.py [--out FILE.json]

`measure()` is what `make bench` calls.
"""

import argparse
import datetime
import json
import math
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import harness
import torch

TARGET_MS = 16.0  # one frame at 60 Hz
COLOUR_TARGET_MS = 33.0  # two of them, for a colour image of 64 x 64
STEP_TARGET_MS = 50.0  # a code drawn: longer, and the page would stutter
STROKE_TARGET_MS = 100.0  # two restorers, in a worker
STYLE_TARGET_MS = 60.0  # a style-based generator, in a worker: the page itself goes on meanwhile
BLOCK_TARGET_MS = 50.0  # longer, and a browser calls it a long task
MOVES = 200
TRACED_MOVES = 51  # odd: the last move undoes the first, and the next key finds what it found

TRACED = ("toplevel", "devtools.timeline")  # Chromium's categories of what its threads work on


def _quantile(values: list[float], q: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(q * len(values)))], 2)


def _drag(page, tag: str, target: str, moves: int = MOVES) -> list[float]:
    """Drag over an explorer, one move at a time; return ms from each event to its pixels."""
    spot = page.locator(f"{tag} {target}")
    spot.scroll_into_view_if_needed()
    box = spot.bounding_box()
    centre_x, centre_y, radius = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["width"] * 0.4
    page.mouse.move(centre_x, centre_y)
    n = harness.count_drawn(page)
    page.mouse.down()  # loads runtime and network: not counted
    harness.wait_drawn(page, n)
    before = harness.count_drawn(page)
    for i in range(moves):
        n = harness.count_drawn(page)
        page.mouse.move(centre_x + radius * math.cos(i / 9), centre_y + radius * math.sin(i / 7))
        page.wait_for_function("n => window.drawn.length > n", arg=n, polling=1)
    page.mouse.up()
    return page.evaluate("n => window.drawn.slice(n).map(d => d.t1 - d.t0)", before)


def _choose(page) -> list[float]:
    """Change a menu of the attribute explorer MOVES times by keys; return ms from each change to its pixels."""
    page.locator("attribute-explorer select").first.focus()
    page.keyboard.press("End")  # loads runtime and network: not counted
    harness.wait_drawn(page, harness.count_drawn(page))
    before = harness.count_drawn(page)
    for i in range(MOVES):
        n = harness.count_drawn(page)
        page.keyboard.press("ArrowDown" if i % 2 else "ArrowUp")
        page.wait_for_function("n => window.drawn.length > n", arg=n, polling=1)
    return page.evaluate("n => window.drawn.slice(n).map(d => d.t1 - d.t0)", before)


def _replace(page) -> list[float]:
    """Choose MOVES other codes for a cell of the code explorer by keys; return ms from each to its pixels."""
    page.locator("code-explorer .sheet").focus()
    n = harness.count_drawn(page)
    page.keyboard.press("Home")  # loads runtime and network: not counted
    harness.wait_drawn(page, n)
    before = harness.count_drawn(page)
    for i in range(MOVES):
        n = harness.count_drawn(page)
        page.keyboard.press(("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp")[i % 4])
        page.wait_for_function("n => window.drawn.length > n", arg=n, polling=1)
    return page.evaluate("n => window.drawn.slice(n).map(d => d.t1 - d.t0)", before)


def _sample(page) -> list[float]:
    """Press Step of the prior explorer MOVES times; return ms from each to the pixels and the next odds."""
    step = page.locator("prior-explorer").get_by_role("button", name="Step", exact=True)
    step.focus()
    n = harness.count_drawn(page)
    page.keyboard.press("Enter")  # loads runtime and networks: not counted
    harness.wait_drawn(page, n)
    times = []
    for _ in range(MOVES):
        n = harness.count_drawn(page)
        page.keyboard.press("Enter")
        drawn = harness.wait_drawn(page, n)
        if drawn["logits"] is not None:  # a full grid has no next code
            times.append(drawn["t1"] - drawn["t0"])
    return times


def _walk(page) -> list[float]:
    """Drag the walk slider of the generator explorer MOVES times; return ms from each event to its pixels."""
    spot = page.locator("generator-explorer").get_by_role("slider", name="Walk")
    spot.scroll_into_view_if_needed()
    box = spot.bounding_box()
    centre, y, reach = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["width"] * 0.45
    page.mouse.move(centre, y)
    n = harness.count_drawn(page)
    page.mouse.down()  # loads runtime and network: not counted
    harness.wait_drawn(page, n)
    before = harness.count_drawn(page)
    for i in range(MOVES):
        n = harness.count_drawn(page)
        page.mouse.move(centre + (reach if i % 2 else -reach) * (0.2 + 0.8 * i / MOVES), y)
        page.wait_for_function("n => window.drawn.length > n", arg=n, polling=1)
    page.mouse.up()
    return page.evaluate("n => window.drawn.slice(n).map(d => d.t1 - d.t0)", before)


def _frames(page) -> list[float]:
    """Go back and forth in the ring explorer's recording MOVES times by keys; return ms from each to its drawing."""
    page.locator("ring-explorer").get_by_role("slider", name="Step").focus()
    page.keyboard.press("Home")
    before = harness.count_drawn(page)
    for i in range(MOVES):
        n = harness.count_drawn(page)
        page.keyboard.press("ArrowLeft" if i % 2 else "ArrowRight")
        page.wait_for_function("n => window.drawn.length > n", arg=n, polling=1)
    return page.evaluate("n => window.drawn.slice(n).map(d => d.t1 - d.t0)", before)


def styled(page, tag: str, *, moves: int = MOVES) -> list[float]:
    """Change an explorer of a style-based generator by keys, moves + 1 times; return ms from each to its pixels.

    The first, which may load the runtime and the networks, is not among them.
    """
    place = page.locator(tag)
    target = "[role=radio][tabindex='0']" if tag == "style-mixer" else "input[type=range] >> nth=0"
    keys = ("ArrowUp", "ArrowDown") if tag == "style-mixer" else ("ArrowLeft", "ArrowRight")
    place.locator(target).focus()
    n = harness.count_drawn(page)
    page.keyboard.press(keys[0])
    harness.wait_drawn(page, n)
    before = harness.count_drawn(page)
    for i in range(moves):
        n = harness.count_drawn(page)
        page.keyboard.press(keys[(i + 1) % 2])
        page.wait_for_function("n => window.drawn.length > n", arg=n, polling=1)
    return page.evaluate("n => window.drawn.slice(n).map(d => d.t1 - d.t0)", before)


def strokes(page, *, moves: int = MOVES) -> list[float]:
    """Paint on the restoration explorer, moves + 1 times; return ms from each event to both restorations.

    The first, which may load the runtime and the networks, is not among them.
    """
    return _drag(page, "restoration-explorer", ".easel", moves)


def longest_task(page, act: Callable[[], object]) -> tuple[float, float]:
    """Return ms that the page's thread worked on its longest task during act(), and how long that one took.

    The first counts the thread's own time: what a reader waits for on a machine with nothing else to do. The second,
    the largest by the clock, has in it what other processes took from the thread meanwhile.
    """
    browser = page.context.browser
    browser.start_tracing(page=page, categories=list(TRACED))
    act()
    events = json.loads(browser.stop_tracing())["traceEvents"]
    pages = {
        (e["pid"], e["tid"])
        for e in events
        if e["name"] == "thread_name" and e["args"]["name"] == "CrRendererMain"
    }
    tasks = [
        e
        for e in events
        if e["ph"] == "X" and (e["pid"], e["tid"]) in pages and e["name"].endswith("RunTask")
    ]
    if not any(task.get("tdur") for task in tasks):
        raise harness.Missing("this browser's trace does not say how long its page's thread worked")
    return max(task.get("tdur", 0) for task in tasks) / 1000, max(task["dur"] for task in tasks) / 1000


def _styles() -> torch.nn.Module:
    """Return the shipped style-based GAN, or one of the same sizes: the time does not depend on the weights."""
    from imagegen import pretrained, recipes, stylegan

    if "stylegan-avatars" in pretrained.names():
        return pretrained.load("stylegan-avatars")
    return stylegan.StyleGAN(recipes.RECIPES["stylegan-avatars"].model).eval()


def _restorers() -> tuple[torch.nn.Module, torch.nn.Module]:
    """Return the shipped restorers of colour images, or two of the same sizes: the time does not depend on weights."""
    from imagegen import pretrained, recipes, restore

    names, there = ("restore-avatars", "restore-avatars-adversarial"), pretrained.names()
    return tuple(
        pretrained.load(name) if name in there else restore.Restorer(recipes.RECIPES[name].model).eval()
        for name in names
    )


def _painter() -> torch.nn.Module:
    """Return the shipped GAN of colour images, or one of the same sizes: the time does not depend on the weights."""
    from imagegen import gan, pretrained, recipes

    if "dcgan-avatars" in pretrained.names():
        return pretrained.load("dcgan-avatars")
    if "dcgan-avatars" in recipes.RECIPES:
        return gan.GAN(recipes.RECIPES["dcgan-avatars"].model).eval()
    return gan.GAN(gan.GANConfig("dcgan", (3, 64, 64))).eval()


def _codes() -> tuple[torch.nn.Module, torch.nn.Module]:
    """Return the shipped VQ-VAE of colour images and the prior of its codes, or networks of the same sizes."""
    from imagegen import pretrained, prior, recipes, vq

    there = pretrained.names()
    return tuple(
        pretrained.load(name) if name in there else family(recipes.RECIPES[name].model).eval()
        for name, family in (("vqvae-avatars", vq.VQVAE), ("prior-avatars", prior.Prior))
    )


def _decoder() -> torch.nn.Module:
    """Return the shipped attribute decoder, or one of the same sizes: the time does not depend on the weights."""
    from imagegen import decoder, pretrained

    if "decoder-avatars" in pretrained.names():
        return pretrained.load("decoder-avatars")
    return decoder.AttributeDecoder(decoder.AttributeDecoderConfig()).eval()


def _summary(tag: str, times: list[float], what: str) -> dict[str, dict]:
    """Return the median and the 95th percentile of times in ms, as metrics of a record."""
    return {
        f"{tag.replace('-', '_')}_{name}": {
            "value": _quantile(times, q),
            "unit": "ms",
            "n": len(times),
            "detail": f"{what}; {name}",
        }
        for name, q in (("median", 0.5), ("p95", 0.95))
    }


def measure() -> dict:
    """Return the record of the benchmark, in the shape of book/results/*.json. Raises: harness.Missing."""
    began = time.time()
    metrics = {}
    with tempfile.TemporaryDirectory() as folder, harness.open_browser() as browser:
        networks = {
            "decoder": _decoder(),
            "codes": _codes(),
            "painter": _painter(),
            "styled": _styles(),
            "pair": _restorers(),
        }
        harness.make_page(Path(folder), **networks)
        with harness.serve(Path(folder)) as address:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            harness.Watch(page)
            page.goto(address)
            harness.wait_ready(page)
            page.evaluate(harness.LISTEN)
            for tag, act, what in (
                (
                    "latent-map",
                    lambda: _drag(page, "latent-map", ".pad"),
                    "dragging on the latent map: one decoding",
                ),
                (
                    "image-explorer",
                    lambda: _drag(page, "image-explorer", ".easel"),
                    "drawing on the image explorer: one encoding and one decoding",
                ),
                (
                    "attribute-explorer",
                    lambda: _choose(page),
                    "changing a menu of the attribute explorer: one decoding, 64 x 64 in colour",
                ),
                (
                    "code-explorer",
                    lambda: _replace(page),
                    "choosing another code in the code explorer: one decoding, 64 x 64 in colour",
                ),
                (
                    "prior-explorer",
                    lambda: _sample(page),
                    "a step of the prior explorer: one decoding and the odds of the next of 8 x 8 codes",
                ),
                (
                    "generator-explorer",
                    lambda: _walk(page),
                    "dragging the walk of the generator explorer: one image, 64 x 64 in colour",
                ),
                (
                    "ring-explorer",
                    lambda: _frames(page),
                    "another frame of the ring explorer: drawn, not computed",
                ),
            ):
                metrics |= _summary(tag, act(), what)
            for tag, path, what in (
                (
                    "truncation-explorer",
                    "styles.html",
                    "moving psi of the truncation explorer: one image, 64 x 64 in colour",
                ),
                (
                    "style-mixer",
                    "styles.html",
                    "another face for a layer of the style mixer: one image, 64 x 64 in colour",
                ),
                (
                    "style-sliders",
                    "styles.html",
                    "moving a slider of the style sliders: one image, 64 x 64 in colour",
                ),
                (
                    "restoration-explorer",
                    "restoration.html",
                    "painting on the restoration explorer: two restorations, 64 x 64 in colour",
                ),
            ):
                act = strokes if tag == "restoration-explorer" else partial(styled, tag=tag)
                page.close()
                page = browser.new_page(viewport={"width": 1280, "height": 900})  # loads its networks anew
                page.goto(f"{address}{path}")
                harness.wait_ready(page)
                page.evaluate(harness.LISTEN)
                worked, lasted = longest_task(page, partial(act, page, moves=TRACED_MOVES))
                metrics |= _summary(tag, act(page), what)
                for name, value, how in (
                    ("block", worked, "worked on its longest task"),
                    (
                        "block_clock",
                        lasted,
                        "had its longest task by the clock, other processes' share in it",
                    ),
                ):
                    metrics[f"{tag.replace('-', '_')}_{name}"] = {
                        "value": round(value, 2),
                        "unit": "ms",
                        "n": TRACED_MOVES,
                        "detail": f"{what}; how long the page's thread {how}, loading included",
                    }
        version = browser.version
    git = ["git", "-C", os.fspath(harness.ROOT), "rev-parse", "--verify", "--quiet", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip() or None
    return {
        "name": "bench-widget",
        "kind": "benchmark",
        "recipe": None,
        "seed": None,
        "commit": commit,
        "device": f"Chromium {version}, headless, {os.cpu_count()} CPU cores, {platform.machine()}",
        "torch": torch.__version__,
        "seconds": round(time.time() - began, 1),
        "date": datetime.date.today().isoformat(),
        "metrics": metrics,
    }


def targets(record: dict) -> list[tuple[str, float, float]]:
    """Return what is claimed of a record, its value, and the limit."""
    return [
        (text, record["metrics"][name]["value"], limit)
        for text, name, limit in (
            ("ms from pointer to pixels on the latent map, median", "latent_map_median", TARGET_MS),
            (
                "ms from a menu's change to 64 x 64 pixels, median",
                "attribute_explorer_median",
                COLOUR_TARGET_MS,
            ),
            ("ms from a code's change to 64 x 64 pixels, median", "code_explorer_median", COLOUR_TARGET_MS),
            (
                "ms from pointer to 64 x 64 pixels of a GAN, median",
                "generator_explorer_median",
                COLOUR_TARGET_MS,
            ),
            ("ms from a key to another frame of the ring, median", "ring_explorer_median", TARGET_MS),
            ("ms from Step to the pixels and the next odds, median", "prior_explorer_median", STEP_TARGET_MS),
            ("ms from psi's change to 64 x 64 pixels, median", "truncation_explorer_median", STYLE_TARGET_MS),
            ("ms from a layer's change to 64 x 64 pixels, median", "style_mixer_median", STYLE_TARGET_MS),
            ("ms from a slider's change to 64 x 64 pixels, median", "style_sliders_median", STYLE_TARGET_MS),
            (
                "ms from a stroke to both restorations, median",
                "restoration_explorer_median",
                STROKE_TARGET_MS,
            ),
            (
                "ms, longest block of the page at the restoration explorer",
                "restoration_explorer_block",
                BLOCK_TARGET_MS,
            ),
            (
                "ms, longest block of the page at the truncation explorer",
                "truncation_explorer_block",
                BLOCK_TARGET_MS,
            ),
            ("ms, longest block of the page at the style mixer", "style_mixer_block", BLOCK_TARGET_MS),
            ("ms, longest block of the page at the style sliders", "style_sliders_block", BLOCK_TARGET_MS),
        )
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measure the explorers: from a pointer's move to the pixels."
    )
    parser.add_argument("--out", type=Path, default=harness.ROOT / "book/results/bench-widget.json")
    out = parser.parse_args().out
    record = measure()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for name, metric in record["metrics"].items():
        print(f"{name}: {metric['value']:.1f} ms over {metric['n']} moves ({metric['detail']})")
    for text, value, limit in targets(record):
        print(f"{text}: {value:g}, target {limit:g}: {'met' if value <= limit else 'MISSED'}")


if __name__ == "__main__":
    main()
