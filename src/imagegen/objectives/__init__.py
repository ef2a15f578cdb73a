"""Every term of every loss: tensors in, one value per image (B,) out. The caller takes the one mean over the batch.

Three subjects, all of whose names are importable from here: `likelihood` holds likelihoods, divergences and the terms
of discrete codes, in nats; `adversarial` the two players' losses and the penalties on their networks' gradients;
`restoration` distances to a clean image, and the two players' losses for a critic of patches.
"""

from imagegen.objectives.adversarial import (
    LOSSES,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    instance_noise,
    path_lengths,
    path_penalty,
    zero_centred_penalty,
)
from imagegen.objectives.likelihood import (
    ImpliedLikelihood,
    bernoulli_entropy,
    bernoulli_nll,
    bits_per_dim,
    categorical_nll,
    code_nll,
    codebook_loss,
    commitment_loss,
    discretised_logistic_nll,
    free_bits,
    gaussian_kl,
    gaussian_kl_per_dim,
    gaussian_log_density,
    gaussian_nll,
    implied_likelihood,
    importance_weighted_bound,
    kl_weight,
    log_importance_weight,
    normalised_importance_weights,
)
from imagegen.objectives.restoration import (
    PIXEL_LOSSES,
    feature_loss,
    patch_discriminator_loss,
    patch_generator_loss,
    patch_penalty,
    pixel_loss,
)

__all__ = [
    "LOSSES", "PIXEL_LOSSES", "ImpliedLikelihood", "bernoulli_entropy", "bernoulli_nll", "bits_per_dim",
    "categorical_nll", "code_nll", "codebook_loss", "commitment_loss", "discretised_logistic_nll",
    "discriminator_loss", "feature_loss", "free_bits", "gaussian_kl", "gaussian_kl_per_dim", "gaussian_log_density",
    "gaussian_nll", "generator_loss", "gradient_penalty", "implied_likelihood", "importance_weighted_bound",
    "instance_noise", "kl_weight", "log_importance_weight", "normalised_importance_weights",
    "patch_discriminator_loss", "patch_generator_loss", "patch_penalty", "path_lengths", "path_penalty", "pixel_loss",
    "zero_centred_penalty",
]  # fmt: skip
