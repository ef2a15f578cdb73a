"""The mutants of `hierarchy`: what the bottom level is told, what is withheld, and what the codes alone describe."""

from tests.mutants.mutant import OWN, Mutant

TESTS = ("tests/test_hierarchy.py",)
PAPER = "https://arxiv.org/abs/1906.00446"


def _mutant(name: str, function: str, old: str, new: str, story: str, source: str = OWN, **more) -> Mutant:
    return Mutant(name, "hierarchy", function, old, new, story, source, more.pop("tests", TESTS), **more)


MUTANTS = (
    _mutant(
        "one-halving-forgotten", "HierarchyConfig.__post_init__",
        "factor = 2 ** (len(self.widths) + 1)", "factor = 2 ** len(self.widths)",
        "The check counts the halvings down to the bottom grid and forgets the one to the top. An image of 28 pixels "
        "is let in, and the two levels no longer fit on one another.",
    ),
    _mutant(
        "top-grid-turned", "HierarchyConfig.grids",
        "(height // factor // 2, width // factor // 2)", "(width // factor // 2, height // factor // 2)",
        "Height and width of the top grid are exchanged, which shows on no square image.",
    ),
    _mutant(
        "codebooks-exchanged", "HierarchicalVQVAE.__init__",
        "self.top = Quantiser(config.codes[0], dim)", "self.top = Quantiser(config.codes[1], dim)",
        "The top level gets the bottom's number of codes. It trains as well; only its bits are counted wrongly.",
    ),
    _mutant(
        "a-bias-that-stays", "HierarchicalVQVAE.__init__",
        "padding=1, bias=False)", "padding=1, bias=True)",
        "The layer that brings the bottom in keeps a bias, so that a bottom of zeros is not the same as none. Training "
        "shows the decoder the one, and `decode` without bottom codes shows it the other.",
    ),
    _mutant(
        "withheld-upside-down", "HierarchicalVQVAE.forward",
        "bottom.quantised * ~withheld[", "bottom.quantised * withheld[",
        "The bottom is shown where it should be withheld, and withheld elsewhere.",
        equation="hierarchy-withheld",
    ),
    _mutant(
        "withheld-from-all-or-none", "HierarchicalVQVAE.forward",
        "~withheld[:, None, None, None]", "~withheld.any()",
        "One image that is withheld withholds the whole batch. In a batch of 64 that is every batch: the bottom level "
        "is never trained at all.",
    ),
    _mutant(
        "bottom-without-straight-through", "HierarchicalVQVAE.forward",
        "told = bottom.quantised if withheld is None else bottom.quantised *",
        "told = bottom.nearest if withheld is None else bottom.nearest *",
        "The decoder is given the codebook's vectors themselves. The picture is the same, but the gradient ends there: "
        "the bottom's encoder learns from its commitment alone.",
    ),
    _mutant(
        "the-top-never-quantised", "HierarchicalVQVAE.forward",
        "coarse = self.from_top(top.quantised)", "coarse = self.from_top(z_top)",
        "The encoder's output goes past its codebook. Training looks better than it is, and the stored codes decode to "
        "another picture.",
    ),
    _mutant(
        "the-bottom-never-quantised", "HierarchicalVQVAE.forward",
        "bottom = self.bottom(z_bottom, generator=generator)",
        "bottom = self.bottom(z_bottom, generator=generator)\n"
        "        bottom = type(bottom)(z_bottom, bottom.nearest, bottom.indices)",
        "The bottom level's real numbers reach the decoder: an autoencoder beside a codebook that nobody needs.",
    ),
    _mutant(
        "the-bottom-not-told-the-top", "HierarchicalVQVAE.forward",
        "z_bottom = self.to_bottom(torch.cat([features, coarse], dim=1))",
        "z_bottom = self.to_bottom(torch.cat([features, 0 * coarse], dim=1))",
        "The bottom is encoded without knowing what the top already says, and must say it once more.",
        PAPER,
    ),
    _mutant(
        "no-gradient-to-the-top-through-the-bottom", "HierarchicalVQVAE.forward",
        "z_bottom = self.to_bottom(torch.cat([features, coarse], dim=1))",
        "z_bottom = self.to_bottom(torch.cat([features, coarse.detach()], dim=1))",
        "The bottom is told the top without a gradient, so the top never learns what the bottom could use.",
    ),
    _mutant(
        "encoded-without-quantising-the-top", "HierarchicalVQVAE.encode",
        "coarse = self.from_top(self.top.embed(top))\n        return top, self.bottom.indices(",
        "coarse = self.from_top(self.to_top(features))\n        return top, self.bottom.indices(",
        "`encode` tells the bottom the top's real numbers, the forward pass its codes. Some of the bottom codes differ "
        "from those that the decoder was trained on.",
    ),
    _mutant(
        "withheld-is-code-zero", "HierarchicalVQVAE.decode",
        "coarse if bottom is None else coarse + self.from_bottom(self.bottom.embed(bottom))",
        "coarse + self.from_bottom(self.bottom.embed(\n"
        "                torch.zeros(len(top), *self.config.grids[1]).long() if bottom is None else bottom\n"
        "            ))",
        "Where nothing is known of the bottom, code 0 is taken for it: a statement about the picture like any other.",
        equation="hierarchy-withheld",
    ),
    _mutant(
        "fewer-bottoms-than-tops", "HierarchicalVQVAE.decode",
        " or len(codes) != len(top):", ":",
        "One bottom grid is broadcast over several tops without a word.",
    ),
    _mutant(
        "only-the-channels-are-checked", "HierarchicalVQVAE._features",
        "if x.shape[1:] != self.config.image_shape:", "if x.shape[1] != self.config.image_shape[0]:",
        "Images of another size pass the door and come back as codes of another grid.",
    ),
    _mutant(
        "bottom-encoded-with-the-top-s-codebook", "HierarchicalVQVAE.encode",
        "return top, self.bottom.indices(", "return top, self.top.indices(",
        "The wrong codebook is searched for the bottom's codes. Both have vectors of the same length, so it runs, and "
        "the codes decode to another picture.",
        equation="hierarchy-posterior",
    ),
)  # fmt: skip
