"""Fashion-MNIST: looked for in known folders, else downloaded, else installed by Debian's package; always verified."""

import contextlib
import gzip
import hashlib
import io
import os
import shutil
import socket
import subprocess
import tempfile
import zlib
from http.client import HTTPException
from pathlib import Path

import numpy as np
import platformdirs
import torch

from imagegen.data.sets import DataError, ImageSet, check_split

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
    check_split(split)
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


def report_fashion_mnist() -> list[dict[str, str]]:
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
