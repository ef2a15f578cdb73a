"""CPU time of several things, side by side."""

import statistics
import time
from collections.abc import Callable


def in_turn(steps: dict[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Return the median CPU time of each step in ms, measured in turn after one step of each for warmth.

    In turn, so that a machine that is slower for a while is so for all of them.
    """
    spent: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(repetitions):
        for name, step in steps.items():
            begun = time.process_time()
            step()
            spent[name].append(time.process_time() - begun)
    return {name: 1e3 * statistics.median(values) for name, values in spent.items()}
