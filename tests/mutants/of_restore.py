"""The mutants of `restore`: restorers that give no image, are not shown the mask, or look at what is hidden."""

from tests.mutants.mutant import OWN, Mutant

TESTS = ("tests/test_restore.py",)
DNCNN = "https://arxiv.org/abs/1608.03981"
PATCHES = "https://arxiv.org/abs/1611.07004"
UNET = "https://arxiv.org/abs/1505.04597"


def _mutant(name: str, function: str, old: str, new: str, story: str, source: str = OWN, **more) -> Mutant:
    return Mutant(name, "restore", function, old, new, story, source, TESTS, **more)


MUTANTS = (
    _mutant(
        "restorer-that-returns-a-number", "Estimator.estimated",
        "return estimate if exact is None", "return estimate.mean((1, 2, 3)) if exact is None",
        "The restoration model is a discriminator: it says how good an image is, and gives none back.",
        bug=33,
    ),
    _mutant(
        "noise-returned-for-the-image", "Estimator.estimated",
        "estimate = start - self.body(", "estimate = self.body(",
        "The network's output is taken for the image. It has to carry the whole image through all layers, and starts "
        "with a grey one.",
        DNCNN,
    ),
    _mutant(
        "noise-put-on-twice", "Estimator.estimated",
        "estimate = start - self.body(", "estimate = start + self.body(",
        "The predicted noise is added and not taken off. Trained so, the network learns the other sign; with weights "
        "that were trained to predict the noise the image gets worse.",
        DNCNN,
    ),
    _mutant(
        "mask-left-out-of-the-input", "Estimator.estimated",
        "*(part.to(y) for part in (known, sigma)",
        "*(part.to(y) * 0 + 1 if part is known else part for part in (known, sigma)",
        "The network is never shown the mask: it has to guess whether a grey pixel is grey or missing.",
        "https://github.com/DmitryUlyanov/deep-image-prior/issues/72", bug=34,
    ),
    _mutant(
        "restorer-that-sees-behind-the-mask", "Estimator.estimated",
        "start = y if known is None else torch.where(known, y, 0.0)", "start = y",
        "What y holds behind the mask is shown to the network. Where that is the clean image, the test is passed by "
        "copying.",
    ),
    _mutant(
        "known-pixels-redrawn", "Estimator.estimated",
        "else torch.where(exact, y, estimate)", "else estimate",
        "The network's output is taken everywhere, also where the measurement was without noise. Known pixels drift, "
        "and the seam that remains is hidden from view.",
    ),
    _mutant(
        "noise-copied-back", "Estimator.estimated",
        "else known & (sigma == 0)", "else known",
        "Known pixels are copied whatever the noise, as a noiseless inpainter's are: the noise that was to be taken "
        "off stays, to the bit.",
    ),
    _mutant(
        "restored-inside-out", "Estimator.estimated",
        "torch.where(exact, y, estimate)", "torch.where(exact, estimate, y)",
        "The mask is turned round in the last line: the hole stays, and the rest is drawn anew.",
        "https://github.com/opencv/opencv_contrib/issues/2098",
    ),
    _mutant(
        "noise-level-of-the-first-image", "Estimator.forward",
        "sigma = sigma.reshape(-1, 1, 1, 1).expand(", "sigma = sigma.reshape(-1, 1, 1, 1)[:1].expand(",
        "One noise level is told for the whole batch. Trained so, the network learns to ignore it.",
        "https://arxiv.org/abs/1710.04026",
    ),
    _mutant(
        "enlarged-by-repetition", "Estimator.estimated",
        'mode="bicubic")', 'mode="nearest")',
        "The network starts from blocks in place of the bicubic image that it is compared with.",
        "https://arxiv.org/abs/1511.04587",
    ),
    _mutant(
        "restorer-that-starts-at-random", "Estimator.__init__",
        "nn.init.zeros_(last.weight)", "nn.init.normal_(last.weight, 0.0, 0.1)",
        "The last layer starts at random: a new restorer adds noise of its own, and the first steps go into that.",
    ),
    _mutant(
        "denoiser-of-one-block", "Estimator.__init__",
        "_blocks(width, config.blocks), nn.SiLU()", "_blocks(width, 1), nn.SiLU()",
        "The depth is written into the network: the config says 8 blocks, and 1 is built.",
    ),
    _mutant(
        "restorer-without-its-critic", "Restorer.__init__",
        "if config.critic_width else None", "if config.critic_layers else None",
        "A critic is built though none was asked for, and shipped with every model.",
    ),
    _mutant(
        "restorer-that-forgets-the-noise-level", "Restorer.forward",
        "return self.estimator(y, known, sigma)", "return self.estimator(y, known, 0.0 if self.config.noise else None)",
        "The noise level is not handed on: every image is taken for clean.",
    ),
    _mutant(
        "known-of-numbers", "Estimator._check",
        "if known.dtype != torch.bool:", "if known.dtype is None:",
        "A mask of numbers is let in: where it is 0.5, a pixel is known, and the channel says half.",
    ),
    _mutant(
        "page-with-another-network", "RestoredPixels.__init__",
        "self.model = model.estimator", "self.model = Estimator(model.config)",
        "What is exported is a new network of the same sizes: the page returns what was put in.",
    ),
    _mutant(
        "page-with-the-mask-turned-round", "RestoredPixels.forward",
        "known > 0.5", "known < 0.5",
        "The page says 1 where a pixel is seen, and the network takes 1 for a hole.",
        "https://github.com/opencv/opencv_contrib/issues/2098",
    ),
    _mutant(
        "page-in-another-unit", "RestoredPixels.forward",
        "x.add(1.0).mul(0.5).clamp(0.0, 1.0)", "x.clamp(0.0, 1.0)",
        "The page takes [-1, 1] for [0, 1]: all that is darker than grey is black.",
    ),
    _mutant(
        "export-that-is-tried-on-nothing-hidden", "RestoredPixels.examples",
        '(torch.arange(width) < width // 2)', '(torch.arange(width) < width)',
        "The export is compared with PyTorch where nothing is hidden: both return y, whatever the network does.",
    ),
    _mutant(
        "side-that-cannot-be-halved", "RestorerConfig.__post_init__",
        'if shape[1] % step or shape[2] % step:', 'if shape[1] % step:',
        "Only the height is looked at. Images of an odd width fail in the middle of the network, with shapes that "
        "nobody wrote.",
    ),
    _mutant(
        "patch-of-the-layers-alone", "RestorerConfig.patch",
        "[(4, 2, 1)] * self.critic_layers + [(3, 1, 1)]", "[(4, 2, 1)] * self.critic_layers",
        "The last convolution is forgotten: patches are said to be 10 pixels wide, and are 18.",
        PATCHES,
    ),
    _mutant(
        "unet-of-one-width", "UNet.__init__",
        "pairwise(width << level for", "pairwise(width for",
        "Coarse resolutions have no more channels than fine ones, and what is lost in places is not gained in them.",
        UNET,
    ),
    _mutant(
        "places-on-the-first-scale-only", "UNet.forward",
        "x = self.middle(x + places[-1])", "x = self.middle(x)",
        "The coarsest map is made, stored and counted, and never added: what decides where a face has its mouth gets "
        "no place.",
    ),
    _mutant(
        "unet-without-its-skips", "UNet.forward",
        "torch.cat([up(x), kept.pop()], 1)", "torch.cat([up(x), up(x)], 1)",
        "What a resolution held on the way down is thrown away: every edge has to pass through the coarsest grid.",
        UNET,
    ),
    _mutant(
        "critic-as-wide-as-its-first-layer", "PatchDiscriminator.__init__",
        "n_out = config.critic_width << level", "n_out = config.critic_width",
        "All layers have the first one's channels.",
        PATCHES,
    ),
    _mutant(
        "patches-squashed", "PatchDiscriminator.forward",
        "return self.body(x).squeeze(1)", "return self.body(x).squeeze(1).sigmoid()",
        "The critic ends in a sigmoid, and a loss that takes logits puts another on top: its gradients fade.",
        "https://github.com/soumith/ganhacks/issues/67",
    ),
    _mutant(
        "one-block-everywhere", "_blocks",
        "for _ in range(n)", "for _ in range(min(n, 1))",
        "However many blocks are asked for, there is one.",
    ),
)  # fmt: skip
