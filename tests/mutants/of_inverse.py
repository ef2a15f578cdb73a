"""The mutants of `inverse`: posteriors that forget the prior, chains of another law, codes that see nothing ahead."""

from tests.mutants.mutant import OWN, Mutant

TESTS = ("tests/test_inverse.py",)
BORA = "https://arxiv.org/abs/1703.03208"
NOISE = "https://github.com/google-research/ibc/issues/6"
FORWARD = "https://github.com/CompVis/taming-transformers/issues/14"


def _mutant(name: str, function: str, old: str, new: str, story: str, source: str = OWN, **more) -> Mutant:
    return Mutant(name, "inverse", function, old, new, story, source, TESTS, **more)


MUTANTS = (
    _mutant(
        "sigma-of-nothing", "LatentPosterior.__post_init__",
        "if not (0 < sigma.min()", "if not (0 <= sigma.min()",
        "A sigma of 0 is let in. The posterior is then that of a generator that can draw everything, and is not "
        "finite anywhere else.",
    ),
    _mutant(
        "latents-of-other-images", "LatentPosterior.images",
        "x.unflatten(0, z.shape[:2])", "x.unflatten(0, z.shape[:2][::-1]).transpose(0, 1)",
        "The images are laid out in another order than the latents: with several starts, each is judged by what is "
        "left of another image.",
    ),
    _mutant(
        "no-prior-on-the-latent", "LatentPosterior.energy",
        "0.5 * misfit.square().sum(2) + 0.5 * z.square().sum(2)", "0.5 * misfit.square().sum(2)",
        "Only the pixels count: z may go where no training image was, and where y says nothing of it, nothing does.",
        BORA,
    ),
    _mutant(
        "misfit-averaged-over-pixels", "LatentPosterior.energy",
        "0.5 * misfit.square().sum(2) +", "0.5 * misfit.square().mean(2) +",
        "A mean over the pixels beside a sum over the latents: the prior weighs as many times too much as there are "
        "pixels.",
        "https://github.com/pytorch/examples/issues/234",
    ),
    _mutant(
        "graph-kept-with-the-energy", "LatentPosterior.with_gradient",
        "return energy.detach(), gradient", "return energy, gradient",
        "Each step's graph is kept for as long as its energy is: memory grows with the steps.",
    ),
    _mutant(
        "worst-start-returned", "Found.best",
        ".argmin(0)", ".argmax(0)",
        "Of several starts the one that got stuck is taken.",
    ),
    _mutant(
        "one-rate-to-the-end", "search",
        'lr * 0.5 * (1 + math.cos(math.pi * step / n_steps))', "lr",
        "Adam's rate stays: its steps do not shrink with the gradient, and it circles about the mode.",
    ),
    _mutant(
        "width-without-the-prior", "linearised",
        "torch.linalg.cholesky(units + jacobian.mT @ jacobian)",
        "torch.linalg.cholesky(1e-3 * units + jacobian.mT @ jacobian)",
        "The curvature of the misfit alone: along latents that y does not tell, the posterior seems far wider than the "
        "prior.",
    ),
    _mutant(
        "noise-of-one-step", "langevin",
        "math.sqrt(2 * step) * eps - step * slope", "math.sqrt(step) * eps - step * slope",
        "The factor 2 of Langevin's noise is left out: the chain draws from the square of the density, too narrow by "
        "the root of 2.",
        NOISE,
    ),
    _mutant(
        "steps-that-are-never-refused", "langevin",
        "accept = torch.rand(odds.shape, generator=generator, device=generator.device).to(z).log() < odds",
        "pass",
        "The Metropolis step is worked out and not taken: the law is off by the order of the step.",
    ),
    _mutant(
        "way-back-left-out", "langevin",
        "odds = energy - new_energy + 0.5 * (eps.square() - back.square()).sum(2)", "odds = energy - new_energy",
        "Steps are accepted as if they were as probable as the way back. A step with a drift is not.",
    ),
    _mutant(
        "gradient-of-the-refused", "langevin",
        "gradient = torch.where(accept[..., None], new_gradient, gradient)", "gradient = new_gradient",
        "After a step that was refused the next one uses the gradient at a place where the chain never was.",
    ),
    _mutant(
        "noise-that-is-even", "langevin",
        "eps = torch.randn(", "eps = torch.rand(",
        "Noise from 0 to 1 in the place of normal noise: the chain drifts.",
    ),
    _mutant(
        "size-of-one-grid", "Filled.effective",
        "effective_size(self.log_weights)", "effective_size(torch.zeros_like(self.log_weights))",
        "The effective size is that of even weights, always all of them.",
    ),
    _mutant(
        "copies-counted", "Filled.distinct",
        "torch.unique(self.codes.flatten(1), dim=0)", "self.codes",
        "Copies count as grids of their own: a filling that found one grid a hundred times looks sure.",
    ),
    _mutant(
        "draws-without-weights", "Filled.drawn",
        "_chosen(self.log_weights, n, generator)", "_chosen(torch.zeros_like(self.log_weights), n, generator)",
        "Grids are drawn as if all fitted equally: those that the known codes rule out too.",
    ),
    _mutant(
        "size-of-squared-weights", "effective_size",
        "torch.softmax(log_weights.double(), 0).square().sum()", "torch.softmax(log_weights.double(), 0).amax()",
        "One over the largest weight: a bound from above in the place of the effective size.",
    ),
    _mutant(
        "weights-for-logarithms", "_chosen",
        "weights = torch.softmax(log_weights.double(), 0)", "weights = torch.softmax(2 * log_weights.double(), 0)",
        "Grids are drawn with the square of their weights.",
    ),
    _mutant(
        "codes-behind-the-hole-unseen", "fill",
        "log_weights = log_weights + log_p[:, grids[0, i]]", "log_weights = log_weights + 0 * log_p[:, grids[0, i]]",
        "Known codes after a missing one do not count: the hole is filled to fit what is above and left of it, and "
        "ends in an edge.",
        FORWARD,
    ),
    _mutant(
        "cache-of-the-dead", "fill",
        "cache.tensor = cache.tensor[:, :, kept]", "pass",
        "Grids are copied and the keys and values of their codes are not: each goes on with another one's past.",
    ),
)  # fmt: skip
