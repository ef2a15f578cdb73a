"""A GAN's samples against the protocol of its data set, and how quickly they are drawn."""

import time

import torch
from torch import Generator, Tensor

from imagegen.evaluation.entries import Entry, over_seeds
from imagegen.evaluation.samples import BATCH, Protocol, measure_samples
from imagegen.gan import GAN
from imagegen.images import to_uint8
from imagegen.stylegan import StyleGAN


@torch.inference_mode()
def generated(model: GAN | StyleGAN, n: int, generator: Generator, *, truncation: float = 1.0) -> Tensor:
    """Return n uint8 images of a GAN in evaluation mode, on the CPU; all latents are drawn first, from N(0, I).

    A StyleGAN's noise is drawn after them. truncation: its psi; a GAN has none.
    """
    z = model.draw(n, generator=generator)
    options = {"generator": generator, "truncation": truncation} if isinstance(model, StyleGAN) else {}
    parts = (model.generator(part, **options) for part in z.split(BATCH))
    return torch.cat([to_uint8(part.clamp(-1, 1)).cpu() for part in parts])


def measure_gan(model: GAN | StyleGAN, protocol: Protocol, *, ema: float | None = None, progress: bool = False,
                device: torch.device | str = "cpu") -> dict[str, Entry]:  # fmt: skip
    """Return the measures of a GAN's samples and, on a CPU, how many are drawn in a second of its time.

    ema: decay of the running average that the weights are, None where they are those of the last step. The
    discriminator takes no part: what it believes of a sample is no measure of it.
    """
    model = model.to(device, memory_format=torch.channels_last).eval()
    weights = "of the last step" if ema is None else f"averaged over the training (decay {ema:g})"
    rates: list[float] = []

    def draw(n: int, generator: Generator) -> Tensor:
        began = time.process_time()
        images = generated(model, n, generator)
        rates.append(n / (time.process_time() - began))
        return images

    how = f"G(z) with weights {weights}, z from N(0, I)"
    entries = measure_samples(draw, protocol, how=how, progress=progress, device=device)
    if torch.device(device).type == "cpu":
        what = "drawn, rounded to 8 bits; a second of CPU time, all threads together"
        entries["images_per_second"] = over_seeds(rates, "images/s", protocol.n, what)
    return entries
