"""The mutants of `degrade`: operators and adjoints that do not belong together, noise of another law, masks turned."""

from tests.mutants.mutant import OWN, Mutant

TESTS = ("tests/test_degrade.py",)
OPERATORS, NOISE, MASKS, WHOLE = (
    f"degrade/{part}" for part in ("operators", "noise", "masks", "degradation")
)
ADJOINT = "https://github.com/annegnx/PnP-Flow/issues/19"
CLIPPING = "https://github.com/juglab/n2v/issues/74"
BICUBIC = "https://github.com/XPixelGroup/BasicSR/issues/15"
HOLES = "https://github.com/opencv/opencv_contrib/issues/2098"


def _mutant(name: str, file: str, function: str, old: str, new: str, story: str, source: str = OWN,
            **more) -> Mutant:  # fmt: skip
    return Mutant(name, file, function, old, new, story, source, TESTS, **more)


LINEAR = (
    _mutant(
        "identity-of-anything", OPERATORS, "Identity.__call__",
        "check_images(x)\n        return x\n", "return x\n",
        "The identity asks nothing of its input: bytes pass, and the noise behind it gets the wrong range.",
    ),
    _mutant(
        "blur-that-correlates", OPERATORS, "Blur._weight",
        ".flip((0, 1)).expand(", ".expand(",
        "A convolution layer correlates, so the kernel is applied as it stands, which is flipped. With a Gaussian "
        "nobody sees it; a motion blur runs the wrong way.",
        "https://github.com/SciML/DiffEqOperators.jl/pull/134",
    ),
    _mutant(
        "adjoint-of-blur-not-flipped", OPERATORS, "Blur.adjoint",
        "padded = conv_transpose2d(y, self._weight(y),", "padded = conv_transpose2d(y, self._weight(y).flip((2, 3)),",
        "The adjoint blurs with the same kernel in place of the flipped one. Right for symmetric kernels, which are "
        "those that such code is tried on; with others the search for x with A x = y goes astray.",
        ADJOINT,
    ),
    _mutant(
        "adjoint-that-cuts-the-margin-off", OPERATORS, "Blur.adjoint",
        "rows, columns = pad(eye[0], (down, down), mode=mode), pad(eye[1], (across, across), mode=mode)",
        "rows, columns = pad(eye[0], (down, down)), pad(eye[1], (across, across))",
        "What the reflected edge gave is cut off and not added back to where it came from: the adjoint is that of "
        "another boundary, wrong in the outermost pixels alone.",
        ADJOINT,
    ),
    _mutant(
        "blur-of-black-edges", OPERATORS, "Blur.__call__",
        "(across, across, down, down), mode=BOUNDARIES[self.boundary])", "(across, across, down, down))",
        "Whatever boundary is asked for, zeros lie outside: a grey frame creeps into every blurred image.",
    ),
    _mutant(
        "padding-of-the-other-axis", OPERATORS, "Blur._reach",
        "down, across = (size // 2 for size in self.kernel.shape)",
        "across, down = (size // 2 for size in self.kernel.shape)",
        "Height and width of the kernel are mixed up: with a kernel that is not square the image changes its shape.",
    ),
    _mutant(
        "kernel-without-a-middle", OPERATORS, "Blur.__post_init__",
        "not all(size % 2 for size in self.kernel.shape)", "not all(self.kernel.shape)",
        "A kernel of an even side is let in. It has no middle pixel, and the image moves by half a pixel and grows.",
    ),
    _mutant(
        "gaussian-of-variance-sigma", OPERATORS, "gaussian_kernel",
        "torch.exp(-0.5 * (places / sigma) ** 2)", "torch.exp(-0.5 * places**2 / sigma)",
        "The deviation is taken for the variance: the two agree at sigma = 1, where it is tried.",
    ),
    _mutant(
        "gaussian-that-darkens", OPERATORS, "gaussian_kernel",
        "axis = axis / axis.sum()\n", "axis = axis / (sigma * (2 * torch.pi) ** 0.5)\n",
        "The density's own constant stands in place of the sum over the pixels: narrow kernels sum to more than 1, and "
        "the image gets brighter.",
    ),
    _mutant(
        "mask-of-numbers", OPERATORS, "Mask.__post_init__",
        "if self.known.dtype != torch.bool:", "if self.known.dtype == torch.int32:",
        "Masks of floats are let in: those in [-1, 1], which came through the images' conversion, count -1 as known.",
        HOLES,
    ),
    _mutant(
        "mask-inverted", OPERATORS, "Mask.__call__",
        "torch.where(self.known.to(x.device), x, 0.0)", "torch.where(self.known.to(x.device), 0.0, x)",
        "True is taken for a hole where it means known. What is to be repaired is handed over, and the rest is lost.",
        HOLES,
    ),
    _mutant(
        "mask-that-multiplies", OPERATORS, "Mask.__call__",
        "torch.where(self.known.to(x.device), x, 0.0)", "self.known.to(x) * x",
        "A product with 0 hides a number, but not one that is infinite or not a number: it leaks through the mask.",
    ),
    _mutant(
        "factor-that-is-no-number", OPERATORS, "Downsample.__post_init__",
        "self.factor < 1 or self.factor != int(self.factor)", "self.factor < 1",
        "A factor of 1.5 is let in; no block of pixels has that side.",
    ),
    _mutant(
        "every-fourth-pixel", OPERATORS, "Downsample._axis",
        "weights = (t < 0.5).double()",
        "weights = torch.zeros_like(t).scatter(1, t.argmin(1, keepdim=True), 1.0)",
        "Pixels are picked and not averaged: what is finer than the new grid is mistaken for something coarse.",
        "https://github.com/sanghyun-son/EDSR-PyTorch/issues/57",
    ),
    _mutant(
        "another-cubic", OPERATORS, "Downsample._axis",
        "near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2",
        "near, far = 1.25 * t**3 - 2.25 * t**2 + 1, -0.75 * t**3 + 3.75 * t**2 - 6 * t + 3",
        "The cubic of OpenCV and of `interpolate` without antialias, a = -3/4, under the same name: a restorer trained "
        "for one kind of bicubic meets the other.",
        BICUBIC,
    ),
    _mutant(
        "grid-half-a-pixel-off", OPERATORS, "Downsample._axis",
        "+ 0.5) / self.factor - 0.5", ") / self.factor",
        "Positions are counted from pixel edges in one grid and from middles in the other: all moves by a part of one.",
        BICUBIC,
    ),
    _mutant(
        "downsampling-with-the-sides-swapped", OPERATORS, "Downsample.__call__",
        "return self._axis(x.shape[2], x) @ x @ self._axis(x.shape[3], x).mT",
        "return (self._axis(x.shape[2], x) @ x @ self._axis(x.shape[3], x).mT).mT",
        "The result is transposed. Square images keep their shape, so nothing fails.",
    ),
    _mutant(
        "adjoint-of-downsampling-without-its-square", OPERATORS, "Downsample.adjoint",
        "return rows.mT @ y @ columns", "return self.factor**2 * (rows.mT @ y @ columns)",
        "Upsampling by repetition is called the adjoint of averaging. It is its pseudo-inverse, s^2 times as large, "
        "and a gradient step with it is 16 times too long at s = 4.",
        ADJOINT,
    ),
    _mutant(
        "adjoint-in-place-of-the-pseudo-inverse", OPERATORS, "Downsample.pinv",
        "return torch.linalg.pinv(rows).to(y) @ y @ torch.linalg.pinv(columns).to(y).mT",
        "return rows.to(y).mT @ y @ columns.to(y)",
        "The adjoint stands for the pseudo-inverse. x - A^T (A x - y) goes towards A x = y, and does not get there.",
        "https://arxiv.org/abs/2212.00490",
    ),
    _mutant(
        "composition-from-the-last", OPERATORS, "Composed.__call__",
        "for operator in self.operators:", "for operator in self.operators[::-1]:",
        "The last operator is applied first: the image is made small and then blurred.",
    ),
    _mutant(
        "adjoints-not-reversed", OPERATORS, "Composed.adjoint",
        "for operator in reversed(self.operators):", "for operator in self.operators:",
        "(A B)^T is taken for A^T B^T. Where the shapes agree nothing fails.",
    ),
    _mutant(
        "one-gradient-step-called-a-projection", OPERATORS, "consistent",
        "return operator.pinv(y) + (x - operator.pinv(seen))", "return x - operator.adjoint(seen - y)",
        "A step against the gradient is taken for the projection: only operators with A A^T = 1 make them one.",
        "https://arxiv.org/abs/2212.00490",
    ),
    _mutant(
        "known-pixels-almost-kept", OPERATORS, "consistent",
        "return operator.pinv(y) + (x - operator.pinv(seen))", "return x - operator.pinv(seen - y)",
        "The same split, but known pixels are x - (x - y), which rounding makes another number than y.",
    ),
    _mutant(
        "operator-on-bytes", OPERATORS, "check_images",
        "if not x.is_floating_point():", "if x.is_complex():",
        "Bytes are let in, and arithmetic on them wraps around or loses its fractions.",
    ),
)  # fmt: skip

DRAWN = (
    _mutant(
        "poisson-in-place-of-gaussian", NOISE, "add_noise",
        "return add_poisson(x, amount, generator=generator)", "return add_gaussian(x, amount, generator=generator)",
        "One noise is asked for and another is added, though no error is raised.",
    ),
    _mutant(
        "noise-without-a-kind", NOISE, "add_noise",
        "    if amount:\n        raise", "    if amount < 0:\n        raise",
        "An amount is given and the kind forgotten: the restorer is trained on clean images, and nothing says so.",
    ),
    _mutant(
        "range-not-asked-for", NOISE, "check_in_range",
        "check_range(x, -1.0, 1.0)", "check_range(x, -255.0, 255.0)",
        "Images in [0, 255] are let in. Salt is then a black pixel, and the photons count 255 times too many.",
    ),
    _mutant(
        "sigma-of-another-range", NOISE, "add_gaussian",
        "return x + sigma * noise.to(x.device)", "return x + sigma / 2 * noise.to(x.device)",
        "Sigma is meant in units of [0, 1], and the images lie in [-1, 1]: half the noise, and 6 dB that are no merit "
        "of the restorer.",
        "https://github.com/cszn/DnCNN/issues/27",
    ),
    _mutant(
        "sigma-taken-for-a-variance", NOISE, "add_gaussian",
        "return x + sigma * noise.to(x.device)", "return x + sigma**0.5 * noise.to(x.device)",
        "Sigma is handed to an argument that is a variance, as in scikit-image's random_noise.",
    ),
    _mutant(
        "noise-clamped", NOISE, "add_gaussian",
        "return x + sigma * noise.to(x.device)", "return (x + sigma * noise.to(x.device)).clamp(-1, 1)",
        "The noisy image is clamped. At black and white the noise then has a mean, which the restorer learns, and "
        "which is not there where noise is added without a clamp.",
        CLIPPING, bug=34,
    ),
    _mutant(
        "noise-from-the-global-generator", NOISE, "add_gaussian",
        "torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype)",
        "torch.randn(x.shape, device=generator.device, dtype=x.dtype)",
        "The noise is drawn from the global state. The test set is another on every run, and a training that is "
        "resumed sees other noise.",
    ),
    _mutant(
        "one-noise-for-all-the-images", NOISE, "add_gaussian",
        "noise = torch.randn(x.shape,", "noise = torch.randn(x.shape[1:],",
        "One image of noise serves the whole batch.",
    ),
    _mutant(
        "photons-of-the-signed-image", NOISE, "add_poisson",
        "rate = peak * to_unit(x.detach().to(torch.promote_types(x.dtype, torch.float32))).clamp(min=0)",
        "rate = peak * x.detach().to(torch.promote_types(x.dtype, torch.float32)).clamp(min=0)",
        "Photons are counted from values in [-1, 1]: all that is darker than grey gives none.",
    ),
    _mutant(
        "photons-not-scaled-back", NOISE, "add_poisson",
        "(photons * (2 / peak) - 1)", "(photons * (1 / peak) - 1)",
        "Counts are brought back to [0, 1] and then shifted by 1: the image is half as bright as it was.",
    ),
    _mutant(
        "salt-twice-as-often", NOISE, "add_salt_and_pepper",
        "torch.where(draws < share / 2, -1.0,", "torch.where(draws < share, -1.0,",
        "The probability is meant for both together and applied to one: more pepper than salt, and the image darkens.",
    ),
    _mutant(
        "salt-of-the-unit-range", NOISE, "add_salt_and_pepper",
        "draws < share / 2, -1.0,", "draws < share / 2, 0.0,",
        "Pepper is 0, which is black in [0, 1] and grey in [-1, 1].",
    ),
    _mutant(
        "salt-of-single-channels", NOISE, "add_salt_and_pepper",
        "torch.rand(\n        batch, 1,", "torch.rand(\n        batch, x.shape[1],",
        "Every channel is hit on its own: coloured dots in place of black and white ones, and three times as many.",
    ),
    _mutant(
        "jpeg-of-another-quality", NOISE, "jpeg",
        "quality=int(quality)", "quality=101 - int(quality)",
        "The quality is taken for the strength of the compression: 90 ruins the image.",
    ),
    _mutant(
        "jpeg-of-wrapped-bytes", NOISE, "jpeg",
        "check_in_range(x)\n    if not (1 <= quality",
        "check_images(x)\n    x = x.clamp(-1, 1)\n    if not (1 <= quality",
        "What lies outside the range is cut off without a word, so that noise added before it is lost in part.",
        CLIPPING,
    ),
)  # fmt: skip

HIDDEN = (
    _mutant(
        "centre-that-moves", MASKS, "draw_mask",
        'centred=kind == "centre"', "centred=False",
        "The box in the middle lies anywhere: figures for the two kinds of mask are the same.",
    ),
    _mutant(
        "box-that-leaves-no-edge", MASKS, "box",
        "torch.randint(room + 1, (batch,)", "torch.randint(max(room, 1), (batch,)",
        "The box never touches the right or the bottom edge: one place too few in each direction.",
    ),
    _mutant(
        "one-box-for-the-batch", MASKS, "box",
        "torch.randint(room + 1, (batch,), generator=generator, device=device)",
        "torch.randint(room + 1, (1,), generator=generator, device=device).expand(batch)",
        "All images of a batch have their hole in the same place.",
    ),
    _mutant(
        "share-of-a-side", MASKS, "box",
        "round(math.sqrt(_checked(share)) * side)", "round(_checked(share) * side)",
        "The share of the area is taken for that of each side: a quarter of the image becomes a sixteenth.",
    ),
    _mutant(
        "box-inverted", MASKS, "box",
        "return ~hidden[:, None]\n\n\ndef scribble", "return hidden[:, None]\n\n\ndef scribble",
        "True is a hole here and known elsewhere: the restorer gets the box and is asked for the rest.",
        "https://github.com/alimama-creative/FLUX-Controlnet-Inpainting/issues/46",
    ),
    _mutant(
        "scribble-of-twice-the-width", MASKS, "scribble",
        "<= (stroke / 2) ** 2", "<= stroke**2",
        "The width is taken for the radius: strokes are twice as wide, and there are fewer of them.",
    ),
    _mutant(
        "scribble-that-never-turns", MASKS, "scribble",
        "torch.where(new, draws[2] * (2 * math.pi), angle + 0.4 * turn)",
        "torch.where(new, 0.0, angle)",
        "All strokes run straight across: the restorer learns to fill in from above and below.",
    ),
    _mutant(
        "strokes-without-an-end", MASKS, "scribble",
        "new = ((place < 0) | (place > size - 1)).any(0) | (draws[3] < 1 / 12)", "new = draws[3] < 2",
        "Every step begins a new stroke: short dashes all over in place of lines.",
    ),
    _mutant(
        "scribble-that-does-not-stop", MASKS, "scribble",
        "        near &= unfinished[:, None, None]\n", "",
        "All images are drawn on until the last has its share: most of them lose far more than was asked for.",
    ),
    _mutant(
        "left-for-right", MASKS, "half",
        "columns < width // 2,\n        columns >= (width + 1) // 2,",
        "columns >= (width + 1) // 2,\n        columns < width // 2,",
        "The left half is asked for and the right one hidden.",
    ),
    _mutant(
        "half-drawn-once", MASKS, "half",
        "known[torch.randint(4, (batch,), generator=generator, device=generator.device)][:, None]",
        "known[torch.randint(2, (batch,), generator=generator, device=generator.device)][:, None]",
        "Only two of the four sides are ever drawn.",
    ),
    _mutant(
        "share-of-the-known", MASKS, "pixels",
        "return draws >= _checked(share)", "return draws < _checked(share)",
        "The share is that of the known pixels and not of the hidden: 20 % lost are 80 %.",
        "https://github.com/alimama-creative/FLUX-Controlnet-Inpainting/issues/46",
    ),
    _mutant(
        "mask-on-its-side", MASKS, "_places",
        "torch.arange(height, device=device)[:, None], torch.arange(width, device=device)[None]",
        "torch.arange(height, device=device)[None], torch.arange(width, device=device)[:, None]",
        "Rows and columns are mixed up: what is to be the left half is the upper one.",
    ),
    _mutant(
        "height-taken-from-the-channels", MASKS, "_sizes",
        "return shape[0], shape[2], shape[3]", "return shape[0], shape[1], shape[2]",
        "The mask has the shape of channels and rows in place of rows and columns.",
    ),
    _mutant(
        "share-of-nothing", MASKS, "_checked",
        "if not 0 < share <= 1:", "if not share <= 1:",
        "A share of 0 or less is let in: nothing is hidden, and the restorer is perfect.",
    ),
)  # fmt: skip

TOGETHER = (
    _mutant(
        "settings-not-tried", WHOLE, "Degradation.__post_init__",
        "add_noise(torch.zeros(1, 1, 8, 8), self.noise, self.amount,",
        'add_noise(torch.zeros(1, 1, 8, 8), "none", 0.0,',
        "A noise that does not exist is found out when the first batch comes, or never.",
    ),
    _mutant(
        "noise-under-the-mask", WHOLE, "Degradation.__call__",
        "        if known is not None:\n            y = Mask(known)(y)\n", "",
        "Noise is added to the hidden pixels too. The operator then says less than y, and the residual A x - y never "
        "gets to the noise alone.",
        "https://github.com/deepinv/deepinv/issues/1167",
    ),
    _mutant(
        "mask-that-the-network-is-not-shown", WHOLE, "Degradation.__call__",
        "return Degraded(y, known, operator)", "return Degraded(y, None, operator)",
        "The mask is drawn and thrown away. A hole is grey, and so are some pixels: nobody can tell which are to be "
        "repaired.",
        "https://github.com/DmitryUlyanov/deep-image-prior/issues/72", bug=34,
    ),
    _mutant(
        "small-before-blurred", WHOLE, "Degradation.__call__",
        "y, known = Composed(tuple(parts))(x), None", "y, known = Composed(tuple(parts[::-1]))(x), None",
        "The image is made small and then blurred, with a kernel that was meant for the large one.",
    ),
    _mutant(
        "degraded-without-a-range", WHOLE, "Degradation.__call__",
        "check_in_range(x)\n        parts", "parts",
        "Images of any range are let in, and the noise, which is in units of [-1, 1], is then next to nothing.",
        "https://github.com/cszn/DnCNN/issues/27",
    ),
)  # fmt: skip

MUTANTS = LINEAR + DRAWN + HIDDEN + TOGETHER
