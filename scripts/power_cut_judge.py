"""What a process that was killed had acknowledged, held against what the next one finds."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from power_cut_talk import secrets_in

__all__ = ["Known", "in_files"]

Said = list[list[Any]]
_TALKING = ("say", "ask", "stop")
_SAME_ROWS = (*_TALKING, "regen", "undo", "clear", "snapshot", "close")  # if what was said is as before, so are they


@dataclass
class Known:
    """What must be there. last: what the last process that said anything said was so; None for nothing yet.

    doing: the call that was cut, if any; is_read: its message is on disk. texts: that were ever said, with their turns;
    turn -1 is that of an earlier conversation. forgotten: words that must not stand on disk. is_exact: the cells are.
    """

    last: dict[str, Any] | None = None
    doing: dict[str, Any] | None = None
    is_read: bool = False
    is_exact: bool = False
    texts: list[tuple[int, str]] = field(default_factory=list)
    forgotten: set[str] = field(default_factory=set)

    # ---- what a process says -----------------------------------------------------------------------

    def note(self, step: dict[str, Any]) -> None:
        """A line of it."""
        if "doing" in step:
            self.doing, self.is_read, self.is_exact = step, False, False
        elif "reading" in step:
            self.is_read = True
        elif "refused" in step and self.doing is not None:
            self.doing = {"doing": "nothing", "argument": ""}
        elif "done" in step:
            self._acknowledged(step)
        elif "opened" in step:
            self._begin(step["opened"])

    def _acknowledged(self, step: dict[str, Any]) -> None:
        doing, self.doing = self.doing or {}, None
        name, argument = doing.get("doing", ""), doing.get("argument", "")
        self.is_exact = name in ("snapshot", "close")
        if name == "forget":
            self._forget(argument, step["said"])
        if name == "clear":
            self.texts = [(-1, text) for _, text in self.texts]
        self._add(step)

    def _begin(self, opened: dict[str, Any]) -> None:
        """What came of the call that was cut counts as acknowledged from now on: the next process has seen it."""
        doing, self.doing = self.doing or {}, None
        if self.last is not None and opened["said"] != self.last["said"]:
            if doing.get("doing") == "forget":
                self._forget(doing["argument"], opened["said"])
            if doing.get("doing") == "clear":
                self.texts = [(-1, text) for _, text in self.texts]
        self._add(opened)

    def _add(self, now: dict[str, Any]) -> None:
        there = set(self.texts)
        self.texts += [(turn, text) for turn, _, text in now["said"] if (turn, text) not in there]
        self.last = now

    def _forget(self, what: str, said: Said) -> None:
        if what.isdecimal():
            gone = {text for turn, text in self.texts if turn == int(what)}
            self.texts = [(turn, text) for turn, text in self.texts if text not in gone]
            return
        self.texts = [(turn, text) for turn, text in self.texts if what not in text.lower()]
        if not any(what in text.lower() for _, _, text in said):
            self.forgotten.add(what)

    # ---- what the next one finds -------------------------------------------------------------------

    def faults(self, opened: dict[str, Any], *, other_build: bool, is_first: bool) -> Iterator[str]:
        """What is wrong with it. is_first: no process was cut in its opening since."""
        yield from opened["problems"]
        yield from filter(None, (opened["wrong"], opened["problem"]))
        if self.last is None:
            return
        how = opened["how"]
        if how not in (("rebuilt", "replayed") if other_build else ("exact", "replayed")) and self.last["record"]:
            yield f"it was gone on with {how}"
        if self.is_exact and is_first and not other_build and how != "exact":
            yield f"after {how}, a snapshot was taken and nothing came since"
        if opened["told_unsent"] != opened["unsent"] and opened["how"] is not None:
            yield f"{opened['told_unsent']} is said to be unsent, {opened['unsent']} is"
        yield from self._faults_of_path(opened)
        missing = Counter(text for _, text in self.texts if text) - Counter(opened["texts"])
        if missing and not self._is_forgetting:
            yield f"in no row: {list(missing)[:3]}"

    @property
    def _is_forgetting(self) -> bool:
        return self.doing is not None and self.doing["doing"] == "forget"

    def _faults_of_path(self, opened: dict[str, Any]) -> Iterator[str]:
        """A call that was cut has happened whole, or not at all."""
        last, doing = self.last or {}, self.doing or {"doing": "nothing", "argument": ""}
        name, said, unsent = doing["doing"], opened["said"], opened["unsent"]
        if said == last["said"]:
            yield from self._faults_of_same(opened, name, doing["argument"])
        elif not self._happened(said, name, doing["argument"]):
            yield f"acknowledged: {last['said'][-3:]}; {doing} was cut; there is: {said[-3:]}"
        elif unsent and not (name == "forget" and _is_without(unsent, last["unsent"], doing["argument"])):
            yield f"{doing} was cut; {unsent} is unsent, and there is {said[-3:]}"
        if opened["record"] < last["record"]:
            yield f"record {last['record']} was acknowledged, the last one is {opened['record']}"
        if opened["record"] == last["record"]:
            yield from (f"{what} is not as acknowledged" for what in ("said", "budget") if opened[what] != last[what])
            if opened["how"] != "rebuilt" and opened["positions"] != last["positions"]:
                yield "positions are not as acknowledged"

    def _faults_of_same(self, opened: dict[str, Any], name: str, argument: str) -> Iterator[str]:
        last = self.last or {}
        if (opened["record"] == last["record"] or name in _SAME_ROWS) and opened["rows"] != last["rows"]:
            yield f"{name} was cut, and the ledger's rows are not as acknowledged"
        possible = [last["unsent"]]
        if name in _TALKING:
            possible = [[*last["unsent"], argument]] + ([] if self.is_read else possible)
        elif name in ("undo", "clear"):
            possible.append([])
        is_without = name == "forget" and _is_without(opened["unsent"], last["unsent"], argument)
        if opened["unsent"] not in possible and not is_without:
            yield f"{name} was cut; {opened['unsent']} is unsent, and not {possible}"

    def _happened(self, said: Said, name: str, argument: str) -> bool:
        """Whether what is there is what was there, and this call."""
        last = self.last or {}
        before: Said = last["said"]
        turn = max((turn for turn, _, _ in before), default=0)
        if name in _TALKING or (name == "regen" and last["unsent"]):
            users = last["unsent"] + ([argument] if name in _TALKING else [])
            return said[: len(before)] == before and _is_turn(said[len(before) :], users, turn + 1)
        if name == "regen":
            kept = [m for m in before if m[0] < turn or m[1] != "assistant"]
            return said[: len(kept)] == kept and [m[1] for m in said[len(kept) :]] == ["assistant"]
        if name == "undo":
            return said == [m for m in before if m[0] < turn]
        if name == "forget" and argument.isdecimal():
            return said == [m for m in before if m[0] != int(argument)]
        if name == "forget":
            kept = [m for m in before if argument not in m[2].lower()]
            return argument not in str(said).lower() and [m for m in said if m in kept] == kept
        prompts = [m for m in before if m[1] == "system"][-1:]
        if name == "system":
            spoken = [m for m in before if m[0]]
            return said == [*(before if spoken else ()), [turn + 1 if spoken else 0, "system", argument]]
        return name == "clear" and said == [[0, "system", text] for _, _, text in prompts]


def _is_turn(messages: Said, users: list[str], turn: int) -> bool:
    """Whether this is one turn, of these messages and a reply."""
    texts = [text for _, role, text in messages if role == "user"]
    roles = [role for _, role, _ in messages]
    return texts == users and roles == ["user"] * len(users) + ["assistant"] and {m[0] for m in messages} == {turn}


def _is_without(texts: list[str], before: list[str], word: str) -> bool:
    """Whether these are the texts that were there before, some of them perhaps without the word."""
    if word.isdecimal():
        return texts == before
    kept = [text for text in before if word not in text]
    return [text for text in texts if text in kept] == kept and not any(word in text for text in texts)


def in_files(state: Path, words: set[str], but: Said) -> Iterator[str]:
    """Files in which one of these words stands, as letters; not those that were said again."""
    again = {secret for _, _, text in but for secret in secrets_in(text.lower())}
    for path in sorted(path for path in state.rglob("*") if path.is_file()):
        try:
            data = path.read_bytes().lower()
        except FileNotFoundError:  # removed meanwhile
            continue
        yield from (f"{word} stands in {path.name}" for word in sorted(words - again) if word.encode() in data)
