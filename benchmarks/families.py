"""Three adversarial families on the avatars at the same CPU time: DCGAN, WGAN-GP and StyleGAN.

DCGAN and StyleGAN are the shipped recipes; WGAN-GP has the DCGAN's networks, without normalisation in the critic, and
the losses and rates of `benchmarks.stability`. Each gets as many steps as fit into the same CPU seconds of one thread
by the cost of its step, when all were timed by turns; its learning rate falls over those steps. The seconds are a small
part of what the shipped trainings take: this says which family gets somewhere soon on one core, not which ends where.
A StyleGAN's step costs more and sees fewer images; that is counted against it here, as it is for whoever trains it.
The care was not equal: the StyleGAN's rates were chosen for short trainings, the DCGAN's for its whole one, with its
instance noise over half of it, and the WGAN-GP's on smaller images, with two critic steps where its paper takes five.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from benchmarks.clock import in_turn
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
from imagegen.recipes import RECIPES, AdversarialObjective, Recipe

PROGRESS = ROOT / "runs/bench-families.jsonl"
WORDS = {
    "dcgan": "DCGAN, the recipe dcgan-avatars",
    "wgan_gp": "WGAN-GP, the DCGAN's networks without BatchNorm in the critic",
    "stylegan": "StyleGAN, the recipe stylegan-avatars",
}


@dataclass(frozen=True)
class Setting:
    """seconds: of CPU for a training. A step's cost is the median of `rounds` by turns of `timed` steps each.

    timed: a multiple of how often each regulariser is stepped on. tiny: the networks' width, to try the code; 0 takes
    the recipes'.
    """

    seeds: tuple[int, ...] = (0, 1)
    seconds: float = 160.0
    rounds: int = 3
    timed: int = 16
    n: int = 2_000
    weight: float = 10.0
    critic_steps: int = 2
    gp_batch_size: int = 32
    gp_lr: float = 5e-4
    gp_betas: tuple[float, float] = (0.0, 0.9)
    tiny: int = 0


QUICK = Setting(seconds=0.0, rounds=1, timed=2, n=12, gp_batch_size=4, tiny=2)


def recipe_of(kind: str, setting: Setting, *, seed: int = 0, n_steps: int = 10_000) -> Recipe:
    """Return the training of a family, "dcgan", "wgan_gp" or "stylegan"."""
    recipe = RECIPES["stylegan-avatars" if kind == "stylegan" else "dcgan-avatars"]
    if kind == "wgan_gp":
        objective = AdversarialObjective(
            loss="wasserstein", penalty="gradient", weight=setting.weight, critic_steps=setting.critic_steps
        )
        recipe = replace(
            recipe, model=replace(recipe.model, normalise_critic="none"), objective=objective,
            batch_size=setting.gp_batch_size, lr=setting.gp_lr, betas=setting.gp_betas,
        )  # fmt: skip
    if setting.tiny:
        sizes = dict.fromkeys(("width", "critic_width", "max_width", "latent_dim"), setting.tiny)
        recipe = replace(recipe, model=replace(recipe.model, **sizes), batch_size=4)
    return replace(recipe, seed=seed, n_steps=n_steps)


def costs(setting: Setting) -> dict[str, float]:
    """Return the CPU seconds of a step of each family, timed by turns in trainings that are thrown away."""
    trials = {kind: trial(recipe_of(kind, setting)) for kind in WORDS}

    def taken(made: Trial) -> None:
        for index in range(setting.timed):
            made.step(index)

    spent = in_turn({kind: functools.partial(taken, made) for kind, made in trials.items()}, setting.rounds)
    return {kind: ms / 1e3 / setting.timed for kind, ms in spent.items()}


def one_run(kind: str, seed: int, cost: float, setting: Setting) -> dict[str, Any]:
    """Return what a family gives with a seed, in the steps that fit into the time."""
    n_steps = max(2, round(setting.seconds / cost))
    recipe = recipe_of(kind, setting, seed=seed, n_steps=n_steps)
    protocol = protocol_of(setting.n)

    def judge(made: Trial) -> dict[str, Any]:
        model: nn.Module = made.average
        return judged(model, protocol)

    found = attempted(trial(recipe), judge)
    return found | {"images": n_steps * recipe.batch_size}


def summary(results: dict[str, dict[str, Any]], cost: dict[str, float], measures: dict[str, float],
            setting: Setting) -> dict[str, dict]:  # fmt: skip
    """Return the metrics from {"dcgan 0": what a run gave, ...}, {"dcgan": CPU seconds a step} and real images'."""
    entries = real_entries(measures, setting.n)
    for kind, name in WORDS.items():
        rows = [results[f"{kind} {seed}"] for seed in setting.seeds]
        words = f"{name}; {setting.seconds:g} CPU seconds a run"
        entries |= summarised(kind, rows, UNITS, words=words, n=setting.n)
        entries[f"{kind}_cost"] = {
            "value": 1e3 * cost[kind], "unit": "ms / step", "n": setting.rounds * setting.timed,
            "detail": f"{name}; CPU time, the median of {setting.rounds} rounds by turns",
        }  # fmt: skip
        entries[f"{kind}_images"] = {
            "value": rows[0]["images"], "unit": "images", "n": len(rows),
            "detail": f"{words}; real images seen in each run, some of them again and again",
        }  # fmt: skip
    return entries


def measure(*, quick: bool = False, say: Callable[[str], None] = print) -> dict:
    """Return the record of the benchmark, which claims nothing; `quick` runs all of it at a size that shows nothing.

    A full measurement that was killed goes on where it was, with the steps planned at first, if neither the setting nor
    the code has changed.
    Raises: Unavailable: the extra `train` is missing.
    """
    began, threads = time.time(), torch.get_num_threads()
    setting = QUICK if quick else Setting()
    protocol = protocol_of(setting.n)
    cells = Cells(
        None if quick else PROGRESS,
        stamp(setting, own="benchmarks/families.py", network=protocol.network),
    )
    torch.set_num_threads(1)
    results = {}
    try:
        measures = cells.get("real", lambda: real(protocol))
        cost = cells.get("cost", lambda: costs(setting))
        for seed in setting.seeds:
            for kind in WORDS:
                key = f"{kind} {seed}"
                results[key] = cells.get(key, functools.partial(one_run, kind, seed, cost[kind], setting))
                say(f"  {key}: " + ", ".join(f"{name} {value:.4g}" for name, value in results[key].items()))
    finally:
        torch.set_num_threads(threads)
    entries = summary(results, cost, measures, setting)
    record = make("bench-families", seconds=time.time() - began, metrics=entries, seed=setting.seeds[0])
    cells.drop()
    return record | {"setting": asdict(setting), "claims": []}
