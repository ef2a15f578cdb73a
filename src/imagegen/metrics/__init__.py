"""Measures of a model: tensors and functions in, numbers out. No model is named here.

Six subjects, all of whose names are importable from here: `pixels` compares an image with its reconstruction,
`likelihood` estimates log p(x) and what goes with it, `codes` counts the use of a codebook, `modes` the points at each
mode of a toy, `samples` and `neighbours` compare two sets of images by their features (N, F), `paths` follows features
along a way between two latents.
"""

from imagegen.metrics.codes import code_counts, codes_used, perplexity
from imagegen.metrics.likelihood import (
    active_units,
    importance_weighted_nll,
    level_counts,
    level_nll,
    level_table,
    standard_error,
)
from imagegen.metrics.modes import mode_counts
from imagegen.metrics.neighbours import coverage, memorisation, nearest, precision_recall
from imagegen.metrics.paths import lerp, path_speeds, slerp
from imagegen.metrics.pixels import mse, psnr, ssim
from imagegen.metrics.samples import frechet_distance, gaussian_frechet, inception_score, kernel_distance

__all__ = [
    "active_units",
    "code_counts",
    "codes_used",
    "coverage",
    "frechet_distance",
    "gaussian_frechet",
    "importance_weighted_nll",
    "inception_score",
    "kernel_distance",
    "level_counts",
    "level_nll",
    "level_table",
    "lerp",
    "memorisation",
    "mode_counts",
    "mse",
    "nearest",
    "path_speeds",
    "perplexity",
    "precision_recall",
    "psnr",
    "slerp",
    "ssim",
    "standard_error",
]
