"""What a restorer pays in squared error for images that look like images, from short trainings of one restorer.

All start from the shipped `restore-avatars`, which was trained on squared error, and go on with the shipped recipe of
its sharpened partner, shortened. "s1" is that recipe; "s0.1" has a tenth of the weight of all that stands beside the
squared error, the feature loss and the critic's term, and so on; "s0" has the squared error alone; "feature" is "s1"
without the critic. Beside them "start", the shipped restorer that all begin with, and "shipped", its partner, trained
many times as long; and, at no further training, mixes (1 - a) x_0 + a x_1 of the estimates of these two, from the same
y. Where x_0 is the posterior mean and x_1 the best image for the images' law, such mixes are the best that there is at
their distance from that law, in squared error and W2 (Freirich, Michaeli and Meir 2021, arXiv:2107.02555); what is
trained here is neither, and a Frechet distance of features is not W2 of images.

PSNR is the mean over images of each one's. Where a few images carry the error, as behind a mask, that can rise while
the mean squared error rises too, so the latter is kept beside it. The Frechet distance compares the restored images
with the clean ones, the same images: it would be 0 where nothing was lost. Images that are as good and not the same
stay above it; "real_fd" says by how much, for other real images, as many. "centre" is the part of it that the means of
the features make: the rest is a spread that the restored images lack or have too much of.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.record import Claim, make
from benchmarks.trials import (
    ROOT,
    Cells,
    attempted,
    protocol_of,
    shipped,
    stamp,
    summarised,
    trial,
)
from imagegen import metrics
from imagegen.degrade import Degradation, Degraded
from imagegen.evaluation.entries import SQUARED, Entry, over_seeds
from imagegen.evaluation.restorers import DEGRADATIONS, Restore, by_model, errors, restored
from imagegen.evaluation.samples import Protocol, reference
from imagegen.recipes import DATA, RECIPES, Recipe
from imagegen.restore import Restorer

NAME, START = "restore-avatars-adversarial", "restore-avatars"
PROGRESS = ROOT / "runs/bench-perception.jsonl"
CODE = (
    "benchmarks/trials.py", "src/imagegen/restore.py", "src/imagegen/layers.py", "src/imagegen/training.py",
    "src/imagegen/recipes/__init__.py", "src/imagegen/recipes/recipe.py", "src/imagegen/recipes/restoration.py",
    "src/imagegen/recipes/adversarial.py", "src/imagegen/objectives/restoration.py",
    "src/imagegen/objectives/adversarial.py", "src/imagegen/evaluation/restorers.py",
    "src/imagegen/evaluation/samples.py", "src/imagegen/metrics/pixels.py", "src/imagegen/metrics/samples.py",
    *(f"src/imagegen/degrade/{part}.py" for part in ("degradation", "masks", "mixture", "noise", "operators")),
)  # fmt: skip
TASKS = ("noise_40", "box")
ALPHAS = (0.25, 0.5, 0.75)
FEATURE = "feature"  # the run without a critic
MEASURES = {
    "psnr": ("dB", "mean over images"),
    "mse": (SQUARED, "mean over images"),
    "fd": ("FD-avatars", "Frechet distance to the clean images, in the features of the protocol"),
    "centre": ("FD-avatars", "part of the Frechet distance that is the squared distance of the means"),
}
UNITS = {
    f"{task}_{measure}": (unit, f"{what}; {task}, drawn for each seed")
    for task in TASKS
    for measure, (unit, what) in MEASURES.items()
}
Row = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """strengths: multiples of the recipe's weights beside the squared error's, 0 first, 1 among them. n: test images.

    tiny: the networks' width, to try the code with a start that is not trained; 0 takes the recipe's.
    """

    strengths: tuple[float, ...] = (0.0, 0.1, 0.3, 1.0, 3.0)
    n_steps: int = 400
    precision: str = "bf16-mixed"
    lr_warmup: int = 50
    n: int = 1_000
    seeds: tuple[int, ...] = (0, 1, 2)
    tiny: int = 0


@dataclass(frozen=True)
class Given:
    """A setting, and what its runs share: models by name, and uint8 images to train on and to judge by."""

    setting: Setting
    models: dict[str, torch.nn.Module]
    train: Tensor
    test: Tensor


QUICK = Setting(strengths=(0.0, 1.0), n_steps=2, precision="32-true", lr_warmup=1, n=12, seeds=(0, 1), tiny=2)


def label(strength: float) -> str:
    return f"s{strength:g}"


def recipes_of(setting: Setting, seed: int) -> dict[str, Recipe]:
    """Return the training of each label: the shipped recipe with another weight, and as short as the setting says."""
    base = RECIPES[NAME]
    model = (
        replace(base.model, width=setting.tiny, levels=1, critic_width=setting.tiny)
        if setting.tiny
        else base.model
    )
    numbers = {"n_steps": setting.n_steps, "lr_warmup": setting.lr_warmup, "seed": seed}
    base = replace(base, model=model, batch_size=4 if setting.tiny else base.batch_size, **numbers)

    def changed(strength: float, *, critic: bool) -> Recipe:
        objective = base.objective
        sharper = {"feature": strength * objective.feature, "judge": objective.judge if strength else ""}
        if critic and strength:
            sharper["adversarial"] = strength * objective.adversarial
            return replace(base, objective=replace(objective, **sharper))
        alone = replace(objective, adversarial=0.0, weight=0.0, **sharper)
        return replace(base, objective=alone, model=replace(model, critic_width=0))

    made = {label(strength): changed(strength, critic=True) for strength in setting.strengths}
    return made | {FEATURE: changed(1.0, critic=False)}


def models_of(setting: Setting) -> dict[str, torch.nn.Module]:
    """Return the models that the trainings stand on, and the recipe's own shipped one, by name.

    Raises: Unavailable: one of them is not there.
    """
    judge = RECIPES[NAME].objective.judge
    if not setting.tiny:
        return shipped(judge, START, NAME)
    torch.manual_seed(0)
    config = recipes_of(setting, 0)[FEATURE].model
    return shipped(judge) | {name: Restorer(config).eval().requires_grad_(False) for name in (START, NAME)}


# ---- judging -----------------------------------------------------------------------------------------------------


def mixed(alpha: float, first: Restore, last: Restore) -> Restore:
    """Return the restorer that gives (1 - alpha) of the first's estimate and alpha of the last's."""

    def restore(seen: Degraded, degradation: Degradation) -> Tensor:
        return (1 - alpha) * first(seen, degradation) + alpha * last(seen, degradation)

    return restore


def judged(restore: Restore, images: Tensor, seed: int) -> Row:
    """Return the measures of UNITS of the first test images, uint8 (N, C, H, W), degraded by the seed's draws."""
    ruler, _, test = reference(protocol_of(len(images)))
    found: Row = {}
    for task in TASKS:
        again = restored(restore, DEGRADATIONS[task], images, seed)
        features = ruler.features(again)
        row: Row = errors(again, images) | {"fd": metrics.frechet_distance(features, test)}
        row["centre"] = (features.double().mean(0) - test.double().mean(0)).square().sum().item()
        found |= {f"{task}_{measure}": row[measure] for measure in MEASURES}
    return found


def one_run(name: str, seed: int, given: Given) -> Row:
    """Return what a label's training gives with a seed, judged by its averaged weights."""
    recipe = recipes_of(given.setting, seed)[name]
    models = {needed: given.models[needed] for needed in recipe.objective.requires}
    made = trial(recipe, images=given.train, models=models, precision=given.setting.precision)
    return attempted(made, lambda made: judged(by_model(made.average), given.test, seed))


def untrained(given: Given) -> dict[str, Restore]:
    """Return the restorers that no training of this benchmark made: the shipped two, and their mixes."""
    first, last = by_model(given.models[START]), by_model(given.models[NAME])
    mixes = {f"mix_{alpha:g}": mixed(alpha, first, last) for alpha in ALPHAS}
    return {"start": first, "shipped": last} | mixes


def floor(protocol: Protocol, seeds: tuple[int, ...]) -> list[float]:
    """Return the Frechet distance of as many training images, others for each seed, to the test images."""
    _, train, test = reference(protocol)
    orders = (torch.randperm(len(train), generator=torch.Generator().manual_seed(seed)) for seed in seeds)
    return [metrics.frechet_distance(train[order[: protocol.n]], test) for order in orders]


# ---- the record --------------------------------------------------------------------------------------------------


def words_of(setting: Setting) -> dict[str, str]:
    """Return what each label says, in the order of the record."""
    length = f"{setting.n_steps:,} steps from {START}"
    words = {"start": f"{START}, as shipped", "shipped": f"{NAME}, as shipped"}
    for strength in setting.strengths:
        beside = f", and {strength:g} times the recipe's feature loss and critic"
        words[label(strength)] = f"{length}, squared error{beside if strength else ' alone'}"
    words[FEATURE] = f"{length}, squared error and the recipe's feature loss, no critic"
    for alpha in ALPHAS:
        words[f"mix_{alpha:g}"] = f"{1 - alpha:g} of the estimate of start and {alpha:g} of that of shipped"
    return words


def summary(
    results: dict[str, Row], real: list[float], setting: Setting
) -> tuple[dict[str, Entry], list[Claim]]:
    """Return metrics and claims from {"s0 0": what the label gave with the seed, ...} and real images' distances."""
    said = "Frechet distance of as many training images to the test images, drawn for each seed"
    entries = {"real_fd": over_seeds(real, MEASURES["fd"][0], setting.n, said)}
    for name, words in words_of(setting).items():
        rows = [results[f"{name} {seed}"] for seed in setting.seeds]
        entries |= summarised(name, rows, UNITS, words=words, n=setting.n)
        if name not in recipes_of(setting, 0):  # nothing was trained
            del entries[f"{name}_diverged"]
    return entries, claimed(entries, setting)


def claimed(entries: dict[str, Entry], setting: Setting) -> list[Claim]:
    """Return what theory says of noise_40: there s0 has the least error, and pays for it in looks."""
    first, ours = label(0.0), label(1.0)

    def of(name: str, measure: str) -> float | None:
        """Return a mean over all seeds: one that misses a seed has met other damage."""
        entry = entries.get(f"{name}_noise_40_{measure}")
        return entry["value"] if entry and len(entry["values"]) == len(setting.seeds) else None

    def compared(measure: str, by: Callable[[float, float], float]) -> float | None:
        values = of(ours, measure), of(first, measure)
        return None if None in values else by(*values)

    rivals = [label(strength) for strength in setting.strengths if strength] + [FEATURE]
    least, others = of(first, "mse"), [of(name, "mse") for name in rivals]
    return [
        Claim(f"noise_40: PSNR of {ours} less that of {first}, dB", compared("psnr", lambda a, b: a - b), -0.1),
        Claim(f"noise_40: Frechet distance of {ours} over that of {first}", compared("fd", lambda a, b: a / b), 0.8),
        Claim(
            f"noise_40: squared error of {first} over the least of the other trainings",
            None if None in (least, *others) else least / min(others),
            1.0,
        ),
    ]  # fmt: skip


def measure(*, quick: bool = False, say: Callable[[str], None] = print) -> dict:
    """Return the record of the benchmark; `quick` runs all of it at a size that shows nothing.

    A full measurement that was killed goes on where it was, if neither setting, code nor weights have changed.
    Raises: Unavailable: the extra `train` is missing, or weights that the trainings stand on.
    """
    began, threads = time.time(), torch.get_num_threads()
    setting = QUICK if quick else Setting()
    protocol, models = protocol_of(setting.n), models_of(setting)
    train, test = (DATA[protocol.data](split).images for split in ("train", "test"))
    given = Given(setting, models, train, test[: setting.n])
    made_of = stamp(
        setting, own="benchmarks/perception.py", network=protocol.network, code=CODE, models=(START, NAME),
        recipes=(NAME,),
    )  # fmt: skip
    cells, results = Cells(None if quick else PROGRESS, made_of), {}

    def noted(name: str, seed: int, row: Row) -> None:
        results[f"{name} {seed}"] = row
        say(f"  {name} {seed}: " + ", ".join(f"{key} {value:.4g}" for key, value in row.items()))

    torch.set_num_threads(1)
    try:
        real = cells.get("real", lambda: floor(protocol, setting.seeds))
        for seed in setting.seeds:
            for name, restore in untrained(given).items():
                make_row = functools.partial(judged, restore, given.test, seed)
                noted(name, seed, cells.get(f"{name} {seed}", make_row))
            for name in recipes_of(setting, seed):
                run = functools.partial(one_run, name, seed, given)
                noted(name, seed, cells.get(f"{name} {seed}", run))
    finally:
        torch.set_num_threads(threads)
    entries, claims = summary(results, real, setting)
    record = make("bench-perception", seconds=time.time() - began, metrics=entries, seed=setting.seeds[0])
    cells.drop()
    made = {"weights_sha256": made_of.get("weights", {}), "setting": asdict(setting)}
    return record | made | {"claims": [claim.as_dict() for claim in claims]}
