"""Every file under configs/ can be run, and says nothing but differences from the defaults."""

from pathlib import Path

import pytest
import yaml

from pipelines.generation.settings import Settings, parse
from rvqvae.tracking.runs import flatten

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*"))


def test_there_are_configs():
    assert {path.name for path in CONFIGS} >= {"mnist_fashion.yaml", "fashion_mnist.yaml"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_config(path):
    text = path.read_text()
    chosen = parse([f"--config={path}"], "")
    wanted, defaults = flatten(yaml.safe_load(text)), flatten({"": Settings()})
    for key, value in wanted.items():
        assert defaults[f".{key}"] != value, f"{key} is the default"
    resolved = flatten({"": chosen})
    assert {key: resolved[f".{key}"] for key in wanted} == wanted
    assert text.startswith("#") and f"--config configs/{path.name}" in text
