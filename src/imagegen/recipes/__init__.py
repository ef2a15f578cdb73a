"""The complete, named trainings: data, model, objective, optimiser and budget meet here."""

import dataclasses
import functools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from imagegen import pretrained
from imagegen.data import Batches
from imagegen.recipes.adversarial import AdversarialObjective, alternating_step, optimisers
from imagegen.recipes.catalogue import RECIPES
from imagegen.recipes.code_terms import (
    HierarchyObjective,
    LevelPriorObjective,
    PriorObjective,
    VQObjective,
    codes_of,
    levels_of,
    vq_terms,
)
from imagegen.recipes.pair import PairObjective, pair_step
from imagegen.recipes.recipe import DATA, Recipe, Step, recipe_step
from imagegen.recipes.restoration import RestorationObjective, restoration_step
from imagegen.recipes.style import StyleObjective, style_optimisers, style_step
from imagegen.recipes.terms import (
    AttributeObjective,
    AutoencoderObjective,
    ClassifierObjective,
    Objective,
    VAEObjective,
    vae_terms,
)
from imagegen.training import EMA, CheckpointError, NonFiniteLoss, Session

__all__ = [
    "DATA", "RECIPES", "AdversarialObjective", "AttributeObjective", "AutoencoderObjective",
    "ClassifierObjective", "HierarchyObjective", "Job", "LevelPriorObjective", "Objective",
    "PairObjective", "PriorObjective", "Recipe", "RecipeError", "RestorationObjective", "StyleObjective",
    "VAEObjective", "VQObjective", "alternating_step", "budget", "codes_of", "levels_of", "optimisers",
    "pair_step", "plan", "recipe_step", "required", "restoration_step", "set_up", "train", "train_stale",
    "vae_terms", "vq_terms", "why_stale", "write_weights",
]  # fmt: skip


class RecipeError(RuntimeError):
    """A training cannot start as asked; the message says what to change."""


def budget() -> str:
    """Return the speed at which trainings run: IMAGEGEN_BUDGET, else "full" with a GPU and "quick" without.

    Raises: RecipeError: the variable is neither "quick" nor "full".
    """
    chosen = os.environ.get("IMAGEGEN_BUDGET") or ("full" if torch.cuda.is_available() else "quick")
    if chosen not in ("quick", "full"):
        raise RecipeError(f"IMAGEGEN_BUDGET is {chosen!r}; expected 'quick' or 'full'")
    return chosen


@dataclass(frozen=True)
class Job:
    """One training as asked for: what `plan` makes of its arguments, and what every process is given."""

    recipe: Recipe
    session: Session
    budget: str
    devices: int
    precision: str
    out: Path
    threads: int | None = None


def plan(name: str, *, speed: str | None = None, steps: int | None = None, devices: int = 1,
         precision: str | None = None, seed: int | None = None, out: Path | str | None = None,
         threads: int | None = None, **session: Any) -> Job:  # fmt: skip
    """Return the job of a recipe. Only a run at full length writes to the package's folder by default.

    Args: speed: "quick" or "full", else `budget()`. session: deadline, save_seconds, log_every, progress.
    Raises: RecipeError: no such recipe, or an argument that makes no sense.
    """
    if name not in RECIPES:
        raise RecipeError(f"there is no recipe {name!r}; recipes: {', '.join(RECIPES)}")
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun has started the processes
        devices = int(os.environ["WORLD_SIZE"])
    recipe = RECIPES[name] if seed is None else dataclasses.replace(RECIPES[name], seed=seed)
    lengths = {"full": recipe.n_steps, "quick": recipe.quick_steps}
    n_steps = lengths[speed or budget()] if steps is None else steps
    if n_steps < 1 or devices < 1:
        raise RecipeError(f"steps is {n_steps} and devices is {devices}; expected at least 1")
    if recipe.batch_size % devices:
        raise RecipeError(f"{devices} devices cannot share a batch of {recipe.batch_size} evenly")
    gpus = torch.cuda.device_count()
    if gpus and devices > gpus:
        raise RecipeError(f"{devices} devices were asked for, and there are {gpus} GPUs")
    precision = precision or (recipe.precision if gpus else "32-true")
    length = next((key for key, value in lengths.items() if value == n_steps), "custom")
    runs = Path(os.environ.get("IMAGEGEN_RUNS") or "runs")
    own = recipe.seed == RECIPES[name].seed  # weights of another seed never replace the shipped ones unasked
    folder = runs / (name if length == "full" else f"{name}-{length}")
    target = out or (pretrained.FOLDER if length == "full" and own else folder)
    identity = {"steps asked for": n_steps, "devices": devices, "precision": precision}
    identity |= {f"weights of {key}": sha256 for key, sha256 in required(recipe, folder=target).items()}
    for key, value in recipe.config().items():
        identity |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    kept = Session(folder.absolute(), identity, n_steps, **session)
    return Job(recipe, kept, length, devices, precision, Path(target).absolute(), threads)


def train(job: Job, *, restart: bool = False) -> dict[str, Any]:
    """Carry out a job, or go on with it where a checkpoint is there, and write its weights and card.

    Args: restart: throw the checkpoint away first.
    Returns: step, finished, and card (None where a deadline stopped it, and in all processes but the first).
    Raises: RecipeError: the extra `train` is missing, or weights that the recipe stands on. CheckpointError: the
        checkpoint is of another config, or stands on other weights.
    """
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.loggers import TensorBoardLogger

        logger = TensorBoardLogger(job.session.folder, name="", version="logs")
    except ImportError as error:
        raise RecipeError(f'{error}; training needs: pip install "imagegen[train]"') from None
    if restart:
        job.session.path.unlink(missing_ok=True)
    for leftover in job.session.folder.glob(".*.part"):  # of a process killed while it wrote
        leftover.unlink(missing_ok=True)
    job.session.saved()  # refuses before anything is started
    for name, sha256 in required(job.recipe, folder=job.out).items():
        if sha256 is None:
            raise RecipeError(f"{job.recipe.name} stands on the weights of {name}: train that one first")
    DATA[job.recipe.data]("train")  # one process fetches; the others then find the files
    under_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    fabric = Fabric(
        accelerator="cuda" if torch.cuda.is_available() else "cpu",
        devices=job.devices,
        strategy="ddp" if under_torchrun else "ddp_spawn" if job.devices > 1 else "auto",
        precision=job.precision,
        loggers=logger,
    )
    step = fabric.launch(functools.partial(_work, job=job))
    finished = step == job.session.n_steps
    card = write_weights(job) if finished and fabric.global_rank == 0 else None
    return {"step": step, "finished": finished, "card": card}


def _work(fabric: Any, job: Job) -> int:
    """Train in one of the processes; return the number of steps done."""
    if job.threads:
        torch.set_num_threads(job.threads)
    recipe = job.recipe
    torch.manual_seed(recipe.seed)
    needed = ((name, _home(name, job.out)) for name in recipe.objective.requires)
    models = {name: pretrained.load(name, folder=home).requires_grad_(False) for name, home in needed}
    bare = recipe.build()
    recipe.objective.begin(bare, models)
    bare = bare.to(fabric.device, memory_format=torch.channels_last)  # the faster layout
    ema = EMA(bare, recipe.ema)
    parts, step = set_up(recipe, job.session.n_steps, bare, ema, fabric, models=models)
    train = DATA[recipe.data]("train")
    share = {"rank": fabric.global_rank, "world_size": fabric.world_size, "device": fabric.device}
    items = recipe.objective.prepared(train.images, models)
    batches = Batches(items, train.labels, batch_size=recipe.batch_size, seed=recipe.seed, **share)
    return job.session.run(
        fabric,
        {"model": bare, "ema": ema} | parts,
        step,
        lambda index: (index, batches.at(index)),
        origin=pretrained.provenance(fabric.device),
    )


def set_up(recipe: Recipe, n_steps: int, bare: nn.Module, ema: EMA, fabric: Any, *, models: Any = None,
           compiler: str | None = None) -> tuple[dict[str, Any], Step]:  # fmt: skip
    """Return a training's optimisers, by the names that a checkpoint has for them, and its step.

    On a GPU the process sums in the same order from here on, run after run.
    Args: bare: the network, on the fabric's device. models: the required, by name. compiler: a backend of torch.compile
        for what fabric sets up, not for what goes through `bare`: compiled, a network has no gradient's gradient.
    """
    if fabric.device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    form = functools.partial(torch.compile, backend=compiler) if compiler else lambda player: player
    objective, known, made = recipe.objective, {}, None
    if isinstance(objective, PairObjective):
        made = pair_step
    elif isinstance(objective, RestorationObjective):
        made = restoration_step if objective.adversarial else None
        known = {"judge": models[objective.judge].to(fabric.device)} if objective.judge else {}
    elif isinstance(objective, AdversarialObjective):
        made = style_step if isinstance(objective, StyleObjective) else alternating_step
    if made:
        adams = (style_optimisers if made is style_step else optimisers)(recipe, bare)
        pairs = zip(objective.players(bare), adams, strict=True)
        players, adams = zip(*(fabric.setup(form(player), adam) for player, adam in pairs), strict=True)
        parts = dict(zip(("optimizer", "critic_optimizer", "restorer_optimizer"), adams))
        return parts, made(recipe, n_steps, bare, players, adams, ema, fabric, **known)
    adam = torch.optim.AdamW(
        bare.parameters(), lr=recipe.lr, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True
    )
    model, optimizer = fabric.setup(form(bare), adam)
    return {"optimizer": optimizer}, recipe_step(recipe, n_steps, model, optimizer, ema, fabric, **known)


def _home(name: str, folder: Path | str) -> Path | str:
    """Return the folder where a required model is: the one given, if it is there, else the package's."""
    return folder if name in pretrained.names(folder=folder) else pretrained.FOLDER


def required(recipe: Recipe, *, folder: Path | str = pretrained.FOLDER) -> dict[str, str | None]:
    """Return the SHA-256 of the weights that a recipe stands on, by name; None where they are missing."""
    found: dict[str, str | None] = {}
    for name in recipe.objective.requires:
        home = _home(name, folder)
        found[name] = (
            pretrained.card(name, folder=home)["sha256"] if name in pretrained.names(folder=home) else None
        )
    return found


def write_weights(job: Job) -> dict[str, Any]:
    """Write the averaged weights of the last checkpoint and their card into the job's `out`; return the card.

    Raises: RecipeError: there is no checkpoint, or the run is unfinished and `out` holds finished weights.
    """
    state = job.session.saved()
    if state is None:
        raise RecipeError(f"there is no checkpoint in {job.session.folder}: nothing to write yet")
    recipe, step = job.recipe, state["step"]
    reached = job.budget if step == job.session.n_steps else "partial"
    if reached != "full" and why_stale(recipe, folder=job.out) is None:
        raise RecipeError(f"{job.out} holds finished weights, these are {reached}: give another --out")
    model = recipe.build()
    model.load_state_dict(state["ema"]["module"])
    origin = state["provenance"]
    if origin["commit"] is None:
        origin |= {k: v for k, v in pretrained.provenance("cpu").items() if k in ("commit", "dirty")}
    last = state["history"][-1]
    described = {
        "name": recipe.name, "recipe": recipe.config(), "config_hash": recipe.config_hash(),
        "requires": {name: job.session.identity[f"weights of {name}"] for name in recipe.objective.requires},
        "seed": recipe.seed, "budget": reached, "steps": step, "images_seen": step * recipe.batch_size,
        **origin, "devices": job.devices, "precision": job.precision,
        "seconds": round(state["seconds"], 1), "cpu_seconds": round(state["cpu_seconds"], 1),
        "images_a_second": round(step * recipe.batch_size / state["seconds"], 1),
        "memory_mib": round(state["memory_mib"]),
        "training": {k: last[k] for k in (*recipe.objective.reported, "fetch_share")},
        "metrics": {},
    }  # fmt: skip
    return pretrained.save(model, described, folder=job.out)


def why_stale(recipe: Recipe, *, folder: Path | str = pretrained.FOLDER) -> str | None:
    """Return why the weights in a folder are not this recipe's at full length, or None where they are."""
    try:
        card = pretrained.card(recipe.name, folder=folder)
        pretrained.verify(recipe.name, folder=folder)
    except pretrained.PretrainedError as error:
        return str(error)
    then, now = card.get("recipe", {}), recipe.config()
    differing = [key for key in now if then.get(key) != now[key]]
    if differing or card.get("config_hash") != recipe.config_hash():
        return "the card's recipe differs in " + (", ".join(differing) or "its fields")
    for name, sha256 in required(recipe, folder=folder).items():
        if card.get("requires", {}).get(name) != sha256:
            return f"it stands on other weights of {name} than those that are there"
    if card.get("budget") != "full":
        return f"trained for {card.get('steps')} of {recipe.n_steps} steps"
    return None


def train_stale(*, minutes: float | None = None, say: Callable[[str], None] = print,
                **options: Any) -> list[str]:  # fmt: skip
    """Train all recipes whose weights are stale (`why_stale`), the most valuable first; return those left.

    With `minutes`, a recipe whose estimate exceeds what is left of them is left out, and one that still runs
    at the end stops with a checkpoint, so that the next call goes on with it.
    """
    end = None if minutes is None else time.time() + 60 * minutes
    left, pace = [], 1.0  # pace: minutes taken for each minute estimated, learnt from the trainings done
    for recipe in sorted(RECIPES.values(), key=lambda recipe: -recipe.value):
        job = plan(recipe.name, speed="full", deadline=end, **options)
        if (reason := why_stale(recipe, folder=job.out)) is None:
            say(f"{recipe.name}: up to date")
            continue
        say(f"{recipe.name}: stale: {reason}")
        there = required(recipe, folder=job.out).items()
        if wanting := [name for name, sha256 in there if sha256 is None or name in left]:
            say(f"{recipe.name}: left, for it stands on {', '.join(wanting)}, which must be trained first")
            left.append(recipe.name)
            continue
        try:
            state = job.session.saved()
        except CheckpointError as error:  # of the config before: of no use to this one
            aside = job.session.path.rename(job.session.path.with_suffix(".old.pt"))
            say(f"{recipe.name}: starting anew, the old checkpoint is kept as {aside} ({error})")
            state = None
        whole = recipe.gpu_minutes if torch.cuda.is_available() else recipe.cpu_minutes
        estimate = whole * (1 - (state["step"] if state else 0) / job.session.n_steps)
        if end is not None and estimate * pace > (end - time.time()) / 60:
            say(f"{recipe.name}: left, for it needs about {estimate * pace:.1f} minutes")
            left.append(recipe.name)
            continue
        began = time.time()
        try:
            result = train(job)
        except NonFiniteLoss as error:  # the others still get their turn
            say(f"{recipe.name}: left: {error}")
            left.append(recipe.name)
            continue
        if result["finished"]:
            pace = (time.time() - began) / 60 / max(estimate, 0.1)
            say(f"{recipe.name}: done, weights and card in {job.out}")
        else:
            done = f"stopped at step {result['step']} of {job.session.n_steps}"
            say(f"{recipe.name}: {done}; the same command goes on with it")
            left.append(recipe.name)
            if recipe.name not in pretrained.names(folder=job.out):
                write_weights(job)  # better than none; the card says that they are partial
    return left
