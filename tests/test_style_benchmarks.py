"""The benchmarks of the StyleGAN: the other side computes the same, each way takes out one piece, cells survive."""

import copy
import dataclasses
import json
import math
import types

import pytest
import torch
from benchmarks import __main__ as command
from benchmarks import ablation, families, style_reference, stylegan, trials
from torch import nn
from torch.testing import assert_close

from imagegen.evaluation.samples import Protocol
from imagegen.recipes import DATA
from imagegen.stylegan import StyleLayer, networks, normalised
from imagegen.training import NonFiniteLoss

SMALL = dataclasses.replace(stylegan.QUICK, side=16, channels=6)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small_avatars(monkeypatch):
    """Random images in the place of the avatars; what a feature network says of them is forgotten afterwards."""
    from imagegen.evaluation import samples

    def split(name):
        g = torch.Generator().manual_seed(len(name))
        images = torch.randint(
            256, (64 if name == "train" else 16, 3, 64, 64), generator=g, dtype=torch.uint8
        )
        return types.SimpleNamespace(images=images, labels=None)

    monkeypatch.setitem(DATA, "avatars", split)
    samples._reference.cache_clear()
    yield split
    samples._reference.cache_clear()


# ---- the restated reference --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sides():
    return stylegan.sides_of(stylegan.network(SMALL))


def inputs(n=4):
    g = torch.Generator().manual_seed(1)
    z = torch.randn(n, SMALL.latent_dim, generator=g)
    real, gradient = torch.randn(2, n, 3, SMALL.side, SMALL.side, generator=g)
    return z, real, gradient


def gradients(side, part):
    """Return the gradients of one step by name, the noise and the directions seeded, in the form that ours have."""
    step = stylegan.steps(side, *inputs())[part]
    torch.manual_seed(5)
    step()
    found = {}
    for name, parameter in side.model.named_parameters():
        value = parameter.grad
        if value is not None and side.net and name.endswith("weight") and "body" in name:
            layer = side.model.get_submodule(name.removesuffix(".weight"))
            value = value.flip((2, 3)) if isinstance(layer, StyleLayer) and layer.up else value
        if value is not None and name.endswith("strength"):
            value = value.sum()  # one strength for all channels
        found[name] = value
    return found


@pytest.mark.parametrize("way", style_reference.WAYS)
@pytest.mark.parametrize("part", stylegan.PARTS)
def test_the_other_side_has_the_gradients_of_ours_in_every_part(sides, part, way):
    mine, theirs = gradients(sides["ours"], part), gradients(sides[way], part)
    largest = max(value.abs().max().item() for value in mine.values() if value is not None)
    moved = {name.split(".")[0] for name, value in mine.items() if value is not None}
    assert moved == ({"discriminator"} if part == "critic" else {"generator"}) and largest > 1e-3
    for name, value in mine.items():
        if value is None:
            assert theirs[name] is None, name
        elif part != "path" or theirs[name] is not None:  # what an image hangs on by a sum alone is no path
            assert_close(theirs[name], value, rtol=1e-3, atol=1e-5 * largest, msg=name)


def test_the_sides_are_checked_and_one_that_differs_is_told(sides):
    z, real, _ = inputs()
    assert stylegan.checked(sides, z, real) < 1e-5
    for name, what in (
        ("generator.synthesis.to_image.1.bias", "images"),
        ("discriminator.head.bias", "logits"),
    ):
        planted = copy.deepcopy(sides["fused"])
        with torch.no_grad():
            dict(planted.model.named_parameters())[name].add_(0.05)
        with pytest.raises(RuntimeError, match=f"the {what} of 'fused' differ from ours"):
            stylegan.checked(sides | {"fused": planted}, z, real)


def test_the_other_side_modulates_in_the_way_that_it_is_named_for(sides, monkeypatch):
    """As many groups as images, or one convolution for all; the filter has a group for each channel in both."""
    z, _, _ = inputs()
    for way, fused in style_reference.WAYS.items():
        seen = []
        inner = style_reference.convolved

        def convolved(*args, seen=seen, inner=inner, **options):
            seen.append(options.get("groups", 1))
            return inner(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(style_reference, "convolved", convolved)
            sides[way].images(z)
        assert set(seen) == ({4} if fused else {1}) and len(seen) == 2 * 3 - 1 + 3
    for setting, message in (({"mixing": 0.5}, "mixing is 0.5"), ({"output": "residual"}, "'residual'")):
        config = dataclasses.replace(sides["ours"].model.config, **setting)
        with pytest.raises(ValueError, match=message):
            style_reference.Reference(networks.StyleGAN(config), fused=False)
    model = stylegan.network(SMALL)
    with torch.no_grad():
        model.generator.synthesis.body[0].strength[0] += 1
    with pytest.raises(ValueError, match="the noise differs by channel"):
        style_reference.Reference(model, fused=True)


def test_ours_is_measured_against_the_faster_way_of_the_other():
    spent = {part: {"ours": 30.0, "reference": 50.0, "fused": 40.0} for part in stylegan.PARTS}
    spent["path"] = {"ours": 30.0, "reference": 25.0, "fused": 90.0}
    metrics, claims = stylegan.compared(spent, stylegan.Setting())
    assert [claim.value for claim in claims] == [0.75, 0.75, 0.75, 1.2]
    assert [claim.met for claim in claims] == [True, True, True, False]
    assert metrics["path_ratio"]["value"] == 1.2
    assert metrics["generator_ours_images_per_second"]["value"] == pytest.approx(16 / 0.03)
    assert {name.split("_")[1] for name in metrics} == {"ours", "reference", "fused", "ratio"}


def test_both_forms_are_timed_as_they_are_named_and_give_the_same_gradients(monkeypatch):
    seen, inner = [], stylegan.modulated_conv2d

    def spied(*args, form="activations", **options):
        seen.append(form)
        return inner(*args, form=form, **options)

    monkeypatch.setattr(stylegan, "modulated_conv2d", spied)
    model, gradient = stylegan.network(SMALL), inputs()[2]
    found = {}
    for form in stylegan.FORMS:
        seen.clear()
        torch.manual_seed(2)
        steps = stylegan.form_steps(model, form, SMALL, gradient)
        for n in SMALL.draws:
            steps[f"drawing_{n}"]()
        torch.manual_seed(3)
        steps["training"]()
        assert set(seen) == {form} and len(seen) == 8 * (1 + len(SMALL.draws))
        found[form] = [p.grad.clone() for p in model.generator.parameters()]
    for mine, theirs in zip(*found.values(), strict=True):
        assert_close(mine, theirs, rtol=1e-3, atol=1e-4 * max(g.abs().max() for g in found["weights"]).item())
    assert networks.modulated_conv2d is inner


def test_the_setting_is_that_of_the_figures_to_beat():
    setting = stylegan.Setting()
    model = stylegan.network(setting)
    assert (setting.side, setting.channels, setting.batch_size) == (64, 64, 16)
    assert {layer.weight.shape[0] for layer in model.generator.synthesis.body} == {64}
    assert {block.second.weight.shape[0] for block in model.discriminator.body} == {64}


def test_quick_writes_the_record_of_the_operators(tmp_path):
    assert command.main(["--only", "stylegan", "--quick", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "bench-stylegan.json").read_text())
    assert all(math.isfinite(m["value"]) and m["unit"] and m["detail"] for m in record["metrics"].values())
    for part in stylegan.PARTS:
        assert {f"{part}_{side}_ms" for side in stylegan.SIDES} <= set(record["metrics"])
    assert {f"form_{kind}_ratio" for kind in ("training", "drawing_1", "drawing_2")} <= set(record["metrics"])
    assert record["metrics"]["difference"]["value"] < 1e-4 and len(record["claims"]) == 4


# ---- cells and trials --------------------------------------------------------------------------------------------


def test_cells_survive_a_kill_and_belong_to_one_stamp(tmp_path):
    path, made = tmp_path / "runs/cells.jsonl", []

    def cell(name):
        return lambda: made.append(name) or {"value": len(made)}

    cells = trials.Cells(path, {"setting": 1})
    assert cells.get("a", cell("a")) == {"value": 1} == cells.get("a", cell("a"))
    with path.open("a") as file:
        file.write('{"stamp": "cut sh')
    again = trials.Cells(path, {"setting": 1})
    assert again.get("a", cell("a")) == {"value": 1} and again.get("b", cell("b")) == {"value": 2}
    third = trials.Cells(path, {"setting": 1})
    assert third.found == {"a": {"value": 1}, "b": {"value": 2}} and made == ["a", "b"]
    assert trials.Cells(path, {"setting": 2}).found == {}
    third.drop()
    assert not path.exists() and trials.Cells(None, {}).get("c", cell("c")) == {"value": 3}


def test_the_stamp_changes_with_setting_and_code(monkeypatch, tmp_path):
    for name in (*trials.CODE, "benchmarks/own.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(trials, "ROOT", tmp_path)

    def found(setting=ablation.QUICK):
        return trials.stamp(setting, own="benchmarks/own.py", network="classifier-avatars")

    before = found()
    assert found() == before and json.loads(json.dumps(before)) == before
    assert found(dataclasses.replace(ablation.QUICK, n_steps=3)) != before
    for name in ("benchmarks/own.py", "src/imagegen/gan.py"):
        (tmp_path / name).write_text("2")
        assert found() != before
        before = found()
    recipe = dataclasses.replace(trials.RECIPES["stylegan-avatars"], lr=1e-9)
    monkeypatch.setitem(trials.RECIPES, "stylegan-avatars", recipe)
    assert found() != before


def test_every_file_that_results_hang_on_is_there():
    for name in trials.CODE:
        assert (trials.ROOT / name).exists(), name


def test_a_training_that_diverges_is_counted_and_in_no_mean():
    def fails():
        raise NonFiniteLoss(7, "loss", math.nan)

    made = types.SimpleNamespace(train=fails)
    assert trials.attempted(made, lambda _: {"fd": 1.0}) == {"diverged": 7}
    whole = trials.attempted(types.SimpleNamespace(train=lambda: 2.5, n_steps=4), lambda _: {"fd": 1.0})
    assert whole == {"fd": 1.0, "cpu_seconds": 2.5, "steps": 4}
    rows = [{"fd": 1.0}, {"diverged": 7}, {"fd": 3.0}]
    entries = trials.summarised("x", rows, {"fd": ("unit", "what")}, words="words", n=9)
    assert entries["x_fd"]["value"] == 2.0 and entries["x_fd"]["values"] == [1.0, 3.0]
    assert entries["x_diverged"]["value"] == 1 and entries["x_diverged"]["n"] == 3
    assert "x_fd" not in trials.summarised("x", rows[:2], {"fd": ("unit", "what")}, words="words", n=9)


def weights_of(made):
    return torch.cat([p.detach().flatten() for p in made.model.parameters()])


def test_a_seed_gives_the_same_training_and_the_same_figures_again(small_avatars):
    """The samples' noise too: a style layer's noise that is not 0 would change the figures."""
    found = []
    for seed in (0, 0, 1):
        made = trials.trial(ablation.recipe_of(ablation.WAYS["full"], seed, ablation.QUICK))
        assert made.train() > 0
        with torch.no_grad():
            for layer in made.model.generator.synthesis.body:
                layer.strength.fill_(0.5)
        torch.manual_seed(len(found))  # which no figure hangs on
        found.append((weights_of(made), trials.judged(made.model, trials.protocol_of(12))))
    assert torch.equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]
    assert not torch.equal(found[0][0], found[2][0]) and found[0][1]["fd"] != found[2][1]["fd"]
    assert set(found[0][1]) == set(trials.UNITS)


# ---- what is taken out -------------------------------------------------------------------------------------------


def test_each_way_changes_what_its_words_say_and_nothing_else():
    """Of the recipe: the fields that differ from the whole one's."""
    full = ablation.recipe_of(ablation.WAYS["full"], 0, ablation.Setting()).config()
    found = {}
    for kind, way in ablation.WAYS.items():
        other = ablation.recipe_of(way, 0, ablation.Setting()).config()
        fields = ("model", "objective")
        found[kind] = {k: other[f][k] for f in fields for k in other[f] if other[f][k] != full[f][k]}
        assert {k: v for k, v in other.items() if k not in fields} == {
            k: v for k, v in full.items() if k not in fields
        }
    assert {kind: changed for kind, changed in found.items() if changed} == {
        "mixing": {"mixing": 0.0}, "path": {"path_weight": 0.0}, "r1": {"penalty": "none", "weight": 0.0},
        "spread": {"group": 1}, "residual": {"output": "residual"},
    }  # fmt: skip
    changed = {kind for kind, way in ablation.WAYS.items() if way.change}
    assert changed == {"demodulation", "noise", "mapping", "equalised"}
    assert {"full", *changed, *(kind for kind in found if found[kind])} == set(ablation.WAYS)


def small(kind):
    """Return the networks of a way, before and after its change, from the same weights."""
    torch.manual_seed(0)
    setting = dataclasses.replace(ablation.QUICK, width=4, max_width=6)
    before = ablation.recipe_of(ablation.WAYS[kind], 0, setting).build()
    after = copy.deepcopy(before)
    ablation.WAYS[kind].change(after)
    return before, after


def test_without_demodulation_a_layer_keeps_the_scale_that_its_style_gives():
    before, after = small("demodulation")
    x, w = torch.randn(2, 6, 4, 4), torch.randn(2, 4)
    for was, now in zip(before.generator.synthesis.body, after.generator.synthesis.body, strict=True):
        assert [*was.state_dict()] == [*now.state_dict()] and isinstance(now, StyleLayer)
    was, now = before.generator.synthesis.body[0], after.generator.synthesis.body[0]
    noise = torch.randn(2, 1, 4, 4)
    with torch.no_grad():
        now.strength.fill_(0.3)
        now.bias.fill_(0.2)
        expected = nn.functional.conv2d(x * now.style(w)[..., None, None], now.weight * now.scale, padding=1)
        expected = math.sqrt(2) * nn.functional.leaky_relu(expected + 0.3 * noise + 0.2, 0.2)
        assert_close(now(x, w, noise), expected)
        assert not torch.allclose(now(x, w, None), was(x, w, None), atol=0.1)
        now.bias.zero_()
        assert_close(now(3 * x, w, None), 3 * now(x, w, None))


def test_without_noise_no_image_hangs_on_it_after_a_training(small_avatars):
    made = trials.trial(
        ablation.recipe_of(ablation.WAYS["noise"], 0, ablation.QUICK), change=ablation.no_noise
    )
    made.train()
    whole = trials.trial(ablation.recipe_of(ablation.WAYS["full"], 0, ablation.QUICK))
    whole.train()
    for trained, differs in ((made, False), (whole, True)):
        generator = trained.model.generator.eval()
        z = trained.model.draw(2)
        with torch.no_grad():
            images = [generator(z, noise=kind) for kind in ("none", "fixed")]
        assert torch.equal(*images) is not differs


def test_without_a_mapping_w_is_z_and_the_path_length_still_has_a_graph(small_avatars):
    _, after = small("mapping")
    z = after.draw(3)
    with torch.inference_mode():
        assert torch.equal(after.generator.mapping(z), normalised(z))
    assert not list(after.generator.mapping.parameters())
    made = trials.trial(
        ablation.recipe_of(ablation.WAYS["mapping"], 0, ablation.QUICK), change=ablation.no_mapping
    )
    made.train()
    assert made.model.path_mean > 0 and isinstance(made.average.generator.mapping, ablation.Unmapped)


def test_without_equalised_rates_the_first_images_and_logits_are_the_same():
    before, after = small("equalised")
    z, x = before.draw(2), torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        assert_close(
            after.eval().generator(z, noise="fixed"),
            before.eval().generator(z, noise="fixed"),
            rtol=1e-4,
            atol=1e-4,
        )
        assert_close(after.discriminator(x), before.discriminator(x), rtol=1e-4, atol=1e-5)
    scaled = [module for module in after.modules() if hasattr(module, "scale")]
    assert len(scaled) > 20 and all(module.scale == 1 for module in scaled)
    assert all(module.rate == 1 for module in after.modules() if hasattr(module, "rate"))
    dense = after.discriminator.dense.weight  # of F inputs: a deviation of 1 / sqrt(F)
    assert dense.std().item() * math.sqrt(dense.shape[1]) == pytest.approx(1, rel=0.2)


def test_the_spread_of_path_lengths_is_the_chance_of_the_directions_where_all_steps_lead_equally_far():
    """Images that are their w: |y| / 16 of 256 standard normal values deviates by 1 / sqrt(512), at any scale."""
    for scale in (1.0, 7.0):
        generator = types.SimpleNamespace(
            styles=lambda z: z[:, None],
            synthesis=lambda ws, noise, scale=scale: scale * ws.reshape(-1, 1, 16, 16),
        )
        generator.eval = lambda generator=generator: generator
        model = types.SimpleNamespace(
            generator=generator, draw=lambda n, generator: torch.randn(n, 256, generator=generator)
        )
        assert ablation.path_spread(model, 400) == pytest.approx(1 / math.sqrt(512), rel=0.15)


def test_the_average_and_the_ratios_are_drawn_from_the_runs():
    setting = dataclasses.replace(ablation.QUICK, seeds=(0, 1))
    row = {"fd": 10.0, "kid": 1.0, "precision": 0.5, "recall": 0.25, "path_spread": 0.3, "cost": 100.0}
    results = {f"{kind} {seed}": row for kind in ablation.WAYS for seed in (0, 1)}
    results |= {f"full {seed}": row | {ablation.LAST: {**row, "fd": 30.0}} for seed in (0, 1)}
    results |= {f"r1 {seed}": row | {"fd": 15.0} for seed in (0, 1)}
    results |= {f"mapping {seed}": {"diverged": 3} for seed in (0, 1)}
    real = {"fd": 1.0, "kid": 0.0, "precision": 0.9, "recall": 0.9}
    entries = ablation.summary(results, real, setting)
    assert entries["average_fd"]["value"] == 30 and entries["full_fd"]["value"] == 10
    assert entries["r1_fd_ratio"]["value"] == 1.5 and entries["noise_fd_ratio"]["value"] == 1
    assert entries["mapping_diverged"]["value"] == 2 and "mapping_fd" not in entries
    assert entries["real_precision"]["value"] == 0.9 and "full_kid" not in entries
    assert all("next to nothing" in entry["detail"] for name, entry in entries.items() if "real" not in name)


def stopping(inner, after, runs):
    """Return `inner` that notes each call and stops at one, as a kill would."""

    def counted(*args):
        runs.append(args[:2])
        if len(runs) == after:
            raise KeyboardInterrupt
        return inner(*args)

    return counted


@pytest.mark.parametrize(
    ("module", "name", "n_runs"), [(ablation, "bench-ablation", 20), (families, "bench-families", 6)]
)
def test_quick_runs_everything_and_a_killed_measurement_goes_on(
    module, name, n_runs, small_avatars, monkeypatch, tmp_path
):
    """The whole of it: killed in its third run and started again, the first two are not made again."""
    quick, kept, runs = module.QUICK, tmp_path / "runs/kept.jsonl", []
    monkeypatch.setattr(module, "Setting", lambda: quick)
    monkeypatch.setattr(module, "PROGRESS", kept)
    monkeypatch.setattr(module, "one_run", stopping(module.one_run, 3, runs))
    with pytest.raises(KeyboardInterrupt):
        module.measure(say=lambda _: None)
    assert len(runs) == 3 and kept.exists()
    record = module.measure(say=lambda _: None)
    assert len(runs) == n_runs + 1 and runs[2] == runs[3] and len(set(runs)) == n_runs
    assert not kept.exists() and record["name"] == name and record["claims"] == []
    metrics = record["metrics"]
    assert all(math.isfinite(m["value"]) and m["unit"] and m["detail"] for m in metrics.values())
    ways = [*ablation.WAYS, "average"] if module is ablation else families.WORDS
    for way in ways:
        for measure in ("fd", "precision", "recall"):
            assert len(metrics[f"{way}_{measure}"]["values"]) == 2
        assert metrics[f"{way}_diverged"]["value"] == 0
    assert json.loads(json.dumps(record, allow_nan=False)) and {"real_fd", "real_recall"} <= set(metrics)


# ---- families ----------------------------------------------------------------------------------------------------


def test_the_families_are_the_shipped_recipes_and_the_critic_of_the_stability_benchmark():
    setting = families.Setting()
    made = {kind: families.recipe_of(kind, setting, seed=4, n_steps=70) for kind in families.WORDS}
    for kind, name in (("dcgan", "dcgan-avatars"), ("stylegan", "stylegan-avatars")):
        shipped = dataclasses.replace(families.RECIPES[name], seed=4, n_steps=70)
        assert made[kind] == shipped
    critic = made["wgan_gp"]
    assert (critic.objective.loss, critic.objective.penalty) == ("wasserstein", "gradient")
    assert (critic.objective.weight, critic.objective.critic_steps, critic.model.normalise_critic) == (
        10,
        2,
        "none",
    )
    assert critic.model.width == made["dcgan"].model.width and critic.objective.noise == 0
    style = made["stylegan"].objective
    for every in (style.penalty_every, style.path_every, critic.objective.critic_steps):
        assert setting.timed % every == 0


def test_a_family_takes_the_steps_that_fit_into_the_time(monkeypatch):
    asked = []
    monkeypatch.setattr(families, "trial", lambda recipe: asked.append(recipe))
    monkeypatch.setattr(families, "attempted", lambda made, judge: {"fd": 1.0})
    setting = dataclasses.replace(families.Setting(), seconds=100.0)
    assert families.one_run("wgan_gp", 1, 0.25, setting) == {"fd": 1.0, "images": 400 * 32}
    assert (asked[0].n_steps, asked[0].seed) == (400, 1)


def test_the_protocol_is_that_of_the_avatars_with_fewer_samples():
    protocol = trials.protocol_of(2_000)
    assert isinstance(protocol, Protocol) and (protocol.network, protocol.n) == ("classifier-avatars", 2_000)
    assert ablation.Setting().n == families.Setting().n == 2_000
