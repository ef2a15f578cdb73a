"""The form of a measured figure: value, unit, n and detail, and how far the value is to be trusted."""

import statistics
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from imagegen import metrics

Entry = dict[str, Any]
SQUARED = "squared, pixels in [0, 1]"  # a unit


def over_images(values: Tensor, unit: str, detail: str) -> Entry:
    """Return the entry of a mean over images, values (N,), with its standard error."""
    stderr = metrics.standard_error(values)
    return {
        "value": values.mean().item(), "stderr": stderr, "unit": unit, "n": len(values), "detail": detail,
    }  # fmt: skip


def over_seeds(values: Sequence[float], unit: str, n: int, detail: str) -> Entry:
    """Return the entry of a mean over seeds, at least two, with their standard deviation and the values themselves.

    n: images a seed.
    """
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    return {"value": mean, "std": spread, "unit": unit, "n": n, "detail": detail, "values": list(values)}
