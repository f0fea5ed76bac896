"""What README.md and CONTRIBUTING.md tell a user to type works: Python is run, commands are parsed."""

import inspect
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from data.recipes import load
from pipelines.generation.settings import parse as parse_settings
from rvqvae.commands import COMMANDS
from rvqvae.commands.arguments import function_of, parse

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "pipelines/README.md")
TOOLS = {"pytest", "ruff", "mypy", "mlflow"}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.S | re.M)


def commands(page: str) -> list[list[str]]:
    """What follows ``uv run`` in blocks without a language, word by word."""
    lines = "\n".join(blocks(page, "")).replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in re.split(r" && (?=uv)", line)]
    return [
        shlex.split(re.sub(r"^uv run (--group \w+ )?", "", part), comments=True)
        for part in parts
        if part.startswith("uv run")
    ]


@pytest.mark.parametrize("page", PAGES)
def test_commands_can_be_parsed(page):
    found = commands(page)
    assert found
    for tool, *words in found:
        if tool == "rvqvae":
            name, values, *_ = parse(words)
            inspect.signature(function_of(name)).bind(**values)
        elif tool == "python" and words[0] == "-m":
            assert find_spec(words[1]), words
            if words[1] == "pipelines.robust_generation":
                parse_settings(words[2:], "")
        elif tool == "python":
            compile(words[1], page, "exec")
        else:
            assert tool in TOOLS, tool


def test_the_readme_shows_every_command():
    assert {words[1] for words in commands("README.md") if words[0] == "rvqvae"} == COMMANDS.keys() - {
        "train"
    }


def test_python_runs():
    """On digits and clothes so few, and so briefly, that it takes seconds."""
    images = np.concatenate([load("mnist")[0][:50], load("fashion_mnist")[0][:10]])
    (code,) = blocks("README.md", "python")
    quick = code.replace(
        "RobustVQVAE(random_state=0)", "RobustVQVAE(random_state=0, epochs=1, prior_epochs=0)"
    )
    assert quick != code
    names = {"images": images, "new": images[:3]}
    exec(compile(quick, "README.md", "exec"), names)
    assert len(names["clean"]) <= len(images) and names["flags"].shape == (3,)
    assert names["heat"].shape == (3, 28, 28)


def test_two_commands_set_it_up_and_the_second_is_the_tests():
    first = blocks("README.md", "")[0].splitlines()
    assert len(first) == 2 and first[1].endswith(" # tests")
    every = (ROOT / "README.md").read_text().splitlines()
    assert [line for line in every if line.endswith("# tests")] == [first[1]]


def test_the_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= 700
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]
