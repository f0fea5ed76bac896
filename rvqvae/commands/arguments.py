"""The flags of the command line, which YAML files may give too."""

from __future__ import annotations

import re
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import version
from typing import Any, NamedTuple, get_type_hints

from docstring_parser import parse_from_object
from jsonargparse import (
    ArgumentError,
    ArgumentParser,
    DefaultHelpFormatter,
    Namespace,
    get_loader,
    set_loader,
)
from yaml import AliasToken, YAMLError, scan

from rvqvae.commands.options import Copy, FitOptions
from rvqvae.errors import InputError

YAML = "yaml_or_dashes"  # jsonargparse's name for `_load`
IMAGES = "a folder (with its subfolders), a .zip, or a .npz with an array x"


class Command(NamedTuple):
    """What one subcommand accepts."""

    help: str
    description: str
    add_arguments: Callable[[ArgumentParser], None]


class _Formatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Types and defaults, and descriptions with their own lines."""


def parse(arguments: list[str]) -> tuple[str, Namespace]:
    """The command and its values from flags and YAML; InputError for whatever is wrong with them."""
    if not arguments:
        raise InputError(f"give a command, one of {', '.join(COMMANDS)}: see --help")
    set_loader(YAML, _load, exceptions=(YAMLError,))
    parser = ArgumentParser(
        prog="rvqvae",
        description="Learn what the majority of a dirty image set looks like: clean it, sample, score.",
        formatter_class=_Formatter,
        parser_mode=YAML,  # Which the commands take over.
        exit_on_error=False,
    )
    parser.add_argument("--version", action="version", version=f"rvqvae {version('rvqvae')}")
    commands = parser.add_subcommands(required=True)
    for name, command in COMMANDS.items():
        commands.add_subcommand(name, _subparser(command), help=command.help)
    try:
        values = parser.parse_args(arguments)
    except ArgumentError as error:
        raise _plain(error) from error
    except UnicodeDecodeError as error:
        raise InputError(f"--config is not UTF-8 text ({error}): save it as such") from error
    return values.subcommand, values[values.subcommand]


def _subparser(command: Command) -> ArgumentParser:
    parser = ArgumentParser(
        description=command.description,
        formatter_class=_Formatter,
        parser_mode=YAML,
        exit_on_error=False,
    )
    parser.add_argument(
        "--config", action="config", metavar="YAML", help="file with some of the values below"
    )
    command.add_arguments(parser)
    return parser


def _add_options(parser: ArgumentParser, *names: str) -> None:
    """Flags for the fields of `FitOptions`, all of them or those named."""
    types = get_type_hints(FitOptions)
    described = {param.arg_name: param for param in parse_from_object(FitOptions).params}
    for field in fields(FitOptions):
        if field.name in (names or types):
            parser.add_argument(
                f"--{field.name.replace('_', '-')}",
                type=types[field.name],
                default=field.default,
                help=described[field.name].description,
            )


def options_of(values: Namespace) -> FitOptions:
    return FitOptions(**{field.name: values[field.name] for field in fields(FitOptions)})


def copy_of(values: Namespace) -> Copy | None:
    if values.copy and values.link:
        raise InputError("--copy and --link exclude each other: give one of them")
    return "copy" if values.copy else "link" if values.link else None


def _load(text: str) -> Any:
    """YAML whose names are spelled as the flags are, with or without dashes."""
    if any(isinstance(token, AliasToken) for token in scan(text)):  # A few unfold to more than the memory.
        raise YAMLError("aliases are not followed: write the value itself")
    values = get_loader("yaml")(text)
    if isinstance(values, dict):
        return {str(name).replace("-", "_"): value for name, value in values.items()}
    return values


def _plain(error: ArgumentError) -> InputError:
    """What jsonargparse says of a value, without its types."""
    message = str(error)
    key = re.search(r'Parser key "(.+?)":', message)
    value = re.search(r"Given value: (.*)", message)
    if key and value:
        message = f"--{key[1].split('.')[-1].replace('_', '-')} cannot be {value[1]!r}"
    commands = "|".join(COMMANDS)  # They stand in front of the names of required values.
    return InputError(re.sub(rf"\b({commands})\.", "", message) + ": see --help")


def _clean_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("images", type=str, help=IMAGES)
    parser.add_argument("--out", type=str, required=True, help="folder of the results")
    parser.add_argument("--copy", action="store_true", help="copy what is kept to OUT/clean")
    parser.add_argument("--link", action="store_true", help="link to what is kept in OUT/clean")
    parser.add_argument(
        "--manifest", type=str | None, metavar="CSV", help="apply this reviewed manifest, without training"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be read, and write nothing")
    _add_options(parser)


def _train_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("images", type=str, help=IMAGES)
    parser.add_argument("--out", type=str, required=True, help="folder of the model")
    _add_options(parser)


def _score_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", type=str, help="folder of a model")
    parser.add_argument("images", type=str, help=IMAGES)
    parser.add_argument("--out", type=str, required=True, help="table to write, such as scores.csv")
    parser.add_argument("--maps", type=str | None, metavar="DIR", help="folder for heat maps over the images")
    _add_options(parser, "seed", "device", "workers")


def _search_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", type=str, help="folder of a model")
    parser.add_argument("query", type=str, help=f"one image, or {IMAGES}")
    parser.add_argument("images", type=str, help=f"what to search: {IMAGES}")
    parser.add_argument("--out", type=str | None, metavar="CSV", help="table to write, such as matches.csv")
    parser.add_argument("-k", "--neighbors", type=int, default=10, help="images to find for each query")
    parser.add_argument("--picture", type=str | None, metavar="PNG", help="picture of what was found")
    _add_options(parser, "seed", "device", "workers")


def _sample_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", type=str, help="folder of a model")
    parser.add_argument("-n", "--number", type=int, default=64, help="images to make")
    parser.add_argument("--out", type=str, required=True, help="folder of the images")
    parser.add_argument("--temperature", type=float, default=1.0, help="below 1 purer and less varied")
    parser.add_argument(
        "--top-p", type=float, default=1.0, help="draw each code from the likeliest that make up this share"
    )
    parser.add_argument(
        "--max-outlier-probability", type=float | None, metavar="P",
        help="draw again what the model itself takes for an outlier with a higher probability",
    )  # fmt: skip
    _add_options(parser, "seed", "device")


def _evaluate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", type=str, help="folder of a model")
    parser.add_argument(
        "--reference", type=str, required=True, help=f"clean images that the model has not seen: {IMAGES}"
    )
    parser.add_argument("--outliers", type=str | None, help="images that do not belong, likewise")
    parser.add_argument("--out", type=str, required=True, help="file to write, such as metrics.json")
    parser.add_argument("-n", "--number", type=int, default=1000, help="images to make and measure")
    _add_options(parser, "seed", "device", "workers")


def _cluster_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("images", type=str, help=IMAGES)
    parser.add_argument("--out", type=str, required=True, help="folder of the results")
    parser.add_argument(
        "--clusters", type=int | None, metavar="K", help="groups; by default one per 25 images, at most 20"
    )
    _add_options(parser, "size", "seed", "device", "workers")


def _contaminate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("inliers", type=str, help=IMAGES)
    parser.add_argument("outliers", type=str, help="likewise")
    parser.add_argument("--rate", type=float, required=True, help="outliers / total, below 1")
    parser.add_argument("--out", type=str, required=True, help="folder of the mixture and its truth.csv")
    parser.add_argument("--total", type=int | None, help="images in all; by default all inliers are used")
    _add_options(parser, "size", "seed", "workers")


COMMANDS = {
    "clean": Command(
        "find what does not belong in a set of images",
        "Find what does not belong in a set of images, without labels.\n\n"
        "Writes OUT/manifest.csv (every file found), report.html (to review), summary.json and model/.\n"
        "IMAGES is never changed. The same command continues a run that was cut short.\n\n"
        "  rvqvae clean photos --out cleaned\n"
        "  rvqvae clean photos --out cleaned --copy    # copies what is kept to cleaned/clean\n"
        "  rvqvae clean photos --out cleaned --contamination 0.05\n"
        "  rvqvae clean photos --out cleaned --dry-run\n"
        "  rvqvae clean photos --out final --manifest reviewed.csv --copy",
        _clean_arguments,
    ),
    "train": Command(
        "train a model on images of which some do not belong",
        "Train a model on images of which some do not belong, and save it as the folder OUT.\n\n"
        "  rvqvae train photos --out model\n"
        "  rvqvae train photos.zip --out model --size 64 --contamination 0.1",
        _train_arguments,
    ),
    "score": Command(
        "score new images with a model",
        "Score new images: a table with path, status, score, outlier_probability, is_outlier and reason.\n\n"
        "A higher score is more normal. Scores do not depend on the seed.\n\n"
        "  rvqvae score cleaned/model new --out scores.csv\n"
        "  rvqvae score cleaned/model new.zip --out scores.csv --maps maps",
        _score_arguments,
    ),
    "search": Command(
        "find the images that are most like some",
        "Find the images in IMAGES that are most like QUERY, nearest first, as the model compares them.\n\n"
        "The table has query, rank, path, distance and near_duplicate. A query is no match of itself.\n\n"
        "  rvqvae search cleaned/model photos/odd.png photos\n"
        "  rvqvae search cleaned/model odd photos -k 20 --out matches.csv --picture matches.png",
        _search_arguments,
    ),
    "sample": Command(
        "make new images of the inliers only",
        "Make new images of the inliers only: PNGs, and all of them as grid.png.\n\n"
        "  rvqvae sample cleaned/model -n 64 --out samples",
        _sample_arguments,
    ),
    "evaluate": Command(
        "measure a model against images whose kind is known",
        "Measure a model's samples against clean images, and its scores against known outliers.\n\n"
        "Distances are between features of EfficientNet-Lite0, so they are not FID and KID.\n\n"
        "  rvqvae evaluate model --reference clean_test --out metrics.json\n"
        "  rvqvae evaluate model --reference clean_test --outliers others --out metrics.json",
        _evaluate_arguments,
    ),
    "cluster": Command(
        "sort images into groups that look alike",
        "Sort images into groups that look alike, without labels, to look through them group by group.\n\n"
        "Writes OUT/clusters.csv (every file found), clusters.png (a row of each), clusters/NN.png and\n"
        "summary.json. Cluster 0 is the largest. Images are compared by their pixels, features of\n"
        "EfficientNet-Lite0 and style.\n\n"
        "  rvqvae cluster photos --out groups\n"
        "  rvqvae cluster photos.zip --out groups --clusters 10",
        _cluster_arguments,
    ),
    "contaminate": Command(
        "make a dirty folder on purpose",
        "Mix outliers into inliers: a folder of PNGs, with truth.csv (path, is_outlier, source) in it.\n\n"
        "  rvqvae contaminate digits clothes --rate 0.2 --out dirty",
        _contaminate_arguments,
    ),
}
