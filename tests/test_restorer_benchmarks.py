"""The benchmarks of restorers: trainings begin where they should, mixes and damage are what they say, claims fail."""

import json
import math
import types
from dataclasses import replace

import pytest
import torch
from benchmarks import BENCHMARKS, ON_REQUEST, Unavailable, perception, robustness, trials
from torch import nn
from torch.testing import assert_close

from imagegen import degrade, pretrained
from imagegen.classifier import Classifier, ClassifierConfig
from imagegen.degrade import Degradation, Degraded, Mixture
from imagegen.evaluation import DEGRADATIONS, restored, samples
from imagegen.evaluation.restorers import CEILING, by_model, errors
from imagegen.images import to_float
from imagegen.recipes import DATA, RECIPES, RestorationObjective
from imagegen.restore import Restorer, RestorerConfig
from imagegen.training import seed_of

CONFIG = RestorerConfig(image_shape=(1, 16, 16), width=4, levels=1, mask=True, noise=True)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(n, channels, size, seed):
    """Return uint8 images of a few broad waves (n, channels, size, size)."""
    coarse = torch.rand(n, channels, 4, 4, generator=seeded(seed))
    x = nn.functional.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)


@pytest.fixture
def small_data(monkeypatch):
    """Smooth random images in the place of both data sets; what a network says of them is forgotten afterwards."""

    def split_of(channels, size):
        return lambda name: types.SimpleNamespace(
            images=smooth(60 if name == "train" else 12, channels, size, len(name)), labels=None
        )

    monkeypatch.setitem(DATA, "avatars", split_of(3, 64))
    monkeypatch.setitem(DATA, "fashion-mnist", split_of(1, 28))
    samples._reference.cache_clear()
    yield
    samples._reference.cache_clear()


def restorer(seed=0, config=CONFIG) -> Restorer:
    torch.manual_seed(seed)
    model = Restorer(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model


# ---- trials ------------------------------------------------------------------------------------------------------


def recipe_of(**objective):
    made = RestorationObjective(Mixture(masks=("none", "box")), **objective)
    critic = 4 if objective.get("adversarial") else 0
    base = RECIPES["restore-avatars"]
    return replace(
        base, model=replace(CONFIG, critic_width=critic), objective=made, batch_size=4, lr_warmup=0
    )


@pytest.mark.parametrize("adversarial", [0.0, 0.2])
def test_a_trial_begins_with_the_weights_that_its_recipe_starts_from(adversarial):
    """Network and average, before a step; and `change` finds the network there. Without a start they are others'."""
    first, images, seen = restorer(3), smooth(8, 1, 16, 0), []
    for start in ("first", ""):
        made = trials.trial(
            recipe_of(start=start, adversarial=adversarial), n_steps=2, images=images, models={"first": first},
            change=lambda model: seen.append(model.estimator.body.first.weight.clone()),
        )  # fmt: skip
        own = [made.model.estimator, made.average.estimator]
        same = [
            all(torch.equal(a, b) for a, b in zip(one.parameters(), first.estimator.parameters()))
            for one in own
        ]
        assert same == [bool(start)] * 2
        assert torch.equal(seen[-1], first.estimator.body.first.weight) is bool(start)
    made.train()  # the planted start is not what is trained
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), restorer(3).parameters()))


def test_a_trials_judge_is_the_one_that_it_is_given():
    """The first step's feature term by hand, at the start and with the step's own draws; another judge says another."""
    first, images, found = restorer(3), smooth(8, 1, 16, 0), []
    recipe = recipe_of(start="first", feature=0.5, judge="judge")
    for seed in (0, 1):
        torch.manual_seed(seed)
        judge = Classifier(ClassifierConfig(image_shape=(1, 16, 16), classes=(2,), widths=(3,), features=4))
        judge = judge.eval().requires_grad_(False)
        made = trials.trial(recipe, n_steps=2, images=images, models={"first": first, "judge": judge})
        batch = trials.Batches(images, batch_size=4, seed=recipe.seed).at(0)
        terms = recipe.objective.terms(
            first, batch, step=0, n_steps=2, judge=judge, generator=seeded(seed_of(recipe.seed, 0, 0))
        )
        found.append(made.step(0)["feature"].item())
        assert found[-1] == pytest.approx(terms["feature"].mean().item(), rel=1e-4) and found[-1] > 0
    assert found[0] != pytest.approx(found[1], rel=1e-2)


def test_a_trial_without_a_model_that_it_stands_on_cannot_run(monkeypatch):
    with pytest.raises(Unavailable, match="no weights of nothing; train first: imagegen train nothing"):
        trials.trial(recipe_of(start="nothing"), images=smooth(8, 1, 16, 0))
    asked = []
    monkeypatch.setattr(trials, "shipped", lambda *names: asked.append(names) or {"first": restorer()})
    trials.trial(recipe_of(start="first"), images=smooth(8, 1, 16, 0))
    assert asked == [("first",)]


def test_a_stamp_changes_with_code_weights_recipe_and_setting(monkeypatch, tmp_path):
    for part in ("own.py", "code.py"):
        (tmp_path / part).write_text("1")
    sha256 = {"features": "f", "a": "1"}
    monkeypatch.setattr(trials, "ROOT", tmp_path)
    monkeypatch.setattr(
        trials.pretrained, "card", lambda name, **_: {"sha256": sha256[name], "recipe": {"name": name}}
    )
    monkeypatch.setattr(trials.pretrained, "names", lambda **_: list(sha256))

    def stamped(n=1, recipe=perception.NAME):
        setting = perception.Setting(n=n)
        return trials.stamp(
            setting, own="own.py", network="features", code=("code.py",), models=("a", "b"), recipes=(recipe,)
        )

    seen = [stamped(), stamped(n=2), stamped(recipe=perception.START)]
    (tmp_path / "code.py").write_text("2")
    seen.append(stamped())
    sha256["a"] = "2"
    seen.append(stamped())
    sha256["b"] = "3"
    seen.append(stamped())
    texts = [json.dumps(each) for each in seen]
    assert len(set(texts)) == len(texts) and stamped() == seen[-1]
    assert seen[-1]["weights"] == {"a": "2", "b": "3"}


def test_the_stamp_of_perception_names_files_that_are_there():
    assert all((trials.ROOT / name).is_file() for name in perception.CODE)
    folder = trials.ROOT / "src/imagegen/degrade"
    assert {f"src/imagegen/degrade/{path.name}" for path in folder.glob("[!_]*.py")} <= set(perception.CODE)


# ---- perception --------------------------------------------------------------------------------------------------


def test_the_trainings_differ_in_weights_alone_and_start_at_the_same_place():
    setting = perception.Setting()
    made = perception.recipes_of(setting, 2)
    assert list(made) == ["s0", "s0.1", "s0.3", "s1", "s3", "feature"]
    shipped = replace(RECIPES[perception.NAME], n_steps=400, lr_warmup=50, seed=2)
    assert made["s1"] == shipped and min(shipped.objective.adversarial, shipped.objective.feature) > 0
    for strength in (0.1, 3.0):
        both = {part: strength * getattr(shipped.objective, part) for part in ("adversarial", "feature")}
        assert made[f"s{strength:g}"] == replace(shipped, objective=replace(shipped.objective, **both))
    plain, feature = made["s0"].objective, made["feature"].objective
    assert (plain.pixel, plain.pixel_loss) == (1.0, "mse") and plain.requires == (perception.START,)
    assert (plain.feature, plain.adversarial, feature.adversarial) == (0, 0, 0)
    assert plain.weight == feature.weight == 0
    assert feature.feature == shipped.objective.feature and feature.judge == shipped.objective.judge
    alone = replace(shipped.model, critic_width=0)
    assert made["s0"].model == made["feature"].model == alone == RECIPES[perception.START].model
    assert {recipe.objective.start for recipe in made.values()} == {perception.START}
    assert {(r.lr, r.betas, r.batch_size, r.seed) for r in made.values()} == {(1e-3, (0.5, 0.99), 16, 2)}


def test_a_mix_has_the_error_that_the_identity_of_squares_gives():
    """|m - x|^2 = (1 - a) |x_0 - x|^2 + a |x_1 - x|^2 - a (1 - a) |x_0 - x_1|^2, for any two estimates."""
    x, first, last = torch.randn(3, 5, 1, 4, 4, generator=seeded(), dtype=torch.float64)
    seen = Degraded(x, None, degrade.Identity())

    def squares(a, b):
        return (a - b).square().flatten(1).sum(1)

    for alpha in (0.0, 0.2, 0.5, 1.0):
        mix = perception.mixed(alpha, lambda *_: first, lambda *_: last)(seen, Degradation())
        straight = (1 - alpha) * squares(first, x) + alpha * squares(last, x)
        assert_close(squares(mix, x), straight - alpha * (1 - alpha) * squares(first, last))
    assert_close(perception.mixed(0.0, lambda *_: first, lambda *_: last)(seen, Degradation()), first)


def test_restored_images_are_judged_against_the_same_images(small_data):
    """Grey images keep their noise of 0.2 in units of [0, 1], and 13.98 dB; the clean images have a distance of 0."""
    task = DEGRADATIONS["noise_40"]
    images = DATA["avatars"]("test").images
    found = perception.judged(lambda *_: to_float(images), images, 0)
    assert found["noise_40_psnr"] == found["box_psnr"] == pytest.approx(CEILING) and found["box_mse"] == 0
    assert abs(found["noise_40_fd"]) < 1e-3
    raw = perception.judged(lambda seen, _: seen.y, images, 3)
    again = restored(lambda seen, _: seen.y, task, images, 3)
    assert raw["noise_40_psnr"] == errors(again, images)["psnr"] and raw["noise_40_fd"] > 0.1
    assert raw["noise_40_psnr"] != perception.judged(lambda seen, _: seen.y, images, 4)["noise_40_psnr"]
    grey = torch.full_like(images, 128)
    psnr = errors(restored(lambda seen, _: seen.y, task, grey, 0), grey)["psnr"]
    assert psnr == pytest.approx(-20 * math.log10(0.2), abs=0.15)  # the clamp at 2.5 deviations takes 0.1 dB


def test_mixes_lead_from_the_first_to_the_last(monkeypatch):
    """From what is seen to the clean images: each share nearer; the mix's noise is (1 - a) of it, up to the clamp."""
    images = smooth(12, 1, 16, 4)
    ends = {perception.START: lambda seen, _: seen.y, perception.NAME: lambda *_: to_float(images)}
    monkeypatch.setattr(perception, "by_model", lambda model: model)
    made = perception.untrained(perception.Given(perception.QUICK, ends, images, images))
    assert set(made) == {"start", "shipped", "mix_0.25", "mix_0.5", "mix_0.75"}
    task = DEGRADATIONS["noise_40"]
    noise = {name: errors(restored(way, task, images, 0), images)["mse"] for name, way in made.items()}
    assert noise["start"] > 1.5 * noise["mix_0.25"] > 1.5**2 * noise["mix_0.5"] > 1.5**3 * noise["mix_0.75"]
    assert noise["shipped"] == 0


SETTING = perception.Setting()
# PSNR, squared error and distance on noise, as one would expect them
EXPECTED = {
    "s0": (32.0, 6.3e-4, 3.4), "s0.1": (31.5, 7.1e-4, 2.0), "s0.3": (31.2, 7.6e-4, 1.5),
    "s1": (30.9, 8.1e-4, 1.0), "s3": (30.0, 1e-3, 0.8), "feature": (31.6, 6.9e-4, 2.1),
}  # fmt: skip


def planted(**changed):
    """Return the results of all runs from (PSNR, error, distance) by label; None: it diverged with two seeds."""
    figures = EXPECTED | {name.replace("_", "."): row for name, row in changed.items()}
    rows = {}
    for name in perception.words_of(SETTING):
        figure = figures.get(name, (31.0, 8e-4, 2.0))
        for seed in SETTING.seeds:
            values = dict.fromkeys(perception.UNITS, 1.0)
            if figure:
                psnr, mse, fd = figure
                values |= {
                    "noise_40_psnr": psnr + 0.01 * seed,
                    "noise_40_mse": mse,
                    "noise_40_fd": fd + 0.1 * seed,
                }
            rows[f"{name} {seed}"] = values if figure or seed == 2 else {"diverged": 5}
    return perception.summary(rows, [0.3, 0.4, 0.5], SETTING)


def test_entries_are_means_over_seeds_by_label_and_task():
    entries, claims = planted()
    entry = entries["s0.3_noise_40_fd"]
    assert entry["value"] == pytest.approx(1.6) and entry["std"] == pytest.approx(0.1)
    assert entry["n"] == SETTING.n and len(entry["values"]) == 3 and entry["unit"] == "FD-avatars"
    labels = [*EXPECTED, "start", "shipped", "mix_0.25", "mix_0.5", "mix_0.75"]
    measures = [
        f"{task}_{measure}" for task in ("noise_40", "box") for measure in ("psnr", "mse", "fd", "centre")
    ]
    wanted = {f"{name}_{measure}" for name in labels for measure in measures}
    assert entries.keys() == wanted | {f"{name}_diverged" for name in EXPECTED} | {"real_fd"}
    assert entries["real_fd"]["value"] == pytest.approx(0.4)
    assert (
        "0.25 of the estimate of start and 0.75 of that of shipped" in entries["mix_0.75_box_psnr"]["detail"]
    )
    assert [claim.met for claim in claims] == [True] * 3
    assert claims[1].value == pytest.approx(1.1 / 3.5)


@pytest.mark.parametrize(
    ("changed", "met"),
    [
        ({"s0": EXPECTED["s1"], "s1": EXPECTED["s0"]}, [False, False, False]),  # the two are swapped
        ({"s1": EXPECTED["s0"]}, [False, False, True]),  # the weight does nothing
        ({"s1": (30.9, 8.1e-4, 3.3)}, [True, False, True]),  # worse, and looks no better
        ({"s1": (32.1, 8.1e-4, 1.0)}, [False, True, True]),  # better at no price
        ({"feature": (32.2, 6.2e-4, 2.0)}, [True, True, False]),  # another run has less error
        ({"s3": (32.2, 6.2e-4, 2.0)}, [True, True, False]),
        ({"s1": None}, [False, False, False]),
        ({"s0_3": None}, [True, True, False]),  # one that is missing cannot be compared
    ],
)
def test_the_claims_on_the_trade_off_are_missed_where_the_figures_say_so(changed, met):
    assert [claim.met for claim in planted(**changed)[1]] == met


def test_a_killed_measurement_of_perception_goes_on(small_data, monkeypatch, tmp_path):
    """The whole of it, tiny: killed in its third training, the first two are not made again; all that is written."""
    kept, runs, inner = tmp_path / "runs/kept.jsonl", [], perception.one_run

    def counted(name, seed, given):
        runs.append((name, seed))
        if len(runs) == 3:
            raise KeyboardInterrupt
        return inner(name, seed, given)

    monkeypatch.setattr(perception, "Setting", lambda: perception.QUICK)
    monkeypatch.setattr(perception, "PROGRESS", kept)
    monkeypatch.setattr(perception, "one_run", counted)
    with pytest.raises(KeyboardInterrupt):
        perception.measure(say=lambda _: None)
    assert kept.exists()
    record = perception.measure(say=lambda _: None)
    labels = ["s0", "s1", "feature"]
    assert runs == [(name, 0) for name in labels] + [("feature", 0)] + [(name, 1) for name in labels]
    assert not kept.exists() and record["name"] == "bench-perception" and record["kind"] == "benchmark"
    found = record["metrics"]
    assert all(math.isfinite(m["value"]) and m["unit"] and m["detail"] and m["n"] for m in found.values())
    for name in ("start", "shipped", *labels, "mix_0.25", "mix_0.5", "mix_0.75"):
        for task in perception.TASKS:
            assert len(found[f"{name}_{task}_psnr"]["values"]) == 2
    assert found["s0_noise_40_psnr"]["value"] != found["start_noise_40_psnr"]["value"]
    assert record["setting"]["strengths"] == (0.0, 1.0) and len(record["claims"]) == 3
    assert json.loads(json.dumps(record, allow_nan=False))


# ---- robustness --------------------------------------------------------------------------------------------------


def test_the_conditions_differ_in_what_they_are_named_for():
    images = smooth(6, 3, 32, 1)
    made = robustness.conditions(images)
    assert list(made) == [
        "told_40", "told_low", "told_high", "salt", "poisson", "noise_120", "half_noise", "scribble_50",
        "shifted", "upside_down",
    ]  # fmt: skip
    assert {name: condition.sigma for name, condition in made.items()} == dict.fromkeys(made, 0.4) | {
        "told_low": 0.2, "told_high": 0.8, "noise_120": 1.2, "scribble_50": 0.0,
    }  # fmt: skip
    moved = {"shifted", "upside_down"}
    for name, condition in made.items():
        assert torch.equal(condition.images, images) is (name not in moved)
        if name in moved | {"told_40", "told_low", "told_high"}:
            assert condition.damage == DEGRADATIONS["noise_40"]
    assert torch.equal(made["upside_down"].images, images.flip(2))
    assert torch.equal(made["shifted"].images, torch.cat([images[..., -4:], images[..., :-4]], 3))
    trained = RECIPES["restore-avatars"].objective.degradation
    assert made["noise_120"].damage.amount > trained.sigmas[1]
    assert made["scribble_50"].damage.share > trained.shares[1] and "half" not in trained.masks


@pytest.mark.parametrize("name", ["salt", "poisson", "told_40"])
def test_salt_and_photons_have_the_mean_squared_error_of_the_noise(name):
    """Each image's squared error, drawn anew; judged by the standard error of its mean, which has to be small."""
    images = smooth(8, 1, 32, 3) // 3  # dark ones, for which share and peak are not those of grey
    condition = robustness.conditions(images)[name]
    x = to_float(images).repeat(60, 1, 1, 1)
    error = (condition.damage(x, generator=seeded(1)).y - x).square().flatten(1).mean(1).view(60, 8).mean(1)
    stderr = error.std() / len(error) ** 0.5
    assert stderr < 0.01 * robustness.SIGMA**2
    assert abs(error.mean() - robustness.SIGMA**2) < 4 * stderr


def test_a_restorer_is_told_the_mask_and_the_conditions_deviation():
    model, seen = restorer(), Degradation(mask="half", noise="gaussian", amount=0.4)
    seen = seen(torch.zeros(3, 1, 16, 16), generator=seeded())
    assert_close(by_model(model, sigma=0.7)(seen, None), model(seen.y, seen.known, 0.7))
    known = torch.ones(3, 1, 16, 16, dtype=torch.bool)
    whole = seen._replace(known=None)
    assert_close(by_model(model, sigma=0.7)(whole, None), model(seen.y, known, 0.7))
    assert not torch.allclose(model(seen.y, seen.known, 0.7), model(seen.y, seen.known, 0.4), atol=1e-3)


def test_the_median_is_of_three_by_three_pixels_of_one_channel():
    y = torch.randn(2, 3, 6, 6, generator=seeded())
    found = robustness.median(Degraded(y, None, degrade.Identity()), Degradation())
    assert found[1, 2, 3, 4] == y[1, 2, 2:5, 3:6].median() and found.shape == y.shape


def told_figures(**changed):
    """Return the entries that the claims read, in dB, all restorers alike but for `changed`: {"avatars_shifted": 1}."""
    figures = {"told_40": 30.0, "told_low": 27.0, "told_high": 28.0, "shifted": 29.0}
    made = {f"{name}_{key}_psnr": {"value": v} for name in robustness.MODELS for key, v in figures.items()}
    return made | {f"{name}_psnr": {"value": value} for name, value in changed.items()}


@pytest.mark.parametrize(
    ("changed", "met"),
    [
        ({}, [True, True, True]),
        ({"avatars_told_low": 30.0}, [False, True, True]),  # as good is not worse
        ({"fashion_told_high": 30.5}, [True, False, True]),
        ({"fashion_shifted": 30.2}, [True, True, False]),
        ({"avatars_told_40": 26.0}, [False, False, False]),
    ],
)
def test_the_claims_on_telling_and_moving_are_those_of_the_worst_restorer(changed, met):
    claims = robustness.claimed(told_figures(**changed))
    assert [claim.met for claim in claims] == met


def test_a_quick_run_meets_every_condition_with_every_restorer(small_data):
    record = robustness.measure(quick=True, say=lambda _: None)
    conditions = list(robustness.conditions(DATA["avatars"]("test").images))
    wanted = {f"{n}_{c}{way}_psnr" for n in robustness.MODELS for c in conditions for way in ("", "_seen")}
    found = record["metrics"]
    assert found.keys() == wanted | {f"{n}_salt_median_psnr" for n in robustness.MODELS}
    assert all(len(entry["values"]) == 2 and entry["n"] == 4 for entry in found.values())
    assert all(entry["unit"] == "dB" and math.isfinite(entry["value"]) for entry in found.values())
    # an untrained restorer returns what it sees and hangs on nothing that it is told
    for name in robustness.MODELS:
        for key in ("told_40", "told_high", "noise_120"):
            assert found[f"{name}_{key}_psnr"]["values"] == found[f"{name}_{key}_seen_psnr"]["values"]
    assert [claim["met"] for claim in record["claims"]][:2] == [False, False]
    assert record["name"] == "bench-robustness" and json.loads(json.dumps(record, allow_nan=False))


def test_without_the_weights_of_a_restorer_it_cannot_run(monkeypatch):
    monkeypatch.setattr(robustness, "MODELS", robustness.MODELS | {"fashion": "restore-nothing"})
    with pytest.raises(Unavailable, match=r"no weights of .*restore-nothing"):
        robustness.measure(quick=False, say=lambda _: None)


@pytest.mark.parametrize("name", ["restore-avatars", "restore-avatars-adversarial"])
def test_a_shipped_restorer_keeps_what_is_claimed_on_a_few_images(name):
    images = DATA["avatars"]("test").images[:24]
    model, psnr = pretrained.load(name), {}
    for key, condition in robustness.conditions(images).items():
        if key in ("told_40", "told_low", "told_high", "shifted"):
            restore = by_model(model, sigma=condition.sigma)
            again = restored(restore, condition.damage, condition.images, 0)
            psnr[key] = errors(again, condition.images)["psnr"]
    assert all(psnr["told_40"] - 0.1 > value for key, value in psnr.items() if key != "told_40"), psnr


def test_the_benchmarks_are_run_only_where_they_are_named():
    minutes = {"perception": 45, "robustness": 4, "priors": 8}
    assert {name: ON_REQUEST[name] for name in minutes} == minutes
    assert {name: BENCHMARKS[name] for name in minutes} == {name: f"benchmarks.{name}" for name in minutes}
