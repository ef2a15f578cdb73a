"""Each piece of the StyleGAN taken out alone: what its samples lose, and what a step then costs.

All ways see equally many images, in the same order and from the same seeds, and everything that is not named is that of
the recipe, at a smaller size; an Adam whose regulariser is taken out has its rate and betas uncorrected for it. Equal
images and not equal seconds, because the question is what a piece does to a training, and some pieces (R1, path length)
would otherwise be judged by the time that they take; what a step costs stands beside. The budget is tiny: some hundred
steps of 16 images show which pieces a training cannot start without, and say nothing about where long trainings end.
Pieces that pay late (R1, the path length, style mixing) may well look useless here.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.record import make
from benchmarks.trials import (
    ROOT,
    UNITS,
    Cells,
    Trial,
    attempted,
    judged,
    protocol_of,
    real,
    real_entries,
    stamp,
    summarised,
    trial,
)
from imagegen.evaluation.samples import Protocol
from imagegen.objectives import path_lengths
from imagegen.recipes import RECIPES, Recipe
from imagegen.stylegan import (
    EqualConv2d,
    EqualLinear,
    Mapping,
    StyleGAN,
    StyleLayer,
    ToImage,
    activated,
    modulated_conv2d,
    normalised,
)

NAME = "stylegan-avatars"
PROGRESS = ROOT / "runs/bench-ablation.jsonl"
Results = dict[str, dict[str, Any]]
LAST = "last"  # the way that is the whole one's training, judged by its last weights


@dataclass(frozen=True)
class Setting:
    """width: of both players' finest grid, `max_width` of the coarse ones. n: samples. n_paths: of the path lengths."""

    seeds: tuple[int, ...] = (0, 1)
    n_steps: int = 500
    batch_size: int = 16
    width: int = 8
    max_width: int = 32
    latent_dim: int = 64
    n: int = 2_000
    n_paths: int = 96


QUICK = Setting(n_steps=2, batch_size=4, width=2, max_width=2, latent_dim=4, n=12, n_paths=4)


# ---- what is taken out -------------------------------------------------------------------------------------------


class Undemodulated(StyleLayer):
    """A style layer whose outputs keep the scale that the style gave them."""

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        x = modulated_conv2d(x, self.weight * self.scale, self.style(w), up=self.up, demodulate=False)
        shift = self.bias[:, None, None]
        return activated(x + (shift if noise is None else shift + self.strength[:, None, None] * noise))


class Unmapped(Mapping):
    """w is z, of length sqrt(D). In a training it has a graph, which the path length needs and no weight gives it."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def forward(self, z: Tensor) -> Tensor:
        w = normalised(z)
        return w.requires_grad_() if torch.is_grad_enabled() else w


def no_demodulation(model: StyleGAN) -> None:
    """Make each style layer one of the same weights without demodulation."""
    for layer in model.generator.synthesis.body:
        layer.__class__ = Undemodulated


def no_noise(model: StyleGAN) -> None:
    """Keep all strengths of the noise at 0, where they start."""
    for layer in model.generator.synthesis.body:
        layer.strength.requires_grad_(False)


def no_mapping(model: StyleGAN) -> None:
    """Take z, of length sqrt(D), for w."""
    model.generator.mapping = Unmapped()


@torch.no_grad()
def no_equalised_rate(model: StyleGAN) -> None:
    """Multiply each layer's scale into its weights once, so that Adam's steps see it; the output stays the same."""
    for layer in model.modules():
        if isinstance(layer, EqualLinear | EqualConv2d | StyleLayer | ToImage):
            layer.weight.mul_(layer.scale)
            layer.scale = 1.0
        if isinstance(layer, EqualLinear):
            layer.bias.mul_(layer.rate)
            layer.rate = 1.0


@dataclass(frozen=True)
class Way:
    """What is changed of the recipe: fields of its model and of its objective, or the network once it is built."""

    words: str
    model: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    change: Callable[[StyleGAN], None] | None = None


WAYS = {
    "full": Way("all pieces"),
    "demodulation": Way("without demodulation", change=no_demodulation),
    "noise": Way("without noise", change=no_noise),
    "mixing": Way("without style mixing", model={"mixing": 0.0}),
    "path": Way("without path length", objective={"path_weight": 0.0}),
    "r1": Way("without R1", objective={"penalty": "none", "weight": 0.0}),
    "spread": Way("without the batch's spread (groups of 1)", model={"group": 1}),
    "mapping": Way("without a mapping: w is z", change=no_mapping),
    "equalised": Way(
        "without equalised rates, Adam's rate the same: too large for weights of that size",
        change=no_equalised_rate,
    ),
    "residual": Way("residual output in place of skips", model={"output": "residual"}),
}


def recipe_of(way: Way, seed: int, setting: Setting) -> Recipe:
    """Return the shipped recipe at the setting's size, with what a way changes."""
    base = RECIPES[NAME]
    sizes = {"width": setting.width, "critic_width": setting.width, "max_width": setting.max_width}
    model = replace(base.model, latent_dim=setting.latent_dim, **sizes | way.model)
    objective = replace(base.objective, **way.objective)
    numbers = {"batch_size": setting.batch_size, "n_steps": setting.n_steps, "seed": seed}
    return replace(base, model=model, objective=objective, **numbers)


# ---- measuring ---------------------------------------------------------------------------------------------------


def path_spread(model: StyleGAN, n: int) -> float:
    """Return the standard deviation of n path lengths over their mean: 0 where all steps in w lead equally far."""
    random = torch.Generator().manual_seed(97)
    generator = model.generator.eval()
    found = []
    for part in model.draw(n, generator=random).split(16):
        with torch.no_grad():
            ws = generator.styles(part)
        ws = ws.detach().requires_grad_()
        lengths = path_lengths(generator.synthesis(ws, noise="fixed"), ws, generator=random)
        found.append(lengths.detach())
    lengths = torch.cat(found)
    return (lengths.std() / lengths.mean()).item()


def examined(made: Trial, *, setting: Setting, protocol: Protocol, last: bool) -> dict[str, Any]:
    """Return the measures of a training's averaged weights and, under LAST, of its last ones."""

    def of(model: StyleGAN) -> dict[str, float]:
        return judged(model, protocol) | {"path_spread": path_spread(model, setting.n_paths)}

    found: dict[str, Any] = of(made.average)
    return found | ({LAST: of(made.model)} if last else {})


def one_run(kind: str, seed: int, setting: Setting) -> dict[str, Any]:
    """Return what a way gives with a seed."""
    way, protocol = WAYS[kind], protocol_of(setting.n)
    made = trial(recipe_of(way, seed, setting), change=way.change)
    judge = functools.partial(examined, setting=setting, protocol=protocol, last=kind == "full")
    found = attempted(made, judge)
    if "steps" in found:
        found["cost"] = 1e3 * found["cpu_seconds"] / found["steps"]
    return found


MEASURES = {name: UNITS[name] for name in ("fd", "precision", "recall")} | {
    "path_spread": ("of the mean", "standard deviation of the path lengths"),
    "cost": ("ms / step", "CPU time of the training, one after the other"),
}


def summary(results: Results, measures: dict[str, float], setting: Setting) -> dict[str, dict]:
    """Return the metrics from {"full 0": what a run gave, ...} and the measures of real images."""
    seen = f"{setting.n_steps:,} steps of {setting.batch_size} images, which is next to nothing"
    entries = real_entries({name: measures[name] for name in MEASURES if name in measures}, setting.n)
    for kind, way in WAYS.items():
        rows = [results[f"{kind} {seed}"] for seed in setting.seeds]
        entries |= summarised(kind, rows, MEASURES, words=f"{way.words}; {seen}", n=setting.n)
        if kind == "full":
            last = [row.get(LAST, row) for row in rows]  # of a run that diverged, what it says of that
            words = f"all pieces, weights of the last step and no average; {seen}"
            entries |= summarised("average", last, MEASURES, words=words, n=setting.n)
    for kind in WAYS:
        name, whole = f"{kind}_fd", entries.get("full_fd")
        if kind != "full" and name in entries and whole:
            times = entries[name]["value"] / whole["value"]
            said = f"{WAYS[kind].words} over all pieces, means over the seeds; {seen}"
            entries[f"{name}_ratio"] = {"value": times, "unit": "times", "n": setting.n, "detail": said}
    return entries


def measure(*, quick: bool = False, say: Callable[[str], None] = print) -> dict:
    """Return the record of the benchmark, which claims nothing; `quick` runs all of it at a size that shows nothing.

    A full measurement that was killed goes on where it was, if neither the setting nor the code has changed.
    Raises: Unavailable: the extra `train` is missing.
    """
    began, threads = time.time(), torch.get_num_threads()
    setting = QUICK if quick else Setting()
    protocol = protocol_of(setting.n)
    cells = Cells(
        None if quick else PROGRESS,
        stamp(setting, own="benchmarks/ablation.py", network=protocol.network),
    )
    torch.set_num_threads(1)
    results = {}
    try:
        measures = cells.get("real", lambda: real(protocol))
        for seed in setting.seeds:
            for kind in WAYS:
                key = f"{kind} {seed}"
                results[key] = cells.get(key, functools.partial(one_run, kind, seed, setting))
                said = (f"{k} {v:.4g}" for k, v in results[key].items() if k != LAST)
                say(f"  {key}: " + ", ".join(said))
    finally:
        torch.set_num_threads(threads)
    entries = summary(results, measures, setting)
    record = make("bench-ablation", seconds=time.time() - began, metrics=entries, seed=setting.seeds[0])
    cells.drop()
    return record | {"setting": asdict(setting), "claims": []}
