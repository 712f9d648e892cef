"""Makes the command reference: one page for each verb of `dyneval`, from the parser that the verb itself uses.

A reference that is typed falls behind the code. Here each verb is called with `--help`, its parser is caught before it
prints, and what the parser knows is written as Markdown.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from html import escape
from importlib import import_module
from unittest.mock import patch

from dyneval.cli import VERBS
from dyneval.flags import Parser


class _Caught(Exception):
    """Carries a parser, its only argument, out of `--help`."""


def pages() -> Iterator[tuple[str, str]]:
    """Yield the path and the Markdown of each page, the index first."""
    rows = [f"| [`{verb}`]({verb}.md) | {escape(purpose)} |" for verb, purpose in VERBS.items()]
    yield (
        "reference/commands/index.md",
        "# Commands\n\n"
        "Every verb is a module of `dyneval/cli`. These pages are made from the verbs' own parsers when the site is "
        "built. "
        "`python -m dyneval` is the same as `dyneval`.\n\n"
        '`--config run.toml` holds flags by their names (`limit = 10`, and `output = "board/"` for what else has its '
        "place); flags on the command line win. The block "
        "`run.config` of a summary holds the flags that a run had.\n\n"
        "Exit status: 0 done, 1 failed (also in part), 2 wrong command line, 130 interrupted. A verb that has more "
        "says so.\n\n"
        "| verb | what it does |\n|---|---|\n" + "\n".join(rows) + "\n",
    )
    for verb in VERBS:
        parser = parser_of(verb)
        parts = [f"# dyneval {verb}\n", _described(parser), *_groups(parser)]
        for name, one, text in _verbs(parser):
            about = _described(one) or f"{escape(text, quote=False)}\n"
            parts += [f"## dyneval {verb} {name}\n", about, *_groups(one, "###")]
        yield f"reference/commands/{verb}.md", "\n".join(parts)


def parser_of(verb: str) -> Parser:
    """Return the parser of a verb, complete with the flags of its engines. Raises RuntimeError if it prints no help."""

    def caught(parser: Parser, *_: object) -> None:
        raise _Caught(parser)

    with patch.object(argparse.ArgumentParser, "print_help", caught):
        try:
            import_module(f"dyneval.cli.{verb}").main(["--help"], f"dyneval {verb}")
        except _Caught as found:
            parser: Parser = found.args[0]
            return parser
    raise RuntimeError(f"dyneval {verb} --help prints nothing")


def _described(parser: argparse.ArgumentParser) -> str:
    """The description; blocks of commands in it, indented or not, become code."""
    lines = []
    for block in re.split(r"\n\s*\n", (parser.description or "").strip("\n")):
        is_code = all(re.match(r"    |dyneval |python |bash ", line) for line in block.split("\n"))
        if is_code:
            # A command that goes on in the next line of the source holds the indentation of that line.
            commands = [re.sub(r"(?<=\S) {5,}(?=-)", " ", line.removeprefix("    ")) for line in block.split("\n")]
            lines.append("```bash\n" + "\n".join(commands) + "\n```\n")
        else:
            lines.append(escape(block, quote=False) + "\n")
    return "\n".join(lines)


def _groups(parser: argparse.ArgumentParser, level: str = "##") -> Iterator[str]:
    for group in parser._action_groups:
        rows = [
            _row(action)
            for action in group._group_actions
            if action.help is not argparse.SUPPRESS
            and not isinstance(action, argparse._SubParsersAction | argparse._HelpAction)
        ]
        if rows:
            title = {"positional arguments": "Arguments", "options": "Flags"}.get(group.title or "", group.title or "")
            yield f"{level} {escape(title[:1].upper() + title[1:], quote=False)}\n"
            if group.description:
                yield escape(group.description, quote=False) + "\n"
            yield "| flag | value | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _row(action: argparse.Action) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.metavar or action.dest}`"
    text = (action.help or "") % {
        "default": action.default,
        "prog": "dyneval",
        "choices": ", ".join(map(str, action.choices or ())),
    }
    if action.nargs == 0 or not action.option_strings:
        value = "one or more" if action.nargs == "+" else "any number" if action.nargs == "*" else ""
    elif action.choices is not None:
        value = _cell(", ".join(map(str, action.choices)))
    else:
        # argparse's own function, so that the page shows [ADDRESS] and FILE [FILE ...] exactly as --help does.
        value = f"`{argparse.HelpFormatter('')._format_args(action, action.dest.upper())}`"
    return f"| {names} | {value} | {_cell(text)}{'; required' if action.option_strings and action.required else ''} |"


def _cell(text: str) -> str:
    # In a Markdown table: no line breaks, and no character that ends a cell or begins emphasis.
    return escape(" ".join(text.split()), quote=False).replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")


def _verbs(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {one.dest: one.help or "" for one in action._choices_actions}
            for name, one in action.choices.items():
                yield name, one, helps.get(name, "")
