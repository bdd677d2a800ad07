"""`edge-sir serve`: a server that any client of OpenAI's API can talk to."""

import argparse
import importlib.util
import ipaddress
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

from edge_sir.cli._flags import add_flags, from_args
from edge_sir.cli._options import CliOptions
from edge_sir.errors import ConfigError
from edge_sir.options import ENV_PREFIX, state_folder
from edge_sir.runtime import load

__all__ = ["add_parser", "run"]

_OF_ONE_CHAT = {"session", "read_only", "change_model", "trace", "stats", "commands", "json_output"}
_NEEDED = ("starlette", "uvicorn", "prometheus_client")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the `serve` subcommand; its namespace carries `run`."""
    parser = subparsers.add_parser(
        "serve",
        help="answer clients of OpenAI's API",
        description="Serves one model to any client of OpenAI's API (docs/server.md). Conversations are found by what "
        "was said, each in its own cells, and go on after a restart. Ctrl-C ends it: replies get a moment, all is "
        "saved. Needs `pip install 'edge-sir[server]'`.",
        allow_abbrev=False,
    )
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS",
                        help="address to listen on; another one than this machine's own needs --api-key "
                        "(default: 127.0.0.1)")  # fmt: skip
    parser.add_argument("--port", type=int, default=8080, metavar="N", help="0 for any that is free (default: 8080)")
    parser.add_argument("--api-key", action="append", default=[], metavar="KEY",
                        help="only who presents this key may ask; may be given several times, or in EDGE_SIR_API_KEY, "
                        "where other users of the machine do not see it")  # fmt: skip
    parser.add_argument("--sessions", type=int, default=4, metavar="N",
                        help="conversations that are live at a time, each in a context of its own; the others wait on "
                        "disk (default: 4)")  # fmt: skip
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME",
                        help="a name by which clients reach this server, as their Host header has it; may be given "
                        "several times")  # fmt: skip
    parser.add_argument("--allow-origin", action="append", default=[], metavar="URL",
                        help="a page of another place that may ask, as a browser names it: http://localhost:3000; may "
                        "be given several times")  # fmt: skip
    parser.add_argument("--max-tokens", metavar="N",
                        help="longest reply in tokens, also of a request that names none (default: 4096)")  # fmt: skip
    add_flags(parser, without=_OF_ONE_CHAT | {"max_tokens"})
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serves until a signal ends it; returns the exit code."""
    options = from_args(args).options
    _check_installed()
    logging.getLogger("edge_sir").setLevel(logging.ERROR if options.quiet else logging.INFO)
    access, sessions = _access(args, os.environ), _checked(args.sessions)
    from edge_sir.server.serve import bind

    with ExitStack() as opened:
        listening = opened.enter_context(bind(args.host, args.port))  # before a model is loaded
        model = opened.enter_context(load(**options.for_loading(_OF_ONE_CHAT)))
        from edge_sir.server.app import App, Settings
        from edge_sir.server.limits import Limits
        from edge_sir.server.loaded import loaded_of, served_of
        from edge_sir.server.manager import Manager
        from edge_sir.server.serve import HttpServer
        from edge_sir.server.stored_conversations import StoredConversations
        from edge_sir.store.folder import StateFolder

        loaded = loaded_of(model)
        folder = StateFolder(state_folder(options.state_dir))
        conversations = StoredConversations(loaded, folder, model.options, sessions)
        opened.callback(conversations.close)
        conversations.warm_up()
        limits = Limits(reply_tokens=options.max_tokens) if "max_tokens" in options.model_fields_set else Limits()
        manager = Manager(conversations, loaded.fingerprint)
        app = App(conversations, served_of(model), Settings(access=access, limits=limits), manager)
        server = HttpServer(app, args.host, args.port, lambda address: _say(options, model.path.stem, address))
        with suppress(KeyboardInterrupt):
            server.run_here(listening)
    return 0


def _say(options: CliOptions, model: str, address: tuple[str, int]) -> None:
    if not options.quiet:
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        print(f"edge-sir: {model} at http://{host}:{address[1]}/v1 (Ctrl-C ends)", file=sys.stderr, flush=True)


def _check_installed() -> None:
    for name in _NEEDED:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"the server needs {name}: pip install 'edge-sir[server]'")


def _checked(n: int) -> int:
    if not 1 <= n <= 256:
        raise ConfigError(f"--sessions is a number from 1 to 256, not {n}")
    return n


def _access(args: argparse.Namespace, environ: Mapping[str, str]) -> "Any":
    """Who may ask. Raises ConfigError for an address that others reach, without a key."""
    from edge_sir.server.guard import LOOPBACK, Access
    from edge_sir.server.serve import is_loopback

    keys = frozenset(filter(None, [*args.api_key, environ.get(f"{ENV_PREFIX}API_KEY", "")]))
    if not is_loopback(args.host) and not keys:
        raise ConfigError(f"others can reach {args.host}: give --api-key, or listen on 127.0.0.1")
    names = {_host_name(name) for name in args.allow_host}
    is_any = args.host in ("0.0.0.0", "::", "")
    hosts = LOOPBACK | names | ({args.host.lower()} if not is_any else set())
    origins = frozenset(map(_origin, args.allow_origin))
    return Access(keys, frozenset() if is_any and not names else hosts, origins)


def _host_name(name: str) -> str:
    """Raises ConfigError for what no Host header is compared with."""
    if not name or "/" in name or (":" in name and not _is_address(name)):
        raise ConfigError(f"--allow-host is a name without http:// and port, like box.example, not {name!r}")
    return name.lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _origin(url: str) -> str:
    """Raises ConfigError for what no browser sends."""
    parts = urlsplit(url)
    if not parts.scheme or not parts.netloc or url != f"{parts.scheme}://{parts.netloc}":
        raise ConfigError(f"--allow-origin is a URL without a path, like http://localhost:3000, not {url!r}")
    return url.lower()
