"""The commands of a chat by name: what a person reads about them."""

import difflib

from edge_sir.cli._views import Row, View
from edge_sir.errors import ConfigError

__all__ = ["HELP", "MORE", "command_names", "help_text", "help_view", "unknown_command"]

HELP: dict[str, tuple[str, str]] = {
    "help": ("[COMMAND]", "this list, or more about one command"),
    "memory": ("[N] [--scores] [--json]", "what is resident, by turn (the newest N); dropped turns are folded"),
    "memory find": ("TEXT", "does it still know this, and since when not?"),
    "memory why": ("[TURN]", "the numbers behind what a turn lost, or behind what was dropped last"),
    "pin": ("TEXT|TURN", "never evict a turn, or the sentences that hold these words"),
    "unpin": ("[TEXT|TURN]", "take the pin off; without an argument, all pins"),
    "forget": ("TEXT|TURN", "remove it for good"),
    "recall": ("TEXT|TURN", "put back what was evicted of a turn, or what matches these words"),
    "search": ("WORDS", "messages of the session that hold these words, and whether they are still in memory"),
    "undo": ("", "take the last turn back"),
    "regen": ("", "answer the last message again"),
    "budget": ("[N]", "cells: show, or change at once"),
    "policy": ("[SPEC]", "what to evict: show, or change"),
    "system": ("[TEXT]", "system prompt: show, or change"),
    "stats": ("", "figures"),
    "save": ("FILE", "write the transcript to a new file"),
    "load": ("FILE", "read a transcript into an empty conversation"),
    "clear": ("", "begin a new conversation"),
    "bye": ("", "leave (as Ctrl-D)"),
}
"""Arguments and one line, by name."""

MORE: dict[str, str] = {
    "memory": "TOKENS are what is left of what was said, template tokens not counted; [3 dropped] stands where three "
    "are missing.",
    "memory find": "Words as they were said, in any case.",
    "pin": "A number is a turn; in quotes it is text. Where the chat recalls (--recall), what was evicted of it comes "
    "back first, if its cells are kept; what else was evicted, a pin cannot bring back.",
    "unpin": "The system prompt stays pinned; /system changes it.",
    "forget": "The whole turn, or every sentence that holds these words, pinned or not; it cannot be undone. A number "
    "is a turn; in quotes it is text. Replies made while it was known may still reflect it.",
    "recall": "Only where the chat recalls (--recall). While the next turn runs it is evicted only "
    "where nothing else can be; after that it is as all else: /pin what must stay. A "
    "number is a turn; in quotes it is text.",
    "search": "Only in a session (--session), in all that was ever said in it: what was taken back, and the "
    "conversations before a /clear, too. All words must be there, in any case, also inside others; "
    '"several words" in quotes are one.',
    "undo": "What older turns lost to make room for it comes back where the chat recalls (--recall), else not.",
    "regen": "What older turns lost to make room for the last answer comes back first where the chat recalls "
    "(--recall), else not.",
    "budget": "Lowered, it evicts at once what does not fit any more, and gives no memory back to the system. Raised, "
    "what was evicted last comes back where the chat recalls (--recall).",
    "policy": "name[:key=value,...]; without an argument their names.",
    "system": 'In mid-conversation the new one takes the old one\'s place; /system "" removes it.',
    "stats": "Of this conversation, and in all if /clear began others before.",
    "save": "No file is overwritten. It holds what was said, not the pins.",
    "load": "The model reads it as if it had just been said; nothing is generated.",
    "clear": "The system prompt stays; the counts begin anew.",
}
"""Further sentences, by name."""


def command_names() -> list[str]:
    """The commands' first words, sorted."""
    return sorted({name.partition(" ")[0] for name in HELP})


def unknown_command(name: str) -> ConfigError:
    """The complaint about a command that does not exist, with the nearest that does."""
    close = difflib.get_close_matches(name.lower(), command_names(), n=1, cutoff=0.5)
    hint = f"; did you mean /{close[0]}?" if close else ""
    return ConfigError(f"unknown command /{name}{hint} (/help lists them; // begins a message with a /)")


def help_view(word: str) -> tuple[View, dict[str, str]]:
    """The list, or all about the command whose name begins with `word`; for people, and as plain values."""
    chosen = {name: HELP[name] for name in HELP if not word or f"{name} ".startswith(f"{word} ")}
    if not chosen:
        raise unknown_command(word)
    rows = [
        Row((f"/{name} {arguments}".strip(),), ((help_text(name, more=bool(word)), ""),))
        for name, (arguments, _) in chosen.items()
    ]
    if not word:
        rows.append(Row(('"""',), (("begins and ends a message of several lines; // begins one with a /", ""),)))
        rows.append(Row(("Ctrl-C",), (("stops a reply; twice at the prompt leaves", ""),)))
        trace = "at the start records what is evicted; `edge-sir replay FILE` runs it again under other policies"
        rows.append(Row(("--trace FILE",), ((trace, ""),)))
    return View("", rows), {f"/{name}": help_text(name, more=bool(word)) for name in chosen}


def help_text(name: str, *, more: bool) -> str:
    """What the command does; more: with all that is to be known of it."""
    line = HELP[name][1]
    return f"{line}{'' if line.endswith('?') else '.'} {MORE[name]}" if more and name in MORE else line
