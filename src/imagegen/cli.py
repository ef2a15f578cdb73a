"""The command `imagegen`: data, train, evaluate, sample, export."""

import argparse
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from imagegen import data, evaluation, pretrained, recipes, training
from imagegen.decoder import WITHHELD, AttributeDecoder
from imagegen.gan import GAN
from imagegen.images import from_unit, to_uint8
from imagegen.prior import Prior
from imagegen.restore import RestoredPixels, Restorer
from imagegen.stylegan import StyleGAN
from imagegen.vae import VAE, Autoencoder
from imagegen.vq import VQVAE

USER_ERRORS = (
    data.DataError,
    pretrained.PretrainedError,
    recipes.RecipeError,
    training.CheckpointError,
    training.NonFiniteLoss,
)
PRECISIONS = ("32-true", "bf16-mixed")
REPOSITORY = Path(__file__).parents[2]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="imagegen", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    listing = commands.add_parser(
        "data", help="list the data sets, where each was found, and its checksum's verdict"
    )
    listing.add_argument("--fetch", action="store_true", help="download or install what is missing first")
    listing.set_defaults(run=_data)

    train = commands.add_parser(
        "train",
        help="train a recipe, or go on with it after an interruption",
        description="Train a recipe and write its weights and card. Killed at any moment and started again "
        "with the same command, it goes on from its last checkpoint (in runs/, or the folder IMAGEGEN_RUNS).",
    )
    add = train.add_argument
    add("recipe", nargs="?", metavar="RECIPE", help=f"one of: {', '.join(recipes.RECIPES)}")
    add("--stale", action="store_true", help="train every recipe whose shipped card does not match it")
    add("--minutes", type=float, metavar="M", help="stop cleanly after so many minutes")
    add("--budget", choices=("quick", "full"), help="default: IMAGEGEN_BUDGET, else full with a GPU")
    add("--steps", type=int, metavar="N", help="train for N steps, whatever the budget")
    add("--devices", type=int, default=1, metavar="N", help="GPUs, or processes on a CPU (default: 1)")
    add("--precision", choices=PRECISIONS, help="default: 32-true on a CPU, the recipe's on a GPU")
    add("--seed", type=int, metavar="S", help="instead of the recipe's")
    add(
        "--out",
        metavar="DIR",
        help="for weights and card; default: the package's at full length, else the run's",
    )
    add("--threads", type=int, metavar="N", help="threads of each process on a CPU")
    add("--save-seconds", type=float, default=60.0, metavar="S", help="between checkpoints (default: 60)")
    add("--log-every", type=int, default=50, metavar="N", help="steps between log entries (default: 50)")
    add("--restart", action="store_true", help="throw the checkpoint away and start anew")
    add("--write-now", action="store_true", help="only write weights and card of the last checkpoint")
    add("--quiet", action="store_true", help="no progress bar")
    train.set_defaults(run=_train)

    measure = commands.add_parser(
        "evaluate",
        help="measure a model, or all, by the protocol of its data set",
        description="Measure a model by the protocol of its data set: likelihood and reconstruction on the test "
        "images, samples against them. In a clone of the repository, a complete measurement "
        "(all images, at least 100 draws, seed 0) is written to book/results/NAME.json and into the model card.",
    )
    add = measure.add_argument
    add(
        "name",
        nargs="?",
        metavar="NAME",
        help=f"one of: {', '.join(pretrained.names()) or 'none is there yet'}",
    )
    add("--all", action="store_true", help="every model that is there")
    add("--json", action="store_true", help="print the result as JSON, of --all a list")
    add("--limit", type=int, metavar="N", help="only the first N test images, and N samples, at least 10")
    add("--samples", type=int, default=100, metavar="K", help="draws of z an image (default: 100)")
    add("--seed", type=int, default=0, metavar="S", help="of the draws (default: 0)")
    add("--results", metavar="DIR", help="where to write NAME.json, complete or not")
    add("--threads", type=int, metavar="N", help="threads on a CPU")
    add("--quiet", action="store_true", help="no progress bar")
    measure.set_defaults(run=_evaluate)

    draw = commands.add_parser(
        "sample", help="draw images from a VAE, a GAN or a prior over codes into an .npz file"
    )
    add = draw.add_argument
    add("name", metavar="NAME")
    add("-n", type=int, default=64, metavar="N", help="how many (default: 64)")
    add("--seed", type=int, default=0, metavar="S", help="of z ~ N(0, I), or of the codes (default: 0)")
    add("--label", type=int, nargs="+", metavar="L",
        help="a prior's labels, one an attribute, -1 for any (default: all -1)")  # fmt: skip
    add(
        "--temperature", type=float, metavar="T", help="of a prior; below 1 prefers likely codes (default: 1)"
    )
    add("--top-p", type=float, metavar="P",
        help="draw a prior's codes from the likeliest with this share (default: 1)")  # fmt: skip
    add("--truncation", type=float, metavar="PSI",
        help="of a StyleGAN: w goes towards its mean, at 0 all the way (default: 1, none)")  # fmt: skip
    add(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help="array `images`: uint8 (N, C, H, W), the mean of p(x | z) or p(x | codes), or G(z)",
    )
    draw.set_defaults(run=_sample)

    export = commands.add_parser("export", help="write a model as ONNX, checked against PyTorch")
    add = export.add_argument
    add("name", metavar="NAME")
    add("-o", "--output", required=True, metavar="FILE")
    add(
        "--part",
        choices=("decoder", "encoder", "prior", "synthesis", "mapping", "restorer"),
        help="decoder: z, codes or attributes -> images in [0, 1]; encoder: x in [-1, 1] -> what describes z, or "
        "codes; prior: codes and labels -> logits; synthesis: w for each layer -> images in [0, 1]; mapping: z -> w; "
        "restorer: what is left of an image, the mask and the noise -> images in [0, 1] (default: the first there is)",
    )
    export.set_defaults(run=_export)
    for command in (measure, draw, export):
        command.add_argument(
            "--weights", default=str(pretrained.FOLDER), metavar="DIR", help="default: the package's"
        )
    return parser


def _data(args: argparse.Namespace) -> int:
    if args.fetch:
        data.fetch_fashion_mnist()
    rows = data.report()
    for row in rows:
        print(f"{row['name']:<16}{row['file']:<32}{row['folder']}: {row['verdict']}")
    print(f"\n{data.AVATAR_ATTRIBUTION}")
    return 0 if all(row["verdict"] in ("ok", "missing") for row in rows) else 2


def _train(args: argparse.Namespace) -> int:
    if bool(args.recipe) == args.stale:
        raise recipes.RecipeError("name one recipe, or give --stale (not both)")
    if args.log_every < 1 or args.save_seconds < 0 or (args.threads or 1) < 1:
        raise recipes.RecipeError("--log-every and --threads must be at least 1, --save-seconds at least 0")
    options = {
        "devices": args.devices, "precision": args.precision, "out": args.out, "threads": args.threads,
        "save_seconds": args.save_seconds, "log_every": args.log_every, "progress": not args.quiet,
    }  # fmt: skip
    if args.stale:
        if (args.budget, args.steps, args.seed) != (None, None, None) or args.restart or args.write_now:
            raise recipes.RecipeError(
                "--stale trains at full length, with the recipes' seeds: drop the others"
            )
        left = recipes.train_stale(minutes=args.minutes, **options)
        print(f"left: {', '.join(left) or 'nothing'}")
        return 0
    if args.minutes is not None:
        options["deadline"] = time.time() + 60 * args.minutes
    job = recipes.plan(args.recipe, speed=args.budget, steps=args.steps, seed=args.seed, **options)
    length = job.session.n_steps
    if args.write_now:
        card = recipes.write_weights(job)
        print(f"{card['name']}: weights after {card['steps']} of {length} steps written to {job.out}")
        return 0
    result = recipes.train(job, restart=args.restart)
    if not result["finished"]:
        print(f"{args.recipe}: stopped at step {result['step']} of {length}; the same command goes on")
    elif result["card"]:
        terms = ", ".join(f"{key} {value:.4g}" for key, value in result["card"]["training"].items())
        print(f"{args.recipe}: {length} steps done ({terms}); weights and card in {job.out}")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    if bool(args.name) == args.all:
        raise recipes.RecipeError("name one model, or give --all (not both)")
    if args.samples < 1 or (args.limit is not None and args.limit < 2) or (args.threads or 1) < 1:
        raise recipes.RecipeError("--samples and --threads must be at least 1, --limit at least 2")
    if args.threads:
        torch.set_num_threads(args.threads)
    names = pretrained.names(folder=args.weights) if args.all else [args.name]
    if not names:
        raise pretrained.PretrainedError(f"there are no models in {args.weights}")
    results = []
    for name in names:
        result, complete = evaluation.evaluate(
            name, folder=args.weights, limit=args.limit, n_samples=args.samples, seed=args.seed,
            progress=not args.quiet, device="cuda" if torch.cuda.is_available() else "cpu",
        )  # fmt: skip
        results.append(result)
        if not args.json:
            print(
                f"{name}: {result['data']}"
                + (f"; {result['protocol']['text']}" if "protocol" in result else "")
            )
            for measure, entry in result["metrics"].items():
                print(f"  {_line(measure, entry)}", flush=True)
        _keep(result, complete=complete, weights=args.weights, results=args.results)
    if args.json:
        print(json.dumps(results if args.all else results[0], indent=1))
    return 0


def _line(measure: str, entry: dict[str, Any]) -> str:
    """Return a measured figure as a line of text."""
    spreads = [entry[key] for key in ("std", "stderr") if key in entry]
    spread = f" +- {max(spreads):.2g}" if spreads else ""
    floor = f"; real against real: {entry['floor']:.4g}" if "floor" in entry else ""
    return f"{measure:<28}{entry['value']:.5g}{spread} {entry['unit']} ({entry['detail']}{floor})"


def _keep(result: dict[str, Any], *, complete: bool, weights: str, results: str | None) -> None:
    """Write a result to the book's folder and the model's card, where it is complete and they are there."""
    in_repository = (REPOSITORY / "book").is_dir()
    own = Path(weights).resolve() == pretrained.FOLDER.resolve()
    if results or (complete and in_repository and own):
        folder = Path(results) if results else REPOSITORY / "book" / "results"
        text = json.dumps(result, indent=1) + "\n"
        training.write_atomic(folder / f"{result['name']}.json", text.encode())
    if complete and (in_repository or not own):
        now = pretrained.card(result["name"], folder=weights)
        pretrained.write_card(now | {"metrics": result["metrics"]}, folder=weights)


@torch.inference_mode()
def _sample(args: argparse.Namespace) -> int:
    if args.n < 1:
        raise recipes.RecipeError(f"-n is {args.n}; expected at least 1")
    model = pretrained.load(args.name, folder=args.weights)
    generator = torch.Generator().manual_seed(args.seed)
    options = {"temperature": args.temperature, "top_p": args.top_p}
    options = {key: value for key, value in options.items() if value is not None}
    if args.truncation is not None and not isinstance(model, StyleGAN):
        raise recipes.RecipeError(f"{args.name} has no w: --truncation is a StyleGAN's")
    psi = 1.0 if args.truncation is None else args.truncation
    if not 0 <= psi < float("inf"):
        raise recipes.RecipeError(f"--truncation is {psi}; expected a number from 0 on")
    if isinstance(model, Prior):
        tokeniser = evaluation.tokeniser_of(args.name, folder=args.weights)
        if not isinstance(tokeniser, VQVAE):
            raise recipes.RecipeError(
                f"{args.name} is a prior of one level of codes: an image needs both levels"
            )
        labels = None if args.label is None else torch.tensor(args.label).expand(args.n, -1)
        try:
            codes = evaluation.sampled_codes(model, args.n, generator, labels=labels, **options)
        except ValueError as error:
            raise recipes.RecipeError(f"cannot sample {args.name}: {error}") from error
        images = _decoded(tokeniser, codes)
    elif isinstance(model, VAE | GAN | StyleGAN):
        if options or args.label is not None:
            raise recipes.RecipeError(
                f"{args.name} has no codes: --label, --temperature and --top-p are a prior's"
            )
        if isinstance(model, GAN | StyleGAN):
            images = evaluation.generated(model, args.n, generator, truncation=psi)
        else:
            images = _decoded(model, torch.randn(args.n, model.config.latent_dim, generator=generator))
    else:
        family = pretrained.card(args.name, folder=args.weights)["family"]
        raise recipes.RecipeError(f"{args.name} is of the family {family}, which has no prior to sample from")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=images.numpy())
    training.write_atomic(args.output, buffer.getbuffer())
    print(f"{args.name}: {args.n} images of shape {tuple(images.shape[1:])} in {args.output}")
    return 0


def _decoded(model: VAE | VQVAE, code: torch.Tensor) -> torch.Tensor:
    """Return uint8 images (N, C, H, W) of latents or codes (N, ...), a few at a time."""
    return torch.cat([to_uint8(from_unit(torch.sigmoid(model.decode(part)))) for part in code.split(256)])


def _export(args: argparse.Namespace) -> int:
    from imagegen import export

    model = pretrained.load(args.name, folder=args.weights)
    config, parts = model.config, {}  # part: the network, an input, the names of its outputs
    if isinstance(model, AttributeDecoder):
        n = len(config.attributes)  # a face told all, and one told nothing
        conditions = model.conditions(torch.tensor([[0] * n, [WITHHELD] * n]))
        parts["decoder"] = (export.AttributePixels(model), {"conditions": conditions}, ["images"])
    elif isinstance(model, VAE | Autoencoder):
        parts["decoder"] = (export.PixelDecoder(model), {"z": torch.zeros(2, config.latent_dim)}, ["images"])
        codes = ["mean", "log_var"] if isinstance(model, VAE) else ["z"]
        parts["encoder"] = (export.Encoder(model), {"x": torch.zeros(2, *config.image_shape)}, codes)
    elif isinstance(model, GAN):
        z = {"z": torch.zeros(2, config.latent_dim)}
        parts["decoder"] = (export.GeneratorPixels(model.generator), z, ["images"])
    elif isinstance(model, StyleGAN):
        z = model.draw(2, generator=torch.Generator().manual_seed(0))
        ws = {"ws": model.generator.styles(z).detach()}
        parts["synthesis"] = (export.StyledPixels(model.generator), ws, ["images"])
        parts["mapping"] = (export.Styles(model.generator), {"z": z}, ["w"])
    elif isinstance(model, VQVAE):
        decoder, x = export.CodePixels(model), {"x": torch.zeros(2, *config.image_shape)}
        parts["decoder"] = (decoder, decoder.examples(), ["images"])
        parts["encoder"] = (export.ImageCodes(model), x, ["codes"])
    elif isinstance(model, Prior) and not config.context_codes:
        prior = export.PriorLogits(model)
        parts["prior"] = (prior, prior.examples(), ["logits"])
    elif isinstance(model, Restorer):
        restorer = RestoredPixels(model)
        parts["restorer"] = (restorer, restorer.examples(), ["images"])
    part = args.part or next(iter(parts), "decoder")
    if part not in parts:
        have = ", ".join(parts) or "nothing to export"
        raise recipes.RecipeError(f"{args.name} has no {part}; it has {have}")
    module, inputs, outputs = parts[part]
    try:
        difference = export.export_onnx(module, inputs, args.output, output_names=outputs)
    except (export.ExportError, OSError) as error:
        raise recipes.RecipeError(f"cannot export {args.name}: {error}") from error
    print(f"{args.name}: {part} in {args.output}; it differs from PyTorch by at most {difference:.2g}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code: 0, 2 for what the user can put right, 130 when interrupted."""
    args = _parser().parse_args(arguments)
    try:
        return args.run(args)
    except USER_ERRORS as error:
        print(f"imagegen: {error}", file=sys.stderr)
        return 2
    except ProcessRaisedException as error:  # one of several processes; its traceback is text by now
        last = str(error).strip().splitlines()[-1]
        print(f"imagegen: a process stopped: {last}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("imagegen: interrupted; repeat the command to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
