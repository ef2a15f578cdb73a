"""The mutants of what a VAE stands on: ranges of images, data with a known answer, and measures."""

from tests.mutants.mutant import OWN, Mutant

TESTS = {
    "images": ("tests/test_images.py",),
    "data/toys": ("tests/test_data.py", "tests/test_vae_derivation.py"),
    "data/batches": ("tests/test_data.py",),
}


def _mutant(name: str, place: str, old: str, new: str, story: str, source: str = OWN, **more) -> Mutant:
    file, function = place.split(".", 1)
    return Mutant(name, file, function, old, new, story, source, more.pop("tests", TESTS[file]), **more)


IMAGES = (
    _mutant(
        "images-left-in-zero-to-one", "images.to_float",
        ".div_(127.5).sub_(1.0)", ".div_(255.0)",
        "The images come in [0, 1] to code that expects [-1, 1]. Everything runs; the pictures are pale and a bias has "
        "to be unlearnt.",
        "https://github.com/bghira/SimpleTuner/pull/1722",
        bug=9,
    ),
    _mutant(
        "images-divided-by-128", "images.to_float",
        ".div_(127.5)", ".div_(128.0)",
        "Divided by 128, white becomes 0.992 and not 1: there and back, the levels shift.",
    ),
    _mutant(
        "pixels-cut-and-not-rounded", "images.to_uint8",
        ".mul(127.5).round()", ".mul(127.5)",
        "Conversion to whole numbers cuts off the fraction. Half of the pixels come back one level darker.",
    ),
    _mutant(
        "pixels-in-half-the-range", "images.to_uint8",
        ".add(1.0).mul(127.5)", ".mul(0.5).add(0.5).mul(127.5)",
        "Two conventions are mixed on the way out: the picture is right, but half as bright.",
        "https://github.com/carpedm20/simulated-unsupervised-tensorflow/issues/25",
    ),
    _mutant(
        "half-added-without-scaling", "images.to_unit",
        "x.add(1.0).mul(0.5)", "x.add(0.5)",
        "Code written for data in [-0.5, 0.5] adds a half. Here the values then span [-0.5, 1.5], and a cross-entropy "
        "has no lowest value.",
        "https://github.com/mlcommons/training/issues/721",
        bug=9,
    ),
    _mutant(
        "targets-not-scaled-at-all", "images.to_unit",
        "x.add(1.0).mul(0.5)", "x.clamp(0, 1)",
        "Values below 0 are cut off to satisfy the loss. All that was darker than the middle grey becomes black.",
        "https://github.com/mikesj-public/convolutional_autoencoder/pull/9",
        bug=9,
    ),
    _mutant(
        "probabilities-shown-as-images", "images.from_unit",
        "p.mul(2.0).sub(1.0)", "p.clone()",
        "Probabilities in [0, 1] are shown as if they were in [-1, 1]: black turns into grey, and the picture looks "
        "washed out.",
        "https://github.com/bghira/SimpleTuner/pull/1722",
        bug=9,
    ),
    _mutant(
        "range-check-lets-nan-through", "images.check_range",
        "if not (low - _SLACK <= smallest and largest <= high + _SLACK):",
        "if smallest < low - _SLACK or largest > high + _SLACK:",
        "Every comparison with NaN is false, so a check for 'too small or too large' lets NaN through.",
    ),
)  # fmt: skip

DATA = (
    _mutant(
        "noise-variance-for-its-std", "data/toys.LinearGaussian.sample",
        "self.noise_std * noise", "self.noise_std**2 * noise",
        "The noise is scaled by its variance and not by its standard deviation.",
        equation="vae-linear-marginal",
    ),
    _mutant(
        "sample-without-its-bias", "data/toys.LinearGaussian.sample",
        " + self.bias + self.noise_std", " + self.noise_std",
        "The data are drawn around 0 and not around b.",
        equation="vae-linear-marginal",
    ),
    _mutant(
        "marginal-without-noise", "data/toys.LinearGaussian.log_marginal",
        "self.noise_std**2 * torch.eye", "1e-6 * torch.eye",
        "The covariance of x is W W' alone, which has no inverse; a small number is added to the diagonal until the "
        "factorisation stops failing, and the likelihood is of another model.",
        equation="vae-linear-marginal",
    ),
    _mutant(
        "marginal-std-for-variance", "data/toys.LinearGaussian.log_marginal",
        "self.noise_std**2 * torch.eye", "self.noise_std * torch.eye",
        "The standard deviation is put on the diagonal where the variance belongs.",
        equation="vae-linear-marginal",
    ),
    _mutant(
        "posterior-forgets-the-prior", "data/toys.LinearGaussian.posterior",
        "precision = identity + ", "precision = ",
        "The identity, which comes from the prior, is left out: this is least squares, with latents too far out.",
        equation="vae-linear-posterior",
    ),
    _mutant(
        "posterior-precision-with-the-std", "data/toys.LinearGaussian.posterior",
        "self.weight.T @ self.weight / self.noise_std**2", "self.weight.T @ self.weight / self.noise_std",
        "The precision is divided by the standard deviation and not by the variance.",
        equation="vae-linear-posterior",
    ),
    _mutant(
        "posterior-mean-not-scaled", "data/toys.LinearGaussian.posterior",
        "@ covariance / self.noise_std**2, covariance", "@ covariance, covariance",
        "The mean is written as M^-1 W'(x - b), as in a text whose M is s^2 times ours.",
        equation="vae-linear-posterior",
    ),
    _mutant(
        "posterior-not-centred", "data/toys.LinearGaussian.posterior",
        "(x - self.bias) @", "x @",
        "The bias is not taken off before projecting: right for centred data, and for no other.",
        equation="vae-linear-posterior",
    ),
    _mutant(
        "covariance-the-other-way", "data/toys.gaussian_2d",
        "torch.linalg.cholesky(covariance).T", "torch.linalg.cholesky(covariance)",
        "The factor L of a covariance L L' is applied from the wrong side: the points have covariance L' L.",
    ),
    _mutant(
        "every-epoch-in-one-order", "data/batches.Batches.at",
        "self.seed * 1_000_003 + epoch", "self.seed * 1_000_003",
        "The order of the images is drawn once, and every epoch sees the same batches.",
    ),
    _mutant(
        "every-process-takes-the-same-images", "data/batches.Batches.at",
        "position * self.batch_size + self.rank * share", "position * self.batch_size",
        "All processes read the first part of the batch: two graphics cards do the work of one.",
    ),
)  # fmt: skip

MUTANTS = IMAGES + DATA
