"""The mutants of `evaluation`: a wrong figure looks like any other, and a table of results shows no bug."""

from tests.mutants.mutant import OWN, Mutant

TESTS = {
    "evaluation/__init__": (
        "tests/test_evaluation.py", "tests/test_code_evaluation.py", "tests/test_level_evaluation.py",
    ),
    "evaluation/attributes": ("tests/test_evaluation.py",),
    "evaluation/code_length": ("tests/test_code_evaluation.py", "tests/test_level_evaluation.py"),
    "evaluation/codes": ("tests/test_code_evaluation.py", "tests/test_level_evaluation.py"),
    "evaluation/directions": ("tests/test_directions.py",),
    "evaluation/entries": ("tests/test_evaluation.py",),
    "evaluation/levels": ("tests/test_level_evaluation.py",),
    "evaluation/reconstruction": ("tests/test_evaluation.py",),
    "evaluation/samples": ("tests/test_evaluation.py", "tests/test_code_evaluation.py"),
}  # fmt: skip


def _mutant(name: str, place: str, old: str, new: str, story: str, source: str = OWN, **more) -> Mutant:
    file, function = place.rsplit(".", 1)
    return Mutant(name, file, function, old, new, story, source, TESTS[file], **more)


RECORD = (
    _mutant(
        "prior-of-another-tokeniser", "evaluation/__init__.tokeniser_of",
        'if pretrained.card(tokeniser, folder=home)["sha256"] != sha256:',
        'if len(pretrained.card(tokeniser, folder=home)["sha256"]) != len(sha256):',
        "The tokeniser is found by its name and its weights are not looked at. Trained anew, its codes mean something "
        "else: the prior's samples decode to noise, and its code lengths are those of other codes.",
    ),
    _mutant(
        "levels-of-two-tokenisers", "evaluation/__init__._of_prior",
        'if (found := card.get("requires", {})) != requires:',
        'if (found := card.get("requires", {})).keys() != requires.keys():',
        "The priors of two levels must stand on the same weights, and only the name is compared: top codes of one "
        "training are drawn for the bottom prior of another.",
    ),
    _mutant(
        "the-prior-above-left-out-of-the-record", "evaluation/__init__._of_prior",
        'requires[above] = card["sha256"]', 'card["sha256"]',
        "The figures of a bottom prior hang on the top prior too, and the record does not name it: when that one is "
        "trained anew, the old figures pass for current.",
    ),
    _mutant(
        "measured-on-the-training-images", "evaluation/__init__.evaluate",
        'test = DATA[source]("test")', 'test = DATA[source]("train")',
        "The wrong split. Every figure is a little better than it should be, and memorising pays.",
    ),
    _mutant(
        "half-a-model-sampled", "evaluation/__init__.evaluate",
        "if protocol is not None and (decoder or half or other):",
        "if protocol is not None and (decoder or other):",
        "The prior of a top level is taken for a whole model. Its result names a protocol of samples, though no sample "
        "was drawn.",
    ),
    _mutant(
        "network-measured-by-another", "evaluation/__init__.evaluate",
        "protocol = dataclasses.replace(protocol, folder=folder)", "protocol = dataclasses.replace(protocol)",
        "A new feature network is given the floor of the one that is in use: the figures beside its name are not its "
        "own.",
    ),
    _mutant(
        "a-part-that-passes-for-the-whole", "evaluation/__init__.evaluate",
        "len(images) == len(test.images) and n_samples >= 100 and seed == 0",
        "n_samples >= 100 and seed == 0",
        "A quick look at 20 images counts as a complete measurement and is written over the one of all.",
    ),
    _mutant(
        "spread-where-the-standard-error-belongs", "evaluation/entries.over_images",
        "stderr = metrics.standard_error(values)", "stderr = values.std().item()",
        "The standard deviation of single images stands where the standard error of their mean belongs: 100 times too "
        "wide for 10,000 images, so that no two models seem to differ.",
    ),
    _mutant(
        "spread-of-a-few-seeds-too-small", "evaluation/entries.over_seeds",
        "statistics.stdev(values)", "statistics.pstdev(values)",
        "The deviation from the mean of the same three values is divided by 3 and not by 2: a fifth too small.",
    ),
)  # fmt: skip

LIKELIHOOD = (
    _mutant(
        "bound-without-its-rate", "evaluation/reconstruction.measure_vae",
        'whole["distortion"] + whole["rate"]', 'whole["distortion"]',
        "What is reported as the negative ELBO is the reconstruction term alone. An autoencoder would win.",
    ),
    _mutant(
        "the-same-noise-for-every-batch", "evaluation/reconstruction.measure_vae",
        "torch.Generator(device).manual_seed(seed_of(seed, start))", "torch.Generator(device).manual_seed(seed)",
        "The generator starts anew with each batch. Each image's draws are right, but the errors of images at the same "
        "place do not average out, and the standard error says that they do.",
    ),
    _mutant(
        "code-length-without-the-code", "evaluation/code_length.measure_code_length",
        "bits_per_dim(given + code, n)", "bits_per_dim(given, n)",
        "The code is for nothing, and only the pixels are paid for. The more a code tells, the better a model looks; "
        "the best stores the image in its code.",
        equation="prior-bound",
    ),
    _mutant(
        "table-counted-on-the-images-described", "evaluation/code_length.measure_code_length",
        "part = train[start : min(start + BATCH, FITTED_ON)]", "part = test[start : min(start + BATCH, FITTED_ON)]",
        "The shares of the levels are counted on the images that are then described: a decoder that was told what it "
        "should say. What is measured is no code length.",
    ),
    _mutant(
        "decoded-from-the-mean-at-the-price-of-a-draw", "evaluation/code_length.shown_by",
        "reparameterise(mean, log_var, generator=generator), gaussian_kl(mean, log_var)",
        "mean, gaussian_kl(mean, log_var)",
        "The pixels are those of the posterior's mean, but the KL is the price of a draw from the posterior. To send "
        "the mean itself would cost more bits than the KL.",
    ),
    _mutant(
        "the-top-level-for-nothing", "evaluation/codes.code_rate",
        "for p, c, t in zip(priors, levels, contexts, strict=True))",
        "for p, c, t in [*zip(priors, levels, contexts, strict=True)][-1:])",
        "Only the bottom level's codes are paid for. They are told the top's, which nobody has sent.",
    ),
    _mutant(
        "bits-among-nats", "evaluation/codes.code_rate",
        "math.prod(c.shape[1:]) * math.log(size)", "math.prod(c.shape[1:]) * math.log2(size)",
        "The codes are counted in bits and the pixels in nats, and the sum is divided by log 2: without a prior a code "
        "costs 1.44 times what it should, so that every prior seems to save more than it does.",
    ),
    _mutant(
        "told-and-withheld-exchanged", "evaluation/codes.foretold",
        "for known in (None, labels[part].to(device))", "for known in (labels[part].to(device), None)",
        "The prior is told the labels for the figures in which they are withheld. Its code length leaves out what the "
        "labels cost.",
    ),
    _mutant(
        "bits-of-an-image-called-those-of-a-code", "evaluation/codes.foretold",
        "unknown * BITS / per_image", "unknown * BITS",
        "The sum over the grid is reported where the mean over its codes should be, and set beside log2 K.",
    ),
    _mutant(
        "perplexity-of-a-batch", "evaluation/codes.measure_vqvae",
        '"perplexity": {"value": metrics.perplexity(counts)', '"perplexity": {"value": in_batches[0]',
        "The perplexity of one batch stands for that of the data set: a batch holds few codes, so it is too low.",
        "https://github.com/bshall/VectorQuantizedVAE/issues/3",
        bug=14,
    ),
)  # fmt: skip

LEVELS = (
    _mutant(
        "the-bottom-that-belongs-there", "evaluation/levels.measure_hierarchy",
        '"mse_other_bottom": (top, bottom.roll(1, 0),', '"mse_other_bottom": (top, bottom,',
        "The level that should come from another image is the image's own. The swap then seems to do no harm, as if "
        "the bottom level held nothing.",
    ),
    _mutant(
        "drawn-given-another-image-s-top", "evaluation/levels.sampled_bottom",
        "context=part.to(device)", "context=part.roll(1, 0).to(device)",
        "The bottom codes of one image are drawn given the top codes of its neighbour. All shapes and shares are "
        "right; only the two levels of a picture do not fit one another.",
    ),
    _mutant(
        "chance-that-has-seen-the-image", "evaluation/levels.measure_kept",
        "(other, sampled_bottom(under_top, other, generator))", "(other, sampled_bottom(under_top, top, generator))",
        "Where both levels should be drawn, the bottom is drawn given the image's own top. What is called chance is "
        "then better than chance, and holding a level seems to keep less.",
    ),
    _mutant(
        "the-whole-measured-as-the-top-alone", "evaluation/levels.shown",
        "fine = None if bottom is None else bottom[part].to(device)", "fine = None",
        "The bottom codes are dropped before the decoder: every picture is that of the top level alone.",
    ),
)  # fmt: skip

ATTRIBUTES = (
    _mutant(
        "surprise-averaged-over-attributes", "evaluation/attributes.measure_classifier",
        "nats.append(torch.stack(surprise, dim=1).sum(1).cpu())",
        "nats.append(torch.stack(surprise, dim=1).mean(1).cpu())",
        "The nats of an image are those of all its attributes together. Their mean is called nats an image, and is "
        "ten times smaller for ten attributes.",
    ),
    _mutant(
        "a-rare-value-counts-like-a-common-one", "evaluation/attributes._conditional",
        "share = n / n.sum()", "share = torch.full_like(n, 1 / len(n))",
        "The mean is one over sets of values and not over images, so that a few rare hats weigh as much as most faces.",
    ),
)  # fmt: skip

SAMPLES = (
    _mutant(
        "precision-called-recall", "evaluation/samples._compared",
        "precision, recall = metrics.precision_recall(test, fake)",
        "precision, recall = metrics.precision_recall(fake, test)",
        "Real and generated images are exchanged. A model that draws one good picture over and over has then a perfect "
        "recall.",
    ),
    _mutant(
        "coverage-of-the-samples", "evaluation/samples._compared",
        "metrics.coverage(test, fake)", "metrics.coverage(fake, test)",
        "How many samples have a real image near them is measured, and not how many real images have a sample.",
    ),
    _mutant(
        "memory-of-the-test-images", "evaluation/samples._remembered",
        "metrics.memorisation(fake, train, test)", "metrics.memorisation(fake, test, train)",
        "Training and test images are exchanged: a model that copies what it was trained on is said to remember "
        "nothing.",
    ),
    _mutant(
        "one-seed-for-all", "evaluation/samples.measure_samples",
        "fake = ruler.features(draw(protocol.n, Generator().manual_seed(seed)))",
        "fake = ruler.features(draw(protocol.n, Generator().manual_seed(protocol.seeds[0])))",
        "Every seed draws the same samples. The standard deviation over seeds is 0, and looks like great certainty.",
    ),
    _mutant(
        "the-floor-of-other-weights", "evaluation/samples.reference",
        "return _reference(protocol, sha256, str(device))",
        "return _reference(protocol, protocol.network, str(device))",
        "The real images' features are kept under the network's name. After it was trained anew the samples are "
        "compared with features of the old one.",
    ),
    _mutant(
        "a-ruler-for-the-test-images-alone", "evaluation/samples._reference",
        "ruler.features(test[: protocol.n])", "raw_features(network, test[: protocol.n])",
        "The samples are measured in the unit of the training images and the test images in the network's own: the "
        "distance between the two is one of units.",
    ),
    _mutant(
        "logits-shown-as-pixels", "evaluation/samples._decoded",
        "torch.sigmoid(model.decode(part.to(device)))", "model.decode(part.to(device)).clamp(0, 1)",
        "The decoder gives logits, and these are cut to [0, 1] and shown: hard black and white.",
    ),
    _mutant(
        "codes-without-their-covariance", "evaluation/samples.drawers",
        "root = vectors * values.clamp(min=0).sqrt()", "root = torch.diag(torch.cov(codes.T).diagonal().sqrt())",
        "The Gaussian that is fitted to an autoencoder's codes has their variances alone. Codes that go together in "
        "every image are drawn apart.",
    ),
    _mutant(
        "one-class-for-all-samples", "evaluation/samples._code_drawers",
        "labels = (torch.arange(n) % classes)[:, None]", "labels = (torch.arange(n) // n % classes)[:, None]",
        "As many of each class are asked for, and all samples are told class 0.",
    ),
)  # fmt: skip

DIRECTIONS = (
    _mutant(
        "direction-of-the-codes-themselves", "evaluation/directions._fit",
        "slopes[:-1, 0]", "(z[:n] * p[:n, None]).std(0)",
        "The spread of z p is taken for its mean: how much a coordinate matters is there, and its sign is not.",
    ),
    _mutant(
        "fit-judged-where-it-was-fitted", "evaluation/directions._fit",
        "errors = fitted[n:] - p[n:]", "errors = fitted[:n] - p[:n]",
        "The errors are those on the images that the line was fitted to: with few of them it explains much of what is "
        "pure chance.",
    ),
    _mutant(
        "shares-of-the-other-values", "evaluation/directions._is_among",
        "return torch.isin(labels,", "return ~torch.isin(labels,",
        "The images counted are those that do not show it.",
    ),
    _mutant(
        "first-of-several-counted", "evaluation/directions._is_among",
        "return torch.isin(labels, torch.tensor(list(values)))", "return labels == values[0]",
        "The direction is fitted to several values and judged by the first of them alone.",
    ),
    _mutant(
        "share-of-nothing-is-none", "evaluation/directions._share",
        "return hits.double().mean().item()", "return hits.double().mean().nan_to_num().item()",
        "Where nobody shows it, nobody can lose it. The share is given as 0, a failure, in place of unknown.",
    ),
    _mutant(
        "direction-fitted-without-its-intercept", "evaluation/directions._fit",
        "torch.ones(len(z), 1, dtype=z.dtype)", "torch.zeros(len(z), 1, dtype=z.dtype)",
        "The line goes through the origin. The direction is nearly right, but of a reading that is 1/2 on average the "
        "fit explains less than nothing.",
    ),
    _mutant(
        "steered-only-upwards", "evaluation/directions.attribute_directions",
        "fresh[has.to(z.device)] - step", "fresh[has.to(z.device)] + step",
        "To take an attribute away the images are moved towards it. What is lost is what the way up loses: nearly "
        "nothing.",
    ),
    _mutant(
        "gain-over-all-images", "evaluation/directions.attribute_directions",
        "_is_among(raised[:, attribute], values)[~shown]", "_is_among(raised[:, attribute], values)",
        "Images that show it before the step are counted as won over: a direction that does nothing scores the "
        "attribute's own frequency.",
    ),
    _mutant(
        "steered-attribute-counted-as-kept", "evaluation/directions.attribute_directions",
        "raised[:, others] == before[:, others]", "raised == before",
        "The attribute that is meant to change is among those that are meant to stay.",
    ),
    _mutant(
        "one-value-for-several", "evaluation/directions.attribute_directions",
        "probabilities[attribute][:, list(values)].sum(1)", "probabilities[attribute][:, values[0]]",
        "Of several values that count as one only the first is read: the direction leads to that one alone.",
    ),
    _mutant(
        "read-beyond-white", "evaluation/directions.drawn_at",
        "gan.generator(points, **options).clamp(-1, 1)", "gan.generator(points, **options)",
        "The classifier is shown images brighter than white, which it has never seen and no screen can show.",
    ),
)  # fmt: skip

MUTANTS = RECORD + LIKELIHOOD + LEVELS + ATTRIBUTES + SAMPLES + DIRECTIONS
