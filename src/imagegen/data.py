"""Data in memory: Fashion-MNIST, toys of known density, and batches that are a function of (seed, step)."""

import contextlib
import gzip
import hashlib
import io
import math
import os
import shutil
import socket
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import numpy as np
import platformdirs
import torch
from torch import Tensor

from imagegen.images import to_float

FASHION_MNIST_CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DEBIAN_PACKAGE = "dataset-fashion-mnist"

# SHA-256 of the uncompressed content: packagers compress the same bytes anew, so the .gz files differ.
_FASHION_MNIST = {
    ("train", "images"): (
        "train-images-idx3-ubyte.gz",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    ("train", "labels"): (
        "train-labels-idx1-ubyte.gz",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    ("test", "images"): (
        "t10k-images-idx3-ubyte.gz",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    ("test", "labels"): (
        "t10k-labels-idx1-ubyte.gz",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}


class DataError(RuntimeError):
    """A data set is missing, incomplete or altered; the message names the file and what to do."""


class ImageSet(NamedTuple):
    """Images with their labels, whole in memory."""

    images: Tensor  # uint8 (N, C, H, W)
    labels: Tensor  # int64 (N,)
    classes: tuple[str, ...]


def cache_folder() -> Path:
    """Return the folder into which downloads go: IMAGEGEN_DATA, else the user's cache."""
    named = os.environ.get("IMAGEGEN_DATA")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("imagegen"))


def _fashion_mnist_folders() -> list[Path]:
    user = Path(platformdirs.user_cache_dir("imagegen"))
    roots = dict.fromkeys(
        [cache_folder(), cache_folder() / "fashion-mnist", user / "fashion-mnist", DEBIAN_FOLDER]
    )
    return list(roots)


def find_fashion_mnist() -> Path | None:
    """Return the first folder that holds all four files, or None: `cache_folder`, the user's cache, Debian's."""
    for folder in _fashion_mnist_folders():
        if all((folder / name).is_file() for name, _ in _FASHION_MNIST.values()):
            return folder
    return None


def _read_verified(path: Path, sha256: str) -> bytes:
    try:
        with gzip.open(path, "rb") as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} is truncated or not a gzip file ({error}): delete it and fetch it again"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(
            f"{path} is altered: its content has SHA-256 {found}, expected {sha256}; "
            "delete it and fetch it again"
        )
    return content


def _missing(reason: object = "") -> DataError:
    return DataError(
        "Fashion-MNIST was not found in "
        + ", ".join(map(str, _fashion_mnist_folders()))
        + ". Three ways to get it: "
        "(1) put its four .gz files into a folder and name it in the environment variable IMAGEGEN_DATA; "
        "(2) run `imagegen data --fetch` on a machine that reaches the internet; "
        f"(3) on Debian or Ubuntu, run `apt-get install {DEBIAN_PACKAGE}` as root."
        + (f" The download failed: {reason}" if reason else "")
    )


def _download(folder: Path) -> Path:
    from torchvision.datasets import FashionMNIST

    folder.mkdir(parents=True, exist_ok=True)
    before = socket.getdefaulttimeout()
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        socket.setdefaulttimeout(60)  # torchvision sets none, and a firewall that drops packets answers never
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                FashionMNIST(temporary, download=True)
        finally:
            socket.setdefaulttimeout(before)
        raw = Path(temporary) / "FashionMNIST" / "raw"
        for name, sha256 in _FASHION_MNIST.values():
            _read_verified(raw / name, sha256)
        for name, _ in _FASHION_MNIST.values():
            os.replace(raw / name, folder / name)
    return folder


def _install_debian_package() -> bool:
    if not (Path("/etc/debian_version").exists() and shutil.which("apt-get") and os.geteuid() == 0):
        return False
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", DEBIAN_PACKAGE]):
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True)
    return done.returncode == 0


def fetch_fashion_mnist() -> Path:
    """Return the folder of Fashion-MNIST: found, else downloaded, else (Debian, as root) installed by its package.

    Raises: DataError: none of the three ways worked; the message names them.
    """
    if folder := find_fashion_mnist():
        return folder
    try:
        return _download(cache_folder() / "fashion-mnist")
    except (
        OSError,
        RuntimeError,
        HTTPException,
    ) as error:  # no network, a mirror that is down, or a broken download
        if _install_debian_package() and (folder := find_fashion_mnist()):
            return folder
        raise _missing(error) from error


def fashion_mnist(split: str = "train", *, download: bool = True) -> ImageSet:
    """Return a split of Fashion-MNIST: uint8 (60000 or 10000, 1, 28, 28), labels int64, class names.

    Args: split: "train" or "test". download: fetch it where it is not found.
    Raises: ValueError: another split. DataError: not found, or a file is truncated or altered.
    Source: Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747.
    """
    if split not in ("train", "test"):
        raise ValueError(f"expected split 'train' or 'test', got {split!r}")
    folder = find_fashion_mnist()
    if folder is None:
        if not download:
            raise _missing()
        folder = fetch_fashion_mnist()
    arrays = {}
    for kind, header in (("images", 16), ("labels", 8)):  # the idx format: magic number and sizes, then bytes
        name, sha256 = _FASHION_MNIST[split, kind]
        content = _read_verified(folder / name, sha256)
        arrays[kind] = torch.from_numpy(np.frombuffer(content, dtype=np.uint8, offset=header).copy())
    return ImageSet(arrays["images"].reshape(-1, 1, 28, 28), arrays["labels"].long(), FASHION_MNIST_CLASSES)


def report() -> list[dict[str, str]]:
    """Return one row a file: data set, file, the folder it was found in, and its checksum's verdict."""
    folder = find_fashion_mnist()
    rows = []
    for name, sha256 in _FASHION_MNIST.values():
        verdict = "missing"
        if folder:
            try:
                _read_verified(folder / name, sha256)
                verdict = "ok"
            except DataError as error:
                verdict = str(error)
        rows.append({"name": "fashion-mnist", "file": name, "folder": str(folder or "-"), "verdict": verdict})
    return rows


class Batch(NamedTuple):
    """Images in use: float32 (B, C, H, W) in [-1, 1]; labels int64 (B,), or None."""

    x: Tensor
    labels: Tensor | None


class Batches:
    """Shuffled batches from one uint8 tensor in memory; batch `step` is a pure function of (seed, step).

    So a training that was killed goes on with the batches it would have seen. Each epoch is a new
    permutation; the last images of an epoch that fill no batch are left out. With several processes, each
    takes its slice of the same global batch of `batch_size` images.

    Args: images: uint8 (N, C, H, W), kept on `device`. labels: (N,) or None.
    Raises: ValueError: a batch larger than the data, or one that the processes cannot share evenly.
    """

    def __init__(self, images: Tensor, labels: Tensor | None = None, *, batch_size: int, seed: int,
                 device: str | torch.device = "cpu", rank: int = 0, world_size: int = 1) -> None:  # fmt: skip
        if not 1 <= batch_size <= len(images):
            raise ValueError(f"batch_size is {batch_size}, expected between 1 and the {len(images)} images")
        if not 0 <= rank < world_size or batch_size % world_size:
            raise ValueError(
                f"batch_size {batch_size} cannot be shared by rank {rank} of {world_size} processes"
            )
        if labels is not None and len(labels) != len(images):
            raise ValueError(f"{len(images)} images and {len(labels)} labels differ")
        self.images, self.labels = images.to(device), None if labels is None else labels.to(device)
        self.batch_size, self.seed = batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.steps_per_epoch = len(images) // batch_size
        self._epoch, self._order = -1, torch.empty(0)

    def at(self, step: int) -> Batch:
        """Return this process's part of batch number `step`, counted from 0. Raises: ValueError: below 0."""
        if step < 0:
            raise ValueError(f"step is {step}, expected at least 0")
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._order = torch.randperm(len(self.images), generator=generator).to(self.images.device)
            self._epoch = epoch
        share = self.batch_size // self.world_size
        start = position * self.batch_size + self.rank * share
        chosen = self._order[start : start + share]
        return Batch(to_float(self.images[chosen]), None if self.labels is None else self.labels[chosen])

    def __iter__(self) -> Iterator[Batch]:
        step = 0
        while True:
            yield self.at(step)
            step += 1


@dataclass(frozen=True)
class LinearGaussian:
    """The data x = W z + b + s e with z ~ N(0, I), e ~ N(0, I): a VAE whose every quantity has a closed form.

    weight: (P, D); bias: (P,); noise_std: s > 0. Source: Tipping and Bishop 1999, probabilistic PCA.
    """

    weight: Tensor
    bias: Tensor
    noise_std: float

    def __post_init__(self) -> None:
        if self.weight.dim() != 2 or self.bias.shape != self.weight.shape[:1]:
            raise ValueError(
                f"weight {tuple(self.weight.shape)} and bias {tuple(self.bias.shape)} are not (P, D) and (P,)"
            )
        if not self.noise_std > 0:
            raise ValueError(f"noise_std is {self.noise_std}, expected a positive number")

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return n draws (n, P) of x."""
        z = torch.randn(n, self.weight.shape[1], generator=generator, dtype=self.weight.dtype)
        noise = torch.randn(n, len(self.bias), generator=generator, dtype=self.weight.dtype)
        return z @ self.weight.T + self.bias + self.noise_std * noise

    def log_marginal(self, x: Tensor) -> Tensor:
        """Return log p(x) = log N(x; b, W W^T + s^2 I) of x (B, P) as (B,) nats."""
        covariance = self.weight @ self.weight.T + self.noise_std**2 * torch.eye(
            len(self.bias), dtype=self.weight.dtype
        )
        return torch.distributions.MultivariateNormal(self.bias, covariance).log_prob(x)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the exact posterior of z given x (B, P): mean (B, D); covariance (D, D), the same for all x."""
        dim = self.weight.shape[1]
        precision = torch.eye(dim, dtype=self.weight.dtype) + self.weight.T @ self.weight / self.noise_std**2
        covariance = torch.linalg.inv(precision)
        return (x - self.bias) @ self.weight @ covariance / self.noise_std**2, covariance


def gaussian_2d(n: int, covariance: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Return n points (n, 2) of N(0, covariance); covariance: (2, 2), symmetric and positive definite."""
    if covariance.shape != (2, 2):
        raise ValueError(f"expected a covariance of shape (2, 2), got {tuple(covariance.shape)}")
    if not covariance.equal(covariance.T):  # the factorisation would read the lower half alone
        raise ValueError(f"covariance {covariance.tolist()} is not symmetric")
    noise = torch.randn(n, 2, generator=generator, dtype=covariance.dtype)
    return noise @ torch.linalg.cholesky(covariance).T


def ring_of_gaussians(n: int, *, modes: int = 8, radius: float = 2.0, std: float = 0.02,
                      generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return n points (n, 2) of equal Gaussians on a ring, and the mode of each (n,)."""
    mode = torch.randint(modes, (n,), generator=generator)
    angle = mode * (2 * math.pi / modes)
    centre = radius * torch.stack([angle.cos(), angle.sin()], dim=1)
    return centre + std * torch.randn(n, 2, generator=generator), mode


def grid_of_gaussians(n: int, *, side: int = 5, spacing: float = 2.0, std: float = 0.05,
                      generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return n points (n, 2) of side x side equal Gaussians on a grid centred on 0, and the mode of each (n,)."""
    mode = torch.randint(side * side, (n,), generator=generator)
    centre = torch.stack([mode % side, mode // side], dim=1).float().sub((side - 1) / 2).mul(spacing)
    return centre + std * torch.randn(n, 2, generator=generator), mode
