"""Data in memory: Fashion-MNIST, Avatars, toys of known density, and batches that are a function of (seed, step)."""

from imagegen.data.batches import Batch, Batches
from imagegen.data.faces import AVATAR_ATTRIBUTION, avatars, report_avatars
from imagegen.data.fashion import (
    DEBIAN_FOLDER,
    DEBIAN_PACKAGE,
    FASHION_MNIST_CLASSES,
    cache_folder,
    fashion_mnist,
    fetch_fashion_mnist,
    find_fashion_mnist,
    report_fashion_mnist,
)
from imagegen.data.sets import AvatarSet, DataError, ImageSet
from imagegen.data.toys import LinearGaussian, gaussian_2d, grid_of_gaussians, ring_centres, ring_of_gaussians

__all__ = [
    "AVATAR_ATTRIBUTION",
    "DEBIAN_FOLDER",
    "DEBIAN_PACKAGE",
    "FASHION_MNIST_CLASSES",
    "AvatarSet",
    "Batch",
    "Batches",
    "DataError",
    "ImageSet",
    "LinearGaussian",
    "avatars",
    "cache_folder",
    "fashion_mnist",
    "fetch_fashion_mnist",
    "find_fashion_mnist",
    "gaussian_2d",
    "grid_of_gaussians",
    "report",
    "ring_centres",
    "ring_of_gaussians",
]


def report() -> list[dict[str, str]]:
    """Return one row a file of every data set: its name, file, the folder it was found in, the checksum's verdict."""
    return report_fashion_mnist() + report_avatars()
