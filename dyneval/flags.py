"""Command lines: a parser whose errors are one line and that reads `--config FILE`, and flags made from dataclasses.

    from dataclasses import dataclass
    from pathlib import Path
    from typing import Annotated
    from dyneval.flags import Parser, arg

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Options:
        output: Annotated[Path, arg("folder to write")]
        limit: Annotated[int | None, arg("only so many rows", ge=1)] = None

    options = Parser("my-program").parse_options(Options, ["--output", "folder", "--limit", "10"])
    assert options.limit == 10

A field is a flag with its type, bounds, default and help text, see `arg`; one without a default must be given. A field
whose type is such a dataclass adds its flags. Rules over several fields stand in `__post_init__`: a SettingError there
is a wrong command line. All verbs of `dyneval` have their flags from here, so a flag is described, checked and recorded
in one way.
"""

from __future__ import annotations

import argparse
import json
import math
import operator
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from dyneval.errors import DataFileError, SettingError, UserError, nearest, without_secrets

T = TypeVar("T")


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line and a file of settings.

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
            # The file is read before the rest is parsed, so the flag leaves nothing in what is parsed.
            self.add_argument("--config", action=_ReadBefore, default=argparse.SUPPRESS, metavar="FILE", help=text)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse, with the values of `--config` behind those of the command line.

        A flag that is not known is told before one that is missing.
        """
        argv = list(sys.argv[1:] if args is None else args)
        # With verbs, the flags behind one are its own: it reads them, and says what is wrong with them.
        if not self._verbs():
            self._refuse_unknown(argv)
            argv = self.with_config(argv)
            given = self._given(argv)
            self.given = {action.dest for action in given}
            for action in given:
                # An argument that is named by its flag is not looked for in its place too.
                if place := getattr(action, "place", None):
                    self._remove_action(place)
        parsed, rest = super().parse_known_args(argv, namespace)
        # Every flag, also those that were not given: a summary must say what a default was when the run was made.
        self.resolved = {}
        for action in self._actions:
            # A second flag of the same value, such as --no-NAME, would stand there twice.
            if action.dest in ("help", "config", argparse.SUPPRESS) or getattr(action, "is_second", False):
                continue
            value = getattr(parsed, action.dest, None)
            if isinstance(action, argparse._StoreConstAction):
                value = value == action.const
            name = action.option_strings[0].lstrip("-") if action.option_strings else action.dest
            self.resolved[name] = _plain(value)
        for verb in self._verbs():
            # A verb that did not run has resolved nothing.
            self.resolved |= verb.resolved
            self.given |= verb.given
        return parsed, rest

    def parse_options(self, options: type[T], argv: Sequence[str] | None = None) -> T:
        """Add the flags of a dataclass, parse a command line and return what it says.

        Args:
            options: the dataclass.
            argv: words of the command line; None: those of this process.

        Returns:
            An instance of it. A wrong command line ends the program with one line and status 2.
        """
        add_flags(self, options)
        for part in _parts(options):
            part.add_named(self, argv)
        return self.read_options(self.parse_args(argv), options)

    def read_options(self, arguments: argparse.Namespace, options: type[T]) -> T:
        """The dataclass whose flags were parsed; a SettingError of it ends the program as a wrong flag does."""
        try:
            found = options(**given_flags(arguments, options))
        except SettingError as error:
            return self.error(str(error))
        self.resolved |= _resolved(found)
        return found

    def early(self, flag: str, argv: Sequence[str] | None = None) -> str | None:
        """The value of a flag that others depend on, before those are known; of `--config` too.

        Args:
            flag: as it is written, with its dashes; not abbreviated.
            argv: as of `parse_options`.

        Returns:
            Its text; None where neither the command line nor the file names it.
        """
        found = _value_of(flag, argv) or self.read_config(argv).get(flag[2:])
        return None if found is None else str(found)

    def error(self, message: str) -> Any:
        """Say in one line what is wrong with the command line, and end with status 2."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")

    def read_config(self, argv: Sequence[str] | None) -> dict[str, Any]:
        """The values in the file that `--config` names, by flag without the dashes in front; {} without that flag.

        A file that cannot be read, or holds something else than flags, ends the program with one line and status 2.
        """
        path = _value_of("--config", argv)
        if not (path and self.has_config):
            return {}
        import tomllib

        file = Path(path)
        kind = "JSON" if file.suffix.lower() == ".json" else "TOML"
        try:
            # Editors on Windows write a byte order mark, which neither reader takes.
            text = file.read_text("utf-8-sig")
            values = json.loads(text) if kind == "JSON" else tomllib.loads(text)
        except OSError as error:
            return self.error(f"--config {error}")
        except (ValueError, RecursionError) as error:
            return self.error(f"--config {file}: is not {kind} ({error})")
        if not isinstance(values, dict):
            return self.error(f"--config {file}: expected flags with their values")
        for name, value in values.items():
            if any(isinstance(one, dict | list) for one in (value if isinstance(value, list) else [value])):
                expected = "expected a text, a number, true or false, or a list of those"
                return self.error(f"--config {file}: {name}: {expected}")
        return {name.replace("_", "-"): value for name, value in values.items()}

    # -----------------------------------------------------------------------------------------------------------------

    def _verbs(self) -> list[Parser]:
        found = [one.choices.values() for one in self._actions if isinstance(one, argparse._SubParsersAction)]
        return [verb for verbs in found for verb in verbs]

    def _refuse_unknown(self, argv: Sequence[str]) -> None:
        for token in _flag_part(argv):
            name = token.partition("=")[0]
            # -1 and -.5 are numbers, and a text with a blank is a value, such as a prompt that begins with a dash.
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
        """The command line with the values of `--config` behind its own flags.

        A name in the file that is no flag ends the program, with the nearest one that is.
        """
        argv = list(sys.argv[1:] if argv is None else argv)
        values = self.read_config(argv)
        if not values:
            return argv
        flags = _flag_part(argv)
        given = self._given(argv)
        # A flag of the command line also wins over another one of the file that excludes it.
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
        # Before `--`, behind which nothing is a flag.
        return [*flags, *words, *argv[len(flags) :]]

    def _given(self, argv: Sequence[str]) -> set[argparse.Action]:
        """The flags that a command line names, also by their beginnings, as argparse takes them."""
        found: set[argparse.Action] = set()
        for token in _flag_part(argv):
            name = token.partition("=")[0]
            if not name.startswith("--"):
                continue
            if name in self._option_string_actions:
                found.add(self._option_string_actions[name])
            else:
                options = self._option_string_actions.items()
                found |= {action for option, action in options if option.startswith(name)}
        return found

    def _words(self, action: argparse.Action, name: str, value: Any) -> list[str]:
        """A value of the file as one would write it on the command line."""
        flag = action.option_strings[0]
        if action.nargs == 0:
            if not isinstance(value, bool):
                self.error(f"--config: {name} = {value!r}: expected true or false")
            other = f"--{flag[5:]}" if flag.startswith("--no-") else f"--no-{flag[2:]}"
            is_pair = isinstance(self._option_string_actions.get(other), argparse._StoreConstAction)
            return [flag] if value else [other] if is_pair else []
        if value is None:
            return []
        if any(isinstance(one, bool) for one in (value if isinstance(value, list) else [value])):
            self.error(f"--config: {name} = {value!r}: expected a text or a number")
        if not isinstance(value, list):
            return [f"{flag}={value}"]
        if action.nargs not in (None, "?"):
            return [flag, *map(str, value)]
        if isinstance(action, argparse._AppendAction):
            return [f"{flag}={one}" for one in value]
        if isinstance(action, _BetweenCommas):
            return [f"{flag}={','.join(map(str, value))}"]
        return self.error(f"--config: {name} = {value!r}: expected one value")


class _BetweenCommas(argparse._StoreAction):
    """A flag whose text has several values, with commas between them."""


class _ReadBefore(argparse.Action):
    """The flag `--config`, see `Parser.read_config`."""

    def __call__(self, *_: Any) -> None:
        """Nothing is left to do."""


def _value_of(flag: str, argv: Sequence[str] | None) -> str | None:
    # Without abbreviations: at this point nobody knows which other flags there are.
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(flag, nargs="?", dest="value")
    found: str | None = parser.parse_known_args(_flag_part(sys.argv[1:] if argv is None else argv))[0].value
    return found


def _flag_part(argv: Sequence[str]) -> list[str]:
    """The words before `--`; no word behind it is a flag."""
    return list(argv[: list(argv).index("--")]) if "--" in argv else list(argv)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if value is None or isinstance(value, int | float | bool):
        return value
    # `Path` makes one slash of the two of an address of the Hub, see files/hub.py.
    return without_secrets(re.sub(r"^hf:/(?!/)", "hf://", str(value)))


# ---------------------------------------------------------------------------------------------------------------------
# Flags of a dataclass

_BOUNDS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "ge": (operator.ge, "of {:g} or more"),
    "gt": (operator.gt, "above {:g}"),
    "le": (operator.le, "at most {:g}"),
}
# What --no-NAME leaves in the parsed arguments: the value is None, where None itself means that no flag was given.
_OFF = object()


def arg(description: str, **how: Any) -> Any:
    """Say what a flag is beside the name, type and default of its field.

    Args:
        description: the help text, without the default; of a field that is a dataclass, the heading of its flags.
        how: `ge`, `gt`, `le`: bounds of a number. `metavar`, `choices`, `nargs`, `const`: as in argparse. `flag`:
            another name of the flag, `also`: a second one. `parse`: makes the value from the text, or raises
            UserError; `split=True`: for each part between commas. `position=True`: an argument named by its place, or
            by its flag. `off`: help text of `--no-NAME`, which makes the value None. `either=True`: a command line has
            at most one of these flags. `heading`: of this flag and those behind it. `part`: what adds flags of its own,
            see `FlagGroup`. `written=True`: a path that is written to under another name than --output, see
            `files/hub.py`. `folder`: a folder that must be there, see `refuse_missing_folders`; the value is True, or
            what writes it.
    """
    bounds = {name: how.pop(name) for name in _BOUNDS if name in how}
    return msgspec.Meta(description=description, extra=how, **bounds)


class FlagGroup(Protocol):
    """Adds several flags for one field and makes its value of them, such as the engines of a registry."""

    def add_to(self, parser: Parser, group: argparse._ActionsContainer, description: str) -> None:
        """Add the flags."""

    def add_named(self, parser: Parser, argv: Sequence[str] | None) -> None:
        """Add the flags that depend on what the command line says; ends the program where it is wrong."""

    def read(self, arguments: argparse.Namespace) -> Any:
        """The value of the field. Raises SettingError."""


@dataclass(frozen=True, slots=True)
class Flag:
    """The flag of a field: its name there, type, default, description and bounds, and `how`, as `arg` took it."""

    option: str
    type: Any
    default: Any
    meta: msgspec.Meta
    how: Mapping[str, Any]

    @property
    def name(self) -> str:
        """As it is written: --max-text."""
        return "--" + str(self.how.get("flag", self.option)).replace("_", "-")

    @property
    def key(self) -> str:
        """Its name in the parsed arguments."""
        return self.name[2:].replace("-", "_")

    @property
    def is_group(self) -> bool:
        """True of a dataclass whose fields are flags themselves."""
        return is_dataclass(_bare(self.type)) and "parse" not in self.how and "part" not in self.how

    def add_to(self, parser: argparse._ActionsContainer, required: bool = False) -> None:
        """Add the flag; None in the parsed arguments will mean that it was not given."""
        kind, how = _bare(self.type), self.how
        is_said = self.default is not False and self.default not in (MISSING, None, (), {})
        default = f"; default: {_as_text(self.default)}" if is_said else ""
        text = f"{self.meta.description or ''}{default}".replace("%", "%%")
        names = (self.name, *([how["also"]] if "also" in how else []))
        if kind is bool:
            for value in (True, False) if "either" not in how else (True,):
                name = self.name if value else f"--no-{self.name[2:]}"
                hint = argparse.SUPPRESS if value is self.default else text
                one = parser.add_argument(name, dest=self.key, action="store_const", const=value, help=hint)
                one.is_second = not value  # type: ignore[attr-defined]
            return
        element = _bare(get_args(kind)[0]) if _collection(kind) is tuple else kind
        options = {name: how[name] for name in ("metavar", "choices", "nargs", "const") if name in how}
        options["type"] = partial(_converted, base=element, meta=self.meta, parse=how.get("parse"))
        if "split" in how:
            convert = options["type"]
            options["type"] = lambda text: tuple(convert(part) for part in text.split(",") if part)
            options["action"] = _BetweenCommas
        if get_origin(element) is Literal:
            options.setdefault("choices", get_args(element))
        once = dict(options)
        is_repeated = bool(_collection(kind)) and "nargs" not in options and "split" not in how
        if is_repeated:
            once["action"] = "append"
        if "position" not in how:
            parser.add_argument(*names, dest=self.key, required=required, help=text, **once)
        else:
            if is_repeated or not required:
                options["nargs"] = ("+" if required else "*") if is_repeated else "?"
            place = parser.add_argument(self.key, default=None, help=text, **options)
            twin = parser.add_argument(*names, dest=self.key, help=argparse.SUPPRESS, **once)
            twin.place, place.is_second = place, True  # type: ignore[attr-defined]
        if "off" in how:
            off = f"--no-{self.name[2:]}"
            one = parser.add_argument(off, dest=self.key, action="store_const", const=_OFF, help=how["off"])
            one.is_second = True  # type: ignore[attr-defined]


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
        meta = metas[0] if metas else msgspec.Meta()
        found.append(Flag(option, hints[option], defaults[option], meta, meta.extra or {}))
    return tuple(found)


def add_flags(parser: argparse.ArgumentParser, options: Any, group: argparse._ActionsContainer | None = None) -> None:
    """Add the flags of a dataclass: of those fields that `arg` or another Meta describes.

    Args:
        parser: gets them.
        options: the dataclass, or one of its instances, whose values are the defaults.
        group: what they stand under in the help text, where no heading is given.
    """
    group = group or parser
    exclusive = None
    for flag in _described(options):
        if "heading" in flag.how:
            group = parser.add_argument_group(flag.how["heading"]) if flag.how["heading"] else parser
        if flag.is_group:
            heading = flag.meta.description
            add_flags(parser, flag.default, parser.add_argument_group(heading) if heading else group)
        elif "part" in flag.how:
            flag.how["part"].add_to(parser, group, flag.meta.description or "")
        elif "either" in flag.how:
            exclusive = exclusive or group.add_mutually_exclusive_group()
            flag.add_to(exclusive)
        else:
            flag.add_to(group, required=flag.default is MISSING)


def given_flags(arguments: Any, options: Any) -> Mapping[str, Any]:
    """Values of the fields whose flags were given; `options` as `add_flags` takes it.

    Raises:
        SettingError: a part (`FlagGroup`) refuses its flags, or a dataclass in a field its values.
    """
    found: dict[str, Any] = {}
    for flag in _described(options):
        if flag.is_group:
            found[flag.option] = replace(flag.default, **given_flags(arguments, flag.default))
        elif "part" in flag.how:
            found[flag.option] = flag.how["part"].read(arguments)
        elif (value := getattr(arguments, flag.key)) not in (None, []):
            collection = _collection(_bare(flag.type)) if isinstance(value, list) else None
            found[flag.option] = None if value is _OFF else collection(value) if collection else value
    return found


def refuse_missing_folders(options: Any) -> None:
    """Look for the folders that options say must be there, before any work. Raises DataFileError: one is not there."""
    for flag in _described(options):
        if flag.is_group:
            refuse_missing_folders(flag.default)
        elif (wanted := flag.how.get("folder")) and flag.default is not None and not Path(flag.default).is_dir():
            found = "is a file, expected a folder" if Path(flag.default).exists() else "no such folder"
            hint = "" if wanted is True else f"; {wanted}"
            raise DataFileError(f"{flag.name} {flag.default}: {found}{hint}")


def _described(options: Any) -> list[Flag]:
    """The flags of a dataclass that is a command line; of an instance, with its values as defaults."""
    kind: Any = options if isinstance(options, type) else type(options)
    flags = [flag for flag in flags_of(kind) if flag.meta.description is not None]
    return flags if kind is options else [replace(flag, default=getattr(options, flag.option)) for flag in flags]


def _resolved(options: Any) -> dict[str, Any]:
    """The values of a dataclass by the names of its flags."""
    found: dict[str, Any] = {}
    for flag in _described(options):
        if flag.is_group:
            found |= _resolved(flag.default)
        elif "part" not in flag.how:
            found[flag.name[2:]] = _plain(flag.default)
    return found


def _parts(options: Any) -> list[FlagGroup]:
    """The groups of flags in a dataclass of options, also in fields that are dataclasses."""
    found: list[FlagGroup] = []
    for flag in _described(options):
        found += _parts(_bare(flag.type)) if flag.is_group else [flag.how["part"]] if "part" in flag.how else []
    return found


def _collection(kind: Any) -> type | None:
    """The type that collects the values of a repeated flag, tuple or dict; None for any other flag."""
    if get_origin(kind) is tuple:
        return tuple
    return dict if get_origin(kind) in (dict, Mapping) else None


def _bare(kind: Any) -> Any:
    """A type without its bounds and without None."""
    while True:
        some = [one for one in get_args(kind) if one is not type(None)]
        if get_origin(kind) is Annotated or (get_origin(kind) in (Union, UnionType) and len(some) == 1):
            kind = some[0]
        else:
            return kind


def _converted(text: str, base: Any, meta: msgspec.Meta, parse: Callable[[str], Any] | None) -> Any:
    """A value of type `base` from the text of a flag.

    Raises:
        argparse.ArgumentTypeError: there is none, or it is outside of the bounds in `meta`.
    """
    if get_origin(base) is Literal:
        # The parser checks that the text is one of the choices.
        base = type(get_args(base)[0])
    if parse is None and base not in (int, float):
        return base(text)
    try:
        value = base(text) if parse is None else parse(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    except ValueError:
        value = math.nan
    bounds = [(getattr(meta, name), *how) for name, how in _BOUNDS.items() if getattr(meta, name) is not None]
    # `nan` is a number to float(), but no value of a flag.
    if value != value or not all(holds(value, bound) for bound, holds, _ in bounds):
        said = ", ".join(words.format(bound) for bound, _, words in bounds)
        number = "a whole number" if base is int else "a number"
        raise argparse.ArgumentTypeError(f"expected {f'{number} {said}'.strip()}, found {text!r}")
    return value


def _as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_as_text, value))
    return "yes" if value is True else f"{value:g}" if isinstance(value, float) else str(value)
