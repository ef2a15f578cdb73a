"""The mutants of `stylegan`: its operators, the generator that is told its style, and its critic."""

from tests.mutants.mutant import OWN, Mutant

OPERATORS = ("tests/test_stylegan_operators.py",)
NETWORKS = ("tests/test_stylegan.py",)
STYLES = ("tests/test_stylegan_styles.py",)


def _mutant(name: str, function: str, old: str, new: str, story: str, source: str = OWN, **more) -> Mutant:
    part, function = function.split("/")
    tests = more.pop("tests", OPERATORS if part == "operators" else NETWORKS)
    return Mutant(name, f"stylegan/{part}", function, old, new, story, source, tests, **more)


EQUALISED = (
    _mutant(
        "weights-scaled-once-at-the-start", "operators/EqualLinear.__init__",
        "self.scale, self.rate = rate / math.sqrt(n_in), rate",
        "self.weight.data.mul_(rate / math.sqrt(n_in))\n        self.scale, self.rate = 1.0, rate",
        "The scale is put into the first weights and not applied on each call. The layer starts the same, and Adam's "
        "step is the same for all weights, which now differ in scale.",
        "https://github.com/rosinality/style-based-gan-pytorch/issues/75",
    ),
    _mutant(
        "slow-layers-start-small", "operators/EqualLinear.__init__",
        "torch.randn(n_out, n_in) / rate", "torch.randn(n_out, n_in)",
        "The weights are not drawn larger by as much as the rate makes them smaller: four layers of rate 0.01 pass on "
        "a hundred-millionth of z.",
        "https://arxiv.org/abs/1812.04948",
    ),
    _mutant(
        "bias-at-the-full-rate", "operators/EqualLinear.forward",
        "self.bias * self.rate", "self.bias",
        "The multiple is applied to the weights alone: the biases of the mapping learn a hundred times as fast.",
    ),
    _mutant(
        "inputs-counted-without-the-kernel", "operators/EqualConv2d.__init__",
        "self.scale = 1 / math.sqrt(n_in * kernel**2)", "self.scale = 1 / math.sqrt(n_in)",
        "A 3 x 3 kernel adds up nine numbers of each channel. Only the channels are counted, and each layer makes its "
        "input three times as large.",
    ),
    _mutant(
        "thinned-out-without-a-filter", "operators/EqualConv2d.forward",
        "filtered(x, pad=(2, 2)),", "nn.functional.pad(x, (1, 0, 1, 0)),",
        "The stride drops three of four pixels and nothing has blurred them: fine stripes come out as broad ones, and "
        "an image moved by one pixel gives other numbers.",
        "https://arxiv.org/abs/1904.11486",
    ),
    _mutant(
        "shortcut-looks-at-one-pixel-of-four", "operators/EqualConv2d.forward",
        "return conv2d(filtered(x, down=2), self.weight", "return conv2d(x[..., ::2, ::2], self.weight",
        "The shortcut takes the first pixel of each four in place of their filtered value, half a pixel off the path "
        "beside it.",
    ),
    _mutant(
        "rectifier-without-its-gain", "operators/activated",
        "return leaky_relu(x, LEAK).mul_(math.sqrt(2))", "return leaky_relu(x, LEAK)",
        "The rectifier takes half of the variance and nothing gives it back: after eight layers a sixteenth of the "
        "deviation is left.",
        "https://github.com/NVlabs/stylegan2-ada-pytorch/issues/95",
    ),
)  # fmt: skip

RESAMPLED = (
    _mutant(
        "three-of-four-pixels-are-0", "operators/filtered",
        "(up * math.sqrt(gain) /", "(math.sqrt(gain) /",
        "The filter's gain does not make up for the zeros between the pixels: each grid is a quarter as bright.",
        "https://github.com/NVlabs/stylegan2-ada-pytorch/issues/95",
    ),
    _mutant(
        "image-moves-at-each-grid", "operators/filtered",
        "stride=2, padding=1, groups=channels)", "stride=2, padding=0, groups=channels)[..., 2:, 2:]",
        "Both pixels too many are cut off at the top and left: the image moves by a pixel at each doubling, away from "
        "what the layers beside it draw.",
    ),
    _mutant(
        "halved-off-the-middle", "operators/filtered",
        "pad = (1, 2) if down == 1 else (1, 1)", "pad = (1, 2) if down == 1 else (2, 0)",
        "The margin is put on one side: the size is right, and each halving moves the image by a pixel.",
    ),
)  # fmt: skip

MODULATED = (
    _mutant(
        "demodulation-left-out", "operators/modulated_conv2d",
        "factor = demodulation(weight, style) if demodulate else None", "factor = None",
        "The kernels are scaled by the style and never scaled back: the output's size is a product of all the styles "
        "before it.",
        "https://arxiv.org/abs/1912.04958",
        bug=27,
    ),
    _mutant(
        "demodulated-all-channels-alike", "operators/demodulation",
        "weight.square().sum((2, 3)).T", "weight.square().sum((2, 3)).mean(0, keepdim=True).T",
        "The squares are averaged over the output channels too, so that all of an image's channels get one factor: "
        "right on average, and right for none.",
        "https://arxiv.org/abs/1912.04958",
        bug=27,
    ),
    _mutant(
        "demodulated-over-the-batch", "operators/demodulation",
        "style.square() @ weight", "style.square().mean(0, keepdim=True).expand_as(style) @ weight",
        "The style's size is taken over the whole batch: an image hangs on the images that it is drawn with.",
        "https://github.com/NVlabs/stylegan3/issues/46",
        bug=27,
    ),
    _mutant(
        "demodulated-by-the-variance", "operators/demodulation",
        "return torch.rsqrt(", "return torch.reciprocal(",
        "Divided by the variance in place of the deviation: large outputs become small ones.",
    ),
    _mutant(
        "one-style-for-all-images", "operators/modulated_conv2d",
        "_convolved(x * style[:, :, None, None]", "_convolved(x * style[:1, :, None, None]",
        "One kernel serves all images, and so does the first one's style.",
    ),
    _mutant(
        "kernels-scaled-and-inputs-too", "operators/modulated_conv2d",
        "x = x.reshape(1, batch * channels, height, width)",
        "x = (x * style[:, :, None, None]).reshape(1, batch * channels, height, width)",
        "In the form with one kernel an image, the inputs are scaled as in the other form: the style counts twice.",
    ),
    _mutant(
        "enlarged-at-a-quarter", "operators/modulated_conv2d",
        "pad=(2 - kernel // 2,) * 2, gain=4)", "pad=(2 - kernel // 2,) * 2)",
        "A transposed convolution spreads each pixel over four. Without the factor of 4 each new grid starts at a "
        "quarter of the size that its noise and bias are made for.",
        "https://github.com/NVlabs/stylegan2-ada-pytorch/issues/95",
    ),
    _mutant(
        "kernel-mirrored-where-it-enlarges", "operators/_convolved",
        ".flatten(0, 1).flip((2, 3))", ".flatten(0, 1)",
        "A transposed convolution applies its kernel the other way round, and it is not turned: one weight means two "
        "things in two layers. Both forms agree, so that comparing them shows nothing.",
    ),
)  # fmt: skip

SPREAD = (
    _mutant(
        "spread-told-to-another-group", "operators/with_spread",
        "spread.repeat(size)", "spread.repeat_interleave(size)",
        "The groups are made by taking every n-th image, and their numbers handed out to neighbours: most images are "
        "told how much the images of another group differ.",
        "https://github.com/facebookresearch/pytorch_GAN_zoo/issues/69",
    ),
    _mutant(
        "square-where-the-root-belongs", "operators/with_spread",
        "+ EPSILON).sqrt()", "+ EPSILON).square()",
        "The variance is squared: images a tenth apart have a spread of a ten-thousandth, which nothing can see.",
        "https://github.com/GANs-in-Action/gans-in-action/issues/8",
    ),
    _mutant(
        "spread-of-each-place", "operators/with_spread",
        "spread.repeat(size)[:, None, None, None].expand(-1, 1, height, width)",
        "(groups.var(0, unbiased=False) + EPSILON).sqrt().mean(1, keepdim=True).repeat(size, 1, 1, 1)",
        "The deviation is averaged over the channels and kept for each place, where the paper has one number.",
        "https://github.com/akanimax/pro_gan_pytorch/issues/9",
    ),
    _mutant(
        "group-that-does-not-divide", "operators/with_spread",
        "size = max(n for n in range(1, min(group, batch) + 1) if batch % n == 0)", "size = min(group, batch)",
        "The last batch of a data set need not be a multiple of the group, and the reshaping fails.",
        "https://github.com/rosinality/stylegan2-pytorch/issues/124",
    ),
)  # fmt: skip

CONFIG = (
    _mutant(
        "sides-that-no-doubling-reaches", "networks/StyleGANConfig.__post_init__",
        "if shape[1] < 2 * BASE or shape[1] & (shape[1] - 1):", "if shape[1] < 2 * BASE:",
        "A side of 48 is let in. Doubling 4 gives 32 and then 64, and the images are of another size than the data.",
    ),
    _mutant(
        "last-grid-forgotten", "networks/StyleGANConfig.grids",
        "- BASE.bit_length() + 1", "- BASE.bit_length()",
        "The steps between the grids are counted in place of the grids: images come out at half of their side.",
    ),
    _mutant(
        "styles-without-the-last-images", "networks/StyleGANConfig.layers",
        "return 2 * self.grids", "return 2 * self.grids - 1",
        "The convolutions are counted and the layer that makes the image is not: it has no style left.",
    ),
    _mutant(
        "widest-at-the-finest-grid", "networks/StyleGANConfig.channels",
        "for level in reversed(range(self.grids))]", "for level in range(self.grids)]",
        "The widest layers come at the finest grid, where each channel costs the most, and the coarse grids are thin.",
    ),
)  # fmt: skip

MAPPING = (
    _mutant(
        "latent-of-length-1", "networks/normalised",
        "z.square().mean(1, keepdim=True)", "z.square().sum(1, keepdim=True)",
        "The latent is given the length 1 and not the root of D. Its numbers are a tenth of what the layers take them "
        "to be, w is as small, and so all styles start near 1: the images hardly differ.",
        "https://arxiv.org/abs/1812.04948",
        tests=STYLES, bug=26,
    ),
    _mutant(
        "latents-normalised-over-the-batch", "networks/normalised",
        "z.square().mean(1, keepdim=True)", "z.square().mean(0, keepdim=True)",
        "The mean is taken over the wrong axis: a latent's w hangs on the other latents, and a single one becomes a "
        "row of signs.",
        "https://github.com/orpatashnik/StyleCLIP/issues/82",
        tests=STYLES,
    ),
    _mutant(
        "latents-as-they-come", "networks/Mapping.forward",
        "w = normalised(z)", "w = z",
        "The latent is not normalised: its length, which says nothing, sets the size of w.",
        tests=STYLES,
    ),
    _mutant(
        "mapping-at-the-full-rate", "networks/Mapping.__init__",
        "EqualLinear(size, size, rate=config.mapping_rate)", "EqualLinear(size, size)",
        "The mapping learns at the rate of all other layers. Its errors are passed on by each of them: the paper makes "
        "it a hundredth.",
        "https://github.com/lucidrains/stylegan2-pytorch/issues/84",
        tests=STYLES,
    ),
)  # fmt: skip

LAYER = (
    _mutant(
        "one-strength-for-all-channels", "networks/StyleLayer.__init__",
        "self.strength = nn.Parameter(torch.zeros(n_out))", "self.strength = nn.Parameter(torch.zeros(1))",
        "The noise has one strength for all channels of a layer, as in the code of StyleGAN2, where the paper of 2019 "
        "and this package have one for each: what draws hair cannot have noise without what draws the chin.",
        "https://github.com/rosinality/stylegan2-pytorch/issues/83",
        tests=STYLES, bug=27,
    ),
    _mutant(
        "noise-that-learns-nothing", "networks/StyleLayer.__init__",
        "self.strength = nn.Parameter(torch.zeros(n_out))", 'self.register_buffer("strength", torch.ones(n_out))',
        "The noise's strength is a constant. Where the image needs none, the layers must learn to undo it.",
        "https://github.com/rosinality/stylegan2-pytorch/issues/38",
        tests=STYLES, bug=27,
    ),
    _mutant(
        "style-around-0", "networks/StyleLayer.__init__",
        "start=1.0)\n        self.weight = nn.Parameter(torch.randn(n_out, n_in, 3, 3))",
        "start=0.0)\n        self.weight = nn.Parameter(torch.randn(n_out, n_in, 3, 3))",
        "The style starts around 0 and not 1: half of the channels come in with their sign turned, in each image "
        "others.",
        tests=STYLES,
    ),
    _mutant(
        "noise-at-full-strength", "networks/StyleLayer.forward",
        "torch.addcmul(shift, self.strength[:, None, None], noise)", "shift + noise",
        "The noise is added as it is drawn, as large as the layer's own output. Its learned strength is left out.",
        "https://github.com/rosinality/stylegan2-pytorch/issues/38",
        tests=STYLES, bug=27,
    ),
    _mutant(
        "layer-without-its-rectifier", "networks/StyleLayer.forward",
        "return activated(x.add_(shift))", "return x.add_(shift)",
        "Nothing stands between the convolutions: but for the style, an image is a linear function of one constant.",
        tests=STYLES,
    ),
    _mutant(
        "image-layer-not-equalised", "networks/ToImage.__init__",
        "self.scale = 1 / math.sqrt(n_in)", "self.scale = 1.0",
        "The weights towards the image are used as they are drawn: from 128 channels, images are eleven times too "
        "large at the start.",
        tests=STYLES,
    ),
    _mutant(
        "image-demodulated", "networks/ToImage.forward",
        "self.style(w), demodulate=False)", "self.style(w))",
        "The layer that makes the image is demodulated as all others are: its style can no longer say how bright or "
        "colourful a grid's image is.",
        "https://github.com/lucidrains/gigagan-pytorch/issues/33",
        tests=STYLES,
    ),
)  # fmt: skip

SYNTHESIS = (
    _mutant(
        "kept-noise-of-zeros", "networks/Synthesis.__init__",
        'self.register_buffer(f"noise_{layer}", torch.randn(1, 1, side, side))',
        'self.register_buffer(f"noise_{layer}", torch.zeros(1, 1, side, side))',
        "The noise that is kept for repeatable images is empty, and they lack what the layers were trained with.",
        tests=STYLES,
    ),
    _mutant(
        "image-with-the-style-before", "networks/Synthesis.forward",
        "self.to_image[grid](x, ws[:, second + 1])", "self.to_image[grid](x, ws[:, second])",
        "Each image takes the style of the convolution before it, and not the next one's: the last style has no "
        "effect, and a w per layer taken from another program draws another picture.",
        "https://github.com/OmerKafri/StyleFusion/issues/6",
        tests=STYLES,
    ),
    _mutant(
        "grids-share-a-style", "networks/Synthesis.forward",
        "inner = self.body[first](x, ws[:, first],", "inner = self.body[first](x, ws[:, second],",
        "The two layers of a grid take the same style, and every other one is never used.",
        tests=STYLES,
    ),
    _mutant(
        "images-of-coarse-grids-dropped", "networks/Synthesis.forward",
        "image = filtered(image, up=2) + self.to_image", "image = self.to_image",
        "Only the last grid's image is shown. The layers that make the others are there, and get no gradient.",
        "https://arxiv.org/abs/1912.04958",
    ),
    _mutant(
        "residual-sum-not-halved", "networks/Synthesis.forward",
        "+ inner) / math.sqrt(2)", "+ inner)",
        "Two paths of variance 1 are added and their sum kept: the variance doubles at each grid.",
        "https://arxiv.org/abs/1912.04958",
        tests=STYLES,
    ),
    _mutant(
        "one-style-noise-for-the-batch", "networks/Synthesis._noise",
        "*kept.shape[1:])", "*kept.shape[1:])\n        shape = kept.shape",
        "The noise is drawn once and shared by the batch: all of its images have the same freckles.",
        tests=STYLES,
    ),
    _mutant(
        "seed-that-does-not-reach-the-noise", "networks/Synthesis._noise",
        "torch.randn(shape, generator=generator,", "torch.randn(shape,",
        "The generator of random numbers is taken and not passed on: images of one seed differ from call to call.",
        tests=STYLES,
    ),
)  # fmt: skip

STYLE = (
    _mutant(
        "mean-of-w-lost-on-saving", "networks/Generator.__init__",
        'self.register_buffer("w_mean", torch.zeros(config.latent_dim))',
        'self.register_buffer("w_mean", torch.zeros(config.latent_dim), persistent=False)',
        "The mean of w is not saved with the weights. A generator that is loaded has 0 for it, and truncates towards "
        "that.",
        "https://github.com/eladrich/pixel2style2pixel/issues/183",
    ),
    _mutant(
        "truncated-towards-0", "networks/Generator.styles",
        "self.w_mean + truncation * (ws - self.w_mean)", "truncation * ws",
        "w is scaled towards 0, where no face lies, in place of the mean of w.",
        "https://arxiv.org/abs/1812.04948",
        tests=STYLES, bug=28,
    ),
    _mutant(
        "z-truncated", "networks/Generator.styles",
        "self.w_mean + truncation * (ws - self.w_mean)",
        "self.mapping(truncation * z)[:, None].expand(-1, layers, -1)",
        "It is z that is scaled, towards 0. The mapping gives it back its length: psi does nothing down to 0, where "
        "all is lost.",
        "https://arxiv.org/abs/1812.04948",
        tests=STYLES, bug=28,
    ),
    _mutant(
        "psi-that-does-nothing", "networks/Generator.styles",
        "return ws if truncation == 1 else self.w_mean", "return ws if True else self.w_mean",
        "The argument is taken, and no line uses it: all values of psi give the same images.",
        "https://github.com/lucidrains/lightweight-gan/issues/51",
        tests=STYLES,
    ),
    _mutant(
        "mixes-z-and-not-w", "networks/Generator.styles",
        "ws = mixed(w, other, cut, layers)",
        "blend = torch.cat([z[:, ::2], torch.randn(z.shape, **draw).to(z)[:, 1::2]], 1)\n"
        "                ws = mixed(w, self.mapping(blend), cut, layers)",
        "Two latents' halves are put together before the mapping. That is a third latent, as likely as both, and the "
        "layers learn nothing about mixing.",
        "https://arxiv.org/abs/1812.04948",
        tests=STYLES, bug=27,
    ),
    _mutant(
        "mixed-outside-of-training", "networks/Generator.styles",
        "if self.training:", "if torch.is_tensor(z):",
        "Style mixing, a means of training, goes on: nine in ten samples are of two latents, one of which was never "
        "asked for, and the mean of w moves with what one looks at.",
        tests=STYLES,
    ),
    _mutant(
        "share-turned-round", "networks/Generator.styles",
        "< self.config.mixing, cut, layers)", "> self.config.mixing, cut, layers)",
        "The share of 0.9 is left unmixed, and a tenth is mixed.",
        tests=STYLES,
    ),
    _mutant(
        "first-style-cut-off", "networks/Generator.styles",
        "torch.randint(1, layers,", "torch.randint(0, layers,",
        "The cut may fall before the first layer: a share of the images is of the other latent alone, and their own "
        "z has no effect.",
        tests=STYLES,
    ),
    _mutant(
        "mean-of-the-last-batch", "networks/Generator.styles",
        "1 - self.config.w_decay", "self.config.w_decay",
        "The decay and its rest are exchanged: the mean of w is little more than that of the last batch.",
        tests=STYLES,
    ),
    _mutant(
        "psi-not-handed-on", "networks/Generator.forward",
        "self.styles(z, truncation=truncation, generator=generator)", "self.styles(z, generator=generator)",
        "A call of the generator takes psi, and draws without it.",
        "https://github.com/lucidrains/lightweight-gan/issues/51",
        tests=STYLES,
    ),
    _mutant(
        "cut-one-layer-late", "networks/mixed",
        "before = layer < torch", "before = layer <= torch",
        "The layer at the cut still takes the first style: a cut at 0 mixes one of the wrong face in.",
        tests=STYLES,
    ),
)  # fmt: skip

CRITIC = (
    _mutant(
        "critic-thins-out-first", "networks/CriticBlock.__init__",
        "self.first = EqualConv2d(n_in, n_in, 3)\n        self.second = EqualConv2d(n_in, n_out, 3, stride=2)",
        "self.first = EqualConv2d(n_in, n_in, 3, stride=2)\n        self.second = EqualConv2d(n_in, n_out, 3)",
        "A block's first convolution halves the grid: the finest details are gone before anything has looked at them.",
    ),
    _mutant(
        "critic-without-its-shortcuts", "networks/CriticBlock.forward",
        "return (inner + self.shortcut(x)) / math.sqrt(2)", "return inner",
        "The path around the block is left out of the sum. Its parameters are there, and get no gradient.",
    ),
    _mutant(
        "critics-sum-not-halved", "networks/CriticBlock.forward",
        "(inner + self.shortcut(x)) / math.sqrt(2)", "inner + self.shortcut(x)",
        "Two paths of variance 1 are added and their sum kept: the variance doubles at each grid.",
        "https://arxiv.org/abs/1912.04958",
    ),
    _mutant(
        "critic-widest-at-the-finest-grid", "networks/Discriminator.__init__",
        "config.channels(config.critic_width)[::-1]", "config.channels(config.critic_width)",
        "The channels are those of the generator, in its order: the critic begins with its widest layers.",
    ),
    _mutant(
        "critic-blind-to-a-collapse", "networks/Discriminator.features",
        ", self.config.group)", ", 1)",
        "Groups of one image do not differ. The critic judges each image alone, and one good image is good enough.",
        "https://github.com/lucidrains/stylegan2-pytorch/issues/93",
    ),
    _mutant(
        "images-read-without-a-rectifier", "networks/Discriminator.features",
        "self.body(activated(self.from_image(x)))", "self.body(self.from_image(x))",
        "No rectifier stands behind the layer that reads the image. On the shortcuts nothing bends before the end.",
        "https://github.com/akanimax/pro_gan_pytorch/issues/53",
    ),
    _mutant(
        "style-critic-that-ends-in-a-sigmoid", "networks/Discriminator.forward",
        "return self.head(self.features(x)).squeeze(1)", "return self.head(self.features(x)).squeeze(1).sigmoid()",
        "The critic gives a probability, and its loss takes it for a logit.",
    ),
)  # fmt: skip

PAIR = (
    _mutant(
        "critic-that-owns-the-generator", "networks/StyleGAN.__init__",
        "self.discriminator = Discriminator(config)",
        "self.discriminator = Discriminator(config)\n        self.discriminator.player = self.generator",
        "The critic keeps the generator as a part of itself, and its optimiser moves both players.",
    ),
    _mutant(
        "style-latents-of-uniform-noise", "networks/StyleGAN.draw",
        "return torch.randn(n, self.config.latent_dim", "return torch.rand(n, self.config.latent_dim",
        "One letter is missing: latents between 0 and 1. All of them point into one corner.",
    ),
    _mutant(
        "samples-with-other-noise", "networks/StyleGAN.sample",
        "truncation=truncation, noise=noise, generator=generator)", "truncation=truncation, generator=generator)",
        "The wish for fixed noise is not passed on: one latent gives another image at each call.",
    ),
)  # fmt: skip

MUTANTS = (
    EQUALISED + RESAMPLED + MODULATED + SPREAD + CONFIG + MAPPING + LAYER + SYNTHESIS + STYLE + CRITIC + PAIR
)
