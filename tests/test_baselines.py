"""Classical restoration as it is measured: the Gaussian's posterior mean, the methods' order, and a whole tiny run."""

import pytest
import torch
from benchmarks import BENCHMARKS, ON_REQUEST, baselines
from benchmarks.baselines import PARAMETER, QUICK, TASKS, Prior, judged, methods
from torch import Tensor
from torch.testing import assert_close

from imagegen import degrade
from imagegen.data import AvatarSet, ImageSet
from imagegen.degrade import Blur, Degraded, Downsample, Identity, Mask


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(n: int, size: int, channels: int, seed: int) -> Tensor:
    """Return uint8 images of a few broad waves (n, channels, size, size)."""
    coarse = torch.rand(n, channels, 4, 4, generator=seeded(seed))
    x = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)


@pytest.fixture
def small_data(monkeypatch):
    """Smooth random images in the place of both data sets; training and test images differ."""

    def fashion(split):
        n = 40 if split == "train" else 12
        return ImageSet(smooth(n, 28, 1, len(split)), torch.zeros(n, dtype=torch.int64), ("a",))

    def avatars(split):
        n = 40 if split == "train" else 12
        return AvatarSet(
            smooth(n, 32, 3, 10 + len(split)), torch.zeros(n, 1, dtype=torch.int64), {"a": ("b",)}
        )

    monkeypatch.setattr(baselines, "DATA", {"fashion-mnist": fashion, "avatars": avatars})


def prior() -> Prior:
    return Prior.fit(torch.randn(30, 1, 8, 8, generator=seeded(), dtype=torch.float64), 6)


def test_the_prior_has_the_images_mean_their_largest_directions_and_their_variance():
    """Beside the eigenvalues of the sample covariance, with divisor n."""
    x = torch.randn(30, 1, 8, 8, generator=seeded(), dtype=torch.float64)
    found, cov = prior(), torch.cov(x.flatten(1).T, correction=0)
    values, vectors = torch.linalg.eigh(cov)
    model = found.factors @ found.factors.T + found.rest * torch.eye(64).double()
    expected = torch.cat([torch.full((58,), values[:-6].mean().item()), values[-6:].float()]).double()
    assert_close(found.mean, x.flatten(1).mean(0))
    assert_close(torch.linalg.eigvalsh(model), expected, rtol=1e-6, atol=1e-6)
    top = vectors[:, -6:]
    assert_close(model @ top, top * values[-6:], rtol=1e-6, atol=1e-8)
    assert_close(model.trace(), cov.trace(), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("operator", "scale"),
    [
        (Identity(), 1.0),
        (Mask(degrade.box((1, 1, 8, 8), (3, 4), generator=seeded())), 1.0),
        (Downsample(2), 0.25),
        (Blur(degrade.gaussian_kernel(0.8)), 0.0),
    ],
    ids=["noise", "hole", "small", "blur"],
)
def test_the_posterior_mean_is_that_of_the_dense_formula(operator, scale):
    """Beside mu + C A^T (A C A^T + sigma^2 I)^-1 (y - A mu) with all matrices written out; of a hole the seen rows."""
    found, sigma = prior(), 0.3
    rest = found.rest if scale else 0.0
    cov = found.factors @ found.factors.T + rest * torch.eye(64).double()
    a = operator(torch.eye(64, dtype=torch.float64).view(64, 1, 8, 8)).flatten(1).T
    seen = a.abs().sum(1) > 0
    x = torch.randn(3, 1, 8, 8, generator=seeded(1), dtype=torch.float64)
    y = operator(degrade.add_gaussian(x, 0.3, generator=seeded(2)))
    rows, flat = a[seen], y.flatten(1)[:, seen]
    inner = rows @ cov @ rows.T + sigma**2 * torch.eye(len(rows)).double()
    expected = found.mean + torch.linalg.solve(inner, (flat - rows @ found.mean).T).T @ rows @ cov
    assert_close(found.restored(y, operator, sigma, scale=scale).flatten(1), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("task", TASKS)
def test_every_method_is_better_than_nothing_on_smooth_images(task):
    """At its best parameter, by PSNR, in colour; images keep their shape and their place."""
    x = smooth(4, 32, 3, 5).float() / 127.5 - 1
    train = smooth(200, 32, 3, 6).float() / 127.5 - 1
    seen = TASKS[task](x, generator=seeded())
    scores = {}
    for name, (method, values) in methods(task, Prior.fit(train, 48)).items():
        found = [method(seen, value) for value in values]
        assert all(y.shape == x.shape and y.dtype == x.dtype for y in found)
        scores[name] = max(judged(method, value, seen, x)[0].mean().item() for value in values)
    assert all(value > scores["input"] for name, value in scores.items() if name != "input"), scores


def test_known_pixels_count_as_right_and_all_is_clamped():
    """A method that ruins what is known and leaves the range is judged by the hole and by the clamp alone."""
    x = smooth(2, 16, 1, 1).float() / 127.5 - 1
    known = degrade.box(x.shape, (4, 4), generator=seeded())
    seen = Degraded(Mask(known)(x), known, Mask(known))
    wrong, _ = judged(lambda seen, _: torch.full_like(seen.y, 9.0), 0.0, seen, x)
    by_hand = 10 * torch.log10(4 / torch.where(known, 0.0, 1 - x).square().flatten(1).mean(1))
    assert_close(wrong, by_hand)
    noisy = seen._replace(y=Mask(known)(x + 0.3))  # kept as it was seen, and not as it is
    wrong, _ = judged(lambda seen, _: torch.full_like(seen.y, 9.0), 0.0, noisy, x)
    error = torch.where(known, (x + 0.3).clamp(max=1), 1.0) - x
    assert_close(wrong, 10 * torch.log10(4 / error.square().flatten(1).mean(1)))


def test_the_parameter_is_chosen_on_training_images(small_data, monkeypatch):
    """One method's scores are made up: its best value on the training images is what the test images get."""
    tried = []

    def method(seen, value):
        tried.append((len(seen.y), value))
        return seen.y + (0.0 if value == 2.0 else 0.5)

    monkeypatch.setattr(baselines, "TASKS", {"noise_40": TASKS["noise_40"]})
    monkeypatch.setattr(baselines, "methods", lambda task, prior: {"tv": (method, (1.0, 2.0, 3.0))})
    found = baselines.measured("avatars", QUICK, lambda line: None)
    assert tried == [(QUICK.n_tune, value) for value in (1.0, 2.0, 3.0)] + [(QUICK.n, 2.0)]
    assert "weight 2, of 1, 2, 3" in found["avatars_noise_40_tv_psnr"]["detail"]


def test_a_quick_run_measures_every_method_of_every_task(small_data):
    record = baselines.measure(quick=True, say=lambda line: None)
    assert record["name"] == "bench-baselines" and record["claims"] == []
    expected = {
        f"{name}_{task}_{method}_{measure}"
        for name in ("fashion", "avatars")
        for task in TASKS
        for method in methods(task, prior())
        for measure in ("psnr", "ssim")
    }
    assert set(record["metrics"]) == expected
    assert all(entry["n"] == QUICK.n for entry in record["metrics"].values())
    for name, words in PARAMETER.items():
        details = [v["detail"] for k, v in record["metrics"].items() if k.endswith(f"_{name}_psnr")]
        assert details and all(f"; {words} " in detail for detail in details)
    assert BENCHMARKS["baselines"] == "benchmarks.baselines" and "baselines" in ON_REQUEST
