"""How long an explorer takes from a move to the pixels, in a headless browser, and how long it blocks the page."""

import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import Unavailable
from benchmarks.record import Claim

BROWSER_TESTS = Path(__file__).resolve().parents[1] / "tests/browser"


def measure(*, quick: bool = False, say: Callable[[str], None] = print) -> dict:
    """Return the record of the benchmark, with its claim. It has one length, whatever `quick` is.

    Raises: Unavailable: a browser, or what the browser tests stand on, is missing.
    """
    sys.path.insert(0, str(BROWSER_TESTS))
    try:
        import harness
        import latency
    except ImportError as error:
        raise Unavailable(
            f"{error}: the browser tests' packages are needed, `make env` installs them"
        ) from error
    finally:
        sys.path.remove(str(BROWSER_TESTS))
    try:
        record = latency.measure()
    except harness.Missing as error:
        raise Unavailable(str(error)) from error
    for name, metric in record["metrics"].items():
        say(f"  {name}: {metric['value']:.1f} ms ({metric['detail']})")
    claims = [Claim(text, value, limit).as_dict() for text, value, limit in latency.targets(record)]
    return record | {"claims": claims}
