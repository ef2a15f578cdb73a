"""Sampling codes from the transformer prior, with the keys and values of earlier positions kept and without.

Both draw the same codes from the same random numbers, which is checked first. The weights are those of a new model:
they change nothing about the work.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.clock import in_turn
from benchmarks.record import Claim, make
from imagegen.prior import Prior, PriorConfig

LARGEST_SHARE = 0.5  # of the time without a cache


@dataclass(frozen=True)
class Setting:
    """grids: height and width of each grid of codes sampled, n at a time."""

    grids: tuple[tuple[int, int], ...] = ((7, 7), (8, 8))
    n: int = 64
    repetitions: int = 7
    codes: int = 512
    width: int = 128
    depth: int = 4


QUICK = Setting(grids=((3, 3), (2, 4)), n=4, repetitions=3, codes=16, width=16, depth=2)


def samplers(grid: tuple[int, int], setting: Setting) -> dict[str, Callable[[], torch.Tensor]]:
    """Return what draws setting.n grids with a cache, and what draws them without."""
    torch.manual_seed(0)
    prior = Prior(PriorConfig(codes=setting.codes, grid=grid, width=setting.width, depth=setting.depth))

    def sampler(cached: bool) -> Callable[[], torch.Tensor]:
        return lambda: prior.sample(setting.n, cached=cached, generator=torch.Generator().manual_seed(0))

    return {"cached": sampler(True), "uncached": sampler(False)}


def measure(*, quick: bool = False, say: Callable[[str], None] = print) -> dict:
    """Return the record of the benchmark, with its claims; `quick` runs all of it at a size that shows nothing.

    Raises: RuntimeError: the codes differ with and without a cache.
    """
    began = time.time()
    setting = QUICK if quick else Setting()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    metrics: dict[str, dict] = {}
    claims: list[Claim] = []
    try:
        for grid in setting.grids:
            name = f"{grid[0]}x{grid[1]}"
            draw = samplers(grid, setting)
            if not draw["cached"]().equal(draw["uncached"]()):
                raise RuntimeError(f"the codes of a grid of {name} differ with and without a cache")
            spent = in_turn(draw, setting.repetitions)
            share = spent["cached"] / spent["uncached"]
            said = f"{setting.n} grids of {name}, transformer of depth {setting.depth}, K {setting.codes}; CPU time"
            for side in ("cached", "uncached"):
                metrics[f"{name}_{side}_ms"] = {
                    "value": spent[side],
                    "unit": "ms",
                    "detail": f"{side}, {said}",
                }
            metrics[f"{name}_speed_up"] = {"value": 1 / share, "unit": "times", "detail": said}
            claims.append(
                Claim(f"sampling {name} codes with a cache, share of the time without", share, LARGEST_SHARE)
            )
            ms = f"{spent['cached']:.0f} ms cached, {spent['uncached']:.0f} ms not"
            say(f"  {name}: {ms}: {1 / share:.1f} times as fast")
    finally:
        torch.set_num_threads(threads)
    record = make("bench-sampling", seconds=time.time() - began, seed=0, metrics=metrics)
    return record | {"claims": [claim.as_dict() for claim in claims]}
