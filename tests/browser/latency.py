"""Measure how long an explorer takes from a pointer's move to the pixels on its canvas.

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


def measure() -> dict:
    """Return the record of the benchmark, in the shape of book/results/*.json. Raises: harness.Missing."""
    began = time.time()
    metrics = {}
    with tempfile.TemporaryDirectory() as folder, harness.open_browser() as browser:
        harness.make_page(Path(folder))
        with harness.serve(Path(folder)) as address:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            harness.Watch(page)
            page.goto(address)
            harness.wait_ready(page)
            page.evaluate(harness.LISTEN)
            for tag, target, what in (
                ("latent-map", ".pad", "dragging on the latent map: one decoding"),
                ("image-explorer", ".easel", "drawing on the image explorer: one encoding and one decoding"),
            ):
                times = _drag(page, tag, target)
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
    median = record["metrics"]["latent_map_median"]["value"]
    verdict = "met" if median <= TARGET_MS else "MISSED"
    print(f"target: a median of at most {TARGET_MS:g} ms on the latent map: {verdict}")


if __name__ == "__main__":
    main()
