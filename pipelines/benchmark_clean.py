"""What cleaning and scoring a folder cost, beside CleanVision and PyOD: a part of `benchmark_speed`.

Each is a process of its own, whose start and reading of the files count, with the threads that it takes by
default. CleanVision looks for all its issues; PyOD's detectors, with their defaults, fit and score the
pixels, of which the reading is ours.
"""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from pipelines.common.pairs import draw
from pipelines.common.timing import Line, cost_of, cpu_to_first_output

PEERS = {"CleanVision": "cleanvision", "IForest": "pyod", "AutoEncoder": "pyod"}
"""And the package that each is in."""
OURS = [sys.executable, "-m", "rvqvae"]


def cleaning(folder: str | None, total: int, root: str | None) -> Iterator[Line]:
    """Of the images in ``folder``; without one, of ``total`` digits with 20 % clothes."""
    with TemporaryDirectory() as scratch:
        images = Path(folder) if folder else Path(scratch) / "images"
        if not folder:
            images.mkdir()
            for i, image in enumerate(draw("mnist/fashion_mnist", 0.2, 0, total, root).images):
                Image.fromarray(image[0]).save(images / f"{i:06d}.png")
        n = sum(path.is_file() for path in images.rglob("*"))
        out, of = Path(scratch), f"{n:,} images"
        theirs = {
            name: cost_of([sys.executable, "-m", "pipelines.benchmark_clean", name, str(images)])
            for name, package in PEERS.items()
            if find_spec(package)
        }
        clean = [*OURS, "clean", str(images), "--out"]
        first = cpu_to_first_output([*clean, str(out / "begun")])
        page = cost_of([*clean, str(out / "listed"), "--no-train"])
        whole = cost_of([*clean, str(out / "cleaned")])
        scoring = [*OURS, "score", str(out / "listed"), str(images), "--out", str(out / "scores.csv")]
        first_of_score = cpu_to_first_output(scoring)
        score = cost_of(scoring)
    yield Line("first output of clean", "the aim", "CPU s", first, 1, 1 / first, 1)
    yield Line("first output of score", "the aim", "CPU s", first_of_score, 1, 1 / first_of_score, 1)
    small = folder is not None  # The aims are of 800 photo tiles, and of 10,000 digits.
    yield Line(f"clean {of}", "the aim", "CPU s", whole.cpu, aim := 40 if small else 45, aim / whole.cpu, 1)
    for name, cost in theirs.items():
        yield Line(f"clean {of}, the page", name, "CPU s", page.cpu, cost.cpu, cost.cpu / page.cpu, 1)
    if small:
        yield Line(f"clean {of}, the page", "the aim", "CPU s", page.cpu, 15, 15 / page.cpu, 1)
        return
    for unit, took in (("images/s", score.seconds), ("images/CPU s", score.cpu)):
        yield Line(f"score {of}", "the aim", unit, n / took, 1500, n / took / 1500, 1)


def run_peer(name: str, folder: str) -> None:
    """What one of the PEERS makes of a folder, quietly."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if name == "CleanVision":
            from cleanvision import Imagelab

            Imagelab(data_path=folder).find_issues()
            return
        from importlib import import_module

        from rvqvae.io.reading import load_images

        module = {"IForest": "iforest", "AutoEncoder": "auto_encoder"}[name]
        pixels = load_images(folder).images
        detector = getattr(import_module(f"pyod.models.{module}"), name)(random_state=0)
        detector.fit(pixels.reshape(len(pixels), -1) / 255)


if __name__ == "__main__":
    run_peer(*sys.argv[1:])
