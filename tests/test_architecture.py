"""Who may import whom, how long a file may be, and what the wheel holds."""

import ast
import shutil
import subprocess
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from rvqvae.commands.main import main

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "rvqvae").rglob("*.py"))
# From below: a room may import those before it, and itself.
ROOMS = [
    "errors",
    "devices",
    "progress",
    "config",
    "atomic",
    "model_folder",
    "model_card",
    "figures",
    "batches",
    "io",
    "estimator_base",
    "contamination",
    "features",
    "optimization",
    "membership",
    "vqvae",
    "priors",
    "metrics",
    "retrieval",
    "detector",
    "stored_detector",
    "family",
    "clustering",
    "questions",
    "estimator",
    "onnx_scorer",
    "report",
    "commands",
    "tracking",
]


@cache
def imports(path: Path) -> set[str]:
    """Absolute names that the file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).with_suffix("").parts[: -node.level] if node.level else ()
            module = ".".join([*package, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{name.name}" for name in node.names}
    return found


def reaches(names: set[str], target: str) -> bool:
    return any(name == target or name.startswith(f"{target}.") for name in names)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room):
    place = ROOT / "rvqvae" / room
    files = [path for path in FILES if path == place.with_suffix(".py") or path.is_relative_to(place)]
    assert files
    later = [f"rvqvae.{name}" for name in ROOMS[ROOMS.index(room) + 1 :]]
    wrong = [
        f"{path.relative_to(ROOT)} imports {target}"
        for path in files
        for target in ("pipelines", "data", "tests", *later)
        if reaches(imports(path), target)
    ]
    assert not wrong


def test_every_file_has_a_room():
    tops = {path.relative_to(ROOT / "rvqvae").parts[0].removesuffix(".py") for path in FILES}
    assert tops - {"__init__", "__main__"} == set(ROOMS)


def test_membership_is_pure():
    files = [path for path in FILES if path.is_relative_to(ROOT / "rvqvae" / "membership")]
    assert not [path.name for path in files if reaches(imports(path), "torch")]


def test_only_tracking_imports_mlflow():
    sources = [*FILES, *(ROOT / "pipelines").rglob("*.py"), *(ROOT / "data").glob("*.py")]
    found = {path.name for path in sources if reaches(imports(path), "mlflow")}
    assert found == {"runs.py", "serving.py", "view.py"}
    # And lazily: never when a module of rvqvae.tracking itself is imported.
    for name in ("runs", "serving"):
        tree = ast.parse((ROOT / "rvqvae" / "tracking" / f"{name}.py").read_text(encoding="utf-8"))
        top = [name.name for node in tree.body if isinstance(node, ast.Import) for name in node.names]
        top += [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
        assert not [name for name in top if name.startswith("mlflow")]


def test_few_calls_lead_from_a_command_to_the_codebook(tmp_path, monkeypatch):
    class Reached(Exception):
        pass

    def stop(*_):
        raise Reached

    monkeypatch.setattr("rvqvae.vqvae.codebook.Codebook.forward", stop)
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).integers(0, 256, (24, 8, 8), dtype=np.uint8))
    flags = ["--features", "learned", "--epochs", "1", "--quiet"]
    with pytest.raises(Reached) as caught:
        main(["clean", str(tmp_path / "x.npz"), "--out", str(tmp_path / "out"), *flags])
    ours = [entry.name for entry in caught.traceback if entry.path.is_relative_to(ROOT / "rvqvae")]
    assert ours[:2] == ["main", "clean"] and len(ours) <= 7, ours


def test_no_file_is_long():
    long = {
        str(path.relative_to(ROOT)): n for path in FILES if (n := len(path.read_text().splitlines())) > 400
    }
    assert not long


def test_the_wheel_holds_rvqvae_alone(tmp_path):
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed")
    build = subprocess.run(
        [uv, "build", "--wheel", "--quiet", "--out-dir", str(tmp_path), str(ROOT)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if build.returncode:
        online = not any(word in build.stderr.lower() for word in ("failed to fetch", "dns", "connect"))
        assert not online, build.stderr
        pytest.skip("the build backend cannot be fetched")
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"rvqvae"}
    assert {"rvqvae/__init__.py", "rvqvae/py.typed"} <= set(names)
