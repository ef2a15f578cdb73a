"""The benchmarks run, their clock and their claims are sound, and the example they measure against is the example."""

import dataclasses
import importlib
import json
import math
import sys
import types

import benchmarks
import pytest
import torch
from benchmarks import Unavailable, clock, codebook, hierarchy, prior, vae, vq
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
    monkeypatch.setattr(codebook, "fashion_mnist", split)
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


def test_a_long_benchmark_runs_only_where_it_is_named(monkeypatch):
    ran = []

    def measures(name):
        record = {"name": name, "metrics": {}, "claims": []}
        return types.SimpleNamespace(measure=lambda *, quick, say: ran.append(name) or record)

    for name in ("short", "long"):
        monkeypatch.setitem(sys.modules, f"bench_{name}", measures(name))
    monkeypatch.setattr(command, "BENCHMARKS", {"short": "bench_short", "long": "bench_long"})
    monkeypatch.setattr(command, "ON_REQUEST", {"long": 40})
    command.main(["--quick"])
    assert ran == ["short"]
    command.main(["--quick", "--only", "long"])
    assert ran == ["short", "long"]


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


# ---- side by side ----------------------------------------------------------------------------------------------


def test_the_median_is_of_cpu_time_and_the_first_step_is_for_warmth(monkeypatch):
    now, costs = [0.0], {"a": iter([900, 1, 5, 2]), "b": iter([800, 40, 30, 20])}
    monkeypatch.setattr(clock.time, "process_time", lambda: now[0])
    order = []

    def step(name):
        order.append(name)
        now[0] += next(costs[name])

    spent = clock.in_turn({name: lambda name=name: step(name) for name in costs}, 3)
    assert spent == {"a": 2000.0, "b": 30_000.0}
    assert order == ["a", "b"] * 4


# ---- the quantiser against another -----------------------------------------------------------------------------


def test_both_quantisers_take_a_whole_step():
    """Forward, backward and update: the gradient arrives at z, a commitment in it, and the codebook moves."""
    torch.manual_seed(0)
    z, gradient = torch.randn(2, 4, 8, 3, 3)
    step = vq.ours(z, gradient, 16)
    layer, inner = (
        step.__closure__[step.__code__.co_freevars.index(name)].cell_contents for name in ("layer", "z")
    )
    step()
    before = layer.codebook.clone()
    step()
    assert not layer.codebook.equal(before)
    assert not inner.grad.equal(gradient) and (inner.grad - gradient).abs().max() < 10
    pytest.importorskip("vector_quantize_pytorch")
    rows, to_rows = (a.flatten(2).mT.contiguous() for a in (z, gradient))
    step = vq.peer(rows, to_rows, 16)
    layer, inner = (
        step.__closure__[step.__code__.co_freevars.index(name)].cell_contents for name in ("layer", "z")
    )
    assert (
        layer.training and layer.rotation_trick and layer._codebook.decay == 0.8
    )  # the defaults of the other
    before = layer._codebook.embed.clone()
    step()
    assert inner.grad.abs().max() > 0 and not layer._codebook.embed.equal(before)


def test_without_the_other_quantiser_the_benchmark_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "vector_quantize_pytorch", None)
    with pytest.raises(Unavailable, match="`make env` installs vector-quantize-pytorch"):
        vq.measure(quick=True, say=lambda _: None)


@pytest.mark.skipif(not vq.REFS.exists(), reason="only Linux tells the high-water mark of memory")
def test_extra_memory_is_what_a_step_holds_at_its_peak_and_lets_go():
    """40 MiB held and let go are seen; what was there before, and what peaked before, is not."""
    kept = torch.ones(30, 2**18)
    torch.ones(80, 2**18).sum()  # a peak before the first look
    sizes = [vq.extra_memory(lambda n=n: torch.ones(n, 2**18).sum()) for n in (1, 40)]
    assert kept.sum() == 30 * 2**18
    assert sizes[0] < 5 and 36 < sizes[1] < 46


def test_without_the_high_water_mark_the_benchmark_cannot_run(monkeypatch, tmp_path):
    monkeypatch.setattr(vq, "REFS", tmp_path / "missing")
    with pytest.raises(Unavailable, match="only Linux"):
        vq.memory("ours", vq.QUICK["small"])


def test_the_ratios_are_ours_over_the_others_and_each_has_its_limit():
    case = vq.CASES["large"]
    spent, kept = {"ours": 10.0, "peer": 50.0, "plain": 20.0}, {"ours": 3.0, "peer": 12.0}
    metrics, claims = vq.compared("large", case, spent, kept)
    assert metrics["large_time_ratio"]["value"] == 0.2 and metrics["large_memory_ratio"]["value"] == 0.25
    assert [(claim.value, claim.limit, claim.met) for claim in claims] == [
        (0.2, 0.25, True),
        (0.25, 0.15, False),
    ]
    assert [(case.time, case.memory) for case in vq.CASES.values()] == [(0.4, 0.25), (0.25, 0.15)]


# ---- the codebook's use ----------------------------------------------------------------------------------------


def test_the_scale_multiplies_what_the_encoder_says_at_the_start(small_data, monkeypatch):
    seen = []
    monkeypatch.setattr(codebook, "run", lambda *a, **k: None)
    images = small_data("train").images
    for scale in (1.0, 10.0):
        model = codebook.train(codebook.QUICK.small, images, codebook.QUICK, seed=3, scale=scale)
        seen.append(model.encoder(to_float(images[:4])))
    torch.testing.assert_close(seen[1], 10 * seen[0])


def test_an_outcome_counts_the_codes_of_all_images(small_data):
    """A stand-in whose codes are the images' first pixels, and whose decoder draws grey."""
    images = small_data("test").images
    model = vq_stand_in()
    found = codebook.outcome(model, images)
    firsts = images[:, 0, 0, 0].long()
    assert found.used == len(firsts.unique()) and found.codes == 256
    assert found.mse == pytest.approx((images / 255 - 0.5).square().mean().item(), rel=1e-4)
    assert found.share == found.used / 256 and 1 < found.perplexity <= found.used


def vq_stand_in():
    def encode(x):
        return (to_unit(x)[:, 0, :1, :1] * 255).round().long()

    return types.SimpleNamespace(
        config=types.SimpleNamespace(codes=256), eval=lambda: None, encode=encode,
        decode=lambda indices: torch.zeros(len(indices), 1, 28, 28),
    )  # fmt: skip


def test_the_claims_on_the_codebook_are_those_of_the_worst_run():
    good, bad = (codebook.Outcome(0.005, used, 100, 80.0) for used in (100, 94))
    claims = codebook.claimed(good, {(100, 0.1): [good, good], (100, 10.0): [good, bad]})
    assert [claim.met for claim in claims] == [False, True, True]
    assert claims[0].value == pytest.approx(0.06)
    worse = codebook.Outcome(0.0088, 99, 100, 80.0)
    assert [claim.met for claim in codebook.claimed(worse, {(100, 0.1): [good]})] == [True, False, False]


def test_the_setting_is_that_of_the_claim():
    setting = codebook.Setting()
    assert len(setting.seeds) == 5 and max(setting.scales) == 100 * min(setting.scales)
    assert (min(setting.codes), max(setting.codes), setting.epochs) == (64, 1024, 2)
    assert (setting.whole.codes, setting.whole.code_dim, setting.whole.grid) == (512, 64, (7, 7))


# ---- sampling --------------------------------------------------------------------------------------------------


def test_sampling_stops_where_the_cache_changes_the_codes(monkeypatch):
    draws = {"cached": lambda: torch.zeros(2), "uncached": lambda: torch.ones(2)}
    monkeypatch.setattr(prior, "samplers", lambda grid, setting: draws)
    with pytest.raises(RuntimeError, match="the codes of a grid of 3x3 differ"):
        prior.measure(quick=True, say=lambda _: None)


# ---- two levels of codes ---------------------------------------------------------------------------------------


def test_the_two_levels_and_the_single_one_have_equally_many_bits():
    found = hierarchy.bits(hierarchy.Setting())
    assert found == {"two": [64.0, 576.0], "single": [640.0]}


def test_the_claims_on_withholding_are_those_of_the_worst_seed():
    measured = {"mse": 0.01, "mse_top_alone": 0.04}
    setting = dataclasses.replace(hierarchy.Setting(), shares=(0.0, 0.5))
    found = {
        "withheld_0": [measured, measured | {"mse_top_alone": 0.1}],
        "withheld_0.5": [measured | {"mse_top_alone": 0.01}, measured | {"mse_top_alone": 0.06}],
        "single": [{"mse": 0.02}, {"mse": 0.04}],
        "mean_image": [{"mse": 0.05}],
    }
    entries, claims = hierarchy.summary(found, setting)
    assert [(claim.value, claim.limit) for claim in claims] == [(pytest.approx(0.6), 0.5)]
    assert entries["withheld_0.5_mse_top_alone"]["value"] == pytest.approx(0.035)
    assert entries["single_mse"]["values"] == [0.02, 0.04]


def test_examined_takes_the_codes_of_one_level_from_the_image_before():
    """A stand-in whose top code is an image's first pixel and whose bottom code its last, and which draws both."""

    def encode(x):
        levels = (to_unit(x)[:, 0] * 255).round().long()
        return levels[:, :1, :1], levels[:, -1:, -1:]

    def decode(top, bottom=None):
        last = torch.full_like(top, 128) if bottom is None else bottom
        values = torch.cat([top, last], dim=2)[:, None] / 255  # (B, 1, 1, 2)
        return torch.logit(values)

    model = types.SimpleNamespace(
        config=types.SimpleNamespace(codes=(256, 256)), encode=encode, decode=decode
    )
    target = torch.tensor([[51, 102], [153, 204], [102, 51]]).view(3, 1, 1, 2) / 255
    found = hierarchy.examined(model, target)
    step = torch.tensor([51, 102, 51.0]) / 255, torch.tensor([51, 102, 153.0]) / 255
    assert found["mse"] == pytest.approx(0, abs=1e-12)
    assert found["mse_other_top"] == pytest.approx((step[0].square() / 2).mean().item(), rel=1e-4)
    assert found["mse_other_bottom"] == pytest.approx((step[1].square() / 2).mean().item(), rel=1e-4)
    unknown = ((target[..., 1] - 128 / 255).square() / 2).mean().item()
    assert found["mse_top_alone"] == pytest.approx(unknown, rel=1e-4)
    assert (found["codes_used_top"], found["codes_used_bottom"]) == (3.0, 3.0)


# ---- the whole of each, at a size that shows nothing -----------------------------------------------------------


@pytest.mark.parametrize("name", ["quantiser", "codebook", "sampling", "hierarchy"])
def test_quick_runs_all_of_it(name, small_data, tmp_path):
    if name == "quantiser":
        pytest.importorskip("vector_quantize_pytorch")
    assert command.main(["--only", name, "--quick", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / f"bench-{name}.json").read_text())
    assert record["kind"] == "benchmark" and record["claims"]
    assert all(math.isfinite(metric["value"]) and metric["unit"] for metric in record["metrics"].values())
