"""A widely used VAE example and a training on this package, side by side: CPU seconds to the same test -ELBO.

The example is the VAE of https://github.com/pytorch/examples (vae/main.py, BSD 3-Clause), written anew here to its
description and with its settings: 784-400-20-400-784, ReLU, a sigmoid and the cross-entropy of probabilities, sums
over pixels and batch, Adam at 1e-3, batches of 128, one PIL picture at a time through torchvision and a DataLoader
in the same process. Both sides run on one thread in 32 bits; the clock is the process's CPU time, and evaluation
stops it on both sides.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, relu
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST
from torchvision.transforms import ToTensor

from benchmarks.record import Claim, make
from imagegen.data import Batch, Batches, fashion_mnist
from imagegen.images import to_float, to_unit
from imagegen.objectives import bernoulli_nll, gaussian_kl
from imagegen.recipes import vae_terms
from imagegen.training import learning_rate, run
from imagegen.vae import VAE, VAEConfig, VAEOutput, reparameterise

TARGET = 243.9  # nats an image on the test set: what the example reaches in ten epochs
LARGEST_RATIO = 0.25  # of the example's CPU time
LARGEST_DATA_SHARE = 0.05  # of a step


@dataclass(frozen=True)
class Setting:
    """How much of each side is run, and how ours trains. Its learning rate falls to the end of `n_steps`, so
    the horizon is part of the setting: another length is another training.

    check_every: steps between two evaluations.
    """

    model: VAEConfig = VAEConfig(network="mlp", hidden=320, dense_blocks=1, latent_dim=32)
    batch_size: int = 128
    n_steps: int = 1000
    lr: float = 4e-3  # near the edge: hits the target with seeds 0 to 3, but diverges at 1024 units
    lr_warmup: int = 100
    lr_final: float = 0.02
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 100.0
    check_every: int = 100
    epochs: int = 10
    n_train: int = 60_000
    n_test: int = 10_000
    seed: int = 0


QUICK = Setting(
    model=VAEConfig(network="mlp", hidden=32, dense_blocks=1, latent_dim=4),
    n_steps=20, lr_warmup=2, check_every=10, epochs=1, n_train=2_560, n_test=200,
)  # fmt: skip


@dataclass
class Run:
    """One side's training: CPU seconds in all and on data, images seen, and test -ELBO at each evaluation."""

    seconds: float = 0.0
    data_seconds: float = 0.0
    images: int = 0
    curve: list[tuple[float, int, float]] = field(default_factory=list)  # (CPU seconds, images seen, -ELBO)

    def checkpoint(self, value: float) -> None:
        self.curve.append((self.seconds, self.images, value))

    def reached(self, target: float) -> tuple[float, int, float] | None:
        """Return the first point of the curve at or below the target, or None."""
        return next((point for point in self.curve if point[2] <= target), None)


# ---- the example -------------------------------------------------------------------------------------------------


class ExampleVAE(nn.Module):
    """One hidden layer of 400 on each side of 20 latents. Pixels enter, and leave, as values in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(784, 400)
        self.mean, self.log_var = nn.Linear(400, 20), nn.Linear(400, 20)
        self.unhidden, self.pixels = nn.Linear(20, 400), nn.Linear(400, 784)

    def logits(self, pixels: Tensor) -> VAEOutput:
        """Return logits (B, 784), mean, log_var and z of pixels (B, 1, 28, 28) in [0, 1]."""
        h = relu(self.hidden(pixels.flatten(1)))
        mean, log_var = self.mean(h), self.log_var(h)
        z = reparameterise(mean, log_var)
        return VAEOutput(self.pixels(relu(self.unhidden(z))), mean, log_var, z)

    def loss(self, pixels: Tensor) -> Tensor:
        """Return the negative ELBO summed over the batch, from probabilities as the example has it."""
        out = self.logits(pixels)
        cross_entropy = binary_cross_entropy(torch.sigmoid(out.params), pixels.flatten(1), reduction="sum")
        return cross_entropy - 0.5 * torch.sum(1 + out.log_var - out.mean.pow(2) - out.log_var.exp())


class Pictures(FashionMNIST):
    """Images in memory, served by torchvision's own code: a PIL picture is made of each, and a tensor of that."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.data, self.targets = images[:, 0], labels  # in place of the files that the parent would look for
        self.transform, self.target_transform = ToTensor(), None


def train_example(train: tuple[Tensor, Tensor], test: Tensor, setting: Setting, *, say=print) -> Run:
    """Train the example for `epochs` epochs, evaluated after each."""
    torch.manual_seed(setting.seed)
    loader = DataLoader(Pictures(*train), batch_size=128, shuffle=True, num_workers=0)
    model = ExampleVAE()
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    done = Run()
    for epoch in range(1, setting.epochs + 1):
        batches = _clocked(loader, done)
        begun = time.process_time()
        for pixels, _ in batches:
            adam.zero_grad()
            loss = model.loss(pixels)
            loss.backward()
            loss.item()  # the example adds up its losses
            adam.step()
            done.images += len(pixels)
        done.seconds += time.process_time() - begun
        done.checkpoint(negative_elbo(lambda x: model.logits(to_unit(x)), test))
        say(f"  example, epoch {epoch}: {done.seconds:6.1f} CPU s, test -ELBO {done.curve[-1][2]:.2f}")
    return done


# ---- ours --------------------------------------------------------------------------------------------------------


def train_ours(images: Tensor, test: Tensor, setting: Setting, *, say=print) -> Run:
    """Train to the end of the horizon, evaluated every `check_every` steps."""
    torch.manual_seed(setting.seed)
    model = VAE(setting.model)
    adam = torch.optim.AdamW(
        model.parameters(), lr=setting.lr, betas=setting.betas, weight_decay=0.0, fused=True
    )
    done = Run()
    source = _clocked(Batches(images, batch_size=setting.batch_size, seed=setting.seed), done)

    def step(numbered: tuple[int, Batch]) -> dict[str, Tensor]:
        index, batch = numbered
        for group in adam.param_groups:
            group["lr"] = learning_rate(
                index, setting.n_steps, peak=setting.lr, warmup=setting.lr_warmup, final=setting.lr_final
            )
        terms = {name: value.mean() for name, value in vae_terms(model, batch.x).items()}
        adam.zero_grad(set_to_none=True)
        terms["loss"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), setting.clip)
        adam.step()
        done.images += len(batch.x)
        return terms

    begun = time.process_time()

    def evaluate(entry: dict[str, float]) -> None:
        nonlocal begun
        done.seconds += time.process_time() - begun
        done.checkpoint(negative_elbo(model, test))
        say(
            f"  ours, step {entry['step']:.0f}: {done.seconds:6.1f} CPU s, test -ELBO {done.curve[-1][2]:.2f}"
        )
        begun = time.process_time()

    run(
        step,
        enumerate(source),
        setting.n_steps,
        on_log=evaluate,
        log_every=setting.check_every,
        progress=False,
    )
    return done


# ---- both --------------------------------------------------------------------------------------------------------


def _clocked(batches, done: Run) -> Iterator:
    """Yield the batches and add the CPU seconds that each took to `done.data_seconds`."""
    source = iter(batches)
    while True:
        begun = time.process_time()
        batch = next(source, None)
        done.data_seconds += time.process_time() - begun
        if batch is None:
            return
        yield batch


@torch.no_grad()
def negative_elbo(model: Callable[[Tensor], VAEOutput], images: Tensor) -> float:
    """Return the mean -ELBO of uint8 images in nats an image: Bernoulli on grey pixels, one draw of z an image.

    The draws are the same from call to call, and leave the training's random numbers as they were.
    """
    total = 0.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for part in images.split(500):
            x = to_float(part)
            out = model(x)
            distortion = bernoulli_nll(out.params.reshape(x.shape), to_unit(x))
            total += (distortion + gaussian_kl(out.mean, out.log_var)).sum().item()
    return total / len(images)


def measure(
    *, quick: bool = False, setting: Setting | None = None, say: Callable[[str], None] = print
) -> dict:
    """Return the record of the benchmark, with its claims; `quick` runs all of it at a size that shows nothing."""
    began = time.time()
    setting = setting or (QUICK if quick else Setting())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train, test = fashion_mnist("train"), fashion_mnist("test").images[: setting.n_test]
        images, labels = train.images[: setting.n_train], train.labels[: setting.n_train]
        ours = train_ours(images, test, setting, say=say)
        example = train_example((images, labels), test, setting, say=say)
    finally:
        torch.set_num_threads(threads)
    record = make(
        "bench-vae", seconds=time.time() - began, seed=setting.seed, metrics=_metrics(ours, example, setting)
    )
    return record | {
        "setting": dataclasses.asdict(setting),
        "claims": [c.as_dict() for c in _claims(ours, example)],
    }


def _claims(ours: Run, example: Run) -> list[Claim]:
    point = ours.reached(TARGET)
    ratio = point[0] / example.seconds if point else None
    return [
        Claim(f"test -ELBO <= {TARGET} nats in a share of the example's CPU time", ratio, LARGEST_RATIO),
        Claim("CPU time spent on data, as a share of a step", ours.data_seconds / ours.seconds, LARGEST_DATA_SHARE),
    ]  # fmt: skip


def _metrics(ours: Run, example: Run, setting: Setting) -> dict[str, dict]:
    n = setting.n_test
    horizon = (
        f"horizon of {setting.n_steps} steps of {setting.batch_size} images, {setting.model.network} network"
    )
    elbo = "Bernoulli on grey pixels, one draw of z"
    found: dict[str, dict] = {}

    def add(name: str, value: float, unit: str, detail: str, n: int | None = None) -> None:
        found[name] = {"value": value, "unit": unit, "detail": detail} | ({"n": n} if n else {})

    epochs = f"the example, {setting.epochs} epochs"
    add("example_cpu_seconds", example.seconds, "CPU s", epochs)
    add("example_negative_elbo", example.curve[-1][2], "nats/image", f"{epochs}; {elbo}", n)
    if point := example.reached(TARGET):
        add("example_cpu_seconds_to_target", point[0], "CPU s", f"the example, to {TARGET} nats/image")
    add("example_images_per_second", example.images / example.seconds, "images/CPU s", epochs)
    add("example_data_share", example.data_seconds / example.seconds, "of a step", epochs)
    if point := ours.reached(TARGET):
        add("cpu_seconds_to_target", point[0], "CPU s", f"ours, to {TARGET} nats/image; {horizon}")
        add(
            "ratio",
            point[0] / example.seconds,
            "of the example's CPU time",
            f"to {TARGET} nats/image against {epochs}",
        )
    add("cpu_seconds", ours.seconds, "CPU s", f"ours, the whole of its {horizon}")
    add("negative_elbo", ours.curve[-1][2], "nats/image", f"ours, at its end; {elbo}", n)
    add("images_per_second", ours.images / ours.seconds, "images/CPU s", f"ours; {horizon}")
    add("data_share", ours.data_seconds / ours.seconds, "of a step", "ours")
    return found
