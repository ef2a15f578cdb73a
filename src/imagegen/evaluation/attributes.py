"""How well attributes are read off an image, and an image drawn from its attributes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from imagegen import metrics
from imagegen.decoder import WITHHELD
from imagegen.evaluation.entries import SQUARED, Entry, over_images
from imagegen.images import to_float, to_unit

BATCH = 250
FEWEST = 100  # training faces that must fit what is told, for their mean to say anything


@torch.inference_mode()
def measure_classifier(model: nn.Module, images: Tensor, labels: Tensor, *, names: Sequence[str] = (),
                       device: torch.device | str = "cpu") -> dict[str, Entry]:  # fmt: skip
    """Return accuracy and cross-entropy of a classifier on uint8 images (N, C, H, W) with labels (N,) or (N, A).

    names: of the attributes, for an entry `accuracy_NAME` each beside their mean; none where there is one attribute.
    Raises: ValueError: several attributes, and another number of names.
    """
    model = model.to(device, memory_format=torch.channels_last).eval()
    labels, hits, nats = labels.reshape(len(images), -1), [], []
    if labels.shape[1] > 1 and len(names) != labels.shape[1]:
        raise ValueError(f"{len(names)} names of {labels.shape[1]} attributes")
    for part, wanted in zip(images.split(BATCH), labels.split(BATCH)):
        pairs = list(zip(model(to_float(part.to(device))), wanted.to(device).unbind(1), strict=True))
        hits.append(torch.stack([(row.argmax(1) == label) for row, label in pairs], dim=1).double().cpu())
        surprise = [
            nn.functional.cross_entropy(row.double(), label, reduction="none") for row, label in pairs
        ]
        nats.append(torch.stack(surprise, dim=1).sum(1).cpu())
    found, several = torch.cat(hits), labels.shape[1] > 1  # (N, A)
    mean = (
        f"share of the {labels.shape[1]} attributes read rightly"
        if several
        else "share of images read rightly"
    )
    total = f"summed over {labels.shape[1]} attributes" if several else "of the true class"
    entries = {
        "accuracy": over_images(found.mean(1), "", mean),
        "cross_entropy": over_images(torch.cat(nats), "nats/image", total),
    }
    if several:
        for name, column in zip(names, found.unbind(1), strict=True):
            entries[f"accuracy_{name}"] = over_images(
                column, "", f"share of images whose {name} is read rightly"
            )
    return entries


def _roughness(pixels: Tensor) -> Tensor:
    """Return the mean square of the steps between neighbouring pixels, (B,), of images (B, C, H, W) in [0, 1]."""
    across, down = pixels.diff(dim=3).square(), pixels.diff(dim=2).square()
    return across.flatten(1).mean(1).double() + down.flatten(1).mean(1).double()


@torch.inference_mode()
def measure_decoder(model: nn.Module, test: tuple[Tensor, Tensor], train: tuple[Tensor, Tensor], *,
                    fewest: int = FEWEST, device: torch.device | str = "cpu") -> dict[str, Entry]:  # fmt: skip
    """Return the metrics of an attribute decoder; test, train: uint8 images (N, C, H, W) and labels (N, A).

    Told all attributes it draws the test images. Told none, one, or two (neighbours in the list), it should draw the
    mean of the training images that fit: `conditional_error_k` is its squared distance to that mean, and
    `conditional_spread_k` the squared distance of those images to it, which no drawing can go below. Every set of
    told values counts by the images that fit; those that fewer than `fewest` fit are left out.
    """
    model = model.to(device, memory_format=torch.channels_last).eval()

    def drawn(labels: Tensor) -> Tensor:
        return torch.sigmoid(model(model.conditions(labels.to(device)))).cpu()

    rows = []
    for part, labels in zip(test[0].split(BATCH), test[1].split(BATCH)):
        shown, target = drawn(labels), to_unit(to_float(part))
        found = (metrics.mse(shown, target), metrics.psnr(shown, target, span=1.0),
                 metrics.ssim(shown, target, span=1.0), _roughness(shown), _roughness(target))  # fmt: skip
        rows.append(tuple(column.double() for column in found))
    error, ratio, likeness, rough, real = (torch.cat(column) for column in zip(*rows, strict=True))
    told_all = "told all attributes"
    entries = {
        "mse": over_images(error, SQUARED, told_all),
        "psnr": over_images(ratio, "dB", f"{told_all}; mean over images"),
        "ssim": over_images(likeness, "", f"{told_all}; 1 for equal images"),
        "sharpness": {"value": (rough.sum() / real.sum()).item(), "unit": "", "n": len(rough),
                      "detail": f"{told_all}: squared steps between neighbouring pixels, against the real images'"},
    }  # fmt: skip
    count = train[1].shape[1]
    told = [[()], [(a,) for a in range(count)], [(a, a + 1) for a in range(count - 1)]]
    for k, subsets in enumerate(told[: count + 1]):
        entries |= _conditional(drawn, train, subsets, k, fewest)
    return entries


def _groups(labels: Tensor, subset: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return the sets of values (G, A) that labels (N, A) have at `subset`, -1 elsewhere, and each row's set (N,)."""
    known = torch.full_like(labels, WITHHELD)
    known[:, list(subset)] = labels[:, list(subset)]
    return torch.unique(known, dim=0, return_inverse=True)


def _conditional(drawn: Callable[[Tensor], Tensor], train: tuple[Tensor, Tensor],
                 subsets: list[tuple[int, ...]], k: int, fewest: int) -> dict[str, Entry]:  # fmt: skip
    images, labels = train
    groups = [_groups(labels, subset) for subset in subsets]
    sums = [torch.zeros(len(asked), images[0].numel()) for asked, _ in groups]
    squares, steps = [], []
    for start in range(0, len(images), BATCH):
        levels = images[start : start + BATCH].float()  # whole numbers: their float32 sums are exact to 2^24
        squares.append((levels / 255).double().square().flatten(1).mean(1))
        steps.append(_roughness(levels / 255))
        for total, (_, group) in zip(sums, groups, strict=True):
            total.index_add_(0, group[start : start + BATCH], levels.flatten(1))
    square, step = torch.cat(squares), torch.cat(steps)
    found = []  # one row a set of values: images that fit, error, spread, roughness drawn and real
    for (asked, group), total in zip(groups, sums, strict=True):
        n = torch.bincount(group).double()
        mean = total / 255 / n.float()[:, None]
        shown = torch.cat([drawn(rows) for rows in asked.split(BATCH)])
        spread = torch.zeros_like(n).index_add_(0, group, square) / n - mean.double().square().mean(1)
        real = torch.zeros_like(n).index_add_(0, group, step) / n
        error = metrics.mse(shown.flatten(1), mean).double()
        rows = torch.stack([n, error, spread, _roughness(shown), real], dim=1)
        found.append(rows[n >= fewest])
    n, error, spread, rough, real = torch.cat(found).unbind(1)
    if not len(n):
        return {}
    share = n / n.sum()
    what = ("nothing", "one attribute", "two attributes")[k]
    told = f"told {what}: sets of values that at least {fewest} training images fit, {len(n)} in all"

    def entry(value: Tensor, unit: str, detail: str) -> Entry:
        return {"value": value.item(), "unit": unit, "n": len(images), "detail": f"{told}; {detail}"}

    return {
        f"conditional_error_{k}": entry((share * error).sum(), SQUARED, "drawing from their mean"),
        f"conditional_spread_{k}": entry((share * spread).sum(), SQUARED, "those images around their mean"),
        f"sharpness_{k}": entry((share * rough).sum() / (share * real).sum(), "",
                                "squared steps between pixels, against those images'"),
    }  # fmt: skip
