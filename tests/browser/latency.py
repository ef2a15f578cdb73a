"""Measure how long an explorer takes from a pointer's move, or a menu's change, to the pixels on its canvas.

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
from pathlib import Path

import harness
import torch

TARGET_MS = 16.0  # one frame at 60 Hz
ATTRIBUTES_TARGET_MS = 33.0  # two of them, for a colour image of 64 x 64
MOVES = 200


def _quantile(values: list[float], q: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(q * len(values)))], 2)


def _drag(page, tag: str, target: str) -> list[float]:
    """Drag MOVES times over an explorer, one move at a time; return ms from each event to its pixels."""
    spot = page.locator(f"{tag} {target}")
    spot.scroll_into_view_if_needed()
    box = spot.bounding_box()
    centre_x, centre_y, radius = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["width"] * 0.4
    page.mouse.move(centre_x, centre_y)
    n = harness.count_drawn(page)
    page.mouse.down()  # loads runtime and network: not counted
    harness.wait_drawn(page, n)
    before = harness.count_drawn(page)
    for i in range(MOVES):
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


def _decoder() -> torch.nn.Module:
    """Return the shipped attribute decoder, or one of the same sizes: the time does not depend on the weights."""
    from imagegen import decoder, pretrained

    if "decoder-avatars" in pretrained.names():
        return pretrained.load("decoder-avatars")
    return decoder.AttributeDecoder(decoder.AttributeDecoderConfig()).eval()


def measure() -> dict:
    """Return the record of the benchmark, in the shape of book/results/*.json. Raises: harness.Missing."""
    began = time.time()
    metrics = {}
    with tempfile.TemporaryDirectory() as folder, harness.open_browser() as browser:
        harness.make_page(Path(folder), decoder=_decoder())
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
            ):
                times = act()
                for name, q in (("median", 0.5), ("p95", 0.95)):
                    value = _quantile(times, q)
                    key = f"{tag.replace('-', '_')}_{name}"
                    metrics[key] = {
                        "value": value,
                        "unit": "ms",
                        "n": len(times),
                        "detail": f"{what}; {name}",
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
                ATTRIBUTES_TARGET_MS,
            ),
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
