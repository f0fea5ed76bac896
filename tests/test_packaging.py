"""What is declared is what is imported, and the extras can be left out."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = ("mlflow", "pandas", "pyarrow", "pillow_heif", "textual_image")
BLOCK = f"""
import sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.split(".")[0] in {EXTRAS} else find(name, *rest)
"""


def without_extras(code: str, folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", BLOCK + code], cwd=folder, capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def declared(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in requirements}


def test_what_is_imported_is_declared():
    names = set()
    for path in (ROOT / "rvqvae").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    names -= {*sys.stdlib_module_names, "rvqvae"}
    extras = PROJECT["optional-dependencies"]
    every = declared([*PROJECT["dependencies"], *(line for lines in extras.values() for line in lines)])
    known = packages_distributions()
    homes = {name: {home.lower().replace("_", "-") for home in known[name]} for name in names}
    assert len(names) > 15 and not {name for name, home in homes.items() if not home & every}


def test_nobody_needs_the_extras(tmp_path):
    """Every module but the server's, and the command line; timm, slow to import, only for other networks."""
    for name in ("in", "out"):
        np.savez(tmp_path / f"{name}.npz", x=np.random.default_rng(0).integers(0, 256, (9, 8, 8), np.uint8))
    done = without_extras(
        """
import numpy, pkgutil, rvqvae
from importlib import import_module
from rvqvae.features.pretrained import extract_views
extract_views(numpy.zeros((1, 1, 28, 28), numpy.uint8))
assert "timm" not in sys.modules
names = [module.name for module in pkgutil.walk_packages(rvqvae.__path__, "rvqvae.")]
assert len(names) > 50
for name in names:
    if not name.endswith(("__main__", "tracking.serving")):
        import_module(name)
try:
    rvqvae.log_model("nowhere")
except rvqvae.InputError as error:
    print(error)
from rvqvae.commands.main import main
sys.exit(main(["contaminate", "in.npz", "out.npz", "--rate", "0.1", "--out", "mixed"]))
""",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "mlflow is not installed: install the extra rvqvae[mlflow]" in done.stdout
    assert (tmp_path / "mixed").is_dir()


def test_parquet_without_pyarrow_names_the_extra(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    code = "from rvqvae import load_images; load_images('a.parquet')"
    assert "install the extra rvqvae[parquet]" in without_extras(code, tmp_path).stderr
