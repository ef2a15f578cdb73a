"""Classical restoration, which a trained restorer is to beat: methods of SciPy and scikit-image, and a Gaussian prior.

Each damage is a `Degradation`; each method has at most one parameter, the one of its values with the best mean PSNR on
damaged training images. Then PSNR and SSIM on test images, each image's and their mean, after a clamp to [-1, 1]. Known
pixels are kept. The Gaussian prior has mean and covariance of training images: the best linear restorer. One thread.
"""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
from scipy.ndimage import median_filter
from scipy.signal import wiener
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, inpaint_biharmonic
from skimage.restoration import wiener as deconvolved
from skimage.transform import resize
from torch import Tensor

from benchmarks.record import make
from imagegen import metrics
from imagegen.degrade import Degradation, Degraded, Downsample, Mask, Operator, gaussian_kernel
from imagegen.evaluation import DEGRADATIONS
from imagegen.evaluation.entries import Entry, over_images
from imagegen.images import to_float, to_unit
from imagegen.recipes import DATA

GAUSSIAN = {name: DEGRADATIONS[name] for name in ("noise_20", "noise_40", "noise_80")}
OTHER = {
    "salt": Degradation(noise="salt-and-pepper", amount=0.1),
    "blur": Degradation(blur=1.0, noise="gaussian", amount=0.1),
}
TASKS = GAUSSIAN | OTHER | {name: DEGRADATIONS[name] for name in ("box", "scribble", "down_4")}
WORDS = {
    "input": "nothing done; in a hole grey, a small image by repetition",
    "median": "scipy.ndimage.median_filter",
    "wiener": "scipy.signal.wiener with the noise's variance; for blur skimage.restoration.wiener",
    "tv": "skimage.restoration.denoise_tv_chambolle",
    "nlm": "skimage.restoration.denoise_nl_means with the noise's deviation",
    "gaussian": "posterior mean under a Gaussian with mean and covariance of training images, the best linear restorer",
    "bicubic": "skimage.transform.resize, order 3",
    "biharmonic": "skimage.restoration.inpaint_biharmonic",
}
FLOORS = (0.0, 0.03, 0.1, 0.3)
PARAMETER = {"median": "size", "wiener": "size or balance", "tv": "weight", "nlm": "h", "gaussian": "floor"}


@dataclass(frozen=True)
class Setting:
    """n: test images. n_tune: training images that a parameter is chosen on. n_prior: those of the Gaussian prior.

    rank: how many directions of its covariance are kept; in the others it has their mean variance.
    """

    n: int = 256
    n_tune: int = 16
    n_prior: int = 2500
    rank: int = 256
    seed: int = 0


QUICK = Setting(n=3, n_tune=2, n_prior=12, rank=4)
Method = Callable[[Degraded, float], Tensor]


@dataclass(frozen=True)
class Prior:
    """A Gaussian: mean + factors z + e with z ~ N(0, I) and e ~ N(0, rest I). mean (P,), factors (P, r)."""

    mean: Tensor
    factors: Tensor
    rest: float
    shape: tuple[int, int, int]

    @classmethod
    def fit(cls, x: Tensor, rank: int) -> "Prior":
        """Return that of images (N, C, H, W): the likeliest such Gaussian.

        Raises: ValueError: a rank that is not between 1 and N - 1, or not below C H W.
        Source: Tipping and Bishop 1999, doi:10.1111/1467-9868.00196.
        """
        if not 0 < rank < min(len(x), x[0].numel()):
            raise ValueError(
                f"rank is {rank}, expected from 1 to below {len(x)} images of {x[0].numel()} values"
            )
        mean, flat = x.flatten(1).mean(0), x.flatten(1)
        centred = (flat - mean) / len(x) ** 0.5
        values, vectors = torch.linalg.eigh(centred @ centred.T)  # N x N; the covariance's largest
        values, vectors = values.flip(0)[:rank], vectors.flip(1)[:, :rank]
        rest = ((centred.square().sum() - values.sum()) / (len(mean) - rank)).clamp(min=1e-6).item()
        directions = centred.T @ vectors / values.clamp(min=1e-12).sqrt()
        return cls(mean, directions * (values - rest).clamp(min=0).sqrt(), rest, tuple(x.shape[1:]))

    def restored(self, y: Tensor, operator: Operator, sigma: float, *, scale: float) -> Tensor:
        """Return the posterior mean (B, C, H, W) of x where y = A x + n, n ~ N(0, sigma^2).

        scale: c with A A^T = c I on what is seen; 0 leaves e out, for an operator without such a c.
        """
        rest = self.rest if scale else 0.0
        noise = scale * rest + sigma**2  # what the factors do not explain
        columns = operator(self.factors.T.reshape(-1, *self.shape)).flatten(1).T  # A U, (M, r)
        residual = (y - operator(self.mean.view(1, *self.shape))).flatten(1)
        precision = torch.eye(columns.shape[1]).to(y) + columns.T @ columns / noise
        z = torch.linalg.solve(precision, columns.T @ residual.T / noise)  # (r, B)
        x = self.mean + (self.factors @ z).T
        left = (residual - (columns @ z).T).view_as(y)
        return x.view(len(y), *self.shape) + rest / noise * operator.adjoint(left)


def each(y: Tensor, method: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """Return images (B, C, h, w) after a method that takes and gives one, channels last."""
    done = [np.atleast_3d(method(image)) for image in y.permute(0, 2, 3, 1).double().numpy()]
    return torch.from_numpy(np.stack(done)).permute(0, 3, 1, 2).to(y.dtype)


def channels(method: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Return a method for one channel as one for all of them."""
    return lambda image: np.stack([method(image[..., c]) for c in range(image.shape[2])], -1)


def untouched(seen: Degraded, _: float) -> Tensor:
    return seen.operator.pinv(seen.y) if isinstance(seen.operator, Downsample) else seen.y


def median(seen: Degraded, size: float) -> Tensor:
    return each(seen.y, lambda image: median_filter(image, (int(size), int(size), 1), mode="reflect"))


def local_wiener(sigma: float, seen: Degraded, size: float) -> Tensor:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        return each(seen.y, channels(lambda image: wiener(image, int(size), sigma**2)))


def deconvolution(kernel: np.ndarray, seen: Degraded, balance: float) -> Tensor:
    one = partial(deconvolved, psf=kernel, balance=balance, clip=False)
    return each(seen.y, channels(lambda image: one(np.pad(image, 6, "reflect"))[6:-6, 6:-6]))


def total_variation(seen: Degraded, weight: float) -> Tensor:
    return each(seen.y, lambda image: denoise_tv_chambolle(image, weight=weight, channel_axis=-1))


def non_local_means(sigma: float, seen: Degraded, h: float) -> Tensor:
    one = partial(denoise_nl_means, patch_size=5, patch_distance=6, h=h, sigma=sigma, channel_axis=-1)
    return each(seen.y, one)


def gaussian(prior: Prior, degradation: Degradation, seen: Degraded, floor: float) -> Tensor:
    """Return the posterior mean under the prior; each image with a mask of its own by itself.

    floor: deviation of noise that is assumed besides, for what the prior is wrong about.
    """
    sigma = math.hypot(degradation.amount, floor)
    if seen.known is None:
        scale = 0.0 if degradation.blur else 1 / degradation.factor**2
        return prior.restored(seen.y, seen.operator, sigma, scale=scale)
    if seen.known.eq(seen.known[:1]).all():
        return prior.restored(seen.y, Mask(seen.known[:1]), sigma, scale=1.0)
    parts = [
        prior.restored(y[None], Mask(known[None]), sigma, scale=1.0) for y, known in zip(seen.y, seen.known)
    ]
    return torch.cat(parts)


def bicubic(factor: int, seen: Degraded, _: float) -> Tensor:
    def one(image: np.ndarray) -> np.ndarray:
        return resize(
            image, (factor * image.shape[0], factor * image.shape[1]), order=3, mode="edge", clip=False
        )

    return each(seen.y, one)


def biharmonic(seen: Degraded, _: float) -> Tensor:
    done = [
        inpaint_biharmonic(image, mask, channel_axis=-1)
        for image, mask in zip(seen.y.permute(0, 2, 3, 1).double().numpy(), ~seen.known[:, 0].numpy())
    ]
    return torch.from_numpy(np.stack(done)).permute(0, 3, 1, 2).to(seen.y.dtype)


def methods(task: str, prior: Prior) -> dict[str, tuple[Method, tuple[float, ...]]]:
    """Return what is tried on a task: {method: (function, values of its parameter)}; (0,) where it has none."""
    d = TASKS[task]
    of_prior: Method = partial(gaussian, prior, d)
    tried: dict[str, tuple[Method, tuple[float, ...]]] = {"input": (untouched, (0,))}
    if d.noise == "salt-and-pepper":
        tried["median"] = median, (3, 5)
        tried["tv"] = total_variation, (0.1, 0.2, 0.4, 0.8)
        tried["nlm"] = partial(non_local_means, 0.0), (0.2, 0.4, 0.8)
    elif d.blur:
        kernel = gaussian_kernel(d.blur).numpy()
        tried["wiener"] = partial(deconvolution, kernel), (0.003, 0.01, 0.03, 0.1, 0.3)
        tried["tv"] = total_variation, (0.01, 0.03, 0.06, 0.1)
        tried["gaussian"] = of_prior, FLOORS
    elif d.noise == "gaussian":
        s = d.amount
        tried["median"] = median, (3, 5)
        tried["wiener"] = partial(local_wiener, s), (3, 5, 7)
        tried["tv"] = total_variation, tuple(s * k for k in (0.4, 0.7, 1.0, 1.4))
        tried["nlm"] = partial(non_local_means, s), tuple(s * k for k in (0.3, 0.45, 0.6, 0.8, 1.1))
        tried["gaussian"] = of_prior, FLOORS
    elif d.mask != "none":
        tried["biharmonic"] = biharmonic, (0,)
        tried["gaussian"] = of_prior, FLOORS
    else:
        tried["bicubic"] = partial(bicubic, d.factor), (0,)
        tried["gaussian"] = of_prior, FLOORS
    return tried


def judged(method: Method, value: float, seen: Degraded, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return PSNR (B,) dB and SSIM (B,) of what a method makes of what was seen of x."""
    restored = method(seen, value)
    if seen.known is not None:
        restored = torch.where(seen.known, seen.y, restored)
    restored = restored.clamp(-1, 1)
    psnr = metrics.psnr(x, restored, span=2)
    return psnr, metrics.ssim(to_unit(x), to_unit(restored), span=1)


def measured(name: str, setting: Setting, say: Callable[[str], None]) -> dict[str, Entry]:
    """Return the entries of one data set: {"fashion_noise_40_tv_psnr": ...}."""
    order = torch.Generator().manual_seed(setting.seed)
    train, test = DATA[name]("train").images, DATA[name]("test").images
    chosen = torch.randperm(len(train), generator=order)[: setting.n_prior + setting.n_tune]
    few, many = to_float(train[chosen[: setting.n_tune]]), to_float(train[chosen[setting.n_tune :]])
    x = to_float(test[torch.randperm(len(test), generator=order)[: setting.n]])
    prior = Prior.fit(many, setting.rank)
    entries: dict[str, Entry] = {}
    short = name.split("-")[0]
    for number, (task, degradation) in enumerate(TASKS.items()):
        seen_few, seen = (
            degradation(images, generator=torch.Generator().manual_seed(2 * number + part))
            for part, images in enumerate((few, x))
        )
        for key, (method, values) in methods(task, prior).items():
            scores = [
                judged(method, v, seen_few, few)[0].mean().item() if len(values) > 1 else 0.0 for v in values
            ]
            value = values[scores.index(max(scores))]
            psnr, ssim = judged(method, value, seen, x)
            words = f"{name}, {task}: {WORDS[key]}"
            if key in PARAMETER:
                words += f"; {PARAMETER[key]} {value:g}, of {', '.join(f'{v:g}' for v in values)}"
            entries[f"{short}_{task}_{key}_psnr"] = over_images(psnr, "dB", f"{words}; mean over images")
            entries[f"{short}_{task}_{key}_ssim"] = over_images(ssim, "", f"{words}; 1 for equal images")
            say(f"  {name} {task} {key}: {psnr.mean():.2f} dB, SSIM {ssim.mean():.3f} ({value:g})")
    return entries


def measure(*, quick: bool = False, say: Callable[[str], None] = print) -> dict:
    """Return the record of the benchmark, which claims nothing; `quick` runs all of it at a size that shows nothing."""
    began, threads = time.time(), torch.get_num_threads()
    setting = QUICK if quick else Setting()
    torch.set_num_threads(1)
    try:
        entries = {k: v for name in DATA for k, v in measured(name, setting, say).items()}
    finally:
        torch.set_num_threads(threads)
    record = make("bench-baselines", seconds=time.time() - began, metrics=entries, seed=setting.seed)
    return record | {"setting": asdict(setting), "claims": []}
