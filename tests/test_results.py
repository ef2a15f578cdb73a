"""book/results against the shipped weights: none missing, none stale, none that the weights no longer give.

`imagegen evaluate --all` writes them all again. The cheap figures are computed anew here, by other code where that is
short; the dear ones (likelihoods, three seeds of samples) hang on the hashes of weights and feature networks.
"""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

import results_page
import results_views
from imagegen import data, evaluation, metrics, pretrained
from imagegen.images import to_float, to_unit

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "book/results"
NBSP = "\N{NO-BREAK SPACE}"
AGAIN = "run `imagegen evaluate --all`"

# families with a protocol
SAMPLED = ("vae", "autoencoder", "vqvae", "prior", "hierarchy", "gan", "stylegan", "restorer", "pair")
ENDINGS = ("_normal", "_fitted", "_uniform", "_told", "_detail")  # the ways in which some of them are sampled


@pytest.fixture(scope="module")
def results():
    return {result["name"]: result for result in results_page.load(FOLDER, "model")}


@pytest.fixture(scope="module")
def cards():
    return {name: pretrained.card(name) for name in pretrained.names()}


def faults(results, cards):
    """Return what is missing, stale or against the protocol, one line each."""
    said = [f"{name}: no results file" for name in sorted(set(cards) - set(results))]
    said += [f"{name}: a results file without its model" for name in sorted(set(results) - set(cards))]
    rulers = {protocol.network: protocol for protocol in evaluation.PROTOCOLS.values()}
    for name in sorted(set(cards) & set(results)):
        result, card = results[name], cards[name]
        if result["weights_sha256"] != card["sha256"]:
            said.append(f"{name}: measured on other weights")
        if result["metrics"] != card["metrics"]:
            said.append(f"{name}: the card holds other figures")
        if result.get("family") != card["family"] or result["seed"] != 0:
            said.append(f"{name}: of another family or seed")
        said += [
            f"{name}: {what} on other weights of {other}"
            for what, named in (("measured", result), ("trained", card))
            for other, sha256 in named.get("requires", {}).items()
            if cards.get(other, {}).get("sha256") != sha256
        ]
        needed = {} if card["family"] == "restorer" else card.get("requires", {})  # a restorer's: to train it
        if missing := sorted(set(needed) - set(result.get("requires", {}))):
            said.append(f"{name}: measured without saying on which {', '.join(missing)}")
        if not result["commit"]:
            said.append(f"{name}: no commit")
        source = card["recipe"]["data"]
        expected = evaluation.PROTOCOLS[source]
        size = {"fashion-mnist": 60_000, "avatars": 15_000}[source]
        sampled = card["family"] in SAMPLED or name in rulers
        half = card["recipe"].get("objective", {}).get("level") == "top"  # the other half is sampled with it
        used = result.get("protocol")
        if bool(used) != (sampled and not half):
            said.append(f"{name}: samples measured where they are not, or not where they are")
        elif used:
            if (
                used["features"] != expected.network
                or used["features_sha256"] != cards[expected.network]["sha256"]
            ):
                said.append(f"{name}: measured with another feature network")
            if (used["n"], tuple(used["seeds"])) != (expected.n, expected.seeds):
                said.append(f"{name}: other samples or seeds than the protocol's")
            said += floor_faults(name, result, results.get(expected.network, {"metrics": {}}))
        for metric, entry in result["metrics"].items():
            about_train = metric.startswith(("conditional_", "sharpness_"))
            of_half = metric == "memorisation_floor"
            wanted = size if about_train else expected.n // 2 if of_half else expected.n
            if entry["n"] != wanted:
                said.append(f"{name}: {metric} of {entry['n']} images, expected {wanted}")
            if "values" in entry and len(entry["values"]) != len(expected.seeds):
                said.append(f"{name}: {metric} has {len(entry['values'])} seeds")
            if not entry["detail"] or "unit" not in entry:
                said.append(f"{name}: {metric} does not say what it is")
    return said


def floor_faults(name, result, ruler):
    """Return where the floor beside a figure is not the one that the feature network's own file holds."""
    floors = {
        m.removesuffix("_floor"): e["value"] for m, e in ruler["metrics"].items() if m.endswith("_floor")
    }
    said = []
    for metric, entry in result["metrics"].items():
        if "floor" in entry:
            plain = next((metric.removesuffix(e) for e in ENDINGS if metric.endswith(e)), metric)
            if entry["floor"] != pytest.approx(floors.get(plain), rel=1e-6, abs=1e-9):
                said.append(f"{name}: the floor beside {metric} is not that of the feature network")
    return said


def differing(stored, found, *, rel=2e-3, absolute=0.0):
    """Return whether a figure has drifted: beyond what another processor's rounding does."""
    return stored != pytest.approx(found, rel=rel, abs=absolute)


def test_every_shipped_model_is_measured_and_every_measurement_is_of_what_is_shipped(results, cards):
    assert faults(results, cards) == [], AGAIN


PLANTED = {
    "a file is missing": (lambda r, c: r.pop("vae-fashion"), "vae-fashion: no results file"),
    "a model is gone": (lambda r, c: c.pop("vae-fashion-2d"), "vae-fashion-2d: a results file without"),
    "new weights": (lambda r, c: c["vae-fashion"].update(sha256="0"), "vae-fashion: measured on other weights"),
    "a new feature network": (
        lambda r, c: c["classifier-fashion"].update(sha256="0"), "vae-fashion: measured with another feature"
    ),
    "fewer samples": (lambda r, c: r["vae-fashion"]["protocol"].update(n=5000), "vae-fashion: other samples"),
    "other seeds": (lambda r, c: r["vae-fashion"]["protocol"].update(seeds=[0, 1]), "vae-fashion: other samples"),
    "no protocol": (lambda r, c: r["vae-fashion"].pop("protocol"), "vae-fashion: samples measured where"),
    "fewer images": (lambda r, c: r["vae-fashion"]["metrics"]["nll"].update(n=100), "vae-fashion: nll of 100"),
    "another floor": (
        lambda r, c: r["vae-fashion"]["metrics"]["recall"].update(floor=0.5), "the floor beside recall"
    ),
    "a figure typed in": (
        lambda r, c: r["vae-fashion"]["metrics"]["nll"].update(value=200.0), "the card holds other figures"
    ),
    "other codes": (
        lambda r, c: r["vae-fashion"].update(requires={"vae-fashion-2d": "0"}),
        "vae-fashion: measured on other weights of vae-fashion-2d",
    ),
    "codes that are gone": (
        lambda r, c: r["vae-fashion"].update(requires={"vq": "0"}), "vae-fashion: measured on other weights of vq"
    ),
    "a tokeniser trained again": (
        lambda r, c: c["vae-fashion"].update(requires={"vae-fashion-2d": "0"}),
        "vae-fashion: trained on other weights of vae-fashion-2d",
    ),
    "codes not named": (
        lambda r, c: c["vae-fashion"].update(requires={"vae-fashion-2d": c["vae-fashion-2d"]["sha256"]}),
        "vae-fashion: measured without saying on which vae-fashion-2d",
    ),
    "half a model sampled": (
        lambda r, c: c["vae-fashion"]["recipe"]["objective"].update(level="top"),
        "vae-fashion: samples measured where they are not",
    ),
    "another floor beside a way of sampling": (
        lambda r, c: r["autoencoder-fashion"]["metrics"]["recall_fitted"].update(floor=0.5),
        "the floor beside recall_fitted",
    ),
    "another seed": (lambda r, c: r["vae-fashion"].update(seed=7), "vae-fashion: of another family or seed"),
}  # fmt: skip


@pytest.mark.parametrize(("plant", "expected"), PLANTED.values(), ids=list(PLANTED))
def test_a_planted_fault_is_found(results, cards, plant, expected):
    before = faults(results, cards)
    results, cards = copy.deepcopy(results), copy.deepcopy(cards)
    plant(results, cards)
    new = set(faults(results, cards)) - set(before)
    assert any(expected in line for line in new), new


def stale_benchmarks(found, cards):
    """Return which benchmarks were measured on other weights than those that are shipped."""
    return {
        (name, model)
        for name, result in found.items()
        for model, sha256 in result.get("weights_sha256", {}).items()
        if cards.get(model, {}).get("sha256") != sha256
    }


def test_benchmarks_were_measured_on_the_shipped_weights(cards):
    found = {result["name"]: result for result in results_page.load(FOLDER, "benchmark")}
    assert {"bench-priors", "bench-robustness", "bench-w-space"} <= {
        name for name, result in found.items() if result.get("weights_sha256")
    }
    assert not stale_benchmarks(found, cards), "run `python -m benchmarks --only ...` for these"
    other = cards | {"restore-avatars": {"sha256": "0"}}
    assert ("bench-robustness", "restore-avatars") in stale_benchmarks(found, other)


# ---- computed anew ---------------------------------------------------------------------------------------------


def in_parts(compute, images):
    with torch.inference_mode():
        return torch.cat([compute(to_float(part)) for part in images.split(500)])


@pytest.mark.parametrize("name", ["classifier-fashion", "classifier-avatars"])
def test_the_accuracy_of_a_feature_network_is_what_its_weights_give(results, name):
    test = {"classifier-fashion": data.fashion_mnist, "classifier-avatars": data.avatars}[name]("test")
    model = pretrained.load(name)
    right = in_parts(lambda x: torch.stack([row.argmax(1) for row in model(x)], dim=1), test.images)
    found = (right == test.labels.reshape(len(right), -1)).double().mean().item()
    stored = results[name]["metrics"]["accuracy"]["value"]
    assert not differing(stored, found, rel=0, absolute=5e-4), f"stored {stored}, found {found}: {AGAIN}"
    assert differing(stored + 0.002, found, rel=0, absolute=5e-4)  # a planted drift is found


@pytest.mark.parametrize("name", ["vae-fashion", "vae-fashion-2d", "autoencoder-fashion", "vqvae-fashion"])
def test_the_reconstructions_are_as_far_off_as_the_file_says(results, name):
    model, images = pretrained.load(name), data.fashion_mnist("test").images

    def squared(x):
        code = model.encode(x)
        shown = torch.sigmoid(model.decode(code[0] if name.startswith("vae") else code))
        return (shown - to_unit(x)).square().flatten(1).mean(1)

    found, stored = in_parts(squared, images).double().mean().item(), results[name]["metrics"]["mse"]["value"]
    assert not differing(stored, found), f"stored {stored}, found {found}: {AGAIN}"
    assert differing(stored * 1.005, found)


def test_the_use_of_a_codebook_is_what_its_weights_give(results):
    """How often each code occurs is counted by NumPy, and the entropy of it is SciPy's."""
    model, images = pretrained.load("vqvae-fashion"), data.fashion_mnist("test").images
    codes, often = np.unique(in_parts(model.encode, images).numpy(), return_counts=True)
    stored = results["vqvae-fashion"]["metrics"]
    assert abs(stored["codes_used"]["value"] - len(codes)) <= 1, AGAIN  # a tie may fall another way elsewhere
    found = float(np.exp(scipy.stats.entropy(often)))
    assert not differing(stored["perplexity"]["value"], found), AGAIN
    assert differing(stored["perplexity"]["value"] * 1.005, found)
    assert stored["bits_per_image"]["value"] == pytest.approx(49 * np.log2(512))


def test_the_code_lengths_hang_together(results):
    """Of a tokeniser and the priors over its codes: the pixels cost the same, and the codes what each says."""
    told = [name for name, result in results.items() if "code_length" in result["metrics"]]
    assert {"vae-fashion", "vqvae-fashion", "prior-fashion"} <= set(told), AGAIN
    for name in told:
        found, card = results[name]["metrics"], pretrained.card(name)
        n = {"fashion-mnist": 784, "avatars": 12_288}[card["recipe"]["data"]]
        rest = found["code_length"]["value"] - found["code_length_pixels"]["value"]
        if card["family"] == "vae":
            assert rest == pytest.approx(found["rate"]["value"] / np.log(2) / n, rel=1e-3)
        elif "level" not in card["recipe"]["objective"]:
            assert rest == pytest.approx(found["bits_per_image"]["value"] / n, rel=1e-3)
        for other in card.get("requires", {}):
            pixels = results[other]["metrics"]["code_length_pixels"]["value"]
            assert found["code_length_pixels"]["value"] == pytest.approx(pixels, rel=1e-4)


def test_the_first_seed_of_the_samples_gives_the_distance_in_the_file(results):
    """The VAE's samples are those of `imagegen sample`; features and distance are computed as a reader would."""
    judge, model = pretrained.load("classifier-fashion"), pretrained.load("vae-fashion")
    z = torch.randn(10_000, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        fake = torch.cat([torch.sigmoid(model.decode(part)).mul(255).round() for part in z.split(500)])
    fake = in_parts(judge.features, fake.to(torch.uint8))
    real = in_parts(judge.features, data.fashion_mnist("test").images)
    unit = in_parts(judge.features, data.fashion_mnist("train").images).var(0).mean().item()
    found = metrics.frechet_distance(fake, real) / unit
    stored = results["vae-fashion"]["metrics"]["fd_fashion"]["values"][0]
    assert not differing(stored, found), f"stored {stored}, found {found}: {AGAIN}"
    assert differing(stored * 1.005, found)


def test_the_decoder_told_nothing_draws_the_mean_face_as_nearly_as_the_file_says(results):
    model, train = pretrained.load("decoder-avatars"), data.avatars("train")
    mean = sum(part.double().sum(0) for part in train.images.split(500)) / len(train.images) / 255
    with torch.inference_mode():
        shown = torch.sigmoid(model(model.conditions(torch.full((1, 10), -1))))[0]
    stored = results["decoder-avatars"]["metrics"]
    error = (shown - mean).square().mean().item()
    assert not differing(stored["conditional_error_0"]["value"], error), AGAIN
    assert differing(stored["conditional_error_0"]["value"] * 1.005, error)
    squares = sum((part / 255).double().square().sum().item() for part in train.images.split(500))
    spread = squares / train.images.numel() - mean.square().mean().item()
    assert not differing(stored["conditional_spread_0"]["value"], spread)


# ---- on the page -----------------------------------------------------------------------------------------------


def planted_result(name, family, measures, features="0a"):
    """Return a result whose measures (name -> value, or value and spread) are made up."""
    entries = {
        measure: {"value": value, "unit": "", "n": 10_000, "detail": "made up"}
        | ({"std": 0.25} if measure.startswith("fd") else {})
        for measure, value in measures.items()
    }
    protocol = {"features": "judge", "features_sha256": features, "text": "10,000 against 10,000"}
    return {"name": name, "family": family, "metrics": entries, "protocol": protocol, "kind": "model"}


def shown(view, results):
    """Return a view's tables as text: head and rows."""
    return [
        (head, [[results_page.figure(cell, unit=False) for cell in row] for row in rows], beneath)
        for head, rows, beneath in results_views.VIEWS[view](results)
    ]


def test_samples_stand_in_one_table_a_feature_network_the_floor_first():
    results = [
        planted_result("auto", "autoencoder", {"fd_x_normal": 300.0, "precision_normal": 0.25, "fd_x_fitted": 50.5}),
        planted_result("judge", "classifier", {"accuracy": 0.93, "fd_x_floor": 0.75, "precision_floor": 0.875}),
        planted_result("vae", "vae", {"fd_x": 116.0, "precision": 0.8125, "fd_x_reconstructions": 20.0}),
    ]  # fmt: skip
    ((head, rows, beneath),) = shown("samples", results)
    assert head[:4] == ["", "Fd x", "Kid x", "Precision"] and beneath == "10,000 against 10,000."
    assert [row[0] for row in rows] == [
        "real against real", "auto, z ~ N(0, I)", "auto, z from a Gaussian fitted to the codes", "vae",
        "vae, reconstructions",
    ]  # fmt: skip
    assert [row[1] for row in rows] == [f"{v} ±{NBSP}0.25" for v in ("0.75", "300", "50.5", "116", "20")]
    assert [row[3] for row in rows] == ["0.875", "0.25", "–", "0.8125", "–"]
    stale = planted_result("old", "vae", {"fd_x": 5.0}, features="0b")
    assert len(shown("samples", [*results, stale])) == 2  # another ruler, another table
    fewer = planted_result("few", "vae", {"fd_x": 5.0})
    fewer["protocol"] |= {"text": "500 against 500"}
    tables = shown("samples", [*results, fewer])
    assert [beneath for _, _, beneath in tables] == ["10,000 against 10,000.", "500 against 500."]
    assert [row[0] for row in tables[1][1]] == ["few"]


def test_the_other_views_show_what_they_are_named_for():
    told = {
        f"{m}_{k}": 0.5 for k in range(3) for m in ("conditional_error", "conditional_spread", "sharpness")
    }
    results = [
        planted_result("judge", "classifier", {"accuracy": 0.93, "cross_entropy": 0.25}),
        planted_result("draws", "decoder", {"psnr": 33.5, "mse": 0.5, **told}),
        planted_result("vae", "vae", {"negative_elbo": 233.5, "distortion": 218.5, "rate": 15, "mse": 0.5}),
    ]
    assert [rows for _, rows, _ in shown("features", results)] == [[["judge", "0.93", "0.25"]]]
    ((_, rows, _),) = shown("likelihood", results)
    assert rows == [["vae", "233.5", "–", "218.5", "15", "–", "0.5"]]
    (_, all_told, _), (_, less_told, _) = shown("decoder", results)
    assert all_told == [["draws", "33.5", "–", "0.5", "–"]]
    assert [row[:2] for row in less_told] == [
        ["draws", t] for t in ("nothing", "one attribute", "two attributes")
    ]
    assert all(results_views.VIEWS[view]([]) == [] for view in results_views.VIEWS)


def test_restorers_are_compared_degradation_by_degradation_and_never_across_data_sets():
    def of(task, fd, psnr, suffix="fashion"):
        return {f"psnr_{task}": psnr, f"ssim_{task}": 0.5, f"fd_{suffix}_{task}": fd}

    results = [
        planted_result("judge", "classifier", {"fd_fashion_floor": 0.75}),
        planted_result("faces", "restorer", of("box", 3.0, 24.5, "avatars")),
        planted_result("sharp", "restorer", of("box", 2.0, 20.5) | of("box_noise_20", 2.5, 19.5)),
        planted_result("soft", "restorer", of("noise_40", 9.0, 23.5) | of("box", 8.0, 22.5)),
    ]
    (head, rows, beneath), (faces, others, _) = shown("restoration", results)
    assert head == ["", "PSNR, dB", "SSIM", "FD-fashion"] and faces[3] == "FD-avatars"
    assert [row[:2] for row in rows] == [
        ["noise, σ = 0.2 of [0, 1]: soft", "23.5"],
        ["box, a quarter hidden: sharp", "20.5"],
        ["box, a quarter hidden: soft", "22.5"],
        ["box, and noise of σ = 0.1: sharp", "19.5"],
    ]
    assert [row[0] for row in others] == ["box, a quarter hidden: faces"]
    assert beneath == "10,000 against 10,000."


def test_a_figure_carries_its_spread_and_a_role_can_quote_any_number_of_it():
    entry = {"value": 115.996, "std": 0.4172, "unit": "nats", "n": 10_000, "floor": 2.2279, "detail": "x"}
    results = [{"name": "vae", "metrics": {"fd_fashion": entry}}]
    assert results_page.figure(entry) == f"116.0 ±{NBSP}0.42 nats"
    assert results_page.figure(entry | {"stderr": 1.5}) == f"116.0 ±{NBSP}1.5 nats"  # the larger
    small = {"value": -0.00051624, "std": 0.000123, "unit": ""}
    assert results_page.figure(small) == f"−0.00052 ±{NBSP}0.00012"  # no digit beyond the spread's
    assert results_page.figure(None) == "–"
    assert [results_page.rounded(v) for v in (0.0, 0.00042, 0.996, 12.34, 1234.5)] == [
        "0", "0.00042", "1.00", "12", "1,200",
    ]  # fmt: skip
    quoted = {"": "116.0 nats", ":floor": "2.228", ":std": "0.42", ":n": "10,000"}
    assert {f: results_page.quoted(results, f"vae:fd_fashion{f}") for f in quoted} == quoted
    for wrong in ("vae:fd", "gan:fd_fashion", "vae:fd_fashion:detail", "vae"):
        with pytest.raises(ValueError, match="book/results holds no"):
            results_page.quoted(results, wrong)


def test_measures_are_named_in_words():
    named = {
        "fd_fashion": "FD-fashion", "fd_fashion_floor": "FD-fashion, real against real",
        "accuracy_hair_colour": "Accuracy, hair colour", "recall_normal": "Recall, z ~ N(0, I)",
        "conditional_error_0": "Distance to the conditional mean, told nothing", "mse": "Mean squared error",
        "psnr_box": "PSNR, box, a quarter hidden", "fd_fashion_box_noise_20": "FD-fashion, box, and noise of σ = 0.1",
    }  # fmt: skip
    assert {metric: results_views.metric_name(metric) for metric in named} == named


def test_every_figure_of_the_book_s_results_can_be_printed_and_read_back():
    for path in FOLDER.glob("*.json"):
        result = json.loads(path.read_text("utf-8"))
        for metric, entry in result["metrics"].items():
            assert results_page.figure(entry) and results_page.quoted([result], f"{result['name']}:{metric}")


def test_the_distance_of_the_shipped_stylegan_is_at_most_half_of_that_of_the_dcgan(results):
    """And 64 pixels of avatars are what both draw."""
    style, dcgan = results["stylegan-avatars"], results["dcgan-avatars"]
    assert style["metrics"]["fd_avatars"]["value"] <= 0.5 * dcgan["metrics"]["fd_avatars"]["value"]
    assert {pretrained.card(r["name"])["config"]["image_shape"][1] for r in (style, dcgan)} == {64}
