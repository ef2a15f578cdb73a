"""The benchmarks run, their clock and their claims are sound, and the example they measure against is the example."""

import base64
import copy
import dataclasses
import importlib
import json
import math
import sys
import types

import benchmarks
import pytest
import torch
from benchmarks import (
    Unavailable,
    clock,
    codebook,
    curves,
    gan,
    hierarchy,
    prior,
    probe,
    ring,
    stability,
    vae,
    vq,
)
from benchmarks import __main__ as command
from benchmarks.record import Claim
from torch.distributions import Bernoulli, Normal, kl_divergence

from imagegen import recipes
from imagegen.data import ImageSet, ring_centres
from imagegen.images import to_float, to_unit
from imagegen.objectives import LOSSES, bernoulli_nll, gaussian_kl
from imagegen.recipes import DATA
from imagegen.widgets import RingExplorer
from imagegen.widgets.ring import unpacked


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
    monkeypatch.setattr(gan, "fashion_mnist", split)
    monkeypatch.setattr(probe, "fashion_mnist", split)
    monkeypatch.setattr(curves, "fashion_mnist", split)
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


# ---- a GAN against another -------------------------------------------------------------------------------------


def test_the_peer_has_the_sizes_of_the_original():
    """Counted by hand for z 100 and width 64: no biases; batch normalisation on all but D's first and the last."""
    generator, critic = gan.PeerGenerator(100, 64), gan.PeerDiscriminator(64)
    stages = [100 * 256, 256 * 128, 128 * 64, 64 * 1]
    assert sum(p.numel() for p in generator.parameters()) == 16 * sum(stages) + 2 * (256 + 128 + 64)
    stages = [1 * 64, 64 * 128, 128 * 256, 256 * 1]
    assert sum(p.numel() for p in critic.parameters()) == 16 * sum(stages) + 2 * (128 + 256)
    images = generator(torch.randn(3, 100, 1, 1))
    assert images.shape == (3, 1, 32, 32) and critic(images).shape == (3,)
    scales = torch.cat([m.weight for m in generator.modules() if isinstance(m, torch.nn.BatchNorm2d)])
    weights = generator[0].weight
    assert abs(scales.mean() - 1) < 0.01 and 0.015 < scales.std() < 0.025
    assert abs(weights.mean()) < 1e-3 and 0.0195 < weights.std() < 0.0205


def test_drawing_from_the_peer_leaves_its_averages_alone(small_data):
    """Both ways to draw give 28 x 28; that of the batch's statistics depends on the batch, the other does not."""
    side = gan.peer(small_data("train").images, gan.QUICK)
    generator = side.step.__closure__[side.step.__code__.co_freevars.index("generator")].cell_contents
    side.train(0.05)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    firsts = {}
    for name, draw in side.draws.items():
        whole, part = (draw(n, torch.Generator().manual_seed(0)) for n in (8, 4))
        assert whole.shape == (8, 1, 28, 28)
        firsts[name] = torch.allclose(whole[:4], part, atol=1e-5)
    assert firsts == {"average statistics": True, "its batch's": False}
    assert all(value.equal(before[name]) for name, value in generator.state_dict().items())


def test_two_steps_of_the_peer_are_those_written_by_hand(small_data):
    """D by -log D(x) - log(1 - D(G(z))), then G by -log D(G(z)) against D as moved; all weights and averages agree.

    Two steps, for what the first leaves behind in the gradients and in Adam is seen in the second.
    """
    images, setting = small_data("train").images, gan.QUICK
    side = gan.peer(images, setting)
    cells = dict(zip(side.step.__code__.co_freevars, side.step.__closure__, strict=True))
    theirs = [cells[name].cell_contents for name in ("generator", "critic")]
    for name in ("adam", "critic_adam"):
        options = cells[name].cell_contents.defaults  # two steps hardly show the second beta
        assert (options["lr"], options["betas"]) == (2e-4, (0.5, 0.999))
    generator, critic = (copy.deepcopy(player) for player in theirs)
    adam_g, adam_d = (
        torch.optim.Adam(player.parameters(), lr=2e-4, betas=(0.5, 0.999)) for player in (generator, critic)
    )
    torch.manual_seed(5)
    side.step(0)
    side.step(1)
    torch.manual_seed(5)
    for index in range(2):
        x = gan.Batches(images, batch_size=setting.batch_size, seed=setting.seed).at(index).x
        x = torch.nn.functional.pad(x, (2,) * 4, value=-1.0)
        z = torch.randn(len(x), setting.latent_dim, 1, 1)
        with torch.no_grad():
            fake = copy.deepcopy(generator)(z)  # of a copy: the averages are to move once a step
        loss = -critic(x).log().mean() - (1 - critic(fake)).log().mean()
        adam_d.zero_grad()
        loss.backward()
        adam_d.step()
        loss = -critic(generator(z)).log().mean()
        adam_g.zero_grad()
        loss.backward()
        adam_g.step()
    for their, mine in zip(theirs, (generator, critic), strict=True):
        for name, value in their.state_dict().items():
            torch.testing.assert_close(value, mine.state_dict()[name], rtol=0, atol=2e-6, msg=name)


def test_ours_plans_as_many_steps_as_fit_into_the_last_point(small_data, monkeypatch):
    """A first step of 40 s, for warmth, and others of a quarter of a second: 400 in 100 s, by which the rate falls."""
    pytest.importorskip("lightning_fabric")
    now, planned = [0.0], []

    def stepping(recipe, n_steps, *rest):
        planned.append(n_steps)

        def taken(numbered):
            now[0] += 0.25 if numbered[0] else 40.0

        return taken

    monkeypatch.setattr(gan.time, "process_time", lambda: now[0])
    monkeypatch.setattr(recipes, "alternating_step", stepping)
    recipe = gan.RECIPES[gan.NAME]
    recipe = dataclasses.replace(recipe, model=gan.tiny(recipe.model), batch_size=8)
    setting = dataclasses.replace(gan.QUICK, points=(50.0, 100.0), calibration=4)
    gan.ours(recipe, small_data("train").images, setting)
    assert planned[-1] == 400


def test_a_race_counts_the_steps_alone_and_goes_by_turns(monkeypatch):
    """A step of 1 s against one of 3 s, and examinations of 1000 s: each trains to the point, in turns."""
    now, order = [0.0], []

    def step(name, cost):
        def taken(index):
            now[0] += cost
            order.append(name)

        return taken

    def distance(draw, n, seed):
        now[0] += 1000
        return draw + seed

    monkeypatch.setattr(gan.time, "process_time", lambda: now[0])
    monkeypatch.setattr(gan, "distance", distance)
    sides = {
        "ours": gan.Side(10, step("ours", 1.0), {"one": 5.0}),
        "peer": gan.Side(8, step("peer", 3.0), {"worse": 9.0, "better": 6.0}),
    }
    setting = dataclasses.replace(gan.Setting(), points=(6.0, 12.0), turn=3.0)
    gan.raced(sides, setting, lambda _: None)
    assert order == (["ours"] * 3 + ["peer"]) * 4
    assert [row["fd"] for row in sides["peer"].curve] == [6.0, 6.0]
    assert sides["ours"].curve[-1]["values"] == [5.0, 6.0, 7.0]
    metrics, claims = gan.summary(sides, [2.0, 2.0, 2.0], setting)
    assert metrics["ours_images_per_second"]["value"] == 10 and metrics["speed_ratio"]["value"] == 3.75
    assert metrics["peer_fd_fashion_12"]["value"] == 7.0 and metrics["peer_fd_fashion_12"]["std"] == 1.0
    assert [claim.value for claim in claims] == [pytest.approx(v) for v in (6 / 7, 1 / 3.75, 2 / 7)]
    assert [claim.limit for claim in claims] == [1.0, 1 / 1.5, 1 / 3]


def test_quick_runs_all_of_the_race(small_data, monkeypatch, tmp_path):
    monkeypatch.setitem(DATA, "fashion-mnist", small_data)
    assert command.main(["--only", "gan", "--quick", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "bench-gan.json").read_text())
    assert all(math.isfinite(metric["value"]) for metric in record["metrics"].values())
    assert set(record["curves"]) == {"ours", "peer"} and len(record["claims"]) == 2


def test_the_series_of_the_curves_are_those_of_the_training(small_data):
    """Each row has the spread of fixed samples over the data's; identical images have a spread of 0."""
    images = small_data("train").images
    _, history = curves.trained(curves.VARIANTS["healthy"], images, curves.QUICK, 0)
    columns = curves.series(history)
    assert columns["step"] == [2.0, 4.0] and set(columns) == {"step", *curves.WORDS}
    assert all(0 < value < 1 for value in columns["spread"])
    x = torch.rand(5, 1, 2, 2)
    assert curves.spread(x[:1].expand(4, 1, 2, 2)) == 0
    assert curves.spread(x) == pytest.approx(x.flatten(1).var(0).sum().item())
    assert curves.last_of([{"a": float(i)} for i in range(8)], "a") == 6.5


def test_the_variants_differ_from_the_healthy_one_in_what_their_words_say():
    """Every field of each is compared; the factors are those in the words."""
    healthy, *others = (dataclasses.asdict(variant) for variant in curves.VARIANTS.values())
    differ = [{key: value for key, value in other.items() if value != healthy[key]} for other in others]
    strong, weak, collapsed = differ
    words = [fields.pop("words") for fields in differ]
    assert (
        healthy["words"] == "healthy: both players at the same rate" and healthy["lr"] == healthy["critic_lr"]
    )
    assert set(strong) == {"lr", "critic_lr"} and words[0] == "D too strong: its rate times 4, G's a tenth"
    assert strong["critic_lr"] == pytest.approx(4 * healthy["critic_lr"])
    assert strong["lr"] == pytest.approx(healthy["lr"] / 10)
    assert set(weak) == {"critic_lr"} and words[1] == "D too weak: its rate a hundredth"
    assert weak["critic_lr"] == pytest.approx(healthy["critic_lr"] / 100)
    assert words[2] == "collapsed: G's rate times 200, no normalisation in G, spectral normalisation in D"
    assert set(collapsed) == {"lr", "normalise", "normalise_critic"}
    assert collapsed["lr"] == pytest.approx(200 * healthy["lr"])
    assert (collapsed["normalise"], collapsed["normalise_critic"]) == ("none", "spectral")
    assert healthy["normalise"] == healthy["normalise_critic"] == "batch"


def test_the_claims_on_the_curves_are_those_of_the_worst_seed():
    ends = {
        "healthy": {"spread": [0.9, 1.5]},
        "strong": {"right": [1.0, 0.9]},
        "weak": {"generator": [0.1, 0.3]},
        "collapsed": {"spread": [0.01, 0.2], "least": [0.8, 1.2]},
    }
    assert [claim.value for claim in curves.claimed(ends)] == pytest.approx([0.5, 0.1, 0.3, 0.2, 1.2])
    assert not any(claim.met for claim in curves.claimed(ends))
    ends["healthy"]["spread"] = [1.1, 0.5]  # too little spread is no better than too much
    assert not curves.claimed(ends)[0].met
    ends = {name: {term: values[:1] for term, values in terms.items()} for name, terms in ends.items()}
    assert [claim.met for claim in curves.claimed(ends)] == [True, True, True, True, True]


def test_players_that_were_never_trained_are_no_collapse():
    """No spread, and D's loss at 2 log 2 from the first step on: only the loss on the way tells it from a collapse."""
    history = [
        {"step": 20.0 * (i + 1), **dict.fromkeys(curves.WORDS, 0.0), "discriminator": 2 * math.log(2)}
        for i in range(25)
    ]
    entries, claims = curves.summary({name: [history] * 2 for name in curves.VARIANTS}, curves.Setting())
    spread, learnt = claims[-2:]
    assert spread.met and not learnt.met
    assert learnt.value == pytest.approx(2 * math.log(2))
    assert entries["collapsed_least_discriminator"]["value"] == pytest.approx(2 * math.log(2))


def test_the_entries_of_the_curves_say_what_they_are_means_over():
    """Of 25 rows of 20 steps with 64 images, the last quarter is 6 rows: 120 steps."""
    history = [{"step": 20.0 * (i + 1), **dict.fromkeys(curves.WORDS, float(i))} for i in range(25)]
    entries, _ = curves.summary({name: [history] * 2 for name in curves.VARIANTS}, curves.Setting())
    n = {term: entries[f"weak_{term}"]["n"] for term in curves.WORDS}
    one = 120 * 64
    assert n == {
        "discriminator": 2 * one, "generator": one, "real_logit": one, "fake_logit": one, "right": 2 * one,
        "spread": 256,
    }  # fmt: skip
    assert "last 120 of 500 steps" in entries["weak_right"]["detail"]
    assert entries["weak_right"]["value"] == 21.5  # rows 19 to 24


def test_a_quick_run_writes_a_recording_only_where_it_is_told_to(small_data, tmp_path):
    before = curves.RECORDING.read_bytes()
    curves.measure(quick=True, say=lambda _: None)
    assert curves.RECORDING.read_bytes() == before
    record = curves.measure(quick=True, say=lambda _: None, to=tmp_path / "curves.json")
    written = json.loads((tmp_path / "curves.json").read_text())
    assert written["origin"] == {part: record[part] for part in ("commit", "dirty", "seed", "date", "torch")}
    assert record["seed"] == 0 and set(written["trainings"]) == set(curves.VARIANTS)
    assert unpacked(written["trainings"]["weak"]["samples"], (8, 1, 28, 28)).float().std() > 0


def test_the_recorded_curves_are_those_of_the_results():
    """The last quarter of each series gives the values that the results hold; both name one commit and one date."""
    recorded = json.loads(curves.RECORDING.read_text())
    result = json.loads((command.RESULTS / "bench-gan-curves.json").read_text())
    assert recorded["origin"] == {part: result[part] for part in recorded["origin"]}
    assert not recorded["origin"]["dirty"] and recorded["origin"]["commit"]
    assert set(recorded["trainings"]) == set(curves.VARIANTS)
    for name, kept in recorded["trainings"].items():
        assert kept["words"] == curves.VARIANTS[name].words
        for term in curves.WORDS:
            quarters = [series[term][-(len(series[term]) // 4) :] for series in kept["series"]]
            means = [sum(values) / len(values) for values in quarters]
            assert means == pytest.approx(result["metrics"][f"{name}_{term}"]["values"], abs=1e-3)


# ---- what holds a discriminator back ---------------------------------------------------------------------------


def test_the_moving_cost_is_that_of_the_best_matching():
    """Points in one dimension: sorted against sorted; and a moved set costs the length of the move."""
    x, y = torch.randn(2, 30, 1, generator=torch.Generator().manual_seed(0))
    assert stability.moving_cost(x, y) == pytest.approx((x.sort(0)[0] - y.sort(0)[0]).abs().mean().item())
    points = torch.randn(30, 2)
    assert stability.moving_cost(points, points.flip(0) + torch.tensor([0.6, -0.8])) == pytest.approx(
        1, rel=1e-5
    )


def test_each_way_holds_the_discriminator_in_the_way_that_it_says():
    """After a few steps: the clipped weights lie within the bound, the spectral ones are parametrised, as no others."""
    ways = stability.ways(1.0, 0.1, 0.5, 2)
    config = stability.GANConfig("mlp", (2,), latent_dim=2, width=4, critic_width=4)
    source = torch.Generator().manual_seed(0)
    largest, parametrised = {}, set()
    for name, way in ways.items():
        model, step = stability.players(
            config, way, lambda _: torch.randn(8, 2, generator=source), lr=0.05, betas=(0.0, 0.9), seed=0
        )
        moved = []
        for index in range(10):
            before = [p.clone() for p in model.generator.parameters()]
            step(index)
            pairs = zip(before, model.generator.parameters(), strict=True)
            moved.append(not all(torch.equal(*pair) for pair in pairs))
        assert moved == ([False, True] * 5 if name in ("clipping", "gradient") else [True] * 10)
        largest[name] = max(p.abs().max().item() for p in model.discriminator.parameters())
        if torch.nn.utils.parametrize.is_parametrized(model.discriminator.head):
            parametrised.add(name)
    assert largest["clipping"] == pytest.approx(0.1) and min(largest["none"], largest["r1"]) > 0.1
    assert parametrised == {"spectral"}
    assert [ways[n].objective.loss for n in ("none", "clipping", "spectral", "r1")] == [
        "non-saturating", "wasserstein", "hinge", "non-saturating",
    ]  # fmt: skip
    assert (ways["gradient"].objective.penalty, ways["r1"].objective.penalty) == ("gradient", "r1")
    assert (ways["gradient"].objective.weight, ways["r1"].objective.weight) == (0.5, 1.0)


def test_a_slow_hour_changes_neither_the_cost_of_a_step_nor_the_steps(monkeypatch):
    """A clock on which the machine is ten times slower in two rounds of five: the median is that of the others."""
    now, blocks = [0.0], []
    each = {"none": 1.0, "clipping": 2.0, "gradient": 4.0, "spectral": 3.0, "r1": 2.5}
    monkeypatch.setattr(clock.time, "process_time", lambda: now[0])

    def taken(kind, n_steps):
        slow = 10 if len(blocks) // 5 in (2, 4) else 1
        blocks.append(kind)
        now[0] += slow * each[kind] * n_steps

    monkeypatch.setattr(stability, "started", lambda name, kind, *rest: (None, kind))
    monkeypatch.setattr(stability, "taken", taken)
    setting = dataclasses.replace(stability.QUICK, rounds=5, timed=(50, 20))
    for name in ("ring", "fashion"):
        blocks.clear()
        assert stability.costs(name, None, setting) == pytest.approx(each)
        assert blocks == list(each) * 6


def test_a_seed_gives_the_same_run_again(small_data):
    """All ways, on both data sets; another seed, and another number of steps, give other weights."""
    images = small_data("train").images

    def weights(name, kind, seed, n_steps):
        model, step = stability.started(name, kind, seed, images, stability.QUICK)
        stability.taken(step, n_steps)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    for name in ("ring", "fashion"):
        for kind in stability.ways_on(name, stability.QUICK):
            once = weights(name, kind, 0, 4)
            assert torch.equal(once, weights(name, kind, 0, 4))
            assert not torch.equal(once, weights(name, kind, 1, 4))
            assert not torch.equal(once, weights(name, kind, 0, 6))


def test_samples_of_the_ring_are_judged_by_all_three_measures():
    """A stand-in that draws from two of the eight modes: two found, all good, and most points have to travel."""
    centres = ring_centres(stability.MODES)
    draw = lambda n, generator: centres[torch.arange(n) % 2 * 4]  # noqa: E731
    found = stability.judged_points(types.SimpleNamespace(sample=draw), stability.QUICK)
    assert (found["modes"], found["high_quality"]) == (2, 1.0)
    assert found["w1"] > 1
    shown = list(base64.b64decode(found["shown"]))
    assert shown[:4:2] == [round(255 * 5 / 6), round(255 / 6)]  # 2 and -2 on [-3, 3]


def test_quick_runs_every_way(small_data, monkeypatch, tmp_path):
    monkeypatch.setitem(DATA, "fashion-mnist", small_data)
    assert command.main(["--only", "stability", "--quick", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "bench-stability.json").read_text())
    metrics = record["metrics"]
    assert all(math.isfinite(metric["value"]) and metric["unit"] for metric in metrics.values())
    assert len(record["shown"]) == 10 and len(record["claims"]) == 3 and record["seed"] == 0
    for name in ("ring", "fashion"):
        for kind in stability.ways_on(name, stability.QUICK):
            steps, updates, cost = (
                metrics[f"{name}_{kind}_{what}"]["value"] for what in ("steps", "updates", "cost")
            )
            assert (steps, updates) == (10, 5 if kind in ("clipping", "gradient") else 10) and cost > 0


def test_a_killed_measurement_goes_on_as_the_same_code_alone(small_data, monkeypatch, tmp_path):
    """Runs and costs are kept and read again; of another commit, or of changed code, they are not; nothing is left."""
    monkeypatch.setitem(DATA, "fashion-mnist", small_data)
    setting = dataclasses.replace(stability.QUICK, seeds=(0, 1), seconds=(20.0, 70.0))
    kept, runs, timed = tmp_path / "runs" / "kept.json", [], []
    origin = {"commit": "a", "dirty": False, "torch": "2", "device": "here", "date": "today"}
    measures = {"ring": {"modes": 8.0, "w1": 0.1, "shown": ""}, "fashion": {"fd": 5.0, "shown": ""}}

    def one_run(name, kind, seed, n_steps, *rest):
        runs.append((f"{name} {kind} {seed}", n_steps))
        if len(runs) == 4:
            raise KeyboardInterrupt
        return measures[name] | {"steps": n_steps}

    def costs(name, *rest):
        timed.append(name)
        return dict.fromkeys(stability.ways_on(name, setting), float(len(timed)))

    monkeypatch.setattr(stability, "one_run", one_run)
    monkeypatch.setattr(stability, "costs", costs)
    monkeypatch.setattr(stability, "provenance", lambda _: dict(origin))
    monkeypatch.setattr(stability, "Setting", lambda: setting)
    monkeypatch.setattr(stability, "PROGRESS", kept)

    def interrupted():
        runs.clear()
        with pytest.raises(KeyboardInterrupt):
            stability.measure(say=lambda _: None)

    interrupted()
    record = stability.measure(say=lambda _: None)
    assert timed == ["ring", "fashion"]
    assert len(runs) == 21 and runs[3] == runs[4] == ("ring spectral 0", 20)  # cut short, and again
    assert runs[-1] == ("fashion r1 1", 35) and record["metrics"]["ring_r1_cost"]["value"] == 1000
    assert not kept.exists() and record["commit"] == "a"

    interrupted()
    origin["commit"] = "b"
    assert kept.exists() and stability.measure(say=lambda _: None)["commit"] == "b"
    assert len(runs) == 24 and not kept.exists()

    origin["dirty"] = True
    interrupted()
    assert not kept.exists()
    stability.measure(say=lambda _: None)
    assert len(runs) == 24


def test_a_probe_chooses_its_penalty_without_the_fresh_images():
    """Labels that are a rule of the features are read; labels at random are not, whatever the penalty."""
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (600,), generator=random)
    features = torch.nn.functional.one_hot(labels, 10) + 0.1 * torch.randn(600, 10, generator=random)
    penalties = (1.0, 1e6)
    assert probe.probe(features[:400], labels[:400], features[400:], labels[400:], penalties) > 0.99
    noise = torch.randn(600, 10, generator=random)
    assert probe.probe(noise[:400], labels[:400], noise[400:], labels[400:], penalties) < 0.25


def test_quick_runs_all_of_the_probes(small_data, monkeypatch, tmp_path):
    monkeypatch.setitem(DATA, "fashion-mnist", small_data)
    assert command.main(["--only", "gan-features", "--quick", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "bench-gan-features.json").read_text())
    assert record["metrics"]["framed_fd_fashion"]["value"] == pytest.approx(0, abs=1e-6)
    assert record["metrics"]["resized_fd_fashion"]["value"] > 0.01
    assert record["metrics"]["start"]["value"] == record["metrics"]["trained"]["value"]
    assert record["claims"][0]["value"] == 1  # a D that was not trained knows no more than itself


@pytest.mark.parametrize(("trained", "met"), [(0.9, True), (0.8, True), (0.79, False)])
def test_the_claim_on_the_probes_is_over_a_random_discriminator(trained, met):
    """What beats raw pixels alone is no merit of the training."""
    found = {"pixels": {"value": 0.5}, "start": {"value": 0.8}, "trained": {"value": trained}}
    claim = probe.claimed(found)
    assert claim.met is met and claim.value == pytest.approx((1 - trained) / 0.2)


# ---- eight Gaussians on a ring ---------------------------------------------------------------------------------


def test_a_mode_is_found_from_a_twentieth_of_an_even_share_on():
    """800 points, an even share of 100: 5 at a mode find it, 4 do not; points between the modes are of no quality."""
    centres = ring_centres(8)
    there = torch.cat([centres[0].expand(5, 2), centres[1].expand(4, 2), centres[2].expand(391, 2)])
    modes, share = ring.found(torch.cat([there, torch.zeros(400, 2)]))
    assert (modes, share) == (2, 0.5)
    assert ring.found(centres.repeat(10, 1)) == (8, 1.0)


def test_looking_does_not_change_the_training_and_the_way_does():
    way, seen = ring.WAYS["non_saturating"], []
    models = [
        ring.trained(way, ring.QUICK, 3),
        ring.trained(way, ring.QUICK, 3, lambda *at: seen.append(at[0])),
    ]
    assert seen == list(range(ring.QUICK.n_steps + 1))
    models += [ring.trained(dataclasses.replace(way, **other), ring.QUICK, 3)
               for other in ({"critic_lr": 0.2}, {"momentum": 0.9}, {"weight": 5.0}, {"loss": "hinge"})]  # fmt: skip
    first, second, *others = (torch.nn.utils.parameters_to_vector(m.parameters()) for m in models)
    assert first.equal(second)
    assert all((first - other).abs().max() > 1e-5 for other in others)


def test_a_slow_discriminator_moves_less_and_the_generator_as_much():
    """After the first steps of Adam, whose size is the learning rate, D has moved a tenth as far as G."""
    setting = dataclasses.replace(ring.QUICK, n_steps=2)
    starts = {}
    model = ring.trained(
        dataclasses.replace(ring.WAYS["slow"], critic_lr=0.1), setting, 0,
        lambda step, gan: starts.update(copy.deepcopy(gan.state_dict())) if not step else None,
    )  # fmt: skip
    moved = {name: (value - starts[name]).abs().max().item() for name, value in model.state_dict().items()}
    for player, rate in (("generator", 1.0), ("discriminator", 0.1)):
        largest = max(far for name, far in moved.items() if name.startswith(player))
        assert largest == pytest.approx(
            2 * rate * setting.lr, rel=0.2
        )  # the rate falls only after half the steps


def test_the_recording_holds_points_and_field_where_they_are():
    """A stand-in that draws known points, and a discriminator whose score is 10 y + x: the top row says real."""
    setting = dataclasses.replace(ring.QUICK, n_shown=3, n_points=4)
    drawn = torch.tensor([[-3.0, 3.0], [0.0, 1.5], [9.0, -9.0], [0.0, 0.0]])
    stand_in = types.SimpleNamespace(
        generator=lambda z: drawn, discriminator=lambda x: 10 * x[:, 1] + x[:, 0]
    )
    for name, corners in (("minimax", (255, 255, 0, 0)), ("wasserstein", (None, 255, 0, None))):
        recorder = ring.Recorder(ring.WAYS[name], setting)
        for step in range(setting.n_steps + 1):
            recorder.look(step, stand_in)
        run = recorder.as_dict()
        frames = len(run["steps"])
        points = unpacked(run["points"], (frames, 3, 2))
        assert points[0].tolist() == [[0, 255], [128, 191], [255, 0]]  # clamped to the extent
        field = unpacked(run["field"], (frames, 4, 4))[-1]
        found = field[0, 0], field[0, -1], field[-1, 0], field[-1, -1]
        assert all(want is None or got == want for got, want in zip(found, corners, strict=True))
        assert run["steps"][0] == 0 and run["steps"][-1] == setting.n_steps
        assert len(run["modes"]) == len(run["high_quality"]) == frames
        assert run["field_kind"] == ("score" if name == "wasserstein" else "probability")


def test_only_what_a_probability_is_is_shown_as_one():
    """Scores -1, 0, 1 and 3 in four cells. Least squares aims at 0 and 1; a hinge's score is not cut off at either."""
    setting = dataclasses.replace(ring.QUICK, side=2)
    scores = torch.tensor([-1.0, 0.0, 1.0, 3.0])
    stand_in = types.SimpleNamespace(generator=lambda z: z, discriminator=lambda x: scores)
    expected = {
        "least_squares": ("probability", [0, 0, 255, 255]),
        "non_saturating": ("probability", [69, 128, 186, 243]),  # 255 / (1 + exp(-s))
        "hinge": ("score", [0, 64, 128, 255]),
        "wasserstein": ("score", [0, 64, 128, 255]),
    }
    for name, (kind, levels) in expected.items():
        recorder = ring.Recorder(ring.WAYS[name], setting)
        recorder.look(0, stand_in)
        run = recorder.as_dict()
        assert (run["field_kind"], unpacked(run["field"], (4,)).tolist()) == (kind, levels)


def test_the_mean_of_collapsed_points_is_off_the_centre():
    """One mode is a radius away; all eight, and no mode at all, are not."""
    centres = ring_centres(8)
    assert ring.off_centre(centres[3].expand(10, 2)) == pytest.approx(2)
    assert ring.off_centre(centres.repeat(10, 1)) < 1e-6 and ring.off_centre(torch.zeros(10, 2)) == 0


def test_the_recording_of_the_package_is_the_benchmarks():
    """Its ways, steps and sizes are the benchmark's, and it is small enough to be sent with a page."""
    text, setting = ring.RECORDING.read_text(), ring.Setting()
    kept = json.loads(text)
    assert len(text) <= 400_000
    assert (kept["n"], kept["side"], kept["extent"]) == (setting.n_shown, setting.side, setting.extent)
    ways = [(run["loss"], run["setting"], run["label"]) for run in kept["runs"]]
    assert ways == [(way.loss, way.setting, way.label) for way in ring.WAYS.values()]
    assert {run["loss"] for run in kept["runs"]} == set(LOSSES)
    for run, way in zip(kept["runs"], ring.WAYS.values(), strict=True):
        assert run["steps"] == ring.Recorder(way, setting).wanted
    real = unpacked(kept["real"], (setting.n_shown, 2)).float() / 255 * 2 * setting.extent - setting.extent
    assert ring.found(real)[0] == ring.MODES


def test_the_recording_and_the_result_are_of_one_run():
    """The same origin; and each recorded training ends as the first seed's in the result, but for other latents."""
    kept = json.loads(ring.RECORDING.read_text())
    result = json.loads((command.RESULTS / "bench-ring.json").read_text())
    assert kept["origin"] == {part: result[part] for part in ("commit", "dirty", "seed", "date", "torch")}
    assert kept["origin"]["seed"] == result["setting"]["seeds"][0] == ring.Setting().seeds[0]
    for run, name in zip(kept["runs"], ring.WAYS, strict=True):
        modes, share = (
            result["metrics"][f"{name}_{what}"]["values"][0] for what in ("modes", "high_quality")
        )
        assert abs(run["modes"][-1] - modes) <= 1 and abs(run["high_quality"][-1] - share) <= 0.03


def test_the_claims_on_the_ring_are_those_of_the_worst_seed():
    rows = dict.fromkeys(ring.WAYS, [(8, 0.9, 0.01), (8, 0.8, 0.02)])
    entries, claims = ring.summary(rows | {"slow": [(1, 0.1, 2.0), (2, 0.3, 1.25)]}, ring.QUICK)
    assert [(claim.value, claim.met) for claim in claims] == [(2, True), (0.8, True), (0, True)]
    assert entries["slow_modes"]["value"] == 1.5
    assert (entries["slow_modes"]["min"], entries["slow_modes"]["max"]) == (1, 2)
    assert entries["slow_high_quality"]["values"] == [0.1, 0.3]
    assert entries["slow_off_centre"]["value"] == 1.625 and entries["slow_off_centre"]["min"] == 1.25
    spoiled = rows | {"slow": [(1, 0.1, 2.0), (3, 0.3, 0.5)], "non_saturating": [(8, 0.9, 0), (7, 0.9, 0)]}
    assert [claim.met for claim in ring.summary(spoiled, ring.QUICK)[1]] == [False, False, False]


def test_a_generator_that_has_learned_nothing_does_not_pass_for_a_collapsed_one():
    setting, rows = dataclasses.replace(ring.Setting(), n_steps=1), []

    def look(step, model):
        points = model.sample(setting.n_points, generator=torch.Generator().manual_seed(0)).detach()
        rows.append((*ring.found(points), ring.off_centre(points)))

    ring.trained(ring.WAYS["slow"], setting, 0, look)
    _, claims = ring.summary(dict.fromkeys(ring.WAYS, rows), setting)
    assert [claim.met for claim in claims] == [True, False, False]
    nowhere = ring.summary(dict.fromkeys(ring.WAYS, [(0, 0.0, 0.0)] * 2), setting)[1]
    assert nowhere[1].value is None and not nowhere[1].met


def test_quick_writes_a_recording_only_where_it_is_told_to(tmp_path):
    before = ring.RECORDING.read_bytes()
    ring.measure(quick=True, say=lambda _: None)
    assert ring.RECORDING.read_bytes() == before
    record = ring.measure(quick=True, say=lambda _: None, to=tmp_path / "new/ring.json")
    assert RingExplorer(tmp_path / "new/ring.json")  # which reads all of it
    origin = json.loads((tmp_path / "new/ring.json").read_text())["origin"]
    assert origin == {part: record[part] for part in origin} and origin["seed"] == 0


def test_a_measurement_that_is_cut_short_leaves_no_recording(tmp_path, monkeypatch):
    trained, seeds = ring.trained, []

    def until_the_second_seed(way, setting, seed, look):
        seeds.append(seed)
        if seed == 1:
            raise KeyboardInterrupt
        return trained(way, setting, seed, look)

    monkeypatch.setattr(ring, "trained", until_the_second_seed)
    with pytest.raises(KeyboardInterrupt):
        ring.measure(quick=True, say=lambda _: None, to=tmp_path / "ring.json")
    assert seeds == [0] * len(ring.WAYS) + [1] and not list(tmp_path.iterdir())


# ---- the whole of each, at a size that shows nothing -----------------------------------------------------------


@pytest.mark.parametrize("name", ["quantiser", "codebook", "sampling", "hierarchy", "gan-curves", "ring"])
def test_quick_runs_all_of_it(name, small_data, tmp_path):
    if name == "quantiser":
        pytest.importorskip("vector_quantize_pytorch")
    assert command.main(["--only", name, "--quick", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / f"bench-{name}.json").read_text())
    assert record["kind"] == "benchmark" and record["claims"]
    assert all(math.isfinite(metric["value"]) and metric["unit"] for metric in record["metrics"].values())
