"""The benchmarks run, their clock and their claims are sound, and the example they measure against is the example."""

import importlib
import json
import math
import sys
import types

import benchmarks
import pytest
import torch
from benchmarks import Unavailable, vae
from benchmarks import __main__ as command
from benchmarks.record import Claim
from torch.distributions import Bernoulli, Normal, kl_divergence

from imagegen.data import ImageSet
from imagegen.images import to_float, to_unit
from imagegen.objectives import bernoulli_nll, gaussian_kl


@pytest.fixture(autouse=True)
def one_thread():
    """As in the benchmark itself; two threads on a busy machine wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small_data(monkeypatch):
    """Random images in the place of Fashion-MNIST, so that no file is needed."""

    def split(name):
        g = torch.Generator().manual_seed(len(name))
        n = 256 if name == "train" else 32
        images = torch.randint(256, (n, 1, 28, 28), generator=g, dtype=torch.uint8)
        return ImageSet(images, torch.randint(10, (n,), generator=g), ("a",) * 10)

    monkeypatch.setattr(vae, "fashion_mnist", split)
    return split


def test_the_example_has_the_size_and_the_loss_of_the_original(small_data):
    """Its summed loss from probabilities is the negative ELBO that torch.distributions gives for the same draw."""
    torch.manual_seed(0)
    model = vae.ExampleVAE()
    assert sum(p.numel() for p in model.parameters()) == 652_824  # 784-400-2x20 and 20-400-784, with biases
    pixels = to_unit(to_float(small_data("train").images[:8]))
    torch.manual_seed(1)
    loss = model.loss(pixels)
    torch.manual_seed(1)
    out = model.logits(pixels)
    p = Bernoulli(logits=out.params, validate_args=False)
    q = Normal(out.mean, torch.exp(0.5 * out.log_var))
    expected = -p.log_prob(pixels.flatten(1)).sum() + kl_divergence(q, Normal(0.0, 1.0)).sum()
    torch.testing.assert_close(loss, expected)


def test_pictures_are_the_images_in_the_unit_range(small_data):
    """torchvision's path of one PIL picture at a time gives the pixels that the package's path gives."""
    train = small_data("train")
    pictures = vae.Pictures(train.images, train.labels)
    assert len(pictures) == 256
    x, label = pictures[7]
    torch.testing.assert_close(x, to_unit(to_float(train.images[7])))
    assert label == train.labels[7]


def test_evaluation_is_the_negative_elbo_and_leaves_the_training_alone(small_data):
    """Fixed logits and posterior: the mean is known; two calls agree; the global random numbers go on as before."""
    images = small_data("test").images
    logits, mean, log_var = torch.randn(1, 784), torch.full((1, 3), 0.7), torch.full((1, 3), -0.4)

    def model(x):
        n = len(x)
        mu, lv = mean.expand(n, 3), log_var.expand(n, 3)
        return vae.VAEOutput(logits.expand(n, 784), mu, lv, vae.reparameterise(mu, lv))

    state = torch.random.get_rng_state()
    value = vae.negative_elbo(model, images)
    assert torch.equal(torch.random.get_rng_state(), state)
    x = to_unit(to_float(images))
    expected = bernoulli_nll(logits.view(1, 1, 28, 28).expand_as(x), x).mean() + gaussian_kl(mean, log_var)
    assert math.isclose(value, expected.item(), rel_tol=1e-5)
    assert vae.negative_elbo(model, images) == value


def test_the_clock_counts_data_and_training_and_not_evaluation(small_data, monkeypatch):
    """A clock that advances by 1 in a batch, 10 in a step and 1000 in an evaluation shows what is counted."""
    now = [0.0]

    def advance(function, by):
        def wrapped(*args, **kwargs):
            now[0] += by
            return function(*args, **kwargs)

        return wrapped

    monkeypatch.setattr(vae.time, "process_time", lambda: now[0])
    monkeypatch.setattr(vae, "negative_elbo", advance(vae.negative_elbo, 1000))
    monkeypatch.setattr(vae, "vae_terms", advance(vae.vae_terms, 10))
    monkeypatch.setattr(vae.Batches, "at", advance(vae.Batches.at, 1))
    monkeypatch.setattr(vae.ExampleVAE, "loss", advance(vae.ExampleVAE.loss, 10))
    monkeypatch.setattr(vae.Pictures, "__getitem__", advance(vae.Pictures.__getitem__, 1 / 128))
    train, test = small_data("train"), small_data("test").images
    done = vae.train_ours(train.images, test, vae.QUICK, say=lambda _: None)
    assert (done.seconds, done.data_seconds, done.images) == (220, 20, 20 * 128)
    assert [(seconds, images) for seconds, images, _ in done.curve] == [(110, 1280), (220, 2560)]
    done = vae.train_example((train.images, train.labels), test, vae.QUICK, say=lambda _: None)
    assert (done.seconds, done.data_seconds, done.images) == (22, 2, 256)


def test_both_sides_learn(small_data):
    """On images that are all alike, each side's -ELBO falls from about 784 log 2 = 543 nats."""
    alike = torch.zeros(2560, 1, 28, 28, dtype=torch.uint8)
    test = alike[:32]
    for done in (
        vae.train_ours(alike, test, vae.QUICK, say=lambda _: None),
        vae.train_example((alike, torch.zeros(2560).long()), test, vae.QUICK, say=lambda _: None),
    ):
        assert done.curve[-1][2] < 400


@pytest.mark.parametrize(("value", "met"), [(0.2, True), (0.25, True), (0.26, False), (None, False)])
def test_a_claim_is_met_at_its_limit_and_never_when_it_was_never_reached(value, met):
    claim = Claim("a share", value, 0.25)
    assert claim.met is met
    assert str(claim).startswith("met" if met else "MISSED")
    assert Claim.from_dict(claim.as_dict()) == claim


def test_the_target_is_reached_at_the_first_point_that_meets_it():
    done = vae.Run(curve=[(1.0, 10, 250.0), (2.0, 20, 243.9), (3.0, 30, 244.5), (4.0, 40, 242.0)])
    assert done.reached(243.9) == (2.0, 20, 243.9)
    assert done.reached(241.0) is None


def test_the_ratio_is_ours_to_the_target_over_all_epochs_of_the_example():
    ours = vae.Run(20.0, 0.4, 1000, [(12.0, 500, 243.0), (20.0, 1000, 242.0)])
    example = vae.Run(80.0, 30.0, 600_000, [(80.0, 600_000, 244.0)])
    metrics = vae._metrics(ours, example, vae.Setting())
    assert metrics["ratio"]["value"] == pytest.approx(0.15)
    assert metrics["data_share"]["value"] == pytest.approx(0.02)
    assert "example_cpu_seconds_to_target" not in metrics  # 244.0 does not meet it
    assert [claim.met for claim in vae._claims(ours, example)] == [True, True]


def test_quick_writes_a_record_where_it_is_told_to(small_data, tmp_path, capsys):
    """The file has the shape that the results page reads; without --out, quick writes nothing."""
    assert command.main(["--only", "vae", "--quick", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "bench-vae.json").read_text())
    assert (record["name"], record["kind"]) == ("bench-vae", "benchmark")
    assert all(math.isfinite(metric["value"]) and metric["unit"] for metric in record["metrics"].values())
    assert "MISSED" in capsys.readouterr().out  # 20 steps on noise reach nothing, and quick does not judge
    assert [path.name for path in tmp_path.iterdir()] == ["bench-vae.json"]


@pytest.mark.parametrize(("value", "code"), [(1.0, 0), (3.0, 1)])
def test_a_missed_claim_fails_the_command(monkeypatch, tmp_path, value, code):
    record = {"name": "bench-x", "metrics": {}, "claims": [Claim("x", value, 2.0).as_dict()]}
    module = types.SimpleNamespace(measure=lambda *, quick, say: record)
    monkeypatch.setitem(sys.modules, "bench_x", module)
    monkeypatch.setattr(command, "BENCHMARKS", {"x": "bench_x"})
    assert command.main(["--out", str(tmp_path)]) == code
    assert command.main(["--quick"]) == 0


def test_a_benchmark_that_cannot_run_is_skipped_unless_asked_for(monkeypatch, capsys):
    def measure(*, quick, say):
        raise Unavailable("no browser here")

    module = types.SimpleNamespace(measure=measure)
    monkeypatch.setitem(sys.modules, "bench_x", module)
    monkeypatch.setattr(command, "BENCHMARKS", {"x": "bench_x"})
    assert command.main(["--quick"]) == 0
    assert "skipped: no browser here" in capsys.readouterr().out
    assert command.main(["--quick", "--only", "x"]) == 1


def test_every_registered_benchmark_can_be_imported_and_measures():
    for module in benchmarks.BENCHMARKS.values():
        assert callable(importlib.import_module(module).measure)
