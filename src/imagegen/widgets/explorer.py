"""What every explorer is: a frozen copy of a network, the kernel's answers, and the files of its web page."""

import base64
import copy
import html
import io
import json
import os
import re
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import torch
import traitlets
from PIL import Image
from torch import Tensor, nn

from imagegen import export, images


class Explorer(anywidget.AnyWidget):
    """What all explorers share: a frozen copy of the network, the kernel's answers, the page's files."""

    _esm = Path(__file__).parents[1] / "explorer.js"
    meta = traitlets.Dict().tag(sync=True)
    picture = traitlets.Unicode().tag(sync=True)  # what a printout and a page without JavaScript show
    kind: ClassVar[str]
    parts: ClassVar[dict[str, str]]  # part of the network -> suffix of its file on the website
    worker: ClassVar[bool] = False  # on the website the network runs in a worker: it would hold the page up

    def __init__(self, model: nn.Module | None, name: str | None) -> None:
        """model: None where nothing is computed, but shown as it was recorded."""
        name = name or self.kind
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
            raise ValueError(f"name is {name!r}, expected lower-case letters, digits and single hyphens")
        network = nn.Module() if model is None else copy.deepcopy(model)  # a snapshot: training may go on
        self._network = network.eval().requires_grad_(False)
        self._device = next((p.device for p in network.parameters()), torch.device("cpu"))
        self._shape = () if model is None else tuple(model.config.image_shape)
        super().__init__()
        meta, pixels, self._alt = self._describe()
        self.picture = f"data:image/png;base64,{base64.b64encode(png(pixels)).decode()}"
        # The name is the content's, so that neither a cached notebook nor a browser can show a stale model.
        digest = export.fingerprint(self._network, json.dumps(meta, sort_keys=True), self.picture)
        self.file_name = f"{name}-{digest[:10]}"
        files = {part: f"{self.file_name}{suffix}.onnx" for part, suffix in self.parts.items()}
        told = {"kind": self.kind, "shape": list(self._shape), "files": files, "worker": self.worker}
        self.meta = told | meta
        self.on_msg(self._answer)
        if folder := os.environ.get("IMAGEGEN_SITE_DIR"):
            self.write_site_files(folder)

    def _describe(self) -> tuple[dict[str, Any], Tensor, str]:
        """Return the front end's description, the static picture (C, H, W) uint8, and its alt text."""
        raise NotImplementedError

    def _graphs(self) -> dict[str, tuple[nn.Module, dict[str, Tensor], tuple[str, ...]]]:
        """Return for each of `parts`: the module to export, example inputs by name, names of the outputs."""
        raise NotImplementedError

    def decode(self, values: Tensor) -> Tensor:
        """Return pixels (B, C, H, W) in [0, 1] for what the front end sends, float32 on the CPU."""
        raise NotImplementedError

    def _compute(self, op: str, values: Tensor) -> tuple[Tensor, ...]:
        """Return the answer to the front end's request; values: float32, flat."""
        if op != "decode":
            raise ValueError(f"op is {op!r}, expected 'decode'")
        return (self.decode(values[None]),)

    def _answer(self, _widget: object, message: dict[str, Any], buffers: list[Any]) -> None:
        # JupyterLab from 4.4 on calls this in another thread: nothing here relies on the caller's grad mode.
        try:
            values = torch.frombuffer(bytearray(buffers[0]), dtype=torch.float32)
            outputs = self._compute(message["op"], values)
            self.send({"id": message["id"]}, buffers=[output.numpy().tobytes() for output in outputs])
        except Exception as error:  # whatever it is, the reader should see it beside the picture
            self.send({"id": message.get("id"), "error": f"{type(error).__name__}: {error}"})

    def write_site_files(self, folder: str | os.PathLike) -> list[Path]:
        """Write NAME-HASH.json and the networks as ONNX for the web page; return the paths.

        Raises: ExportError: a network differs from PyTorch; see `export.export_onnx`.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        graphs = self._graphs()
        paths = []
        for part, file in self.meta["files"].items():
            module, inputs, outputs = graphs[part]
            kept = folder / "by-content"  # two explorers of one model export it once
            export.export_onnx(module, inputs, folder / file, output_names=outputs, cache=kept)
            paths.append(folder / file)
        paths.append(folder / f"{self.file_name}.json")
        temporary = paths[-1].with_suffix(f".json.{os.getpid()}")
        temporary.write_text(json.dumps(self.meta), encoding="utf-8")
        os.replace(temporary, paths[-1])
        return paths

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        alt = html.escape(self._alt)
        # Who sees the picture alone is told in words below it what a listener hears in its place.
        words = f'<small aria-hidden="true" style="display: block">{alt}</small>'
        picture = f'<img alt="{alt}" src="{self.picture}">{words}'
        data["text/html"] = f'<{self.kind} src="{self.file_name}">{picture}</{self.kind}>'
        data["text/plain"] = f"{type(self).__name__}({self.file_name!r})"
        return data, metadata


def levels(pixels: Tensor) -> Tensor:
    """Return pixels in [0, 1] as uint8."""
    return images.to_uint8(images.from_unit(pixels))


def packed(pixels: Tensor) -> str:
    """Return pixels in [0, 1] as the base64 text of their levels, in C, H, W order."""
    return base64.b64encode(levels(pixels).numpy().tobytes()).decode()


def png(picture: Tensor) -> bytes:
    """Return a picture (C, H, W), uint8, as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).squeeze(-1).numpy()).save(buffer, "png", optimize=True)
    return buffer.getvalue()
