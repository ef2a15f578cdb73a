"""The benchmark of generators as priors: what it counts, what its competitors are given, and a whole tiny run."""

import dataclasses
import types

import pytest
import torch
from benchmarks import priors
from benchmarks.priors import QUICK, clothes, decoder_error, in_w, linear, shares
from benchmarks.trials import Cells
from torch import Tensor, nn
from torch.testing import assert_close

from imagegen.degrade import Degraded, Mask, box
from imagegen.recipes import DATA


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Line(nn.Module):
    """A VAE whose image in [-1, 1] is z_1 everywhere, up to the squeeze of a sigmoid."""

    config = types.SimpleNamespace(latent_dim=2)

    def decode(self, z: Tensor) -> Tensor:
        return (2 * z[:, :1]).view(-1, 1, 1, 1).expand(-1, 1, 6, 6)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = torch.atanh(x.mean((1, 2, 3)))
        return torch.stack([mean, torch.zeros_like(mean)], 1), torch.zeros(len(x), 2)


def flat_images(n: int, own: float, seed: int = 0) -> Tensor:
    z = 0.5 * torch.randn(n, 1, 1, 1, generator=seeded(seed))
    return torch.tanh(z) + own * torch.randn(n, 1, 6, 6, generator=seeded(seed + 1))


def test_the_decoders_error_is_that_of_each_pixel():
    x = flat_images(400, 0.1)
    x[:, :, :, 0] = 0.9  # a column that the generator cannot draw
    found = decoder_error(Line(), x.clamp(-0.99, 0.99))
    assert found.shape == (1, 6, 6)
    assert found[0, :, 0].min() > 4 * found[0, :, 1:].max()


def test_draws_cover_little_alone_and_about_what_is_said_with_the_decoders_error():
    """Images that are a line and noise: the draws know the line, the error is the noise. All known pixels are kept."""
    x = flat_images(60, 0.2)
    known = box(x.shape, (3, 4), generator=seeded(5))
    seen = Degraded(Mask(known)(x), known, Mask(known))
    setting = dataclasses.replace(
        QUICK, starts=1, steps=40, chains=6, draws_from=20, draws_to=44, thin=8, step=0.3
    )
    found = clothes(Line(), x, seen, torch.full((1, 6, 6), 0.2), setting)
    for answer in (found["map"], found["mean"], *found["draw"]):
        assert answer[known.expand_as(x)].equal(x[known.expand_as(x)])
    assert found["draw"].shape == (18, *x.shape)  # 6 chains, each three times
    assert not found["raw"][known.expand_as(x)].equal(x[known.expand_as(x)])
    stderr = found["whole"].std() / 60**0.5
    assert stderr < 0.015 and abs(found["whole"].mean() - 0.9) < 4 * stderr
    assert found["alone"].mean() < 0.5 and 0.5 < found["accepted"].mean() <= 1


def test_shares_of_answers_are_counted_by_hand():
    """Three answers, two faces, two attributes."""
    true = torch.tensor([[0, 1], [2, 2]])
    answers = torch.tensor([[[0, 5], [1, 2]], [[0, 5], [1, 3]], [[4, 5], [1, 2]]])
    found = shares(answers, true)
    assert_close(found["right"], torch.tensor([2 / 6, 2 / 6]).double())
    assert_close(found["alike"], torch.tensor([(1 / 3 + 1) / 2, (1 + 1 / 3) / 2]).double())
    assert_close(found["any"], torch.tensor([0.5, 0.5]).double())
    assert_close(found["wrong"], torch.tensor([0.5, 0.5]).double())


def test_w_is_drawn_with_its_own_mean_and_covariance():
    """A generator whose image is w: of normal u the images have the mean and the covariance of mapped latents."""

    class Mapped(nn.Module):
        config = types.SimpleNamespace(latent_dim=2, layers=3)

        def mapping(self, z: Tensor) -> Tensor:
            return torch.stack([z[:, 0] + 0.5 * z[:, 1], z[:, 1].exp()], 1)

        def synthesis(self, ws: Tensor, *, noise: str) -> Tensor:
            assert noise == "fixed" and ws.shape[1] == 3 and ws[:, 0].equal(ws[:, 2])
            return ws[:, 0, :, None, None]

    drawn = in_w(Mapped(), 5000, 0)
    w = Mapped().mapping(torch.randn(5000, 2, generator=seeded()))
    u = torch.randn(20_000, 2, generator=seeded(1))
    u = (u - u.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(u.T))).T  # exactly of covariance I
    found = drawn(u).flatten(1)
    assert_close(found.mean(0), w.mean(0), rtol=0, atol=1e-3)
    assert_close(torch.cov(found.T), torch.cov(w.T), rtol=1e-3, atol=1e-3)


def test_the_gaussians_floor_is_the_best_on_images_that_it_was_not_fitted_to():
    """By hand, for every floor; on the fitted images, which it knows by heart, another one would be chosen."""
    generator = seeded()
    x = nn.functional.interpolate(
        torch.randn(24, 1, 4, 4, generator=generator), size=(28, 28), mode="bicubic"
    )
    x = (torch.tanh(x) + 0.05 * torch.randn(x.shape, generator=generator)).clamp(-1, 1)
    setting, task = dataclasses.replace(QUICK, rank=12), priors.DEGRADATIONS["box"]
    prior, floor = linear(x[:14], x[14:], "box", setting)

    def best(images: Tensor) -> float:
        seen = task(images, generator=seeded(setting.seed + 2))
        answers = [
            torch.where(seen.known, images, priors.gaussian(prior, task, seen, f)) for f in priors.FLOORS
        ]
        errors = torch.stack([(answer - images).square().mean() for answer in answers])
        return priors.FLOORS[errors.argmin()]

    assert prior.factors.shape == (784, 12)
    assert floor == best(x[14:]) != best(x[:14])


@pytest.fixture
def small_data(monkeypatch):
    """The first images of each split, so that the draws of a tiny run do not depend on the data's size."""
    real = {name: DATA[name] for name in ("fashion-mnist", "avatars")}
    kept = {}

    def few(name, split):
        if (name, split) not in kept:
            whole = real[name](split)
            kept[name, split] = whole._replace(images=whole.images[:40], labels=whole.labels[:40])
        return kept[name, split]

    for name in real:
        monkeypatch.setitem(DATA, name, lambda split, name=name: few(name, split))


def test_a_quick_run_measures_every_way(small_data):
    record = priors.measure(quick=True, say=lambda line: None)
    assert record["name"] == "bench-priors" and record["setting"]["n"] == QUICK.n
    found = record["metrics"]
    for task in priors.TASKS:
        for way in ("map", "raw", "mean", "draw", "gaussian"):
            assert {f"{task}_{way}_psnr", f"{task}_{way}_mse"} <= set(found)
        assert found[f"{task}_map_mse"]["value"] <= found[f"{task}_raw_mse"]["value"]
        assert found[f"{task}_mean_mse"]["value"] <= found[f"{task}_draw_mse"]["value"]  # by Jensen
        assert found[f"{task}_mean_psnr"]["n"] == QUICK.n
    for way in ("gan", "codes"):
        names = ("right", "alike", "any", "wrong", "seen")
        assert all(0 <= found[f"faces_{way}_{name}"]["value"] <= 1 for name in names)
        assert found[f"faces_{way}_right"]["value"] <= found[f"faces_{way}_any"]["value"]
    assert found["faces_guess_right"]["n"] == QUICK.n_faces
    assert len(record["claims"]) == 7 and set(record["weights_sha256"]) >= set(priors.MODELS)


def test_a_killed_measurement_goes_on(tmp_path, monkeypatch, small_data):
    """Once a cell is written it is not made again, and the file is gone when the record is there."""
    monkeypatch.setattr(priors, "PROGRESS", tmp_path / "cells.jsonl")
    monkeypatch.setattr(priors, "Setting", lambda: QUICK)
    cells = Cells(priors.PROGRESS, priors.made_of(QUICK))
    x = torch.linspace(0.1, 0.2, QUICK.n)
    names = ("map", "raw", "mean", "draw", "gaussian")
    task = {f"{name}_{measure}": x.tolist() for name in names for measure in ("mse", "psnr")}
    task |= {"alone": x.tolist(), "whole": x.tolist(), "accepted": x.tolist(), "floor": 0.1}
    cells.get("box", lambda: task)
    true = torch.zeros(1, 10, dtype=torch.int64)
    faces = {"gan": [true.tolist()] * 2, "codes": [true.tolist()] * 2, "true": true.tolist()}
    made = []
    monkeypatch.setattr(priors, "one_task", lambda name, setting: made.append(name) or task)
    monkeypatch.setattr(priors, "some_faces", lambda first, setting: made.append(first) or faces)
    record = priors.measure(say=lambda line: None)
    assert made == ["half", 0, 2] and not priors.PROGRESS.exists()
    assert_close(record["metrics"]["box_map_psnr"]["value"], 0.15)
    assert record["metrics"]["faces_gan_right"]["value"] == 1
