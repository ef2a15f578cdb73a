"""What the measures of two sets of images take: features, one row an image."""

import torch
from torch import Tensor


def same_space(least: int, **sets: Tensor) -> tuple[Tensor, ...]:
    """Return sets of features, each (N, F) with the same F and N >= least, in float64.

    Float64 because these measures subtract large numbers that are nearly equal. The names of the keywords are those
    that an error gives.
    Raises: ValueError: a set is not (N, F) floats, has fewer rows than `least`, holds a number that is not finite, or
        has another F than the first.
    """
    first, width = "", 0
    for name, rows in sets.items():
        if rows.dim() != 2 or len(rows) < least or not rows.shape[1]:
            raise ValueError(f"{name} is {tuple(rows.shape)}, expected (N, F) with N >= {least} and F >= 1")
        if not rows.is_floating_point():
            raise ValueError(f"{name} holds {rows.dtype}, expected features of a floating-point type")
        if not (finite := torch.isfinite(rows)).all():
            raise ValueError(f"{name} holds {(~finite).sum()} values that are not finite, expected none")
        first, width = (first, width) if first else (name, rows.shape[1])
        if rows.shape[1] != width:
            raise ValueError(f"{name} has {rows.shape[1]} features and {first} {width}, expected the same")
    return tuple(rows.detach().double() for rows in sets.values())
