"""The measured models side by side: which measures are set in one table, and what each is called.

A view takes results as book/results holds them, and returns tables: (head, rows, what stands beneath). A row's cells
are words, or the entries of measured figures, None where there is none.
"""

NAMES = {
    "negative_elbo": "−ELBO",
    "nll": "Negative log-likelihood",
    "kl": "KL divergence",
    "bits_per_dim": "Bits a dimension",
    "bits_per_code": "Bits a code",
    "bits_per_image": "Bits an image, of its codes",
    "code_length": "Code length",
    "code_length_pixels": "Code length, pixels given the code",
    "mse": "Mean squared error",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "code_std": "Spread of the codes",
    "fd_fashion": "FD-fashion",
    "fd_avatars": "FD-avatars",
    "kid_fashion": "KID-fashion",
    "kid_avatars": "KID-avatars",
    "conditional_error": "Distance to the conditional mean",
    "conditional_spread": "Spread around the conditional mean",
}
TASKS = {
    "noise_20": "noise, σ = 0.1 of [0, 1]",
    "noise_40": "noise, σ = 0.2 of [0, 1]",
    "noise_80": "noise, σ = 0.4 of [0, 1]",
    "box": "box, a quarter hidden",
    "box_noise_20": "box, and noise of σ = 0.1",
    "scribble": "scribble, a quarter hidden",
    "half": "half hidden",
    "down_4": "a sixteenth of the pixels",
}
ENDINGS = {
    **{f"_{task}": TASKS[task] for task in sorted(TASKS, key=len, reverse=True)},
    "_floor": "real against real",
    "_normal": "z ~ N(0, I)",
    "_uniform": "codes drawn evenly",
    "_told": "told its class",
    "_detail": "bottom codes drawn, top codes real",
    "_top_alone": "the top level alone",
    "_fitted": "z from a Gaussian fitted to the codes",
    "_reconstructions": "reconstructions",
    "_0": "told nothing",
    "_1": "told one attribute",
    "_2": "told two attributes",
}
_WAYS = (
    "_floor",
    "",
    "_told",
    "_detail",
    "_normal",
    "_fitted",
    "_uniform",
    "_reconstructions",
    "_top_alone",
)
SAMPLES = ("fd", "kid", "precision", "recall", "coverage", "memorisation")

Entry = dict
View = list[tuple[list[str], list[list[str | Entry | None]], str]]


def metric_name(metric: str) -> str:
    """Return the name of a measure in words: nll, accuracy_hair_colour, fd_fashion_floor."""
    if metric.startswith("accuracy_"):
        return "Accuracy, " + metric.removeprefix("accuracy_").replace("_", " ")
    for ending, words in ENDINGS.items():
        if metric.endswith(ending):
            return f"{metric_name(metric.removesuffix(ending))}, {words}"
    return NAMES.get(metric, metric.replace("_", " ").capitalize())


def compared(results: list[dict], columns: dict[str, str]) -> View:
    """Return one table: a row each result that holds one of the columns (measure -> head)."""
    rows = [
        [result["name"]] + [result["metrics"].get(m) for m in columns]
        for result in results
        if any(m in result["metrics"] for m in columns)
    ]
    return [(["", *columns.values()], rows, "")] if rows else []


def likelihood(results: list[dict]) -> View:
    columns = {
        "negative_elbo": "−ELBO",
        "nll": "NLL",
        "distortion": "Distortion",
        "rate": "Rate",
    }
    models = [r for r in results if "distortion" in r["metrics"]]
    columns |= {"active_units": "Active units", "mse": "MSE"}
    return compared(models, columns)


def codes(results: list[dict]) -> View:
    """Return two tables: how a codebook describes images, and what a whole model needs to store one."""
    columns = {"mse": "MSE", "psnr": "PSNR, dB", "perplexity": "Perplexity"}
    columns |= {"codes_used": "Codes used", "bits_per_image": "Bits an image"}
    quantised = [r for r in results if "codes_used" in r["metrics"]]
    lengths = {"bits_per_code": "Bits a code", "code_length": "Code length, bits/dim"}
    lengths |= {"code_length_pixels": "of which pixels, bits/dim"}
    measured = [r for r in results if "code_length" in r["metrics"]]
    return compared(quantised, columns) + compared(measured, lengths)


def feature_networks(results: list[dict]) -> View:
    columns = {"accuracy": "Accuracy", "cross_entropy": "Cross-entropy, nats/image"}
    return compared(results, columns)


def decoders(results: list[dict]) -> View:
    """Return two tables: what a decoder draws when told all, and how far it is from the mean when told less."""
    columns = {"psnr": "PSNR, dB", "ssim": "SSIM", "mse": "MSE"}
    models = [r for r in results if "conditional_error_0" in r["metrics"]]
    told_all = compared(models, columns | {"sharpness": "Sharpness"})
    rows = [
        [r["name"], ENDINGS[f"_{k}"].removeprefix("told ")]
        + [
            r["metrics"].get(f"{m}_{k}")
            for m in ("conditional_error", "conditional_spread", "sharpness")
        ]
        for r in models
        for k in range(3)
    ]
    head = ["", "Told", "Distance to the mean", "Spread of the images", "Sharpness"]
    return [*told_all, (head, rows, "")] if rows else []


def samples(results: list[dict]) -> View:
    """Return a table for each feature network: real against real first, then every way of sampling of every model.

    Figures of networks with different weights are never in one table, whatever their names, nor figures of different
    protocols.
    """
    groups: dict[tuple[str, str], list[dict]] = {}
    for result in results:
        if used := result.get("protocol"):
            key = (used["features_sha256"], used["text"])
            groups.setdefault(key, []).append(result)
    made: View = []
    for members in groups.values():
        found = [m for r in members for m in r["metrics"] if m.startswith("fd_")]
        suffix = "_".join(found[0].split("_")[:2]).removeprefix("fd_")
        names = {m: f"{m}_{suffix}" if m in ("fd", "kid") else m for m in SAMPLES}
        rows, floor = [], None
        for result in members:
            entries = result["metrics"]
            for ending in _WAYS:
                if names["fd"] + ending not in entries:
                    continue
                words = ENDINGS.get(ending, "")
                title = ", ".join(part for part in (result["name"], words) if part)
                cells = [entries.get(name + ending) for name in names.values()]
                if ending == "_floor":
                    floor = ["real against real", *cells]
                else:
                    rows.append([title, *cells])
        heads = [metric_name(name) for name in names.values()]
        whole = [floor, *rows] if floor else rows
        made.append((["", *heads], whole, members[0]["protocol"]["text"] + "."))
    return sorted(made, key=lambda table: -len(table[1]))  # the most models first


def restoration(results: list[dict]) -> View:
    """Return a table for each data set: every degradation, restored by every restorer that takes it."""
    made: View = []
    for suffix in ("fashion", "avatars"):
        names = {"PSNR, dB": "psnr", "SSIM": "ssim", f"FD-{suffix}": f"fd_{suffix}"}
        found = [
            r
            for r in results
            if any(f"fd_{suffix}_{task}" in r["metrics"] for task in TASKS)
        ]
        rows = [
            [f"{words}: {result['name']}"]
            + [result["metrics"].get(f"{m}_{task}") for m in names.values()]
            for task, words in TASKS.items()
            for result in found
            if f"{names[f'FD-{suffix}']}_{task}" in result["metrics"]
        ]
        if rows:
            texts = {r["protocol"]["text"] for r in found if r.get("protocol")}
            made.append(
                (["", *names], rows, " ".join(f"{text}." for text in sorted(texts)))
            )
    return made


VIEWS = {
    "restoration": restoration,
    "likelihood": likelihood,
    "samples": samples,
    "codes": codes,
    "features": feature_networks,
    "decoder": decoders,
}
