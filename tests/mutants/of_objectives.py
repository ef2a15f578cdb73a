"""The mutants of `objectives`: where most of the field's bugs are, for a wrong loss still trains to something."""

from tests.mutants.mutant import OWN, Mutant

TESTS = ("tests/test_objectives.py", "tests/test_vae_derivation.py")


def _mutant(name: str, function: str, old: str, new: str, story: str, source: str = OWN, **more) -> Mutant:
    return Mutant(
        name, "objectives/likelihood", function, old, new, story, source, more.pop("tests", TESTS), **more
    )


CHECKS = (
    _mutant(
        "shapes-may-broadcast", "_same_shape",
        "if a.shape != b.shape:", "if a.dim() != b.dim():",
        "Two tensors of different shapes are accepted, and PyTorch stretches one over the other. The loss is a number "
        "like any other, and wrong.",
    ),
    _mutant(
        "loss-of-a-flat-batch", "_same_shape",
        "if a.dim() < 2:", "if a.dim() < 1:",
        "A tensor of shape (B,) is taken as B images of no pixels, or as one image of B pixels: nobody can say which.",
    ),
    _mutant(
        "targets-below-zero", "_within_unit",
        "(low >= 0) &", "(low >= -1) &",
        "Normalised images, with values below 0, are handed to a cross-entropy that is meant for [0, 1]. It then has "
        "no lowest value: making the logits larger makes the loss ever smaller.",
        "https://github.com/Lightning-Universe/lightning-bolts/issues/177",
        bug=9,
    ),
    _mutant(
        "targets-above-one", "_within_unit",
        "(high <= 1)  #", "(high <= 255)  #",
        "Pixels from 0 to 255 are handed to a cross-entropy that is meant for [0, 1]: the same as above, only worse.",
    ),
    _mutant(
        "range-waits-for-the-gpu", "_within_unit",
        'if target.device.type != "cpu":', "if target.dim() < 1:",
        "The range of each batch is looked at in Python. On a GPU that waits, every step, until all work so far is "
        "done, and the processor can never run ahead.",
    ),
    _mutant(
        "range-not-checked-on-a-gpu", "_within_unit",
        "torch.where(within, 1.0, math.nan)", "torch.where(within, 1.0, 1.0)",
        "The check is left out where it would make the GPU wait: the mistakes that it finds on a processor train on in "
        "silence there.",
        bug=9,
    ),
)  # fmt: skip

_SUM = 'reduction="none").flatten(1).sum(1) * within'

BERNOULLI = (
    _mutant(
        "bernoulli-mean-over-pixels", "bernoulli_nll",
        _SUM, 'reduction="none").flatten(1).mean(1) * within',
        "The cross-entropy is averaged over the pixels and the KL summed over the latents. With 784 pixels this is a "
        "beta of 784: the KL goes to 0 and all reconstructions look the same.",
        "https://github.com/y0ast/VAE-Torch/issues/11",
        bug=1, equation="vae-bernoulli",
    ),
    _mutant(
        "bernoulli-mean-over-everything", "bernoulli_nll",
        _SUM, 'reduction="mean").expand(len(logits)) * within',
        "The default reduction of a loss in PyTorch is the mean over pixels and batch. Beside a summed KL it hides a "
        "beta that nobody chose, and which depends on the size of the images.",
        "https://github.com/pytorch/examples/issues/294",
        bug=1, equation="vae-bernoulli",
    ),
    _mutant(
        "bernoulli-sum-over-the-batch", "bernoulli_nll",
        _SUM, 'reduction="none").sum().expand(len(logits)) * within',
        "The sum runs over the batch too. The loss then grows with the batch, and two runs with different batches "
        "cannot be compared.",
        "https://github.com/jaanaltosaar/variational-autoencoder/issues/16",
        bug=1, equation="vae-bernoulli",
    ),
    _mutant(
        "bernoulli-sum-over-rows-alone", "bernoulli_nll",
        _SUM, 'reduction="none").sum(-1).flatten(1).mean(1) * within',
        "The sum covers the last axis of the image, a row of pixels, and a mean covers the rest.",
        bug=1, equation="vae-bernoulli",
    ),
    _mutant(
        "bernoulli-arguments-swapped", "bernoulli_nll",
        "with_logits(logits, target,", "with_logits(target, logits,",
        "Prediction and target have the same shape, so exchanging them raises no error.",
        equation="vae-bernoulli",
    ),
    _mutant(
        "bernoulli-sigmoid-twice", "bernoulli_nll",
        "with_logits(logits, target,", "with_logits(logits.sigmoid(), target,",
        "A sigmoid is put before a loss that has one inside. Probabilities then stay between 0.5 and 0.73, and no "
        "pixel can become black.",
        "https://github.com/y0ast/VAE-TensorFlow/issues/7",
        equation="vae-bernoulli",
    ),
    _mutant(
        "probability-in-place-of-its-logarithm", "bernoulli_nll",
        'return binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).sum(1)',
        'return -torch.exp(-binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).sum(1))',
        "The loss is written as the expectation of -p(x|z), the logarithm forgotten. The probability of a whole image "
        "is about e to the -240, which is 0 in floating point: nothing is learnt.",
        "https://arxiv.org/abs/1312.6114",
        bug=5, equation="vae-bernoulli",
    ),
    _mutant(
        "grey-pixels-rounded", "bernoulli_nll",
        "with_logits(logits, target,", "with_logits(logits, target.round(),",
        "Grey pixels are made black or white first. That is a proper likelihood, but of other data: its figures are "
        "not comparable with those on grey pixels.",
        "https://github.com/pyro-ppl/pyro/issues/529",
        bug=8, equation="vae-bernoulli",
    ),
    _mutant(
        "bernoulli-floor-is-zero", "bernoulli_entropy",
        "return (torch.special.entr(target)", "return 0 * (torch.special.entr(target)",
        "The cross-entropy of grey pixels is called a likelihood whose best value is 0. Its best value is the entropy "
        "of the pixels: 189.9 nats an image on Fashion-MNIST, even for a perfect reconstruction.",
        "https://github.com/pytorch/examples/issues/460",
        bug=8, equation="vae-bernoulli-floor",
    ),
    _mutant(
        "bernoulli-entropy-of-ones-alone", "bernoulli_entropy",
        "(torch.special.entr(target) + torch.special.entr(1 - target))", "torch.special.entr(target)",
        "The entropy of a pixel counts its white part and forgets its black part.",
        equation="vae-bernoulli-floor",
    ),
    _mutant(
        "bernoulli-entropy-in-bits", "bernoulli_entropy",
        "torch.special.entr(1 - target)).flatten(1).sum(1)",
        "torch.special.entr(1 - target)).flatten(1).sum(1) / math.log(2)",
        "The floor is in bits and the loss in nats: the loss then seems to fall below its floor.",
        equation="vae-bernoulli-floor",
    ),
    _mutant(
        "bernoulli-entropy-mean-over-pixels", "bernoulli_entropy",
        "torch.special.entr(1 - target)).flatten(1).sum(1)", "torch.special.entr(1 - target)).flatten(1).mean(1)",
        "The floor is a mean over pixels and the loss a sum: a floor of 0.24 beside a loss of 235 says nothing.",
        bug=1, equation="vae-bernoulli-floor",
    ),
)  # fmt: skip

_GAUSSIAN = "0.5 * (LOG_2PI + log_var + (target - mean).square() * torch.exp(-log_var))"

GAUSSIAN = (
    _mutant(
        "squared-error-called-a-likelihood", "gaussian_nll",
        _GAUSSIAN, "(target - mean).square() + 0 * log_var",
        "The plain squared error is said to be -log N(x; mu, I). That one has a factor 1/2 and a constant: the squared "
        "error belongs to a variance of 1/2, which is a beta of 1/2.",
        "https://github.com/ethanluoyc/pytorch-vae/issues/3",
        bug=4, equation="vae-gaussian",
    ),
    _mutant(
        "gaussian-without-its-constant", "gaussian_nll",
        _GAUSSIAN, "0.5 * (log_var + (target - mean).square() * torch.exp(-log_var))",
        "log 2 pi is left out, for it has no gradient. The training is the same, but the value is no likelihood: "
        "720 nats too small for 784 pixels.",
        "https://github.com/orybkin/sigma-vae-pytorch/issues/6",
        bug=4, equation="vae-gaussian",
    ),
    _mutant(
        "gaussian-without-its-half", "gaussian_nll",
        _GAUSSIAN, _GAUSSIAN.replace("0.5 * ", "1.0 * "),
        "The factor 1/2 before all of it is lost: the distortion counts twice, as with a beta of 1/2.",
        "https://github.com/SupaeroDataScience/deep-learning/pull/6",
        bug=4, equation="vae-gaussian",
    ),
    _mutant(
        "gaussian-variance-for-precision", "gaussian_nll",
        _GAUSSIAN, _GAUSSIAN.replace("exp(-log_var)", "exp(log_var)"),
        "The squared error is multiplied by the variance, not divided by it. A decoder that says it is unsure is then "
        "punished more for an error, not less.",
        "https://github.com/kctezcan/ddp_recon/issues/1",
        equation="vae-gaussian",
    ),
    _mutant(
        "gaussian-divided-by-the-standard-deviation", "gaussian_nll",
        _GAUSSIAN, _GAUSSIAN.replace("exp(-log_var)", "exp(-0.5 * log_var)"),
        "The squared error is divided by the standard deviation, not the variance. Only at a variance of 1, where "
        "people look first, do the two agree.",
        equation="vae-gaussian",
    ),
    _mutant(
        "gaussian-half-the-log-variance", "gaussian_nll",
        _GAUSSIAN, _GAUSSIAN.replace("+ log_var +", "+ 0.5 * log_var +"),
        "The factor 1/2 is applied twice to the log-variance. A learnt variance then settles at the wrong value.",
        "https://github.com/y0ast/VAE-Torch/pull/5",
        equation="vae-optimal-variance",
    ),
    _mutant(
        "gaussian-mean-over-pixels", "gaussian_nll",
        "element.flatten(1).sum(1)", "element.flatten(1).mean(1)",
        "A mean over 784 pixels beside a sum over the latents is a beta of 784. The samples are blurred, and the model "
        "does not improve.",
        "https://github.com/orybkin/sigma-vae-pytorch/pull/12",
        bug=1, equation="vae-gaussian",
    ),
    _mutant(
        "gaussian-without-gradient", "gaussian_nll",
        "(target - mean).square()", "(target - mean.detach()).square()",
        "The mean is cut from the graph: the value is right, but the decoder learns nothing from it.",
    ),
    _mutant(
        "gaussian-log-variance-may-broadcast", "_scalar_or_same",
        "if value.dim() and value.shape != mean.shape:", "if value.dim() > mean.dim():",
        "A log-variance for each image, of shape (B,), is stretched over the last axis of the picture instead.",
    ),
)  # fmt: skip

_CELL = "precision = torch.exp(-log_scale)"
_CATEGORICAL = 'cross_entropy(logits, target.long(), reduction="none").flatten(1).sum(1)'
_ADDED = "-(below_upper + above_lower + width).flatten(1).sum(1)"

LEVELS = (
    _mutant(
        "cell-twice-as-wide", "discretised_logistic_nll",
        _CELL, "HALF_LEVEL = 1 / 127.5; " + _CELL,
        "Half a level is 1/255 in the range [-1, 1], and a whole one 2/255. With cells of twice the width neighbours "
        "overlap, every level counts twice, and the likelihood looks a bit better a dimension.",
        "https://arxiv.org/abs/1701.05517",
        equation="images-logistic",
    ),
    _mutant(
        "cells-of-the-unit-range", "discretised_logistic_nll",
        _CELL, "HALF_LEVEL = 1 / 510; " + _CELL,
        "The width of a cell is that of values in [0, 1], the values are in [-1, 1]: half of the line lies in no cell, "
        "and the probabilities sum to about 1/2.",
        bug=9, equation="images-logistic",
    ),
    _mutant(
        "black-without-its-tail", "discretised_logistic_nll",
        "logsigmoid(-lower).masked_fill(target == 0, 0.0)", "logsigmoid(-lower)",
        "Level 0 is given an outer edge like any other. What the distribution puts below black is lost, and the 256 "
        "probabilities sum to less than 1.",
        "https://github.com/openai/pixel-cnn/issues/23",
        equation="images-logistic",
    ),
    _mutant(
        "white-without-its-tail", "discretised_logistic_nll",
        "logsigmoid(upper).masked_fill(target == LEVELS - 1, 0.0)", "logsigmoid(upper)",
        "Level 255 is given an outer edge like any other. What the distribution puts above white is lost.",
        "https://github.com/openai/pixel-cnn/issues/34",
        equation="images-logistic",
    ),
    _mutant(
        "tails-at-the-wrong-ends", "discretised_logistic_nll",
        "masked_fill(target == LEVELS - 1, 0.0)", "masked_fill(target == 0, 0.0)",
        "Both tails are given to black: white then has an outer edge, and black has more than its share.",
        equation="images-logistic",
    ),
    _mutant(
        "width-at-the-edges-too", "discretised_logistic_nll",
        "(target > 0) & (target < LEVELS - 1)", "(target >= 0) & (target < LEVELS - 1)",
        "The factor for a cell with two edges is applied to black as well, which has one.",
        equation="images-logistic",
    ),
    _mutant(
        "scale-read-as-log-scale", "discretised_logistic_nll",
        _CELL, "precision = 1 / (log_scale.abs() + 1e-6)",
        "The network's output is read as the scale itself, and made positive by force.",
        equation="images-logistic",
    ),
    _mutant(
        "scale-in-place-of-its-inverse", "discretised_logistic_nll",
        _CELL, "precision = torch.exp(log_scale)",
        "The distance is multiplied by the scale, not divided by it: a network that is unsure is taken to be sure.",
        equation="images-logistic",
    ),
    _mutant(
        "log-scale-read-as-log-variance", "discretised_logistic_nll",
        _CELL, "precision = torch.exp(-0.5 * log_scale)",
        "The habit of the Gaussian, whose parameter is log s^2, is carried over to the logistic, whose parameter is "
        "log s.",
        equation="images-logistic",
    ),
    _mutant(
        "density-in-place-of-a-probability", "discretised_logistic_nll",
        "width = torch.log(-torch.expm1(-2 * HALF_LEVEL * precision))", "width = torch.log(2 * HALF_LEVEL * precision)",
        "The density at the level times the width of its cell is used. For a scale of less than a level that is more "
        "than 1, and the loss falls without end.",
        equation="images-logistic",
    ),
    _mutant(
        "difference-of-two-sigmoids", "discretised_logistic_nll",
        _ADDED, "-(torch.where(target == LEVELS - 1, 1.0, upper.sigmoid()) - torch.where(target == 0, 0.0, "
        "lower.sigmoid())).clamp_min(1e-12).log().flatten(1).sum(1)",
        "The two sigmoids are subtracted, and what is 0 is set to 1e-12. Far from the mean the loss is then a constant "
        "and has no gradient: a pixel that is badly wrong is never corrected.",
        "https://github.com/openai/pixel-cnn/issues/25",
        equation="images-logistic-stable",
    ),
    _mutant(
        "logistic-mean-over-values", "discretised_logistic_nll",
        _ADDED, "-(below_upper + above_lower + width).flatten(1).mean(1)",
        "The mean over the values of an image is called its negative log-likelihood.",
        bug=1,
    ),
    _mutant(
        "logistic-sum-over-channels-alone", "discretised_logistic_nll",
        _ADDED, "-(below_upper + above_lower + width).sum(1).flatten(1).mean(1)",
        "The channels of a pixel are added, as a mixture over whole pixels needs it, and the pixels are averaged.",
        "https://github.com/r9y9/wavenet_vocoder/issues/33",
        bug=1,
    ),
    _mutant(
        "levels-of-any-type", "_whole_levels",
        "if target.dtype != torch.uint8:", "if target.dtype == torch.bool:",
        "Values in [-1, 1] or [0, 1] are accepted as levels, and cut down to 0 and 1: all pictures are black.",
        bug=9,
    ),
    _mutant(
        "categorical-mean-over-everything", "categorical_nll",
        _CATEGORICAL, _CATEGORICAL.replace('"none").flatten(1).sum(1)', '"mean").expand(len(target))'),
        "The default reduction of PyTorch's cross-entropy is the mean over batch and pixels: nats a dimension, which "
        "are then divided by the number of dimensions once more.",
        bug=1, equation="images-categorical",
    ),
    _mutant(
        "categorical-sum-over-channels-forgotten", "categorical_nll",
        _CATEGORICAL, _CATEGORICAL.replace("flatten(1).sum(1)", "flatten(2).sum(-1).mean(1)"),
        "The pixels are added and the colours averaged: a third of the figure, for a coloured image.",
        bug=1, equation="images-categorical",
    ),
    _mutant(
        "categorical-levels-last", "categorical_nll",
        "(*target.shape[:1], LEVELS, *target.shape[1:])", "logits.shape",
        "The place of the levels is not checked. Where two sizes agree, the softmax runs over the pixels of a row.",
    ),
    Mutant(
        "noise-of-one-side", "images", "dequantise",
        "device=x.device) - 0.5)", "device=x.device))",
        "The noise is drawn from [0, 1) and added to the centre of a cell, so that half of it lies in the next cell, "
        "and all images get brighter by half a level.",
        "https://github.com/rosinality/glow-pytorch/issues/17", ("tests/test_images.py",),
        bug=9, equation="images-dequantisation",
    ),
    Mutant(
        "noise-of-half-a-cell", "images", "dequantise",
        "* (2 / 255)", "* (1 / 255)",
        "The noise has the width that levels have in [0, 1], the values are in [-1, 1]. It fills half of each cell, "
        "and a density can still gain by leaving out the other half.",
        "https://github.com/rosinality/glow-pytorch/issues/17", ("tests/test_images.py",),
        bug=9, equation="images-dequantisation",
    ),
    Mutant(
        "one-noise-for-all-values", "images", "dequantise",
        "torch.rand(x.shape, generator", "torch.rand((), generator",
        "One number is drawn and added to all values: brightness is made continuous, the values relative to each other "
        "stay on their levels.",
        OWN, ("tests/test_images.py",), equation="images-dequantisation",
    ),
)  # fmt: skip

_KL = "0.5 * (mean.square() + log_var.expm1() - log_var)"

KL = (
    _mutant(
        "kl-without-its-half", "gaussian_kl_per_dim",
        _KL, _KL.replace("0.5 * ", "1.0 * "),
        "The factor 1/2 is lost. The KL counts twice: a beta of 2 that is not in the paper's equation.",
        "https://github.com/SupaeroDataScience/deep-learning/pull/6",
        bug=2, equation="vae-kl",
    ),
    _mutant(
        "kl-with-its-sign-flipped", "gaussian_kl_per_dim",
        _KL, _KL.replace("0.5 * ", "-0.5 * "),
        "The paper writes -KL, to be maximised; the code minimises it. The posterior is then pushed away from the "
        "prior without end, and the loss falls to minus infinity.",
        "https://github.com/FluxML/model-zoo/pull/147",
        bug=2, equation="vae-kl",
    ),
    _mutant(
        "kl-log-variance-read-as-log-std", "gaussian_kl_per_dim",
        _KL, "0.5 * (mean.square() + torch.expm1(2 * log_var) - 2 * log_var)",
        "The number is log sigma in the KL and log sigma squared in the draw of z. Both parts look right alone; the "
        "two are not about the same distribution.",
        "https://github.com/rstudio/keras3/issues/359",
        bug=2, equation="vae-kl",
    ),
    _mutant(
        "kl-log-variance-read-as-std", "gaussian_kl_per_dim",
        _KL, "0.5 * (mean.square() + log_var.square() - 1 - (log_var.square() + 1e-8).log())",
        "The network's output is taken as sigma itself. It may be negative, and the KL is then smallest at sigma = 1 "
        "and at sigma = -1.",
        "https://github.com/ikostrikov/TensorFlow-VAE-GAN-DRAW/issues/15",
        bug=2, equation="vae-kl",
    ),
    _mutant(
        "kl-without-its-minus-one", "gaussian_kl_per_dim",
        _KL, "0.5 * (mean.square() + log_var.exp() - log_var)",
        "The -1 belongs to each dimension; forgotten, or subtracted once for all, the KL no longer reaches 0 and grows "
        "with the number of latents.",
        "https://github.com/ericjang/draw/issues/2",
        equation="vae-kl",
    ),
    _mutant(
        "kl-the-other-way-round", "gaussian_kl_per_dim",
        _KL, "0.5 * ((mean.square() + 1) * torch.exp(-log_var) - 1 + log_var)",
        "KL(p || q) in place of KL(q || p). It is a divergence too, and also 0 at the prior, but with it the loss is "
        "no bound on the likelihood.",
        equation="vae-kl",
    ),
    _mutant(
        "kl-mean-not-squared", "gaussian_kl_per_dim",
        _KL, _KL.replace("mean.square()", "mean.abs()"),
        "The mean enters without its square. The value stays positive and is 0 at the prior, so it looks right.",
        equation="vae-kl",
    ),
    _mutant(
        "kl-does-not-reach-the-mean", "gaussian_kl_per_dim",
        _KL, _KL.replace("mean.square()", "mean.detach().square()"),
        "The mean is cut from the graph. The KL is reported rightly, but nothing pulls the means towards 0.",
    ),
    _mutant(
        "kl-mean-over-latents", "gaussian_kl",
        "gaussian_kl_per_dim(mean, log_var).flatten(1).sum(1)", "gaussian_kl_per_dim(mean, log_var).flatten(1).mean(1)",
        "The KL is averaged over the latents, so that its weight shrinks as latents are added. A mean over 784 pixels "
        "beside a mean over 200 latents is a beta of 3.92.",
        "https://github.com/keras-team/keras/issues/6015",
        bug=1, equation="vae-kl",
    ),
    _mutant(
        "kl-divided-by-the-pixels", "gaussian_kl",
        "gaussian_kl_per_dim(mean, log_var).flatten(1).sum(1)",
        "gaussian_kl_per_dim(mean, log_var).flatten(1).sum(1) / 784",
        "The KL is divided by the number of pixels, to match a mean over pixels. The latents have nothing to do with "
        "784: beside a sum over pixels this is a beta of 1/784.",
        "https://github.com/pytorch/examples/issues/290",
        bug=1, equation="vae-kl",
    ),
    _mutant(
        "kl-sum-over-the-batch", "gaussian_kl",
        "gaussian_kl_per_dim(mean, log_var).flatten(1).sum(1)",
        "gaussian_kl_per_dim(mean, log_var).sum().expand(len(mean))",
        "The KL is summed over the batch, the reconstruction averaged over it: beta is then the size of the batch.",
        "https://github.com/wiseodd/generative-models/issues/40",
        bug=1, equation="vae-kl",
    ),
    _mutant(
        "kl-along-the-wrong-axis", "gaussian_kl",
        "gaussian_kl_per_dim(mean, log_var).flatten(1).sum(1)", "gaussian_kl_per_dim(mean, log_var).flatten(1).sum(0)",
        "The sum runs over the images, not the latents: one number for each latent, which a later mean hides.",
        equation="vae-kl",
    ),
)  # fmt: skip

CURES = (
    _mutant(
        "free-bits-for-each-image", "free_bits",
        "kl_per_dim.mean(0).clamp_min(floor).sum()", "kl_per_dim.clamp_min(floor).mean(0).sum()",
        "The floor is applied to each image, then averaged. A latent that is shut for most images, and carries much "
        "about a few, still pays.",
        "https://github.com/weipu-zhang/STORM/issues/12",
        equation="vae-free-bits",
    ),
    _mutant(
        "free-bits-for-the-sum", "free_bits",
        "kl_per_dim.mean(0).clamp_min(floor).sum()", "kl_per_dim.mean(0).sum().clamp_min(floor)",
        "The floor is applied to the sum over the latents. One latent may then carry it all, and the others close.",
        "https://github.com/hardmaru/WorldModelsExperiments/issues/8",
        equation="vae-free-bits",
    ),
    _mutant(
        "free-bits-as-a-mask", "free_bits",
        "kl_per_dim.mean(0).clamp_min(floor).sum()",
        "torch.where(kl_per_dim.mean(0) > floor, kl_per_dim.mean(0), 0.0).sum()",
        "A latent below the floor counts as 0, not as the floor. The gradients are the same, but the loss jumps as a "
        "latent opens, and its value is not the one in the paper.",
        "https://github.com/valdersoul/bn-vae/issues/2",
        equation="vae-free-bits",
    ),
    _mutant(
        "free-bits-as-a-ceiling", "free_bits",
        "clamp_min(floor)", "clamp_max(floor)",
        "The smaller of KL and floor is taken in place of the larger: a latent pays while it is shut, and carries "
        "anything for free once it is open.",
        equation="vae-free-bits",
    ),
    _mutant(
        "free-bits-mean-over-latents", "free_bits",
        "clamp_min(floor).sum()", "clamp_min(floor).mean()",
        "The mean over the latents is taken after the floor: the KL's weight shrinks as latents are added.",
        bug=1, equation="vae-free-bits",
    ),
    _mutant(
        "free-bits-below-zero", "free_bits",
        "if floor < 0:", "if floor < -1:",
        "A negative floor is accepted. It changes nothing, so a wrong sign in a configuration is never found.",
    ),
    _mutant(
        "warm-up-starts-above-zero", "kl_weight",
        "min(1.0, step / n_steps)", "min(1.0, (step + 1) / n_steps)",
        "The weight is counted from 1, not 0: the first step already pays for the KL, and a warm-up of one step does "
        "nothing.",
        "https://github.com/PlaytikaOSS/pybandits/pull/137",
        equation="vae-warm-up",
    ),
    _mutant(
        "warm-up-without-an-end", "kl_weight",
        "min(1.0, step / n_steps)", "step / n_steps",
        "The weight is not held at 1. It goes on growing, and what is trained is a VAE of ever larger beta.",
        "https://github.com/umautobots/bidirection-trajectory-predicter/issues/4",
        equation="vae-warm-up",
    ),
    _mutant(
        "warm-up-backwards", "kl_weight",
        "min(1.0, step / n_steps)", "max(0.0, 1 - step / n_steps)",
        "The weight falls from 1 to 0: the posterior collapses first, and at the end there is no KL at all.",
        equation="vae-warm-up",
    ),
    _mutant(
        "no-warm-up-means-no-kl", "kl_weight",
        "if n_steps else 1.0", "if n_steps else 0.0",
        "A warm-up of 0 steps gives a weight of 0 for ever: an autoencoder, not a VAE.",
        equation="vae-warm-up",
    ),
    _mutant(
        "warm-up-before-the-start", "kl_weight",
        "if step < 0 or n_steps < 0:", "if n_steps < 0:",
        "A negative step gives a negative weight, which rewards a large KL.",
    ),
)  # fmt: skip

_DENSITY = "-0.5 * (LOG_2PI + log_var + (z - mean).square() * torch.exp(-log_var)).sum(-1)"
_WEIGHT = "-nll + gaussian_log_density(z, zero, zero) - gaussian_log_density(z, mean, log_var)"

IMPORTANCE = (
    _mutant(
        "log-density-constant-too-often", "gaussian_log_density",
        _DENSITY, _DENSITY.replace("LOG_2PI +", "z.shape[-1] * LOG_2PI +"),
        "The constant D log 2 pi is added once an element and then summed, so it counts D times too often. It cancels "
        "between posterior and prior, so the ELBO is right and nobody sees it, until one density is used alone.",
        "https://github.com/jmtomczak/intro_dgm/pull/8",
        bug=6,
    ),
    _mutant(
        "log-density-without-log-sigma", "gaussian_log_density",
        _DENSITY, _DENSITY.replace("+ log_var + ", "+ "),
        "The log-variance in front is thought to be superfluous once z is standardised. Without it the density does "
        "not integrate to 1, and a narrow posterior costs nothing.",
        "https://github.com/NVlabs/NVAE/issues/42",
    ),
    _mutant(
        "log-density-with-the-std", "gaussian_log_density",
        _DENSITY, _DENSITY.replace("exp(-log_var)", "exp(-0.5 * log_var)"),
        "The squared distance is divided by sigma in place of sigma squared.",
    ),
    _mutant(
        "log-density-mean-over-dimensions", "gaussian_log_density",
        _DENSITY, _DENSITY.replace(".sum(-1)", ".mean(-1)"),
        "Independent dimensions multiply, so their logarithms add. A mean gives the D-th root of the density.",
        "https://github.com/gathierry/FastFlow/issues/11",
    ),
    _mutant(
        "log-density-of-the-whole-batch", "gaussian_log_density",
        _DENSITY, _DENSITY.replace(".sum(-1)", ".sum()"),
        "The sum runs over the batch too: each image is charged for all the others, and the shapes still fit.",
        "https://github.com/wohlert/semi-supervised-pytorch/issues/21",
    ),
    _mutant(
        "log-density-half-forgotten", "gaussian_log_density",
        _DENSITY, _DENSITY.replace("-0.5 * ", "-1.0 * "),
        "The factor 1/2 is lost, so the density is squared.",
    ),
    _mutant(
        "weight-without-the-prior", "log_importance_weight",
        _WEIGHT, _WEIGHT.replace(" + gaussian_log_density(z, zero, zero)", ""),
        "The prior is left out of log p(x, z). The estimate is then of another number, and larger: nothing stops the "
        "posterior from wandering off.",
        equation="vae-importance",
    ),
    _mutant(
        "weight-with-posterior-added", "log_importance_weight",
        _WEIGHT, _WEIGHT.replace(" - gaussian_log_density(z, mean", " + gaussian_log_density(z, mean"),
        "The density of the posterior is multiplied in, where it should be divided out. Signs are easily lost where "
        "rate, distortion and ELBO have different ones.",
        "https://github.com/tensorflow/probability/issues/189",
        equation="vae-importance",
    ),
    _mutant(
        "weight-with-likelihood-flipped", "log_importance_weight",
        _WEIGHT, _WEIGHT.replace("-nll + ", "nll + "),
        "The loss is used where its negative, the log-likelihood, belongs: the worst sample gets the largest weight.",
        "https://github.com/phlippe/CategoricalNF/issues/2",
        bug=7, equation="vae-importance",
    ),
    _mutant(
        "weight-with-the-closed-form-kl", "log_importance_weight",
        _WEIGHT, "-nll - gaussian_kl_per_dim(mean.expand_as(z), log_var.expand_as(z)).sum(-1)",
        "The KL in closed form replaces log q(z) - log p(z). Its mean is the same, which is all that the ELBO needs, "
        "but with several samples the weights are wrong.",
        "https://github.com/AntixK/PyTorch-VAE/issues/34",
        equation="vae-importance",
    ),
    _mutant(
        "weight-with-prior-at-the-mean", "log_importance_weight",
        _WEIGHT, _WEIGHT.replace("(z, zero, zero)", "(mean.expand_as(z), zero, zero)"),
        "The prior is evaluated at the posterior's mean, not at the sample that was drawn.",
        equation="vae-importance",
    ),
    _mutant(
        "weight-without-gradient-through-z", "log_importance_weight",
        _WEIGHT, _WEIGHT.replace("(z, mean, log_var)", "(z.detach(), mean, log_var)"),
        "z is cut from the graph in one of the two places where it appears. The values are right and the gradient of "
        "the posterior is biased.",
    ),
    _mutant(
        "weight-may-broadcast", "log_importance_weight",
        "if nll.shape != z.shape[:-1]:", "if nll.dim() > z.dim():",
        "Losses (B,) beside samples (K, B, D) are stretched over the samples: all K get the same likelihood.",
    ),
    _mutant(
        "bound-as-mean-of-logarithms", "importance_weighted_bound",
        "torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))", "log_weights.mean(0)",
        "The mean of the logarithms is taken, not the logarithm of the mean. That is the plain ELBO with K samples, "
        "and no tighter for larger K.",
        "https://github.com/arahuja/generative-tf/issues/1",
        equation="vae-iwae",
    ),
    _mutant(
        "bound-without-log-k", "importance_weighted_bound",
        " - math.log(len(log_weights))", "",
        "The sum of the weights is not divided by K. The 'bound' rises by log K, and can pass the likelihood itself.",
        equation="vae-iwae",
    ),
    _mutant(
        "bound-over-the-images", "importance_weighted_bound",
        "torch.logsumexp(log_weights, dim=0)", "torch.logsumexp(log_weights, dim=1)",
        "The weights are added over the images of the batch and not over the samples of an image.",
        "https://github.com/breze-no-salt/breze/pull/85",
        equation="vae-iwae",
    ),
    _mutant(
        "bound-divided-by-the-batch", "importance_weighted_bound",
        "math.log(len(log_weights))", "math.log(log_weights.shape[1])",
        "The sum over K samples is divided by the number of images: with B = K nobody sees it.",
        equation="vae-iwae",
    ),
    _mutant(
        "bound-of-the-losses", "importance_weighted_bound",
        "torch.logsumexp(log_weights, dim=0)", "-torch.logsumexp(-log_weights, dim=0)",
        "The log-sum-exp is taken of the losses and not of the log-weights: it follows the worst sample, where the "
        "bound follows the best.",
        "https://github.com/YosefLab/scVI-dev/issues/8",
        bug=7, equation="vae-iwae",
    ),
    _mutant(
        "bound-of-a-flat-list", "importance_weighted_bound",
        'if log_weights.dim() != 2:\n        raise ValueError(f"expected log_weights of shape (K, B), got '
        '{tuple(log_weights.shape)}")\n    return torch.logsumexp',
        "return torch.logsumexp",
        "Log-weights without their axis of samples are accepted: a batch of B images is read as B samples of one.",
    ),
    _mutant(
        "worst-sample-weighs-most", "normalised_importance_weights",
        "torch.softmax(log_weights, dim=0)", "torch.softmax(-log_weights, dim=0)",
        "The weights are the softmax of the errors. For errors 1.0 and 0.1 the worse sample gets 0.71 and the better "
        "one 0.29.",
        "https://github.com/AntixK/PyTorch-VAE/issues/34",
        bug=7,
    ),
    _mutant(
        "weights-over-the-images", "normalised_importance_weights",
        "torch.softmax(log_weights, dim=0)", "torch.softmax(log_weights, dim=1)",
        "The weights add up to 1 over the batch and not over the samples of an image.",
    ),
    _mutant(
        "weights-not-normalised", "normalised_importance_weights",
        "torch.softmax(log_weights, dim=0)", "torch.exp(log_weights - log_weights.amax(0))",
        "The largest weight is made 1, for safety in floating point, and the division by the sum is forgotten.",
        "https://github.com/xqding/Importance_Weighted_Autoencoders/issues/3",
    ),
)  # fmt: skip

_DIVERGENCE = 'divergence = kl_weight / (n_latents if kl == "mean" else 1)'

LEDGER = (
    _mutant(
        "bits-that-are-nats", "bits_per_dim",
        "nats / (n_dims * math.log(2.0))", "nats / n_dims",
        "Nats a dimension are reported as bits a dimension: 31 % too good.",
        "https://github.com/openai/vdvae/issues/5",
        equation="vae-bits",
    ),
    _mutant(
        "bits-multiplied-by-log-two", "bits_per_dim",
        "nats / (n_dims * math.log(2.0))", "nats / n_dims * math.log(2.0)",
        "The conversion goes the wrong way: less than half of the true figure.",
        equation="vae-bits",
    ),
    _mutant(
        "bits-of-no-dimension", "bits_per_dim",
        "if n_dims < 1:", "if n_dims < 0:",
        "A number of dimensions of 0 ends in a division by zero, far from where the mistake was made.",
    ),
    _mutant(
        "ledger-mean-read-as-sum", "implied_likelihood",
        'reconstruction_weight / (n_pixels if reconstruction == "mean" else 1)', "reconstruction_weight",
        "Whether the squared error is a sum or a mean over the pixels is taken to make no difference. It makes one of "
        "784 in beta.",
        "https://github.com/AppliedDataSciencePartners/WorldModels/issues/2",
        bug=1, equation="vae-ledger",
    ),
    _mutant(
        "ledger-kl-mean-over-pixels", "implied_likelihood",
        _DIVERGENCE, _DIVERGENCE.replace("n_latents", "n_pixels"),
        "The mean of the KL is thought to be over as many elements as the reconstruction's. It is over the latents: "
        "means over 784 and 200 are a beta of 3.92 and not of 1.",
        "https://github.com/pytorch/examples/issues/234",
        bug=1, equation="vae-ledger",
    ),
    _mutant(
        "ledger-forgets-the-half", "implied_likelihood",
        '"squared error": 2.0', '"squared error": 1.0',
        "The squared error is taken for the likelihood of variance 1. That one has a factor 1/2, so a plain sum of "
        "squared errors and a KL is a beta of 1/2.",
        "https://github.com/AntixK/PyTorch-VAE/issues/40",
        bug=4, equation="vae-ledger",
    ),
    _mutant(
        "ledger-variance-upside-down", "implied_likelihood",
        "beta_at_unit_variance / variance, variance", "beta_at_unit_variance * variance, variance",
        "A larger variance makes the likelihood weaker, so the same loss is a smaller beta; here it becomes larger.",
        equation="vae-ledger",
    ),
    _mutant(
        "ledger-beta-upside-down", "implied_likelihood",
        "divergence / (weight * factor[kind])", "(weight * factor[kind]) / divergence",
        "The weight of the likelihood relative to the KL is reported, and called beta.",
        equation="vae-ledger",
    ),
    _mutant(
        "ledger-equivalent-variance-of-itself", "implied_likelihood",
        "variance, variance, beta_at_unit_variance)", "variance, variance, beta_at_unit_variance / variance)",
        "The variance that would make the loss an ELBO is a property of the loss. It must not change with the variance "
        "in whose units beta is stated.",
    ),
    _mutant(
        "ledger-bernoulli-with-a-half", "implied_likelihood",
        "ImpliedLikelihood(divergence / weight, None, None)",
        "ImpliedLikelihood(divergence / (2 * weight), None, None)",
        "The factor 1/2 of the Gaussian is applied to a cross-entropy, which has none.",
        equation="vae-ledger",
    ),
    _mutant(
        "ledger-takes-any-size", "implied_likelihood",
        "if value <= 0:", "if value < 0:",
        "A size of 0 is accepted and ends in a division by zero.",
    ),
)  # fmt: skip

_TO_CODEBOOK = "return (z.detach() - nearest).square().flatten(1).sum(1)"
_TO_ENCODER = "return (z - nearest.detach()).square().flatten(1).sum(1)"
_CODE_LENGTH = 'return cross_entropy(logits, indices, reduction="none").flatten(1).sum(1)'

CODES = (
    _mutant(
        "codebook-loss-without-detach", "codebook_loss",
        _TO_CODEBOOK, "return (z - nearest).square().flatten(1).sum(1)",
        "The detach is missing: the codebook term pulls at the encoder too, with a weight of 1 that beta knows nothing "
        "of.",
        "https://github.com/NTU-AIoT-Lab/EfficientFi/issues/4",
        bug=12,
    ),
    _mutant(
        "codebook-loss-with-the-detach-of-the-other", "codebook_loss",
        _TO_CODEBOOK, "return (z - 1 * nearest.detach()).square().flatten(1).sum(1)",
        "The detach is on the codes, so that the codebook term moves the encoder, and nothing moves the codes.",
        "https://github.com/MishaLaskin/vqvae/pull/20",
        bug=12,
    ),
    _mutant(
        "codebook-loss-with-a-detach-on-both", "codebook_loss",
        _TO_CODEBOOK, "return (z.detach() - nearest.detach() + 0 * (z + nearest)).square().flatten(1).sum(1)",
        "Both sides are detached. The term is printed, falls or rises, and teaches nothing.",
        bug=12,
    ),
    _mutant(
        "codebook-loss-may-broadcast", "codebook_loss",
        "_same_shape(z=z, nearest=nearest)\n    return (z.detach()", "return (z.detach()",
        "One code for all places is accepted, and stretched over them.",
    ),
    _mutant(
        "commitment-without-detach", "commitment_loss",
        _TO_ENCODER, "return (z - nearest).square().flatten(1).sum(1)",
        "The detach is missing: the commitment moves the codes too. With moving averages nobody notices; with a "
        "codebook that learns by gradient they move by 1 + beta.",
        bug=12,
    ),
    _mutant(
        "commitment-with-the-detach-of-the-other", "commitment_loss",
        _TO_ENCODER, "return (1 * z.detach() - nearest).square().flatten(1).sum(1)",
        "The detach is on the encoder: beta then weighs a term that moves the codes, and the encoder is free to run "
        "away from them.",
        "https://github.com/CompVis/taming-transformers/issues/46",
        bug=10,
    ),
    _mutant(
        "commitment-mean-over-the-map", "commitment_loss",
        _TO_ENCODER, _TO_ENCODER.replace("sum(1)", "mean(1)"),
        "The commitment is a mean over places and channels beside a sum over pixels: beta is 3,136 times smaller than "
        "it looks.",
        bug=1,
    ),
    _mutant(
        "code-length-as-a-mean", "code_nll",
        _CODE_LENGTH, _CODE_LENGTH.replace("sum(1)", "mean(1)"),
        "The code length is a mean over places, called that of an image: 49 times too short.",
        bug=1,
    ),
    _mutant(
        "code-length-of-any-type", "code_nll",
        "if indices.dtype != torch.int64:", "if indices.dtype == torch.bool:",
        "Numbers with a decimal point are accepted where whole codes belong.",
    ),
    _mutant(
        "code-length-of-another-grid", "code_nll",
        "or logits[:, 0].shape != indices.shape:", "or len(logits) != len(indices):",
        "Logits of another layout are accepted, with the codes in the last dimension: the error comes from elsewhere.",
    ),
)  # fmt: skip

MUTANTS = CHECKS + BERNOULLI + GAUSSIAN + LEVELS + KL + CURES + IMPORTANCE + LEDGER + CODES
