"""What holds a discriminator back, side by side: nothing, clipping, gradient penalty, spectral normalisation, R1.

Two data sets, eight Gaussians on a ring and Fashion-MNIST. On each, every way has the same networks, the same batches
a seed, the same optimiser and the same CPU seconds of one thread, as the steps cost when all ways were timed by turns:
from its cost each way gets a number of steps, equal for all seeds, so that a slow hour of the machine changes no run.
Given the steps, a seed gives the same run again. Judged are the last weights, without an average, which would hide a
training that goes round in circles.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from benchmarks.clock import in_turn
from benchmarks.record import Claim, make, packed
from benchmarks.ring import MODES, STD, found
from imagegen import metrics
from imagegen.data import Batches, ring_of_gaussians
from imagegen.evaluation.entries import Entry, over_seeds
from imagegen.evaluation.samples import PROTOCOLS, Protocol, reference
from imagegen.gan import GAN, GANConfig, clip_weights
from imagegen.images import to_uint8
from imagegen.pretrained import provenance
from imagegen.recipes import DATA, AdversarialObjective
from imagegen.training import run, write_atomic

PROGRESS = Path(__file__).resolve().parents[1] / "runs/bench-stability.json"
FASHION = "fashion-mnist"
Step = Callable[[int], dict[str, Tensor]]
Results, Costs = dict[str, dict[str, Any]], dict[str, dict[str, float]]


@dataclass(frozen=True)
class Way:
    """A way to hold the discriminator back. spectral: its layers are normalised. words: for the results page."""

    words: str
    objective: AdversarialObjective
    spectral: bool = False


def ways(gamma: float, bound: float, weight: float, critic_steps: int) -> dict[str, Way]:
    """Return the ways.

    gamma: R1's weight. bound: of the clipped weights. weight: of the gradient penalty. critic_steps: of a critic of W1,
    for each step of the generator.
    """
    critic = AdversarialObjective(loss="wasserstein", critic_steps=critic_steps)
    return {
        "none": Way("non-saturating, nothing", AdversarialObjective()),
        "clipping": Way("Wasserstein, weights clipped", replace(critic, bound=bound)),
        "gradient": Way("Wasserstein, gradient penalty", replace(critic, penalty="gradient", weight=weight)),
        "spectral": Way("hinge, spectral normalisation", AdversarialObjective(loss="hinge"), spectral=True),
        "r1": Way("non-saturating, R1", AdversarialObjective(penalty="r1", weight=gamma)),
    }


@dataclass(frozen=True)
class Setting:
    """What is trained, and for how many CPU seconds a run. Of two values, the first is for the ring.

    The cost of a way's step is the median of `rounds` by turns, in each of which it takes `timed` steps. Many short
    rounds, because on a busy machine a median of a few long ones differs from one time to the next.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    seconds: tuple[float, float] = (8.0, 30.0)
    rounds: int = 41
    timed: tuple[int, int] = (6, 2)
    batch_size: tuple[int, int] = (256, 32)
    lr: tuple[float, float] = (1e-3, 5e-4)
    betas: tuple[float, float] = (0.0, 0.9)
    gamma: tuple[float, float] = (1.0, 1.0)
    bound: tuple[float, float] = (0.1, 0.05)
    weight: tuple[float, float] = (0.1, 10.0)
    critic_steps: int = 2
    hidden: int = 64
    width: int = 16
    max_width: int = 128
    latent_dim: int = 32
    n_points: int = 2_000  # of the ring, judged
    n_moved: int = 500  # of them, matched with as many real points
    n_images: int = 5_000
    n_shown: tuple[int, int] = (250, 12)  # points and images of the first seed's runs, kept to be looked at


QUICK = Setting(
    seeds=(0, 1), seconds=(0.0, 0.0), rounds=1, timed=(2, 2), batch_size=(8, 4), hidden=4, width=4, max_width=4,
    latent_dim=4, n_points=40, n_moved=20, n_images=12, n_shown=(3, 2),
)  # fmt: skip


def moving_cost(x: Tensor, y: Tensor) -> float:
    """Return W1 of two sets of equally many points (N, D), exactly: the cheapest matching, by distance."""
    cost = torch.cdist(x.double(), y.double()).numpy()
    return float(cost[linear_sum_assignment(cost)].mean())


def players(config: GANConfig, way: Way, batches: Callable[[int], Tensor], *, lr: float, betas: tuple[float, float],
            seed: int) -> tuple[GAN, Step]:  # fmt: skip
    """Return a model and its step, which moves the discriminator, and the generator at each `critic_steps`th index.

    batches: index -> real data (B, ...).
    """
    torch.manual_seed(seed)
    model = GAN(replace(config, normalise_critic="spectral" if way.spectral else "none"))
    adams = [
        torch.optim.Adam(p.parameters(), lr=lr, betas=betas, fused=True)
        for p in (model.generator, model.discriminator)
    ]
    objective, generator = way.objective, torch.Generator().manual_seed(seed)

    def step(index: int) -> dict[str, Tensor]:
        real = batches(index)
        with torch.no_grad():
            fake = model.sample(len(real), generator=generator)
        terms = objective.critic_terms(model.discriminator, real, fake, step=index, generator=generator)
        loss = {"discriminator": terms["loss"].mean()}
        adams[1].zero_grad()
        loss["discriminator"].backward()
        adams[1].step()
        if objective.bound:
            clip_weights(model.discriminator, objective.bound)
        if (index + 1) % objective.critic_steps == 0:
            model.discriminator.requires_grad_(False)
            fake = model.sample(len(real), generator=generator)
            gain = objective.generator_terms(model.discriminator, fake)["loss"].mean()
            adams[0].zero_grad()
            gain.backward()
            adams[0].step()
            model.discriminator.requires_grad_(True)
        return loss

    return model, step


def started(name: str, kind: str, seed: int, train: Tensor, setting: Setting) -> tuple[GAN, Step]:
    """Return the model and the step of a way on the data set "ring" or "fashion"; train: the images of the second."""
    which = int(name == "fashion")
    size, width = setting.batch_size[which], setting.width if which else setting.hidden
    source = Batches(train, batch_size=size, seed=seed) if which else None
    random = torch.Generator().manual_seed(1000 + seed)
    config = GANConfig(
        *(("dcgan", tuple(train.shape[1:])) if which else ("mlp", (2,))), latent_dim=setting.latent_dim,
        width=width, critic_width=width, max_width=setting.max_width,
    )  # fmt: skip

    def batches(index: int) -> Tensor:
        return source.at(index).x if source else ring_of_gaussians(size, std=STD, generator=random)[0]

    way = ways_on(name, setting)[kind]
    return players(config, way, batches, lr=setting.lr[which], betas=setting.betas, seed=seed)


def taken(step: Step, n_steps: int) -> None:
    """Take the steps, in the runs and where they are timed."""
    run(step, range(n_steps), n_steps, log_every=10, progress=False)


def costs(name: str, train: Tensor, setting: Setting) -> dict[str, float]:
    """Return the CPU seconds of a step of each way, timed by turns."""
    n = setting.timed[int(name == "fashion")]
    steps = {
        kind: started(name, kind, setting.seeds[0], train, setting)[1] for kind in ways_on(name, setting)
    }
    spent = in_turn({kind: lambda s=step: taken(s, n) for kind, step in steps.items()}, setting.rounds)
    return {kind: milliseconds / 1e3 / n for kind, milliseconds in spent.items()}


@torch.inference_mode()
def judged_points(model: GAN, setting: Setting) -> dict:
    """Return modes found, the share of points within 3 standard deviations of one, and W1 to as many real points."""
    points = model.sample(setting.n_points, generator=torch.Generator().manual_seed(99))
    modes, share = found(points)
    real, _ = ring_of_gaussians(setting.n_moved, std=STD, generator=torch.Generator().manual_seed(98))
    return {
        "modes": modes, "high_quality": share, "w1": moving_cost(points[: setting.n_moved], real),
        "shown": as_text(points[: setting.n_shown[0]]),
    }  # fmt: skip


@torch.inference_mode()
def judged_images(model: GAN, setting: Setting, protocol: Protocol) -> dict:
    """Return the Frechet distance and the recall of samples, as rounded to 8 bits, by the protocol of the data."""
    ruler, _, test = reference(protocol)
    generator = torch.Generator().manual_seed(99)
    parts = torch.arange(setting.n_images).split(250)
    images = torch.cat([to_uint8(model.sample(len(part), generator=generator)) for part in parts])
    features = ruler.features(images)
    return {
        "fd": metrics.frechet_distance(features, test),
        "recall": metrics.precision_recall(test, features)[1],
        "shown": as_text(images[: setting.n_shown[1]]),
    }


def as_text(samples: Tensor) -> str:
    """Return bytes as base64: images as they are; of points (N, 2), round(255 (c + 3) / 6) of each coordinate c."""
    if samples.dtype != torch.uint8:
        samples = ((samples + 3) / 6).clamp(0, 1).mul(255).round().to(torch.uint8)
    return packed(samples)


def compared(setting: Setting, say: Callable[[str], None], kept: Path | None, origin: dict[str, Any]
             ) -> tuple[Results, Costs]:  # fmt: skip
    """Return what each run gave, {"ring r1 0": measures}, and the cost of a step, {"ring": {"r1": CPU seconds}}.

    The first entries, "ring real" and "fashion real", are those of real data in the place of samples. A run of the
    first seed also has "shown", a few of its samples as text.
    Args: kept: a file of runs and costs; those of the same setting and `origin` are not measured again.
    """
    protocol = replace(PROTOCOLS[FASHION], n=setting.n_images)
    train = DATA[FASHION]("train").images
    stamp = json.loads(json.dumps({"setting": asdict(setting), "origin": origin}))
    state = json.loads(kept.read_text("utf-8")) if kept and kept.exists() else {}
    if state.get("stamp") != stamp:
        state = {"stamp": stamp, "cost": {}, "runs": {}}

    def keep() -> None:
        if kept:
            write_atomic(kept, json.dumps(state).encode())

    for name in ("ring", "fashion"):
        if name not in state["cost"]:
            state["cost"][name] = costs(name, train, setting)
            keep()
    for seed in setting.seeds:
        for name in ("ring", "fashion"):
            for kind, cost in state["cost"][name].items():
                key = f"{name} {kind} {seed}"
                if key not in state["runs"]:
                    n_steps = max(10, round(setting.seconds[int(name == "fashion")] / cost))
                    state["runs"][key] = one_run(name, kind, seed, n_steps, train, setting, protocol)
                    keep()
                said = (f"{k} {v:.4g}" for k, v in state["runs"][key].items() if k != "shown")
                say(f"  {key}: " + ", ".join(said))
    return real_data(setting, protocol) | state["runs"], state["cost"]


def real_data(setting: Setting, protocol: Protocol) -> Results:
    """Return the measures of real data in the place of samples."""
    _, features, test = reference(protocol)
    few = [ring_of_gaussians(setting.n_moved, std=STD, generator=torch.Generator().manual_seed(s))[0]
           for s in (97, 98)]  # fmt: skip
    chosen = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))[: setting.n_images]
    return {
        "ring real": {"w1": moving_cost(*few)},
        "fashion real": {
            "fd": metrics.frechet_distance(features[chosen], test),
            "recall": metrics.precision_recall(test, features[chosen])[1],
        },
    }


def ways_on(name: str, setting: Setting) -> dict[str, Way]:
    """Return the ways as the setting has them on the data set "ring" or "fashion"."""
    which = int(name == "fashion")
    return ways(setting.gamma[which], setting.bound[which], setting.weight[which], setting.critic_steps)


def one_run(name: str, kind: str, seed: int, n_steps: int, train: Tensor, setting: Setting, protocol: Protocol
            ) -> dict[str, Any]:  # fmt: skip
    """Return the measures of one training, "steps" of it, and of the first seed a few samples, "shown"."""
    model, step = started(name, kind, seed, train, setting)
    taken(step, n_steps)
    model.eval()
    judged = judged_images(model, setting, protocol) if name == "fashion" else judged_points(model, setting)
    if seed != setting.seeds[0]:
        del judged["shown"]
    return judged | {"steps": n_steps}


UNITS = {
    "modes": ("modes", "of 8 that hold at least a twentieth of their share of the points"),
    "high_quality": ("share", "of points within 3 standard deviations of a mode; of the data's own 0.989"),
    "w1": ("distance", "W1 to real points, by the cheapest matching"),
    "fd": ("FD-fashion", "Frechet distance of Gaussians fitted to the features"),
    "recall": ("share", "of real images among the samples, k = 3"),
}


def summary(results: Results, cost: Costs, setting: Setting) -> tuple[dict[str, Entry], list[Claim]]:
    """Return the metrics, means over seeds, and the claims: what holds for the worst of the seeds."""
    entries: dict[str, Entry] = {}
    for which, name in enumerate(("ring", "fashion")):
        n = setting.n_images if which else setting.n_points
        for measure, value in results[f"{name} real"].items():
            unit, what = UNITS[measure]
            said = f"real data in the place of samples; {what}"
            entries[f"{name}_real_{measure}"] = {"value": value, "unit": unit, "n": n, "detail": said}
        for kind, way in ways_on(name, setting).items():
            rows = [results[f"{name} {kind} {seed}"] for seed in setting.seeds]
            time_given = f"{way.words}; {setting.seconds[which]:g} CPU seconds a run"
            for measure in (measure for measure in rows[0] if measure in UNITS):
                unit, what = UNITS[measure]
                size = setting.n_moved if measure == "w1" else n
                values = [float(row[measure]) for row in rows]
                entries[f"{name}_{kind}_{measure}"] = over_seeds(values, unit, size, f"{time_given}; {what}")
            n_steps, timed = rows[0]["steps"], setting.rounds * setting.timed[which]
            entries |= {f"{name}_{kind}_{what}": {"value": value, "unit": unit, "n": n_of, "detail": said}
                for what, value, unit, n_of, said in (
                    ("updates", n_steps // way.objective.critic_steps, "updates", len(rows),
                     f"{time_given}; of the generator, in each run"),
                    ("steps", n_steps, "steps", len(rows), f"{time_given}; of the discriminator, in each run"),
                    ("cost", 1e3 * cost[name][kind], "ms / step", timed,
                     f"{way.words}; CPU time, the median of {setting.rounds} rounds by turns"),
                )}  # fmt: skip

    def against(measure: str) -> float:
        r1, clipping = (entries[measure.format(kind)]["value"] for kind in ("r1", "clipping"))
        return r1 / clipping

    missing = MODES - min(entries["ring_r1_modes"]["values"])
    return entries, [
        Claim("modes of the ring that R1 misses, worst seed", missing, 0),
        Claim("W1 on the ring, R1 against clipping", against("ring_{}_w1"), 1.0),
        Claim("FD-fashion, R1 against clipping", against("fashion_{}_fd"), 1.0),
    ]


def measure(*, quick: bool = False, say: Callable[[str], None] = print) -> dict:
    """Return the record of the benchmark, with its claims; `quick` runs all of it at a size that shows nothing.

    A full measurement from a clean tree that was killed goes on where it was, if nothing was changed; its runs are
    kept until the record is made. "shown" holds samples of the first seed's runs.
    """
    began, threads = time.time(), torch.get_num_threads()
    setting = QUICK if quick else Setting()
    origin = {key: value for key, value in provenance("cpu").items() if key in ("commit", "dirty", "torch")}
    kept = None if quick or origin["dirty"] is not False else PROGRESS
    torch.set_num_threads(1)
    try:
        results, cost = compared(setting, say, kept, origin)
    finally:
        torch.set_num_threads(threads)
    entries, claims = summary(results, cost, setting)
    record = make("bench-stability", seconds=time.time() - began, metrics=entries, seed=setting.seeds[0])
    shown = {key.rsplit(" ", 1)[0]: row["shown"] for key, row in results.items() if "shown" in row}
    if kept:
        kept.unlink(missing_ok=True)
    return record | origin | {
        "setting": asdict(setting), "claims": [claim.as_dict() for claim in claims], "shown": shown,
    }  # fmt: skip
