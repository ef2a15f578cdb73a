"""The mutants of the data sets: splits that overlap, pictures and labels that do not belong together."""

from tests.mutants.mutant import OWN, Mutant

TESTS = {
    "data/faces": ("tests/test_avatars.py",),
    "data/fashion": ("tests/test_data.py",),
    "data/toys": ("tests/test_data.py",),
}


def _mutant(name: str, place: str, old: str, new: str, story: str, source: str = OWN, **more) -> Mutant:
    file, function = place.split(".", 1)
    return Mutant(name, file, function, old, new, story, source, more.pop("tests", TESTS[file]), **more)


AVATARS = (
    _mutant(
        "test-faces-taken-from-train", "data/faces.avatars",
        "(n_train, n_train + n_test)\n", "(0, n_test)\n",
        "Both splits start at the first face. Everything measured on the test set was seen in training.",
    ),
    _mutant(
        "labels-one-face-late", "data/faces.avatars",
        "labels[first:last].long()", "labels.roll(1, 0)[first:last].long()",
        "The labels are shifted by one against the pictures, as after a header that was skipped in one file only. "
        "Every count is right, and no attribute can be learnt.",
    ),
    _mutant(
        "values-of-an-attribute-sorted", "data/faces.avatars",
        'tuple(value["name"] for value in entry["values"])',
        'tuple(sorted(value["name"] for value in entry["values"]))',
        "The names of the values are sorted on the way, as folder names are, and the labels are not.",
    ),
    _mutant(
        "height-width-colour-as-colour-height-width", "data/faces.avatars",
        "torch.uint8).reshape(-1, AVATARS_SIZE, AVATARS_SIZE, 3)",
        "torch.uint8).reshape(-1, 3, AVATARS_SIZE, AVATARS_SIZE).permute(0, 2, 3, 1)",
        "The bytes lie as height, width, colour and are read as colour, height, width: nine small grey faces.",
    ),
    _mutant(
        "any-size-at-all", "data/faces.avatars",
        "or size < 1 or AVATARS_SIZE % size:", "or size < 1:",
        "A size that does not divide 64 is let in, and fails later with a message about shapes.",
    ),
    _mutant(
        "colours-blue-green-red", "data/faces._reduced",
        "return faces.permute(0, 3, 1, 2)", "return faces.flip(3).permute(0, 3, 1, 2)",
        "The colours come in the order of OpenCV. The faces look odd, and a network trains on them all the same.",
    ),
    _mutant(
        "rows-and-columns-swapped", "data/faces._reduced",
        "return faces.permute(0, 3, 1, 2)", "return faces.permute(0, 3, 2, 1)",
        "Width before height: the faces lie on their side. No shape tells, for they are square.",
    ),
    _mutant(
        "every-second-pixel-picked", "data/faces._reduced",
        "(total / k**2).round().to(torch.uint8)", "faces[:, ::k, ::k]",
        "The picture is made smaller by leaving pixels out, not by averaging: edges become stairs, thin lines vanish.",
    ),
    _mutant(
        "mean-level-cut-off", "data/faces._reduced",
        "(total / k**2).round()", "(total / k**2)",
        "The mean is cut to whole levels and not rounded: each smaller picture is darker by half a level.",
    ),
    _mutant(
        "levels-added-in-eight-bits", "data/faces._reduced",
        "dtype=torch.int32", "dtype=torch.uint8",
        "The sum over an area is kept in eight bits and overflows: white turns dark.",
    ),
    _mutant(
        "checksum-computed-and-not-compared", "data/faces._read_verified",
        '!= card["sha256"]:', '== "":',
        "The checksum is computed and then compared with nothing. A damaged file is read as if it were whole.",
    ),
    _mutant(
        "one-of-two-errors-caught", "data/faces._unpack",
        "except (lzma.LZMAError, EOFError)", "except EOFError",
        "A stream that ends too early is expected and one that is no stream is not: it stops with a traceback.",
    ),
    _mutant(
        "damage-reported-as-ok", "data/faces.report_avatars",
        "verdict = str(error)", 'verdict = "ok"',
        "The report swallows the error: `imagegen data` finds everything in order.",
    ),
    _mutant(
        "a-card-that-lacks-its-counts", "data/faces.avatar_card",
        "if missing:", 'if "sha256" in missing:',
        "Only one entry of the card is asked for; a card that lacks another fails later with a KeyError.",
    ),
)  # fmt: skip

FASHION = (
    _mutant(
        "labels-without-their-header", "data/fashion.fashion_mnist",
        '("labels", 8)', '("labels", 16)',
        "The header of the images, 16 bytes, is skipped in the file of the labels too, whose header has 8.",
    ),
    _mutant(
        "test-read-from-the-train-files", "data/fashion.fashion_mnist",
        "_FASHION_MNIST[split, kind]", '_FASHION_MNIST["train", kind]',
        "The split that is asked for is not the one that is read.",
    ),
    _mutant(
        "checksum-of-fashion-not-compared", "data/fashion._read_verified",
        "if found != sha256:", "if not found:",
        "The checksum is computed and compared with nothing: one altered label goes unnoticed.",
    ),
    _mutant(
        "some-of-the-files-are-enough", "data/fashion.find_fashion_mnist",
        "if all((folder / name)", "if any((folder / name)",
        "A folder with one of the four files counts as the data set, and hides the whole one behind it.",
    ),
)  # fmt: skip

TOYS = (
    _mutant(
        "noise-stays-on-the-processor", "data/toys._normal",
        "return noise.to(like.device)", "return noise",
        "The noise stays where its generator is. It works on a processor, and stops on a graphics card.",
    ),
    _mutant(
        "identity-stays-on-the-processor", "data/toys.LinearGaussian.posterior",
        "torch.eye(dim, dtype=self.weight.dtype, device=self.weight.device)", "torch.eye(dim, dtype=self.weight.dtype)",
        "A matrix made inside a function does not follow its input's device.",
    ),
    _mutant(
        "ring-that-does-not-close", "data/toys.ring_centres",
        "2 * math.pi / modes", "2 * math.pi / (modes - 1)",
        "The angle is divided by one too few, so that the last mode falls on the first.",
    ),
    _mutant(
        "ring-of-half-a-turn", "data/toys.ring_centres",
        "radius * torch.stack([angle.cos(), angle.sin()], dim=1)",
        "radius * torch.stack([angle.cos(), angle.sin().abs()], dim=1)",
        "The lower half of the ring is folded onto the upper: eight modes are five places.",
    ),
    _mutant(
        "one-noise-for-both-axes", "data/toys.ring_of_gaussians",
        "centre + std * torch.randn(n, 2, generator=generator, device=device), mode\n\n\ndef grid",
        "centre + std * torch.randn(n, 1, generator=generator, device=device), mode\n\n\ndef grid",
        "One draw is broadcast over both axes, so that each round mode becomes a line on the diagonal.",
    ),
    _mutant(
        "grid-in-a-corner", "data/toys.grid_of_gaussians",
        ".sub((side - 1) / 2)", "",
        "The grid starts at 0 and is not centred on it.",
    ),
)  # fmt: skip

MUTANTS = AVATARS + FASHION + TOYS
