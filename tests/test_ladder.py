"""The ladder of the StyleGAN's training: what each rung turns on is on, whole steps are timed, no rung is dropped."""

import dataclasses
import json
import math
import os
import sys
import types

import pytest
import torch
from benchmarks import Unavailable, ladder
from benchmarks import __main__ as command
from torch.testing import assert_close

from imagegen import recipes
from imagegen.recipes import DATA, RECIPES
from imagegen.training import EMA

NO_GPU = "there is no GPU"
ON_A_CPU = ["contiguous", "channels_last", "bf16", "compiled"]
BROKEN = dataclasses.replace(ladder.QUICK, compiler="none-of-this-name")


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """One thread, no GPU, random images in the place of the avatars, and nothing left of what was compiled."""
    pixels = torch.randint(
        256, (32, 3, 64, 64), generator=torch.Generator().manual_seed(1), dtype=torch.uint8
    )
    monkeypatch.setitem(DATA, "avatars", lambda split: types.SimpleNamespace(images=pixels, labels=None))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


@pytest.fixture
def here(monkeypatch):
    """Each rung in this process, which is quicker."""
    monkeypatch.setattr(ladder, "apart", ladder.attempted)


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


# ---- the rungs ---------------------------------------------------------------------------------------------------


def test_each_rung_on_a_cpu_turns_on_one_thing_more():
    off = {"words": "", "channels_last": False, "precision": "32-true", "compiled": False, "times": 1}
    turned = [{}, {"channels_last": True}, {"precision": "bf16-mixed"}, {"compiled": True}]
    assert [name for name, rung in ladder.RUNGS.items() if not rung.gpu] == ON_A_CPU
    for name, more in zip(ON_A_CPU, turned):
        off |= more
        assert dataclasses.asdict(ladder.RUNGS[name]) | {"words": ""} == off | {"gpu": False}
    assert all(rung.times > 1 for rung in ladder.RUNGS.values() if rung.gpu)
    assert list(ladder.RUNGS)[:4] == ON_A_CPU and len({rung.words for rung in ladder.RUNGS.values()}) == 6


def test_at_full_size_a_rung_is_the_shipped_recipe_and_a_cycle_holds_both_regularisers():
    shipped = RECIPES["stylegan-avatars"]
    assert ladder.recipe_of(ladder.RUNGS["bf16"], ladder.Setting()) == shipped
    assert ladder.recipe_of(ladder.RUNGS["batch_8"], ladder.Setting()).batch_size == 8 * shipped.batch_size
    assert ladder.HALF == shipped.precision == "bf16-mixed"
    turns = {"penalty_every": 6, "path_every": 4}
    off = {"penalty": "none", "weight": 0.0}
    for changes, cycle in (({}, 16), (turns, 12), (turns | off, 4), (turns | off | {"path_weight": 0.0}, 1)):
        changed = ladder.recipe_of(ladder.RUNGS["bf16"], dataclasses.replace(ladder.QUICK, objective=changes))
        assert ladder.cycle_of(changed) == cycle


# ---- one training ------------------------------------------------------------------------------------------------


def seen_in(made, n=2):
    """Return {(player, dtype): whether each output of its last convolutions is channels-last} of n steps."""
    seen = {}

    def watch(player, module):
        def told(_, given, out):
            laid = out.is_contiguous(memory_format=torch.channels_last)
            seen.setdefault((player, out.dtype), set()).add(laid)

        return module.register_forward_hook(told)

    network = made.model
    hooks = [
        watch("critic", network.discriminator.body),
        watch("generator", network.generator.synthesis.body[-1]),
    ]
    made.steps(0, n)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("name", ON_A_CPU[:3])
def test_a_rung_computes_in_its_precision_and_layout(name):
    """Step 0 holds both regularisers, which stay in 32 bits beside losses in 16."""
    rung = ladder.RUNGS[name]
    made = ladder.training(rung, ladder.QUICK)
    kernels = [p for p in made.model.parameters() if p.ndim == 4]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels) == rung.channels_last
    assert {p.dtype for p in kernels} == {torch.float32}
    seen = seen_in(made)
    dtypes = {torch.float32, torch.bfloat16} if name == "bf16" else {torch.float32}
    assert set(seen) == {(player, dtype) for player in ("critic", "generator") for dtype in dtypes}
    assert all(laid == {rung.channels_last} for laid in seen.values())


def test_the_timed_steps_change_all_weights_and_are_those_of_the_training(monkeypatch):
    """The same steps, batch for batch, as the package's own way from `set_up` and `Batches` makes."""
    from lightning_fabric import Fabric

    made = ladder.training(ladder.RUNGS["channels_last"], ladder.QUICK)
    before = weights(made.model)
    made.steps(0, 3)
    after = weights(made.model)
    still = {name for name, value in after.items() if torch.equal(value, before[name])}
    assert not still

    recipe = ladder.recipe_of(ladder.RUNGS["channels_last"], ladder.QUICK)
    torch.manual_seed(recipe.seed)
    model = recipe.build().to(memory_format=torch.channels_last)
    fabric = Fabric(accelerator="cpu", devices=1)
    _, step = recipes.set_up(recipe, recipe.n_steps, model, EMA(model, recipe.ema), fabric)
    batches = recipes.Batches(DATA["avatars"]("train").images, batch_size=4, seed=recipe.seed)
    for index in range(3):
        step((index, batches.at(index)))
    for name, value in weights(model).items():
        assert torch.equal(value, after[name]), name


def test_a_compiled_training_takes_the_same_steps_and_its_regularisers_go_uncompiled():
    """Both players' losses are compiled; R1 and path length would raise there; the numbers are the plain one's."""
    plain = ladder.Rung("", channels_last=True)
    compiled = ladder.Rung("", channels_last=True, compiled=True)
    ended = []
    for rung in (plain, compiled):
        with ladder.compiling_anew(ladder.QUICK.limit):
            made = ladder.training(rung, ladder.QUICK)
            start = weights(made.model)
            made.steps(0, 3)
            graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        assert (graphs > 2) == rung.compiled
        ended.append(weights(made.model))
    for name, value in ended[0].items():
        moved = (value - start[name]).abs().max().item()
        assert_close(ended[1][name], value, rtol=0, atol=0.02 * moved, msg=name)
    made.model.discriminator.zero_grad()
    inside = torch.compile(made.model.discriminator, backend="aot_eager")
    with pytest.raises(RuntimeError, match="double backward|create_graph"):
        recipes.style.zero_centred_penalty(inside, torch.randn(4, 3, 64, 64)).sum().backward()


def test_a_function_that_is_compiled_too_often_is_told():
    """Torch would go on uncompiled."""
    said = ladder.attempted(ladder.RUNGS["compiled"], dataclasses.replace(ladder.QUICK, limit=1))
    assert "recompile" in said
    assert not torch._dynamo.config.fail_on_recompile_limit_hit  # as it was


def test_a_compiler_starts_from_nothing(monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "kept")
    with ladder.compiling_anew(3):
        folder = os.environ["TORCHINDUCTOR_CACHE_DIR"]
        assert folder != "kept" and not os.listdir(folder)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "kept" and not os.path.exists(folder)


def test_the_clock_counts_whole_cycles_behind_the_warm_ones(monkeypatch):
    """Cycles of 900, 1, 5 and 3 seconds, of which the first is for warmth: a step of the median cycle takes 1.5."""
    now, costs = [0.0], iter([900.0, 1.0, 5.0, 3.0])
    asked = []

    def steps(self, first, n):
        asked.append((first, n))
        now[0] += next(costs)

    monkeypatch.setattr(ladder.Training, "steps", steps)
    for clock in ("process_time", "perf_counter"):
        monkeypatch.setattr(ladder.time, clock, lambda: now[0])
    found = ladder.measured(ladder.RUNGS["compiled"], dataclasses.replace(ladder.QUICK, cycles=3))
    assert asked == [(0, 2), (2, 2), (4, 2), (6, 2)]
    assert (found["ms"], found["images"]) == (1500.0, pytest.approx(8 / 3))
    assert found["compiling"] == 897.0 and found["memory"] > 100


# ---- what does not run -------------------------------------------------------------------------------------------


def test_a_rung_that_fails_in_its_process_is_told_with_its_reason(monkeypatch):
    """In a process of its own, as at full size; the reason is the innermost cause, and another rung still runs."""
    said = ladder.apart(ladder.RUNGS["compiled"], BROKEN)
    assert "none-of-this-name" in said and "InvalidBackend" in said
    assert ladder.apart(ladder.RUNGS["batch_8"], ladder.QUICK) == NO_GPU


def crash(rung, setting):
    os._exit(3)


def test_a_process_that_crashes_is_told(monkeypatch):
    monkeypatch.setattr(ladder, "attempted", crash)
    assert (
        ladder.apart(ladder.RUNGS["bf16"], ladder.QUICK) == "its process was ended from outside, or crashed"
    )


def test_a_gpu_without_bf16_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert ladder.attempted(ladder.RUNGS["bf16"], ladder.QUICK) == "this GPU has no bf16"


def test_all_rungs_are_in_the_record_in_order_and_those_that_ran_have_figures(here, tmp_path, capsys):
    assert command.main(["--only", "ladder", "--quick", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "bench-ladder.json").read_text())
    assert (record["name"], record["kind"], record["seed"]) == ("bench-ladder", "benchmark", 0)
    assert record["device"].startswith("CPU") and record["claims"] == []
    assert [rung["name"] for rung in record["rungs"]] == list(ladder.RUNGS)
    assert [rung["name"] for rung in record["rungs"] if rung["not_run"] is None] == ON_A_CPU
    assert {rung["not_run"] for rung in record["rungs"][4:]} == {NO_GPU}
    assert f"batch_64: not run: {NO_GPU}" in capsys.readouterr().out
    metrics = record["metrics"]
    expected = [f"{name}_{what}" for name in ON_A_CPU for what in ("images_per_second", "ms", "memory")]
    more = ["compiled_compiling", "compiled_graphs", *(f"{name}_times" for name in ON_A_CPU)]
    assert sorted(metrics) == sorted(expected + more)
    assert all(math.isfinite(m["value"]) and m["value"] > 0 and m["unit"] for m in metrics.values())
    assert metrics["contiguous_times"]["value"] == 1
    for name in ON_A_CPU:
        rate, ms = metrics[f"{name}_images_per_second"]["value"], metrics[f"{name}_ms"]["value"]
        assert rate * ms == pytest.approx(4 * 1000)
        assert metrics[f"{name}_times"]["value"] * metrics["contiguous_images_per_second"][
            "value"
        ] == pytest.approx(rate)
        assert ladder.RUNGS[name].words in metrics[f"{name}_ms"]["detail"]


def test_on_a_gpu_the_record_names_it_and_says_what_was_timed(monkeypatch):
    found = {"images": 2.0, "ms": 1.0, "memory": 3.0}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(ladder, "apart", lambda rung, _: dict(found))
    monkeypatch.setattr(ladder, "make", lambda name, **fields: fields)
    record = ladder.measure(quick=True, say=lambda _: None)
    assert record["device"] == "cuda" and len(record["metrics"]) == 4 * 6
    details = [entry["detail"] for name, entry in record["metrics"].items() if name.endswith("_ms")]
    assert all("wall time" in detail for detail in details) and "batch 256," in details[-1]


def test_a_later_rung_may_fail_and_the_first_may_not(monkeypatch):
    found = {"images": 2.0, "ms": 1.0, "memory": 3.0}
    failing = {ladder.RUNGS["compiled"].words}
    monkeypatch.setattr(ladder, "apart", lambda rung, _: "broken" if rung.words in failing else dict(found))
    record = ladder.measure(quick=True, say=lambda _: None)
    assert [rung["not_run"] for rung in record["rungs"]] == [None] * 3 + ["broken"] + [None] * 2
    assert "compiled_ms" not in record["metrics"] and "batch_64_ms" in record["metrics"]
    failing.add(ladder.RUNGS["contiguous"].words)
    with pytest.raises(Unavailable, match="broken"):
        ladder.measure(quick=True, say=lambda _: None)
