"""The mutants of the trainings: what each one minimises, and the networks that only this package's recipes train."""

from tests.mutants.mutant import OWN, Mutant

TESTS = {
    "recipes/terms": ("tests/test_recipes.py",),
    "recipes/code_terms": ("tests/test_code_recipes.py",),
    "recipes/__init__": ("tests/test_code_recipes.py",),
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

CODE_TERMS = (
    _mutant(
        "vq-targets-in-minus-one-to-one", "recipes/code_terms.vq_terms",
        "generator=generator)\n    pixels, target = torch.sigmoid(out.params.float()), to_unit(x)",
        "generator=generator)\n    pixels, target = torch.sigmoid(out.params.float()), x",
        "The decoder's pixels in [0, 1] are compared with images in [-1, 1]: the darker half cannot be reached.",
        bug=9,
    ),
    _mutant(
        "log-of-the-deviation-for-that-of-the-variance", "recipes/code_terms.vq_terms",
        "gaussian_nll(pixels, target, 2 * math.log(noise))", "gaussian_nll(pixels, target, math.log(noise))",
        "The logarithm of the noise's deviation goes where that of its variance belongs: the image weighs a tenth of "
        "what it should, beside the commitment.",
    ),
    _mutant(
        "beta-on-the-image-of-a-vqvae", "recipes/code_terms.vq_terms",
        "loss = distortion + beta * commitment\n", "loss = beta * distortion + commitment\n",
        "Beta weighs the distortion and not the commitment.",
    ),
    _mutant(
        "codebook-loss-left-out", "recipes/code_terms.vq_terms",
        "loss = loss + codebook_loss(out.z.float(), out.nearest)", "loss = loss + commitment",
        "A codebook that is a parameter gets the commitment twice, whose gradient goes to the encoder alone. It stays "
        "where it began.",
    ),
    _mutant(
        "codebook-loss-never-asked-for", "recipes/code_terms.VQObjective.terms",
        'config.update == "gradient"', 'config.update == "grad"',
        "The name of the setting is misspelt where it is compared: no error, and a codebook that never moves.",
    ),
    _mutant(
        "commitment-of-the-bottom-level-alone", "recipes/code_terms.HierarchyObjective.terms",
        "for z, e in zip(out.z, out.nearest, strict=True)", "for z, e in [(out.z[1], out.nearest[1])]",
        "The encoder of the top level is bound to nothing: its output grows away from its codes.",
    ),
    _mutant(
        "never-withheld", "recipes/code_terms.HierarchyObjective.terms",
        "withheld=withheld, generator=generator", "generator=generator",
        "The decoder is always told the bottom level. All goes through it, and the top level says nothing.",
    ),
    _mutant(
        "withheld-from-those-that-were-to-be-told", "recipes/code_terms.HierarchyObjective.terms",
        "device=x.device) < self.withhold", "device=x.device) > self.withhold",
        "The comparison is turned about: of three quarters the bottom level is withheld, in place of one.",
    ),
    _mutant(
        "prior-told-everything-always", "recipes/code_terms.PriorObjective.terms",
        "model(batch.x, labels=told)", "model(batch.x, labels=labels)",
        "The labels said to be withheld reach the prior all the same. Asked for any image at all, it has never "
        "learnt what to draw.",
    ),
    _mutant(
        "codes-of-another-model", "recipes/code_terms.PriorObjective.prepared",
        "codes_of(models[self.tokeniser], images)", "codes_of(list(models.values())[-1], images)",
        "The codes are those of whichever model is at hand, and not of the one that will decode the samples.",
    ),
    _mutant(
        "levels-in-the-other-order", "recipes/code_terms.LevelPriorObjective.prepared",
        "codes.flatten(1) for codes in levels]", "codes.flatten(1) for codes in levels[::-1]]",
        "The two levels lie in the row the other way round from how they are read: a prior of codes that mean "
        "something else. Where both have as many codes, nothing complains.",
    ),
    _mutant(
        "bottom-level-told-of-itself", "recipes/code_terms.LevelPriorObjective.terms",
        "context, codes = codes[:, :n_top]", "context, codes = codes[:, -n_top:].remainder(config.context_codes)",
        "The context is cut from the wrong end: the prior of the bottom level is given its own last codes. Its loss is "
        "excellent, and a sample cannot be drawn so.",
    ),
    _mutant(
        "last-batch-of-codes-first", "recipes/code_terms.codes_of",
        "for part in images.split(batch)])", "for part in images.split(batch)[::-1]])",
        "The batches of codes are put together in another order than the images: each gets the label of another.",
    ),
    _mutant(
        "bottom-codes-of-the-first-batch", "recipes/code_terms.levels_of",
        "for level in zip(*pairs, strict=True))\n    return top, bottom",
        "for level in zip(*pairs, strict=True))\n    return top, bottom.roll(batch, 0)",
        "Top and bottom codes are paired a batch apart: the detail of one image for the shape of another.",
    ),
    _mutant(
        "told-all-or-nothing", "recipes/code_terms.partly_told",
        "how_many = torch.where(nothing, count, how_many)", "how_many = torch.where(nothing, count, 0)",
        "Either all labels are told or none. A description of part of a face is never seen.",
    ),
    _mutant(
        "last-label-oftener-withheld", "recipes/code_terms.partly_told",
        "device=labels.device).argsort(1).argsort(1)", "device=labels.device).argsort(1).argsort(1).sort(1).values",
        "How many labels are withheld is drawn, but not which: always the first ones.",
    ),
    _mutant(
        "two-ways-to-withhold-all", "recipes/code_terms.partly_told",
        "how_many = torch.randint(count, (n, 1)", "how_many = torch.randint(count + 1, (n, 1)",
        "Off by one: the rows that are to be told something are told nothing now and then, and the share of those "
        "without a label is more than was asked for.",
    ),
)  # fmt: skip

STANDING = (
    _mutant(
        "another-tokeniser-is-as-good", "recipes/__init__.why_stale",
        'if card.get("requires", {}).get(name) != sha256:', "if sha256 is None:",
        "A prior counts as up to date after its VQ-VAE was trained again. The codes have other meanings now: samples "
        "are noise.",
    ),
    _mutant(
        "checkpoint-of-other-codes-goes-on", "recipes/__init__.plan",
        'identity |= {f"weights of {key}": sha256', 'identity |= {f"weights of {key}": ""',
        "A training that was cut goes on after its VQ-VAE was trained again: half of it learnt the old codes.",
    ),
    _mutant(
        "card-names-the-weights-there-at-the-end", "recipes/__init__.write_weights",
        '{name: job.session.identity[f"weights of {name}"] for name in recipe.objective.requires}',
        "required(recipe, folder=job.out)",
        "The card names the VQ-VAE that is there when the training ends, and not the one whose codes were learnt. "
        "Trained again meanwhile, the two are taken for a pair.",
    ),
    _mutant(
        "package-before-the-folder-asked-for", "recipes/__init__._home",
        "return folder if name in pretrained.names(folder=folder) else pretrained.FOLDER",
        "return pretrained.FOLDER if name in pretrained.names(folder=pretrained.FOLDER) else folder",
        "Weights trained into a folder of one's own are passed over for those of the package.",
    ),
    _mutant(
        "trained-on-what-is-to-be-replaced", "recipes/__init__.train_stale",
        "if sha256 is None or name in left]", "if sha256 is None]",
        "A prior is trained on a VQ-VAE that is stale itself and was left for another day. That day it is stale too.",
    ),
)  # fmt: skip

MUTANTS = VAE_TERMS + OTHER_TERMS + NETWORKS + CODE_TERMS + STANDING
