"""Writes docs/commands.md from the parsers' options (not from their --help, whose layout differs between Pythons),
and docs/api.md from the docstrings.
"""

import argparse
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import api_docs

import edge_sir.cli
from edge_sir.cli._help import HELP, help_text

DOCS = Path(__file__).resolve().parent.parent / "docs"
FIRST = ("chat", "sessions", "serve", "models", "doctor")  # the others follow by name
HEAD = """# Commands

Made by `scripts/make-docs`; do not edit. `edge-sir COMMAND --help` shows the same for what is installed.
`edge-sir --version` prints the version. Exit codes: 0 done, 2 a mistake that you can mend (one line on standard error
says how), 1 a failure of the engine or of the system, 130 after Ctrl-C.
"""


def parser() -> argparse.ArgumentParser:
    """All of the command line, put together from the modules of `edge_sir.cli`."""
    found = (m.name for m in pkgutil.iter_modules(edge_sir.cli.__path__) if not m.name.startswith("_"))
    names = sorted(found, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    top = argparse.ArgumentParser(prog="edge-sir")
    commands = top.add_subparsers(dest="command", required=True)
    for name in names:
        importlib.import_module(f"edge_sir.cli.{name}").add_parser(commands)
    return top


def page() -> str:
    """The text of docs/commands.md."""
    lines = [HEAD]
    seen: dict[tuple[str, ...], str] = {}
    for name, command in _commands(parser()):
        lines += [f"## edge-sir {name}", "", *_usage(name, command)]
        options = tuple(_options(command))
        if options in seen:
            lines += [f"The options of [`edge-sir {seen[options]}`](#edge-sir-{seen[options]}).", ""]
            continue
        seen[options] = name
        lines += [*options, ""] if options else []
        for action, sub in _commands(command):
            lines += [f"### edge-sir {name} {action}", "", *_usage(f"{name} {action}", sub)]
            lines += [*options, ""] if (options := tuple(_options(sub))) else []
    lines += ["## In the chat", "", "Lines that begin with `/`; piped ones only with `--commands`.", ""]
    lines += [
        f"- `{f'/{name} {arguments}'.strip()}`: {help_text(name, more=True)}" for name, (arguments, _) in HELP.items()
    ]
    return "\n".join(lines) + "\n"


def _commands(of: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            told = {choice.dest: choice.help for choice in action._choices_actions}
            for name, command in action.choices.items():
                command.description = command.description or told.get(name)
                yield name, command


def _usage(name: str, command: argparse.ArgumentParser) -> list[str]:
    words = [_argument(action) for action in command._actions if not action.option_strings]
    text = [command.description, ""] if command.description else []
    return [*text, f"`{' '.join(['edge-sir', name, *words])}`", ""]


def _argument(action: argparse.Action) -> str:
    if isinstance(action, argparse._SubParsersAction):
        return str(action.metavar)
    name = str(action.metavar or action.dest)
    return {"?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} ..."}.get(str(action.nargs), name)


def _options(command: argparse.ArgumentParser) -> Iterator[str]:
    """One line of a list for everything that may be given, but for --help."""
    for action in command._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction) or not action.help:
            continue
        if not action.option_strings:
            yield f"- `{_argument(action)}`: {action.help % vars(action)}"
            continue
        value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
        yield f"- `{', '.join(action.option_strings)}{value}`: {action.help % vars(action)}"


if __name__ == "__main__":
    (DOCS / "commands.md").write_text(page(), encoding="utf-8")
    (DOCS / "api.md").write_text(api_docs.page(), encoding="utf-8")
