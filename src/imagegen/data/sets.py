"""What the data sets share: the form in which they come, and the error when they do not."""

from typing import NamedTuple

from torch import Tensor


class DataError(RuntimeError):
    """A data set is missing, incomplete or altered; the message names the file and what to do."""


class ImageSet(NamedTuple):
    """Images with their labels, whole in memory."""

    images: Tensor  # uint8 (N, C, H, W)
    labels: Tensor  # int64 (N,)
    classes: tuple[str, ...]


class AvatarSet(NamedTuple):
    """Images with all their attributes, whole in memory; the attributes are in the order of the labels' columns."""

    images: Tensor  # uint8 (N, 3, S, S)
    labels: Tensor  # int64 (N, A): labels[i, a] is the position of its value in that of the a-th attribute
    attributes: dict[str, tuple[str, ...]]  # the names of each attribute's values


def check_split(split: str) -> None:
    """Raises: ValueError: neither "train" nor "test"."""
    if split not in ("train", "test"):
        raise ValueError(f"expected split 'train' or 'test', got {split!r}")
