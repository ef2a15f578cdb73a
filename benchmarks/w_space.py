"""The W space of the shipped StyleGAN: truncation, mixing, paths, directions and projection.

Truncation: samples of each psi, and of psi = 0.5 towards 0 in place of the mean of w, against as many test images in
the protocol's features; they are fewer than the protocol's, and their distance is so much larger.
Mixing: of pairs of faces that are read differently, how often the first is read as the second when one grid's layers
take the second's w. Paths: how fast features move between two faces, along an arc in z and along a line in w.
Directions: how well an attribute is fitted, ranked, gained, and what else stays. Projection: how near test faces are
come to, by one w and by one a layer, and whether they can still be steered. One thread.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from benchmarks.record import Claim, make
from imagegen import metrics, pretrained
from imagegen.evaluation import PROTOCOLS, Direction, attribute_directions, drawn_at, points_in, reference
from imagegen.evaluation.entries import Entry, over_images, over_seeds
from imagegen.images import to_float, to_uint8
from imagegen.metrics.paths import SAMPLINGS
from imagegen.recipes import DATA
from imagegen.stylegan import Search, StyleGAN, project

MODEL, AVATARS = "stylegan-avatars", "avatars"
BATCH = 250
TOWARDS_0 = 0.5  # the psi at which truncation towards 0 is shown beside that towards the mean of w
ASKED = {
    "long_hair": ("hair", ("long", "extra long", "bob", "bob with bangs")),
    "dark_skin": ("skin", ("5", "6", "7 (darkest)")),
    "glasses": ("eyes", ("glasses", "sunglasses")),
    "smile": ("mouth", ("smile", "big smile")),
    "beard": ("facial_hair", ("beard and moustache", "goatee", "pyramid moustache", "walrus moustache")),
    "dark_background": ("background", ("slate", "ink")),
}
EDITED = "glasses"
SHARES = {
    "fit": "of the variance of what is read that a linear function explains",
    "separated": "of pairs, one that shows it and one that does not, that the function ranks rightly",
    "gained": "of faces without it that show it after a step of 3 deviations",
    "kept": "of the other attributes that are read as before that step",
}


@dataclass(frozen=True)
class Setting:
    """How much is measured. n: samples of each psi and seed, and test images; n_fit, n_test: latents of a direction.

    reach: deviations that faces are moved by.
    """

    psis: tuple[float, ...] = (0.3, 0.5, 0.7, 0.85, 1.0)
    seeds: tuple[int, ...] = (0, 1)
    n: int = 2000
    n_pairs: int = 300
    n_paths: int = 800
    n_fit: int = 2000
    n_test: int = 250
    reach: float = 3.0
    n_faces: int = 16
    n_steps: int = 200


QUICK = Setting(psis=(0.5, 1.0), n=12, n_pairs=6, n_paths=4, n_fit=200, n_test=40, n_faces=2, n_steps=2)
Results = dict[str, list[float]]


def asked() -> dict[str, tuple[int, list[int]]]:
    """Return what `attribute_directions` asks for: the number of the attribute and those of its values."""
    names = DATA[AVATARS]("test").attributes
    order = list(names)
    return {key: (order.index(a), [names[a].index(v) for v in values]) for key, (a, values) in ASKED.items()}


@torch.inference_mode()
def samples(model: StyleGAN, n: int, psi: float, seed: int, *, towards_0: bool = False) -> Tensor:
    """Return n uint8 images with w truncated to w_mean + psi (w - w_mean), or to psi w, and with random noise."""
    random = torch.Generator().manual_seed(seed)
    drawn = []
    for part in model.draw(n, generator=random).split(BATCH):
        styles = model.generator.styles(part, truncation=1.0 if towards_0 else psi)
        styles = psi * styles if towards_0 else styles
        drawn.append(to_uint8(model.generator.synthesis(styles, generator=random).clamp(-1, 1)))
    return torch.cat(drawn)


def truncated(model: StyleGAN, setting: Setting, say: Callable[[str], None]) -> Results:
    """Return FD, precision and recall a seed: {"psi_50_recall": values}, of real images "real_recall"."""
    protocol = replace(PROTOCOLS[AVATARS], n=setting.n)
    ruler, train, test = reference(protocol)
    found: Results = {}

    def judge(name: str, features: Tensor) -> None:
        precision, recall = metrics.precision_recall(test, features)
        row = {"fd": metrics.frechet_distance(features, test), "precision": precision, "recall": recall}
        for measure, value in row.items():
            found.setdefault(f"{name}_{measure}", []).append(value)
        say(f"  {name}: " + ", ".join(f"{k} {v:.3g}" for k, v in row.items()))

    for seed in setting.seeds:
        for psi in setting.psis:
            images = samples(model, setting.n, psi, seed)
            judge(f"psi_{round(100 * psi)}", ruler.features(images))
        images = samples(model, setting.n, TOWARDS_0, seed, towards_0=True)
        judge("towards_0", ruler.features(images))
        chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[: setting.n]
        judge("real", train[chosen])
    return found


@torch.inference_mode()
def mixed_by_grid(model: StyleGAN, reader: nn.Module, setting: Setting) -> dict[str, tuple[float, int]]:
    """Return how often a face is read as another one whose w it takes on one grid: {"mix_8_hair": (share, pairs)}.

    Of the pairs of faces that are read differently. The layers of a grid are its convolutions and its image's.
    """
    generator = model.generator
    random = torch.Generator().manual_seed(setting.seeds[0])
    first, second = (
        generator.styles(model.draw(setting.n_pairs, generator=random)) for _ in range(2)
    )  # (N, L, D)

    def read(styles: Tensor) -> Tensor:
        rows = [
            torch.stack(
                [k.argmax(1) for k in reader(generator.synthesis(part, noise="fixed").clamp(-1, 1))], 1
            )
            for part in styles.split(BATCH)
        ]
        return torch.cat(rows)  # (N, A)

    own, other = read(first), read(second)
    found, names = {}, list(DATA[AVATARS]("test").attributes)
    for grid in range(model.config.grids):
        styles, layers = first.clone(), layers_of(grid, model.config.grids)
        styles[:, layers] = second[:, layers]
        follows = read(styles) == other
        for number, name in enumerate(names):
            differs = own[:, number] != other[:, number]
            if differs.any():  # of no pair there is no share
                share = follows[differs, number].double().mean().item()
                found[f"mix_{4 << grid}_{name}"] = share, int(differs.sum())
    return found


def layers_of(grid: int, grids: int) -> slice:
    """Return the layers that are counted to a grid, of which each is counted to one.

    The image of a grid takes its style from the same layer as the first convolution of the next, and is counted there;
    the last image has a layer of its own.
    """
    return slice(max(0, 2 * grid - 1), 2 * grid + (2 if grid == grids - 1 else 1))


@torch.inference_mode()
def paths(model: StyleGAN, setting: Setting) -> dict[str, Tensor]:
    """Return squared speeds along paths between the same faces, {"z_full": (N,)}, and "chord", their ends' distance."""
    ruler, _, _ = reference(replace(PROTOCOLS[AVATARS], n=setting.n))
    random = torch.Generator().manual_seed(setting.seeds[0])
    z = [model.draw(setting.n_paths, generator=random) for _ in range(2)]
    z = [part / part.norm(dim=1, keepdim=True) for part in z]  # the mapping gives them one length

    def describe(space: str) -> Callable[[Tensor], Tensor]:
        def features(points: Tensor) -> Tensor:
            return (ruler.network.features(drawn_at(model, points, space)) - ruler.centre) / ruler.scale

        return features

    found = {}
    for space in ("z", "w"):
        ends = [points_in(model, part, space) for part in z]
        for sampling in SAMPLINGS:
            at = torch.Generator().manual_seed(setting.seeds[0])
            options = {"arc": space == "z", "sampling": sampling, "batch": BATCH, "generator": at}
            found[f"{space}_{sampling}"] = metrics.path_speeds(describe(space), *ends, **options)
    first, second = (torch.cat([describe("z")(part) for part in side.split(BATCH)]) for side in z)
    return found | {"chord": (second - first).double().square().sum(1)}


def projected(model: StyleGAN, reader: nn.Module, towards: Direction, setting: Setting) -> dict[str, Tensor]:
    """Return of test faces, {"w_error": (N,), "w_gained": (N',), "w_kept": (N,)} and so for "w_plus".

    error: of pixels and features, as `project` gives it. gained: of faces read without glasses, whether they are read
    with them after a step; kept: the share of other attributes that are read as in the test face.
    """
    ruler, _, _ = reference(replace(PROTOCOLS[AVATARS], n=setting.n))
    test = DATA[AVATARS]("test")
    x, (attribute, values) = to_float(test.images[: setting.n_faces]), asked()[EDITED]
    others = [a for a in range(len(test.attributes)) if a != attribute]

    def features(images: Tensor) -> Tensor:
        return (ruler.network.features(images.clamp(-1, 1)) - ruler.centre) / ruler.scale

    @torch.inference_mode()
    def read(images: Tensor) -> Tensor:
        return torch.stack([k.argmax(1) for k in reader(images.clamp(-1, 1))], 1)

    before, found = read(x), {}
    without = ~torch.isin(before[:, attribute], torch.tensor(values))
    for name, per_layer in (("w", False), ("w_plus", True)):
        search = Search(n_steps=setting.n_steps, per_layer=per_layer)
        random = torch.Generator().manual_seed(setting.seeds[0])
        done = project(model.generator, x, features, search=search, random=random)
        step = setting.reach * towards.unit * towards.vector
        with torch.inference_mode():
            edited = read(model.generator.synthesis(done.styles + step, noise="fixed"))
        found |= {
            f"{name}_error": done.errors[-1].double(),
            f"{name}_gained": torch.isin(edited[without, attribute], torch.tensor(values)).double(),
            f"{name}_kept": (edited[:, others] == before[:, others]).double().mean(1),
        }
    return found


def measured(model: StyleGAN, setting: Setting, say: Callable[[str], None]) -> dict[str, Entry]:
    """Return all entries."""
    reader = pretrained.load(PROTOCOLS[AVATARS].network)
    entries: dict[str, Entry] = {}
    units = {"fd": "FD-avatars", "precision": "share", "recall": "share"}
    for name, values in truncated(model, setting, say).items():
        what, measure = name.rsplit("_", 1)
        how = {"real": "training images in the place of samples", "towards_0": f"w times {TOWARDS_0}"}
        detail = how.get(what, f"psi {what[4:]} %") + f"; against {setting.n:,} test images"
        entries[name] = over_seeds(values, units[measure], setting.n, detail)
    for name, (share, pairs) in mixed_by_grid(model, reader, setting).items():
        detail = "of pairs that are read differently, read as the second, whose w this grid took"
        entries[name] = {"value": share, "unit": "share", "n": pairs, "detail": detail}
    for name, speeds in paths(model, setting).items():
        chord = "squared distance of the features of both ends"
        detail = (
            chord if name == "chord" else f"path length in {name[0]}, {name[2:]}, of features of variance 1"
        )
        entries[f"path_{name}"] = over_images(speeds, "", detail)
    say("  paths: " + ", ".join(f"{k} {v['value']:.3g}" for k, v in entries.items() if k.startswith("path")))
    found = {}
    for space in ("z", "w"):
        random = torch.Generator().manual_seed(setting.seeds[0])
        options = {"n": setting.n_fit, "n_test": setting.n_test, "reach": setting.reach, "generator": random}
        found[space] = attribute_directions(model, reader, asked(), space=space, **options)
        entries |= of_directions(space, found[space], setting)
        say(f"  {space}: " + ", ".join(f"{k} {entries[f'{space}_{k}']['value']:.3g}" for k in SHARES))
    for name, values in projected(model, reader, found["w"][EDITED], setting).items():
        unit = "" if name.endswith("error") else "share"
        if len(values) > 1:
            detail = f"of test faces, after {setting.n_steps} steps"
            entries[f"project_{name}"] = over_images(values, unit, detail)
    return entries


def of_directions(space: str, found: dict[str, Direction], setting: Setting) -> dict[str, Entry]:
    """Return the shares of each direction, {"z_glasses_fit": entry}, and their means over directions, "z_fit".

    A share of no faces is left out.
    """
    entries: dict[str, Entry] = {}
    for share, what in SHARES.items():
        values = {name: getattr(direction, share) for name, direction in found.items()}
        values = {name: value for name, value in values.items() if not math.isnan(value)}
        rest = {"unit": "share", "n": setting.n_test}
        for name, value in values.items():
            words = name.replace("_", " ")
            entries[f"{space}_{name}_{share}"] = {
                "value": value,
                "detail": f"{words}, in {space}: {what}",
                **rest,
            }
        mean = sum(values.values()) / max(1, len(values))
        detail = f"mean of {len(values)} attributes, in {space}: {what}"
        entries[f"{space}_{share}"] = {"value": mean, "detail": detail, **rest}
    return entries


def claimed(entries: dict[str, Entry]) -> list[Claim]:
    """Return the claims: what truncation must trade, and which way between two faces is the longer."""

    def ratio(above: str, below: str) -> float | None:
        over, under = entries[above]["value"], entries[below]["value"]
        return over / under if under else None

    return [
        Claim("recall at psi 0.5, against psi 1", ratio("psi_50_recall", "psi_100_recall"), 1.0),
        Claim("precision at psi 1, against psi 0.5", ratio("psi_100_precision", "psi_50_precision"), 1.0),
        Claim("squared distance of the ends, against a path in w", ratio("path_chord", "path_w_full"), 1.0),
        Claim("path length in w, against z", ratio("path_w_full", "path_z_full"), 1.0),
        Claim("error of a projection into W+, against W", ratio("project_w_plus_error", "project_w_error"), 1.0),
    ]  # fmt: skip


def measure(*, quick: bool = False, say: Callable[[str], None] = print) -> dict:
    """Return the record of the benchmark, with its claims; `quick` runs all of it at a size that shows nothing."""
    began, threads = time.time(), torch.get_num_threads()
    setting = QUICK if quick else Setting()
    torch.set_num_threads(1)
    try:
        entries = measured(pretrained.load(MODEL).eval(), setting, say)
    finally:
        torch.set_num_threads(threads)
    record = make("bench-w-space", seconds=time.time() - began, metrics=entries, seed=setting.seeds[0])
    return record | {
        "weights_sha256": {MODEL: pretrained.card(MODEL)["sha256"]}, "setting": asdict(setting),
        "claims": [claim.as_dict() for claim in claimed(entries)],
    }  # fmt: skip
