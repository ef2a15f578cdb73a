"""The mutants of the measures, of one image and of sets of images."""

from tests.mutants.mutant import OWN, Mutant

TESTS = {
    "likelihood": ("tests/test_metrics.py", "tests/test_vae_derivation.py"),
    "likelihood of levels": ("tests/test_metrics_levels.py",),
    "pixels": ("tests/test_metrics.py",),
    "modes": ("tests/test_metrics_modes.py",),
    "features": ("tests/test_metrics_samples.py", "tests/test_metrics_neighbours.py"),
    "samples": ("tests/test_metrics_samples.py",),
    "neighbours": ("tests/test_metrics_neighbours.py",),
}


def _mutant(name: str, place: str, old: str, new: str, story: str, source: str = OWN, **more) -> Mutant:
    file, function = place.split(".", 1)
    tests = more.pop("tests", TESTS[file])
    return Mutant(name, f"metrics/{file}", function, old, new, story, source, tests, **more)


LIKELIHOOD = (
    _mutant(
        "nll-without-log-k", "likelihood.importance_weighted_nll",
        "return math.log(n_samples) - total", "return -total",
        "The sum of the weights is not divided by their number: the likelihood seems to improve by log K.",
    ),
    _mutant(
        "nll-divided-by-the-chunk", "likelihood.importance_weighted_nll",
        "return math.log(n_samples) - total", "return math.log(chunk) - total",
        "The samples come in chunks to save memory, and the sum over all is divided by the size of one.",
    ),
    _mutant(
        "nll-of-the-best-chunk", "likelihood.importance_weighted_nll",
        "torch.logaddexp(total,", "torch.maximum(total,",
        "The chunks are not added: the best one is kept.",
    ),
    _mutant(
        "nll-as-mean-of-logarithms", "likelihood.importance_weighted_nll",
        "torch.logsumexp(log_weights, dim=0))", "log_weights.mean(0) + math.log(k))",
        "Within a chunk the logarithms are averaged: the negative ELBO, sold as the likelihood.",
        "https://github.com/arahuja/generative-tf/issues/1",
    ),
    _mutant(
        "nll-with-too-many-samples", "likelihood.importance_weighted_nll",
        "min(chunk, n_samples - start)", "chunk",
        "The last chunk is drawn whole, so that more samples are added than are divided by.",
    ),
    _mutant(
        "active-by-second-moment", "likelihood.active_units",
        "means.var(dim=0) > threshold", "means.square().mean(dim=0) > threshold",
        "The second moment replaces the variance: a latent that is the same for every image counts as in use if it is "
        "not 0.",
    ),
    _mutant(
        "active-over-the-latents", "likelihood.active_units",
        "means.var(dim=0) > threshold", "means.var(dim=1) > threshold",
        "The variance is taken over the latents of an image, and not over the images.",
    ),
    _mutant(
        "active-by-std", "likelihood.active_units",
        "means.var(dim=0) > threshold", "means.std(dim=0) > threshold",
        "The standard deviation is compared with a threshold meant for the variance: dead latents count as in use.",
    ),
    _mutant(
        "standard-error-that-is-the-deviation", "likelihood.standard_error",
        " / math.sqrt(len(values))", "",
        "The spread of the values is given as the error of their mean. It does not fall with more samples, and a test "
        "that trusts it passes with any result.",
    ),
    _mutant(
        "standard-error-divided-by-n", "likelihood.standard_error",
        "math.sqrt(len(values))", "len(values)",
        "Divided by n and not by its root: errors far too small, and a true result looks wrong.",
    ),
)  # fmt: skip

LEVELS = tuple(
    _mutant(name, f"likelihood.{function}", old, new, story, tests=TESTS["likelihood of levels"])
    for name, function, old, new, story in (
        (
            "levels-rounded-to-the-nearest-row", "_cells",
            "bins = (pixels.double() * LEVELS).long()", "bins = (pixels.double() * LEVELS).round().long()",
            "The value shown is rounded and not cut: the rows lie half a level off their edges, the first and the last "
            "are of other widths than the rest.",
        ),
        (
            "level-given-value-exchanged", "_cells",
            "return bins * LEVELS + levels.long()", "return levels.long() * LEVELS + bins",
            "The table holds how likely a value shown is, given the level. Its rows do not say what they are read for, "
            "and the lengths are those of no code.",
        ),
        (
            "levels-that-are-no-bytes", "_cells",
            "if levels.dtype != torch.uint8:", "if False:",
            "Images in [0, 1] are taken for levels: all of them are level 0, and cost nothing to store.",
        ),
        (
            "pixels-of-any-range", "_cells",
            "if not (low >= 0 and high <= 1):", "if False:",
            "Values outside [0, 1], and NaN, are pushed into the first and the last row without a word.",
        ),
        (
            "counted-once-however-often", "level_counts",
            "minlength=LEVELS**2).reshape(LEVELS, LEVELS)", "minlength=LEVELS**2).clamp(max=1).reshape(LEVELS, LEVELS)",
            "A pair of value and level is marked as seen, and not counted: the rare and the common are as likely.",
        ),
        (
            "table-not-normalised", "level_table",
            "smoothed.log() - smoothed.sum(1, keepdim=True).log()", "smoothed.log() - smoothed.sum().log()",
            "The shares are those of the whole table and not of a row: what the decoder shows is then paid for again "
            "with every pixel.",
        ),
        (
            "table-normalised-over-the-values", "level_table",
            "smoothed.sum(1, keepdim=True)", "smoothed.sum(0, keepdim=True)",
            "The columns add up to 1 and not the rows: the probabilities of all levels of a pixel are together more or "
            "less than 1, and 'code lengths' may fall below what any code reaches.",
        ),
        (
            "smoothing-in-every-cell", "level_table",
            "counts.double() + smoothing / LEVELS", "counts.double() + smoothing",
            "Each of the 256 levels gets the count that was meant for all of them together. Rows seen little are "
            "flattened, and all lengths grow.",
        ),
        (
            "counts-of-any-shape", "level_table",
            "if counts.shape != (LEVELS, LEVELS) or not smoothing > 0:", "if False:",
            "Without smoothing a level not seen before has probability 0, and its image an infinite length.",
        ),
        (
            "length-averaged-over-pixels", "level_nll",
            "flatten(1).sum(1)", "flatten(1).mean(1)",
            "The mean over pixels is added to the cost of a whole image's codes: 784 of its parts are lost.",
        ),
        (
            "length-below-zero", "level_nll",
            "return -table.flatten()", "return table.flatten()",
            "The sign is lost: the log-likelihood is given for its negative.",
        ),
    )
)  # fmt: skip

PIXELS = (
    _mutant(
        "error-of-the-whole-batch", "pixels.mse",
        "(x - y).square().flatten(1).mean(1)", "(x - y).square().mean().expand(len(x))",
        "The error is averaged over the batch at once. A mean of PSNRs is not the PSNR of the mean.",
    ),
    _mutant(
        "error-not-squared", "pixels.mse",
        "(x - y).square().flatten(1).mean(1)", "(x - y).abs().flatten(1).mean(1)",
        "The absolute error, under the name of the squared one.",
    ),
    _mutant(
        "pixels-of-any-type", "pixels._same_kind",
        "if not (x.is_floating_point() and y.is_floating_point()):", "if False:",
        "Bytes are compared as they are: the similarity of any two pictures, stored as a byte, is 0.",
    ),
    _mutant(
        "psnr-with-a-peak-of-one", "pixels.psnr",
        "torch.log10(span**2 / error)", "torch.log10(1 / error)",
        "Images in [-1, 1] are measured with a peak of 1, though their values span 2: 6 decibels too few.",
        "https://github.com/kregmi/cross-view-image-synthesis/issues/38",
        bug=32,
    ),
    _mutant(
        "psnr-with-the-peak-of-the-image", "pixels.psnr",
        "torch.log10(span**2 / error)", "torch.log10((x.max() - x.min()) ** 2 / error)",
        "The largest value of the image at hand is taken as the peak. A dark image gets a lower figure for the same "
        "error.",
        "https://github.com/leftthomas/SRGAN/issues/153",
        bug=32,
    ),
    _mutant(
        "psnr-span-not-squared", "pixels.psnr",
        "torch.log10(span**2 / error)", "torch.log10(span / error)",
        "The peak enters without its square: invisible on images in [0, 1], wrong on all others.",
    ),
    _mutant(
        "psnr-of-any-range", "pixels._within",
        "if not widest <= span * (1 + 1e-3):", "if not widest <= 255:",
        "Values of another range than the one stated are measured without a word.",
        "https://github.com/cszn/KAIR/issues/170",
        bug=32,
    ),
    _mutant(
        "ssim-scaled-image-by-image", "pixels.ssim",
        "for a, b in zip(x.double().split(SSIM_CHUNK), y.double().split(SSIM_CHUNK)):",
        "for a, b in zip(x.double().split(1), y.double().split(1)):\n"
        "        c1, c2 = (0.01 * (a.max() - a.min())) ** 2, (0.03 * (a.max() - a.min())) ** 2",
        "The range of the image at hand stands in for the range that images can have. A dark image is then judged more "
        "strictly, and no two images share a scale.",
        "https://github.com/scikit-image/scikit-image/issues/7605",
        bug=32,
    ),
    _mutant(
        "ssim-of-images-stretched-one-by-one", "pixels.ssim",
        "zip(x.double().split(SSIM_CHUNK), y.double().split(SSIM_CHUNK)):",
        "zip(*((t / t.amax((1, 2, 3), True) * span).double().split(SSIM_CHUNK) for t in (x, y))):",
        "Every image is scaled to its own largest value first. An image that came out too dark is then the same as the "
        "right one.",
        "https://github.com/cpeng93/DiffuseRecon/issues/3",
        bug=32,
    ),
    _mutant(
        "ssim-with-the-range-of-a-float-type", "pixels.ssim",
        "(0.01 * span) ** 2, (0.03 * span) ** 2", "0.02**2, 0.06**2",
        "A library takes floats to lie in [-1, 1] and so a range of 2; these lie in [0, 1]. The constants are four "
        "times too large, and every score is too good.",
        "https://github.com/scikit-image/scikit-image/pull/6595",
        bug=32,
    ),
    _mutant(
        "ssim-around-a-black-of-minus-one", "pixels.ssim",
        "if low < -1e-3 * span or high > span * (1 + 1e-3):", "if low < -span or high > span:",
        "Images in [-1, 1] are let in. The term for brightness multiplies two means: of opposite grey values it makes "
        "nonsense, and an image and its negative can score near 1.",
        "https://github.com/francois-rozet/piqa/issues/30",
        bug=32,
    ),
    _mutant(
        "ssim-without-the-covariance", "pixels.ssim",
        "_window_means(a * b) - mean_a * mean_b", "_window_means(a * b)",
        "The product of the means is not taken off: bright images then seem alike in structure whatever they show.",
    ),
    _mutant(
        "ssim-with-another-window", "pixels._window_means",
        "torch.exp(-(offset**2) / (2 * 1.5**2)) *", "torch.ones_like(offset) *",
        "A flat window replaces the Gaussian one. Both are in use, and figures of the two cannot be compared.",
    ),
)  # fmt: skip

SAMPLES = (
    _mutant(
        "features-in-single-precision", "features.same_space",
        "rows.detach().double() for", "rows.detach().float() for",
        "Large sums that nearly cancel, in float32: the distance of a set to itself is then not 0 and may be negative.",
        "https://github.com/photosynthesis-team/piq/issues/277",
    ),
    _mutant(
        "features-that-are-not-numbers", "features.same_space",
        "if not (finite := torch.isfinite(rows)).all():", "if (finite := torch.isfinite(rows)).numel() < 0:",
        "A single NaN among the features goes in, and the measure that comes out says nothing of it.",
        "https://github.com/bioinf-jku/TTUR/issues/4",
    ),
    _mutant(
        "covariance-of-the-images", "samples.frechet_distance",
        "torch.cov(rows.T).reshape(rows.shape[1], -1) for rows",
        "torch.cov(rows)[: rows.shape[1], : rows.shape[1]] for rows",
        "torch.cov takes a row for a variable, unlike numpy.cov with rowvar=False: the covariance is that of images, "
        "over features. The figures lie between 0 and 1.",
        "https://github.com/lucidrains/denoising-diffusion-pytorch/issues/213",
        bug=31,
    ),
    _mutant(
        "covariance-divided-by-n", "samples.frechet_distance",
        "torch.cov(rows.T).reshape", "torch.cov(rows.T, correction=0).reshape",
        "The covariance is divided by N and not by N - 1. On thousands of images nobody sees it; with few, the spread "
        "is too small, and figures of different N differ once more.",
        bug=30,
    ),
    _mutant(
        "second-moment-for-the-covariance", "samples.frechet_distance",
        "torch.cov(rows.T).reshape(rows.shape[1], -1)", "(rows.T @ rows / (len(rows) - 1))",
        "The mean is not taken off before the products: it enters the distance twice.",
        bug=31,
    ),
    _mutant(
        "distance-of-the-first-fifty", "samples.frechet_distance",
        "    x, y = same_space(2, x=x, y=y)\n    cov_x, cov_y",
        "    x, y = same_space(2, x=x[:50], y=y[:50])\n    cov_x, cov_y",
        "To save time, only the first images are looked at. The distance rises with fewer images, so even real images "
        "score badly against real ones, and no figure of another N compares.",
        "https://github.com/atong01/conditional-flow-matching/issues/111",
        bug=30,
    ),
    _mutant(
        "root-of-each-element", "samples.gaussian_frechet",
        "torch.linalg.svdvals(root_x.T @ root_y).sum()",
        "((root_x @ root_x.T) * (root_y @ root_y.T)).clamp_min(0).sqrt().trace()",
        "The covariances are multiplied and rooted element by element. That is right for diagonal ones and no others.",
        "https://github.com/bioinf-jku/TTUR/issues/12",
        bug=31,
    ),
    _mutant(
        "imaginary-part-dropped", "samples._root",
        "if values[0] < -rounding:", "if values[0] != values[0]:",
        "A negative eigenvalue has an imaginary root, which is thrown away without a look: a matrix that is no "
        "covariance gives a figure, and no error.",
        "https://github.com/toshas/torch-fidelity/issues/46",
        bug=31,
    ),
    _mutant(
        "trace-of-the-product", "samples.gaussian_frechet",
        "torch.linalg.svdvals(root_x.T @ root_y).sum()", "(root_x.T @ root_y).trace()",
        "Each covariance is rooted by itself and the roots are multiplied: right only where the two commute.",
        "https://github.com/crowsonkb/k-diffusion/pull/78",
        bug=31,
    ),
    _mutant(
        "root-of-an-asymmetric-matrix", "samples._root",
        "if (skew := (covariance - covariance.T).abs().max().item()) > rounding:",
        "if (skew := (covariance - covariance.T).abs().max().item()) > math.inf:",
        "A matrix that is not symmetric is no covariance. The solver reads one triangle of it and says nothing.",
    ),
    _mutant(
        "distance-not-squared-in-the-means", "samples.gaussian_frechet",
        "squared = gap.square().sum()", "squared = gap.square().sum().sqrt()",
        "The distance of the means enters without its square, beside a trace that is one: the units do not agree.",
    ),
    _mutant(
        "overlap-counted-once", "samples.gaussian_frechet",
        "- 2 * overlap", "- overlap",
        "The 2 before the last trace is lost: a set is then far from itself.",
    ),
    _mutant(
        "pairs-of-an-image-with-itself", "samples._kernel_mean_within",
        "(_kernel_mean(x, x) * len(x) - own.mean()) / (len(x) - 1)", "_kernel_mean(x, x)",
        "The pairs of an image with itself are counted: the estimate is biased and falls as N grows, like the distance "
        "it was to replace.",
        "https://github.com/TorchDrift/TorchDrift/issues/9",
        bug=30,
    ),
    _mutant(
        "diagonal-left-out-and-still-counted", "samples._kernel_mean_within",
        "/ (len(x) - 1)", "/ len(x)",
        "The pairs of an image with itself are taken from the sum, but not from their number.",
        "https://github.com/google-research/google-research/issues/1926",
        bug=30,
    ),
    _mutant(
        "two-sets-taken-to-be-of-one-size", "samples._kernel_mean",
        "/ (len(x) * len(y))", "/ len(x) ** 2",
        "The pairs across are divided by the square of one set's size. Right while both are equally large.",
        "https://github.com/djsutherland/opt-mmd/issues/3",
        bug=30,
    ),
    _mutant(
        "cross-term-of-the-kernel-once", "samples._unbiased_mmd",
        "- 2 * _kernel_mean(x, y)", "- _kernel_mean(x, y)",
        "The pairs across are taken off once and not twice: two samples of one distribution are then far apart.",
    ),
    _mutant(
        "kernel-not-divided-by-the-features", "samples._kernel",
        ".div_(x.shape[1])", ".div_(1)",
        "The product is not divided by the number of features: the cube then weighs little but the largest of them.",
    ),
    _mutant(
        "kernel-of-degree-two", "samples._kernel",
        ".pow_(3)", ".pow_(2)",
        "A square in place of the cube: the kernel compares means and covariances, and is blind to skewness.",
    ),
    _mutant(
        "same-rows-in-every-subset", "samples.kernel_distance",
        "torch.randperm(len(rows), generator=generator)[:subset_size]", "torch.arange(subset_size)",
        "Every subset holds the same first rows. The average over many is then no better than one.",
    ),
    _mutant(
        "divergence-the-wrong-way-round", "samples.inception_score",
        "(log_p.exp() * (log_p - log_marginal)).sum(1)", "(log_marginal.exp() * (log_marginal - log_p)).sum(1)",
        "KL(p(class) || p(class | image)): a sure prediction then scores without bound.",
        "https://github.com/sbarratt/inception-score-pytorch/issues/9",
    ),
    _mutant(
        "mean-of-the-exponentials", "samples.inception_score",
        "divergence.mean().exp()", "divergence.exp().mean()",
        "The exponential is taken of each image's divergence: the mean is larger, and no bound on the classes holds.",
        "https://github.com/openai/improved-gan/issues/29",
    ),
    _mutant(
        "marginal-of-the-mean-logits", "samples.inception_score",
        "torch.logsumexp(log_p, dim=0) - math.log(len(log_p))", "torch.log_softmax(logits.mean(0), dim=0)",
        "The classes' distribution is that of the mean logits, and not the mean of the distributions.",
    ),
)  # fmt: skip

NEIGHBOURS = (
    _mutant(
        "self-as-a-neighbour", "neighbours._radii",
        "squared.diagonal(start).fill_(torch.inf)", "squared.diagonal(start).fill_(0.0)",
        "Each image is its own nearest neighbour at distance 0, so the k-th is the (k-1)-th of the others: all balls "
        "are too small, and for k = 1 they are points.",
    ),
    _mutant(
        "self-left-out-of-the-first-chunk-only", "neighbours._radii",
        "squared.diagonal(start)", "squared.diagonal(0)",
        "Computed in chunks, each chunk but the first leaves out the wrong images and keeps each image itself.",
    ),
    _mutant(
        "mean-of-the-neighbours", "neighbours._radii",
        ".amax(1)", ".mean(1)",
        "The mean distance of the k nearest stands in for that of the k-th.",
    ),
    _mutant(
        "edge-outside", "neighbours._share_inside",
        "distances <= radii[index]", "distances < radii[index]",
        "A strict inequality: a set of images compared with itself has no overlap where images repeat.",
        "https://github.com/clovaai/generative-evaluation-prdc/issues/7",
    ),
    _mutant(
        "coverage-edge-outside", "neighbours.coverage",
        "distances <= _radii", "distances < _radii",
        "A strict inequality: of a set that consists of copies nothing is covered, not even by itself.",
        "https://github.com/clovaai/generative-evaluation-prdc/issues/7",
    ),
    _mutant(
        "only-the-nearest-ball", "neighbours._share_inside",
        "_lowest(x, centres, allowance=radii.square())", "_lowest(x, centres)",
        "Only the ball around the nearest centre is looked at. A point may lie outside of it and inside a larger one.",
    ),
    _mutant(
        "precision-and-recall-swapped", "neighbours.precision_recall",
        "_share_inside(fake, real, real_radii), _share_inside(real, fake, fake_radii)",
        "_share_inside(real, fake, fake_radii), _share_inside(fake, real, real_radii)",
        "The two come back in the wrong order: a generator that draws one good image over and over has precision 0 "
        "and recall 1.",
        "https://github.com/toshas/torch-fidelity/issues/58",
    ),
    _mutant(
        "balls-of-the-wrong-set", "neighbours.coverage",
        "<= _radii(\"real\", real, k)).double()", "<= _radii(\"real\", fake, k).mean()).double()",
        "The balls take their size from the fakes: far-flung fakes then cover everything.",
    ),
    _mutant(
        "coverage-counted-over-the-fakes", "neighbours.coverage",
        "distances, _ = _lowest(real, fake)\n    return (distances <= _radii(\"real\", real, k))",
        "distances, found = _lowest(fake, real)\n    return (distances <= _radii(\"real\", real, k)[found])",
        "The share of fakes that lie near a real image, which is a precision: leaving out a mode does not lower it.",
    ),
    _mutant(
        "neighbours-of-the-other-set", "neighbours.nearest",
        "return _lowest(x, y, chunk=chunk)", "return _lowest(y, x, chunk=chunk)",
        "For each training image the nearest sample is sought, and not for each sample the nearest training image.",
    ),
    _mutant(
        "index-of-the-farthest", "neighbours._lowest",
        ".argmin(1)", ".argmax(1)",
        "The farthest image is found and shown as the nearest: nothing ever looks copied.",
    ),
    _mutant(
        "distances-around-a-far-origin", "neighbours._squared_distances",
        "x, y = x - y.mean(0), y - y.mean(0)", "x, y = x + 0, y + 0",
        "Squares of large numbers are subtracted to find a small one, and nothing is left of it but rounding.",
    ),
    _mutant(
        "cross-term-once", "neighbours._squared_distances",
        "alpha=-2", "alpha=-1",
        "|x|^2 - x y + |y|^2: the 2 is lost, and images near the origin become everyone's nearest.",
    ),
    _mutant(
        "memorised-by-distance-and-not-by-share", "neighbours.memorisation",
        "(to_train < to_test).double()", "(to_train < to_train.median()).double()",
        "The distances to the training set are judged without a held-out set beside: half of all images look copied, "
        "whatever the model.",
    ),
    _mutant(
        "sizes-of-the-sets-forgotten", "neighbours.memorisation",
        "by_train.sum().item() / n, (1 - by_train).sum().item() / m",
        "by_train.sum().item(), (1 - by_train).sum().item()",
        "A larger training set has more images to be near to: six times the size gives six sevenths, with nothing "
        "memorised.",
    ),
    _mutant(
        "ties-given-to-the-training-set", "neighbours.memorisation",
        "torch.where(to_train == to_test, 0.5,", "torch.where(to_train == to_test, 1.0,",
        "An image that is in both sets proves nothing, and is counted as a copy.",
    ),
    _mutant(
        "neighbours-taken-to-be-independent", "neighbours.memorisation",
        "counts.square().sum().item() - len(fake) ** 2 / pool", "float(len(fake))",
        "The error is that of so many coin tosses. Fakes that share a neighbour fall together, so it is too small and "
        "finds copies where there are none.",
    ),
    _mutant(
        "error-of-the-count-and-not-of-the-share", "neighbours.memorisation",
        "pool**2 / (4 * n * m) * variance**0.5", "variance**0.5",
        "With sets of different size the share is not T / N, and its error has another scale.",
    ),
)  # fmt: skip

MODES = (
    _mutant(
        "every-point-belongs-to-a-mode", "modes.mode_counts",
        "torch.bincount(nearest[at_mode],", "torch.bincount(nearest,",
        "Each point is given to its nearest mode, however far that is: noise spread over the plane reaches all modes.",
    ),
    _mutant(
        "variances-for-deviations", "modes.mode_counts",
        "distance <= within * std\n", "distance.square() <= within * std\n",
        "The square of a distance is compared with standard deviations: for narrow modes almost anything is near.",
    ),
    _mutant(
        "points-counted-once-a-mode", "modes.mode_counts",
        "counts = torch.bincount(nearest[at_mode], minlength=len(centres))",
        "counts = (distances <= within * std).sum(0)",
        "A point within reach of two modes is counted at both, so that the counts add up to more than the points.",
    ),
    _mutant(
        "modes-that-nothing-reached-left-out", "modes.mode_counts",
        "nearest[at_mode], minlength=len(centres))", "nearest[at_mode])",
        "The counts end at the last mode that was reached: the modes missed behind it are not in the list.",
    ),
)  # fmt: skip

MUTANTS = LIKELIHOOD + LEVELS + PIXELS + SAMPLES + NEIGHBOURS + MODES
