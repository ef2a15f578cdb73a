"""ONNX export and its parity check: a file is written only if it computes what PyTorch computes."""

import contextlib
import copy
import hashlib
import io
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

VERSION = 1  # part of every fingerprint: raise it when this module writes other bytes for the same network
TOLERANCE = 1e-4  # largest absolute difference from PyTorch that passes for the same network
_PARITY_BATCH = 5  # another batch size than the exported one, so that a frozen batch dimension is found


class ExportError(RuntimeError):
    """The file does not compute what the module computes, or cannot be made; nothing was written."""


class PixelDecoder(nn.Module):
    """z (B, D) -> pixels (B, C, H, W) in [0, 1]: the mean of a Bernoulli decoder, as shown on a screen."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.model.decode(z))


class Encoder(nn.Module):
    """x (B, C, H, W) in [-1, 1] -> mean and log_var of q(z | x), each (B, D); of an autoencoder the code (B, D)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        return self.model.encode(x)


class GeneratorPixels(nn.Module):
    """z (B, D) -> pixels (B, C, H, W) in [0, 1]: what a generator of images in [-1, 1] draws on a screen.

    Values outside of [-1, 1], which a generator without a tanh may give, are cut off.
    """

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.model = generator

    def forward(self, z: Tensor) -> Tensor:
        return self.model(z).add(1.0).mul(0.5).clamp(0.0, 1.0)


class Styles(nn.Module):
    """z (B, D) -> w (B, D): the mapping of a style-based generator."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.model = generator.mapping

    def forward(self, z: Tensor) -> Tensor:
        return self.model(z)


class StyledPixels(nn.Module):
    """w for each layer (B, L, D) -> pixels (B, C, H, W) in [0, 1]: its synthesis, with the noise that it keeps."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.model = generator.synthesis

    def forward(self, ws: Tensor) -> Tensor:
        # One noise for each image: of one for all, the exporter would store the sum with the bias, twice the file.
        noise = {name: kept.expand(ws.shape[0], -1, -1, -1) for name, kept in self.model.named_buffers()}
        image = torch.func.functional_call(self.model, noise, (ws,), {"noise": "fixed"})
        return image.add(1.0).mul(0.5).clamp(0.0, 1.0)


class AttributePixels(nn.Module):
    """conditions (B, sum K), cut off at 0 and 1 -> pixels (B, C, H, W) in [0, 1]: what an attribute decoder draws."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, conditions: Tensor) -> Tensor:
        return torch.sigmoid(self.model(conditions.clamp(0.0, 1.0)))


class CodePixels(nn.Module):
    """codes (B, h w), row by row -> pixels (B, C, H, W) in [0, 1]: what a discrete autoencoder draws on a screen.

    Codes are whole numbers in float32, as all that a page sends. They are rounded and clamped to those that there
    are, so that any input is a grid of codes: a random one too, which the parity check gives.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, codes: Tensor) -> Tensor:
        return torch.sigmoid(self.model.decode(_grids(codes, self.model.config)))

    def examples(self) -> dict[str, Tensor]:
        """Return inputs for `export_onnx` that hold every code."""
        return {"codes": _every_code(self.model.config)}


class ImageCodes(nn.Module):
    """x (B, C, H, W) in [-1, 1] -> the codes (B, h w) of a discrete autoencoder, row by row, in float32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        z, codebook = self.model.encoder(x).flatten(2), self.model.quantiser.codebook  # (B, D, N), (K, D)
        return (0.5 * codebook.square().sum(1)[:, None] - codebook @ z).argmin(1).float()


class PriorLogits(nn.Module):
    """codes (B, h w) and labels (B, A), -1 where withheld -> logits (B, h w, K) of every code given those before it.

    Both are whole numbers in float32, rounded and clamped to those that there are. Without attributes: codes alone.
    """

    def __init__(self, prior: nn.Module) -> None:
        super().__init__()
        self.model = prior
        values = torch.tensor(tuple(prior.config.attributes), dtype=torch.float32)
        self.register_buffer("last", values - 1, persistent=False)

    def forward(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is not None:
            labels = torch.minimum(labels.round().clamp(min=-1), self.last).long()
        return self.model(_grids(codes, self.model.config), labels=labels).flatten(2).mT

    def examples(self) -> dict[str, Tensor]:
        """Return inputs for `export_onnx` that hold every code, and labels from all withheld to the last of each."""
        codes = _every_code(self.model.config)
        shares = torch.linspace(0, 1, len(codes))[:, None]
        labels = (shares * (self.last + 1)).floor() - 1
        return {"codes": codes, "labels": labels} if len(self.last) else {"codes": codes}


def _grids(codes: Tensor, config: Any) -> Tensor:
    """Return float codes (B, h w) as int64 (B, h, w), each among the codes that there are."""
    return codes.round().clamp(0, config.codes - 1).long().reshape(-1, *config.grid)


def _every_code(config: Any) -> Tensor:
    n, codes = config.grid[0] * config.grid[1], config.codes
    rows = max(4, -(-codes // n))
    return (torch.arange(rows * n) % codes).reshape(rows, n).float()


def fingerprint(module: nn.Module, *parts: object) -> str:
    """Return a hash of all that decides an export: weights, structure, config, this code, and `parts`."""
    config = getattr(getattr(module, "model", module), "config", None)
    digest = hashlib.sha256(repr((VERSION, torch.__version__, str(module), config, parts)).encode())
    for name, tensor in module.state_dict().items():
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def export_onnx(
    module: nn.Module,
    example_inputs: dict[str, Tensor],
    path: str | os.PathLike,
    *,
    output_names: Sequence[str],
    half: bool = False,
    cache: str | os.PathLike | None = None,
    seed: int = 0,
) -> float:
    """Write `module` to `path` as ONNX and return its largest absolute difference from PyTorch.

    The batch dimension is free. Weights that fp16 holds exactly, such as all that were loaded from the
    shipped files, are stored in fp16 and widened in the graph: half the size, the same numbers. The file
    appears whole or not at all. `cache` names a folder of finished exports, one for each fingerprint; parity
    is checked anyway.

    Args: example_inputs: by name, in the order of `forward`, the first dimension of each the batch. They are
        compared too: give some that the network is meant for, where random ones are not.
        half: round all weights to fp16 first; parity is then against the rounded module.
    Raises: ExportError: the difference on these or on random inputs is above TOLERANCE or not finite, a weight
        leaves the range of fp16, or the packages of the extra `export` are missing.
    """
    if not example_inputs or not output_names:
        raise ValueError(f"expected inputs and outputs, got {list(example_inputs)} and {list(output_names)}")
    path = Path(path)
    module = copy.deepcopy(module).eval().cpu()  # a snapshot: training may go on
    if half:
        _round_to_half(module)
    shapes = {name: tuple(tensor.shape[1:]) for name, tensor in example_inputs.items()}
    kept = cache and Path(cache) / f"{fingerprint(module, shapes, tuple(output_names))}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=path.name, suffix=".part", dir=path.parent)
    os.close(handle)
    try:
        if kept and kept.is_file():
            shutil.copyfile(kept, temporary)
        else:
            Path(temporary).write_bytes(_convert(module, example_inputs, list(output_names)))
        differences = [
            parity(module, temporary, shapes, seed=seed),
            _difference(module, temporary, example_inputs),
        ]
        difference = float(np.max(differences))  # nan, where either is
        if not difference <= TOLERANCE:  # also when it is nan
            raise ExportError(
                f"{path.name} differs from PyTorch by {difference:.3g}, more than {TOLERANCE:g}"
            )
        os.chmod(temporary, 0o644)  # mkstemp makes files that a web server could not read
        if kept and not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(temporary, f"{kept}.{os.getpid()}")
            os.replace(f"{kept}.{os.getpid()}", kept)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return difference


def parity(
    module: nn.Module, path: str | os.PathLike, shapes: dict[str, tuple[int, ...]], *, seed: int = 0
) -> float:
    """Return max |ONNX - PyTorch| over all outputs, on inputs from N(0, 1) drawn from `seed`.

    Args: shapes: of each input, without the batch.
    Raises: ExportError: the file cannot be run, or its outputs have other shapes than the module's.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = {name: torch.randn(_PARITY_BATCH, *shape, generator=generator) for name, shape in shapes.items()}
    return _difference(module, path, inputs)


@torch.inference_mode()
def _difference(module: nn.Module, path: str | os.PathLike, inputs: dict[str, Tensor]) -> float:
    runtime = _import("onnxruntime")
    inputs = {name: tensor.detach().cpu() for name, tensor in inputs.items()}
    expected = module(*inputs.values())
    expected = [expected] if isinstance(expected, Tensor) else list(expected)
    options = runtime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    try:
        session = runtime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        found = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    except Exception as error:  # the runtime's exceptions have no common class of their own
        raise ExportError(f"{Path(path).name} cannot be run: {error}") from error
    got, wanted = [f.shape for f in found], [tuple(e.shape) for e in expected]
    if got != wanted:
        raise ExportError(f"{Path(path).name} gives shapes {got}, PyTorch {wanted}")
    return float(np.max([np.abs(f - e.numpy()).max() for f, e in zip(found, expected, strict=True)]))


def _import(name: str):
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ExportError(f"{name} is missing: pip install 'imagegen[export]' ({error})") from error


def _round_to_half(module: nn.Module) -> None:
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.dtype == torch.float32:
            rounded = tensor.detach().half().float()
            if not torch.isfinite(rounded).all():
                raise ExportError(f"{name} does not fit fp16: its largest value is {tensor.abs().max():.3g}")
            tensor.data.copy_(rounded)


def _convert(module: nn.Module, inputs: dict[str, Tensor], output_names: list[str]) -> bytes:
    _import("onnxscript")
    batch = torch.export.Dim("batch", min=1)
    examples = tuple(tensor.detach().cpu() for tensor in inputs.values())
    if any(len(example) < 2 for example in examples):  # the tracer takes a batch of 1 for a constant
        examples = tuple(torch.cat([example, example]) for example in examples)
    with _silence():
        program = torch.onnx.export(
            module,
            examples,
            dynamo=True,
            input_names=list(inputs),
            output_names=output_names,
            dynamic_shapes=tuple({0: batch} for _ in examples),
            verbose=False,
        )
    return _store_in_half(program.model_proto).SerializeToString()


def _store_in_half(model):
    """Store every weight that fp16 holds exactly in fp16, with a Cast to float32 under its old name."""
    onnx = _import("onnx")
    casts = []
    for weight in model.graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT:
            continue
        values = onnx.numpy_helper.to_array(weight)
        with np.errstate(over="ignore"):
            narrow = values.astype(np.float16)
        if values.size < 64 or not np.array_equal(narrow.astype(np.float32), values):
            continue
        name = weight.name
        weight.CopyFrom(onnx.numpy_helper.from_array(narrow, f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [weight.name], [name], f"widen {name}", to=1))  # float32
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.value_info[:]  # a record of shapes that would now call the narrow weights float32
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]  # stack traces: large, and they name the folders of this machine
        part.doc_string = ""
    onnx.checker.check_model(model)
    return model


@contextlib.contextmanager
def _silence():
    """The exporter reports its progress to every channel there is; an error still raises."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
