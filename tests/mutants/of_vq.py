"""The mutants of `vq`, of its loss and of the measures of a codebook's use: most of them still train to something."""

from tests.mutants.mutant import OWN, Mutant

TESTS = {
    "vq": ("tests/test_vq.py",),
    "recipes/code_terms": ("tests/test_vq.py",),
    "metrics/codes": ("tests/test_metrics_codes.py",),
}


def _mutant(name: str, place: str, old: str, new: str, story: str, source: str = OWN, **more) -> Mutant:
    file, function = place.split(".", 1)
    return Mutant(name, file, function, old, new, story, source, TESTS[file], **more)


_HALF = "half, turned = 0.5 * codebook"

SEARCH = (
    _mutant(
        "largest-product-for-nearest-code", "vq.nearest_code",
        _HALF, "half, turned = 0.0 * codebook",
        "The code with the largest product is taken. That is the nearest only where all codes have the same length: "
        "here the longest code wins most vectors.",
        equation="vq-nearest",
    ),
    _mutant(
        "length-of-a-code-counted-twice", "vq.nearest_code",
        _HALF, "half, turned = 1.0 * codebook",
        "The square |z - e|^2 is |z|^2 - 2 z e + |e|^2. Halved, it is |e|^2 / 2 that stands beside z e, and not |e|^2.",
        equation="vq-nearest",
    ),
    _mutant(
        "last-chunk-never-searched", "vq.nearest_code",
        "range(0, len(z), rows)", "range(0, len(z) - rows + 1, rows)",
        "The rows come in chunks, and those that fill no chunk are left out: their codes are what the memory held.",
        equation="vq-nearest",
    ),
    _mutant(
        "distances-under-autocast", "vq.nearest_code",
        "torch.autocast(z.device.type, enabled=False)",
        "torch.autocast(z.device.type, enabled=torch.is_autocast_enabled(z.device.type))",
        "Mixed precision rounds the distances to three digits. Among hundreds of codes many then seem equally near.",
    ),
    _mutant(
        "codebook-of-another-dimension", "vq.nearest_code",
        "if z.dim() != 2 or codebook.dim() != 2 or z.shape[1]", "if z.dim() == codebook.dim() == 2 and z.shape[1]",
        "Tensors with an axis too many, or too few, are let in: the error comes from elsewhere, or not at all.",
    ),
)  # fmt: skip

_APPLY = "return _StraightThrough.apply(z, nearest)"

STRAIGHT_THROUGH = (
    _mutant(
        "straight-through-returns-z", "vq._StraightThrough.forward",
        "return nearest.view_as(nearest)", "return z.view_as(z)",
        "The gradient is right, and the value is that of the encoder: the codes are left out, and an autoencoder "
        "trains in their place.",
        equation="vq-straight-through",
    ),
    _mutant(
        "straight-through-as-a-difference", "vq._StraightThrough.forward",
        "return nearest.view_as(nearest)", "return z + (nearest - z)",
        "Written as z + (e - z) the value is rounded: what the decoder was trained on is not what the codes decode to.",
        equation="vq-straight-through",
    ),
    _mutant(
        "straight-through-with-half-a-gradient", "vq._StraightThrough.backward",
        "return gradient, None", "return 0.5 * gradient, None",
        "The Jacobian is not the identity but a half of it: the encoder learns at another rate than the decoder.",
        equation="vq-straight-through",
    ),
    _mutant(
        "reconstruction-moves-the-codebook", "vq._StraightThrough.backward",
        "return gradient, None", "return gradient, gradient",
        "The gradient of the reconstruction goes to the codes as well as to the encoder. The codebook is to learn by "
        "its own term alone.",
        "https://github.com/ritheshkumar95/pytorch-vqvae/issues/7",
        bug=12, equation="vq-straight-through",
    ),
    _mutant(
        "straight-through-without-detach", "vq.straight_through",
        _APPLY, "return z + (nearest - z)",
        "The detach around the difference is missing. z cancels, so that the encoder gets no gradient from the "
        "pictures; all of it goes to the codes.",
        "https://github.com/NTU-AIoT-Lab/EfficientFi/issues/4",
        bug=12, equation="vq-straight-through",
    ),
    _mutant(
        "straight-through-with-detach-of-all", "vq.straight_through",
        _APPLY, "return (z + (nearest - z)).detach()",
        "The detach is around the sum and not around the difference: the decoder learns, and the encoder sees the "
        "commitment alone.",
        bug=12, equation="vq-straight-through",
    ),
    _mutant(
        "straight-through-may-broadcast", "vq.straight_through",
        "if z.shape != nearest.shape:", "if z.dim() != nearest.dim():",
        "Codes of another shape than z are accepted: PyTorch stretches them, or returns a gradient that fits nothing.",
    ),
)  # fmt: skip

_GRID = "grid = indices.view(z.shape[0], *z.shape[2:])"
_EMBED = "nearest = self.embed(grid)  # what the decoder sees was chosen from the codebook before it moves\n"
_LEARN = "        if self.training:\n            self._learn(rows, indices)"
_FOUND = "return Quantised(straight_through(z, nearest), nearest, grid)"

QUANTISER = (
    _mutant(
        "codebook-learns-by-nothing", "vq.Quantiser.__init__",
        'if update == "ema":', 'if update != "ema":',
        "Moving averages are kept in a parameter that the optimiser moves as well, and a codebook that is to learn by "
        "gradient is a buffer, which no optimiser sees.",
    ),
    _mutant(
        "codebook-starts-far-from-the-data", "vq.Quantiser.__init__",
        "torch.full((codes,), -1.0)", "torch.ones(codes)",
        "The codebook stays where random numbers put it. If the encoder's vectors lie elsewhere, one code is nearest "
        "to all of them, moves there, and is the only one in use.",
        "https://github.com/hiwonjoon/tf-vqvae/issues/2",
        bug=13,
    ),
    _mutant(
        "no-start-without-restarts", "vq.Quantiser.__init__",
        "torch.full((codes,), -1.0)", "torch.zeros(codes)",
        "The start from the data hangs on the threshold of the restarts: without restarts there is no start either.",
        bug=13,
    ),
    _mutant(
        "vectors-cut-across-the-channels", "vq._rows",
        "return z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])", "return z.reshape(-1, z.shape[1])",
        "The map (B, D, h, w) is reshaped to rows of D numbers without moving the channels to the end: a row then "
        "holds D places of one channel and not D channels of one place.",
        "https://github.com/lucidrains/vector-quantize-pytorch/issues/70",
        bug=15,
    ),
    _mutant(
        "codes-laid-out-by-columns", "vq.Quantiser.forward",
        _GRID, "grid = indices.view(z.shape[0], *z.shape[:1:-1]).mT",
        "The codes are read row by row and laid out column by column. On a square grid every shape is right, and the "
        "picture is mirrored at its diagonal.",
        bug=15,
    ),
    _mutant(
        "codebook-moves-before-the-lookup", "vq.Quantiser.forward",
        f"{_EMBED}{_LEARN}", f"if self.training:\n            self._learn(rows, indices)\n        {_EMBED[:-1]}",
        "The moving averages are updated between the search and the lookup: the decoder gets vectors that no distance "
        "was measured to.",
        "https://github.com/zalandoresearch/pytorch-vq-vae/issues/5",
    ),
    _mutant(
        "codebook-moves-in-evaluation", "vq.Quantiser.forward",
        _LEARN, "        self._learn(rows, indices)",
        "The codebook learns from whatever it is shown, test images included. A second look at the same image gives "
        "another picture.",
    ),
    _mutant(
        "restarts-in-evaluation", "vq.Quantiser.forward",
        "        if self.training:\n            self._restart(rows, generator)",
        "        self._restart(rows, generator)",
        "Codes that a test image does not use are thrown away.",
    ),
    _mutant(
        "losses-after-the-straight-through-patch", "vq.Quantiser.forward",
        _FOUND, "patched = straight_through(z, nearest)\n        return Quantised(patched, patched, grid)",
        "The losses are computed on the patched vectors. Their value is right, but their gradient goes to the encoder: "
        "the codebook never learns.",
        "https://github.com/showlab/Olaf-World/issues/8",
        bug=11, equation="vq-codebook-gradient",
    ),
    _mutant(
        "any-dimension-enters-the-quantiser", "vq.Quantiser.forward",
        "if z.dim() != 4 or z.shape[1] != self.codebook.shape[1]:", "if z.dim() != 4:",
        "A map with another number of channels than the codes is let in, and fails later with another message.",
    ),
    _mutant(
        "encoded-in-another-order", "vq.Quantiser.indices",
        "nearest_code(_rows(z.to(self.codebook.dtype)), self.codebook)",
        "nearest_code(z.to(self.codebook.dtype).reshape(-1, z.shape[1]), self.codebook)",
        "Codes for storage are made by other lines than those of training, and these forget to move the channels: "
        "the stored codes decode to noise.",
        "https://github.com/lucidrains/vector-quantize-pytorch/issues/70",
        bug=15,
    ),
    _mutant(
        "encoded-column-by-column", "vq.Quantiser.indices",
        ".view(len(z), *z.shape[2:])", ".view(len(z), *z.shape[:1:-1]).mT",
        "The places are read row by row and written column by column: the stored codes are those of the turned "
        "picture. On a square grid every shape is right.",
        bug=15,
    ),
    _mutant(
        "decoded-in-another-order", "vq.Quantiser.embed",
        ".permute(0, 3, 1, 2)", ".reshape(len(indices), -1, *indices.shape[1:])",
        "The vectors (B, h, w, D) are reshaped to (B, D, h, w) and not permuted. Shapes agree, and the numbers of one "
        "code are scattered over the grid.",
        "https://github.com/LatentActionPretraining/LAPA/issues/48",
        bug=15,
    ),
    _mutant(
        "decoded-on-its-side", "vq.Quantiser.embed",
        ".permute(0, 3, 1, 2)", ".permute(0, 3, 2, 1)",
        "Height and width are exchanged in the lookup. A square grid hides it.",
        bug=15,
    ),
)  # fmt: skip

_MOVE = "self.codebook.addcdiv_(move, used[:, None], value=1 - self.decay)"

UPDATE = (
    _mutant(
        "restart-below-a-number-of-uses", "vq.Quantiser._restart",
        "dead = self.counts < self.restart * fair", "dead = self.counts < self.restart",
        "The threshold is a number of uses and no share of the fair one: what is rare in a batch of 6,272 vectors is "
        "not what is rare in one of 65,536.",
    ),
    _mutant(
        "restart-of-the-living", "vq.Quantiser._restart",
        "torch.where(dead[:, None], fresh, self.codebook)", "torch.where(dead[:, None], self.codebook, fresh)",
        "The two cases are exchanged: the codes in use are thrown away, and the dead are kept.",
    ),
    _mutant(
        "restart-leaves-the-count", "vq.Quantiser._restart",
        "self.counts.masked_fill_(dead, fair)", "self.counts.masked_fill_(dead, 0.0)",
        "A restarted code keeps a count of 0. Its first use then moves it all the way, and at the next batch it is "
        "thrown away again.",
        bug=13,
    ),
    _mutant(
        "restart-on-the-first-vectors", "vq.Quantiser._restart",
        "torch.randperm(max(n, codes), generator=generator, device=rows.device)[:codes] % n",
        "torch.arange(codes, device=rows.device) % n",
        "Codes start on the first vectors of the batch: the patches of a few images, many of them the same background.",
    ),
    _mutant(
        "restart-on-the-same-vector-twice", "vq.Quantiser._restart",
        "torch.randperm(max(n, codes), generator=generator, device=rows.device)[:codes] % n",
        "torch.randint(n, (codes,), generator=generator, device=rows.device)",
        "The vectors are drawn with replacement. Of two equal codes the second is never nearest: it starts dead.",
        bug=13,
    ),
    _mutant(
        "restart-without-the-generator", "vq.Quantiser._restart",
        "generator=generator, device=rows.device)[:codes]", "generator=None, device=rows.device)[:codes]",
        "The generator is taken and not used: two runs with one seed differ.",
    ),
    _mutant(
        "fair-share-of-one-process", "vq.Quantiser._restart",
        "n * _processes() / codes", "n / codes",
        "Uses are added over all processes and compared with the fair share of one: codes start with too small a "
        "count, and more processes are another training.",
    ),
    _mutant(
        "counts-never-smoothed", "vq.Quantiser._learn",
        "self.counts.lerp_(n, 1 - self.decay)", "self.counts.copy_(n)",
        "The sums are averaged over batches and the counts are those of the last one. A code without a use there is "
        "divided by 0, and every other jumps.",
        "https://arxiv.org/abs/1711.00937",
        bug=13, equation="vq-ema",
    ),
    _mutant(
        "decay-upside-down", "vq.Quantiser._learn",
        "self.counts.lerp_(n, 1 - self.decay)", "self.counts.lerp_(n, self.decay)",
        "The weight of the past and that of the present are exchanged for the counts.",
        equation="vq-ema",
    ),
    _mutant(
        "unused-code-divided-by-zero", "vq.Quantiser._learn",
        "self.counts.clamp(min=torch.finfo(rows.dtype).tiny)", "self.counts",
        "The count of a code that is never used falls to 0, and 0 / 0 is not a number. From then on no distance to it "
        "is one either.",
        "https://arxiv.org/abs/1711.00937",
        bug=13,
    ),
    _mutant(
        "update-adds-sums", "vq.Quantiser._learn",
        "move.addcmul_(n[:, None], self.codebook, value=-1)", "move.addcmul_(n[:, None], self.codebook, value=0)",
        "The sum of the vectors is added to the code, where the difference from n times the code belongs: codes run "
        "away from 0.",
        equation="vq-ema-step",
    ),
    _mutant(
        "every-batch-weighs-the-same", "vq.Quantiser._learn",
        _MOVE, "self.codebook.addcdiv_(move, n.clamp(min=1)[:, None], value=1 - self.decay)",
        "The code moves towards the mean of each batch by the same share, whether one vector or a thousand chose it: "
        "a moving average of quotients, and not the quotient of two moving averages.",
        "https://github.com/maxjcohen/vqvae/issues/1",
        equation="vq-ema-step",
    ),
    _mutant(
        "counts-of-one-process", "vq.Quantiser._learn",
        "n = _over_all(torch.bincount(indices, minlength=len(self.codebook)).to(rows.dtype))",
        "n = torch.bincount(indices, minlength=len(self.codebook)).to(rows.dtype)",
        "Each process counts for itself. The codebooks of two processes drift apart, and only one of them is saved.",
    ),
    _mutant(
        "sums-of-one-process", "vq.Quantiser._learn",
        "move = _over_all(torch.zeros_like(self.codebook).index_add_(0, indices, rows))",
        "move = torch.zeros_like(self.codebook).index_add_(0, indices, rows)",
        "The counts are those of all processes and the sums those of one: codes shrink towards 0.",
    ),
    _mutant(
        "always-one-process", "vq._processes",
        "torch.distributed.get_world_size() if there else 1", "1 if there else 1",
        "Whether there are other processes is asked, and the answer is not used.",
    ),
    _mutant(
        "largest-in-place-of-the-sum", "vq._over_all",
        "torch.distributed.all_reduce(tensor)",
        "torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MAX)",
        "The processes agree, on the largest of their statistics and not on the sum.",
    ),
    _mutant(
        "each-process-restarts-on-its-own", "vq._of_the_first",
        "torch.distributed.broadcast(tensor, 0)", "pass",
        "A dead code is restarted at another vector in each process. From there on the codebooks differ.",
    ),
)  # fmt: skip

_GIVEN = "VQVAEOutput(self.decoder(found.quantised), z, found.nearest, found.indices)"

MODEL = (
    _mutant(
        "images-that-halve-to-a-fraction", "vq.VQVAEConfig.__post_init__",
        "if self.image_shape[1] % factor or self.image_shape[2] % factor:", "if self.image_shape[1] % factor:",
        "A width that cannot be halved that often is accepted; the picture that comes back is narrower.",
    ),
    _mutant(
        "config-keeps-lists", "vq.VQVAEConfig.__post_init__",
        'for name in ("image_shape", "widths"):', 'for name in ("image_shape",):',
        "A config read from JSON holds lists, which are not equal to the tuples that were written.",
    ),
    _mutant(
        "grid-on-its-side", "vq.VQVAEConfig.grid",
        "return self.image_shape[1] // factor, self.image_shape[2] // factor",
        "return self.image_shape[2] // factor, self.image_shape[1] // factor",
        "The grid's width is given before its height. Square images hide it.",
        bug=15,
    ),
    _mutant(
        "codebook-of-one", "vq._check_quantiser",
        "if codes < 2 or dim < 1:", "if codes < 1 or dim < 1:",
        "A codebook with a single vector is accepted: it can carry nothing.",
    ),
    _mutant(
        "decay-of-one", "vq._check_quantiser",
        "if not 0 <= decay < 1:", "if not 0 <= decay <= 1:",
        "A decay of 1 is accepted: the codebook never moves.",
    ),
    _mutant(
        "restart-of-every-code", "vq._check_quantiser",
        "if not 0 <= restart < 1:", "if not 0 <= restart <= 1:",
        "A threshold of the fair share itself is accepted: half of the codes are thrown away at every step.",
    ),
    _mutant(
        "decoder-ends-in-a-sigmoid", "vq.VQVAE.__init__",
        "*[layer for stage in up for layer in stage],\n        )",
        "*[layer for stage in up for layer in stage],\n            nn.Sigmoid(),\n        )",
        "The decoder ends in a sigmoid, and whoever uses it applies another: no pixel is darker than 0.5.",
    ),
    _mutant(
        "encoder-ends-in-an-activation", "vq.VQVAE.__init__",
        "nn.Conv2d(widths[-1], config.code_dim, 1),\n        )",
        "nn.Conv2d(widths[-1], config.code_dim, 1),\n            nn.ReLU(),\n        )",
        "The encoder ends as its other layers do, in an activation: all codes are crowded where no number is negative.",
    ),
    _mutant(
        "config-without-effect", "vq.VQVAE.__init__",
        "decay=config.decay, restart=config.restart", "decay=config.decay",
        "A setting of the config is not handed on: what the card says is not what was trained.",
    ),
    _mutant(
        "images-of-another-colour", "vq.VQVAE._encode",
        "if x.shape[1:] != self.config.image_shape:", "if x.shape[2:] != self.config.image_shape[1:]:",
        "The number of channels is not looked at.",
    ),
    _mutant(
        "encoded-with-a-codebook-that-moves", "vq.VQVAE.encode",
        "return self.quantiser.indices(self._encode(x))", "return self.quantiser(self._encode(x)).indices",
        "Codes for storage are made by the forward pass. In training mode that moves the codebook, and a second look "
        "at the same images finds other codes.",
    ),
    _mutant(
        "codes-of-any-type", "vq.VQVAE.decode",
        "if indices.dtype != torch.int64:", "if indices.dtype == torch.bool:",
        "Floating-point numbers are accepted as codes.",
    ),
    _mutant(
        "codes-of-any-grid", "vq.VQVAE.decode",
        "if indices.dim() != 3 or indices.shape[1:] != self.config.grid:", "if indices.dim() != 3:",
        "A grid of another size is decoded without a word, to a picture of another size.",
    ),
    _mutant(
        "decoder-sees-through-the-codes", "vq.VQVAE.forward",
        _GIVEN, _GIVEN.replace("found.quantised", "z"),
        "The decoder is given the encoder's output. Training goes very well, and the codes decode to nothing.",
        equation="vq-elbo",
    ),
    _mutant(
        "encoder-without-a-gradient", "vq.VQVAE.forward",
        _GIVEN, _GIVEN.replace("found.quantised", "found.nearest"),
        "The looked-up vectors go to the decoder without the straight-through gradient: the pictures teach the encoder "
        "nothing.",
        bug=12,
    ),
    _mutant(
        "both-distances-are-zero", "vq.VQVAE.forward",
        _GIVEN, _GIVEN.replace(", z,", ", found.quantised,"),
        "The encoder's output is overwritten by the quantised vectors before the losses are computed. Both distances "
        "to the codebook are then exactly 0, and look like a success.",
        "https://github.com/andylolu2/jax-vqvae-gpt/issues/2",
        bug=11, equation="vq-loss",
    ),
    _mutant(
        "model-without-the-generator", "vq.VQVAE.forward",
        "self.quantiser(z, generator=generator)", "self.quantiser(z)",
        "The generator ends at the model's door: a training cannot be repeated.",
    ),
)  # fmt: skip

_WEIGHED = "loss = distortion + beta * commitment"
_CODEBOOK = "loss = loss + codebook_loss(out.z.float(), out.nearest)"

TERMS = (
    _mutant(
        "beta-on-the-codebook-term", "recipes/code_terms.vq_terms",
        f"{_WEIGHED}\n    if by_gradient:\n        {_CODEBOOK}",
        "loss = distortion + commitment\n    if by_gradient:\n        "
        "loss = loss + beta * codebook_loss(out.z.float(), out.nearest)",
        "Beta multiplies the codebook term and leaves the commitment at 1. At beta = 0.25 the encoder is held four "
        "times as hard as intended, and the codes follow four times as slowly. Kept as a default, called legacy.",
        "https://github.com/CompVis/taming-transformers/issues/57",
        bug=10, equation="vq-loss",
    ),
    _mutant(
        "beta-on-both-terms", "recipes/code_terms.vq_terms",
        _CODEBOOK, "loss = loss + beta * codebook_loss(out.z.float(), out.nearest)",
        "Beta multiplies both distances to the codebook: a codebook that learns by gradient then follows slowly.",
        "https://github.com/huggingface/diffusers/issues/8226",
        bug=10, equation="vq-loss",
    ),
    _mutant(
        "codebook-and-commitment-exchanged", "recipes/code_terms.vq_terms",
        "commitment = commitment_loss(out.z.float(), out.nearest)",
        "commitment = codebook_loss(out.z.float(), out.nearest)",
        "The two terms have the same value, so nobody sees that the detach is on the wrong one: nothing holds the "
        "encoder, and with moving averages nothing is learnt by the term at all.",
        "https://github.com/karpathy/deep-vector-quantization/issues/2",
        bug=10, equation="vq-loss",
    ),
)  # fmt: skip

_COUNT = "return torch.bincount(indices.flatten(), minlength=n_codes)"

USE = (
    _mutant(
        "use-of-the-first-batch", "metrics/codes.code_counts",
        _COUNT, _COUNT.replace("indices.flatten()", "indices[:128].flatten()"),
        "The use of the codebook is that of one batch. Of a small batch the perplexity is low whatever the codebook, "
        "for it holds few codes; and it is quoted as that of the data set.",
        "https://github.com/bshall/VectorQuantizedVAE/issues/3",
        bug=14,
    ),
    _mutant(
        "codes-at-the-end-not-counted", "metrics/codes.code_counts",
        _COUNT, "return torch.bincount(indices.flatten())",
        "The table ends with the largest code that occurs, so that two parts have tables of different length.",
    ),
    _mutant(
        "codes-out-of-range-counted", "metrics/codes.code_counts",
        "indices.max() < n_codes)", "indices.max() <= n_codes)",
        "An index of K is accepted, and counted as a code that does not exist.",
    ),
    _mutant(
        "counts-of-numbers", "metrics/codes.code_counts",
        "if indices.dtype != torch.int64:", "if indices.dtype == torch.bool:",
        "Numbers of another type are counted: one byte holds no code above 255.",
    ),
    _mutant(
        "perplexity-is-use", "metrics/codes.perplexity",
        "shares = counts.double() / counts.sum()", "shares = counts.sign().double() / counts.sign().sum()",
        "A code counts whether it is used once or a thousand times: the number of codes in use, called perplexity.",
        bug=14, equation="vq-perplexity",
    ),
    _mutant(
        "perplexity-of-two-units", "metrics/codes.perplexity",
        ".sum().exp().item()", ".sum().exp2().item()",
        "The entropy is in nats and is taken as the exponent of 2.",
        equation="vq-perplexity",
    ),
    _mutant(
        "perplexity-of-nothing", "metrics/codes.perplexity",
        "counts.min() < 0 or counts.sum() == 0", "counts.min() < 0",
        "The perplexity of a codebook that was never used is asked for, and is not a number.",
    ),
    _mutant(
        "use-above-one", "metrics/codes.codes_used",
        "(counts > 0).sum()", "(counts > 1).sum()",
        "A code that occurs once is taken for a dead one.",
    ),
)  # fmt: skip

MUTANTS = SEARCH + STRAIGHT_THROUGH + QUANTISER + UPDATE + MODEL + TERMS + USE
