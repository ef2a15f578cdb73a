"""An explorer of a recording: GANs in the plane while they train, their points and what the discriminator says."""

import base64
import binascii
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from imagegen import images
from imagegen.widgets.explorer import Explorer

RECORDING = Path(__file__).parents[1] / "recordings/ring.json"
MODES = 8  # Gaussians on the ring
# The plane has the same colours on every page: blue for real, orange for generated, told apart by shape too.
FIELD = ("#f5aa6e", "#f7f7f7", "#78b4e1")  # at 0, 1/2 and 1
REAL, GENERATED = "#00466e", "#9a2a00"
_TILE, _COLUMNS = 96, 5  # pixels a side, and frames, in the static picture
_MOST_ROWS = 10
_FIELD_KINDS = ("probability", "score")


class RingExplorer(Explorer):
    """Choose a loss and watch a recorded training: real and generated points, and the discriminator's field.

    No network runs: everything that it shows is in the recording.

    Args:
        recording: as the benchmark `ring` writes it, or the path of such a file; by default the package's own.
            {"extent", "side", "n", "real", "runs": [{"loss", "setting", "label", "steps", "points", "field",
            "modes", "high_quality", "field_kind"}, ...]}; `real`, `points` and `field` are uint8 in base64 of shapes
            (n, 2), (F, n, 2) and (F, side, side). A label is the loss, and after a comma its setting, if any. More
            than that, such as the benchmark's "origin", does not reach the page.
    Raises: ValueError: the recording is not complete, a size or a name does not fit; the message holds the value.
    """

    kind = "ring-explorer"
    parts: ClassVar = {}

    def __init__(
        self, recording: Mapping[str, Any] | str | os.PathLike | None = None, *, name: str | None = None
    ) -> None:
        if not isinstance(recording, Mapping):
            recording = json.loads(Path(recording or RECORDING).read_text("utf-8"))
        self._recording = _checked(recording)
        super().__init__(None, name)

    def _graphs(self) -> dict[str, Any]:
        return {}

    def _describe(self) -> tuple[dict[str, Any], Tensor, str]:
        runs = self._recording["runs"]
        told = []
        for run in runs[:_MOST_ROWS]:
            quality = f"{100 * run['high_quality'][-1]:.0f} % of high quality"
            told.append(f"{run['label']}: {run['modes'][-1]} of {MODES} modes, {quality}")
        shown = [[run["steps"][i] for i in _columns(len(run["steps"]))] for run in runs[:_MOST_ROWS]]
        scores = [run["label"] for run in runs[:_MOST_ROWS] if run["field_kind"] == "score"]
        but = (
            f"In the rows of {' and '.join(scores)} it is the critic's score, scaled in each tile. "
            if scores
            else ""
        )
        same = all(steps == shown[0] for steps in shown)
        when = f" (steps {', '.join(map(str, shown[0]))})" if same else ""
        alt = (
            f"{len(told)} recorded trainings on a ring of {MODES} Gaussians, one a row, from the first to the last "
            f"recorded step{when}. Dark orange squares are generated points, dark blue crosses real ones; the "
            f"ground is blue where the discriminator says real, orange where it says generated. {but}"
            f"At the end: {'; '.join(told)}."
        )
        ends = [(run["modes"][-1], run["high_quality"][-1]) for run in runs]
        best = ends.index(max(ends))  # the training that ends nearest to its goal, where it ends
        start = {"run": best, "frame": len(runs[best]["steps"]) - 1}
        return self._recording | {"total": MODES, "start": start}, self._sheet(), alt

    def _sheet(self) -> Tensor:
        """Return the static picture (3, H, W), uint8: a row for each run, a column for each of some frames."""
        side, n = self._recording["side"], self._recording["n"]
        real, tiles, zoom = unpacked(self._recording["real"], (n, 2)), [], max(1, round(_TILE / side))
        for run in self._recording["runs"][:_MOST_ROWS]:
            frames = len(run["steps"])
            points, field = (
                unpacked(run["points"], (frames, n, 2)),
                unpacked(run["field"], (frames, side, side)),
            )
            for i in _columns(frames):
                tile = _ground(field[i]).repeat_interleave(zoom, 1).repeat_interleave(zoom, 2)
                _mark(tile, real, REAL, ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)))
                _mark(tile, points[i], GENERATED, tuple((y, x) for y in (0, 1) for x in (0, 1)))
                tiles.append(tile)
        return images.grid(torch.stack(tiles), columns=_COLUMNS)


def unpacked(text: str, shape: tuple[int, ...]) -> Tensor:
    """Return uint8 numbers from base64 text. Raises: ValueError: it is no base64, or holds another number of them."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError) as error:
        raise ValueError(f"numbers that are not in base64: {error}") from error
    if len(data) != (expected := int(np.prod(shape))):
        raise ValueError(f"{len(data)} bytes, expected {expected} for {shape}")
    return torch.from_numpy(np.frombuffer(data, np.uint8).copy()).reshape(shape)


def _columns(frames: int) -> list[int]:
    return torch.linspace(0, frames - 1, _COLUMNS).round().long().tolist()


def _colour(text: str) -> Tensor:
    return torch.tensor([int(text[i : i + 2], 16) for i in (1, 3, 5)])


def _ground(field: Tensor) -> Tensor:
    """Return the field (H, W) of 0 to 255 as colours (3, H, W), uint8."""
    low, middle, high = (_colour(text).float()[:, None, None] for text in FIELD)
    share = field.float() / 127.5 - 1  # -1 to 1
    ends = torch.where(share < 0, low, high)
    return (middle + share.abs() * (ends - middle)).round().to(torch.uint8)


def _mark(tile: Tensor, points: Tensor, colour: str, cells: tuple[tuple[int, int], ...]) -> None:
    """Draw points (N, 2), 0 to 255 from left to right and from bottom to top, on a tile (3, H, W), in place."""
    side = tile.shape[1]
    column = (points[:, 0].float() / 255 * (side - 1)).round().long()
    row = ((1 - points[:, 1].float() / 255) * (side - 1)).round().long()
    for down, right in cells:
        tile[:, (row + down).clamp(0, side - 1), (column + right).clamp(0, side - 1)] = _colour(colour)[
            :, None
        ].to(torch.uint8)


def _checked(recording: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page needs of a recording. Raises where something is missing or does not fit."""
    wanted = ("extent", "side", "n", "real", "runs")
    parts = ("loss", "setting", "label", "steps", "points", "field", "modes", "high_quality")
    _check_there(recording, wanted, "the recording")
    side, n = recording["side"], recording["n"]
    for part in ("side", "n"):
        if not _whole(recording[part], 1, math.inf):
            raise ValueError(f"{part} is {recording[part]!r}, expected a whole number from 1 on")
    if not _number(recording["extent"]) or not 0 < recording["extent"] < math.inf:
        raise ValueError(f"extent is {recording['extent']!r}, expected a positive number")
    unpacked(recording["real"], (n, 2))
    if not recording["runs"]:
        raise ValueError("the recording has no runs")
    runs = []
    for i, run in enumerate(recording["runs"]):
        _check_there(run, parts, f"run {i}")
        frames = len(run["steps"])
        for part, shape in (("points", (frames, n, 2)), ("field", (frames, side, side))):
            try:
                unpacked(run[part], shape)
            except ValueError as error:
                raise ValueError(f"{part} of run {i}: {error}") from error
        for part in ("modes", "high_quality"):
            if len(run[part]) != frames or not frames:
                raise ValueError(f"run {i} has {len(run[part])} {part}, expected {frames}, one a step")
        if wrong := [m for m in run["modes"] if not _whole(m, 0, MODES)]:
            raise ValueError(f"run {i} has {wrong[0]!r} modes, expected whole numbers from 0 to {MODES}")
        if wrong := [q for q in run["high_quality"] if not _number(q) or not 0 <= q <= 1]:
            raise ValueError(f"run {i} has a share {wrong[0]!r} of high quality, expected 0 to 1")
        if (kind := run.get("field_kind", _FIELD_KINDS[0])) not in _FIELD_KINDS:
            raise ValueError(f"field_kind of run {i} is {kind!r}, expected one of {', '.join(_FIELD_KINDS)}")
        runs.append({part: run[part] for part in parts} | {"field_kind": kind})
    if len({(run["loss"], run["setting"]) for run in runs}) < len(runs):
        raise ValueError("two runs have the same loss and setting")
    return {part: recording[part] for part in wanted[:-1]} | {"runs": runs}


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: object, least: float, most: float) -> bool:
    return _number(value) and isinstance(value, int) and least <= value <= most


def _check_there(found: Mapping[str, Any], wanted: tuple[str, ...], what: str) -> None:
    if missing := [part for part in wanted if part not in found]:
        raise ValueError(f"{what} lacks {', '.join(missing)}")
