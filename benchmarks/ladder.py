"""How fast the shipped StyleGAN trains on the device that is there, rung by rung of the usual ladder.

Each rung is a training of the recipe as `imagegen train` sets it up (`recipes.set_up`, Fabric, batches from memory), in
a process of its own, so that its peak of memory is its own and what ends it ends no other. What is timed are cycles: as
many steps as it takes until both regularisers come round, each at its own frequency, so that the mean step of a cycle
is that of a training. What a machine cannot do is recorded as not run, with the reason.

torch.compile serves what the losses take through the networks that Fabric has set up: the images, and what the
discriminator says of them and of real ones in its own step. R1 and the path length differentiate a gradient, which AOT
autograd refuses to (pytorch/pytorch issue 91469), and go through the bare networks in 32 bits; so does, under autocast,
the generator's loss. A draw from a torch.Generator is not compiled either and cuts what is. On a GPU, convolutions of
32 bits are TF32 where torch allows that, which it does by default.
"""

import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
from torch import nn

from benchmarks import Unavailable
from benchmarks.record import make
from benchmarks.trials import launched
from imagegen.data import Batches
from imagegen.recipes import DATA, RECIPES, Recipe, set_up
from imagegen.training import EMA, peak_memory, run

NAME = "stylegan-avatars"


@dataclass(frozen=True)
class Rung:
    """What a training runs with. times: its batch, as a multiple of the recipe's. gpu: shows something only there."""

    words: str
    channels_last: bool = True
    precision: str = "32-true"
    compiled: bool = False
    times: int = 1
    gpu: bool = False


HALF = RECIPES[NAME].precision  # what `imagegen train` takes on a GPU
RUNGS = {
    "contiguous": Rung("32 bits, contiguous", channels_last=False),
    "channels_last": Rung("32 bits, channels-last"),
    "bf16": Rung("bf16 autocast, channels-last", precision=HALF),
    "compiled": Rung("bf16 autocast, channels-last, compiled", precision=HALF, compiled=True),
    "batch_8": Rung("bf16 autocast, channels-last, 8 times the batch", precision=HALF, times=8, gpu=True),
    "batch_64": Rung("bf16 autocast, channels-last, 64 times the batch", precision=HALF, times=64, gpu=True),
}


@dataclass(frozen=True)
class Setting:
    """warm: cycles before those that are timed. batch_size, model, objective: in the place of the recipe's.

    compiler: the backend of torch.compile. limit: how often it may compile one function, for other shapes or layers.
    """

    warm: int = 2
    cycles: int = 5
    batch_size: int = RECIPES[NAME].batch_size
    model: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    compiler: str = "inductor"
    limit: int = 64


QUICK = Setting(
    warm=1, cycles=2, batch_size=4,
    model={"latent_dim": 4, "width": 2, "critic_width": 2, "max_width": 2, "mapping_depth": 1},
    objective={"penalty_every": 2, "path_every": 2}, compiler="aot_eager",
)  # fmt: skip


def recipe_of(rung: Rung, setting: Setting) -> Recipe:
    """Return the shipped recipe with a rung's batch and what the setting changes."""
    base = RECIPES[NAME]
    model, objective = replace(base.model, **setting.model), replace(base.objective, **setting.objective)
    return replace(base, model=model, objective=objective, batch_size=rung.times * setting.batch_size)


def cycle_of(recipe: Recipe) -> int:
    """Return after how many steps both regularisers have come round."""
    objective = recipe.objective
    turns = ((objective.weight, objective.penalty_every), (objective.path_weight, objective.path_every))
    return math.lcm(*(every for weight, every in turns if weight))


@dataclass
class Training:
    """A training that is set up, on a device; `steps` takes some of its steps."""

    model: nn.Module
    device: torch.device
    recipe: Recipe
    step: Callable[[Any], dict[str, torch.Tensor]]
    batches: Batches

    def steps(self, first: int, n: int) -> None:
        """Take n steps, from number `first` on, and wait until they are done. Raises: NonFiniteLoss."""
        numbered = ((index, self.batches.at(index)) for index in range(first, first + n))
        run(self.step, numbered, first + n, first_step=first, progress=False)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def training(rung: Rung, setting: Setting) -> Training:
    """Return the training of a rung in this process. Raises: Unavailable: what it needs is not there."""
    there = torch.cuda.is_available()
    if rung.gpu and not there:
        raise Unavailable("there is no GPU")
    if there and rung.precision == HALF and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise Unavailable("this GPU has no bf16")
    recipe = recipe_of(rung, setting)
    fabric = launched(accelerator="cuda" if there else "cpu", precision=rung.precision)
    torch.manual_seed(recipe.seed)
    layout = torch.channels_last if rung.channels_last else torch.contiguous_format
    model = recipe.build().to(fabric.device, memory_format=layout)
    average = EMA(model, recipe.ema)
    compiler = setting.compiler if rung.compiled else None
    _, step = set_up(recipe, recipe.n_steps, model, average, fabric, compiler=compiler)
    images = DATA[recipe.data]("train").images
    batches = Batches(images, batch_size=recipe.batch_size, seed=recipe.seed, device=fabric.device)
    return Training(model, fabric.device, recipe, step, batches)


@contextmanager
def compiling_anew(limit: int) -> Iterator[None]:
    """Find nothing compiled before, while open, and raise where a function is compiled more often than `limit`.

    Without that it would run uncompiled from then on, with a warning at most.
    """
    import torch._dynamo  # takes seconds

    strict = {"recompile_limit": limit, "fail_on_recompile_limit_hit": True}
    torch._dynamo.utils.counters.clear()
    with TemporaryDirectory() as folder, mock.patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=folder):
        with torch._dynamo.config.patch(strict):
            yield


def measured(rung: Rung, setting: Setting) -> dict[str, float]:
    """Train as a rung says, in this process, and return its figures; with one thread on a CPU.

    ms: of a step, the median over the cycles; wall time on a GPU, CPU time elsewhere. images: a second. memory: the
    most that this process held, MiB. compiling: seconds that the first cycle took beyond a later one. graphs: compiled.
    Raises: Unavailable, and whatever else a training with such settings can raise here.
    """
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    spent, waited = [], []
    with compiling_anew(setting.limit) if rung.compiled else nullcontext():
        made = training(rung, setting)
        length = cycle_of(made.recipe)
        for cycle in range(setting.warm + setting.cycles):
            began, began_wall = clock(), time.perf_counter()
            made.steps(cycle * length, length)
            spent.append(clock() - began)
            waited.append(time.perf_counter() - began_wall)
    seconds = statistics.median(spent[setting.warm :])
    found = {"images": length * made.recipe.batch_size / seconds, "ms": 1e3 * seconds / length}
    found["memory"] = peak_memory(made.device)
    if rung.compiled:
        found["compiling"] = waited[0] - statistics.median(waited[setting.warm :])
        found["graphs"] = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    return found


def attempted(rung: Rung, setting: Setting) -> dict[str, float] | str:
    """Return a rung's figures, or the reason why it did not run, as its innermost cause says it."""
    try:
        return measured(rung, setting)
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__:
            cause = cause.__cause__
        return str(cause) if isinstance(cause, Unavailable) else f"{type(cause).__name__}: {cause}"[:300]


def apart(rung: Rung, setting: Setting) -> dict[str, float] | str:
    """Return what `attempted` does in a process of its own, which starts from nothing and ends with it."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(attempted, rung, setting).result()
        except BrokenProcessPool:
            return "its process was ended from outside, or crashed"


UNITS = {
    "images": ("images_per_second", "images/s"),
    "ms": ("ms", "ms / step"),
    "memory": ("memory", "MiB"),
    "compiling": ("compiling", "s"),
    "graphs": ("graphs", "graphs"),
}


def entries(
    name: str, found: dict[str, float], lowest: float, setting: Setting, device: str
) -> dict[str, dict]:
    """Return the metrics of a rung that ran; lowest: the images a second of the first rung."""
    rung, seconds = RUNGS[name], "wall time" if device == "cuda" else "CPU time, one thread"
    recipe = recipe_of(rung, setting)
    said = f"{rung.words}; batch {recipe.batch_size}, whole steps with R1 and path length in their turns"
    details = {
        "images": seconds, "ms": seconds,
        "memory": "most that tensors took at once" if device == "cuda" else "most that the process held, all of it",
        "compiling": "the first cycle of steps beyond a later one, wall time", "graphs": "compiled",
    }  # fmt: skip
    made = {
        f"{name}_{ending}": {"value": found[key], "unit": unit, "detail": f"{said}; {details[key]}"}
        for key, (ending, unit) in UNITS.items()
        if key in found
    }
    detail = f"{said}; images a second over those of the first rung"
    return made | {f"{name}_times": {"value": found["images"] / lowest, "unit": "times", "detail": detail}}


def measure(*, quick: bool = False, say: Callable[[str], None] = print) -> dict:
    """Return the record of the benchmark, which claims nothing; `quick` runs all of it at a size that shows nothing.

    Its `rungs` are all rungs, in their order, with the reason where one did not run.
    Raises: Unavailable: the first rung, which asks for nothing special, cannot run.
    """
    began, setting = time.time(), QUICK if quick else Setting()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    metrics: dict[str, dict] = {}
    rungs, lowest = [], None
    for name, rung in RUNGS.items():
        found = apart(rung, setting)
        reason = found if isinstance(found, str) else None
        rungs.append({"name": name, "words": rung.words, "not_run": reason})
        if reason:
            say(f"  {name}: not run: {reason}")
            if lowest is None:
                raise Unavailable(reason)
            continue
        lowest = lowest or found["images"]
        metrics |= entries(name, found, lowest, setting, device)
        say(
            f"  {name}: "
            + ", ".join(f"{found[key]:.4g} {unit}" for key, (_, unit) in UNITS.items() if key in found)
        )
    record = make(
        "bench-ladder", seconds=time.time() - began, metrics=metrics, seed=RECIPES[NAME].seed, device=device
    )
    return record | {"setting": asdict(setting), "rungs": rungs, "claims": []}
