"""The mutants of `augment`: laws that leak, draws that are shared, and maps that move, fill or scale the wrong way."""

from tests.mutants.mutant import OWN, Mutant

TESTS = ("tests/test_augment.py",)
ADA = "https://arxiv.org/abs/2006.06676"
DIFFAUGMENT = "https://arxiv.org/abs/2006.10738"


def _mutant(name: str, function: str, old: str, new: str, story: str, source: str = OWN, **more) -> Mutant:
    return Mutant(name, "augment", function, old, new, story, source, TESTS, **more)


LAWS = (
    _mutant(
        "mirrored-with-the-whole-probability", "augment",
        "mirrored(x, whole(0, 1) == 1)", "mirrored(x, whole(1, 1) == 1)",
        "Every image that is touched is mirrored. At p = 1/2 left and right are then equally likely, whatever the data "
        "are, and the generator may draw its letters either way.",
        ADA,
    ),
    _mutant(
        "shift-drawn-uniformly", "augment",
        "(whole(0, most) - whole(0, most) for most in reach)", "(whole(-most, most) for most in reach)",
        "The shift is uniform. Its operator has negative eigenvalues, and at some p below 1 two laws of originals look "
        "alike: p < 1 is no longer enough.",
        ADA,
    ),
    _mutant(
        "shift-in-one-direction", "augment",
        "(whole(0, most) - whole(0, most) for most in reach)", "(whole(0, most) for most in reach)",
        "Images move down and to the right only, so that the mean position of what is shown is another.",
    ),
    _mutant(
        "down-by-as-much-as-right", "augment",
        "down, right = (whole(0, most) - whole(0, most) for most in reach)",
        "down = right = whole(0, reach[0]) - whole(0, reach[0])",
        "One number is drawn for both directions: images move along a diagonal.",
    ),
    _mutant(
        "reach-of-the-height-for-both", "augment",
        "for size in (height, width)]\n", "for size in (height, height)]\n",
        "How far an image may move is taken from its height for both directions.",
    ),
    _mutant(
        "square-wholly-inside", "augment",
        "(whole(0, size - 1) - side // 2 for size in (height, width))",
        "(whole(0, size - side) for size in (height, width))",
        "The square never leaves the image, and so covers the middle nearly always and the corners rarely.",
        DIFFAUGMENT,
    ),
    _mutant(
        "square-from-its-centre-on", "augment",
        "whole(0, size - 1) - side // 2 for", "whole(0, size - 1) for",
        "The centre is taken for the first pixel: the top left is hardly ever erased.",
    ),
    _mutant(
        "square-as-wide-as-the-image", "augment",
        "min(height, width) // CUT", "min(height, width) // 1",
        "The square has the whole side in place of half of it, and little of the image is left to judge.",
        DIFFAUGMENT,
    ),
    _mutant(
        "contrast-not-in-logarithms", "augment",
        "(CONTRAST * b).exp()", "1 + CONTRAST * b",
        "The contrast is 1 plus a normal number. It can be negative, which inverts the image, and halving is no longer "
        "as likely as doubling.",
        ADA,
    ),
    _mutant(
        "one-number-for-all-three", "augment",
        "a, b, c = torch.randn(3, batch, generator=generator, device=device).to(x)",
        "a = b = c = torch.randn(batch, generator=generator, device=device).to(x)",
        "Brightness, contrast and saturation hang on one draw: bright images are always the loud ones.",
    ),
    _mutant(
        "brightness-of-the-whole-batch", "augment",
        "torch.randn(3, batch, generator=generator, device=device).to(x)",
        "torch.randn(3, 1, generator=generator, device=device).to(x).expand(-1, batch)",
        "The colours are drawn once a batch. Real and generated images come in batches of their own, and the "
        "discriminator may tell them apart by that.",
    ),
)  # fmt: skip

_HIT = "hit = torch.rand(batch, generator=generator, device=device).to(x.device) < p"

DRAWS = (
    _mutant(
        "one-decision-for-the-batch", "augment",
        "hit = torch.rand(batch,", "hit = torch.rand(1,",
        "All images of a batch are changed, or none: with p = 1/2 each other step shows none unchanged.",
    ),
    _mutant(
        "changed-unless-drawn", "augment",
        ".to(x.device) < p", ".to(x.device) >= p",
        "The comparison is turned round: p = 0.1 changes nine of ten images.",
    ),
    _mutant(
        "normal-for-a-probability", "augment",
        "hit = torch.rand(batch,", "hit = torch.randn(batch,",
        "One letter more: a normal number is below p far more often than a uniform one, and half of the images are "
        "changed where a few were asked for.",
    ),
    _mutant(
        "decided-by-another-generator", "augment",
        _HIT, _HIT.replace("generator=generator, ", ""),
        "The decision comes from the global state, not from the generator: the run cannot be repeated from its seed.",
    ),
    _mutant(
        "integers-from-another-generator", "augment",
        "(batch,), generator=generator, device=device)", "(batch,), device=device)",
        "Shifts and squares come from the global state, not from the generator.",
    ),
    _mutant(
        "drawn-where-the-images-are", "augment",
        "x.device if generator is None else generator.device", "x.device",
        "The draws are made where the images are. On a graphics card a processor's generator is an error, or another "
        "sequence for the same seed.",
    ),
    _mutant(
        "last-value-never-drawn", "augment",
        "torch.randint(low, high + 1,", "torch.randint(low, high,",
        "randint leaves its upper end out: nothing is ever mirrored.",
    ),
    _mutant(
        "always-the-same-order", "augment",
        "    for kind in kinds:\n", "    for kind in sorted(kinds):\n",
        "The kinds are applied in the order of the alphabet, whatever the caller's.",
    ),
    _mutant(
        "all-kinds-or-none", "augment",
        "        x = torch.where(_per_image(hit), changed, x)\n    return x",
        "        same = hit if kind == kinds[0] else same\n        x = torch.where(_per_image(same), changed, x)\n"
        "    return x",
        "One decision an image for all kinds: no image is shown with one change alone.",
        ADA,
    ),
    _mutant(
        "strength-in-place-of-probability", "augment",
        "x = torch.where(_per_image(hit), changed, x)", "x = x + p * (changed - x)",
        "Each image is mixed with its changed form, p to 1 - p, in place of being replaced with probability p: a "
        "linear map, ghosts and all.",
    ),
    _mutant(
        "no-gradient-through-what-was-changed", "augment",
        "x = torch.where(_per_image(hit), changed, x)", "x = torch.where(_per_image(hit), changed.detach(), x)",
        "The changed images carry no graph. The generator learns from untouched images only, or not at all at p = 1.",
        DIFFAUGMENT,
    ),
    _mutant(
        "clamped-to-the-range", "recoloured",
        "return mean + (x - mean) * _per_image(contrast) + _per_image(brightness)",
        "return (mean + (x - mean) * _per_image(contrast) + _per_image(brightness)).clamp(-1, 1)",
        "The result is held in the range. Highlights of which many became one white cannot be told apart again, and "
        "there the gradient is 0.",
    ),
    _mutant(
        "any-probability", "augment",
        "if not 0 <= p <= 1:", "if p < 0:",
        "A percentage passes for a probability: with p = 20 every image is changed, and the augmentation leaks.",
    ),
    _mutant(
        "kinds-not-looked-at", "augment",
        "if not set(kinds) <= set(KINDS) or len(set(kinds)) < len(kinds):", "if False:",
        "An unknown kind is taken for the last one: who asks for a rotation gets other colours.",
    ),
    _mutant(
        "a-single-image-let-in", "augment",
        "if x.dim() != 4:", "if False:",
        "An image without a batch is let in, and each of its channels is taken for an image.",
    ),
    _mutant(
        "bytes-let-in", "augment",
        "if not x.is_floating_point():", "if False:",
        "Bytes are let in, from 0 to 255: the black that is drawn in as -1 is a value that none of them has.",
    ),
    _mutant(
        "draws-though-nothing-is-asked-for", "augment",
        "    if not p:\n        return x\n", "",
        "With p = 0 numbers are drawn all the same: a training without augmentation is no longer the one it was.",
    ),
)  # fmt: skip

MAPS = (
    _mutant(
        "upside-down", "mirrored",
        "x.flip(3)", "x.flip(2)",
        "Images are turned upside down, which no face and no shoe is.",
    ),
    _mutant(
        "the-others-mirrored", "mirrored",
        "x.flip(3), x)", "x, x.flip(3))",
        "The images that should stay are mirrored and the others are not.",
    ),
    _mutant(
        "up-for-down", "shifted",
        "rows = torch.arange(height, device=x.device) - down", "rows = torch.arange(height, device=x.device) + down",
        "Where a row comes from and where it goes are confused: images move up.",
    ),
    _mutant(
        "round-the-edge", "shifted",
        "moved.view_as(x), EDGE)", "moved.view_as(x), moved.view_as(x))",
        "Nothing is drawn in: the last row and column are smeared over what the shift uncovers.",
    ),
    _mutant(
        "grey-drawn-in", "shifted",
        "moved.view_as(x), EDGE)", "moved.view_as(x), 0.0)",
        "The zero of another range is drawn in: grey in [-1, 1], where black was meant.",
    ),
    _mutant(
        "rows-as-long-as-columns", "shifted",
        "[:, :, None] * width +", "[:, :, None] * height +",
        "The height is taken for the width: right for squares, shreds for all other images.",
    ),
    _mutant(
        "square-without-a-near-end", "erased",
        "inside = ((rows >= 0) & (rows < side))", "inside = (rows < side)",
        "All that lies above the square is erased with it.",
    ),
    _mutant(
        "square-and-one-pixel", "erased",
        "((columns >= 0) & (columns < side))", "((columns >= 0) & (columns <= side))",
        "The square is a pixel wider than it is high.",
    ),
    _mutant(
        "all-but-the-square", "erased",
        "x.masked_fill(inside[:, None], GREY)", "x.masked_fill(~inside[:, None], GREY)",
        "The square is kept and the image erased.",
    ),
    _mutant(
        "erased-to-black", "erased",
        "x.masked_fill(inside[:, None], GREY)", "x.masked_fill(inside[:, None], EDGE)",
        "The square is black, as the ground of many images is. A generator of shoes with a part missing is then hard "
        "to tell from one of whole shoes.",
    ),
    _mutant(
        "contrast-around-grey", "recoloured",
        "mean + (x - mean) * _per_image(contrast)", "x * _per_image(contrast)",
        "The contrast is taken around 0: a dark image becomes darker with it. Brightness and contrast then hang "
        "together.",
    ),
    _mutant(
        "mean-of-the-batch", "recoloured",
        "mean = x.mean((1, 2, 3), keepdim=True)", "mean = x.mean()",
        "The mean is that of the batch: what happens to an image hangs on the others, and its logit with it.",
    ),
    _mutant(
        "saturation-of-grey-images", "recoloured",
        "if x.shape[1] == 3:", "if x.shape[1] > 1:",
        "What two or four channels mean is not known, and their spread is scaled as if they were colours.",
    ),
    _mutant(
        "saturation-around-the-images-mean", "recoloured",
        "grey = x.mean(1, keepdim=True)", "grey = x.mean((1, 2, 3), keepdim=True)",
        "The saturation is taken around the mean of the image: a second contrast under another name.",
    ),
    _mutant(
        "a-value-for-each-column", "_per_image",
        "return values[:, None, None, None]", "return values",
        "A vector (B,) beside (B, C, H, W) broadcasts along the width: where there are as many columns as images, each "
        "column gets the change of another image.",
    ),
)  # fmt: skip

MUTANTS = LAWS + DRAWS + MAPS
