"""A GAN's whole training: two processes that take one step together, and what a killed training leaves."""

import dataclasses
import functools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from test_adversarial_recipes import SETTINGS, batches, by_hand, gradient_norms, recipe_of, settled
from tiny_gan import TINY_GAN, images, save_steps
from torch.nn.functional import softplus
from torch.testing import assert_close

from imagegen import pretrained, recipes
from imagegen.gan import GAN
from imagegen.recipes import AdversarialObjective
from imagegen.training import load_checkpoint, seed_of

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.timeout(900)  # two processes on a busy machine wait for each other at each step

TOGETHER = {
    name: recipe_of(SETTINGS[name][0], **SETTINGS[name][1])
    for name in ("batchnorm in both", "spectral, two rates", "lazy r1 and noise", "gradient penalty")
}
APART = recipe_of("none", penalty="r1", weight=2.0)  # no term of an image hangs on the others of its batch
APART = dataclasses.replace(APART, model=dataclasses.replace(APART.model, normalise="none"))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Return what two processes ended with, after four steps of each recipe of TOGETHER."""
    from lightning_fabric import Fabric

    path = tmp_path_factory.mktemp("two")
    work = functools.partial(save_steps, asked=TOGETHER | {"apart": APART}, n_steps=4, path=path)
    Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn").launch(work)
    return [torch.load(path / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("setting", TOGETHER)
def test_two_processes_take_one_step_together(two, setting):
    """Both end with the same weights, and these are those of the mean of both shards' gradients."""
    recipe, (first, second) = TOGETHER[setting], (kept[setting] for kept in two)
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name]), name
        assert torch.equal(first["average"][name], second["average"][name]), name
    whole = torch.cat([first["batches"], second["batches"]], dim=1)
    assert_close(whole, torch.stack([batches(recipe).at(index).x for index in range(4)]), rtol=0, atol=0)
    alone = settled(by_hand(recipe, 4))
    for name, expected in settled(by_hand(recipe, 4, world_size=2)).items():
        assert_close(first["weights"][name], expected, rtol=1e-4, atol=1e-5, msg=name)
    apart = [(alone[name] - first["weights"][name]).abs().max() for name in alone]
    assert max(apart) > 1e-4  # so that a process that took a step of its own would be seen


def test_the_gradients_of_two_processes_are_those_of_one_with_the_joined_batch(two):
    """Both players', to 1e-5 of the largest: D's with R1 at its first weights, G's against D as its step left it."""
    assert two[0]["apart"]["gradients"] and len(two[0]["apart"]["gradients"]) == len(
        two[1]["apart"]["gradients"]
    )
    torch.manual_seed(APART.seed)
    model = APART.build()
    x = batches(APART).at(0).x
    randoms = [torch.Generator().manual_seed(seed_of(APART.seed, 0, rank)) for rank in (0, 1)]
    fake = model.generator(torch.cat([torch.randn(len(x) // 2, 3, generator=random) for random in randoms]))
    critic = model.discriminator
    loss = softplus(-critic(x)) + softplus(critic(fake.detach())) + gradient_norms(critic, x) ** 2
    theirs = torch.autograd.grad(loss.mean(), list(critic.parameters()))
    for parameter, gradient in zip(critic.parameters(), theirs, strict=True):
        parameter.grad = gradient
    torch.optim.AdamW(critic.parameters(), lr=APART.lr, betas=APART.betas, weight_decay=0.0).step()
    mine = torch.autograd.grad(softplus(-critic(fake)).mean(), list(model.generator.parameters()))
    for expected, *found in zip([*mine, *theirs], *(kept["apart"]["gradients"] for kept in two), strict=True):
        assert torch.equal(*found) and expected.abs().max() > 0
        assert_close(
            found[0], expected, rtol=0, atol=1e-5 * max(g.abs().max().item() for g in [*mine, *theirs])
        )


# ---- a whole training ------------------------------------------------------------------------------------------


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEGEN_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("IMAGEGEN_BUDGET", raising=False)

    def planned(**options):
        options = {"out": tmp_path, "progress": False, "log_every": 10, "steps": 40} | options
        return recipes.plan("tiny-gan", **options)

    return planned


def test_a_training_that_was_cut_ends_with_the_same_bits(job, tmp_path):
    """Weights, buffers, the average and both optimisers, after an end at step 10 and a second start."""
    cut = recipes.train(job(deadline=0.0))
    assert not cut["finished"] and cut["step"] == 10
    recipes.train(job())
    path = tmp_path / "runs/tiny-gan-custom/checkpoint.pt"
    resumed = load_checkpoint(path)
    recipes.train(job(), restart=True)
    whole = load_checkpoint(path)
    assert resumed["step"] == whole["step"] == 40
    for part in ("model", "ema", "optimizer", "critic_optimizer"):
        assert_close(resumed[part], whole[part], rtol=0, atol=0)
    before = load_checkpoint(path)["history"][0]
    assert {"loss", *AdversarialObjective.reported} <= before.keys()


def test_the_weights_written_are_the_averages_of_both_players(job, tmp_path):
    card = recipes.train(job())["card"]
    assert card["family"] == "gan" and set(AdversarialObjective.reported) <= set(card["training"])
    model = pretrained.load("tiny-gan", folder=tmp_path)
    average = load_checkpoint(tmp_path / "runs/tiny-gan-custom/checkpoint.pt")["ema"]["module"]
    assert isinstance(model, GAN)
    for name, value in model.state_dict().items():
        kept = average[name]
        assert torch.equal(value, kept.half().float() if kept.is_floating_point() else kept), name


def test_a_gan_learns_the_four_images_that_there_are(job, tmp_path, monkeypatch):
    """Generated images come to lie near one of the four: a mean squared error of 0.1, where grey has 0.7."""
    quiet = dataclasses.replace(TINY_GAN, objective=AdversarialObjective(penalty="r1", weight=0.1))
    monkeypatch.setitem(recipes.RECIPES, "tiny-gan", quiet)
    recipes.train(job(steps=300))
    model = pretrained.load("tiny-gan", folder=tmp_path)
    with torch.no_grad():
        found = model.sample(200, generator=torch.Generator().manual_seed(0)).flatten(1)
    kinds = images("train").images.flatten(1).unique(dim=0).float() / 127.5 - 1
    assert len(kinds) == 4
    errors = torch.cdist(found, kinds).square() / 256
    grey = kinds.square().mean().item()
    assert grey > 0.7 and errors.min(1).values.median() < 0.1
    assert len(errors.argmin(1).unique()) >= 2  # not all the same


def command(folder: Path, devices: int) -> tuple[list[str], dict[str, str]]:
    options = f"train tiny-gan --budget full --devices {devices} --save-seconds 0 --log-every 10 --quiet --threads 1"
    arguments = [sys.executable, "tests/tiny_gan.py", *options.split(), "--out", str(folder)]
    return arguments, os.environ | {"IMAGEGEN_RUNS": str(folder / "runs")}


def trained(folder: Path, devices: int) -> str:
    arguments, environment = command(folder, devices)
    done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def killed(folder: Path, devices: int) -> int:
    """Kill the training with SIGKILL soon after a checkpoint appears; return the step of what it left."""
    arguments, environment = command(folder, devices)
    checkpoint, end = folder / "runs/tiny-gan/checkpoint.pt", time.time() + 600
    process = subprocess.Popen(
        arguments, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not checkpoint.exists() and process.poll() is None and time.time() < end:
        time.sleep(0.002)
    process.kill()
    process.wait()
    step = -1
    while devices > 1 and step != (step := load_checkpoint(checkpoint)["step"]) and time.time() < end:
        time.sleep(1.0)  # the workers notice that their parent is gone
    return load_checkpoint(checkpoint)["step"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("devices", [1, 2])
def test_killed_and_started_again_a_gan_ends_with_the_same_bits(devices, tmp_path):
    left_at = TINY_GAN.n_steps
    while left_at == TINY_GAN.n_steps:  # on a machine busy enough, it may end before the signal comes
        shutil.rmtree(tmp_path / "killed", ignore_errors=True)
        left_at = killed(tmp_path / "killed", devices)
    assert f"going on from step {left_at} " in trained(tmp_path / "killed", devices)
    trained(tmp_path / "whole", devices)
    resumed, whole = (
        load_checkpoint(tmp_path / f / "runs/tiny-gan/checkpoint.pt") for f in ("killed", "whole")
    )
    assert resumed["step"] == whole["step"] == TINY_GAN.n_steps
    for part in ("model", "ema", "optimizer", "critic_optimizer"):
        assert_close(resumed[part], whole[part], rtol=0, atol=0)
