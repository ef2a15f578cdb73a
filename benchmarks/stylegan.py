"""Our StyleGAN's operators and the reference operators of its authors: four parts of a training, side by side.

The other side is restated in `benchmarks.style_reference`, in both of its ways to modulate, on copies of the same
parameters; before anything is timed, its images, logits, path lengths and R1 are checked to be ours. Both have one
thread, 32 bits and the same batches. Nobody mixes styles, and all have the same noise strength in all channels: the
restatement knows no other, while ours does the work for a strength of each channel.

Then both forms of our own modulated convolution, in training and in drawing. Time is the process's CPU time, all in
turn, and the median.
"""

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from unittest import mock

import torch
from torch import Tensor

from benchmarks.clock import in_turn
from benchmarks.record import Claim, make
from benchmarks.style_reference import WAYS, Reference
from imagegen.objectives import (
    discriminator_loss,
    generator_loss,
    path_lengths,
    path_penalty,
    zero_centred_penalty,
)
from imagegen.stylegan import StyleGAN, StyleGANConfig, modulated_conv2d, networks

LIMIT = 1.0  # of our time, as a share of the other's
TOLERANCE = 1e-4  # of the largest value, where the two sides are compared
FORMS = ("activations", "weights")
PARTS = {
    "generator": "G's images, and a gradient back through them",
    "step": "G's loss through D, with gradients of G",
    "critic": "D's loss on real and generated images and R1, with gradients of D",
    "path": "the path length's penalty on all of a batch, with gradients of G",
}
SIDES = {
    "ours": "ours",
    "reference": "reference operators, inputs and outputs modulated (as they train)",
    "fused": "reference operators, one kernel an image (as they draw)",
}

Step = Callable[[], None]


@dataclass(frozen=True)
class Setting:
    """The same channels on all grids. rounds: of each of PARTS, the more the cheaper; form_rounds: of the two forms.

    draws: images drawn at once, without gradients.
    """

    side: int = 64
    channels: int = 64
    latent_dim: int = 128
    batch_size: int = 16
    draws: tuple[int, ...] = (1, 16)
    rounds: tuple[int, ...] = (9, 5, 3, 3)
    form_rounds: int = 5
    seed: int = 0


QUICK = Setting(side=8, channels=4, latent_dim=4, batch_size=4, draws=(1, 2), rounds=(1,) * 4, form_rounds=1)


def network(setting: Setting) -> StyleGAN:
    """Return both players in training, with noise that shows and biases that are not 0."""
    torch.manual_seed(setting.seed)
    width = setting.channels
    config = StyleGANConfig(
        (3, setting.side, setting.side), latent_dim=setting.latent_dim, width=width, critic_width=width,
        max_width=width, mixing=0.0,
    )  # fmt: skip
    model = StyleGAN(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("strength"):
                parameter.fill_(0.1)
            elif name.endswith("bias"):
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@dataclass(frozen=True)
class Side:
    """One side: its networks, and how its noise is held fixed."""

    model: StyleGAN
    net: Reference | None = None

    def images(self, z: Tensor, *, fixed: bool = False) -> Tensor:
        if self.net:
            return self.net.generator(z, fixed=fixed)
        return self.model.generator(z, noise="fixed" if fixed else "random")

    def judge(self, x: Tensor) -> Tensor:
        return (self.net or self.model).discriminator(x)

    def lengths(self, z: Tensor, *, fixed: bool = False) -> Tensor:
        """Return the path length of each latent, (B,), of the same directions on each call with fixed noise."""
        generator = torch.Generator().manual_seed(0) if fixed else None
        if self.net:
            ws = self.net.styles(z)
            images = self.net.synthesis(ws, fixed=fixed)
        else:
            ws = self.model.generator.styles(z)
            images = self.model.generator.synthesis(ws, noise="fixed" if fixed else "random")
        return path_lengths(images, ws, generator=generator)


def sides_of(model: StyleGAN) -> dict[str, Side]:
    """Return ours and the reference in both of its ways, each with parameters of its own and equal."""
    references = {name: Reference(model, fused=fused) for name, fused in WAYS.items()}
    return {"ours": Side(model)} | {name: Side(net.model, net) for name, net in references.items()}


def checked(sides: dict[str, Side], z: Tensor, real: Tensor) -> float:
    """Return the largest difference between the sides, over the largest value of its kind, with the same noise.

    Raises: RuntimeError: they do not compute the same.
    """
    found = {
        name: {
            "images": side.images(z, fixed=True),
            "logits": side.judge(real),
            "path lengths": side.lengths(z, fixed=True),
            "R1": zero_centred_penalty(side.judge, real),
        }
        for name, side in sides.items()
    }
    worst = 0.0
    for name, values in found.items():
        for kind, value in values.items():
            ours = found["ours"][kind]
            apart = ((value - ours).abs().max() / ours.abs().max()).item()
            if not apart <= TOLERANCE:
                raise RuntimeError(f"the {kind} of {name!r} differ from ours by {apart:.1e} of the largest")
            worst = max(worst, apart)
    return worst


def steps(side: Side, z: Tensor, real: Tensor, gradient: Tensor) -> dict[str, Step]:
    """Return the parts of a training, {part: what computes its gradients}; gradient: of G's images."""
    model = side.model
    fake = side.images(z, fixed=True).detach()

    def generator() -> None:
        model.zero_grad(set_to_none=True)
        side.images(z).backward(gradient)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        model.discriminator.requires_grad_(False)
        generator_loss(side.judge(side.images(z))).mean().backward()
        model.discriminator.requires_grad_(True)

    def critic() -> None:
        model.zero_grad(set_to_none=True)
        loss = discriminator_loss(side.judge(real), side.judge(fake)).mean()
        (loss + 0.5 * zero_centred_penalty(side.judge, real).mean()).backward()

    def path() -> None:
        model.zero_grad(set_to_none=True)
        path_penalty(side.lengths(z), 0.0).mean().backward()

    return {"generator": generator, "step": step, "critic": critic, "path": path}


def compared(spent: dict[str, dict[str, float]], setting: Setting) -> tuple[dict[str, dict], list[Claim]]:
    """Return the metrics and claims of {part: {side: ms}}: ours against the faster way of the reference."""
    sizes = f"{setting.side} x {setting.side}, {setting.channels} channels, batch {setting.batch_size}"
    said = f"{sizes}; CPU time"
    found: dict[str, dict] = {}
    claims = []
    for part, words in PARTS.items():
        for side, whose in SIDES.items():
            ms, detail = spent[part][side], f"{whose}; {words}; {said}"
            rate = 1e3 * setting.batch_size / ms
            found[f"{part}_{side}_ms"] = {"value": ms, "unit": "ms", "detail": detail}
            found[f"{part}_{side}_images_per_second"] = {"value": rate, "unit": "images/s", "detail": detail}
        share = spent[part]["ours"] / min(spent[part][way] for way in WAYS)
        detail = f"ours against the faster way of the reference; {words}; {said}"
        found[f"{part}_ratio"] = {"value": share, "unit": "of the reference's CPU time", "detail": detail}
        claims.append(Claim(f"{words}: our time as a share of the reference operators'", share, LIMIT))
    return found, claims


# ---- the two forms of ours ---------------------------------------------------------------------------------------


@contextmanager
def computed(form: str) -> Iterator[None]:
    """Have our generator modulate in this form while the context is open."""
    with mock.patch.object(networks, "modulated_conv2d", functools.partial(modulated_conv2d, form=form)):
        yield


def form_steps(model: StyleGAN, form: str, setting: Setting, gradient: Tensor) -> dict[str, Step]:
    """Return what trains our generator and draws from it in a form, {"training": ..., "drawing_16": ...}."""
    latents = model.draw(setting.batch_size)

    def training() -> None:
        model.zero_grad(set_to_none=True)
        with computed(form):
            images = model.generator(latents)
        images.backward(gradient)

    def drawing(n: int) -> None:
        with computed(form), torch.no_grad():
            model.generator(latents[:n])

    found: dict[str, Step] = {"training": training}
    return found | {f"drawing_{n}": functools.partial(drawing, n) for n in setting.draws}


def forms(model: StyleGAN, setting: Setting, gradient: Tensor) -> dict[str, dict]:
    """Return the metrics of both forms: ms of each, and the second's as a multiple of the first's."""
    both = {form: form_steps(model, form, setting, gradient) for form in FORMS}
    found: dict[str, dict] = {}
    for kind in both[FORMS[0]]:
        spent = in_turn({form: both[form][kind] for form in FORMS}, setting.form_rounds)
        n = setting.batch_size if kind == "training" else int(kind.split("_")[1])
        what = "forward and backward" if kind == "training" else "no gradients"
        said = f"G, {what}, batch {n}, {setting.side} x {setting.side}, {setting.channels} channels; CPU time"
        for form, ms in spent.items():
            detail = f"{said}; what is modulated: {form}"
            found[f"form_{form}_{kind}_ms"] = {"value": ms, "unit": "ms", "detail": detail}
        times = spent["weights"] / spent["activations"]
        detail = f"{said}; weights modulated instead of activations"
        found[f"form_{kind}_ratio"] = {"value": times, "unit": "times as long", "detail": detail}
    return found


def measure(*, quick: bool = False, say: Callable[[str], None] = print) -> dict:
    """Return the record of the benchmark, with its claims; `quick` runs all of it at a size that shows nothing.

    Raises: RuntimeError: the two sides do not compute the same.
    """
    began, threads = time.time(), torch.get_num_threads()
    setting = QUICK if quick else Setting()
    torch.set_num_threads(1)
    try:
        model = network(setting)
        sides = sides_of(model)
        z = model.draw(setting.batch_size)
        real, gradient = torch.randn(2, setting.batch_size, 3, setting.side, setting.side)
        apart = checked(sides, z[:4], real[:4])
        parts = {name: steps(side, z, real, gradient) for name, side in sides.items()}
        spent = {}
        for part, rounds in zip(PARTS, setting.rounds, strict=True):
            spent[part] = in_turn({name: parts[name][part] for name in sides}, rounds)
            say(f"  {part}: " + ", ".join(f"{name} {ms:.0f} ms" for name, ms in spent[part].items()))
        entries, claims = compared(spent, setting)
        entries |= forms(model, setting, gradient)
    finally:
        torch.set_num_threads(threads)
    entries["difference"] = {
        "value": apart, "unit": "of the largest value",
        "detail": "largest between the sides: images, logits, path lengths, R1; the same noise",
    }  # fmt: skip
    record = make("bench-stylegan", seconds=time.time() - began, seed=setting.seed, metrics=entries)
    return record | {"setting": asdict(setting), "claims": [claim.as_dict() for claim in claims]}
