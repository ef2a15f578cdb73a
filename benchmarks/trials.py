"""Short trainings of recipes, judged by the protocol of their data, whose results outlive a killed process.

Shared by the benchmarks that train many small networks: a training in full, its samples' figures, and cells, each of
which is a result that is written down as soon as it is there.
"""

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import Unavailable
from imagegen import metrics, pretrained
from imagegen.data import Batches
from imagegen.evaluation.adversarial import generated
from imagegen.evaluation.entries import Entry, over_seeds
from imagegen.evaluation.samples import PROTOCOLS, Protocol, reference
from imagegen.recipes import DATA, RECIPES, Recipe, set_up
from imagegen.training import EMA, NonFiniteLoss, run

ROOT = Path(__file__).resolve().parents[1]
# what a result hangs on, beside setting and recipes: after a change to one of these it is measured again
CODE = (
    "benchmarks/trials.py", "src/imagegen/stylegan/networks.py", "src/imagegen/stylegan/operators.py",
    "src/imagegen/gan.py", "src/imagegen/augment.py", "src/imagegen/recipes/style.py",
    "src/imagegen/recipes/__init__.py",
    "src/imagegen/recipes/adversarial.py", "src/imagegen/training.py", "src/imagegen/objectives/adversarial.py",
    "src/imagegen/metrics/samples.py", "src/imagegen/metrics/neighbours.py",
    "src/imagegen/evaluation/samples.py", "src/imagegen/evaluation/adversarial.py",
)  # fmt: skip
UNITS = {
    "fd": ("FD-avatars", "Frechet distance of Gaussians fitted to the features"),
    "kid": ("KID-avatars", "cubic kernel, unbiased, all pairs"),
    "precision": ("share", "samples among the real images, k = 3"),
    "recall": ("share", "real images among the samples, k = 3"),
}
Step = Callable[[int], dict[str, Tensor]]


class Cells:
    """Results by name, each kept in a line of a file as soon as it is there, so that a killed measurement goes on.

    path: the file, or None, which keeps none. stamp: what the results hang on; lines of another one are passed over,
    and so is a line that was cut short.
    """

    def __init__(self, path: Path | None, stamp: dict[str, Any]) -> None:
        self.path = path
        self.stamp = hashlib.sha256(json.dumps(stamp, sort_keys=True).encode()).hexdigest()[:16]
        self.found: dict[str, Any] = {}
        for line in path.read_text("utf-8").splitlines() if path and path.exists() else ():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if row["stamp"] == self.stamp:
                self.found[row["cell"]] = row["result"]

    def get(self, cell: str, make: Callable[[], Any]) -> Any:
        """Return the result of this name; made, and kept, where it is not there yet."""
        if cell not in self.found:
            self.found[cell] = make()
            if self.path:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                row = {"stamp": self.stamp, "cell": cell, "result": self.found[cell]}
                with open(self.path, "a", encoding="utf-8") as file:
                    file.write("\n" + json.dumps(row) + "\n")  # the last line may have been cut short
                    file.flush()
                    os.fsync(file.fileno())
        return self.found[cell]

    def drop(self) -> None:
        """Remove the file: the record is made."""
        if self.path:
            self.path.unlink(missing_ok=True)


def stamp(setting: Any, *, own: str, network: str, code: Sequence[str] = CODE, models: Sequence[str] = (),
          recipes: Sequence[str] = ("dcgan-avatars", "stylegan-avatars")) -> dict[str, Any]:  # fmt: skip
    """Return what results hang on: setting, code (`own`, the benchmark's file, too), recipes, torch, features.

    models: shipped weights that they hang on besides; those that are not there are left out.
    """
    digest = hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in (*code, own))).hexdigest()
    plain, there = json.loads(json.dumps(dataclasses.asdict(setting))), pretrained.names()
    weights = {name: pretrained.card(name)["sha256"] for name in models if name in there}
    return {
        "setting": plain, "code": digest, "recipes": {name: RECIPES[name].config_hash() for name in recipes},
        "torch": torch.__version__, "features": pretrained.card(network)["sha256"],
    } | ({"weights": weights} if models else {})  # fmt: skip


@dataclass
class Trial:
    """A training that is set up: its networks, their running average, and its step, of an index."""

    model: nn.Module
    average: nn.Module
    step: Step
    n_steps: int

    def train(self) -> float:
        """Take all steps; return the CPU seconds. Raises: NonFiniteLoss."""
        began = time.process_time()
        run(self.step, range(self.n_steps), self.n_steps, log_every=20, progress=False)
        return time.process_time() - began


def launched(**options: Any) -> Any:
    """Return lightning's Fabric with its options, on one device. Raises: Unavailable: the extra `train` is missing."""
    try:
        from lightning_fabric import Fabric
    except ImportError:
        raise Unavailable(
            "the training's launcher is missing; `make env` installs lightning-fabric"
        ) from None
    return Fabric(devices=1, **options)


def shipped(*names: str) -> dict[str, nn.Module]:
    """Return shipped models by name, their weights fixed. Raises: Unavailable: one of them is not there."""
    missing = sorted(set(names) - set(pretrained.names()))
    if missing:
        raise Unavailable(f"no weights of {', '.join(missing)}; train first: imagegen train {missing[0]}")
    return {name: pretrained.load(name).requires_grad_(False) for name in names}


def trial(recipe: Recipe, *, n_steps: int | None = None, images: Tensor | None = None,
          change: Callable[[nn.Module], None] | None = None,
          models: dict[str, nn.Module] | None = None, precision: str = "32-true") -> Trial:  # fmt: skip
    """Return a recipe's training on one CPU process, begun where the recipe begins it.

    Args: n_steps: in the place of the recipe's, its schedule with them. images: uint8, of its data unless given.
        change: alters the network, at its start, before anything else sees it. models: those that the recipe's
        objective requires, by name; the shipped ones unless given. precision: as lightning's Fabric names it.
    Raises: Unavailable: the extra `train` is missing, or the weights of a required model.
    """
    fabric, n_steps = launched(accelerator="cpu", precision=precision), n_steps or recipe.n_steps
    objective = recipe.objective
    models = shipped(*objective.requires) if models is None else models
    torch.manual_seed(recipe.seed)
    model = recipe.build()
    objective.begin(model, models)
    model = model.to(memory_format=torch.channels_last)
    if change:
        change(model)
    average = EMA(model, recipe.ema)
    _, update = set_up(recipe, n_steps, model, average, fabric, models=models)
    images = DATA[recipe.data]("train").images if images is None else images
    items = objective.prepared(images, models)
    batches = Batches(items, batch_size=recipe.batch_size, seed=recipe.seed)
    return Trial(model, average.module, lambda index: update((index, batches.at(index))), n_steps)


def protocol_of(n: int) -> Protocol:
    """Return the protocol of the avatars with n samples against n test images."""
    return dataclasses.replace(PROTOCOLS["avatars"], n=n)


@torch.inference_mode()
def judged(model: nn.Module, protocol: Protocol) -> dict[str, float]:
    """Return the measures of UNITS of n samples of a model, whose latents and noise are the same on each call."""
    model.eval()
    ruler, _, test = reference(protocol)
    images = generated(model, protocol.n, torch.Generator().manual_seed(99))
    return compared(ruler.features(images), test)


def compared(features: Tensor, test: Tensor) -> dict[str, float]:
    """Return the measures of UNITS of features (N, F) against those of the test images (M, F)."""
    precision, recall = metrics.precision_recall(test, features)
    return {
        "fd": metrics.frechet_distance(features, test), "kid": metrics.kernel_distance(features, test),
        "precision": precision, "recall": recall,
    }  # fmt: skip


def real(protocol: Protocol) -> dict[str, float]:
    """Return the measures of n training images in the place of samples."""
    _, train, test = reference(protocol)
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[: protocol.n]
    return compared(train[chosen], test)


def attempted(made: Trial, judge: Callable[[Trial], dict[str, Any]]) -> dict[str, Any]:
    """Train and return what `judge` finds, "cpu_seconds" and "steps"; of one that diverged "diverged", the step."""
    try:
        seconds = made.train()
    except NonFiniteLoss as error:
        return {"diverged": error.step}
    return judge(made) | {"cpu_seconds": seconds, "steps": made.n_steps}


def summarised(name: str, rows: list[dict[str, Any]], units: dict[str, tuple[str, str]], *, words: str,
               n: int) -> dict[str, Entry]:  # fmt: skip
    """Return the entries of a way's runs, one a seed: means over those that did not diverge, and how many did."""
    whole = [row for row in rows if "diverged" not in row]
    found: dict[str, Entry] = {}
    for measure, (unit, what) in units.items():
        if len(whole) > 1 and measure in whole[0]:
            values = [float(row[measure]) for row in whole]
            found[f"{name}_{measure}"] = over_seeds(values, unit, n, f"{words}; {what}")
    found[f"{name}_diverged"] = {
        "value": len(rows) - len(whole), "unit": "runs", "n": len(rows),
        "detail": f"{words}; runs that ended in a number that is not finite, and are in no other figure",
    }  # fmt: skip
    return found


def real_entries(measures: dict[str, float], n: int) -> dict[str, Entry]:
    """Return the entries of real images in the place of samples."""
    return {
        f"real_{measure}": {
            "value": value, "unit": UNITS[measure][0], "n": n,
            "detail": f"training images in the place of samples; {UNITS[measure][1]}",
        }
        for measure, value in measures.items()
    }  # fmt: skip
