"""What holds a discriminator back, side by side: nothing, clipping, gradient penalty, spectral normalisation, R1.

Two data sets, eight Gaussians on a ring and Fashion-MNIST. On each, every way has the same networks, the same batches
a seed, the same optimiser and the same CPU seconds of one thread, whatever its steps cost. Judged are the last weights,
without an average, which would hide a training that goes round in circles.
"""

import base64
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from benchmarks.record import Claim, make
from imagegen import metrics
from imagegen.data import Batches, ring_centres, ring_of_gaussians
from imagegen.evaluation.entries import Entry, over_seeds
from imagegen.evaluation.samples import PROTOCOLS, Protocol, reference
from imagegen.gan import GAN, GANConfig, clip_weights
from imagegen.images import to_uint8
from imagegen.recipes import DATA, AdversarialObjective
from imagegen.training import run, write_atomic

PROGRESS = Path(__file__).resolve().parents[1] / "runs/bench-stability.json"
FASHION = "fashion-mnist"
MODES, STD = 8, 0.05  # of the ring


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
    """What is trained, and for how many CPU seconds a run. Of two values, the first is for the ring."""

    seeds: tuple[int, ...] = (0, 1, 2)
    seconds: tuple[float, float] = (8.0, 30.0)
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
    seeds=(0, 1), seconds=(0.0, 0.0), batch_size=(8, 4), hidden=4, width=4, max_width=4,
    latent_dim=4, n_points=40, n_moved=20, n_images=12, n_shown=(3, 2),
)  # fmt: skip


def moving_cost(x: Tensor, y: Tensor) -> float:
    """Return W1 of two sets of equally many points (N, D), exactly: the cheapest matching, by distance."""
    cost = torch.cdist(x.double(), y.double()).numpy()
    return float(cost[linear_sum_assignment(cost)].mean())


def trained(config: GANConfig, way: Way, batches: Callable[[int], Tensor], lr: float, betas: tuple[float, float],
            seconds: float, seed: int) -> tuple[GAN, int]:  # fmt: skip
    """Return the model after `seconds` of CPU time, at least 10 steps, and how often its generator moved.

    batches: step -> real data (B, ...).
    """
    torch.manual_seed(seed)
    model = GAN(replace(config, normalise_critic="spectral" if way.spectral else "none"))
    adams = [
        torch.optim.Adam(p.parameters(), lr=lr, betas=betas, fused=True)
        for p in (model.generator, model.discriminator)
    ]
    objective, generator = way.objective, torch.Generator().manual_seed(seed)
    moved = 0

    def step(index: int) -> dict[str, Tensor]:
        nonlocal moved
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
            moved += 1
            model.discriminator.requires_grad_(False)
            fake = model.sample(len(real), generator=generator)
            gain = objective.generator_terms(model.discriminator, fake)["loss"].mean()
            adams[0].zero_grad()
            gain.backward()
            adams[0].step()
            model.discriminator.requires_grad_(True)
        return loss

    end = time.process_time() + seconds
    run(step, iter(range(10**9)), 10**9, log_every=10, progress=False,
        on_log=lambda _: time.process_time() >= end)  # fmt: skip
    return model.eval(), moved


@torch.inference_mode()
def judged_points(model: GAN, setting: Setting) -> dict:
    """Return modes found, the share of points within 3 standard deviations of one, and W1 to as many real points.

    A mode is found if it holds at least a twentieth of its fair share.
    """
    points = model.sample(setting.n_points, generator=torch.Generator().manual_seed(99))
    counts, share = metrics.mode_counts(points, ring_centres(MODES), std=STD)
    real, _ = ring_of_gaussians(setting.n_moved, std=STD, generator=torch.Generator().manual_seed(98))
    found = (counts >= setting.n_points / (20 * MODES)).sum().item()
    return {
        "modes": found, "high_quality": share, "w1": moving_cost(points[: setting.n_moved], real),
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
    return base64.b64encode(samples.numpy().tobytes()).decode()


def compared(setting: Setting, say: Callable[[str], None], kept: Path | None) -> dict[str, dict]:
    """Return what each run gave: {"ring r1 0": measures}. kept: runs of the same setting found there are not repeated.

    The first entries, "ring real" and "fashion real", are those of real data in the place of samples. A run of the
    first seed also has "shown", a few of its samples as text.
    """
    protocol = replace(PROTOCOLS[FASHION], n=setting.n_images)
    train, stamp = DATA[FASHION]("train").images, json.loads(json.dumps(asdict(setting)))
    done = json.loads(kept.read_text("utf-8")) if kept and kept.exists() else {}
    done = done["runs"] if done.get("setting") == stamp else {}
    _, features, test = reference(protocol)
    few = [ring_of_gaussians(setting.n_moved, std=STD, generator=torch.Generator().manual_seed(s))[0]
           for s in (97, 98)]  # fmt: skip
    chosen = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))[: setting.n_images]
    found = {
        "ring real": {"w1": moving_cost(*few)},
        "fashion real": {
            "fd": metrics.frechet_distance(features[chosen], test),
            "recall": metrics.precision_recall(test, features[chosen])[1],
        },
    }
    for seed in setting.seeds:
        for name, protocol_of in (("ring", None), ("fashion", protocol)):
            for kind in ways_on(name, setting):
                key = f"{name} {kind} {seed}"
                if key not in done:
                    done[key] = one_run(name, kind, seed, train, setting, protocol_of)
                    if kept:
                        kept.parent.mkdir(exist_ok=True)
                        write_atomic(kept, json.dumps({"setting": stamp, "runs": done}).encode())
                said = (f"{k} {v:.4g}" for k, v in done[key].items() if k != "shown")
                say(f"  {key}: " + ", ".join(said))
                found[key] = done[key]
    return found


def ways_on(name: str, setting: Setting) -> dict[str, Way]:
    """Return the ways as the setting has them on the data set "ring" or "fashion"."""
    which = int(name == "fashion")
    return ways(setting.gamma[which], setting.bound[which], setting.weight[which], setting.critic_steps)


def one_run(
    name: str, kind: str, seed: int, train: Tensor, setting: Setting, protocol: Protocol | None
) -> dict:
    """Return the measures of one training, "updates" of its generator, and of the first seed a few samples, "shown"."""
    which = int(name == "fashion")
    sizes = {"latent_dim": setting.latent_dim, "max_width": setting.max_width}
    size = setting.batch_size[which]
    if which:
        source = Batches(train, batch_size=size, seed=seed)
        config = GANConfig(
            "dcgan", tuple(train.shape[1:]), width=setting.width, critic_width=setting.width, **sizes
        )
    else:
        random = torch.Generator().manual_seed(1000 + seed)
        config = GANConfig("mlp", (2,), width=setting.hidden, critic_width=setting.hidden, **sizes)

    def batches(step: int) -> Tensor:
        return source.at(step).x if which else ring_of_gaussians(size, std=STD, generator=random)[0]

    model, moved = trained(
        config, ways_on(name, setting)[kind], batches,
        setting.lr[which], setting.betas, setting.seconds[which], seed,
    )  # fmt: skip
    found = judged_images(model, setting, protocol) if which else judged_points(model, setting)
    if seed != setting.seeds[0]:
        del found["shown"]
    return found | {"updates": moved}


UNITS = {
    "modes": ("modes", "of 8 that hold at least a twentieth of their share of the points"),
    "high_quality": ("share", "of points within 3 standard deviations of a mode; of the data's own 0.989"),
    "w1": ("distance", "W1 to real points, by the cheapest matching"),
    "fd": ("FD-fashion", "Frechet distance of Gaussians fitted to the features"),
    "recall": ("share", "of real images among the samples, k = 3"),
    "updates": ("updates", "of the generator in the time given"),
}


def summary(found: dict[str, dict], setting: Setting) -> tuple[dict[str, Entry], list[Claim]]:
    """Return the metrics, means over seeds, and the claims: what holds for the worst of the seeds."""
    entries: dict[str, Entry] = {}
    for which, name in enumerate(("ring", "fashion")):
        n = setting.n_images if which else setting.n_points
        for measure, value in found[f"{name} real"].items():
            unit, what = UNITS[measure]
            said = f"real data in the place of samples; {what}"
            entries[f"{name}_real_{measure}"] = {"value": value, "unit": unit, "n": n, "detail": said}
        for kind, way in ways_on(name, setting).items():
            rows = [found[f"{name} {kind} {seed}"] for seed in setting.seeds]
            for measure in (measure for measure in rows[0] if measure != "shown"):
                unit, what = UNITS[measure]
                said = f"{way.words}; {setting.seconds[which]:g} CPU seconds a run; {what}"
                values = [float(row[measure]) for row in rows]
                size = setting.n_moved if measure == "w1" else n
                entries[f"{name}_{kind}_{measure}"] = over_seeds(values, unit, size, said)

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

    A full measurement that was killed goes on where it was. "shown" holds samples of the first seed's runs.
    """
    began, threads = time.time(), torch.get_num_threads()
    setting = QUICK if quick else Setting()
    torch.set_num_threads(1)
    try:
        found = compared(setting, say, None if quick else PROGRESS)
    finally:
        torch.set_num_threads(threads)
    found_metrics, claims = summary(found, setting)
    record = make("bench-stability", seconds=time.time() - began, metrics=found_metrics)
    shown = {key.rsplit(" ", 1)[0]: row["shown"] for key, row in found.items() if "shown" in row}
    return record | {
        "setting": asdict(setting), "claims": [claim.as_dict() for claim in claims], "shown": shown,
    }  # fmt: skip
