"""Run the benchmarks and say whether their claims hold: python -m benchmarks [--only NAME] [--quick] [--out FOLDER]."""

import argparse
import importlib
import json
import sys
from pathlib import Path

from benchmarks import BENCHMARKS, ON_REQUEST, Unavailable
from benchmarks.record import Claim
from imagegen.training import write_atomic

RESULTS = Path(__file__).resolve().parents[1] / "book/results"


def show(record: dict) -> list[Claim]:
    """Print the metrics and claims of a record; return the claims."""
    for name, metric in record["metrics"].items():
        print(f"  {name:32} {metric['value']:10.4g} {metric['unit']}")
    claims = [Claim.from_dict(claim) for claim in record["claims"]]
    for claim in claims:
        print(f"  {claim}")
    return claims


def main(arguments: list[str] | None = None) -> int:
    """Return 0 where every claim is met, 1 where one is missed or a benchmark asked for by name cannot run.

    With --quick the claims are printed and not judged, and nothing is written unless --out is given.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure against the figures to beat."
    )
    long = ", ".join(f"{name} (about {minutes} minutes)" for name, minutes in ON_REQUEST.items())
    parser.add_argument(
        "--only", choices=list(BENCHMARKS), action="append",
        help=f"may be given several times; run only where named: {long}",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help="run all of the code at a size that shows nothing"
    )
    parser.add_argument("--out", type=Path, help="folder of the result files (default: book/results)")
    asked = parser.parse_args(arguments)
    folder = asked.out or (None if asked.quick else RESULTS)
    failed = False
    for name in asked.only or [name for name in BENCHMARKS if name not in ON_REQUEST]:
        print(f"{name}:", flush=True)
        try:
            module = importlib.import_module(BENCHMARKS[name])
            record = module.measure(quick=asked.quick, say=lambda line: print(line, flush=True))
        except Unavailable as reason:
            print(f"  skipped: {reason}")
            failed |= asked.only is not None
            continue
        claims = show(record)
        failed |= not asked.quick and not all(claim.met for claim in claims)
        if folder:
            path = folder / f"{record['name']}.json"
            write_atomic(path, (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())
            print(f"  written: {path}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
