"""The command line: what each command writes, and that a user's mistake is one clear line and exit code 2."""

import dataclasses
import json
import math

import numpy as np
import pytest
import tiny_recipe
import torch
from tiny_recipe import TINY

from imagegen import cli, data, pretrained, recipes, training
from imagegen.classifier import Classifier, ClassifierConfig
from imagegen.decoder import AttributeDecoder, AttributeDecoderConfig
from imagegen.hierarchy import HierarchicalVQVAE, HierarchyConfig
from imagegen.images import to_float, to_unit
from imagegen.objectives import bernoulli_nll, gaussian_kl
from imagegen.prior import Prior, PriorConfig
from imagegen.vae import VAE, Autoencoder, VAEConfig
from imagegen.vq import VQVAE, VQVAEConfig


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Nothing here may touch the repository or the package's weights."""
    monkeypatch.setenv("IMAGEGEN_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(cli, "REPOSITORY", tmp_path / "repository")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    model = VAE(TINY.model)
    with torch.no_grad():  # wide posterior means, so that there is something to measure
        model.encoder[-1].weight[:2] *= 20
    described = {"name": "tiny", "recipe": TINY.config(), "metrics": {}}
    pretrained.save(model, described, folder=tmp_path / "weights")
    return str(tmp_path / "weights")


def call(capsys, *arguments):
    """Return exit code, standard output and standard error of a command."""
    try:
        code = cli.main([str(a) for a in arguments])
    except SystemExit as stop:  # argparse
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "name one recipe, or give --stale"),
        (["train", "tiny", "--stale"], "name one recipe, or give --stale"),
        (["train", "--stale", "--steps", "3"], "drop the others"),
        (["train", "nothing"], "no recipe 'nothing'"),
        (["train", "tiny", "--steps", "0"], "steps is 0"),
        (["train", "tiny", "--devices", "3"], "cannot share a batch"),
        (["train", "tiny", "--precision", "17-bit"], "17-bit"),
        (["train", "tiny", "--budget", "slow"], "invalid choice"),
        (["train", "tiny", "--log-every", "0"], "--log-every"),
        (["train", "tiny", "--write-now"], "no checkpoint"),
        (["evaluate", "nothing"], "no model 'nothing'"),
        (["evaluate", "nothing", "--samples", "0"], "--samples"),
        (["evaluate"], "name one model, or give --all"),
        (["evaluate", "nothing", "--all"], "name one model, or give --all"),
        (["evaluate", "--all", "--weights", "nowhere"], "no models in nowhere"),
        (["sample", "nothing", "-o", "x.npz"], "no model 'nothing'"),
        (["sample", "nothing"], "-o"),
        (["export", "nothing", "-o", "x.onnx"], "no model 'nothing'"),
        ([], "COMMAND"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_code_2(capsys, arguments, message):
    code, out, err = call(capsys, *arguments)
    assert code == 2 and out == ""
    assert message in err and "Traceback" not in err
    assert err.strip().splitlines()[-1].startswith("imagegen")


def test_train_says_where_the_weights_are_and_quick_leaves_the_package_alone(capsys, tmp_path):
    before = pretrained.names()
    code, out, err = call(capsys, "train", "tiny", "--budget", "quick")
    assert code == 0 and "4/4" in err
    assert "4 steps done" in out and str(tmp_path / "runs" / "tiny-quick") in out
    assert pretrained.names(folder=tmp_path / "runs" / "tiny-quick") == ["tiny"]
    assert pretrained.names() == before
    code, out, err = call(
        capsys, "train", "tiny", "--budget", "quick", "--write-now", "--out", tmp_path / "there"
    )
    assert code == 0 and pretrained.names(folder=tmp_path / "there") == ["tiny"]
    code, out, err = call(capsys, "train", "tiny", "--budget", "quick", "--seed", 9)
    assert code == 2 and "seed (checkpoint: 3, now: 9)" in err


def test_train_minutes_stops_cleanly(capsys):
    code, out, _ = call(
        capsys, "train", "tiny", "--budget", "full", "--minutes", 0, "--log-every", 10, "--quiet"
    )
    assert code == 0 and "stopped at step 10 of 600" in out


def test_train_stale_says_what_is_left(capsys, monkeypatch, tmp_path):
    made = {"tiny": dataclasses.replace(TINY, cpu_minutes=500.0, gpu_minutes=500.0)}
    monkeypatch.setattr(recipes, "RECIPES", made)
    code, out, _ = call(capsys, "train", "--stale", "--minutes", 1, "--out", tmp_path / "out")
    assert code == 0 and out.splitlines()[-1] == "left: tiny"


def test_a_failure_in_a_worker_is_told_without_a_traceback(capsys, monkeypatch):
    from torch.multiprocessing.spawn import ProcessRaisedException

    text = "\n\n-- Process 1 terminated with the following error:\nTraceback (most recent call last):\nKeyError: 'x'\n"

    def fail(job, **_):
        raise ProcessRaisedException(text, 1, 99)

    monkeypatch.setattr(recipes, "train", fail)
    code, _, err = call(capsys, "train", "tiny")
    assert code == 2 and "KeyError: 'x'" in err and "Traceback" not in err


def test_evaluate_measures_what_it_says(capsys, weights):
    code, out, err = call(
        capsys, "evaluate", "tiny", "--weights", weights, "--limit", 40, "--json", "--quiet", "--samples", 300
    )
    assert code == 0 and err == ""
    found = json.loads(out)["metrics"]
    model = pretrained.load("tiny", folder=weights)
    x = to_float(tiny_recipe.images("test").images[:40])
    with torch.no_grad():
        mean, log_var = model.encode(x)
        # an independent estimate: other draws, and log p(x) by quadrature over the two latents
        grid = torch.linspace(-6, 6, 121)
        z = torch.cartesian_prod(grid, grid)
        logits = model.decode(z)
        log_prior = -math.log(2 * math.pi) - z.square().sum(1) / 2 + 2 * math.log(0.1)
        target = to_unit(x)
        log_likelihood = torch.stack([-bernoulli_nll(logits, t.expand_as(logits)) for t in target])
        nll = -torch.logsumexp(log_likelihood + log_prior, dim=1).mean()
        draws = [model.decode(mean + torch.exp(log_var / 2) * torch.randn_like(mean)) for _ in range(300)]
        distortion = torch.stack([bernoulli_nll(d, target).mean() for d in draws])
    assert found["rate"]["value"] == pytest.approx(gaussian_kl(mean, log_var).mean().item(), rel=1e-5)
    error = (distortion.std() / len(draws) ** 0.5).item()
    assert error < 0.01 * distortion.mean()  # the comparison has power
    assert abs(found["distortion"]["value"] - distortion.mean().item()) < 6 * error
    assert found["nll"]["value"] == pytest.approx(nll.item(), abs=0.05)
    assert found["negative_elbo"]["value"] > found["nll"]["value"]
    total = found["distortion"]["value"] + found["rate"]["value"]
    assert found["negative_elbo"]["value"] == pytest.approx(total, rel=1e-6)
    assert found["bits_per_dim"]["value"] == pytest.approx(found["nll"]["value"] / 64 / math.log(2))
    assert found["mse"]["value"] == pytest.approx(
        (torch.sigmoid(model.decode(mean)) - target).square().mean().item()
    )
    assert found["active_units"]["value"] == int((mean.var(0) > 0.01).sum())
    assert found["nll"]["n"] == 40 and found["nll"]["unit"] == "nats/image"


def test_evaluate_is_a_function_of_its_seed(capsys, weights):
    def nll(seed):
        arguments = [
            "evaluate",
            "tiny",
            "--weights",
            weights,
            "--samples",
            3,
            "--json",
            "--quiet",
            "--seed",
            seed,
        ]
        return json.loads(call(capsys, *arguments)[1])["metrics"]["nll"]["value"]

    assert nll(0) == nll(0) != nll(1)


def test_evaluate_all_measures_every_model_that_is_there(capsys, weights, tmp_path):
    described = pretrained.card("tiny", folder=weights)
    pretrained.save(VAE(TINY.model), described | {"name": "other"}, folder=weights)
    base = ["evaluate", "--all", "--weights", weights, "--samples", 2, "--quiet"]
    code, out, err = call(capsys, *base, "--json", "--results", tmp_path / "results")
    assert code == 0 and err == ""
    results = json.loads(out)
    assert [result["name"] for result in results] == ["other", "tiny"]
    for result in results:
        assert json.loads((tmp_path / "results" / f"{result['name']}.json").read_text()) == result
    code, out, _ = call(capsys, *base)
    assert code == 0 and out.count("negative_elbo") == 2 and "\nother: tiny, 64" in f"\n{out}"


def test_only_a_complete_measurement_enters_the_card(capsys, weights, tmp_path):
    before = pretrained.card("tiny", folder=weights)
    base = ["evaluate", "tiny", "--weights", weights, "--results", tmp_path / "results", "--quiet"]
    call(capsys, *base, "--limit", 10)
    partial = json.loads((tmp_path / "results" / "tiny.json").read_text())
    assert partial["metrics"]["nll"]["n"] == 10 and pretrained.card("tiny", folder=weights) == before
    for option, value in (("--samples", 2), ("--seed", 1)):
        call(capsys, *base, option, value)
        assert pretrained.card("tiny", folder=weights) == before
    code, out, _ = call(capsys, *base)
    written = json.loads((tmp_path / "results" / "tiny.json").read_text())
    card = pretrained.card("tiny", folder=weights)
    assert code == 0 and card == before | {"metrics": written["metrics"]}
    assert (written["name"], written["kind"], written["seed"]) == ("tiny", "model", 0)
    assert {"recipe", "commit", "device", "torch", "seconds", "date"} <= set(written)
    assert "negative_elbo" in out and "nats/image" in out
    pretrained.verify("tiny", folder=weights)


def test_sample_writes_uint8_images_that_the_seed_decides(capsys, weights, tmp_path):
    def drawn(name, seed):
        code, _, err = call(
            capsys, "sample", "tiny", "--weights", weights, "-n", 300, "--seed", seed, "-o", tmp_path / name
        )
        assert code == 0, err
        with np.load(tmp_path / name) as file:
            assert file.files == ["images"]
            return file["images"]

    first, again, other = drawn("a.npz", 0), drawn("b.npz", 0), drawn("c.npz", 1)
    assert first.dtype == np.uint8 and first.shape == (300, 1, 8, 8)
    assert (first == again).all() and (first != other).any()
    z = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pixels = torch.sigmoid(pretrained.load("tiny", folder=weights).decode(z)).numpy() * 255
    assert np.abs(first - pixels).max() < 0.501  # rounded, not cut


def test_sample_to_a_place_that_cannot_be_written(capsys, weights, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = call(capsys, "sample", "tiny", "--weights", weights, "-o", tmp_path / "file" / "x.npz")
    assert code == 2 and "cannot write" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("part", "inputs", "outputs"), [("decoder", ["z"], ["images"]), ("encoder", ["x"], ["mean", "log_var"])]
)
def test_export_writes_a_network_that_equals_pytorch(capsys, weights, tmp_path, part, inputs, outputs):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "model.onnx"
    code, out, err = call(capsys, "export", "tiny", "--weights", weights, "-o", path, "--part", part)
    assert code == 0 and "differs from PyTorch by at most" in out, err
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == inputs and [
        o.name for o in session.get_outputs()
    ] == outputs
    model = pretrained.load("tiny", folder=weights)
    with torch.no_grad():
        if part == "decoder":
            given = torch.randn(3, 2)
            expected = [torch.sigmoid(model.decode(given))]
        else:
            given = torch.rand(3, 1, 8, 8) * 2 - 1
            expected = list(model.encode(given))
    for got, wanted in zip(session.run(None, {inputs[0]: given.numpy()}), expected, strict=True):
        assert np.abs(got - wanted.numpy()).max() < 1e-4


def test_data_lists_verdicts_and_fails_on_an_altered_file(capsys, monkeypatch):
    row = {"name": "fashion-mnist", "file": "a.gz", "folder": "/somewhere"}
    monkeypatch.setattr(data, "report", lambda: [row | {"verdict": "ok"}, row | {"verdict": "missing"}])
    code, out, _ = call(capsys, "data")
    assert code == 0 and "a.gz" in out and "/somewhere: ok" in out and "missing" in out
    monkeypatch.setattr(data, "report", lambda: [row | {"verdict": "a.gz is altered"}])
    assert call(capsys, "data")[0] == 2
    fetched = []
    monkeypatch.setattr(data, "fetch_fashion_mnist", lambda: fetched.append(1))
    call(capsys, "data", "--fetch")
    assert fetched == [1]


def test_an_interruption_says_how_to_go_on(capsys, monkeypatch):
    def interrupted(job, **_):
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes, "train", interrupted)
    code, _, err = call(capsys, "train", "tiny")
    assert code == 130 and "repeat the command to go on" in err


def test_a_non_finite_loss_is_one_line(capsys, monkeypatch):
    def broken(job, **_):
        raise training.NonFiniteLoss(17, "rate", math.nan)

    monkeypatch.setattr(recipes, "train", broken)
    code, _, err = call(capsys, "train", "tiny")
    assert code == 2 and err == "imagegen: step 17: the term 'rate' is nan; training stopped there\n"


# --- the other families --------------------------------------------------------------------------------------------


@pytest.fixture
def others(tmp_path):
    """A folder with a tiny, untrained model of each family but the VAE."""
    torch.manual_seed(0)
    networks = {
        "code": Autoencoder(VAEConfig(image_shape=(1, 8, 8), latent_dim=2, network="mlp", hidden=8)),
        "judge": Classifier(ClassifierConfig(image_shape=(1, 8, 8), classes=(3,), widths=(4,), features=4)),
        "painter": AttributeDecoder(
            AttributeDecoderConfig(image_shape=(1, 8, 8), attributes=(2, 3), widths=(4,), neck=2, hidden=8)
        ),
    }
    for name, network in networks.items():
        pretrained.save(network, {"name": name, "metrics": {}}, folder=tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "family"), [("judge", "classifier"), ("painter", "decoder"), ("code", "autoencoder")]
)
def test_a_model_without_a_prior_is_not_sampled(capsys, others, name, family):
    code, _, err = call(capsys, "sample", name, "--weights", others, "-o", others / "x.npz")
    assert code == 2 and f"{name} is of the family {family}, which has no prior" in err
    assert not (others / "x.npz").exists()


@pytest.mark.parametrize(
    ("name", "part", "inputs", "outputs"),
    [
        ("painter", "decoder", {"conditions": (2, 5)}, ["images"]),
        ("code", "decoder", {"z": (2, 2)}, ["images"]),
        ("code", "encoder", {"x": (2, 1, 8, 8)}, ["z"]),
    ],
)
def test_every_part_that_there_is_can_be_exported(capsys, others, name, part, inputs, outputs):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = others / "x.onnx"
    code, _, err = call(capsys, "export", name, "--weights", others, "-o", path, "--part", part)
    assert code == 0, err
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_outputs()] == outputs
    (label, shape), model = next(iter(inputs.items())), pretrained.load(name, folder=others)
    given = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        if part == "encoder":
            expected = model.encode(given)
        else:
            expected = torch.sigmoid(model(given) if name == "painter" else model.decode(given))
    assert np.abs(session.run(None, {label: given.numpy()})[0] - expected.numpy()).max() < 1e-4


@pytest.fixture
def grids(tmp_path):
    """A folder with a tiny VQ-VAE, a prior over its codes, and a prior that needs other codes too."""
    torch.manual_seed(0)
    config = VQVAEConfig((1, 8, 8), codes=5, code_dim=4, widths=(4, 4), blocks=0, hidden=4)
    sizes = {"codes": 5, "grid": (2, 2), "attributes": (3,), "width": 8, "depth": 1, "heads": 1}
    networks = {
        "tokens": VQVAE(config),
        "prior": Prior(PriorConfig(**sizes)),
        "fine": Prior(PriorConfig(**sizes, context_codes=3, context_grid=(1, 1))),
    }
    for name, network in networks.items():
        pretrained.save(network, {"name": name, "metrics": {}}, folder=tmp_path)
    return tmp_path


def test_codes_and_their_prior_can_be_exported(capsys, grids):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, prior = (pretrained.load(name, folder=grids) for name in ("tokens", "prior"))
    codes, x = torch.tensor([[0, 1, 2, 3], [4, 4, 0, 2]]), torch.rand(3, 1, 8, 8) * 2 - 1
    labels = torch.tensor([[2], [-1]])
    with torch.no_grad():
        pixels = torch.sigmoid(model.decode(codes.reshape(2, 2, 2)))
        logits = prior(codes.reshape(2, 2, 2), labels=labels).flatten(2).mT
    for name, part, given, (output, expected) in (
        ("tokens", None, {"codes": codes}, ("images", pixels)),
        ("tokens", "decoder", {"codes": codes}, ("images", pixels)),
        ("tokens", "encoder", {"x": x}, ("codes", model.encode(x).flatten(1))),
        ("prior", None, {"codes": codes, "labels": labels}, ("logits", logits)),
        ("prior", "prior", {"codes": codes, "labels": labels}, ("logits", logits)),
    ):
        path = grids / "x.onnx"
        options = [] if part is None else ["--part", part]
        code, out, err = call(capsys, "export", name, "--weights", grids, "-o", path, *options)
        assert code == 0 and out.startswith(
            f"{name}: {part or ('prior' if name == 'prior' else 'decoder')} in"
        ), err
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        assert [value.name for value in session.get_outputs()] == [output]
        (found,) = session.run(None, {key: value.float().numpy() for key, value in given.items()})
        assert np.abs(found - expected.numpy()).max() < 1e-4
    for name, part, have in (("prior", "decoder", "prior"), ("tokens", "prior", "decoder, encoder")):
        code, _, err = call(capsys, "export", name, "--weights", grids, "-o", grids / "y", "--part", part)
        assert code == 2 and f"{name} has no {part}; it has {have}" in err
    code, _, err = call(capsys, "export", "fine", "--weights", grids, "-o", grids / "y")
    assert code == 2 and "fine has no decoder; it has nothing to export" in err


def test_a_part_that_there_is_not_is_refused(capsys, others):
    code, _, err = call(
        capsys, "export", "painter", "--weights", others, "-o", others / "x", "--part", "encoder"
    )
    assert code == 2 and "painter has no encoder; it has decoder" in err
    code, _, err = call(capsys, "export", "judge", "--weights", others, "-o", others / "x")
    assert code == 2 and "judge has no decoder; it has nothing to export" in err


@pytest.fixture
def pair(grids):
    """The folder of `grids`, whose priors say on which codes they stand."""
    sha256 = pretrained.card("tokens", folder=grids)["sha256"]
    for name in ("prior", "fine"):
        pretrained.write_card(
            pretrained.card(name, folder=grids) | {"requires": {"tokens": sha256}}, folder=grids
        )
    return grids


def test_sample_draws_codes_from_a_prior_and_shows_them(capsys, pair):
    prior, tokens = (pretrained.load(name, folder=pair) for name in ("prior", "tokens"))
    with torch.no_grad():  # a prior whose labels and temperature matter
        for parameter in prior.parameters():
            parameter.mul_(6)
    pretrained.save(prior, pretrained.card("prior", folder=pair), folder=pair)
    prior, seen = pretrained.load("prior", folder=pair), {}
    for case, options, label, drawing in (
        ("plain", [], None, {}),
        ("withheld", ["--label", -1], None, {}),
        ("told", ["--label", 2], 2, {}),
        ("cold", ["--label", 2, "--temperature", 0.5, "--top-p", 0.8], 2, {"temperature": 0.5, "top_p": 0.8}),
    ):
        path = pair / f"{case}.npz"
        code, out, err = call(
            capsys, "sample", "prior", "--weights", pair, "-n", 40, "--seed", 7, "-o", path, *options
        )
        assert code == 0 and "40 images of shape (1, 8, 8)" in out, err
        generator = torch.Generator().manual_seed(7)
        labels = None if label is None else torch.full((40, 1), label)
        codes = prior.sample(40, labels=labels, generator=generator, **drawing)
        with torch.no_grad():
            pixels = torch.sigmoid(tokens.decode(codes)).numpy() * 255
        with np.load(path) as file:
            seen[case] = file["images"]
        assert seen[case].dtype == np.uint8 and np.abs(seen[case] - pixels).max() < 0.501
    assert (seen["plain"] == seen["withheld"]).all()
    assert (seen["plain"] != seen["told"]).any() and (seen["told"] != seen["cold"]).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prior", "--label", 3], "cannot sample prior: label of attribute 0 is 3, expected -1 to 2"),
        (["prior", "--label", 0, 1], "cannot sample prior: labels of shape (64, 2), expected (64, 1)"),
        (["prior", "--temperature", -1], "cannot sample prior: temperature is -1.0"),
        (["prior", "--top-p", 0], "cannot sample prior: top_p is 0.0"),
        (["prior", "-n", 0], "-n is 0; expected at least 1"),
        (["fine"], "cannot sample fine: context is missing"),
        (["tokens"], "tokens is of the family vqvae, which has no prior to sample from"),
        (["prior", "--label", "coat"], "invalid int value: 'coat'"),
    ],
)
def test_a_prior_that_cannot_be_sampled_so_is_one_clear_line(capsys, pair, arguments, message):
    code, out, err = call(capsys, "sample", *arguments, "--weights", pair, "-o", pair / "x.npz")
    assert code == 2 and out == "" and message in err and "Traceback" not in err
    assert err.strip().splitlines()[-1].startswith("imagegen") and not (pair / "x.npz").exists()


@pytest.mark.parametrize("level", ["top", "bottom"])
def test_one_level_of_a_hierarchy_alone_is_no_image(capsys, tmp_path, level):
    torch.manual_seed(0)
    config = HierarchyConfig((1, 8, 8), codes=(3, 5), code_dim=4, widths=(4, 4), blocks=0, hidden=4)
    sizes = {"attributes": (3,), "width": 8, "depth": 1, "heads": 1}
    prior = {
        "top": PriorConfig(codes=3, grid=(1, 1), **sizes),
        "bottom": PriorConfig(codes=5, grid=(2, 2), context_codes=3, context_grid=(1, 1), **sizes),
    }
    card = pretrained.save(
        HierarchicalVQVAE(config), {"name": "pair", "metrics": {}}, folder=tmp_path / "shelf"
    )
    about = {"name": f"pair-{level}", "metrics": {}, "requires": {"pair": card["sha256"]}}
    pretrained.save(Prior(prior[level]), about, folder=tmp_path / "shelf")
    output = ["--weights", tmp_path / "shelf", "-o", tmp_path / "x.npz"]
    code, out, err = call(capsys, "sample", f"pair-{level}", *output)
    assert (code, out) == (2, "") and not (tmp_path / "x.npz").exists()
    assert err == f"imagegen: pair-{level} is a prior of one level of codes: an image needs both levels\n"
    code, _, err = call(capsys, "sample", "pair", *output)
    assert code == 2 and "family hierarchy, which has no prior to sample from" in err


@pytest.mark.parametrize("option", [["--label", 1], ["--temperature", 0.5], ["--top-p", 0.5]])
def test_a_vae_has_no_labels_and_no_temperature(capsys, weights, tmp_path, option):
    code, _, err = call(capsys, "sample", "tiny", "--weights", weights, "-o", tmp_path / "x.npz", *option)
    assert code == 2 and err.startswith("imagegen: tiny has no codes: --label, --temperature and --top-p")


@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_a_prior_whose_tokeniser_is_another_or_gone_is_refused(capsys, pair, monkeypatch, command):
    card = pretrained.card("prior", folder=pair)
    pretrained.write_card(card | {"recipe": {"data": "tiny", "objective": {}}}, folder=pair)
    monkeypatch.setattr(pretrained, "FOLDER", pair / "package")
    arguments = [command, "prior", "--weights", pair] + (
        ["-o", pair / "x.npz"] if command == "sample" else []
    )
    torch.manual_seed(1)
    other = VQVAE(pretrained.load("tokens", folder=pair).config)
    pretrained.save(other, {"name": "tokens", "metrics": {}}, folder=pair)
    code, _, err = call(capsys, *arguments)
    assert code == 2 and err == "imagegen: prior was trained on the codes of other weights of tokens\n"
    (pair / "tokens.json").unlink()
    code, _, err = call(capsys, *arguments)
    assert code == 2 and err.startswith("imagegen: no model 'tokens'") and "Traceback" not in err
    assert not (pair / "x.npz").exists()
