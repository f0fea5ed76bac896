"""Flags from the signature of a command's function; YAML files may give them too.

A parameter without a default is positional, unless it is ``out`` or keyword-only. A parameter whose default
is a dataclass stands for the fields of that. The docstring is the help; `DESCRIBED` tells what it leaves out.
"""

from __future__ import annotations

import inspect
import re
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from docstring_parser import parse_from_object
from jsonargparse import (
    ArgumentError,
    ArgumentParser,
    DefaultHelpFormatter,
    get_loader,
    set_loader,
    set_parsing_settings,
)
from yaml import AliasToken, YAMLError, scan

from rvqvae.commands import COMMANDS
from rvqvae.commands.options import FitOptions
from rvqvae.errors import InputError

YAML = "yaml_or_dashes"  # jsonargparse's name for `_load`
COMPLETION = "--print_completion"
"""jsonargparse's flag that prints what a shell completes, with the extra ``completion``."""
LONG = {"n": "number", "k": "neighbors"}
"""Parameters of one letter, as a long flag."""
GIVEN = ("progress", "command")
"""Parameters that are no flags: `main` gives them."""
DESCRIBED = {
    "images": "a folder (with its subfolders), a .zip, or a .npz with an array x",
    "model": "folder of a model",
} | {param.arg_name: param.description or "" for param in parse_from_object(FitOptions).params}
"""Parameters that mean the same wherever they occur."""


class Flag(NamedTuple):
    """A parameter of a command's function, or a field of one that is a dataclass."""

    name: str
    type: Any
    default: Any
    """`inspect.Parameter.empty` for what is required."""
    positional: bool = False

    @property
    def key(self) -> str:
        """Its name in YAML and among the parsed values."""
        return LONG.get(self.name, self.name)


class Call(NamedTuple):
    """What was typed."""

    command: str
    values: dict[str, Any]
    """Of the parameters of its function."""
    json: bool
    """Whether the result is wanted as JSON."""
    quiet: bool


OUTPUT_FLAGS = {
    "json": "print what was done as one line of JSON",
    "quiet": "print nothing but errors",
    "verbose": "print where an error comes from",
}
"""Flags of every command, about what is printed."""


class _Formatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Types and defaults, and descriptions with their own lines."""


def function_of(command: str) -> Callable[..., Any]:
    """The function that is a command."""
    function: Callable[..., Any] = getattr(import_module(f"rvqvae.commands.{command}"), command)
    return function


def parse(arguments: list[str]) -> Call:
    """The command and the arguments of its function; InputError for whatever is wrong with them."""
    if not arguments:
        raise InputError(f"give a command, one of {', '.join(COMMANDS)}: see --help")
    set_loader(YAML, _load, exceptions=(YAMLError,))
    if completing := arguments[0].startswith(COMPLETION):
        set_parsing_settings(add_print_completion_argument=True)
    parser = _parser("Learn what the majority of a dirty image set looks like: clean it, sample, score.")
    parser.prog = "rvqvae"
    parser.add_argument("--version", action="version", version=f"rvqvae {version('rvqvae')}")
    commands = parser.add_subcommands(required=True)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    for name, help in COMMANDS.items():
        # Only the chosen one is imported.
        full = name == chosen or completing
        commands.add_subcommand(name, _command_parser(name) if full else _parser(), help=help)
    try:
        values = parser.parse_args(arguments)
    except ArgumentError as error:
        raise _plain(error) from error
    except UnicodeDecodeError as error:
        raise InputError(f"--config is not UTF-8 text ({error}): save it as such") from error
    given = values[values.subcommand]
    if given.json and given.quiet:
        raise InputError("--json and --quiet exclude each other: give one of them")
    arguments_of = _arguments(function_of(values.subcommand), given)
    return Call(values.subcommand, arguments_of, given.json, given.quiet)


def _parser(description: str = "") -> ArgumentParser:
    return ArgumentParser(
        description=description,
        formatter_class=_Formatter,
        parser_mode=YAML,
        exit_on_error=False,
    )


def _command_parser(command: str) -> ArgumentParser:
    function = function_of(command)
    parser = _parser(inspect.cleandoc(function.__doc__ or "").partition("\nArgs:")[0])
    parser.add_argument(
        "--config", action="config", metavar="YAML", help="file with some of the values below"
    )
    for name, help in OUTPUT_FLAGS.items():
        parser.add_argument(f"--{name}", action="store_true", help=help)
    described = {param.arg_name: param.description for param in parse_from_object(function).params}
    for flag in _flags(function):
        help = described.get(flag.name) or DESCRIBED[flag.name]
        names = [f"-{flag.name}"] if flag.name in LONG else []
        names.append(f"--{flag.key.replace('_', '-')}")
        if flag.positional:
            parser.add_argument(flag.key, type=flag.type, help=help)
        elif flag.type is bool:
            parser.add_argument(*names, action="store_true", help=help)
        elif flag.default is inspect.Parameter.empty:
            parser.add_argument(*names, type=flag.type, required=True, help=help)
        else:
            parser.add_argument(*names, type=flag.type, default=flag.default, help=help)
    return parser


def _flags(function: Callable[..., Any]) -> Iterator[Flag]:
    """The function's own parameters, then the fields of those that are dataclasses."""
    parameters = inspect.signature(function).parameters
    # Not what it returns, whose type may wait for an import.
    own = SimpleNamespace(__annotations__={name: one.annotation for name, one in parameters.items()})
    types = get_type_hints(own, function.__globals__)
    for name, parameter in parameters.items():
        if name not in (*GIVEN, *_dataclasses(function)):
            required = parameter.default is inspect.Parameter.empty
            positional = required and parameter.kind is not inspect.Parameter.KEYWORD_ONLY and name != "out"
            yield Flag(name, _without_path(types[name]), parameter.default, positional)
    for kind in _dataclasses(function).values():
        types = get_type_hints(kind)
        yield from (Flag(field.name, types[field.name], field.default) for field in fields(kind))


def _dataclasses(function: Callable[..., Any]) -> dict[str, Any]:
    """The parameters that stand for several flags, and what they are made of."""
    parameters = inspect.signature(function).parameters.values()
    return {one.name: type(one.default) for one in parameters if is_dataclass(one.default)}


def _without_path(hint: Any) -> Any:
    """Of ``str | Path``, a function takes either; a flag is text."""
    if get_origin(hint) not in (Union, UnionType):
        return hint
    return Union[tuple(kind for kind in get_args(hint) if kind is not Path)]  # noqa: UP007


def _arguments(function: Callable[..., Any], values: Any) -> dict[str, Any]:
    """Parsed values as the function takes them; InputError for an empty one, or what a dataclass refuses."""
    given: dict[str, Any] = {}
    for flag in _flags(function):
        given[flag.name] = values[flag.key]
        if given[flag.name] is None and flag.default is not None:  # In YAML, a name with nothing behind it.
            raise InputError(f"{flag.key.replace('_', '-')} is empty: give a value, or leave it out")
    for name, kind in _dataclasses(function).items():
        given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
    return given


def _load(text: str) -> Any:
    """YAML whose names are spelled as the flags are, with or without dashes."""
    if any(isinstance(token, AliasToken) for token in scan(text)):  # A few unfold to more than the memory.
        raise YAMLError("aliases are not followed: write the value itself")
    values = get_loader("yaml")(text)
    if isinstance(values, dict):
        return {str(name).replace("-", "_"): value for name, value in values.items()}
    return values


def _plain(error: ArgumentError) -> InputError:
    """The message of jsonargparse, without its types."""
    message = str(error)
    key = re.search(r'Parser key "(.+?)":', message)
    value = re.search(r"(?:Given|Got) value: (.*)", message)
    if key and value:
        message = f"--{key[1].split('.')[-1].replace('_', '-')} cannot be {value[1]!r}"
        if choices := re.search(r"Expected a typing.Literal\[(.*?)\]\. Got", str(error)):
            message += f", but one of {choices[1]}"
    commands = "|".join(COMMANDS)  # They stand in front of the names of required values.
    return InputError(re.sub(rf"\b({commands})\.", "", message) + ": see --help")
