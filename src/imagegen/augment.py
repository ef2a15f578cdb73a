"""Augmentation for a discriminator with few images: random, differentiable, and such that it does not leak.

Both players see augmented images alone: D(T(x)) beside D(T(G(z))), and the generator learns through T. It may then
learn to draw what T does to images, unless the law of T(x) determines that of x. Applied with probability p, T turns
the law of the originals, a vector with one entry for each possible image, into ((1 - p) I + p T) times it, which can be
undone where no eigenvalue of that matrix is 0. Turning every image by a uniformly drawn quarter destroys which way was
up: that T has the eigenvalues 1 and 0. At p = 1 the turn of the originals is lost, at every p below 1 nothing is.
Source: Karras et al. 2020, arXiv:2006.06676, section 2.2 and appendix C.

So p < 1 is enough where T has no negative eigenvalue (one of -v is fatal at p = 1 / (1 + v)). Here each kind is such:
- flip draws which of the two ways, evenly: eigenvalues 1 and 0. An image is thus mirrored with probability p / 2, and
  handedness is lost at p = 1. Mirrored with probability p, it would be lost at p = 1/2.
- shift draws the difference of two uniform numbers, and fills with one value. Among the images that shifts turn into
  one another, T is a matrix of that law, which is an autocorrelation: no eigenvalue is negative. A shift that cuts
  something off leaves less, and none gives it back, so all of T is block-triangular. One uniform number has negative
  eigenvalues: a pixel each way, with reflected edges, cannot be undone at p = 3/4. Reflected edges are also what an
  image may have of its own, and in small cases are harder to undo at the same p.
- cutout fills with one value too: it leaves an image as it was, or less of it. The eigenvalues are the shares of
  squares that change nothing.
- colour moves mean, contrast and saturation, which commute, by normal numbers and the exponentials of such, whose
  characteristic functions are positive. Nothing is clamped, so values leave [-1, 1].
One after the other they can be undone one after the other. Undoing multiplies errors by about 1 / (1 - p) for
each kind, so that p near 1 leaks in practice; the paper finds that below 0.8 it does not.
"""

import torch
from torch import Tensor

KINDS = ("flip", "shift", "cutout", "colour")
EDGE = -1.0  # what a shift draws in: black
GREY = 0.0  # what a cutout leaves
REACH = 8  # a shift moves by up to one eighth of a side
CUT = 2  # a cutout is half as wide as the image
BRIGHTNESS = 0.2  # standard deviations: of what is added,
CONTRAST = 0.35  # of the logarithm of what contrast
SATURATION = 0.7  # and saturation are multiplied by


def augment(x: Tensor, p: float, *, generator: torch.Generator | None = None,
            kinds: tuple[str, ...] = KINDS) -> Tensor:  # fmt: skip
    """Return images with each kind of change applied to each image with probability p, in the order of `kinds`.

    Images, kinds and calls are independent. flip and shift may draw the change that changes nothing: an image is
    mirrored with p / 2, and moved with p (1 - 1 / ((h + 1) (w + 1))), if up to h and w pixels. p = 0 gives x itself.
    Args: x: (B, C, H, W) in [-1, 1], real or generated: both need this same call, with the same p.
    generator: of all draws, which are made on its device, so that a seed means the same everywhere.
    Returns: (B, C, H, W), with the graph to x, also for a gradient's gradient; colour leaves [-1, 1].
    Leaks: at p = 1 (see above), and where one of the two players' images are augmented only.
    Raises: ValueError: p is outside [0, 1], x no batch of images, a kind unknown or named twice. TypeError: x is not
        floating point.
    Source: Zhao et al. 2020, arXiv:2006.10738 (kinds and sizes); Karras et al. 2020, arXiv:2006.06676 (p, colour).
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p is {p}, expected a probability, 0 to 1, and below 1 if nothing is to leak")
    if x.dim() != 4:
        raise ValueError(f"x has shape {tuple(x.shape)}, expected (B, C, H, W)")
    if not x.is_floating_point():
        raise TypeError(f"x is {x.dtype}, expected floating point values in [-1, 1]")
    if not set(kinds) <= set(KINDS) or len(set(kinds)) < len(kinds):
        raise ValueError(f"kinds is {kinds!r}, expected some of {', '.join(KINDS)}, each once")
    if not p:
        return x
    (batch, _, height, width), device = x.shape, x.device if generator is None else generator.device

    def whole(low: int, high: int) -> Tensor:  # evenly from low to high, both included
        return torch.randint(low, high + 1, (batch,), generator=generator, device=device).to(x.device)

    reach = [max(1, size // REACH) for size in (height, width)]
    side = max(1, min(height, width) // CUT)
    for kind in kinds:
        if kind == "flip":
            changed = mirrored(x, whole(0, 1) == 1)
        elif kind == "shift":
            # The difference of two uniform draws: small moves are likelier, and no eigenvalue is negative.
            down, right = (whole(0, most) - whole(0, most) for most in reach)
            changed = shifted(x, down, right)
        elif kind == "cutout":
            top, left = (whole(0, size - 1) - side // 2 for size in (height, width))  # a centre in the image
            changed = erased(x, top, left, side)
        else:
            a, b, c = torch.randn(3, batch, generator=generator, device=device).to(x)
            changed = recoloured(x, BRIGHTNESS * a, (CONTRAST * b).exp(), (SATURATION * c).exp())
        hit = torch.rand(batch, generator=generator, device=device).to(x.device) < p
        x = torch.where(_per_image(hit), changed, x)
    return x


def mirrored(x: Tensor, which: Tensor) -> Tensor:
    """Return images (B, C, H, W) of which those that `which` (B,) names are mirrored, left to right."""
    return torch.where(_per_image(which), x.flip(3), x)


def shifted(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Return images (B, C, H, W) moved by whole pixels, down (B,) and right (B,); what comes in is `EDGE`."""
    *_, height, width = x.shape
    rows = torch.arange(height, device=x.device) - down[:, None]  # (B, H), where each row comes from
    columns = torch.arange(width, device=x.device) - right[:, None]
    known = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None]
    places = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None]  # (B, H, W)
    moved = x.flatten(2).gather(2, places.flatten(1)[:, None].expand(-1, x.shape[1], -1))
    return torch.where(known[:, None], moved.view_as(x), EDGE)


def erased(x: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """Return images (B, C, H, W) with one square each set to `GREY`.

    top, left: (B,), of the square's first pixel; it may lie outside the image, with a part of the square.
    """
    rows = torch.arange(x.shape[2], device=x.device) - top[:, None]
    columns = torch.arange(x.shape[3], device=x.device) - left[:, None]
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None]
    return x.masked_fill(inside[:, None], GREY)


def recoloured(x: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Return images (B, C, H, W) with other colours; the three changes commute, and two of each kind are one.

    Each (B,). brightness: added. contrast: multiplies the distance from the image's mean. saturation: multiplies the
    distance from each pixel's mean over its channels, if there are 3; other images have no saturation.
    """
    if x.shape[1] == 3:
        grey = x.mean(1, keepdim=True)
        x = grey + (x - grey) * _per_image(saturation)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * _per_image(contrast) + _per_image(brightness)


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
