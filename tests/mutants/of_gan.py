"""The mutants of `gan`: sizes and padding, where what is normalised, initialisation and clipping."""

from tests.mutants.mutant import OWN, Mutant

TESTS = ("tests/test_gan.py",)


def _mutant(name: str, function: str, old: str, new: str, story: str, source: str = OWN, **more) -> Mutant:
    return Mutant(name, "gan", function, old, new, story, source, more.pop("tests", TESTS), **more)


CONFIG = (
    _mutant(
        "odd-sides-let-in", "GANConfig.__post_init__",
        "or shape[1] < 2 * BASE or shape[1] % 2:", "or shape[1] < 2 * BASE:",
        "A side of 27 cannot be padded evenly to 32. It is let in, and the generator then gives images of 28.",
    ),
    _mutant(
        "list-of-json-kept", "GANConfig.__post_init__",
        'object.__setattr__(self, "image_shape", tuple(self.image_shape))  # JSON gives a list', "pass",
        "The shape comes back from a card as a list. No image's shape equals a list, so each is refused.",
    ),
    _mutant(
        "side-of-the-image-itself", "GANConfig.side",
        "return 1 << (self.image_shape[-1] - 1).bit_length()", "return self.image_shape[-1]",
        "Halved three times, 28 gives 3 and not 3.5: the discriminator's grids no longer meet the generator's.",
    ),
    _mutant(
        "all-of-the-padding-on-each-side", "GANConfig.margin",
        "return (self.side - self.image_shape[-1]) // 2", "return self.side - self.image_shape[-1]",
        "The whole difference is put on each side in place of one half: 28 pixels become 36.",
    ),
    _mutant(
        "channels-from-the-wrong-end", "GANConfig.channels",
        "return [min(finest << level, self.max_width) for level in range((self.side // BASE).bit_length() - 1)]",
        "return [min(finest << level, self.max_width) for level in range((self.side // BASE).bit_length() - 1)][::-1]",
        "The widest layers come at the finest grid, where each channel costs the most, and the coarse grids are thin.",
    ),
)  # fmt: skip

GENERATOR = (
    _mutant(
        "kernel-that-the-stride-does-not-divide", "Generator.__init__",
        "layers += [upsample(n_in, n_out), *_normalised",
        "layers += [nn.ConvTranspose2d(n_in, n_out, 3, stride=2, padding=1, output_padding=1), *_normalised",
        "A kernel of 3 with stride 2: neighbouring pixels are the sum of 1, 2 or 4 terms, which shows as a "
        "checkerboard.",
        bug=25,
    ),
    _mutant(
        "images-in-0-to-1", "Generator.__init__",
        "layers += [upsample(widths[-1], config.image_shape[0]), nn.Tanh()]",
        "layers += [upsample(widths[-1], config.image_shape[0]), nn.Sigmoid()]",
        "The data lie in [-1, 1] and the generator gives [0, 1]: nothing darker than the middle is ever drawn.",
    ),
    _mutant(
        "points-squeezed-into-the-unit-square", "Generator.__init__",
        "last = nn.Identity() if len(config.image_shape) == 1 else nn.Tanh()", "last = nn.Tanh()",
        "The tanh that images need is left on for points: a ring of radius 2 is out of reach.",
    ),
    _mutant(
        "generator-cropped-at-two-edges", "Generator.forward",
        "x[..., margin:-margin, margin:-margin]", "x[..., 2 * margin :, 2 * margin :]",
        "The border is cut off at the top and the left alone: images lie two pixels off the place where they were "
        "drawn, and at which the discriminator's padding puts the real ones.",
    ),
    _mutant(
        "any-latent-welcome", "Generator.forward",
        "if z.dim() != 2 or z.shape[1] != self.config.latent_dim:", "if z.shape[-1] != self.config.latent_dim:",
        "A single latent without a batch is let in, and fails later with a message about unflattening.",
    ),
    _mutant(
        "latents-of-uniform-noise", "GAN.draw",
        "z = torch.randn(n,", "z = torch.rand(n,",
        "One letter is missing: latents between 0 and 1. All walks between them stay in one corner.",
    ),
    _mutant(
        "latents-stay-on-the-processor", "GAN.draw",
        "return z.to(weight.device)", "return z",
        "The latents stay where their generator is. It works on a processor and stops on a graphics card.",
    ),
    _mutant(
        "seed-that-does-not-reach-the-draw", "GAN.sample",
        "return self.generator(self.draw(n, generator=generator))", "return self.generator(self.draw(n))",
        "The generator of random numbers is taken and not passed on: samples of one seed differ from call to call.",
    ),
    _mutant(
        "both-players-are-generators", "GAN.__init__",
        "self.discriminator = Discriminator(config)",
        "self.discriminator = nn.Sequential(self.generator, Discriminator(config))",
        "The discriminator holds the generator too, and its optimiser moves both players.",
    ),
)  # fmt: skip

DISCRIMINATOR = (
    _mutant(
        "sigmoid-before-a-loss-of-logits", "Discriminator.forward",
        "return self.head(self.features(x)).squeeze(1)", "return torch.sigmoid(self.head(self.features(x)).squeeze(1))",
        "The discriminator ends in a sigmoid, and its loss applies another: D(x) lies between 0.5 and 0.73, and no "
        "image can be called a fake.",
        "https://github.com/soumith/ganhacks/issues/67",
        bug=20,
    ),
    _mutant(
        "critic-that-ends-in-a-tanh", "Discriminator.__init__",
        "self.head = nn.Linear(features, 1)", "self.head = nn.Sequential(nn.Linear(features, 1), nn.Tanh())",
        "A critic's score is bounded, so that the distance it measures cannot exceed 2, however far the data are.",
        "https://arxiv.org/abs/1701.07875",
        bug=23,
    ),
    _mutant(
        "first-layer-normalised", "Discriminator.__init__",
        "between = _normalised(n_out, config.normalise_critic) if level else []",
        "between = _normalised(n_out, config.normalise_critic)",
        "BatchNorm at the discriminator's first layer removes the brightness and contrast of a batch before anything "
        "has looked at them.",
        "https://arxiv.org/abs/1511.06434",
    ),
    _mutant(
        "spectral-norm-of-the-convolutions-alone", "Discriminator.__init__",
        "if isinstance(layer, nn.Conv2d | nn.Linear):\n                    spectral_norm",
        "if isinstance(layer, nn.Conv2d):\n                    spectral_norm",
        "The last, linear layer is left out: one free layer is enough for the whole critic to have any slope.",
    ),
    _mutant(
        "padded-with-grey", "Discriminator.features",
        "value=-1.0", "value=0.0",
        "Padding with 0 is black for images in [0, 1] and grey for images in [-1, 1]: each image gets a frame.",
    ),
    _mutant(
        "resized-to-32", "Discriminator.features",
        "x = pad(x, (self.config.margin,) * 4, value=-1.0)", "x = interpolate(x, size=(self.config.side,) * 2)",
        "Images of 28 pixels are stretched to 32. Every eighth row is doubled, in the real images alone.",
    ),
    _mutant(
        "discriminator-takes-any-size", "Discriminator.features",
        "if x.shape[1:] != self.config.image_shape:", "if x.shape[1] != self.config.image_shape[0]:",
        "Only the channels are asked for. An image of another size fails in the last layer, with a message about "
        "matrices.",
    ),
)  # fmt: skip

BLOCKS = (
    _mutant(
        "up-block-without-its-second-rectifier", "UpBlock.__init__",
        "self.after = nn.Sequential(*_normalised(n_out, normalise), nn.ReLU())",
        "self.after = nn.Sequential(*_normalised(n_out, normalise))",
        "Two convolutions follow one another with nothing between them: together they are one.",
    ),
    _mutant(
        "up-block-without-its-skip", "UpBlock.forward",
        "return interpolate(self.skip(x), scale_factor=2.0) + inner", "return inner",
        "The path around the block is left out of the sum. The parameters are there, and get no gradient.",
    ),
    _mutant(
        "images-rectified-at-the-door", "DownBlock.__init__",
        "start = [] if first else [*_normalised", "start = [*_normalised",
        "The first block begins with a rectifier, as all others do. It acts on the image: dark pixels lose four fifths "
        "of their value.",
    ),
    _mutant(
        "one-path-not-averaged", "DownBlock.forward",
        "avg_pool2d(self.inner(x), 2) + self.skip", "self.inner(x)[..., ::2, ::2] + self.skip",
        "Three of four pixels are dropped in place of being averaged: what stands on them is not seen.",
    ),
    _mutant(
        "hidden-layers-of-the-wrong-number", "_dense",
        "for _ in range(depth):", "for _ in range(depth - 1):",
        "One hidden layer is missing: range is taken to include its end.",
    ),
    _mutant(
        "batchnorm-everywhere", "_normalised",
        'if kind == "batch" else []', 'if kind != "spectral" else []',
        "BatchNorm stands where none was asked for, and a gradient penalty then mixes the images of a batch.",
        "https://github.com/Zeleni9/pytorch-wgan/issues/40",
    ),
)  # fmt: skip

WEIGHTS = (
    _mutant(
        "scale-of-batchnorm-around-0", "initialise",
        "nn.init.normal_(layer.weight, 1.0, std)", "nn.init.normal_(layer.weight, 0.0, std)",
        "All parameters start at N(0, 0.02), the scale of BatchNorm with them. It is a factor: each layer passes on a "
        "fiftieth, with a random sign.",
        "https://github.com/pytorch/examples/issues/516",
        bug=24,
    ),
    _mutant(
        "variance-for-deviation", "initialise",
        "nn.init.normal_(layer.weight, 0.0, std)", "nn.init.normal_(layer.weight, 0.0, std**2)",
        "The paper's 0.02 is a standard deviation and is squared: the weights start fifty times too small.",
        "https://arxiv.org/abs/1511.06434",
    ),
    _mutant(
        "clipped-with-batchnorm", "clip_weights",
        "critic.modules():\n        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):",
        "critic.modules():\n        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.BatchNorm2d):",
        "All parameters are clipped, BatchNorm's scale with them: at 0.01 each layer passes on a hundredth.",
        "https://arxiv.org/abs/1701.07875",
        bug=23,
    ),
    _mutant(
        "clipped-from-above-alone", "clip_weights",
        "parameter.clamp_(-bound, bound)", "parameter.clamp_(max=bound)",
        "Only large positive weights are clipped. The critic reaches any slope with negative ones.",
    ),
)  # fmt: skip

MUTANTS = CONFIG + GENERATOR + DISCRIMINATOR + BLOCKS + WEIGHTS
