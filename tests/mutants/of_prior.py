"""The mutants of `prior`: what a position may see, what it is told, and how a code is drawn."""

from tests.mutants.mutant import OWN, Mutant

TESTS = ("tests/test_prior.py",)
GATED = "https://arxiv.org/abs/1606.05328"


def _mutant(
    part: str, name: str, function: str, old: str, new: str, story: str, source: str = OWN, **more
) -> Mutant:
    return Mutant(name, f"prior/{part}", function, old, new, story, source, TESTS, **more)


PIXELCNN = (
    _mutant(
        "pixelcnn", "mask-b-without-its-centre", "MaskedConv2d.__init__",
        'mask[above, beside + (kind == "B") :] = 0', "mask[above, beside:] = 0",
        "Later layers leave their centre out too. What the first layer found at a position is then lost there, and "
        "with each layer the neighbours recede by one more.",
        "https://github.com/j-min/PixelCNN/issues/3",
        equation="prior-mask",
    ),
    _mutant(
        "pixelcnn", "mask-a-with-its-centre", "MaskedConv2d.__init__",
        'mask[above, beside + (kind == "B") :] = 0', "mask[above, beside + 1 :] = 0",
        "The first layer sees the very code that is to be predicted. The training loss falls to nothing, and samples "
        "are worthless.",
        "https://github.com/o-tawab/Video-Pixel-Networks/issues/1",
        equation="prior-mask",
    ),
    _mutant(
        "pixelcnn", "vertical-stack-sees-the-row-to-its-left", "MaskedConv2d.__init__",
        "mask[above] = 0", "mask[above, beside:] = 0",
        "The first layer of the vertical stack keeps the codes to the left. That alone would be no leak, but the "
        "layers above it look to both sides, and from there they see codes that come later.",
        "https://github.com/rampage644/wavenet/issues/5",
    ),
    _mutant(
        "pixelcnn", "a-mask-that-is-not-applied", "MaskedConv2d.forward",
        "self.weight * self.mask", "self.weight",
        "The mask is made and stored, and then the convolution uses the plain weights.",
        equation="prior-mask",
    ),
    _mutant(
        "pixelcnn", "rows-below-for-rows-above", "MaskedConv2d.forward",
        "F.pad(x, (0, 0, self.mask.shape[0] - 1, 0))", "F.pad(x, (0, 0, 0, self.mask.shape[0] - 1))",
        "The padding is at the wrong end, so that the kernel lies on the rows below its centre: the order of the "
        "codes is reversed for this layer, and the prior reads from the future.",
        "https://github.com/pclucas14/iaf-vae/issues/4",
        equation="prior-mask",
    ),
    _mutant(
        "pixelcnn", "gate-and-signal-exchanged", "gate",
        "torch.tanh(signal) * torch.sigmoid(opening)", "torch.tanh(opening) * torch.sigmoid(signal)",
        "The halves of the channels change roles. A model trained like this is as good, but weights from elsewhere "
        "give noise.",
        GATED,
    ),
    _mutant(
        "pixelcnn", "blind-spot", "GatedLayer.__init__",
        'MaskedConv2d("B", width, 2 * width, (3, 3), seen="rows")', 'MaskedConv2d("B", width, 2 * width, (3, 3))',
        "The vertical stack is masked like a plain PixelCNN. Codes in the row above, but further to the right, are "
        "then never seen, however many layers there are.",
        "https://github.com/anantzoid/Conditional-PixelCNN-decoder/pull/7",
        equation="prior-blind",
    ),
    _mutant(
        "pixelcnn", "the-horizontal-stack-feeds-the-vertical", "GatedLayer.forward",
        "return gate(rows), horizontal", "return gate(row), horizontal",
        "The next layer's vertical stack gets what the horizontal one knows of its own row, and spreads it to the "
        "left: to positions that come before.",
        GATED,
        equation="prior-chain",
    ),
    _mutant(
        "pixelcnn", "rows-that-never-reach-the-row", "GatedLayer.forward",
        "self.horizontal(horizontal) + self.across(rows)", "self.horizontal(horizontal)",
        "The connection from the vertical to the horizontal stack is missing. Nothing leaks, the loss falls, and each "
        "row is drawn without a look at those above.",
        "https://github.com/anantzoid/Conditional-PixelCNN-decoder/issues/6",
    ),
    _mutant(
        "pixelcnn", "kind-b-in-the-first-layer", "PixelCNN.__init__",
        'MaskedConv2d("A", width, width, (1, 5))', 'MaskedConv2d("B", width, width, (1, 5))',
        "The first layer of the horizontal stack is one of the later kind, so each code helps to predict itself.",
        "https://github.com/rosinality/vq-vae-2-pytorch/issues/31",
        equation="prior-chain",
    ),
    _mutant(
        "pixelcnn", "rows-and-columns-exchanged", "PixelCNN.forward",
        "unflatten(2, (-1, self.columns))", "unflatten(2, (self.columns, -1))",
        "The sequence is folded into a grid of another shape. Its order stays right, so nothing leaks, but what is "
        "above a code is no longer above it.",
    ),
    _mutant(
        "pixelcnn", "labels-behind-the-mask", "PixelCNN.forward",
        "self.above(x) + told, self.left(x) + told", "self.above(x + told), self.left(x + told)",
        "The label is added to the codes and masked with them. The first position is told nothing, and draws the "
        "first code of any class.",
    ),
)  # fmt: skip

TRANSFORMER = (
    _mutant(
        "transformer", "heads-that-do-not-divide-the-width", "CausalSelfAttention.__init__",
        "if heads < 1 or width % heads:", "if heads < 1:",
        "A width that the heads do not divide is accepted, and fails much later, in a reshape that names neither.",
    ),
    _mutant(
        "transformer", "attention-to-the-future", "CausalSelfAttention.forward",
        "is_causal=start == 0", "is_causal=False",
        "Nothing masks the attention. In training every position reads the code that it is to predict from the next "
        "one's input; in sampling that is not there.",
        equation="prior-attention",
    ),
    _mutant(
        "transformer", "a-causal-mask-over-the-cache", "CausalSelfAttention.forward",
        "is_causal=start == 0", "is_causal=True",
        "PyTorch aligns a causal mask at the top left. One query and many cached keys: the query then sees the first "
        "key alone, at every step.",
        "https://github.com/pytorch/pytorch/issues/144858",
    ),
    _mutant(
        "transformer", "keys-cached-as-values", "CausalSelfAttention.forward",
        "cache[1, :, :, start : start + n] = value", "cache[1, :, :, start : start + n] = key",
        "A slip of copy and paste: the cache holds the keys twice. Training is untouched, only samples suffer.",
    ),
    _mutant(
        "transformer", "keys-and-queries-exchanged", "CausalSelfAttention.forward",
        "query, key, value = (part", "key, query, value = (part",
        "Each position is weighed by how it would ask the others, not by what they hold. It trains, and weights from "
        "elsewhere give noise.",
        equation="prior-attention",
    ),
    _mutant(
        "transformer", "no-mask-under-autocast", "_attend",
        "value.float()\n        return F.scaled_dot_product_attention(query, key, value, is_causal=is_causal)",
        "value.float()\n        return F.scaled_dot_product_attention(query, key, value)",
        "The path for mixed precision forgets the mask. Tests in float32 pass, and the training in bf16 leaks.",
    ),
    _mutant(
        "transformer", "relu-for-gelu", "TransformerLayer.__init__",
        "nn.GELU()", "nn.ReLU()",
        "Another activation than the one that weights and reference have. It trains as well, but nothing can be "
        "compared any more.",
    ),
    _mutant(
        "transformer", "normalised-behind", "TransformerLayer.forward",
        "x + self.dropout(self.dense(self.dense_norm(x)))", "self.dense_norm(x + self.dropout(self.dense(x)))",
        "The normalisation stands behind the sum (post-norm), so that no path from output to input is the identity; "
        "deep stacks then need a warm-up to train.",
        "https://arxiv.org/abs/2002.04745",
    ),
    _mutant(
        "transformer", "no-positions", "Transformer.__init__",
        "0.02 * torch.randn(positions, width)", "torch.zeros(positions, width)",
        "All positions start alike. Attention has no order of its own: equal codes then give equal logits wherever "
        "they are.",
        "https://arxiv.org/abs/1706.03762",
    ),
    _mutant(
        "transformer", "one-cache-for-all-layers", "Transformer.new_cache",
        "self.positions.new_empty(len(self.layers), 2, batch, heads, n, width // heads)",
        "self.positions.new_empty(1, 2, batch, heads, n, width // heads).expand(len(self.layers), *[-1] * 5)",
        "The layers share one piece of memory, and each overwrites the keys and values of the one before.",
    ),
    _mutant(
        "transformer", "codes-not-shifted", "Transformer.forward",
        "embedded[:, max(start - 1, 0) : n - 1]  # a position is given the code before it,\n        if start == 0:\n"
        "            before = F.pad(before, (0, 0, 1, 0))  # and the first one zeros\n",
        "embedded[:, start:n]\n",
        "Each position is given its own code and is to predict it. The loss goes to 0 in minutes, and samples are "
        "one code repeated.",
        equation="prior-chain",
    ),
    _mutant(
        "transformer", "position-0-at-every-cached-step", "Transformer.forward",
        "self.positions[start:n]", "self.positions[: n - start]",
        "With the cache one code at a time comes in, and each is told that it is the first.",
    ),
)  # fmt: skip

GRIDS = (
    _mutant(
        "grids", "a-list-for-a-tuple", "PriorConfig.__post_init__",
        'for name in ("grid", "attributes", "context_grid"):', 'for name in ("grid", "attributes"):',
        "A config that is read from a model card has a list where the code wrote a tuple, and a list never equals a "
        "tuple: what was saved cannot be loaded.",
    ),
    _mutant(
        "grids", "one-table-for-all-attributes", "Prior.__init__",
        "nn.Embedding(values + 1, config.width) for values in config.attributes",
        "[nn.Embedding(max(config.attributes) + 1, config.width)] * len(config.attributes)\n"
        "            if config.attributes else []",
        "All attributes share one table of embeddings. In the sum, hair 1 with hat 0 is the same as hair 0 with hat 1.",
    ),
    _mutant(
        "grids", "logits-transposed", "Prior.forward",
        "logits.float().mT.unflatten(2, self.config.grid)",
        "logits.float().mT.unflatten(2, self.config.grid[::-1]).mT",
        "The logits come back with rows and columns exchanged, so that the loss compares each code with the "
        "prediction for another place.",
        equation="prior-chain",
    ),
    _mutant(
        "grids", "logits-in-half-precision", "Prior.forward",
        "logits.float().mT", "logits.mT",
        "Under autocast the logits stay in bf16, with 3 digits, and so do the loss and the probabilities drawn from.",
    ),
    _mutant(
        "grids", "withheld-means-the-first-class", "Prior.conditions",
        "embedding(column + 1)", "embedding(column.clamp(min=0))",
        "A withheld label is looked up as label 0: who asks for any class gets T-shirts.",
    ),
    _mutant(
        "grids", "context-smeared", "Prior.conditions",
        'size=config.grid, mode="nearest"', 'size=config.grid, mode="bilinear"',
        "The coarse grid is blended between its cells, though a code has one parent and not four.",
    ),
    _mutant(
        "grids", "mean-over-positions", "Prior.log_prob",
        ".sum(dim=1)", ".mean(dim=1)",
        "The log-probability of a grid is a sum over its positions. The mean is 49 times smaller, and its exponential "
        "sums to far more than 1 over all grids.",
        equation="prior-chain",
    ),
    _mutant(
        "grids", "dropout-in-samples", "Prior.sample",
        "with _evaluating(self):", "with contextlib.nullcontext():",
        "Samples are drawn in the middle of a training, and a tenth of the units is missing from each step.",
        "https://github.com/karpathy/ng-video-lecture/issues/16",
    ),
    _mutant(
        "grids", "drawn-codes-not-fed-back", "Prior.sample",
        "embedded[:, i] = self.embedding(codes[:, i])", "pass",
        "The code that was drawn is stored, but the next positions still see code 0 in its place.",
    ),
    _mutant(
        "grids", "given-codes-drawn-anew", "Prior.sample",
        "for i in range(first, size):", "for i in range(size):",
        "The first codes are put in place and then overwritten by draws: a completion of something else.",
    ),
    _mutant(
        "grids", "class-ignored-in-samples", "Prior.sample",
        "self.conditions(n, labels, context)", "self.conditions(n, None, context)",
        "Labels are checked and then not handed on: every class gives samples of all classes.",
        "https://github.com/ritheshkumar95/pytorch-vqvae/issues/13",
    ),
    _mutant(
        "grids", "logits-of-the-position-before", "Prior.sample",
        "conditions[:, :end])[:, i]", "conditions[:, :end])[:, i - 1]",
        "The shift is made twice: once in the network, once here. Position i is drawn from the logits of the one "
        "before.",
    ),
    _mutant(
        "grids", "no-labels-are-class-0", "Prior._columns",
        "torch.full(expected, WITHHELD", "torch.full(expected, 0",
        "Without labels, class 0 is meant. Unconditional samples are then all of one kind.",
    ),
    _mutant(
        "grids", "one-context-for-the-batch", "Prior._check_context",
        "if context.shape[0] != batch:", "if context.shape[0] > batch:",
        "A context of one grid is accepted for a batch of many, and broadcasting gives it to all of them.",
    ),
    _mutant(
        "grids", "a-code-too-many", "Prior._check_ranges",
        '_check_range("code", codes, 0, self.config.codes)', '_check_range("code", codes, 0, self.config.codes + 1)',
        "Code K passes the check, though the codes end at K - 1; the error comes from the embedding, without a value.",
    ),
    _mutant(
        "grids", "left-in-evaluation-mode", "_evaluating",
        "module.training = training", "module.training = False",
        "After the first samples the model stays in evaluation mode, and the rest of the training has no dropout.",
        "https://github.com/shubhamagarwal92/mmd/issues/14",
    ),
    _mutant(
        "grids", "any-grid-of-the-right-size", "_check_codes",
        "codes.shape[1:] != grid", "codes[0].numel() != grid[0] * grid[1]",
        "Only the number of codes is checked. A transposed grid passes and is read in another order.",
    ),
    _mutant(
        "grids", "range-with-its-end", "_check_range",
        "values >= end", "values > end",
        "The end of a range counts as inside, so one value too many is let through.",
    ),
)  # fmt: skip

DRAWING = (
    _mutant(
        "drawing", "nucleus-without-the-code-that-crosses", "top_p_filter",
        "before >= p", "before + ordered > p",
        "A code is kept only if the sum with it stays below p, so the set has less than p; if the likeliest code "
        "alone has more, nothing is left.",
        "https://github.com/rasbt/reasoning-from-scratch/issues/164",
        equation="prior-top-p",
    ),
    _mutant(
        "drawing", "prefix-sum-less-the-first", "top_p_filter",
        "ordered.cumsum(dim=-1) - ordered", "ordered.cumsum(dim=-1) - ordered[..., :1]",
        "The sum of what is likelier is formed by taking off the first share, not the code's own: a set that is often "
        "one code too large or too small.",
        "https://github.com/facebookresearch/ParlAI/pull/2733",
        equation="prior-top-p",
    ),
    _mutant(
        "drawing", "nucleus-from-the-unlikely-end", "top_p_filter",
        "descending=True", "descending=False",
        "The codes are collected from the least likely on, so the likeliest are dropped.",
        equation="prior-top-p",
    ),
    _mutant(
        "drawing", "nucleus-in-sorted-order", "top_p_filter",
        "torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= p)", "before >= p",
        "The mask is made for the sorted codes and laid on the unsorted ones: the first few codes are kept, "
        "whatever they are.",
        equation="prior-top-p",
    ),
    _mutant(
        "drawing", "rounding-cuts-the-tail", "top_p_filter",
        "if p == 1:", "if p > 1:",
        "With p = 1 nothing should be dropped, but in float32 the sum reaches 1 before the last codes, and they go.",
    ),
    _mutant(
        "drawing", "temperature-multiplies", "draw",
        "logits / (temperature or 1.0)", "logits * (temperature or 1.0)",
        "The logits are multiplied by the temperature: low values then make samples wilder, not tamer.",
        equation="prior-temperature",
    ),
    _mutant(
        "drawing", "top-p-before-temperature", "draw",
        "top_p_filter(logits / (temperature or 1.0), top_p)", "top_p_filter(logits, top_p) / (temperature or 1.0)",
        "The set is chosen at temperature 1 and then reshaped, so that it no longer has the probability asked for.",
    ),
    _mutant(
        "drawing", "sigmoid-for-softmax", "draw",
        "probabilities = torch.softmax(logits, dim=-1)", "probabilities = torch.sigmoid(logits)",
        "Each logit is turned into a share of its own. Likely codes saturate at 1, and unlikely ones are drawn far "
        "too often.",
        equation="prior-temperature",
    ),
    _mutant(
        "drawing", "generator-not-used", "draw",
        "torch.multinomial(probabilities, 1, generator=generator)", "torch.multinomial(probabilities, 1)",
        "The generator is accepted and not used, so that a seed no longer repeats the samples.",
    ),
)  # fmt: skip

MUTANTS = PIXELCNN + TRANSFORMER + GRIDS + DRAWING
