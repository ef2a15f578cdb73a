"""Avatars: 20,000 drawn faces in colour, each with its exact attributes, embedded in the package."""

import hashlib
import json
import lzma
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imagegen.data.sets import AvatarSet, DataError, check_split

AVATARS_FOLDER = Path(__file__).parents[1] / "datasets"
AVATARS_SIZE = 64
AVATAR_ATTRIBUTION = (
    'Avatars: a remix of "Personas by Draftbit" (https://personas.draftbit.com/) by Draftbit (https://draftbit.com/) '
    "in the form of DiceBear's style personas (https://www.dicebear.com/styles/personas/), both licensed under "
    "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/). Changed here: enlarged, moved, put on backgrounds, "
    "drawn at 64x64. The data set is licensed under CC BY 4.0, too."
)
_AGAIN = "install imagegen again"
_CHUNK = 500  # faces decoded at once: 6 MB


def avatar_card() -> dict[str, Any]:
    """Return the card of Avatars: origin, licence, attribution, attributes with their counts, known limits.

    Raises: DataError: it is missing or no such card.
    """
    path = AVATARS_FOLDER / "avatars.json"
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        missing = {"sha256", "attributes", "train", "test"} - set(card)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}): {_AGAIN}") from error
    if missing:
        raise DataError(f"{path} is no card of Avatars: {', '.join(sorted(missing))} missing; {_AGAIN}")
    return card


def _read_verified(card: dict[str, Any]) -> bytes:
    path = AVATARS_FOLDER / "avatars.xz"
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): {_AGAIN}") from error
    if (found := hashlib.sha256(packed).hexdigest()) != card["sha256"]:
        raise DataError(
            f"{path} is truncated or altered: its SHA-256 is {found}, its card says {card['sha256']}; {_AGAIN}"
        )
    return packed


def _unpack(packed: bytes, sizes: Iterable[int]) -> Iterator[bytearray]:
    """Yield the unpacked content in pieces of the sizes asked for, so that it is never in memory as a whole."""
    decompressor = lzma.LZMADecompressor(format=lzma.FORMAT_XZ)
    for size in sizes:
        piece = bytearray()
        while len(piece) < size:
            try:
                more = decompressor.decompress(packed, max_length=size - len(piece))
            except (lzma.LZMAError, EOFError) as error:  # EOFError: the stream has ended
                raise DataError(f"avatars.xz and its card do not fit: {error}; {_AGAIN}") from error
            if not more:  # the stream breaks off
                raise DataError(f"avatars.xz and its card do not fit: too few faces; {_AGAIN}")
            piece += more
            packed = b""  # it has taken all in
        yield piece


def _reduced(faces: Tensor, size: int) -> Tensor:
    """Return uint8 faces (B, 64, 64, 3) as uint8 (B, 3, size, size), each pixel the mean of the area it covers."""
    k = AVATARS_SIZE // size
    if k > 1:
        total = faces.reshape(-1, size, k, size, k, 3).sum(dim=(2, 4), dtype=torch.int32)
        faces = (total / k**2).round().to(torch.uint8)  # halves go to the even level, so the mean level stays
    return faces.permute(0, 3, 1, 2)


def avatars(split: str = "train", *, size: int = AVATARS_SIZE) -> AvatarSet:
    """Return a split of Avatars: uint8 (15000 or 5000, 3, size, size), labels int64 (N, 10), the attributes.

    `attributes` maps each attribute's name to the names of its values, in the order of the columns of `labels`. The
    faces are unpacked anew by each call (about a second), into memory that is the caller's own.

    Args: split: "train" or "test". size: a divisor of 64; below 64, by area averaging, rounded to whole levels.
    Raises: ValueError: another split or size. DataError: the embedded file is missing, truncated or altered.
    Source: Personas by Draftbit, CC BY 4.0 (AVATAR_ATTRIBUTION).
    """
    check_split(split)
    if isinstance(size, bool) or not isinstance(size, int) or size < 1 or AVATARS_SIZE % size:
        raise ValueError(f"expected a size that divides {AVATARS_SIZE}, got {size!r}")
    card = avatar_card()
    n_train, n_test = card["train"], card["test"]
    attributes = {
        entry["name"]: tuple(value["name"] for value in entry["values"]) for entry in card["attributes"]
    }
    first, last = (0, n_train) if split == "train" else (n_train, n_train + n_test)
    starts = [*range(0, first, _CHUNK), *range(first, last, _CHUNK), last]
    face = AVATARS_SIZE * AVATARS_SIZE * 3
    pieces = _unpack(
        _read_verified(card),
        [(n_train + n_test) * len(attributes), *(face * (end - start) for start, end in pairwise(starts))],
    )
    labels = torch.frombuffer(next(pieces), dtype=torch.uint8).reshape(n_train + n_test, len(attributes))
    images = torch.empty(last - first, 3, size, size, dtype=torch.uint8)
    for (start, end), piece in zip(pairwise(starts), pieces):
        if start >= first:  # else they belong to the split before
            faces = torch.frombuffer(piece, dtype=torch.uint8).reshape(-1, AVATARS_SIZE, AVATARS_SIZE, 3)
            images[start - first : end - first] = _reduced(faces, size)
    return AvatarSet(images, labels[first:last].long(), attributes)


def report_avatars() -> list[dict[str, str]]:
    """Return one row: data set, file, the folder it was found in, and its checksum's verdict."""
    verdict = "ok"
    try:
        _read_verified(avatar_card())
    except DataError as error:
        verdict = str(error)
    return [{"name": "avatars", "file": "avatars.xz", "folder": str(AVATARS_FOLDER), "verdict": verdict}]
