"""The mutants of `layers`: sizes that do not fit, checkerboards, and blocks that do not start as they say."""

from tests.mutants.mutant import OWN, Mutant

TESTS = ("tests/test_layers.py", "tests/test_convolutions_derivation.py")


def _mutant(name: str, function: str, old: str, new: str, story: str, source: str = OWN, **more) -> Mutant:
    return Mutant(name, "layers", function, old, new, story, source, more.pop("tests", TESTS), **more)


SIZES = (
    _mutant(
        "conv-size-one-too-few", "conv_size",
        "(size + 2 * padding - reach) // stride + 1", "(size + 2 * padding - reach) // stride",
        "The windows are counted by their distances: a fence of n fields has n + 1 posts. A layer meant to keep 16 "
        "pixels is planned as 15, and the planned network does not fit the built one.",
        bug=25, equation="conv-size",
    ),
    _mutant(
        "conv-size-rounded-up", "conv_size",
        "(size + 2 * padding - reach) // stride + 1", "-((reach - size - 2 * padding) // stride) + 1",
        "The division is rounded up, as for a pooling with ceil_mode: right for even sizes, one too many for odd ones.",
        equation="conv-size",
    ),
    _mutant(
        "padding-at-one-end", "conv_size",
        "(size + 2 * padding - reach)", "(size + padding - reach)",
        "Padding is added at both ends, but counted once.",
        bug=25, equation="conv-size",
    ),
    _mutant(
        "dilation-not-counted", "conv_size",
        "reach = dilation * (kernel - 1) + 1", "reach = kernel",
        "The reach of the kernel is its number of weights, whatever lies between them.",
        equation="conv-size",
    ),
    _mutant(
        "dilation-times-the-kernel", "conv_size",
        "reach = dilation * (kernel - 1) + 1", "reach = dilation * kernel",
        "The gap behind the last weight is counted too. With dilation 1 nobody notices.",
        equation="conv-size",
    ),
    _mutant(
        "an-empty-output-passes", "conv_size",
        "if size + 2 * padding < reach:", "if size + 2 * padding < reach - stride:",
        "A kernel wider than its input gives a size of 0, which the next layer then takes as its input.",
    ),
    _mutant(
        "output-padding-ignored", "transposed_size",
        "1 - 2 * padding + output_padding", "1 - 2 * padding",
        "The up-convolution is planned without its output padding: 15 x 15 where 16 x 16 was meant.",
        "https://github.com/pytorch/pytorch/issues/70518",
        bug=25, equation="conv-transposed-size",
    ),
    _mutant(
        "transposed-size-that-only-multiplies", "transposed_size",
        "(size - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding", "size * stride - 2 * padding",
        "An up-convolution of stride 2 is said to double the size. It does so for one choice of kernel and padding "
        "alone.",
        "https://github.com/pytorch/pytorch/issues/70518",
        bug=25, equation="conv-transposed-size",
    ),
    _mutant(
        "padding-added-by-the-transpose", "transposed_size",
        "(kernel - 1) + 1 - 2 * padding", "(kernel - 1) + 1 + 2 * padding",
        "Padding makes the output of a convolution larger, so it is thought to do the same here. It is that of the "
        "convolution which is transposed: it is cut off.",
        bug=25, equation="conv-transposed-size",
    ),
    _mutant(
        "last-copy-forgotten", "transposed_size",
        "(size - 1) * stride + dilation * (kernel - 1) + 1", "(size - 1) * stride + dilation * (kernel - 1)",
        "The last value lies at the position that is counted, and not before it.",
        bug=25, equation="conv-transposed-size",
    ),
    _mutant(
        "any-output-padding", "transposed_size",
        "if not 0 <= output_padding < max(stride, dilation):", "if not 0 <= output_padding:",
        "An output padding as large as the stride is accepted: no input of that size leads back, and torch refuses it.",
        "https://github.com/pytorch/pytorch/issues/8816",
        bug=25,
    ),
    _mutant(
        "a-length-below-one-passes", "transposed_size",
        "if length < 1:", "if length < -9:",
        "A padding that takes off the whole output gives a size of 0 or less without a word.",
    ),
    _mutant(
        "zero-strides", "_check_setting",
        'least = 0 if name == "padding" else 1', "least = 0",
        "A stride or a dilation of 0 passes the check at the door.",
    ),
)  # fmt: skip

COUNTS = (
    _mutant(
        "overlap-of-another-padding", "overlap_count",
        "stride * torch.arange(size) - padding", "stride * torch.arange(size)",
        "The counts start at the uncut output: the pattern is right and stands one pixel aside.",
        bug=25, equation="conv-overlap",
    ),
    _mutant(
        "overlap-without-stride", "overlap_count",
        "stride * torch.arange(size) - padding", "torch.arange(size) - padding",
        "The copies of the kernel are laid one pixel apart: every kernel looks even, and no checkerboard is foreseen.",
        "https://github.com/NVIDIA/pix2pixHD/issues/149",
        bug=25, equation="conv-overlap",
    ),
    _mutant(
        "overlap-without-dilation", "overlap_count",
        "dilation * torch.arange(kernel)", "torch.arange(kernel)",
        "The weights of a copy are counted as neighbours, though the dilation has spread them.",
    ),
    _mutant(
        "receptive-field-without-strides", "receptive_field",
        "step *= stride", "step *= 1",
        "Each layer adds its kernel less one, as if all strides were 1: 12 pixels where the stack sees 26.",
        equation="conv-receptive",
    ),
    _mutant(
        "receptive-field-stride-too-early", "receptive_field",
        "        seen += dilation * (kernel - 1) * step\n        step *= stride\n",
        "        step *= stride\n        seen += dilation * (kernel - 1) * step\n",
        "A layer's own stride is applied to its own kernel. It spreads the windows of the layers after it.",
        equation="conv-receptive",
    ),
    _mutant(
        "receptive-field-without-dilation", "receptive_field",
        "seen += dilation * (kernel - 1)", "seen += (kernel - 1)",
        "The dilation, which is there to widen the receptive field, is left out of it.",
        equation="conv-receptive",
    ),
    _mutant(
        "trace-without-output-padding", "_size_after",
        'setting["output_padding"] = transposed_size, layer.output_padding',
        'setting["output_padding"] = transposed_size, (0, 0)',
        "The sizes of a network are foreseen without output padding, so a network that fits is said not to.",
        bug=25,
    ),
    _mutant(
        "trace-of-one-axis", "_size_after",
        "return sizes[0], sizes[1]", "return sizes[0], sizes[0]",
        "The height is taken for the width. On square images it is.",
    ),
)  # fmt: skip

_LAST_CONV = "            nn.Conv2d(hidden, channels, 3, padding=1),\n        )"
_LAST_DENSE = "            nn.Linear(features, features),\n        )"
_ZEROED = "\n        nn.init.zeros_(self.inner[-1].weight)"

BLOCKS = (
    _mutant(
        "upsampling-with-kernel-3", "upsample",
        "nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1)",
        "nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1)",
        "Kernel 3 with stride 2, made to fit by an output padding. Every size is right, and of four pixels one gets "
        "four terms where another gets one: a checkerboard.",
        "https://github.com/NVIDIA/pix2pixHD/issues/149",
        bug=25, equation="conv-overlap",
    ),
    _mutant(
        "upsampling-to-15", "upsample",
        "nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1)",
        "nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1)",
        "8 pixels become 15 where 16 were meant. A loss with broadcasting, or a discriminator that ends in a mean "
        "over places, takes the picture all the same.",
        "https://github.com/znxlwm/pytorch-CartoonGAN/pull/4",
        bug=25,
    ),
    _mutant(
        "downsampling-with-kernel-3", "downsample",
        "return nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1)",
        "return nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)",
        "Every size is right, but the gradient by the image has a checkerboard, and the layer is no longer the "
        "transpose of its partner in the decoder.",
        bug=25, equation="conv-matrix",
    ),
    _mutant(
        "resize-after-the-convolution", "resize_upsample",
        'nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(in_channels, out_channels, 3, padding=1)',
        'nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.Upsample(scale_factor=2, mode="nearest")',
        "The convolution comes before the resize: cheaper, and every pixel of the output is a block of four.",
    ),
    _mutant(
        "resize-convolution-that-shrinks", "resize_upsample",
        "nn.Conv2d(in_channels, out_channels, 3, padding=1)\n", "nn.Conv2d(in_channels, out_channels, 3)\n",
        "The padding after the resize is forgotten: each stage is two pixels short.",
        bug=25,
    ),
    _mutant(
        "residual-block-not-the-identity", "ResidualBlock.__init__",
        _LAST_CONV + _ZEROED, _LAST_CONV,
        "The last layer keeps its random start. Each block adds to the scale, and a deep stack without normalisation "
        "starts far too loud.",
        "https://arxiv.org/abs/1901.09321",
    ),
    _mutant(
        "dense-block-not-the-identity", "DenseResidualBlock.__init__",
        _LAST_DENSE + _ZEROED, _LAST_DENSE,
        "The last layer keeps its random start, in the dense block.",
        "https://arxiv.org/abs/1901.09321",
    ),
    _mutant(
        "residual-block-without-its-skip", "ResidualBlock.forward",
        "return x + self.inner(x)\n\n\nclass", "return self.inner(x)\n\n\nclass",
        "x is not added. As the last layer starts at zero, the network starts by forgetting its input.",
    ),
    _mutant(
        "dense-block-with-its-skip-halved", "DenseResidualBlock.forward",
        "return x + self.inner(x)\n\n\ndef", "return 0.5 * x + self.inner(x)\n\n\ndef",
        "Sum and mean are mixed up: each block halves what passes it, and after ten there is a thousandth left.",
    ),
    _mutant(
        "trace-names-the-next-layer", "trace_sizes",
        "in enumerate(network):", "in enumerate(network, 1):",
        "The layers are counted from 1 in the message and from 0 everywhere else: the reader mends the wrong one.",
    ),
)  # fmt: skip

MUTANTS = SIZES + COUNTS + BLOCKS
