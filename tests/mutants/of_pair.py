"""The mutants of the pair: who is shown what, and which gradient reaches whom."""

from tests.mutants.mutant import OWN, Mutant

TESTS = ("tests/test_pair.py",)
GAME = "https://arxiv.org/abs/1406.2661"
MESCHEDER = "https://arxiv.org/abs/1801.04406"


def _mutant(name: str, file: str, function: str, old: str, new: str, story: str, source: str = OWN) -> Mutant:
    return Mutant(name, file, function, old, new, story, source, TESTS)


MUTANTS = (
    _mutant(
        "pair-of-two-shapes", "pair", "PairConfig.__post_init__",
        "if self.gan.image_shape != self.restorer.image_shape:", "if False:",
        "A generator and a restorer of different images are put together; the critic fails much later, far from the "
        "cause.",
    ),
    _mutant(
        "pair-without-a-shape", "pair", "PairConfig.image_shape",
        "return self.gan.image_shape", "return self.gan.image_shape[1:]",
        "The number of channels is lost from what the pair says it makes.",
    ),
    _mutant(
        "restorer-with-its-own-sizes", "pair", "Pair.__init__",
        "Estimator(config.restorer)", "Estimator(RestorerConfig(mask=True, noise=True))",
        "The restorer is built in its default size, whatever the config says.",
    ),
    _mutant(
        "pair-that-draws-one-image", "pair", "Pair.sample",
        "self.gan.sample(n, generator=generator)", "self.gan.sample(1, generator=generator)",
        "However many images are asked for, one is drawn.",
    ),
    _mutant(
        "restorer-not-told", "pair", "Pair.forward",
        "self.estimator(y, known, sigma)", "self.estimator(y, known, 0.0 * sigma)",
        "The pair does not hand on the noise level: every image counts as measured without noise.",
    ),
    _mutant(
        "pair-with-a-judge", "recipes/pair", "PairObjective.__post_init__",
        "if self.feature or self.start:", "if False:",
        "A feature loss is asked for and silently never computed.",
    ),
    _mutant(
        "card-without-the-imagined", "recipes/pair", "PairObjective.reported",
        '"pixel", "imagined"', '"pixel"',
        "The card does not tell how well the generator's own images were restored.",
    ),
    _mutant(
        "restorer-and-critic-change-places", "recipes/pair", "PairObjective.players",
        "model.gan.discriminator, model.estimator", "model.estimator, model.gan.discriminator",
        "The critic's learning rate goes to the restorer, and each is moved by the other's loss.",
        GAME,
    ),
    _mutant(
        "generator-that-draws-what-is-easy", "recipes/pair", "pair_step",
        "imagined = drawn.detach().clamp(-1, 1)", "imagined = drawn.clamp(-1, 1)",
        "The generator's images are not cut off before they are damaged. Its own update would then hold what makes "
        "them easy to restore: plain ones.",
    ),
    _mutant(
        "restorations-shown-to-no-critic", "recipes/pair", "pair_step",
        "for fake in (by_g, by_r)", "for fake in (by_g, by_g)",
        "The critic is never told that restored images are made: its verdict on them is noise.",
        GAME,
    ),
    _mutant(
        "generator-judged-as-the-restorer", "recipes/pair", "pair_step",
        'terms["generator"] = verdict(drawn)', 'terms["generator"] = verdict(restored.detach() + 0.0 * drawn)',
        "The generator is told how real the restorations look. Nothing reaches it, and it draws grey for ever.",
        GAME,
    ),
    _mutant(
        "r1-of-a-pair-at-what-was-drawn", "recipes/pair", "pair_step",
        "zero_centred_penalty(model.gan.discriminator, x)",
        "zero_centred_penalty(model.gan.discriminator, drawn)",
        "R1 is taken at the generator's images and not at real ones.",
        MESCHEDER,
    ),
)  # fmt: skip
