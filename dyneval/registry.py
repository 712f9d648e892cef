"""Engines by name: how each is made, which options it has, and the command-line flags made from those options.

An engine is named by a "module:attribute" string and imported only when it is made. So `--help` imports no torch, and a
registry may name an engine in a package that imports the registry. The options of an engine are a dataclass with fields
`Annotated[type, msgspec.Meta(description=...)]`; each of them becomes a flag. A user's own class is named by the same
kind of string, `--engine my_module:MyEngine`, and has the dataclass of its options, if any, as its attribute `Options`.

    from dyneval.llm.registry import ENGINES

    engine = ENGINES.make("oracle", "any name", ENGINES.options("oracle"))

In a dataclass of flags (`dyneval.flags`), a field `Annotated[EngineChoice, arg("teacher", part=ENGINES)]` adds
`--engine` and the flags of all engines.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from dyneval.errors import SettingError, UserError
from dyneval.flags import Flag, Parser, flags_of

T = TypeVar("T")


def own(name: str, said: str) -> Any:
    """What a user's "module:attribute" names; the module may lie in the current folder, or where `look_in` was told.

    Args:
        name: such as "my_module:MyEngine".
        said: what the message of an error begins with, such as "engine my_module:MyEngine".

    Raises:
        SettingError: the module cannot be imported, whatever it raises, or has no such attribute.
    """
    look_in(Path.cwd())
    module, _, attribute = name.partition(":")
    try:
        found = import_module(module)
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise SettingError(f"{said}: {module} cannot be imported ({reason})") from error
    if not attribute or not hasattr(found, attribute):
        raise SettingError(f"{said}: {module} has no {attribute!r}; expected module:name")
    return getattr(found, attribute)


def look_in(folder: Path) -> None:
    """Let Python find modules of a user in a folder, also in processes that are started later.

    A script of this project has its own folder on sys.path, not the user's. It comes behind everything else, so that a
    file of the user that is called like a library does not replace it.
    """
    if (place := str(folder.resolve())) not in sys.path:
        sys.path.append(place)


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineEntry:
    """An engine that a registry knows."""

    target: str
    """"module:attribute" of what makes the engine; it is called with a subject, and with the options if there are any.
    """
    options: Any = None
    """Dataclass of its options; None: it has none."""
    flags: tuple[str, ...] | None = None
    """Options that are flags, in the order of the help text; None: all. The others are for callers in Python."""


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engine that a command line names, and those of its options that were given."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Registry(Generic[T]):
    """Engines of one kind, none of them imported: a part of the command line, whose value is an `EngineChoice`.

    Attributes:
        kind: what they are called in messages, such as "chat engine".
        methods: methods that a user's own class must have to be such an engine.
        entries: the engines that have a name; the first is the default of `--engine`.
    """

    kind: str
    methods: Sequence[str]
    entries: Mapping[str, EngineEntry]

    def make(self, name: str, subject: Any, options: Any = None) -> T:
        """Make the engine `name` for `subject`, a model or a checkpoint; without `options`, with its defaults.

        Raises:
            SettingError: there is no such engine, or an option without a default is missing.
        """
        entry = self.entry(name)
        module, _, attribute = entry.target.partition(":")
        make = getattr(import_module(module), attribute) if name in self.entries else self._own(name)
        if entry.options is None:
            return make(subject)
        return make(subject, self.options(name) if options is None else options)

    def options(self, name: str, **values: Any) -> Any:
        """The options of engine `name`, checked; None where it has none.

        Raises:
            SettingError: it has no such option, one lacks a value, or a value is out of its range.
        """
        entry = self.entry(name)
        known = {flag.option: flag for flag in _flags(entry, every=True)}
        for option in values:
            if option not in known:
                raise SettingError(self._foreign(option, name, known))
        for option, flag in known.items():
            if flag.default is MISSING and option not in values:
                raise SettingError(f"--engine {name} needs {flag.name}: {flag.meta.description}")
        if entry.options is None:
            return None
        try:
            return msgspec.convert(values, entry.options)
        except msgspec.ValidationError as error:
            raise SettingError(f"engine {name}: {error}") from error

    def entry(self, name: str) -> EngineEntry:
        """What is known of engine `name`; a user's own class is imported. Raises SettingError: there is none."""
        if name in self.entries:
            return self.entries[name]
        return EngineEntry(target=name, options=getattr(self._own(name), "Options", None))

    # -----------------------------------------------------------------------------------------------------------------
    # The command line

    def add_to(self, parser: Parser, group: argparse._ActionsContainer, description: str = "") -> None:
        """Add `--engine` and the flags of all engines that have a name.

        Args:
            parser: gets a group of flags for each engine.
            group: gets `--engine` and the flags that several engines know.
            description: what the engine does.
        """
        text = f"{description}; default: %(default)s" if description else "default: %(default)s"
        names = ",".join(self.entries)
        group.add_argument(
            "--engine", type=self._name, default=self.default.name, metavar=f"{{{names},MODULE:CLASS}}", help=text
        )
        # A flag of one engine stands under the heading of that engine, so that the help text says whose it is.
        owners = self._owners()
        added: set[str] = set()
        for engine, entry in self.entries.items():
            # A flag that several engines know is added once, with `--engine`; argparse refuses a second one.
            flags = [flag for flag in _flags(entry) if flag.key not in added]
            own = [flag for flag in flags if len(owners[flag.key]) == 1]
            its = parser.add_argument_group(f"engine {engine}") if own else group
            for flag in flags:
                added.add(flag.key)
                flag.add_to(its if flag in own else group)

    def add_named(self, parser: Parser, argv: Sequence[str] | None = None) -> None:
        """Add the flags of a user's own engine, where the command line or `--config` names one.

        A class that cannot be used ends the program with one line and status 2, as a wrong flag does.
        """
        name = parser.early("--engine", argv) or ""
        if ":" not in name:
            return
        option = ""
        try:
            shared, flags = self._owners(), _flags(self.entry(name))
            group = parser.add_argument_group(f"engine {name}")
            for flag in flags:
                option = flag.option
                if flag.key not in shared:
                    flag.add_to(group)
        except UserError as error:
            parser.exit(2, f"{parser.prog}: {error}\n")
        except argparse.ArgumentError as error:
            message = f"engine {name}: its option {option!r} cannot be a flag ({error})"
            parser.exit(2, f"{parser.prog}: {message}\n")

    def read(self, arguments: argparse.Namespace) -> EngineChoice:
        """The engine that was named, with its flags. Raises SettingError: a flag belongs to another engine."""
        own = {flag.key: flag for flag in _flags(self.entry(arguments.engine))}
        # Refused rather than ignored: with --device and --engine vllm, somebody expects the device to matter.
        for key in self._owners():
            if getattr(arguments, key) is not None and key not in own:
                raise SettingError(self._foreign(key, arguments.engine, own))
        given = {key: getattr(arguments, key) for key in own}
        return EngineChoice(
            arguments.engine, {own[key].option: value for key, value in given.items() if value is not None}
        )

    def filled(self, engine: EngineChoice, **known: Any) -> dict[str, Any]:
        """The options of an engine that were given, and those of `known` that it has and that were not given."""
        options = {flag.option for flag in _flags(self.entry(engine.name), every=True)}
        return {option: value for option, value in known.items() if option in options} | dict(engine.options)

    @property
    def default(self) -> EngineChoice:
        """The first engine, with its own defaults."""
        return EngineChoice(next(iter(self.entries)))

    def _name(self, text: str) -> str:
        if text not in self.entries and ":" not in text:
            raise argparse.ArgumentTypeError(self._unknown(text))
        return text

    def _owners(self) -> dict[str, list[str]]:
        """Names of the engines that know a flag, by its key."""
        owners: dict[str, list[str]] = {}
        for engine, entry in self.entries.items():
            for flag in _flags(entry):
                owners.setdefault(flag.key, []).append(engine)
        return owners

    def _own(self, name: str) -> Any:
        """A user's own class, named "module:attribute". Raises SettingError: it cannot be imported, or is no engine."""
        if ":" not in name:
            raise SettingError(self._unknown(name))
        found = own(name, f"engine {name}")
        missing = [method for method in self.methods if not callable(getattr(found, method, None))]
        if not isinstance(found, type) or missing:
            what = f"a class without {', '.join(missing)}" if isinstance(found, type) else f"{found!r:.80}"
            raise SettingError(f"engine {name}: is {what}; a {self.kind} is a class that has {', '.join(self.methods)}")
        if (options := getattr(found, "Options", None)) is not None and not is_dataclass(options):
            raise SettingError(f"engine {name}: its Options are no dataclass")
        return found

    def _unknown(self, name: str) -> str:
        return f"engine {name!r}: expected one of {', '.join(self.entries)}, or module:Class of a {self.kind}"

    def _foreign(self, option: str, name: str, known: Mapping[str, Any]) -> str:
        """Why engine `name` does not take `option`, which may be the name of the option or of its flag."""
        for entry in self.entries.values():
            for flag in _flags(entry):
                if option in (flag.option, flag.key):
                    engines = " or ".join(self._owners()[flag.key])
                    return f"{flag.name} goes with --engine {engines}, not with {name}"
        return f"engine {name}: has no option {option!r}; it has {', '.join(known) or 'none'}"


@dataclass(frozen=True, slots=True)
class OptionsOf:
    """A part of the command line: the flags of one engine, for a verb that uses no other; read as an `EngineChoice`."""

    registry: Registry[Any]
    engine: str

    def add_to(self, parser: Parser, group: argparse._ActionsContainer, description: str = "") -> None:
        """Add the flags."""
        for flag in _flags(self.registry.entry(self.engine)):
            flag.add_to(group)

    def add_named(self, parser: Parser, argv: Sequence[str] | None = None) -> None:
        """Nothing to add: a verb with one engine names no class."""

    def read(self, arguments: argparse.Namespace) -> EngineChoice:
        """The engine with those of its flags that were given."""
        flags = _flags(self.registry.entry(self.engine))
        given = {flag.option: getattr(arguments, flag.key) for flag in flags}
        return EngineChoice(self.engine, {option: value for option, value in given.items() if value is not None})


def _flags(entry: EngineEntry, every: bool = False) -> tuple[Flag, ...]:
    """Flags of an engine's options; with `every` also of those options that the command line does not offer."""
    return flags_of(entry.options, None if every else entry.flags)
