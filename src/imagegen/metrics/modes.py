"""How many of the modes of a known mixture a sample reaches, and how much of the sample lies at a mode at all."""

import torch
from torch import Tensor


def mode_counts(points: Tensor, centres: Tensor, *, std: float, within: float = 3.0) -> tuple[Tensor, float]:
    """Return how many points lie at each mode, int64 (M,), and the share of points that lie at any.

    A point lies at a mode if that is the nearest to it and no further than `within` standard deviations. In two
    dimensions 98.9 % of a Gaussian's own points lie within 3; that is the share to compare with. From which count on a
    mode is found is for the caller to say.
    Args: points: (N, D). centres: (M, D). std: of each mode, the same in every direction.
    Raises: ValueError: shapes that do not fit, no points, points that are not finite, or a std or within not above 0.
    """
    if points.dim() != 2 or centres.dim() != 2 or points.shape[1] != centres.shape[1]:
        raise ValueError(
            f"points {tuple(points.shape)} and centres {tuple(centres.shape)} are not (N, D) and (M, D)"
        )
    if not len(points) or not len(centres):
        raise ValueError(f"{len(points)} points and {len(centres)} centres, expected at least one of each")
    if not points.isfinite().all():
        raise ValueError("the points hold a value that is not finite")
    if not (std > 0 and within > 0):
        raise ValueError(f"std is {std} and within is {within}, expected both above 0")
    # Not through |a|^2 - 2 ab + |b|^2, which loses the digits of a small distance far from 0.
    distances = torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist")  # (N, M)
    distance, nearest = distances.min(1)
    at_mode = distance <= within * std
    counts = torch.bincount(nearest[at_mode], minlength=len(centres))
    return counts, at_mode.double().mean().item()
