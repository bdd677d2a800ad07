"""`edge-sir sessions`: list, show, search, export, import, rename, remove, check and back up saved conversations."""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edge_sir.chat.resumed import said_in
from edge_sir.cli._counts import many
from edge_sir.cli._found import search_view
from edge_sir.cli._losses import folded, shown
from edge_sir.cli._options import CliOptions
from edge_sir.cli._resumed import flags_text
from edge_sir.cli._sessions import facts_view, list_view, lost_text, problems_view, rescued_view, said_view, verdicts
from edge_sir.cli._views import print_view
from edge_sir.errors import ConfigError, DamagedError, StoreError
from edge_sir.memory.transcript import Message
from edge_sir.named import not_default, terms_of
from edge_sir.options import config_file, gather, state_folder
from edge_sir.store.exchange import Format, format_of, read_file, to_json_lines, to_markdown
from edge_sir.store.folder import StateFolder
from edge_sir.store.layout import Layout
from edge_sir.store.values import Record, SessionInfo, StoredMessage
from edge_sir.store.verify import unreadable

__all__ = ["add_parser", "run"]

_NONE_YET = "no session is here yet; `edge-sir chat --session NAME` begins one"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the `sessions` subcommand; its namespace carries `run`."""
    parser = subparsers.add_parser(
        "sessions",
        help="list, show, search, export and remove saved conversations",
        description="What `edge-sir chat --session NAME` saved: list, show, search, export, import, rename, remove, "
        "check and back up.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    folder = "folder of the sessions; not given, the user's"
    common.add_argument("--state-dir", default=argparse.SUPPRESS, metavar="DIR", help=folder)
    parser.add_argument("--state-dir", metavar="DIR", help=f"{folder}; here or after ACTION")

    def add(name: str, act: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        action = actions.add_parser(name, parents=[common], help=help, allow_abbrev=False)
        action.set_defaults(act=act)
        return action

    add("list", _list, "show all sessions, last used first")
    show = add("show", _show, "show one session: its figures and what was said")
    show.add_argument("name", metavar="NAME", help="of `sessions list`")
    show.add_argument("--turns", type=_positive, metavar="N", help="only the newest N turns of what was said")
    search = add("search", _search, "find what was said, in all sessions or in one")
    search.add_argument(
        "words", nargs="+", metavar="WORD", help="in any case, also inside others; 'several words' are one"
    )
    search.add_argument("--session", metavar="NAME", help="search in this one")
    search.add_argument("--limit", type=_positive, default=50, metavar="N", help="most messages shown (default: 50)")
    export = add("export", _export, "write a conversation to a new file")
    export.add_argument("name", metavar="NAME", help="of `sessions list`")
    export.add_argument(
        "file", metavar="FILE", help="ending in .jsonl (OpenAI's messages) or .md (Markdown); - for stdout"
    )
    export.add_argument(
        "--format", choices=("jsonl", "markdown"), metavar="jsonl|markdown", help="whatever FILE ends in"
    )
    take = add("import", _import, "make a session of a file; its text is read when the session is used first")
    take.add_argument("file", metavar="FILE", help="of JSON lines with OpenAI's messages, or Markdown as exported")
    take.add_argument("name", metavar="NAME", help="of the new session")
    rename = add("rename", _rename, "give a session another name")
    rename.add_argument("old", metavar="OLD", help="of `sessions list`")
    rename.add_argument("new", metavar="NEW", help="what it is to be called")
    rm = add("rm", _rm, "remove a session for good")
    rm.add_argument("name", metavar="NAME", help="of `sessions list`")
    rm.add_argument("--yes", action="store_true", help="do not ask")
    verify = add("verify", _verify, "compare all that is on disk with its checksums; exit code 1 if something is wrong")
    verify.add_argument("name", nargs="?", metavar="NAME", help="only this session")
    backup = add("backup", _backup, "copy all sessions to a new folder, which is a state folder, too")
    backup.add_argument("dir", metavar="DIR", help="new or empty")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the chosen action and returns the exit code. Raises UserError and StoreError for the caller to print."""
    return int(args.act(args))


def _positive(text: str) -> int:
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above 0")
    return int(text)


# ---- looking -------------------------------------------------------------------------------------


def _list(args: argparse.Namespace) -> int:
    with _reading(args) as folder:
        infos = [] if folder is None else folder.sessions()
    if args.json:
        documents = [asdict(info) for info in infos]
        _print_json([{n: v for n, v in document.items() if n != "options"} for document in documents])
    elif infos:
        print_view(list_view(infos))
    else:
        _say(_NONE_YET)
    return 0


def _show(args: argparse.Namespace) -> int:
    with _existing(args) as folder, folder.open(args.name, read_only=True) as session:
        info, messages = session.info, session.messages()
        snapshots, stored = session.snapshots(), session.read()
    path, unsent = list(said_in(stored)), stored.unsent
    info = replace(info, n_messages=len(path))
    if args.turns is not None:
        first = max((m.message.turn for m in path), default=0) - args.turns
        path = [m for m in path if m.message.turn > first]
    terms = terms_of(stored.state, info.options)
    if args.json:
        document = asdict(info) | {"options": terms, "snapshots": [asdict(s) for s in snapshots], "unsent": unsent}
        chosen = messages if args.turns is None else path
        _print_json(document | {"messages": [_message_document(message) for message in chosen]})
        return 0
    print_view(facts_view(info, messages, len(snapshots), unsent, flags_text(not_default(terms))))
    if path:
        print()
        print_view(said_view(path))
    return 0


def _message_document(stored: StoredMessage) -> dict[str, Any]:
    message: dict[str, Any] = asdict(stored.message)
    return {name: value for name, value in asdict(stored).items() if name != "message"} | message


def _search(args: argparse.Namespace) -> int:
    # What a shell takes for one word is one here, too.
    words = " ".join(f'"{word}"' if " " in word and '"' not in word else word for word in args.words)
    with _reading(args) as folder:
        found = [] if folder is None else folder.search(words, session=args.session, limit=args.limit)
    if args.json:
        _print_json([asdict(message) for message in found])
    else:
        print_view(search_view(words, found, named=args.session is None, limit=args.limit))
    return 0


def _verify(args: argparse.Namespace) -> int:
    with _readable(), _checking(args) as folder:
        problems = [] if folder is None else folder.verify(args.name)
        names = [] if folder is None else _names(folder) if args.name is None else [_named_as(folder, args.name)]
    if args.json:
        _print_json(verdicts(names, problems))
    elif problems:
        print_view(problems_view(problems))
    elif args.name is not None:
        print(f"{shown(names[0])}: ok")
    else:
        print(f"{many(len(names), 'session')}: ok")
    if problems:
        raise StoreError(f"{many(len(problems), 'problem')} in {_path(args)}; each line above says what helps")
    return 0


def _names(folder: StateFolder) -> list[str]:
    try:
        return [info.name for info in folder.sessions()]
    except DamagedError:
        return [session.name for session in folder.rescue()]


def _named_as(folder: StateFolder, name: str) -> str:
    """As it was begun, capitals and all."""
    try:
        info = folder.find(name)
    except DamagedError:
        info = None
    return name if info is None else info.name


# ---- exchanging ----------------------------------------------------------------------------------


def _export(args: argparse.Namespace) -> int:
    kind = args.format or ("jsonl" if args.file == "-" else format_of(args.file))
    if kind is None:
        raise ConfigError(f"the name {args.file} does not say which format; end it in .jsonl or .md, or give --format")
    with _readable(), _existing(args) as folder:
        name, messages, lost = _said(folder, args.name)
    text = _exported(messages, kind, name)
    if args.file == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        target = _write_new(args.file, text)
        if args.json:
            _print_json({"exported": name, "path": str(target), "messages": len(messages)})
        else:
            print(f"exported {many(len(messages), 'message')} of {shown(name)} to {shown(str(target))}")
    if lost:
        raise StoreError(f"the database is damaged: {lost}; 'edge-sir sessions verify' says what can be done")
    return 0


def _said(folder: StateFolder, name: str) -> tuple[str, list[Message], str]:
    """The session's name, what was said in it, and of a damaged database how much of that cannot be read."""
    try:
        with folder.open(name, read_only=True) as session:
            return session.info.name, [row.message for row in said_in(session.read())], ""
    except DamagedError:
        (found, *_) = folder.rescue(name)
        return found.name, list(found.conversations[-1]), lost_text(found) if found.n_lost else ""


def _exported(messages: Sequence[Message], kind: Format, name: str) -> str:
    return to_json_lines(messages) if kind == "jsonl" else to_markdown(messages, name)


def _write_new(path: str, text: str) -> Path:
    target, opened = Path(path), False
    try:
        target = target.expanduser()
        with target.open("x", encoding="utf-8", newline="") as file:
            opened = True
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path} exists; export to a new file") from None
    except BaseException as error:
        if opened:  # a full disk, Ctrl-C: half a conversation looks like a whole one
            with suppress(OSError):
                target.unlink()
        if not isinstance(error, OSError | ValueError | RuntimeError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot export to {path} ({reason}); choose another file") from None
    return target


def _import(args: argparse.Namespace) -> int:
    messages = read_file(args.file)
    # No model has read it yet: whichever goes on with it does.
    with StateFolder(_path(args)) as folder, folder.create(args.name, model="", fingerprint="") as session:
        name = session.info.name
        try:
            session.write(Record(0, tuple(messages), b"", {}, messages[-1].turn))
        except BaseException:
            session.close()
            folder.remove(name)
            raise
    if args.json:
        _print_json({"imported": name, "messages": len(messages), "turns": messages[-1].turn})
    else:
        counts = f"{many(len(messages), 'message')}, {many(messages[-1].turn, 'turn')}"
        print(f"imported {shown(name)}: {counts}; go on with `edge-sir chat --session {shlex.quote(name)}`")
    return 0


# ---- changing ------------------------------------------------------------------------------------


def _rename(args: argparse.Namespace) -> int:
    with _writing(args) as folder:
        old = _info(folder, args.old).name
        folder.rename(args.old, args.new)
        new = _info(folder, args.new).name
    if args.json:
        _print_json({"renamed": old, "name": new})
    else:
        print(f"renamed {shown(old)} to {shown(new)}")
    return 0


def _rm(args: argparse.Namespace) -> int:
    with _writing(args) as folder:
        info = _info(folder, args.name)
        if not args.yes and not _agreed(info):
            _say("nothing was removed")
            return 0
        folder.remove(info.name)
    if args.json:
        _print_json({"removed": info.name, "messages": info.n_messages})
    else:
        print(f"removed {shown(info.name)} ({many(info.n_messages, 'message')})")
        _say("exports, backups and the input history keep what they hold")
    return 0


def _agreed(info: SessionInfo) -> bool:
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError(f"removing {info.name!r} cannot be undone; give --yes")
    question = f"Remove {shown(info.name)} with {many(info.n_messages, 'message')} for good? [y/N] "
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _backup(args: argparse.Namespace) -> int:
    with _readable(), _existing(args) as folder:
        try:
            target = folder.backup(args.dir)
        except DamagedError:
            return _rescue(folder, args)
        n = len(folder.sessions())
    if args.json:
        _print_json({"path": str(target), "sessions": n})
    else:
        print(f"copied {many(n, 'session')} to {shown(str(target))}")
    return 0


def _rescue(folder: StateFolder, args: argparse.Namespace) -> int:
    """Raises StoreError in the end: a copy of a part is no backup."""
    found = folder.rescue_to(args.dir)
    target = Path(args.dir).expanduser().absolute()
    if args.json:
        counts = [{"name": s.name, "messages": s.n_messages, "lost": s.n_lost} for s in found]
        _print_json({"path": str(target), "sessions": len(found), "rescued": counts})
    else:
        print_view(rescued_view(found))
    raise StoreError(
        f"{_path(args)} is damaged: the text that can be read was copied to {target}; go on there with --state-dir"
    )


# ---- the folder ----------------------------------------------------------------------------------


def _path(args: argparse.Namespace) -> Path:
    """The folder by flag, environment, TOML and default, as for the chat."""
    given = {} if args.state_dir is None else {"state_dir": args.state_dir}
    return state_folder(gather(CliOptions, given, file=config_file()).options.state_dir)


@contextmanager
def _reading(args: argparse.Namespace) -> Iterator[StateFolder | None]:
    """The folder; None where the user has no session yet, which is no mistake."""
    path = _path(args)
    if path == state_folder() and not Layout(path).database.is_file():
        yield None
        return
    with StateFolder(path, read_only=True) as folder:
        yield folder


@contextmanager
def _readable() -> Iterator[None]:
    """For whoever asks what can be read of a damaged database. Raises StoreError if that is nothing."""
    try:
        yield
    except DamagedError as error:
        raise unreadable(error) from error


@contextmanager
def _existing(args: argparse.Namespace) -> Iterator[StateFolder]:
    """The folder, which must be there. Raises ConfigError."""
    with _reading(args) as folder:
        if folder is None:
            raise ConfigError(_NONE_YET)
        yield folder


@contextmanager
def _writing(args: argparse.Namespace) -> Iterator[StateFolder]:
    """The folder, which must be there already: a slip in its name makes no new one. Raises ConfigError."""
    with _existing(args):
        pass
    with StateFolder(_path(args)) as folder:
        yield folder


@contextmanager
def _checking(args: argparse.Namespace) -> Iterator[StateFolder | None]:
    """The folder as `verify` wants it: writable for the check of the index, which counts as a write."""
    with _reading(args) as folder:
        if folder is None:
            yield None
            return
    try:
        folder = StateFolder(_path(args))
    except StoreError:
        folder = StateFolder(_path(args), read_only=True)
    with folder:
        yield folder


def _info(folder: StateFolder, name: str) -> SessionInfo:
    with folder.open(name, read_only=True) as session:
        return session.info


def _print_json(document: object) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))


def _say(line: str) -> None:
    print(folded(line, sys.stderr), file=sys.stderr)
