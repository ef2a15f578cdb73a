"""The loop, the average and the files: what is promised when a loss breaks, a disk fills or a process dies."""

import errno
import io
import itertools
import math
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny_recipe import N_STEPS, TINY, images, save_gradients
from torch import nn

from imagegen import training
from imagegen.data import Batches
from imagegen.images import to_unit
from imagegen.objectives import bernoulli_nll, gaussian_kl
from imagegen.training import EMA, CheckpointError, NonFiniteLoss, run, save_checkpoint, seed_of
from imagegen.vae import VAE

SCRIPT = Path(__file__).with_name("tiny_recipe.py")


def quiet_run(step, batches, n_steps, **options):
    return run(step, batches, n_steps, progress=False, **options)


def test_run_averages_each_term_over_its_window():
    values = [1.0, 2.0, 6.0, 10.0, 20.0]
    history = quiet_run(lambda x: {"a": torch.tensor(x), "b": torch.tensor(-x)}, values, 5, log_every=2)
    assert [entry["step"] for entry in history] == [2, 4, 5]
    assert [entry["a"] for entry in history] == [1.5, 8.0, 20.0]
    assert [entry["b"] for entry in history] == [-1.5, -8.0, -20.0]


def test_run_goes_on_from_its_first_step_and_stops_when_told():
    seen = []

    def step(batch):
        seen.append(batch)
        return {"loss": torch.tensor(0.0)}

    logged = []
    quiet_run(
        step,
        itertools.count(7),
        100,
        first_step=7,
        log_every=5,
        on_log=lambda e: logged.append(e) or e["step"] >= 15,
    )
    assert seen == list(range(7, 15))
    assert [entry["step"] for entry in logged] == [10, 15]


def test_run_measures_the_time_spent_on_batches():
    def slow():
        for _ in range(4):
            time.sleep(0.02)
            yield 0

    def step(_):
        time.sleep(0.02)
        return {"loss": torch.tensor(0.0)}

    share = quiet_run(step, slow(), 4)[-1]["fetch_share"]
    assert 0.3 < share < 0.7  # half of the time, on a busy machine
    assert quiet_run(step, [0] * 4, 4)[-1]["fetch_share"] < 0.05


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_non_finite_term_is_named_with_its_step(bad):
    def step(index):
        return {
            "fine": torch.tensor(1.0),
            "rate": torch.tensor(bad if index >= 13 else 1.0),
            "loss": torch.tensor(bad if index >= 12 else 1.0),
        }

    saved = []
    with pytest.raises(NonFiniteLoss, match=r"step 12: the term 'loss'") as caught:
        quiet_run(step, itertools.count(), 100, log_every=5, on_log=lambda e: saved.append(e["step"]))
    assert (caught.value.step, caught.value.term) == (12, "loss")
    assert caught.value.value == bad or math.isnan(bad) and math.isnan(caught.value.value)
    assert saved == [5, 10]  # nothing is handed on, and so nothing saved, once a term has broken


def test_run_refuses_what_it_would_average_wrongly():
    with pytest.raises(ValueError, match=r"'loss' has shape \(2,\)"):
        quiet_run(lambda _: {"loss": torch.zeros(2)}, [0], 1)
    with pytest.raises(ValueError, match="batches ended at step 2 of 3"):
        quiet_run(lambda _: {"loss": torch.zeros(())}, [0, 0], 3)
    with pytest.raises(ValueError, match="earlier ones returned"):
        quiet_run(lambda name: {name: torch.zeros(())}, ["a", "b"], 2)


def test_the_bar_is_plain_and_can_be_silenced(capsys, monkeypatch):
    def go(**options):
        run(lambda _: {"loss": torch.zeros(())}, [0] * 3, 3, **options)
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err

    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    assert "3/3" in go()
    assert go(progress=False) == ""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    assert go() == ""


def test_ema_is_the_recursion_it_says():
    module = nn.BatchNorm1d(2)
    ema = EMA(module, 0.9)
    expected = module.weight.detach().clone()
    for t in range(200):
        with torch.no_grad():
            module.weight.add_(1.0)
            module.running_mean.add_(1.0)
        ema.update(module)
        decay = min(0.9, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * module.weight.detach()
    torch.testing.assert_close(ema.module.weight, expected)
    assert torch.equal(ema.module.running_mean, module.running_mean)  # buffers are copied, not averaged
    assert not ema.module.training and not ema.module.weight.requires_grad

    other = EMA(nn.BatchNorm1d(2), 0.9)
    other.load_state_dict(ema.state_dict())
    for average in (ema, other):
        average.update(nn.BatchNorm1d(2))
    assert torch.equal(ema.module.weight, other.module.weight)  # the count of updates travels too


def test_seeds_differ_and_do_not_depend_on_the_process():
    seeds = {seed_of(a, b, c) for a in range(8) for b in range(64) for c in range(4)}
    assert len(seeds) == 8 * 64 * 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(1, 2) != seed_of(2, 1)


def test_learning_rate_warms_up_and_ends_at_its_final_share():
    rates = [training.learning_rate(i, 1000, peak=2.0, warmup=100, final=0.1) for i in range(1000)]
    assert rates[0] == pytest.approx(0.02) and max(rates) == pytest.approx(2.0)
    assert rates[:100] == sorted(rates[:100]) and rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[-1] == pytest.approx(0.2)
    assert rates[100 + 450] == pytest.approx((2.0 + 0.2) / 2, rel=0.01)  # half-way down the cosine


class FullDisk(io.RawIOBase):
    """A file that takes 100 bytes and then finds the disk full."""

    def __init__(self, path):
        self.file = open(path, "wb")

    def writable(self):
        return True

    def write(self, content):
        self.file.write(bytes(content[:100]))
        self.file.flush()
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self):
        self.file.close()
        super().close()


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1, "weights": torch.ones(100)})
    with monkeypatch.context() as patched:
        patched.setattr(training, "open", lambda name, mode: FullDisk(name), raising=False)
        with pytest.raises(CheckpointError, match=r"checkpoint\.pt: No space left .*untouched"):
            save_checkpoint(path, {"step": 2, "weights": torch.zeros(100)})
    assert training.load_checkpoint(path)["step"] == 1
    assert os.listdir(tmp_path) == ["checkpoint.pt"]  # the half-written file is gone


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_really_full_disk(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})
    with monkeypatch.context() as patched:
        patched.setattr(training, "open", lambda name, mode: open("/dev/full", mode), raising=False)
        with pytest.raises(CheckpointError, match="No space left on device"):
            save_checkpoint(path, {"step": 2, "weights": torch.zeros(10_000)})
    assert training.load_checkpoint(path)["step"] == 1


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"weights": torch.ones(1000)})
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(CheckpointError, match=r"cannot read the checkpoint .*checkpoint\.pt"):
        training.load_checkpoint(path)


def test_a_checkpoint_runs_no_code(tmp_path):
    torch.save({"harm": partial(print, "run")}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError):
        training.load_checkpoint(tmp_path / "c.pt")


# --- killed, started again, and the same weights -------------------------------------------------------------


def command(folder: Path, devices: int) -> tuple[list[str], dict[str, str]]:
    arguments = (
        f"train tiny --budget full --devices {devices} --save-seconds 0 --log-every 10 --quiet --threads 1"
    )
    environment = os.environ | {"IMAGEGEN_RUNS": str(folder / "runs"), "OMP_NUM_THREADS": "1"}
    return [sys.executable, str(SCRIPT), *arguments.split(), "--out", str(folder)], environment


def train_whole(folder: Path, devices: int) -> str:
    arguments, environment = command(folder, devices)
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def train_killed(folder: Path, devices: int) -> int:
    """Kill the training with SIGKILL soon after a checkpoint appears; return the step of what it left."""
    arguments, environment = command(folder, devices)
    process = subprocess.Popen(
        arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    checkpoint = folder / "runs" / "tiny" / "checkpoint.pt"
    deadline = time.time() + 120
    while not checkpoint.exists() and process.poll() is None and time.time() < deadline:
        time.sleep(0.002)
    process.kill()
    process.wait()
    if devices > 1:  # the workers notice that their parent is gone
        steps = -1
        while steps != (steps := training.load_checkpoint(checkpoint)["step"]) and time.time() < deadline:
            time.sleep(1.0)
    return training.load_checkpoint(checkpoint)["step"]


@pytest.mark.parametrize("devices", [1, 2])
def test_killed_and_started_again_it_ends_with_the_same_bits(devices, tmp_path):
    left_at = N_STEPS
    while left_at == N_STEPS:  # on a machine busy enough, it may end before the signal comes
        shutil.rmtree(tmp_path / "killed", ignore_errors=True)
        left_at = train_killed(tmp_path / "killed", devices)
    assert f"going on from step {left_at} " in train_whole(tmp_path / "killed", devices)
    train_whole(tmp_path / "whole", devices)
    states = [
        training.load_checkpoint(tmp_path / name / "runs/tiny/checkpoint.pt") for name in ("killed", "whole")
    ]
    assert states[0]["step"] == states[1]["step"] == N_STEPS
    for key in ("model", "ema", "optimizer"):
        tensors = [flat_tensors(state[key]) for state in states]
        assert len(tensors[0]) > 4
        assert all(torch.equal(a, b) for a, b in zip(*tensors, strict=True)), key
    files = [(tmp_path / name / "tiny.safetensors").read_bytes() for name in ("killed", "whole")]
    assert files[0] == files[1]


def flat_tensors(tree) -> list[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = list(tree.values())
    return (
        [leaf for branch in tree for leaf in flat_tensors(branch)] if isinstance(tree, (list, tuple)) else []
    )


def test_gradients_of_two_processes_are_those_of_one_with_the_same_global_batch(tmp_path):
    from lightning_fabric import Fabric

    Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn").launch(partial(save_gradients, path=tmp_path))
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]

    torch.manual_seed(0)
    model = VAE(TINY.model).eval()
    x = Batches(images("train").images, batch_size=8, seed=1).at(0).x
    generators = [torch.Generator().manual_seed(seed_of(1, 0, rank)) for rank in (0, 1)]
    eps = torch.cat([torch.randn(4, 2, generator=generator) for generator in generators])
    mean, log_var = model.encode(x)
    logits = model.decode(mean + torch.exp(log_var / 2) * eps)
    (bernoulli_nll(logits, to_unit(x)) + gaussian_kl(mean, log_var)).mean().backward()
    largest = max(p.grad.abs().max() for p in model.parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(ranks[0][name], ranks[1][name])
        assert (ranks[0][name] - parameter.grad).abs().max() < 1e-6 * largest, name
