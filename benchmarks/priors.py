"""Generators as priors: what restoration without a trained restorer is worth, in decibels, in coverage, in attributes.

Clothes: a box or a half is hidden, without noise. The VAE's latents are searched and drawn from p(z | y), known pixels
are put back, and the answers stand beside the posterior mean of a Gaussian fitted to training images and, where its
weights are there, the trained restorer, on the same images. Coverage: how often a hidden pixel lies in the interval
that is to hold it 90 times of 100. Faces: the lower half is hidden; a StyleGAN's w is searched from several starts, and
a prior over codes is drawn from; a classifier reads the attributes that only the lower half shows. One thread.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.baselines import FLOORS, Prior, gaussian
from benchmarks.record import Claim, make
from benchmarks.trials import ROOT, Cells, stamp
from imagegen import metrics, pretrained
from imagegen.degrade import Degraded, Mask, consistent, half
from imagegen.evaluation import DEGRADATIONS
from imagegen.evaluation.entries import Entry, over_images
from imagegen.evaluation.restorers import CEILING, by_model
from imagegen.images import from_unit, to_float
from imagegen.inverse import LatentPosterior, fill, langevin, linearised, search
from imagegen.recipes import DATA
from imagegen.training import seed_of

PROGRESS = ROOT / "runs/bench-priors.jsonl"
CODE = (
    "benchmarks/baselines.py", "src/imagegen/inverse.py", "src/imagegen/evaluation/restorers.py",
    "src/imagegen/prior/transformer.py", "src/imagegen/vae.py", "src/imagegen/vq.py", "src/imagegen/restore.py",
    "src/imagegen/stylegan/networks.py", "src/imagegen/stylegan/operators.py", "src/imagegen/metrics/pixels.py",
    *(f"src/imagegen/degrade/{part}.py" for part in ("degradation", "masks", "operators")),
)  # fmt: skip
MODELS = ("vae-fashion", "stylegan-avatars", "vqvae-avatars", "prior-avatars", "classifier-avatars")
RESTORER = "restore-fashion"
TASKS = ("box", "half")
HIDDEN = ("mouth", "facial_hair", "clothes", "clothing_colour")  # what only the lower half of a face shows
NOMINAL, QUANTILE = 0.9, 1.6449  # of a normal, two-sided
WORDS = {
    "map": "VAE, the latents of least energy, known pixels put back",
    "raw": "VAE, the latents of least energy, nothing put back",
    "mean": "VAE, mean of draws from p(z | y), known pixels put back",
    "draw": "VAE, draws from p(z | y), known pixels put back, the mean over draws",
    "gaussian": "posterior mean under a Gaussian with mean and covariance of training images",
    "restorer": "the trained restorer, told the mask; its training hid boxes and scribbles, never a half",
}


@dataclass(frozen=True)
class Setting:
    """n: test images of clothes. n_train: training images of the decoder's error and of the Gaussian. n_faces: faces.

    starts, steps, lr: of the search in the VAE; chains, draws_from (burn-in), draws_to, thin, step: of the draws.
    face_*: of the search in w, whose sigma is face_sigma; answers: of each way, a face.
    """

    n: int = 64
    n_train: int = 2500
    rank: int = 256
    n_tune: int = 16
    starts: int = 4
    steps: int = 200
    lr: float = 0.1
    chains: int = 8
    draws_from: int = 80
    draws_to: int = 240
    thin: int = 20
    step: float = 0.12
    n_faces: int = 40
    answers: int = 4
    face_steps: int = 120
    face_sigma: float = 0.4
    n_w: int = 4000
    batch: int = 16
    seed: int = 0


QUICK = Setting(
    n=3, n_train=12, rank=4, n_tune=2, starts=2, steps=3, chains=2, draws_from=1, draws_to=3, thin=1,
    n_faces=3, answers=2, face_steps=2, n_w=100, batch=2,
)  # fmt: skip


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shown(logits: Tensor) -> Tensor:
    """Return the images in [-1, 1] whose values in [0, 1] have these logits."""
    return from_unit(torch.sigmoid(logits))


@torch.no_grad()
def decoder_error(vae: nn.Module, train: Tensor) -> Tensor:
    """Return the root mean square of x - G(z), z the mean of q(z | x), of each pixel: (C, H, W).

    train: images that the VAE has seen, so it comes out a little too small.
    """
    return (shown(vae.decode(vae.encode(train)[0])) - train).square().mean(0).sqrt()


def clothes(vae: nn.Module, x: Tensor, seen: Degraded, own: Tensor, setting: Setting) -> dict[str, Tensor]:
    """Return what the VAE makes of what was seen of x: images "map", "raw", "mean" (B, C, H, W) and
    "draw", all of them (N, B, C, H, W), not clamped; and of each image the
    share of hidden pixels that "alone" (draws' deviation) and "whole" (with the decoder's) cover, and "accepted".
    """  # fmt: skip
    random = seeded(setting.seed + 1)
    sigma = own.square().mean().sqrt().item()
    dim = vae.config.latent_dim
    posterior = LatentPosterior(lambda z: shown(vae.decode(z)), seen.operator, seen.y, sigma)
    starts = torch.randn(setting.starts, len(x), dim, generator=random)
    best = search(posterior, starts, n_steps=setting.steps, lr=setting.lr).best
    factor = linearised(posterior, best)
    eps = torch.randn(setting.chains, len(x), dim, generator=random)
    chains = langevin(
        posterior, best + torch.einsum("bij,sbj->sbi", factor, eps), step=setting.step,
        n_steps=setting.draws_to, burn_in=setting.draws_from, thin=setting.thin, factor=factor, generator=random,
    )  # fmt: skip
    with torch.no_grad():
        drawn = torch.stack([posterior.images(z) for z in chains.z]).flatten(0, 1)  # (T S, B, C, H, W)
        raw = posterior.images(best[None])[0]

    def kept(answer: Tensor) -> Tensor:
        return consistent(answer, seen.y, seen.operator)

    found = {"raw": raw, "map": kept(raw), "mean": kept(drawn.mean(0))}
    found["draw"] = torch.stack([kept(draw) for draw in drawn])
    hidden = ~seen.known.expand_as(x)
    for name, deviation in (("alone", drawn.std(0)), ("whole", (drawn.var(0) + own.square()).sqrt())):
        inside = (x - drawn.mean(0)).abs() <= QUANTILE * deviation
        found[name] = (inside & hidden).flatten(1).sum(1) / hidden.flatten(1).sum(1)
    return found | {"accepted": chains.accepted.mean(0)}


def linear(train: Tensor, tune: Tensor, task: str, setting: Setting) -> tuple[Prior, float]:
    """Return the Gaussian and the floor, of FLOORS, with the least squared error on other training images."""
    prior = Prior.fit(train, setting.rank)
    seen = DEGRADATIONS[task](tune, generator=seeded(setting.seed + 2))
    errors = [
        metrics.mse(tune, consistent(gaussian(prior, DEGRADATIONS[task], seen, floor), seen.y, seen.operator))
        for floor in FLOORS
    ]
    return prior, FLOORS[min(range(len(FLOORS)), key=lambda i: errors[i].mean().item())]


def one_task(task: str, setting: Setting) -> dict[str, Any]:
    """Return lists over images: squared error and PSNR of each way, and the shares of `clothes`."""
    order = seeded(setting.seed)
    train, test = (DATA["fashion-mnist"](split).images for split in ("train", "test"))
    chosen = torch.randperm(len(train), generator=order)[: setting.n_train + setting.n_tune]
    tune, many = to_float(train[chosen[: setting.n_tune]]), to_float(train[chosen[setting.n_tune :]])
    x = to_float(test[torch.randperm(len(test), generator=order)[: setting.n]])
    seen = DEGRADATIONS[task](x, generator=seeded(setting.seed + 3))
    vae = pretrained.load("vae-fashion")
    found = clothes(vae, x, seen, decoder_error(vae, many), setting)
    prior, floor = linear(many, tune, task, setting)
    images = {name: found.pop(name) for name in ("map", "raw", "mean", "draw")}
    images["gaussian"] = consistent(gaussian(prior, DEGRADATIONS[task], seen, floor), seen.y, seen.operator)
    if RESTORER in pretrained.names():
        with torch.no_grad():
            restored = by_model(pretrained.load(RESTORER))(seen, DEGRADATIONS[task])
        images["restorer"] = consistent(restored, seen.y, seen.operator)
    result: dict[str, Any] = {name: values.tolist() for name, values in found.items()}
    for name, image in images.items():
        several = [one.clamp(-1, 1) for one in (image if image.dim() == 5 else image[None])]
        errors = torch.stack([metrics.mse(x, one) for one in several])
        decibels = torch.stack([metrics.psnr(x, one, span=2).clamp(max=CEILING) for one in several])
        result[f"{name}_mse"], result[f"{name}_psnr"] = errors.mean(0).tolist(), decibels.mean(0).tolist()
    return result | {"floor": floor}


def in_w(generator: nn.Module, n: int, seed: int) -> Callable[[Tensor], Tensor]:
    """Return u -> image, with w = mean + R u, R R^T the covariance of w: u ~ N(0, I) has w's first two moments."""
    with torch.no_grad():
        w = generator.mapping(torch.randn(n, generator.config.latent_dim, generator=seeded(seed)))
    values, vectors = torch.linalg.eigh(torch.cov(w.T))
    mean, root = w.mean(0), vectors * values.clamp(min=0).sqrt()
    layers = generator.config.layers

    def drawn(u: Tensor) -> Tensor:
        return generator.synthesis((mean + u @ root.T)[:, None].expand(-1, layers, -1), noise="fixed")

    return drawn


@torch.no_grad()
def read(reader: nn.Module, x: Tensor) -> Tensor:
    """Return the attributes (B, A) that a classifier reads."""
    return torch.stack([logits.argmax(1) for logits in reader(x.clamp(-1, 1))], 1)


def some_faces(first: int, setting: Setting) -> dict[str, Any]:
    """Return what is read in the answers to some faces, {"gan": (S, B, A), "codes": ...}, and in the faces, "true"."""
    test = DATA["avatars"]("test")
    x = to_float(test.images[first : min(first + setting.batch, setting.n_faces)])
    operator = Mask(half(x.shape, "bottom", generator=seeded(0)))
    y, reader = operator(x), pretrained.load("classifier-avatars")
    gan = pretrained.load("stylegan-avatars").generator
    posterior = LatentPosterior(in_w(gan, setting.n_w, setting.seed), operator, y, setting.face_sigma)
    random = seeded(seed_of(setting.seed, 1, first))
    starts = torch.randn(setting.answers, len(x), gan.config.latent_dim, generator=random)
    ended = search(posterior, 0.7 * starts, n_steps=setting.face_steps, lr=0.1)
    with torch.no_grad():
        images = posterior.images(ended.z).clamp(-1, 1)
        best = consistent(posterior.images(ended.best[None])[0].clamp(-1, 1), y, operator)
    found = {"gan": torch.stack([read(reader, consistent(image, y, operator)) for image in images])}
    # The codes of the upper half, from a face whose lower half was made up: a grey one would change them more.
    vq, prior = pretrained.load("vqvae-avatars"), pretrained.load("prior-avatars")
    rows = vq.config.grid[0] // 2
    known = torch.arange(vq.config.grid[0])[:, None].expand(vq.config.grid) < rows
    with torch.no_grad():
        codes = vq.encode(best)
        seeds = [seed_of(setting.seed, 2, first + i) for i in range(len(codes))]
        drawn = [
            fill(prior, c, known, setting.answers, generator=seeded(s)).codes for c, s in zip(codes, seeds)
        ]
        filled = [shown(vq.decode(c)) for c in torch.stack(drawn, 1)]
    found["codes"] = torch.stack([read(reader, consistent(image, y, operator)) for image in filled])
    return {k: v.tolist() for k, v in found.items()} | {"true": test.labels[first : first + len(x)].tolist()}


def shares(answers: Tensor, true: Tensor) -> dict[str, Tensor]:
    """Return of answers (S, B, K) and truths (B, K), for each face, means over K attributes of how often an answer is
    "right", two answers are "alike", "any" of them is right, and all are the same and "wrong".
    """  # fmt: skip
    right = (answers == true).double()
    n = len(answers)
    same = (answers[:, None] == answers[None]).double().sum((0, 1)) - n  # ordered pairs of two answers
    wrong = (answers == answers[0]).all(0) & ~(answers[0] == true)
    return {
        "right": right.mean((0, 2)), "alike": (same / (n * (n - 1))).mean(1),
        "any": right.amax(0).mean(1), "wrong": wrong.double().mean(1),
    }  # fmt: skip


def of_faces(cells: list[dict[str, Any]], train: Tensor, names: list[str]) -> dict[str, Entry]:
    """Return the entries of faces: each way's shares over HIDDEN, the seen ones' share, and a guess's."""
    hidden = [names.index(name) for name in HIDDEN]
    seen = [i for i in range(len(names)) if i not in hidden]
    true = torch.tensor([row for cell in cells for row in cell["true"]])
    words = {
        "right": "an answer shows what the face has", "alike": "two answers show the same",
        "any": "at least one answer shows what the face has", "wrong": "all answers agree and are wrong",
    }  # fmt: skip
    entries = {}
    for way, how in (
        ("gan", "StyleGAN, searches in w from several starts"),
        ("codes", "codes drawn by the prior"),
    ):
        answers = torch.cat([torch.tensor(cell[way]) for cell in cells], 1)
        for name, values in shares(answers[..., hidden], true[:, hidden]).items():
            detail = f"{how}, {len(answers)} answers; of the attributes {', '.join(HIDDEN)}: {words[name]}"
            entries[f"faces_{way}_{name}"] = over_images(values, "share", detail)
        values = shares(answers[..., seen], true[:, seen])["right"]
        entries[f"faces_{way}_seen"] = over_images(
            values, "share", f"{how}; of the other attributes, those right"
        )
    most = torch.tensor([train[:, a].mode().values.item() for a in hidden])
    detail = f"the most common value of the training faces, of {', '.join(HIDDEN)}"
    entries["faces_guess_right"] = over_images((true[:, hidden] == most).double().mean(1), "share", detail)
    return entries


def of_clothes(task: str, result: dict[str, Any]) -> dict[str, Entry]:
    """Return the entries of one task."""
    entries = {}
    for name, words in WORDS.items():
        if f"{name}_mse" in result:
            words = f"{words}; floor {result['floor']:g}" if name == "gaussian" else words
            detail = f"fashion-mnist, {task}: {words}"
            for measure, unit in (("psnr", "dB"), ("mse", "squared, pixels in [-1, 1]")):
                values = torch.tensor(result[f"{name}_{measure}"]).double()
                entries[f"{task}_{name}_{measure}"] = over_images(values, unit, f"{detail}; mean over images")
    for name, how in (("alone", "of the draws alone"), ("whole", "of the draws and the decoder's own error")):
        detail = (
            f"fashion-mnist, {task}: hidden pixels within the central {NOMINAL:.0%} by the deviation {how}"
        )
        entries[f"{task}_cover_{name}"] = over_images(torch.tensor(result[name]).double(), "share", detail)
    detail = f"fashion-mnist, {task}: Langevin steps accepted"
    entries[f"{task}_accepted"] = over_images(torch.tensor(result["accepted"]).double(), "share", detail)
    return entries


def claimed(entries: dict[str, Entry]) -> list[Claim]:
    """Return the claims: a mean beats a mode, and what a prior says of itself is too sure."""

    def ratio(above: str, below: str) -> float | None:
        over, under = entries[above]["value"], entries[below]["value"]
        return over / under if under else None

    found = []
    for task in TASKS:
        found += [
            Claim(f"{task}: squared error of the mean of draws, against the mode",
                  ratio(f"{task}_mean_mse", f"{task}_map_mse"), 1.0),
            Claim(f"{task}: coverage of {NOMINAL:.0%} intervals by draws alone",
                  entries[f"{task}_cover_alone"]["value"], NOMINAL),
            Claim(f"{task}: share by which the coverage with the decoder's error misses {NOMINAL:.0%}",
                  abs(entries[f"{task}_cover_whole"]["value"] - NOMINAL), 0.1),
        ]  # fmt: skip
    text = "StyleGAN: hidden attributes right, against two answers alike"
    return [*found, Claim(text, ratio("faces_gan_right", "faces_gan_alike"), 1.0)]


def made_of(setting: Setting) -> dict[str, Any]:
    """Return what results hang on."""
    own, models = "benchmarks/priors.py", (*MODELS, RESTORER)
    return stamp(setting, own=own, network="classifier-avatars", code=CODE, models=models, recipes=())


def measure(*, quick: bool = False, say: Callable[[str], None] = print) -> dict:
    """Return the record of the benchmark, with its claims; `quick` runs all of it at a size that shows nothing.

    A full measurement that was killed goes on where it was, if neither setting, code nor weights have changed.
    """
    began, threads = time.time(), torch.get_num_threads()
    setting = QUICK if quick else Setting()
    on = made_of(setting)
    cells, entries = Cells(None if quick else PROGRESS, on), {}
    torch.set_num_threads(1)
    try:
        for task in TASKS:
            entries |= of_clothes(task, cells.get(task, lambda task=task: one_task(task, setting)))
            said = {k: v["value"] for k, v in entries.items() if k.startswith(task) and "mse" not in k}
            say("  " + ", ".join(f"{k} {v:.3g}" for k, v in said.items()))
        firsts = range(0, setting.n_faces, setting.batch)
        faces = [cells.get(f"faces {i}", lambda i=i: some_faces(i, setting)) for i in firsts]
        train = DATA["avatars"]("train")
        entries |= of_faces(faces, train.labels, list(train.attributes))
    finally:
        torch.set_num_threads(threads)
    say("  " + ", ".join(f"{k} {v['value']:.3g}" for k, v in entries.items() if k.startswith("faces")))
    record = make("bench-priors", seconds=time.time() - began, metrics=entries, seed=setting.seed)
    cells.drop()
    return record | {
        "weights_sha256": on["weights"], "setting": on["setting"],
        "claims": [claim.as_dict() for claim in claimed(entries)],
    }  # fmt: skip
