"""Measures of a reconstruction against its image, one value an image."""

import torch
from torch import Tensor

SSIM_WINDOW = 11  # pixels a side: a Gaussian of deviation 1.5, cut off at 3.5 deviations
SSIM_CHUNK = 128  # images at once, which bounds the memory


def _same_kind(x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape:
        raise ValueError(f"images {tuple(x.shape)} and {tuple(y.shape)} differ")
    # Differences of bytes wrap around, and a similarity written back as a byte is 0 or 1.
    if not (x.is_floating_point() and y.is_floating_point()):
        raise ValueError(f"images hold {x.dtype} and {y.dtype}, expected floats")


def mse(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean squared error of each image: (B, ...) and (B, ...) -> (B,), in the square of their units.

    Raises: ValueError: the shapes differ, or the images are not floats.
    """
    _same_kind(x, y)
    return (x - y).square().flatten(1).mean(1)


def _within(span: float, *images: Tensor) -> None:
    if not span > 0:
        raise ValueError(f"span is {span}, expected a positive number")
    widest = torch.stack([t.max() - t.min() for t in images]).max().item()
    if not widest <= span * (1 + 1e-3):  # so put, NaN is refused too
        raise ValueError(
            f"the values span {widest:g}, more than span = {span:g}: is the range the one you mean?"
        )


def psnr(x: Tensor, y: Tensor, *, span: float) -> Tensor:
    """Return the peak signal-to-noise ratio of each image, (B,) decibels: 10 log10(span^2 / mse).

    span: largest minus smallest possible value: 2 for images in [-1, 1], 1 for [0, 1]. Equal images give infinity.
    Raises: ValueError: the shapes differ, the images are not floats, span is not positive, or the values span more
        than `span`.
    """
    error = mse(x, y)
    _within(span, x, y)
    return 10 * torch.log10(span**2 / error)


def _window_means(images: Tensor) -> Tensor:
    """Return the weighted mean in every whole window: (B, C, H, W) -> (B, C, H - 10, W - 10)."""

    def along(size: int) -> Tensor:  # one row a window, its weights where it lies
        pixels = torch.arange(size, dtype=images.dtype, device=images.device)
        offset = pixels - pixels[: 1 - SSIM_WINDOW, None] - SSIM_WINDOW // 2
        weights = torch.exp(-(offset**2) / (2 * 1.5**2)) * (offset.abs() <= SSIM_WINDOW // 2)
        return weights / weights.sum(1, keepdim=True)

    return along(images.shape[2]) @ images @ along(images.shape[3]).T


def ssim(x: Tensor, y: Tensor, *, span: float) -> Tensor:
    """Return the structural similarity of each image, (B,), at most 1, which only equal images reach.

    The mean over all windows that lie within the image, and over channels. Window: Gaussian, 11 pixels a side,
    deviation 1.5; k1 = 0.01, k2 = 0.03; variances divided by n. So does scikit-image with gaussian_weights=True and
    use_sample_covariance=False. torchmetrics fills up windows at the edge with mirrored pixels: its map agrees inside.
    Args: x, y: (B, C, H, W) in [0, span], H and W >= 11. One term compares mean brightness, so black must be 0: images
        in [-1, 1] go through `images.to_unit` first. span: 1 for [0, 1], 255 for levels in float, the same for all.
    Raises: ValueError: the shapes differ or are too small, the images are not floats, span is not positive, or a value
        leaves [0, span].
    Source: Wang et al. 2004, doi:10.1109/TIP.2003.819861, section III.
    """
    _same_kind(x, y)
    if x.dim() != 4 or min(x.shape[2:]) < SSIM_WINDOW:
        raise ValueError(f"images are {tuple(x.shape)}, expected (B, C, H, W) with H and W >= {SSIM_WINDOW}")
    _within(span, x, y)
    low, high = min(x.min(), y.min()).item(), max(x.max(), y.max()).item()
    if low < -1e-3 * span or high > span * (1 + 1e-3):
        raise ValueError(
            f"values in [{low:g}, {high:g}], expected [0, {span:g}]: use images.to_unit and span=1"
        )
    c1, c2, found = (0.01 * span) ** 2, (0.03 * span) ** 2, []
    for a, b in zip(x.double().split(SSIM_CHUNK), y.double().split(SSIM_CHUNK)):
        mean_a, mean_b = _window_means(a), _window_means(b)
        var_a, var_b = _window_means(a * a) - mean_a**2, _window_means(b * b) - mean_b**2
        covariance = _window_means(a * b) - mean_a * mean_b
        brightness = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
        found.append((brightness * (2 * covariance + c2) / (var_a + var_b + c2)).flatten(1).mean(1))
    return torch.cat(found).to(x.dtype)
