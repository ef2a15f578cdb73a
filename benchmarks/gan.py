"""The book's GAN of Fashion-MNIST beside pytorch/examples' DCGAN: equal CPU seconds of training, the same images.

The other is restated from its sizes at 32 pixels, one stage less than its network of 64: Radford, Metz and Chintala's
rules, one thread, 32 bits. Both train by turns, a few seconds each, so that a machine that is slower for a while is so
for both. Only the training counts: batches and steps, not the samples that are drawn to measure.

What is compared is one training of each, whole recipe against whole recipe; a standard deviation is over the seeds of
the samples alone. They differ, ours first, in the channels (32 and up against 64: a quarter of the multiplications,
from which most of the speed comes), the latents (64, 100), the learning rate (0.001 with a warm-up and a fall, a
constant 0.0002), Adam's second beta (0.99, 0.999) and its form (fused, PyTorch's default), the memory layout (channels
last, channels first), D's output (logits, probabilities), D's step (one backward pass, two), G's step (without
gradients for D's weights, with them), and the samples (of averaged weights, of the last). Which of them brings what is
not measured.
"""

import copy
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import binary_cross_entropy, pad

from benchmarks.record import Claim, make
from benchmarks.trials import trial
from imagegen import metrics, pretrained
from imagegen.data import Batches, fashion_mnist
from imagegen.evaluation.samples import BATCH, PROTOCOLS, reference
from imagegen.gan import GANConfig, initialise
from imagegen.images import to_uint8
from imagegen.recipes import RECIPES, Recipe

NAME = "dcgan-fashion"
MARGIN = 2  # pixels of -1 around 28 x 28, before the other's discriminator; cut off behind its generator
SLOWEST = 1 / 1.5  # images a second of the other, as a share of ours
SHIPPED = 1 / 3  # of the other's distance


@dataclass(frozen=True)
class Setting:
    """points: CPU seconds of training after which the samples are measured. turn: CPU seconds of a turn.

    calibration: steps that tell how many fit into the last point, for the learning rate's schedule. n: samples.
    """

    points: tuple[float, ...] = (120.0, 240.0, 360.0)
    turn: float = 5.0
    calibration: int = 60
    seed: int = 0
    sample_seeds: tuple[int, ...] = (0, 1, 2)
    n: int = PROTOCOLS["fashion-mnist"].n
    n_train: int = 60_000
    latent_dim: int = 100
    width: int = 64
    batch_size: int = 64
    lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)


QUICK = Setting(
    points=(0.2, 0.4), turn=0.1, calibration=2, sample_seeds=(0, 1), n=20, n_train=256,
    latent_dim=4, width=4, batch_size=8,
)  # fmt: skip
TINY = {"latent_dim": 4, "width": 4, "critic_width": 4, "max_width": 8}  # ours, in a quick run


@dataclass
class Side:
    """One of the two trainings: its step, which takes its number; its samples; and what it has spent.

    draws: named ways to draw images (B, 1, 28, 28) in [-1, 1]; the best of them counts.
    """

    batch_size: int
    step: Callable[[int], object]
    draws: dict[str, Callable[[int, Generator], Tensor]]
    seconds: float = 0.0
    steps: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)

    def train(self, until: float) -> None:
        """Take steps until so many CPU seconds are spent."""
        while self.seconds < until:
            begun = time.process_time()
            self.step(self.steps)
            self.seconds += time.process_time() - begun
            self.steps += 1

    @property
    def rate(self) -> float:
        """Images of the data a CPU second."""
        return self.steps * self.batch_size / self.seconds


class PeerGenerator(nn.Sequential):
    """z (B, D, 1, 1) -> (B, 1, 32, 32): 4, 8, 16, 32 pixels, without biases, batch normalisation but on the last."""

    def __init__(self, latent_dim: int, width: int) -> None:
        super().__init__(
            nn.ConvTranspose2d(latent_dim, 4 * width, 4, bias=False), nn.BatchNorm2d(4 * width), nn.ReLU(True),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * width),
            nn.ReLU(True),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True),
            nn.ConvTranspose2d(width, 1, 4, 2, 1, bias=False), nn.Tanh(),
        )  # fmt: skip
        initialise(self)


class PeerDiscriminator(nn.Sequential):
    """x (B, 1, 32, 32) -> probabilities (B,): batch normalisation on all but the first and the last layer."""

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Conv2d(1, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True),
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2, True),
            nn.Conv2d(2 * width, 4 * width, 4, 2, 1, bias=False), nn.BatchNorm2d(4 * width),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(4 * width, 1, 4, bias=False), nn.Sigmoid(), nn.Flatten(0),
        )  # fmt: skip
        initialise(self)


def peer(images: Tensor, setting: Setting) -> Side:
    """Return the other's training on uint8 images (N, 1, 28, 28): two backward passes for D, then one for G."""
    torch.manual_seed(setting.seed)
    generator, critic = (
        PeerGenerator(setting.latent_dim, setting.width),
        PeerDiscriminator(setting.width),
    )
    critic_adam, adam = (
        torch.optim.Adam(player.parameters(), lr=setting.lr, betas=setting.betas)
        for player in (critic, generator)
    )
    framed = pad(images, (MARGIN,) * 4)  # the level 0 is -1; once, so that it costs no time
    batches = Batches(framed, batch_size=setting.batch_size, seed=setting.seed)
    real_label, fake_label = torch.ones(setting.batch_size), torch.zeros(setting.batch_size)

    def step(index: int) -> None:
        real = batches.at(index).x
        critic.zero_grad()
        binary_cross_entropy(critic(real), real_label).backward()
        fake = generator(torch.randn(len(real), setting.latent_dim, 1, 1))
        binary_cross_entropy(critic(fake.detach()), fake_label).backward()
        critic_adam.step()
        generator.zero_grad()
        binary_cross_entropy(critic(fake), real_label).backward()
        adam.step()

    def draw(training: bool) -> Callable[[int, Generator], Tensor]:
        def drawn(n: int, random: Generator) -> Tensor:
            still = copy.deepcopy(generator).train(training)  # a batch in training mode moves the averages
            z = torch.randn(n, setting.latent_dim, 1, 1, generator=random)
            return still(z)[..., MARGIN:-MARGIN, MARGIN:-MARGIN]

        return drawn

    return Side(setting.batch_size, step, {"average statistics": draw(False), "its batch's": draw(True)})


def ours(recipe: Recipe, images: Tensor, setting: Setting) -> Side:
    """Return the book's training of a recipe on uint8 images, its schedule fitted to the time that there is.

    Raises: Unavailable: the extra `train` is missing.
    """

    def build(n_steps: int) -> Side:
        made = trial(recipe, n_steps=n_steps, images=images)
        draws = {"averaged weights": lambda n, random: made.average.sample(n, generator=random)}
        return Side(recipe.batch_size, made.step, draws)

    probe = build(10**6)  # steps of a training that is thrown away
    probe.step(0)
    begun = time.process_time()
    for index in range(1, setting.calibration + 1):
        probe.step(index)
    spent = (time.process_time() - begun) / setting.calibration
    return build(max(1, round(setting.points[-1] / spent)))


@torch.inference_mode()
def distance(draw: Callable[[int, Generator], Tensor], n: int, seed: int) -> float:
    """Return FD-fashion of n samples by the book's protocol: rounded to 8 bits, against as many test images."""
    ruler, _, test = reference(dataclasses.replace(PROTOCOLS["fashion-mnist"], n=n))
    random = Generator().manual_seed(seed)
    sizes = [min(BATCH, n - start) for start in range(0, n, BATCH)]
    return metrics.frechet_distance(
        torch.cat([ruler.features(to_uint8(draw(size, random).contiguous())) for size in sizes]), test
    )


def examined(side: Side, setting: Setting, last: bool) -> dict[str, float]:
    """Return where a training stands: its time, its images, and the distance of each way to draw from it.

    At the last point, of the way that is best by the first seed, also the distances for all seeds.
    """
    seeds = setting.sample_seeds
    ways = {name: distance(draw, setting.n, seeds[0]) for name, draw in side.draws.items()}
    best = min(ways, key=ways.get)
    row = {
        "cpu_seconds": side.seconds,
        "images": side.steps * side.batch_size,
        "fd": ways[best],
        "ways": ways,
    }
    if last:
        more = [distance(side.draws[best], setting.n, seed) for seed in seeds[1:]]
        row["values"] = [ways[best], *more]
    return row


def raced(sides: dict[str, Side], setting: Setting, say: Callable[[str], None]) -> None:
    """Train the sides by turns up to each point, and write into their curves how good the samples are there."""
    for point in setting.points:
        until = 0.0
        while until < point:
            until = min(until + setting.turn, point)
            for side in sides.values():
                side.train(until)
        for name, side in sides.items():
            side.curve.append(examined(side, setting, point == setting.points[-1]))
            ways = ", ".join(f"{how} {value:.2f}" for how, value in side.curve[-1]["ways"].items())
            say(f"  {name} after {side.seconds:.0f} CPU s: {side.rate:.0f} images/s, FD-fashion {ways}")


def measure(*, quick: bool = False, say: Callable[[str], None] = print) -> dict:
    """Return the record of the benchmark, with its claims; `quick` runs all of it at a size that shows nothing.

    Raises: Unavailable: what trains, or the recipe, is missing.
    """
    began, setting = time.time(), QUICK if quick else Setting()
    recipe = RECIPES[NAME]
    if quick:
        recipe = dataclasses.replace(recipe, model=tiny(recipe.model), batch_size=8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        images = fashion_mnist("train").images[: setting.n_train]
        sides = {"ours": ours(recipe, images, setting), "peer": peer(images, setting)}
        raced(sides, setting, say)
        shipped = None if quick or NAME not in pretrained.names() else of_shipped(setting)
    finally:
        torch.set_num_threads(threads)
    found, claims = summary(sides, shipped, setting)
    record = make("bench-gan", seconds=time.time() - began, seed=setting.seed, metrics=found)
    return record | {
        "setting": dataclasses.asdict(setting) | {"recipe": recipe.config()},
        "curves": {name: side.curve for name, side in sides.items()},
        "claims": [claim.as_dict() for claim in claims],
    }


def tiny(config: GANConfig) -> GANConfig:
    """Return a network of the same kind, small enough for a quick run."""
    return dataclasses.replace(config, **TINY)


def of_shipped(setting: Setting) -> list[float]:
    """Return the distances of the weights that come with the package, trained for longer, one for each seed."""
    model = pretrained.load(NAME).eval()
    draw = lambda n, random: model.sample(n, generator=random)  # noqa: E731
    return [distance(draw, setting.n, seed) for seed in setting.sample_seeds]


def summary(sides: dict[str, Side], shipped: list[float] | None,
            setting: Setting) -> tuple[dict[str, dict[str, Any]], list[Claim]]:  # fmt: skip
    """Return the metrics of both sides, and the claims: ours over the other."""
    found: dict[str, dict[str, Any]] = {}
    whole = setting.points[-1]
    for name, side in sides.items():
        found[f"{name}_images_per_second"] = {
            "value": side.rate, "unit": "images/s", "n": side.steps * side.batch_size,
            "detail": "images of the data that both players are trained on, a CPU second of one thread",
        }  # fmt: skip
        for point, row in zip(setting.points, side.curve, strict=True):
            ways = "; ".join(f"{how} {value:.2f}" for how, value in row["ways"].items())
            entry = {
                "value": row["fd"],
                "unit": "",
                "n": setting.n,
                "detail": f"after {point:g} CPU s; {ways}",
            }
            if values := row.get("values"):
                spread = torch.tensor(values, dtype=torch.float64)
                entry |= {"value": spread.mean().item(), "std": spread.std().item(), "values": values}
                entry["detail"] += f"; mean and standard deviation over {len(values)} seeds of the samples"
            found[f"{name}_fd_fashion_{point:g}"] = entry
    first, other = (found[f"{name}_fd_fashion_{whole:g}"]["value"] for name in ("ours", "peer"))
    speed = sides["peer"].rate / sides["ours"].rate
    found["fd_ratio"] = {"value": first / other, "unit": "times", "detail": f"after {whole:g} CPU s each"}
    found["speed_ratio"] = {
        "value": 1 / speed,
        "unit": "times",
        "detail": "images a CPU second, ours / the other",
    }
    claims = [
        Claim(f"FD-fashion of ours over the other's, {whole:g} CPU s each", first / other, 1.0),
        Claim("images a CPU second of the other, as a share of ours", speed, SLOWEST),
    ]
    if shipped is not None:
        spread = torch.tensor(shipped, dtype=torch.float64)
        found["shipped_fd_fashion"] = {
            "value": spread.mean().item(), "std": spread.std().item(), "unit": "", "n": setting.n,
            "detail": "the weights of the package, trained for longer", "values": shipped,
        }  # fmt: skip
        claims.append(
            Claim(f"FD-fashion of the package's weights over the other's after {whole:g} CPU s",
                  found["shipped_fd_fashion"]["value"] / other, SHIPPED)
        )  # fmt: skip
    return found, claims
