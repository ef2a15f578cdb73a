"""The mutants of the two players' game: signs, detached images, reductions, penalties, and the alternating step."""

from tests.mutants.mutant import OWN, Mutant

TESTS = {
    "objectives/adversarial": ("tests/test_adversarial_objectives.py",),
    "recipes/adversarial": ("tests/test_adversarial_recipes.py",),
    "evaluation/adversarial": ("tests/test_gan_evaluation.py",),
}
GOODFELLOW = "https://arxiv.org/abs/1406.2661"
GULRAJANI = "https://arxiv.org/abs/1704.00028"
STYLEGAN2 = "https://arxiv.org/abs/1912.04958"


def _mutant(name: str, place: str, old: str, new: str, story: str, source: str = OWN, **more) -> Mutant:
    file, function = place.split(".", 1)
    return Mutant(name, file, function, old, new, story, source, TESTS[file], **more)


_LAST = "return softplus(-real_logits) + softplus(fake_logits)"

LOSSES = (
    _mutant(
        "rewarded-for-believing-fakes", "objectives/adversarial.discriminator_loss",
        _LAST, "return softplus(-real_logits) + softplus(-fake_logits)",
        "The second sign is wrong: the discriminator is rewarded for calling generated images real too. It learns to "
        "say yes.",
        GOODFELLOW, bug=16,
    ),
    _mutant(
        "real-and-generated-exchanged", "objectives/adversarial.discriminator_loss",
        _LAST, "return softplus(real_logits) + softplus(-fake_logits)",
        "The labels are exchanged in the discriminator's loss and not in the generator's: both players pull the same "
        "way.",
    ),
    _mutant(
        "generated-images-left-out", "objectives/adversarial.discriminator_loss",
        _LAST, "return softplus(-real_logits) + 0 * softplus(fake_logits)",
        "The discriminator is shown real images alone, and learns nothing about generated ones.",
    ),
    _mutant(
        "probabilities-for-logits", "objectives/adversarial.discriminator_loss",
        _LAST, "return softplus(-torch.sigmoid(real_logits)) + softplus(torch.sigmoid(fake_logits))",
        "A sigmoid is applied to the logits before a loss that applies its own. No image can then be called surely "
        "real or surely a fake.",
        "https://github.com/soumith/ganhacks/issues/67", bug=20,
    ),
    _mutant(
        "loss-of-the-batch-in-one-number", "objectives/adversarial.discriminator_loss",
        _LAST, "return (softplus(-real_logits) + softplus(fake_logits)).sum().expand(len(real_logits))",
        "The loss is summed over the batch and then averaged: with twice the batch the steps are twice as large, and "
        "a penalty beside it half as heavy.",
    ),
    _mutant(
        "critic-rewarded-for-high-fakes", "objectives/adversarial.discriminator_loss",
        "return fake_logits - real_logits", "return -fake_logits - real_logits",
        "Minus the mean on real and minus the mean on generated images: the critic raises all scores without end.",
        "https://arxiv.org/abs/1701.07875", bug=16,
    ),
    _mutant(
        "critic-minimised-and-not-maximised", "objectives/adversarial.discriminator_loss",
        "return fake_logits - real_logits", "return real_logits - fake_logits",
        "The paper's critic ascends, the optimiser descends, and the sign was not turned.",
        "https://github.com/keras-team/keras-contrib/issues/280",
    ),
    _mutant(
        "hinge-called-wasserstein", "objectives/adversarial.discriminator_loss",
        'if loss == "hinge":', 'if loss in ("hinge", "wasserstein"):',
        "The hinge loss goes by the name of Wasserstein. It stops at its margin, and what it gives is no distance.",
        "https://arxiv.org/abs/1705.02894", bug=23,
    ),
    _mutant(
        "hinge-without-its-margin", "objectives/adversarial.discriminator_loss",
        "return relu(1 - real_logits) + relu(1 + fake_logits)", "return relu(-real_logits) + relu(fake_logits)",
        "The margin of 1 is missing: a discriminator that gives 0 to all images has no loss and no gradient.",
    ),
    _mutant(
        "hinge-of-the-wrong-side", "objectives/adversarial.discriminator_loss",
        "return relu(1 - real_logits) + relu(1 + fake_logits)", "return relu(1 - real_logits) + relu(1 - fake_logits)",
        "Generated images are pushed above the margin together with the real ones.", bug=16,
    ),
    _mutant(
        "squares-to-the-same-target", "objectives/adversarial.discriminator_loss",
        "((real_logits - 1).square() + fake_logits.square())",
        "((real_logits - 1).square() + (fake_logits - 1).square())",
        "Real and generated images have the same target, so that the discriminator need not tell them apart.",
        "https://arxiv.org/abs/1611.04076", bug=16,
    ),
    _mutant(
        "one-real-image-beside-all-fakes", "objectives/adversarial.discriminator_loss",
        "if len(real_logits) != len(fake_logits):", "if False:",
        "A batch of one image broadcasts against any other: 63 of 64 comparisons are with the same image.",
    ),
    _mutant(
        "column-beside-a-row", "objectives/adversarial._check",
        "if value.dim() != 1:", "if False:",
        "Logits (B, 1) beside (B,) broadcast to (B, B): each real image is compared with every generated one.",
    ),
    _mutant(
        "same-as-minimax", "objectives/adversarial.generator_loss",
        'if loss == "minimax":', 'if loss in ("minimax", "non-saturating"):',
        "Said to be the same: minimising log(1 - D) and -log D. Where the discriminator is sure (logit -5) the one "
        "pulls with 0.0067 and the other with 0.993.",
        GOODFELLOW, bug=18,
    ),
    _mutant(
        "saturates-where-d-is-fooled", "objectives/adversarial.generator_loss",
        "return -softplus(fake_logits)", "return softplus(-fake_logits)",
        "The minimax loss is said to saturate where D(G(z)) is near 1. It does so near 0, at the start of a training, "
        "where the discriminator rejects all samples.",
        GOODFELLOW, bug=19,
    ),
    _mutant(
        "generator-helps-the-discriminator", "objectives/adversarial.generator_loss",
        "return softplus(-fake_logits)", "return softplus(fake_logits)",
        "The generator descends on the discriminator's own term: it learns to be found out.",
    ),
    _mutant(
        "minimax-without-its-sign", "objectives/adversarial.generator_loss",
        "return -softplus(fake_logits)", "return softplus(fake_logits)",
        "log(1 - D) is negative, and is minimised with its sign lost: the generator is driven away from the data.",
    ),
    _mutant(
        "generator-aims-at-0", "objectives/adversarial.generator_loss",
        "return 0.5 * (fake_logits - 1).square()", "return 0.5 * fake_logits.square()",
        "The generator's target is the discriminator's one for generated images.",
        "https://arxiv.org/abs/1611.04076",
    ),
    _mutant(
        "generators-score-to-be-lowered", "objectives/adversarial.generator_loss",
        "return -fake_logits\n\n\ndef _gradients", "return fake_logits\n\n\ndef _gradients",
        "In the hinge and Wasserstein losses the generator lowers its own score.",
        "https://github.com/wiseodd/generative-models/issues/58",
    ),
    _mutant(
        "one-value-for-all-samples", "objectives/adversarial.generator_loss",
        "return softplus(-fake_logits)", "return softplus(-fake_logits.mean()).expand(len(fake_logits))",
        "The logits are averaged before the loss. A sample that is far off hides behind those that are not.",
    ),
)  # fmt: skip

_SQUARES = "return 0.5 * ((real_logits - 1).square() + fake_logits.square())"
_HINGES = "return relu(1 - real_logits) + relu(1 + fake_logits)"
_SCORE = "return -fake_logits\n\n\ndef _gradients"

# What each loss looks like where the graph to the generated images is cut, and where a batch is reduced too early.
CUT_OR_REDUCED = (
    _mutant(
        "fakes-cut-off-from-d", "objectives/adversarial.discriminator_loss",
        _LAST, "return softplus(-real_logits) + softplus(fake_logits.detach())",
        "The detach that belongs on the images stands on the logits: the loss has its right value, and the "
        "discriminator learns nothing from what was generated.",
    ),
    _mutant(
        "squares-cut-off-from-d", "objectives/adversarial.discriminator_loss",
        _SQUARES, "return 0.5 * ((real_logits - 1).square() + fake_logits.detach().square())",
        "Of the two squares one is a constant: all logits go to 1, those of generated images too.",
    ),
    _mutant(
        "hinge-cut-off-from-d", "objectives/adversarial.discriminator_loss",
        _HINGES, "return relu(1 - real_logits) + relu(1 + fake_logits.detach())",
        "The hinge of the generated images is shown and not trained.",
    ),
    _mutant(
        "score-cut-off-from-the-critic", "objectives/adversarial.discriminator_loss",
        "return fake_logits - real_logits", "return fake_logits.detach() - real_logits",
        "The critic's loss falls by raising all scores at once: what is reported as a distance grows without end.",
    ),
    _mutant(
        "minimax-cut-off-from-g", "objectives/adversarial.generator_loss",
        "return -softplus(fake_logits)", "return -softplus(fake_logits.detach())",
        "The generator's logits are detached: its loss is right and moves nothing.",
        bug=17,
    ),
    _mutant(
        "non-saturating-cut-off-from-g", "objectives/adversarial.generator_loss",
        "return softplus(-fake_logits)", "return softplus(-fake_logits.detach())",
        "The line was copied from the discriminator's step with its detach: no gradient reaches the generator.",
        bug=17,
    ),
    _mutant(
        "squares-cut-off-from-g", "objectives/adversarial.generator_loss",
        "return 0.5 * (fake_logits - 1).square()", "return 0.5 * (fake_logits.detach() - 1).square()",
        "The generator's square is a number without a graph. Its curve follows the discriminator alone.",
        bug=17,
    ),
    _mutant(
        "score-cut-off-from-g", "objectives/adversarial.generator_loss",
        _SCORE, _SCORE.replace("fake_logits", "fake_logits.detach()"),
        "The score of the generated images is detached, in the hinge and Wasserstein losses of the generator.",
        bug=17,
    ),
    _mutant(
        "squares-summed-over-the-batch", "objectives/adversarial.discriminator_loss",
        _SQUARES, "return 0.5 * ((real_logits - 1).square() + fake_logits.square()).sum().expand(len(real_logits))",
        "The squares are summed over the batch before the mean: twice the batch, twice the step.",
    ),
    _mutant(
        "hinge-of-the-mean", "objectives/adversarial.discriminator_loss",
        _HINGES, "return (relu(1 - real_logits.mean()) + relu(1 + fake_logits.mean())).expand(len(real_logits))",
        "The hinge of the mean logit, in place of the mean of the hinges: images beyond the margin pay for those that "
        "are on the wrong side of it.",
        "https://arxiv.org/abs/1705.02894",
    ),
    _mutant(
        "scores-summed-over-the-batch", "objectives/adversarial.discriminator_loss",
        "return fake_logits - real_logits", "return (fake_logits - real_logits).sum().expand(len(real_logits))",
        "The critic's difference is summed over the batch: the distance it shows is that of 64 images together.",
    ),
    _mutant(
        "minimax-summed-over-the-batch", "objectives/adversarial.generator_loss",
        "return -softplus(fake_logits)", "return -softplus(fake_logits).sum().expand(len(fake_logits))",
        "The generator's loss is a sum over the batch and the discriminator's a mean: one player takes steps as many "
        "times larger as there are images.",
    ),
    _mutant(
        "square-of-the-mean", "objectives/adversarial.generator_loss",
        "return 0.5 * (fake_logits - 1).square()",
        "return (0.5 * (fake_logits.mean() - 1).square()).expand(len(fake_logits))",
        "The mean logit is drawn to 1, in place of each: images far above 1 make up for those far below.",
    ),
    _mutant(
        "score-of-the-batch", "objectives/adversarial.generator_loss",
        _SCORE, _SCORE.replace("-fake_logits", "-fake_logits.sum().expand(len(fake_logits))"),
        "The generator is given the sum of the scores: its steps grow with the batch.",
    ),
)  # fmt: skip

PENALTIES = (
    _mutant(
        "alpha-from-a-normal", "objectives/adversarial.gradient_penalty",
        "alpha = torch.rand(shape,", "alpha = torch.randn(shape,",
        "Alpha is drawn from a normal distribution: two thirds of the points lie beyond the ends of the segment.",
        "https://github.com/keras-team/keras-io/issues/415", bug=22,
    ),
    _mutant(
        "alpha-for-each-pixel", "objectives/adversarial.gradient_penalty",
        "shape = (len(real), *[1] * (real.dim() - 1))", "shape = real.shape",
        "Every pixel has an alpha of its own: the point lies in a box between the two images, and not on the segment.",
        "https://github.com/eriklindernoren/PyTorch-GAN/issues/5", bug=22,
    ),
    _mutant(
        "alpha-for-the-whole-batch", "objectives/adversarial.gradient_penalty",
        "shape = (len(real), *[1] * (real.dim() - 1))", "shape = [1] * real.dim()",
        "All images of a batch share one alpha: the slope is looked at in one place of all segments.",
        GULRAJANI, bug=22,
    ),
    _mutant(
        "penalty-at-real-images-only", "objectives/adversarial.gradient_penalty",
        "points = alpha * real + (1 - alpha) * fake", "points = real + 0 * alpha * fake",
        "Alpha is 1: the slope is held at the real images alone, and is free everywhere between.",
        GULRAJANI, bug=22,
    ),
    _mutant(
        "norm-of-the-batch", "objectives/adversarial.gradient_penalty",
        "length = (_gradients(critic, points).square().sum(1) + 1e-12).sqrt()",
        "length = (_gradients(critic, points).square().sum() + 1e-12).sqrt().expand(len(real))",
        "The norm is taken over the batch: 64 slopes of an eighth pass for one slope of 1.",
        "https://github.com/caogang/wgan-gp/issues/27", bug=22,
    ),
    _mutant(
        "norm-as-a-mean-over-pixels", "objectives/adversarial.gradient_penalty",
        "_gradients(critic, points).square().sum(1) + 1e-12", "_gradients(critic, points).square().mean(1) + 1e-12",
        "The mean over pixels stands for the sum: the slope is held at the root of their number, 28 in place of 1.",
        "https://github.com/eriklindernoren/PyTorch-GAN/issues/20", bug=22,
    ),
    _mutant(
        "root-without-a-floor", "objectives/adversarial.gradient_penalty",
        ".square().sum(1) + 1e-12).sqrt()", ".square().sum(1)).sqrt()",
        "The root has no derivative at 0. One flat place of the critic, and all weights are NaN.",
        "https://github.com/keras-team/keras-io/issues/624",
    ),
    _mutant(
        "norm-always-one", "objectives/adversarial.gradient_penalty",
        "return (length - norm).square()", "return (length - 1.0).square()",
        "The norm that was asked for is not used.",
    ),
    _mutant(
        "penalty-that-cannot-be-trained", "objectives/adversarial._gradients",
        "torch.autograd.grad(scores.sum(), x, create_graph=True)", "torch.autograd.grad(scores.sum(), x)",
        "The gradient is taken without its graph. The penalty has the right value and no effect.",
    ),
    _mutant(
        "penalty-that-moves-the-generator", "objectives/adversarial._gradients",
        "x = x.detach().requires_grad_()", "x = x if x.requires_grad else x.detach().requires_grad_()",
        "The images keep their graph: the discriminator's penalty reaches through them into the generator.",
    ),
    _mutant(
        "gradients-averaged-over-the-batch", "objectives/adversarial._gradients",
        "torch.autograd.grad(scores.sum(), x,", "torch.autograd.grad(scores.mean(), x,",
        "The gradient of the mean score is a B-th of each score's own: the penalty shrinks with the batch, squared.",
    ),
    _mutant(
        "norm-without-its-square", "objectives/adversarial.zero_centred_penalty",
        ".square().sum(1)\n\n\ndef gradient_penalty", ".norm(dim=1)\n\n\ndef gradient_penalty",
        "The norm stands for its square. Its gradient does not fall to 0 at the optimum, where the discriminator is "
        "flat, and is not defined there.",
        "https://arxiv.org/abs/1801.04406",
    ),
    _mutant(
        "noise-scaled-by-the-variance", "objectives/adversarial.instance_noise",
        "return x + std * torch.randn", "return x + std**2 * torch.randn",
        "The noise is scaled by the variance and not by its root: weak noise becomes none.",
    ),
    _mutant(
        "one-grey-level-for-all-pixels", "objectives/adversarial.instance_noise",
        "torch.randn(x.shape, generator", "torch.randn((len(x), *[1] * (x.dim() - 1)), generator",
        "One draw shifts the brightness of a whole image. The supports still do not meet.",
    ),
)  # fmt: skip

_TESTS = ("tests/test_path_length.py",)
_ROOT = "return (gradient.square().sum(-1).reshape(len(latents), -1).mean(1) + 1e-12).sqrt()"


def _path(name: str, function: str, old: str, new: str, story: str, source: str = OWN) -> Mutant:
    return Mutant(name, "objectives/adversarial", function, old, new, story, source, _TESTS)


PATHS = (
    _path(
        "path-length-without-a-graph", "path_lengths",
        "product, latents, create_graph=True,", "product, latents, retain_graph=True,",
        "The lengths are numbers without a graph: the penalty is shown and trains nothing.",
    ),
    _path(
        "path-length-not-per-pixel", "path_lengths",
        "product = (images * y).sum() / math.sqrt(math.prod(images.shape[2:]))", "product = (images * y).sum()",
        "y is not divided by the root of the number of pixels: at 64 pixels the length is 64 times as large and "
        "its penalty 4,096 times as heavy.",
        STYLEGAN2,
    ),
    _path(
        "path-length-divided-by-the-pixels", "path_lengths",
        "/ math.sqrt(math.prod(images.shape[2:]))", "/ math.prod(images.shape[2:])",
        "y is divided by the number of pixels, where its root belongs.",
        STYLEGAN2,
    ),
    _path(
        "path-length-divided-by-the-channels-too", "path_lengths",
        "math.prod(images.shape[2:])", "math.prod(images.shape[1:])",
        "The channels are counted as places: colour images have a length that is too small by the root of 3.",
        STYLEGAN2,
    ),
    _path(
        "path-of-the-sum-of-the-pixels", "path_lengths",
        "product = (images * y).sum()", "product = images.sum()",
        "y is left out: what is measured is how far a step in w changes the mean brightness, and no other direction.",
    ),
    _path(
        "path-along-positive-noise", "path_lengths",
        "y = torch.randn(images.shape", "y = torch.rand(images.shape",
        "y is drawn from 0 to 1, around a mean: one direction of the images counts most, that of all pixels together.",
    ),
    _path(
        "one-y-for-the-batch", "path_lengths",
        "torch.randn(images.shape, generator", "torch.randn(images.shape[1:], generator",
        "All images of a batch are looked at along one direction.",
    ),
    _path(
        "path-length-summed-over-layers", "path_lengths",
        _ROOT, _ROOT.replace(".mean(1)", ".sum(1)"),
        "The squares are summed over the layers too: with 8 of them the length is too large by the root of 8.",
        STYLEGAN2,
    ),
    _path(
        "path-length-averaged-over-coordinates", "path_lengths",
        _ROOT, _ROOT.replace(".sum(-1)", ".mean(-1)"),
        "The mean over the latent's coordinates stands for the sum: the length hangs on the size of w.",
        STYLEGAN2,
    ),
    _path(
        "path-length-of-the-batch", "path_lengths",
        _ROOT, _ROOT.replace(".mean(1)", ".mean(1).mean().expand(len(latents))"),
        "One length for the whole batch. The images differ and their mean does not: there is nothing left to even out.",
    ),
    _path(
        "path-length-squared", "path_lengths",
        _ROOT, _ROOT.replace(".sqrt()", ""),
        "The root is missing, and the mean that is kept is that of the squares.",
    ),
    _path(
        "path-length-without-a-floor", "path_lengths",
        _ROOT, _ROOT.replace(" + 1e-12", ""),
        "The root has no derivative at 0: a generator that gives one image for all latents turns to NaN.",
    ),
    _path(
        "path-length-of-other-latents", "path_lengths",
        "if images.dim() < 2 or latents.dim() < 2 or len(images) != len(latents):", "if False:",
        "Images and latents of different number pass: the lengths are those of some of the images.",
    ),
    _path(
        "latents-without-a-graph-let-in", "path_lengths",
        "if not latents.requires_grad:", "if False:",
        "Latents that nobody asked to follow are let in, and what is said then comes from the depth of autograd.",
    ),
    _path(
        "latents-that-no-image-hangs-on", "path_lengths",
        "if gradient is None:", "if False:",
        "Where z was followed and the images were made from another w, None is squared.",
    ),
    _path(
        "mean-that-follows-the-lengths", "path_penalty",
        "device=lengths.device).detach()", "device=lengths.device)",
        "The mean keeps its graph, so that a generator may lower all lengths together in place of evening them out.",
    ),
    _path(
        "lengths-to-be-0", "path_penalty",
        "return (lengths - mean).square()", "return lengths.square()",
        "The lengths are drawn to 0 and not to their mean: the best generator gives one image for all latents.",
        STYLEGAN2,
    ),
    _path(
        "distance-not-squared", "path_penalty",
        "return (lengths - mean).square()", "return lengths - mean",
        "The square is missing: short lengths are rewarded without end.",
        STYLEGAN2,
    ),
    _path(
        "penalty-of-the-mean-length", "path_penalty",
        "return (lengths - mean).square()", "return (lengths.mean() - mean).square().expand(len(lengths))",
        "The distance of the batch's mean, in place of the mean distance: lengths may differ as they like.",
    ),
    _path(
        "mean-for-each-image", "path_penalty",
        "if lengths.dim() != 1 or mean.dim() != 0:", "if lengths.dim() != 1:",
        "The lengths themselves pass for their mean, and the penalty is always 0.",
    ),
)  # fmt: skip

RECIPE = (
    _mutant(
        "penalty-without-a-weight", "recipes/adversarial.AdversarialObjective.__post_init__",
        'if (self.penalty == "none") != (self.weight == 0):', "if False:",
        "A penalty is named and its weight left at 0: a training that is said to be regularised and is not.",
    ),
    _mutant(
        "noise-that-turns-negative", "recipes/adversarial.AdversarialObjective.noise_at",
        "max(0.0, 1 - 2 * step / n_steps)", "abs(1 - 2 * step / n_steps)",
        "After half of the steps the noise rises again, and the last images are trained on noise.",
    ),
    _mutant(
        "generator-trained-by-the-discriminator", "recipes/adversarial.AdversarialObjective.critic_terms",
        "fake = fake.detach()\n", "fake = fake\n",
        "The generated images keep their graph in the discriminator's step: its loss reaches the generator, with the "
        "wrong sign.",
        "https://github.com/heykeetae/Self-Attention-GAN/issues/48",
    ),
    _mutant(
        "r1-on-generated-images", "recipes/adversarial.AdversarialObjective.critic_terms",
        'at = real if self.penalty == "r1" else fake', 'at = fake if self.penalty == "r1" else real',
        "R1 belongs on the real images and R2 on the generated ones; they are exchanged.",
        "https://arxiv.org/abs/1801.04406", bug=29,
    ),
    _mutant(
        "lazy-without-its-factor", "recipes/adversarial.AdversarialObjective.critic_terms",
        'terms["discriminator"] + self.penalty_every * penalty', 'terms["discriminator"] + penalty',
        "The penalty is added on every 16th step, with the weight of every step: it is 16 times too weak.",
        bug=29,
    ),
    _mutant(
        "factor-of-the-lazy-form-on-every-step", "recipes/adversarial.AdversarialObjective.critic_terms",
        'if self.penalty == "none" or step % self.penalty_every:', 'if self.penalty == "none":',
        "The penalty is added on every step, with the weight of every 16th: it is 16 times too strong.",
        bug=29,
    ),
    _mutant(
        "gamma-without-its-half", "recipes/adversarial.AdversarialObjective.critic_terms",
        "penalty = 0.5 * self.weight * zero_centred", "penalty = self.weight * zero_centred",
        "R1 is gamma / 2 times the squared gradient; the 1/2 is lost, and a gamma from a paper acts twice as strong.",
        "https://arxiv.org/abs/1801.04406",
    ),
    _mutant(
        "penalty-to-be-raised", "recipes/adversarial.AdversarialObjective.critic_terms",
        'terms["discriminator"] + self.penalty_every * penalty',
        'terms["discriminator"] - self.penalty_every * penalty',
        "The penalty is subtracted: the discriminator is rewarded for being steep.",
    ),
    _mutant(
        "no-gradient-to-the-generator", "recipes/adversarial.AdversarialObjective.generator_terms",
        "generator_loss(discriminator(fake), loss", "generator_loss(discriminator(fake.detach()), loss",
        "The generator's step is taken through detached images, as the discriminator's is: no gradient reaches the "
        "generator at all.",
        "https://github.com/nikhilsinghmus/image2reverb/issues/37", bug=17,
    ),
    _mutant(
        "penalty-through-what-fabric-put-around", "recipes/adversarial.AdversarialObjective.critic_terms",
        "inner = discriminator if bare is None else bare", "inner = discriminator",
        "The penalty is taken through the wrapped network. In single precision nobody notices; in half precision the "
        "training stops at its first step.",
    ),
    _mutant(
        "penalty-of-mixed-images", "recipes/adversarial.alternating_step",
        'if objective.penalty != "none" and kind == "batch":', "if False:",
        "A penalty is let in beside BatchNorm: the gradient taken for one image's is that of the whole batch.",
        GULRAJANI,
    ),
    _mutant(
        "norm-of-the-discriminator-alone", "recipes/adversarial.alternating_step",
        "norm = norm.maximum(update(generator_net, generator_adam, loss, recipe.lr, index))",
        "update(generator_net, generator_adam, loss, recipe.lr, index)",
        "Only the discriminator's gradients are watched. The generator's weights turn to NaN, and a checkpoint written "
        "in that step keeps them.",
    ),
    _mutant(
        "players-the-wrong-way-round", "recipes/adversarial.AdversarialObjective.players",
        "return model.generator, model.discriminator", "return model.discriminator, model.generator",
        "The two players change places: each is trained by the other's loss.",
    ),
    _mutant(
        "one-rate-for-both", "recipes/adversarial.optimisers",
        "recipe.lr * recipe.objective.critic_lr, recipe.lr", "recipe.lr, recipe.lr",
        "The discriminator's own rate is not used.",
    ),
    _mutant(
        "one-optimiser-twice", "recipes/adversarial.optimisers",
        "players = recipe.objective.players(model)\n", "players = model, model.discriminator\n",
        "The generator's optimiser is given all parameters: in its step the discriminator moves too, to the "
        "generator's liking.",
    ),
    _mutant(
        "gradients-of-the-step-before", "recipes/adversarial.descend",
        "adam.zero_grad(set_to_none=True)", "pass",
        "The gradients are never set to 0: each step adds to those of all steps before.",
        "https://github.com/Adversarial-Deep-Learning/code-soup/issues/69", bug=21,
    ),
    _mutant(
        "gradients-left-over-from-the-generator", "recipes/adversarial.alternating_step",
        "model.discriminator.requires_grad_(False)", "pass",
        "In the generator's step gradients gather in the discriminator too. Unless they are set to 0 before its next "
        "step they move it to the generator's liking.",
        "https://github.com/Adversarial-Deep-Learning/code-soup/issues/69", bug=21,
    ),
    _mutant(
        "discriminator-never-thawed", "recipes/adversarial.alternating_step",
        "model.discriminator.requires_grad_(True)", "pass",
        "The discriminator is frozen for the generator's step and never released: it learns once.",
    ),
    _mutant(
        "discriminator-in-evaluation-mode", "recipes/adversarial.alternating_step",
        "model.discriminator.requires_grad_(True)", "model.discriminator.requires_grad_(True).eval()",
        "The discriminator is put into evaluation mode for the generator's step and stays there: BatchNorm's "
        "statistics are those of the first step, for good.",
        bug=21,
    ),
    _mutant(
        "generator-moves-on-all-steps-but-one", "recipes/adversarial.alternating_step",
        "moves = (index + 1) % objective.critic_steps == 0", "moves = (index + 1) % objective.critic_steps != 1",
        "The condition is turned round, and the generator moves while the critic should catch up.",
    ),
    _mutant(
        "noise-for-the-real-images-alone", "recipes/adversarial.alternating_step",
        "shown = instance_noise(fake, std, generator=random)", "shown = fake",
        "Only the real images are noisy, and noise is then what tells them apart.",
    ),
    _mutant(
        "noise-for-the-generated-images-alone", "recipes/adversarial.alternating_step",
        "real = instance_noise(batch.x, std, generator=random)", "real = batch.x",
        "Only the generated images are noisy: the discriminator looks for noise, and the generator learns to smooth.",
    ),
    _mutant(
        "never-averaged", "recipes/adversarial.alternating_step",
        "ema.update(model)", "ema.update(ema.module)",
        "The average is updated with itself: what is kept of the training is its first weights.",
    ),
    _mutant(
        "never-clipped", "recipes/adversarial.alternating_step",
        "if objective.bound:", "if not objective.bound:",
        "The weights are never clipped where a bound was given, so that the critic's slope has none.",
    ),
    _mutant(
        "average-of-one-player", "recipes/adversarial.alternating_step",
        "ema.update(model)", "moves and ema.update(model)",
        "The average is updated only when the generator moves: with five steps of the critic it lags five times "
        "as long.",
    ),
    _mutant(
        "buffers-sent-round-in-between", "recipes/adversarial.alternating_step",
        "part.broadcast_buffers = False", "part.broadcast_buffers = True",
        "Between the discriminator's two passes the processes exchange BatchNorm's statistics in place, which the "
        "backward of the first pass still needs: on graphics cards the training stops.",
        "https://github.com/pytorch/pytorch/issues/175024",
    ),
)  # fmt: skip

EVALUATION = (
    _mutant(
        "images-cut-at-0", "evaluation/adversarial.generated",
        "to_uint8(part.clamp(-1, 1))", "to_uint8(part.clamp(0, 1))",
        "Images in [-1, 1] are taken for images in [0, 1]: all that is darker than the middle is lost.",
    ),
    _mutant(
        "measured-in-training-mode", "evaluation/adversarial.measure_gan",
        ".eval()", ".train()",
        "BatchNorm uses the statistics of the batch that happens to be drawn, and each measure hangs on its size.",
    ),
    _mutant(
        "any-weights-called-averaged", "evaluation/adversarial.measure_gan",
        '"of the last step" if ema is None', '"averaged" if ema is None',
        "The record says that averaged weights were measured, whether they were or not.",
    ),
)  # fmt: skip

MUTANTS = LOSSES + CUT_OR_REDUCED + PENALTIES + PATHS + RECIPE + EVALUATION
