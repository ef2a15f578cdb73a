"""Drawing a code from logits: temperature and top-p."""

import math

import torch
from torch import Tensor


def top_p_filter(logits: Tensor, p: float) -> Tensor:
    """Return logits (..., K) with -inf at all but the likeliest codes: as few as together have a probability >= p.

    Of codes that are equally likely, the first are kept.
    Raises: ValueError: p outside (0, 1].
    Source: Holtzman et al. 2020, arXiv:1904.09751, section 3.1 (nucleus sampling).
    """
    if not 0 < p <= 1:
        raise ValueError(f"top_p is {p}, expected a share in (0, 1]")
    if p == 1:  # rounding must not cost the unlikely codes
        return logits
    ordered, order = torch.softmax(logits, dim=-1).sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered  # the probability of all that are likelier
    dropped = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(dropped, -math.inf)


def draw(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return one code for each row of logits (B, K): int64 (B,), on their device.

    Args: temperature: divides the logits, before top_p; below 1 prefers likely codes, 0 takes the likeliest.
        top_p: draw only from the likeliest codes that together have this probability. generator: on any device.
    Raises: ValueError: a temperature below 0 or not finite, or top_p outside (0, 1].
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature is {temperature}, expected a finite number >= 0")
    logits = top_p_filter(logits / (temperature or 1.0), top_p)
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits, dim=-1)
    if generator is not None:
        probabilities = probabilities.to(generator.device)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0].to(logits.device)
