"""Render the data set Avatars: 20,000 faces with their exact attributes, from DiceBear's style `personas`.

    python scripts/render_avatars.py                  # writes avatars.xz and avatars.json: about three minutes
    python scripts/render_avatars.py --check 64       # renders 64 of those in the package again and compares
    python scripts/render_avatars.py --folder FOLDER  # writes them somewhere else

It needs the extra `avatars` (exact versions: another version of the style draws other pictures).
Personas by Draftbit, licensed under CC BY 4.0; DiceBear's remix carries the same licence.
"""

import argparse
import functools
import hashlib
import io
import json
import lzma
import sys
from importlib import metadata, resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imagegen.data import AVATAR_ATTRIBUTION, avatars
from imagegen.training import write_atomic

FOLDER = Path(__file__).resolve().parents[1] / "src" / "imagegen" / "datasets"
SEED = 20_000
N_TRAIN, N_TEST = 15_000, 5_000
SIZE = 64
# The style draws a small figure with shoulders. Enlarged and moved, the face fills the frame and some cloth remains.
SCALE, DOWN = 1.25, 3.0

# Attribute: its values, as the style names them; colours have names here and hexadecimal digits in COLOURS.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "hair": (
        "bald", "balding", "beanie", "bobBangs", "bobCut", "bunUndercut", "buzzcut", "cap", "curly", "curlyBun",
        "curlyHighTop", "extraLong", "fade", "long", "mohawk", "pigtails", "shortCombover", "shortComboverChops",
        "sideShave", "straightBun",
    ),
    "hair_colour": ("none", "dark", "orange", "brown", "coral", "silver", "pink", "red"),
    "skin": ("1", "2", "3", "4", "5", "6", "7"),
    "eyes": ("glasses", "happy", "open", "sleep", "sunglasses", "wink"),
    "nose": ("mediumRound", "smallRound", "wrinkles"),
    "mouth": ("bigSmile", "frown", "lips", "pacifier", "smile", "smirk", "surprise"),
    "facial_hair": ("none", "beardMustache", "goatee", "pyramid", "shadow", "soulPatch", "walrus"),
    "clothes": ("checkered", "rounded", "small", "squared"),
    "clothing_colour": ("blue", "green", "pink", "violet", "red", "turquoise", "yellow"),
    "background": ("white", "sky", "mint", "sand", "rose", "lavender", "slate", "ink"),
}  # fmt: skip
COLOURS: dict[str, tuple[str, ...]] = {
    "hair_colour": ("", "#362c47", "#f29c65", "#6c4545", "#f27d65", "#dee1f5", "#e16381", "#e15c66"),
    "skin": ("#eeb4a4", "#e7a391", "#e5a07e", "#d78774", "#b16a5b", "#92594b", "#623d36"),
    "clothing_colour": ("#456dff", "#6dbb58", "#f55d81", "#7555ca", "#e24553", "#54d7c7", "#f3b63a"),
    "background": ("#ffffff", "#bfdbf7", "#c5ead6", "#f2e3c6", "#f7cfd8", "#d9cff2", "#7d8ca3", "#2f3a4f"),
}
NAMES = tuple(ATTRIBUTES)
# Names of values for readers, where those of the style are none.
READABLE = {
    "bobBangs": "bob with bangs", "bobCut": "bob", "bunUndercut": "bun with undercut", "buzzcut": "buzz cut",
    "curlyBun": "curly bun", "curlyHighTop": "curly high top", "extraLong": "extra long",
    "shortCombover": "short comb-over", "shortComboverChops": "short comb-over with sideburns",
    "sideShave": "side shave", "straightBun": "straight bun", "sleep": "closed", "mediumRound": "medium round",
    "smallRound": "small round", "wrinkles": "with wrinkles", "bigSmile": "big smile",
    "beardMustache": "beard and moustache", "pyramid": "pyramid moustache", "soulPatch": "soul patch",
    "walrus": "walrus moustache", "shadow": "stubble", "1": "1 (lightest)", "7": "7 (darkest)",
}  # fmt: skip
LIMITS = (
    "A style of drawing, not a population: nobody is portrayed, the attributes are drawn independently of one another "
    "(a pacifier goes with a beard), and no share in it says anything about people.",
    "hair_colour is 'none' where no hair is to be seen: with 'bald', 'beanie' or 'cap' and no facial hair. With facial "
    "hair, which has the colour of the hair, it is given.",
    "'beard and moustache' brings a mouth of its own and hides that of the attribute `mouth`, whose label then is of "
    "no consequence: one face in twelve. No classifier can tell it there.",
    "Small differences: the skins 1 to 4 are close, and so are the hair colours coral, pink and red; a nose changes 27 "
    "to 90 pixels, by 29 levels at most; 'long' and 'extra long' hair differ in 50 pixels. Below 32x32 some vanish.",
    "Colours that are not the attribute's: the cap is orange and the beanie red whatever the hair; a light layer makes "
    "the face paler than the skin's colour, which neck and ears show.",
    "The drawings are made of few parts. No picture occurs twice, not even at 8x8, but most test faces have a train "
    "face that differs in two or three attributes of ten (nearest_train_face): judge memorisation against that.",
    "All faces have one place, size and light: there is nothing to align, and no texture.",
)
PACKAGES = ("dicebear-core", "dicebear-styles", "resvg-py")
# The window must reach over most of the 235 MB: with 64 MB the file is 13 % larger, with 16 MB twice as large.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 3, "lp": 0, "pb": 0, "dict_size": 1 << 27}]


@functools.cache
def style():
    """Return DiceBear's style, once it is known to hold exactly the variants and colours named above."""
    from dicebear import Style

    definition = json.loads(resources.files("dicebear_styles").joinpath("personas.json").read_text("utf-8"))
    for name, component in (("hair", "hair"), ("eyes", "eyes"), ("nose", "nose"), ("mouth", "mouth"),
                            ("facial_hair", "facialHair"), ("clothes", "clothes")):  # fmt: skip
        found = set(definition["components"][component]["variants"])
        if found != set(ATTRIBUTES[name]) - {"none"}:
            raise SystemExit(f"the style's {component} differ: another version of dicebear-styles?")
    for name, colour in (("hair_colour", "hair"), ("skin", "skin"), ("clothing_colour", "clothing")):
        if definition["colors"][colour]["values"] != [c for c in COLOURS[name] if c]:
            raise SystemExit(f"the style's colours of {colour} differ: another version of dicebear-styles?")
    return Style(definition)


def render(labels: np.ndarray) -> np.ndarray:
    """Return the picture of labels (10,), in the order of NAMES, as uint8 (64, 64, 3)."""
    import resvg_py
    from dicebear import Avatar

    value = {name: ATTRIBUTES[name][label] for name, label in zip(NAMES, labels)}
    colour = {name: COLOURS[name][labels[NAMES.index(name)]] for name in COLOURS}
    hair = colour["hair_colour"] or COLOURS["hair_colour"][1]  # where none is to be seen, any will do
    options = {
        "seed": "imagegen", "scale": SCALE, "translateX": 0, "translateY": DOWN,
        "hairVariant": [value["hair"]], "hairColor": [hair],
        "skinColor": [colour["skin"]], "eyesVariant": [value["eyes"]], "noseVariant": [value["nose"]],
        "mouthVariant": [value["mouth"]],
        "facialHairProbability": 0 if value["facial_hair"] == "none" else 100, "facialHairColor": [hair],
        "clothesVariant": [value["clothes"]], "clothingColor": [colour["clothing_colour"]],
        "backgroundColor": [colour["background"]],
    }  # fmt: skip
    if value["facial_hair"] != "none":
        options["facialHairVariant"] = [value["facial_hair"]]
    svg = Avatar(style(), options).to_string()
    png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, skip_system_fonts=True)
    return np.array(Image.open(io.BytesIO(png)).convert("RGB"))


@functools.cache
def shows_hair_colour(hair: int, facial_hair: int) -> bool:
    """Return whether the hair's colour is to be seen in a picture at all."""
    labels = np.zeros(len(NAMES), dtype=np.uint8)
    labels[NAMES.index("hair")], labels[NAMES.index("facial_hair")] = hair, facial_hair
    pictures = []
    for colour in (1, 5):
        labels[NAMES.index("hair_colour")] = colour
        pictures.append(render(labels))
    return not np.array_equal(*pictures)


def draw_labels(rng: np.random.Generator) -> np.ndarray:
    """Return the labels of one face, uint8 (10,): uniform, but for facial hair, which half of the faces lack."""
    labels = np.array([rng.integers(len(values)) for values in ATTRIBUTES.values()], dtype=np.uint8)
    at = {name: i for i, name in enumerate(NAMES)}
    labels[at["facial_hair"]] = 0 if rng.random() < 0.5 else rng.integers(1, len(ATTRIBUTES["facial_hair"]))
    labels[at["hair_colour"]] = rng.integers(1, len(ATTRIBUTES["hair_colour"]))
    if not shows_hair_colour(int(labels[at["hair"]]), int(labels[at["facial_hair"]])):
        labels[at["hair_colour"]] = 0
    return labels


def render_all(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return n pictures, all different, uint8 (n, 64, 64, 3), and their labels, uint8 (n, 10)."""
    rng = np.random.default_rng(SEED)
    images, labels, seen = [], [], set()
    while len(images) < n:
        face = draw_labels(rng)
        picture = render(face)
        digest = hashlib.sha256(picture.tobytes()).digest()
        if digest not in seen:
            seen.add(digest)
            images.append(picture)
            labels.append(face)
    return np.stack(images), np.stack(labels)


def pack(images: np.ndarray, labels: np.ndarray) -> bytes:
    """Return the content of avatars.xz: all labels, then all pictures, a byte each."""
    content = labels.tobytes() + images.tobytes()
    return lzma.compress(content, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=FILTERS)


def attributes_card(labels: np.ndarray) -> list[dict[str, Any]]:
    """Return the attributes in the order of the columns of labels (n, 10), their values with counts in both splits."""
    found = []
    for column, (name, values) in enumerate(ATTRIBUTES.items()):
        train, test = (np.bincount(part[:, column], minlength=len(values)).tolist()
                       for part in (labels[:N_TRAIN], labels[N_TRAIN:]))  # fmt: skip
        entries = []
        for i, value in enumerate(values):
            entry = {"name": READABLE.get(value, value), "style": value}
            if name in COLOURS:
                entry["colour"] = COLOURS[name][i] or None
            entries.append(entry | {"train": train[i], "test": test[i]})
        found.append({"name": name, "values": entries})
    return found


def nearest_in_train(labels: np.ndarray) -> list[int]:
    """Return how many test faces have a nearest train face that differs in 0, 1, 2, ... attributes."""
    counts = np.zeros(len(NAMES) + 1, dtype=int)
    for face in labels[N_TRAIN:]:
        counts[(labels[:N_TRAIN] != face).sum(axis=1).min()] += 1
    return np.trim_zeros(counts, "b").tolist()


def make_card(images: np.ndarray, labels: np.ndarray, packed: bytes) -> dict[str, Any]:
    """Return the card of the data set."""
    style = json.loads(resources.files("dicebear_styles").joinpath("personas.json").read_text("utf-8"))[
        "meta"
    ]
    return {
        "name": "avatars",
        "title": "Avatars: 20,000 drawn faces with their exact attributes",
        "sha256": hashlib.sha256(packed).hexdigest(),
        "content_sha256": hashlib.sha256(labels.tobytes() + images.tobytes()).hexdigest(),
        "format": "LZMA (.xz): labels uint8 (20000, 10), then images uint8 (20000, 64, 64, 3), RGB, train before test",
        "train": N_TRAIN,
        "test": N_TEST,
        "size": SIZE,
        "seed": SEED,
        "script": "scripts/render_avatars.py",
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "drawing": {"scale": SCALE, "translateY": DOWN},
        "licence": "CC-BY-4.0",
        "attribution": AVATAR_ATTRIBUTION,
        "origin": {"work": style["source"], "creator": style["creator"], "licence": style["license"]},
        "licences_of_the_tools": "dicebear-core: MIT. dicebear-styles: MIT, and each style its own licence (personas: "
        "CC BY 4.0). resvg-py: MIT, with the resvg libraries, Apache-2.0 or MIT. None of them is in this package.",
        "how_drawn": "Each attribute uniform and independent, but for two: half of the faces have no facial hair, and "
        "hair_colour is 'none' where no hair is to be seen. A picture drawn before is drawn anew. The order is random, "
        "so train and test are of one distribution.",
        "limits": LIMITS,
        "nearest_train_face": {
            "what": "test faces by the number of attributes in which the nearest train face differs, from 0",
            "counts": nearest_in_train(labels),
        },
        "attributes": attributes_card(labels),
    }


def write(folder: Path) -> None:
    """Render all and write avatars.xz and avatars.json, each whole or not at all."""
    images, labels = render_all(N_TRAIN + N_TEST)
    packed = pack(images, labels)
    card = make_card(images, labels, packed)
    write_atomic(folder / "avatars.xz", packed)
    write_atomic(folder / "avatars.json", (json.dumps(card, indent=1) + "\n").encode())
    print(f"avatars: {len(images)} faces in {len(packed) / 2**20:.2f} MiB, content {card['content_sha256']}")


def spread(n: int, total: int) -> list[int]:
    """Return n positions from 0 to total - 1, evenly spread, both ends among them."""
    return np.linspace(0, total - 1, n).round().astype(int).tolist()


def check(n: int) -> int:
    """Render n faces of the embedded set again, spread over both splits; return by how many levels they differ."""
    difference = 0
    for split, share in (("train", n - n // 2), ("test", n // 2)):
        images, labels, _ = avatars(split)
        for i in spread(share, len(images)):
            embedded = images[i].permute(1, 2, 0).numpy().astype(int)
            difference = max(difference, int(np.abs(render(labels[i].numpy()) - embedded).max()))
    return difference


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code: 0, or 1 if a face rendered again differs by more than one level."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", type=int, metavar="N", help="render N faces again, compare, write nothing")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write (the package)")
    options = parser.parse_args(arguments)
    if options.check is not None and options.check < 1:  # none would differ by nothing
        parser.error(f"--check {options.check}: expected at least 1 face")
    if missing := [name for name in ("dicebear", "dicebear_styles", "resvg_py") if not find_spec(name)]:
        parser.error(f"{', '.join(missing)} cannot be imported: pip install 'imagegen[avatars]'")
    if options.check is None:
        write(options.folder)
        return 0
    difference = check(options.check)
    print(f"avatars: {options.check} faces rendered again differ by at most {difference} levels of 255")
    return int(difference > 1)


if __name__ == "__main__":
    sys.exit(main())
