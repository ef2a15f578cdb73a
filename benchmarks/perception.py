"""What a restorer pays in squared error for images that look like images, from short trainings of one restorer.

All start from the shipped `restore-avatars`, which was trained on squared error, and go on with the shipped recipe of
its sharpened partner, shortened, with another weight of the critic's term each: "w0" with squared error alone, "w0.01"
and so on with the recipe's feature loss and a critic, and "feature" with the feature loss and no critic. Beside them
"start", the shipped restorer that all begin with, and "shipped", its partner, trained many times as long. Then what
costs no training: mixes (1 - a) x_0 + a x_1 of the estimates of w0 and of the largest weight, with the same seed and
from the same y. Where x_0 is the posterior mean and x_1 the best image for the images' law, such mixes are the best
that there is at their distance from that law, in squared error and W2 (Freirich, Michaeli and Meir 2021,
arXiv:2107.02555); what is trained here is neither, and a Frechet distance of features is not W2 of images.

PSNR is the mean over images of each one's. Where a few images carry the error, as behind a mask, that can rise while
the mean squared error rises too, so the latter is kept beside it. The Frechet distance compares the restored images
with the clean ones, the same images: it would be 0 where nothing was lost. Images that are as good and not the same
stay above it; "real_fd" says by how much, for other real images, as many.
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
    Trial,
    attempted,
    errors,
    protocol_of,
    shipped,
    stamp,
    summarised,
    trial,
)
from imagegen import metrics
from imagegen.degrade import Degradation, Degraded
from imagegen.evaluation.entries import SQUARED, Entry, over_seeds
from imagegen.evaluation.restorers import DEGRADATIONS, Restore, by_model, restored
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
}
UNITS = {
    f"{task}_{measure}": (unit, f"{what}; {task}, drawn for each seed")
    for task in TASKS
    for measure, (unit, what) in MEASURES.items()
}
Row = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """weights: of the critic's term, 0 first, the recipe's among them. n: test images.

    tiny: the networks' width, to try the code with a start that is not trained; 0 takes the recipe's.
    """

    weights: tuple[float, ...] = (0.0, 0.01, 0.03, 0.1, 0.3)
    n_steps: int = 400
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


QUICK = Setting(weights=(0.0, 0.1), n_steps=2, lr_warmup=1, n=12, seeds=(0, 1), tiny=2)


def label(weight: float) -> str:
    return f"w{weight:g}"


def ends(setting: Setting) -> tuple[str, str]:
    """Return the labels of the runs that are mixed: without a critic, and with the largest weight."""
    return label(min(setting.weights)), label(max(setting.weights))


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

    def changed(**objective: Any) -> Recipe:
        if objective["adversarial"]:
            return replace(base, objective=replace(base.objective, **objective))
        alone = replace(base.objective, weight=0.0, **objective)
        return replace(base, objective=alone, model=replace(model, critic_width=0))

    plain = {"feature": 0.0, "judge": ""}
    made = {label(w): changed(adversarial=w, **({} if w else plain)) for w in setting.weights}
    return made | {FEATURE: changed(adversarial=0.0)}


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
        row = errors(again, images) | {"fd": metrics.frechet_distance(ruler.features(again), test)}
        found |= {f"{task}_{measure}": value for measure, value in row.items()}
    return found


def one_run(name: str, seed: int, given: Given) -> tuple[Row, Restore | None]:
    """Return what a label's training gives with a seed, and its averaged restorer; None where it diverged."""
    kept: list[Restore] = []

    def judge(made: Trial) -> Row:
        kept.append(by_model(made.average))
        return judged(kept[0], given.test, seed)

    recipe = recipes_of(given.setting, seed)[name]
    models = {needed: given.models[needed] for needed in recipe.objective.requires}
    found = attempted(trial(recipe, images=given.train, models=models), judge)
    return found, kept[0] if kept else None


def both_ends(seed: int, given: Given) -> dict[str, Row]:
    """Return what the ends of the curve give with a seed, and their mixes: of one diverged end there are none."""
    pairs = {name: one_run(name, seed, given) for name in ends(given.setting)}
    rows = {name: row for name, (row, _) in pairs.items()}
    (_, first), (_, last) = pairs.values()
    for alpha in ALPHAS:
        made: Row = {"diverged": -1}
        if first and last:
            made = judged(mixed(alpha, first, last), given.test, seed)
        rows[f"mix_{alpha:g}"] = made
    return rows


def floor(protocol: Protocol, seeds: tuple[int, ...]) -> list[float]:
    """Return the Frechet distance of as many training images, others for each seed, to the test images."""
    _, train, test = reference(protocol)
    orders = (torch.randperm(len(train), generator=torch.Generator().manual_seed(seed)) for seed in seeds)
    return [metrics.frechet_distance(train[order[: protocol.n]], test) for order in orders]


# ---- the record --------------------------------------------------------------------------------------------------


def words_of(setting: Setting) -> dict[str, str]:
    """Return what each label says, in the order of the record."""
    first, last = ends(setting)
    length = f"{setting.n_steps:,} steps from {START}"
    words = {"start": f"{START}, as shipped", "shipped": f"{NAME}, as shipped"}
    for weight in setting.weights:
        with_critic = f"feature loss and a critic of weight {weight:g}"
        words[label(weight)] = f"{length}, {with_critic if weight else 'squared error alone'}"
    words[FEATURE] = f"{length}, squared error and feature loss, no critic"
    for alpha in ALPHAS:
        words[f"mix_{alpha:g}"] = f"{1 - alpha:g} of the estimate of {first} and {alpha:g} of that of {last}"
    return words


def summary(
    results: dict[str, Row], real: list[float], setting: Setting
) -> tuple[dict[str, Entry], list[Claim]]:
    """Return metrics and claims from {"w0 0": what the label gave with the seed, ...} and real images' distances."""
    said = "Frechet distance of as many training images to the test images, drawn for each seed"
    entries = {"real_fd": over_seeds(real, MEASURES["fd"][0], setting.n, said)}
    for name, words in words_of(setting).items():
        rows = [results[f"{name} {seed}"] for seed in setting.seeds]
        entries |= summarised(name, rows, UNITS, words=words, n=setting.n)
        if name not in recipes_of(setting, 0):  # nothing was trained
            del entries[f"{name}_diverged"]
    return entries, claimed(entries, setting)


def claimed(entries: dict[str, Entry], setting: Setting) -> list[Claim]:
    """Return what theory says of noise_40: there w0 has the least error, and pays for it in looks."""
    first, ours = ends(setting)[0], label(RECIPES[NAME].objective.adversarial)

    def of(name: str, measure: str) -> float | None:
        """Return a mean over all seeds: one that misses a seed has met other damage."""
        entry = entries.get(f"{name}_noise_40_{measure}")
        return entry["value"] if entry and len(entry["values"]) == len(setting.seeds) else None

    def compared(measure: str, by: Callable[[float, float], float]) -> float | None:
        values = of(ours, measure), of(first, measure)
        return None if None in values else by(*values)

    rivals = [label(weight) for weight in setting.weights if label(weight) != first] + [FEATURE]
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

    def noted(seed: int, rows: dict[str, Row]) -> None:
        for name, row in rows.items():
            results[f"{name} {seed}"] = row
            say(f"  {name} {seed}: " + ", ".join(f"{key} {value:.4g}" for key, value in row.items()))

    torch.set_num_threads(1)
    try:
        real = cells.get("real", lambda: floor(protocol, setting.seeds))
        for seed in setting.seeds:
            for name, model in (("start", START), ("shipped", NAME)):
                make_row = functools.partial(judged, by_model(models[model]), given.test, seed)
                noted(seed, {name: cells.get(f"{name} {seed}", make_row)})
            noted(seed, cells.get(f"ends {seed}", functools.partial(both_ends, seed, given)))
            for name in recipes_of(setting, seed):
                if name not in ends(setting):
                    run = functools.partial(one_run, name, seed, given)
                    noted(seed, {name: cells.get(f"{name} {seed}", lambda run=run: run()[0])})
    finally:
        torch.set_num_threads(threads)
    entries, claims = summary(results, real, setting)
    record = make("bench-perception", seconds=time.time() - began, metrics=entries, seed=setting.seeds[0])
    cells.drop()
    made = {"weights_sha256": made_of.get("weights", {}), "setting": asdict(setting)}
    return record | made | {"claims": [claim.as_dict() for claim in claims]}
