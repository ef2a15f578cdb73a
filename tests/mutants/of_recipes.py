"""The mutants of the trainings: what each one minimises, and the networks that only this package's recipes train."""

from tests.mutants.mutant import OWN, Mutant

TESTS = {
    "recipes/terms": ("tests/test_recipes.py",),
    "classifier": ("tests/test_classifier.py",),
    "decoder": ("tests/test_decoder.py",),
}


def _mutant(name: str, place: str, old: str, new: str, story: str, source: str = OWN, **more) -> Mutant:
    file, function = place.split(".", 1)
    return Mutant(name, file, function, old, new, story, source, TESTS[file], **more)


VAE_TERMS = (
    _mutant(
        "rate-as-a-mean-over-latents", "recipes/terms.vae_terms",
        "rate = rate_per_dim.sum(1)", "rate = rate_per_dim.mean(1)",
        "The KL is averaged over the latents where the loss is put together: the terms are right and their balance is "
        "not.",
        "https://github.com/maxhodak/keras-molecules/issues/59",
        bug=1,
    ),
    _mutant(
        "rate-subtracted", "recipes/terms.vae_terms",
        "distortion + beta * penalty", "distortion - beta * penalty",
        "The ELBO is reconstruction minus KL; its negative is distortion plus rate. Half of the signs are flipped.",
        "https://github.com/EderSantana/gumbel/issues/3",
        bug=2,
    ),
    _mutant(
        "beta-on-the-distortion", "recipes/terms.vae_terms",
        "distortion + beta * penalty", "beta * distortion + penalty",
        "Beta multiplies the reconstruction and not the KL: a warm-up then holds back the pictures.",
    ),
    _mutant(
        "targets-in-minus-one-to-one", "recipes/terms.vae_terms",
        "bernoulli_nll(out.params, to_unit(x))", "bernoulli_nll(out.params, x)",
        "The images go into the cross-entropy as they are, in [-1, 1].",
        "https://github.com/Lightning-Universe/lightning-bolts/issues/177",
        bug=9,
    ),
    _mutant(
        "free-bits-in-the-report", "recipes/terms.vae_terms",
        '"rate": rate}', '"rate": penalty}',
        "The floor is reported as the rate: a collapsed model seems to use its latents.",
    ),
)  # fmt: skip

OTHER_TERMS = (
    _mutant(
        "autoencoder-targets-in-minus-one-to-one", "recipes/terms.AutoencoderObjective.terms",
        "bernoulli_nll(model(batch.x).params, to_unit(batch.x))", "bernoulli_nll(model(batch.x).params, batch.x)",
        "The images go into the cross-entropy as they came into the network, in [-1, 1].",
        bug=9,
    ),
    _mutant(
        "first-attribute-only", "recipes/terms.ClassifierObjective.terms",
        '"loss": nats,', '"loss": cross_entropy(logits[0], labels[:, 0], reduction="none"),',
        "Of several heads only the first enters the loss. The others keep their random weights, and the features "
        "never learn what they were to tell apart.",
    ),
    _mutant(
        "attributes-without-a-head", "recipes/terms.ClassifierObjective.terms",
        "if len(logits) != labels.shape[1]:", "if False:",
        "Heads and labels are zipped, and zip stops at the shorter: a network with too few heads trains all the same.",
    ),
    _mutant(
        "accuracy-summed-over-attributes", "recipes/terms.ClassifierObjective.terms",
        "hits / len(logits)", "hits",
        "Right answers are counted over all attributes and divided by the images alone: an accuracy of 800 per cent.",
    ),
    _mutant(
        "all-images-mirrored", "recipes/terms.moved",
        "generator=generator, device=x.device) < 0.5", "generator=generator, device=x.device) < 2",
        "An augmentation meant for half of the images hits all: the network never sees the others, which are what it "
        "is tested on.",
    ),
    _mutant(
        "shift-to-one-side", "recipes/terms.moved",
        "wide = pad(x, (shift,) * 4, mode=\"replicate\")", "wide = pad(x, (0, 2 * shift) * 2, mode=\"replicate\")",
        "Shifts of 0 to 2 s in place of -s to s: on the average every image is moved.",
    ),
    _mutant(
        "told-what-was-withheld", "recipes/terms.AttributeObjective.terms",
        "bare.conditions(withheld(batch.labels, share=self.withhold, generator=generator))",
        "bare.conditions(batch.labels)",
        "The attributes said to be withheld reach the network all the same. Its loss is excellent, and with an "
        "attribute really withheld it has never learnt what to draw.",
    ),
    _mutant(
        "withheld-from-all", "recipes/terms.withheld",
        "device=labels.device) < share", "device=labels.device) < 1",
        "A share of the batch becomes all of it: the network seldom sees a complete description.",
    ),
    _mutant(
        "withheld-as-value-0", "recipes/terms.withheld",
        "WITHHELD, labels)", "0, labels)",
        "A label is removed by writing 0 over it, but 0 is a value: 'not told' and 'bald' become one.",
    ),
    _mutant(
        "target-in-minus-one-to-one-for-mse", "recipes/terms.AttributeObjective.terms",
        "target = to_unit(batch.x)", "target = batch.x.clamp(0, 1)",
        "Images in [-1, 1] are cut at 0 to fit an output in [0, 1]: all darker than the middle is lost.",
        bug=9,
    ),
)  # fmt: skip

NETWORKS = (
    _mutant(
        "features-averaged-over-places", "classifier.Classifier.__init__",
        "nn.Flatten(),\n            nn.Dropout(config.dropout),\n            nn.Linear(config.widths[-1] * places,",
        "nn.AdaptiveAvgPool2d(1),\n            nn.Flatten(),\n            nn.Dropout(config.dropout),\n"
        "            nn.Linear(config.widths[-1],",
        "The maps are averaged over places before the features: a sleeve in the wrong place costs a generator nothing.",
    ),
    _mutant(
        "features-after-the-head", "classifier.Classifier.features",
        "return self.trunk(x)", "return self.heads[0](self.trunk(x))",
        "The class's logits are taken as features: a distance in them sees what class an image has, and little else.",
    ),
    _mutant(
        "one-head-for-all", "classifier.Classifier.forward",
        "head(features) for head in self.heads", "self.heads[0](features) for _ in self.heads",
        "In a comprehension the wrong name: all attributes are read off the first head.",
    ),
    _mutant(
        "withheld-block-is-last-value", "decoder.AttributeDecoder.conditions",
        "nn.functional.one_hot(column + 1, size + 1)[:, 1:]", "nn.functional.one_hot(column % size, size)",
        "Python's index -1 means the last one: a withheld attribute becomes its last value.",
    ),
    _mutant(
        "withheld-block-at-the-end", "decoder.AttributeDecoder.conditions",
        "size + 1)[:, 1:]", "size + 1)[:, :-1]",
        "The place kept for 'withheld' is cut off at the wrong end: every value is read as the next one.",
    ),
    _mutant(
        "any-label-welcome", "decoder.AttributeDecoder.conditions",
        "if wrong.any():", "if False:",
        "A label of another data set reaches one_hot, whose error names neither it nor what was expected.",
    ),
)  # fmt: skip

MUTANTS = VAE_TERMS + OTHER_TERMS + NETWORKS
