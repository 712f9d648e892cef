"""Command lines: a parser whose errors are one line and that reads `--config FILE`, and flags made from dataclasses.

    parser = Parser(prog, __doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    add_flags(parser, Options)                   # a flag for each field of a dataclass
    arguments = parser.parse_args(argv)
    options = Options(**given_flags(arguments, Options))

A field `name: Annotated[type, msgspec.Meta(description=..., ge=...)]` becomes `--name`; `extra` of its Meta may hold
another name (`flag`) and a `metavar`. A flag that is not given is None in the parsed arguments.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from dyneval.errors import DataFileError, nearest, without_secrets


class Parser(argparse.ArgumentParser):
    """argparse with our manners.

    A wrong command line is one line with the flag or value that is nearest to the wrong one, and status 2. `--config`
    names a TOML or JSON file with values of flags by their names; flags on the command line win over it. Of a parser
    with verbs, the verbs take it (`config=False` for itself), and what is resolved and given is that of the verb too.
    """

    def __init__(self, prog: str | None = None, description: str | None = None, **options: Any) -> None:
        """Takes the options of argparse.ArgumentParser."""
        self.has_config = options.pop("config", True)
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(prog, description=description, **options)
        self.resolved: dict[str, Any] = {}
        """After `parse_args`: the value of every flag, by its name, fit for JSON and for others to read."""
        self.given: set[str] = set()
        """After `parse_args`: the flags that the command line or `--config` gives, by their names in what is parsed."""
        if self.has_config:
            text = "TOML or JSON file with values of these flags, such as limit = 10; flags given here win"
            self.add_argument("--config", action=_ReadBefore, metavar="FILE", help=text)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse, with the values of `--config` behind those of the command line.

        A flag that is not known is told before one that is missing.
        """
        argv = list(sys.argv[1:] if args is None else args)
        if not self._verbs():  # else it is for the verb to say
            self._refuse_unknown(argv)
            argv = self.with_config(argv)
            self.given = {action.dest for action in self._given(argv)}
        parsed, rest = super().parse_known_args(argv, namespace)
        self.resolved = {self._name(one): _plain(self._value(one, parsed)) for one in self._actions if self._holds(one)}
        for verb in self._verbs():
            self.resolved |= verb.resolved  # of those that did not run there is nothing
            self.given |= verb.given
        return parsed, rest

    def error(self, message: str) -> Any:
        """Say in one line what is wrong with the command line, and end with status 2."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")

    def read_config(self, argv: Sequence[str] | None) -> dict[str, Any]:
        """What the file says that `--config` names; {} without one."""
        early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        early.add_argument("--config", nargs="?")
        path = early.parse_known_args(_flag_part(sys.argv[1:] if argv is None else argv))[0].config
        if not (path and self.has_config):
            return {}
        try:
            return {name.replace("_", "-"): value for name, value in _table(Path(path)).items()}
        except (DataFileError, OSError) as error:
            return self.error(f"--config {error}")

    # -----------------------------------------------------------------------------------------------------------------

    def _verbs(self) -> list[Parser]:
        found = [one.choices.values() for one in self._actions if isinstance(one, argparse._SubParsersAction)]
        return [verb for verbs in found for verb in verbs]

    def _refuse_unknown(self, argv: Sequence[str]) -> None:
        for token in _flag_part(argv):
            name = token.partition("=")[0]
            is_flag = len(name) > 1 and name[0] == "-" and not name[1].isdigit() and name[1] != "." and " " not in token
            if is_flag and not any(option.startswith(name) for option in self._option_string_actions):
                long = f"--{name.lstrip('-')}"
                self.error(f"{name} is no flag of {self.prog}{self._hint(long, self._option_string_actions)}")

    def _hint(self, wrong: str, known: Iterable[str]) -> str:
        near = nearest(wrong, known)
        return f"; did you mean {near}?" if near else f"; {self.prog} --help lists what there is"

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        """The flags that a beginning may mean; argparse takes two spellings of one flag for two."""
        found = super()._get_option_tuples(option_string)
        return found[:1] if len({one[0] for one in found}) == 1 else found

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Say which choice is nearest; argparse calls it for flags with choices and for verbs."""
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            near = nearest(str(value), known)
            hint = f"; did you mean {near}?" if near else ""
            raise argparse.ArgumentError(action, f"{value!r} is none of {', '.join(known)}{hint}")

    def with_config(self, argv: Sequence[str] | None) -> list[str]:
        """The command line with the values of `--config` behind its own flags."""
        argv = list(sys.argv[1:] if argv is None else argv)
        values = self.read_config(argv)
        if not values:
            return argv
        flags = _flag_part(argv)
        given = self._given(argv)
        for group in self._mutually_exclusive_groups:
            if given.intersection(group._group_actions):
                given.update(group._group_actions)
        given_names = {action.dest for action in given}
        words = []
        for name, value in values.items():
            action = self._option_string_actions.get(f"--{name}") or self._option_string_actions.get(
                f"--{name.replace('-', '_')}"
            )
            if action is None:
                known = [option[2:] for option in self._option_string_actions]
                return self.error(f"--config: {name!r} is no flag of {self.prog}{self._hint(name, known)}")
            if action.dest not in given_names:
                words += self._words(action, name, value)
        return [*flags, *words, *argv[len(flags) :]]

    def _given(self, argv: Sequence[str]) -> set[argparse.Action]:
        return {action for token in _flag_part(argv) if token.startswith("--") for action in self._meant(token)}

    def _meant(self, token: str) -> list[argparse.Action]:
        name = token.partition("=")[0]
        if name in self._option_string_actions:
            return [self._option_string_actions[name]]
        return [action for option, action in self._option_string_actions.items() if option.startswith(name)]

    def _words(self, action: argparse.Action, name: str, value: Any) -> list[str]:
        """A value of the file as one would write it on the command line."""
        flag = action.option_strings[0]
        if action.nargs == 0:
            if not isinstance(value, bool):
                self.error(f"--config: {name} = {value!r}: expected true or false")
            if isinstance(action, argparse.BooleanOptionalAction):
                return [flag if value else f"--no-{flag[2:]}"]
            return [flag] if value else []
        if value is None:
            return []
        if not isinstance(value, list):
            return [f"{flag}={value}"]
        if action.nargs is None:
            return [f"{flag}={one}" for one in value]
        return [flag, *map(str, value)]

    def _holds(self, action: argparse.Action) -> bool:
        """True for what has a value that the run depends on."""
        return action.dest not in ("help", "config", argparse.SUPPRESS)

    def _name(self, action: argparse.Action) -> str:
        return action.option_strings[0].lstrip("-") if action.option_strings else action.dest

    def _value(self, action: argparse.Action, parsed: Any) -> Any:
        value = getattr(parsed, action.dest, None)
        return value == action.const if isinstance(action, argparse._StoreConstAction) else value


class _ReadBefore(argparse.Action):
    """The flag `--config`, whose file is read before the rest: it leaves nothing in what is parsed."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, default=argparse.SUPPRESS, **options)

    def __call__(self, *_: Any) -> None:
        """Nothing is left to do."""


def positive(text: str) -> int:
    """A whole number of 1 or more, as the type of an argument."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, found {text!r}")
    return int(text)


def _flag_part(argv: Sequence[str]) -> list[str]:
    """What stands before `--`, behind which nothing is a flag."""
    return list(argv[: list(argv).index("--")]) if "--" in argv else list(argv)


def _table(path: Path) -> dict[str, Any]:
    """A TOML or JSON file that holds an object. Raises DataFileError, which begins with the path, or OSError."""
    import tomllib

    kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
    try:
        text = path.read_text("utf-8-sig")
        value = json.loads(text) if kind == "JSON" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataFileError(f"{path}: is not {kind} ({error})") from None
    if not isinstance(value, dict):
        raise DataFileError(f"{path}: expected flags with their values")
    for name, one in value.items():
        if isinstance(one, dict) or (isinstance(one, list) and any(isinstance(part, dict | list) for part in one)):
            raise DataFileError(f"{path}: {name}: expected a text, a number, true or false, or a list of those")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, int | float | bool):
        return value
    return without_secrets(str(value))


# ---------------------------------------------------------------------------------------------------------------------
# Flags of a dataclass


@dataclass(frozen=True, slots=True)
class Flag:
    """The flag of a field. `extra` of its Meta may hold another name (`flag`) and a `metavar`."""

    option: str
    type: Any
    default: Any
    meta: msgspec.Meta

    @property
    def name(self) -> str:
        """As it is written: --max-text."""
        return "--" + str((self.meta.extra or {}).get("flag", self.option)).replace("_", "-")

    @property
    def key(self) -> str:
        """Its name in the parsed arguments."""
        return self.name[2:].replace("-", "_")

    def add_to(self, parser: argparse._ActionsContainer, whose: str = "") -> None:
        """Add the flag; None in the parsed arguments will mean that it was not given."""
        default = "" if self.default in (MISSING, None, ()) else f"; default: {_as_text(self.default)}"
        text = f"{self.meta.description or ''}{default}{whose}".replace("%", "%%")
        kind: Any = get_args(self.type)[0] if get_origin(self.type) is Annotated else self.type
        options: dict[str, Any] = {"type": _converter(self.type), "metavar": (self.meta.extra or {}).get("metavar")}
        if kind is bool:
            options = {"action": argparse.BooleanOptionalAction}
        elif get_origin(kind) is Literal:
            options = {"choices": get_args(kind)}
        elif get_origin(kind) is tuple:
            options |= {"action": "append", "type": _converter(get_args(kind)[0])}
        parser.add_argument(self.name, dest=self.key, default=None, help=text, **options)


@cache
def flags_of(options: Any, names: tuple[str, ...] | None = None) -> tuple[Flag, ...]:
    """The flags of a dataclass; `names`: of these fields, in this order (None: of all). None has none."""
    if options is None:
        return ()
    hints = get_type_hints(options, include_extras=True)
    defaults = {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(options)
    }
    found = []
    for option in tuple(defaults) if names is None else names:
        metas = [meta for meta in getattr(hints[option], "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
        found.append(Flag(option, hints[option], defaults[option], metas[0] if metas else msgspec.Meta()))
    return tuple(found)


def add_flags(parser: argparse._ActionsContainer, options: Any, names: tuple[str, ...] | None = None) -> None:
    """Add the flags of a dataclass, see `flags_of`."""
    for flag in flags_of(options, names):
        flag.add_to(parser)


def given_flags(arguments: Any, options: Any, names: tuple[str, ...] | None = None) -> Mapping[str, Any]:
    """Values of the fields whose flags were given."""
    found = {flag.option: getattr(arguments, flag.key) for flag in flags_of(options, names)}
    return {option: value for option, value in found.items() if value is not None}


def _converter(kind: Any) -> Callable[[str], Any]:
    """What turns the text of a flag into a value of type `kind`, within the bounds that it may have."""

    def convert(text: str) -> Any:
        try:
            return msgspec.convert(text, kind, strict=False)
        except msgspec.ValidationError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {str(error)[:1].lower()}{str(error)[1:]}") from None

    return convert


def _as_text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
