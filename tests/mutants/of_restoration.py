"""The mutants of a restorer's training and measuring: what it is shown, what it minimises, and how it is judged."""

from tests.mutants.mutant import OWN, Mutant

MIXED, TERMS, RECIPE, MEASURED = (
    "degrade/mixture", "objectives/restoration", "recipes/restoration", "evaluation/restorers"
)  # fmt: skip
TESTS = {
    MIXED: ("tests/test_mixture.py",),
    TERMS: ("tests/test_restoration_objectives.py",),
    RECIPE: ("tests/test_restoration_recipes.py",),
    MEASURED: ("tests/test_restorer_evaluation.py",),
}
FFDNET = "https://arxiv.org/abs/1710.04026"
JOHNSON = "https://arxiv.org/abs/1603.08155"
MESCHEDER = "https://arxiv.org/abs/1801.04406"
PATCHES = "https://arxiv.org/abs/1611.07004"
SRGAN = "https://arxiv.org/abs/1609.04802"


def _mutant(name: str, file: str, function: str, old: str, new: str, story: str, source: str = OWN,
            **more) -> Mutant:  # fmt: skip
    return Mutant(name, file, function, old, new, story, source, more.pop("tests", TESTS[file]), **more)


SHOWN = (
    _mutant(
        "share-that-hides-nothing", MIXED, "Mixture.__post_init__",
        '("shares", 1e-9, 1.0)', '("shares", 0.0, 1.0)',
        "A share of nothing is let in, and the first batch that draws it stops the training.",
    ),
    _mutant(
        "one-mask-for-the-batch", MIXED, "Mixture.__call__",
        "known[i::n_kinds] = draw_mask(kind, shape, **options)",
        "known[i::n_kinds] = draw_mask(kind, (1, *shape[1:]), **options)",
        "One mask is drawn for all images of a kind: a batch teaches one hole in place of many.",
    ),
    _mutant(
        "one-noise-level-for-the-batch", MIXED, "Mixture.__call__",
        "sigma = low + (high - low) * torch.rand(batch, generator=generator, device=device)",
        "sigma = low + (high - low) * torch.rand(1, generator=generator, device=device).expand(batch)",
        "All images of a batch have the same noise: the gradient of a step speaks for one level alone.",
        FFDNET,
    ),
    _mutant(
        "told-another-noise-than-there-is", MIXED, "Mixture.__call__",
        "sigma.to(x)[:, None, None, None] * noise", "sigma.to(x).flip(0)[:, None, None, None] * noise",
        "The level that is told is that of another image. The network learns not to listen.",
        FFDNET,
    ),
    _mutant(
        "noise-of-one-image-for-all", MIXED, "Mixture.__call__",
        "torch.randn(x.shape, generator=generator,", "torch.randn((1, *x.shape[1:]), generator=generator,",
        "Every image of a batch has the same noise, up to its level.",
    ),
    _mutant(
        "clean-images-wholly-seen", MIXED, "Mixture.__call__",
        "torch.where(masked & clean, 0.0, sigma)", "torch.where(clean, 0.0, sigma)",
        "Half of the images that nothing hides have no noise either: there is nothing to restore, and their share of "
        "every step is wasted.",
    ),
)  # fmt: skip

MINIMISED = (
    _mutant(
        "median-for-the-mean", TERMS, "pixel_loss",
        'error.square() if loss == "mse" else error.abs()', 'error.abs() if loss == "mse" else error.square()',
        "The two losses change places. What is called the mean squared error then estimates the median.",
    ),
    _mutant(
        "features-summed-and-not-averaged", TERMS, "feature_loss",
        "(a - b).square().flatten(1).mean(1) for a, b", "(a - b).square().flatten(1).sum(1) for a, b",
        "Each map counts by its number of values: the finest resolution drowns the others, and the weight means "
        "something else for each size of image.",
        JOHNSON,
    ),
    _mutant(
        "loss-of-the-mean-logit", TERMS, "patch_discriminator_loss",
        "losses = discriminator_loss(real_logits.flatten(), fake_logits.flatten(), loss=loss)",
        "losses = discriminator_loss(real_logits.mean((1, 2)), fake_logits.mean((1, 2)), loss=loss)",
        "The logits are averaged before the loss: one patch that the critic is sure of outweighs all others.",
        PATCHES,
    ),
    _mutant(
        "restorer-that-fools-in-one-place", TERMS, "patch_generator_loss",
        "generator_loss(fake_logits.flatten(), loss=loss).reshape(len(fake_logits), -1).mean(1)",
        "generator_loss(fake_logits.amax((1, 2)), loss=loss)",
        "The restorer is rewarded for its best patch and may leave the rest as it is.",
        PATCHES,
    ),
    _mutant(
        "r1-of-the-sum-of-the-logits", TERMS, "patch_penalty",
        "return logits * signs.to(logits)", "return logits",
        "The gradient of the sum of all logits is punished. Where patches overlap, theirs may cancel: the penalty is "
        "small, and every single logit steep.",
        MESCHEDER,
    ),
    _mutant(
        "r1-that-grows-with-the-image", TERMS, "patch_penalty",
        "zero_centred_penalty(signed, x) / size", "zero_centred_penalty(signed, x)",
        "The penalty is a sum over patches, the loss a mean: on a larger image the same weight is many times as much.",
        MESCHEDER,
    ),
    _mutant(
        "images-that-broadcast", TERMS, "_same_shape",
        "if a.shape != b.shape:", "if a.dim() != b.dim():",
        "Images of one channel or one row are let in beside whole ones, and broadcasting hides it.",
    ),
    _mutant(
        "logits-of-any-shape", TERMS, "_patches",
        "if value.dim() != 3:", "if value.dim() > 3:",
        "One logit an image is taken for a row of patches, and the mean is over the wrong axis.",
    ),
)  # fmt: skip

TRAINED = (
    _mutant(
        "judge-that-is-never-asked", RECIPE, "RestorationObjective.__post_init__",
        "if bool(self.judge) != (self.feature > 0):", "if False:",
        "A judge is named and its weight forgotten: the card says that features were compared, and they were not.",
    ),
    _mutant(
        "card-without-the-game", RECIPE, "RestorationObjective.reported",
        "if self.adversarial else ()", "if self.feature else ()",
        "The card of an adversarial training without feature loss does not say how the game ended.",
    ),
    _mutant(
        "judge-that-is-not-required", RECIPE, "RestorationObjective.requires",
        "for name in (self.judge, self.start) if name", "for name in (self.start,) if name",
        "The judge's weights are no part of what the training stands on: trained anew, it leaves its restorers behind.",
    ),
    _mutant(
        "training-that-starts-anew", RECIPE, "RestorationObjective.begin",
        "        if not self.start:\n            return\n", "        return\n",
        "The weights that the training is said to start from are loaded and never used: the critic meets a network "
        "that has learnt nothing.",
        SRGAN,
    ),
    _mutant(
        "game-without-a-critic", RECIPE, "RestorationObjective.players",
        "if model.discriminator is None:", "if model.estimator is None:",
        "An adversarial weight without a critic is found out in the middle of the set-up, by an error that names "
        "neither.",
    ),
    _mutant(
        "other-noise-told-as-gaussian", RECIPE, "RestorationObjective.observe",
        'sigma = self.degradation.amount if self.degradation.noise == "gaussian" else 0.0',
        "sigma = self.degradation.amount",
        "The amount of any noise is told as a deviation: a share of black and white pixels, or a quality of 80.",
    ),
    _mutant(
        "features-of-the-clean-image-alone", RECIPE, "RestorationObjective.distances",
        "feature_loss(maps(judge, estimate), wanted)", "feature_loss(maps(judge, estimate.detach()), wanted)",
        "The judge sees the estimate without its graph: the feature loss is reported and moves nothing.",
        JOHNSON,
    ),
    _mutant(
        "weights-mixed-up", RECIPE, "RestorationObjective.distances",
        "loss = self.pixel * terms[\"pixel\"]", "loss = terms[\"pixel\"]",
        "The weight of the pixels is left out, and those of the other terms mean something else than they say.",
        SRGAN,
    ),
    _mutant(
        "restored-without-the-degradation", RECIPE, "RestorationObjective.terms",
        "self.distances(model(*self.observe(config, batch.x, generator=generator)), batch.x, judge)",
        "self.distances(model(*told(config, batch.x, None, 0.0)), batch.x, judge)",
        "The clean images are given to the restorer and asked back: it learns to copy, and the loss is 0.",
    ),
    _mutant(
        "nothing-known-where-nothing-is-hidden", RECIPE, "told",
        "known = torch.ones_like(y[:, :1], dtype=torch.bool)", "known = torch.zeros_like(y[:, :1], dtype=torch.bool)",
        "An image without a mask is told as one that is hidden altogether: what comes back is a guess.",
    ),
    _mutant(
        "maps-before-the-activation", RECIPE, "maps",
        "if isinstance(layer, nn.SiLU):", "if isinstance(layer, nn.Conv2d):",
        "The judge's first maps are linear in the pixels: comparing them is comparing pixels again.",
        JOHNSON,
    ),
    _mutant(
        "restored-shown-as-real", RECIPE, "restoration_step",
        "critic(torch.cat([batch.x, estimate.detach()])).chunk(2)",
        "critic(torch.cat([estimate.detach(), batch.x])).chunk(2)",
        "Restored images are shown to the critic as real and real ones as restored. Both losses fall, and the restorer "
        "learns to look like neither.",
    ),
    _mutant(
        "restorer-without-its-game", RECIPE, "restoration_step",
        "judged(estimate), loss=objective.loss", "judged(estimate.detach()), loss=objective.loss",
        "The critic's verdict is cut off from the restorer: it plays no game, and what comes out is that of the "
        "distances alone.",
        SRGAN,
    ),
    _mutant(
        "r1-at-restored-images", RECIPE, "restoration_step",
        "patch_penalty(model.discriminator, batch.x, generator=random)",
        "patch_penalty(model.discriminator, estimate, generator=random)",
        "R1 is taken at the estimates and not at the clean images.",
        MESCHEDER,
    ),
    _mutant(
        "r1-of-patches-not-scaled", RECIPE, "restoration_step",
        "0.5 * objective.weight * objective.penalty_every * penalty", "0.5 * objective.weight * penalty",
        "R1 is taken on every k-th step, and the factor k is missing.",
        MESCHEDER,
    ),
    _mutant(
        "critic-that-stays-frozen", RECIPE, "restoration_step",
        "        model.discriminator.requires_grad_(True)\n", "",
        "After the restorer's first step the critic never moves again.",
    ),
    _mutant(
        "restorer-never-averaged", RECIPE, "restoration_step",
        "        ema.update(model)\n", "",
        "The average that is shipped stays at the first, random weights.",
    ),
)  # fmt: skip

JUDGED = (
    _mutant(
        "restorer-of-any-size", MEASURED, "fits",
        "config.factor == degradation.factor", "config.factor <= degradation.factor",
        "A network for whole images is given small ones, and the measuring stops half-way.",
    ),
    _mutant(
        "never-told-the-noise", MEASURED, "by_model",
        'said = degradation.amount if degradation.noise == "gaussian" else 0.0', "said = 0.0",
        "The restorer is measured without being told the noise: it takes every image for clean and copies it.",
        FFDNET,
    ),
    _mutant(
        "told-the-truth-whatever-is-asked", MEASURED, "by_model",
        "said = sigma\n", "said = None\n",
        "A restorer that is to be told wrongly is told rightly: it looks as if being told did not matter.",
        tests=("tests/test_restorer_benchmarks.py",),
    ),
    _mutant(
        "one-seed-for-all-batches", MEASURED, "restored",
        "manual_seed(seed_of(seed, start))", "manual_seed(seed_of(seed, 0))",
        "Every batch of test images has the same noise and the same masks.",
    ),
    _mutant(
        "restored-images-that-wrap", MEASURED, "restored",
        "found.append(to_uint8(x.clamp(-1, 1)).cpu())",
        "found.append(((x + 1) * 127.5).round().to(torch.int32).to(torch.uint8).cpu())",
        "Values beyond white are not cut off and come back as black.",
    ),
    _mutant(
        "judged-by-what-was-given", MEASURED, "errors",
        "x, clean = to_unit(to_float(again)), to_unit(to_float(images))",
        "x, clean = to_unit(to_float(again)), to_unit(to_float(again))",
        "The restored images are compared with themselves.",
    ),
    _mutant(
        "one-perfect-image-is-enough", MEASURED, "errors",
        ".clamp(max=CEILING)", "",
        "One hole in plain black that is filled without an error makes the mean PSNR infinite.",
    ),
    _mutant(
        "distance-to-more-images-than-there-were", MEASURED, "measure_restoration",
        "images = images[: protocol.n] if protocol else images", "images = images[: protocol.n // 2]",
        "Half of the test images are measured, and the rest is said to be.",
    ),
    _mutant(
        "measured-on-what-does-not-fit", MEASURED, "measure_restorer",
        "if fits(model.config, degradation)]", "if True]",
        "A restorer is given what it was not built for.",
    ),
)  # fmt: skip

MUTANTS = SHOWN + MINIMISED + TRAINED + JUDGED
