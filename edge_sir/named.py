"""Chats with a name: what a session was begun with, and how its chat is saved and goes on."""

import difflib
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sir.chat.resumed import Begun, Resumed, last_in, said_in
from edge_sir.errors import ConfigError, StateError
from edge_sir.options import Options, state_folder
from edge_sir.store.folder import StateFolder
from edge_sir.store.session import SessionStore
from edge_sir.store.values import Stored

if TYPE_CHECKING:
    from edge_sir.chat import Chat
    from edge_sir.chat.saving import Saver
    from edge_sir.engine import Engine, TextCodec

__all__ = ["Named", "kept_terms", "not_default", "terms_of"]

_log = logging.getLogger(__name__)

_NOT_KEPT = frozenset(
    {
        "session",
        "state_dir",
        "read_only",
        "change_model",
        "resume_s",
        "trace",
        "quiet",
        "threads",
        "gpu_layers",
        "archive",
    }
)
"""Options of one process, not of the conversation."""

_KEPT = frozenset(Options.model_fields) - _NOT_KEPT - {"model", "system"}
"""Options that a person who goes on with a session is reminded of."""


@dataclass(slots=True)
class Named:
    """A session that a chat is opened for. options: as given, and where nothing was given, as it was begun with.

    store: None until it is known with which model it begins. stored: what is on disk; None for a new session.
    """

    name: str
    folder: StateFolder
    options: Options
    given: frozenset[str]
    store: SessionStore | None = None
    stored: Stored | None = None
    kept: Mapping[str, Any] = field(default_factory=dict)  # as in `Resumed`
    changed: Mapping[str, Any] = field(default_factory=dict)
    _used: float = field(default=0.0)
    _model: tuple[str, str] = field(default=("", ""))  # how it is found, and its fingerprint

    @classmethod
    def open(
        cls, options: Options, given: Collection[str] | None = None, loaded: Mapping[str, Any] | None = None
    ) -> "Named":
        """Opens the state folder, and the session in it if there is one.

        given: which of the options hold whatever the session was begun with; by default all that are set. loaded:
        others that do, since its model is loaded already. Raises ConfigError for no name, and with `read_only` for no
        session; SessionBusyError, StoreError.
        """
        assert options.session is not None
        folder = StateFolder(state_folder(options.state_dir), read_only=options.read_only)
        try:
            found = folder.find(options.session)
            given = frozenset(options.model_fields_set if given is None else given)
            if found is None:
                if options.read_only:
                    raise ConfigError(f"there is no session {options.session!r} to read; begin it without --read-only")
                changed = not_default({name: getattr(options, name) for name in given & _KEPT})
                return cls(options.session, folder, options, given, changed=changed)
            store = folder.open(options.session, read_only=options.read_only)
            try:
                stored = store.read()
                terms = terms_of(stored.state, found.options)
                merged = _merged(options, given, terms | dict(loaded or {}))
            except BaseException:
                store.close()
                raise
            kept, changed = _kept_and_changed(merged, given | set(loaded or {}), terms)
            return cls(found.name, folder, merged, given, store, stored, kept, changed, found.used)
        except BaseException:
            folder.close()
            raise

    def close(self) -> None:
        """Gives up a session that no chat was opened for; one that is new is none then."""
        if self.store is not None:
            is_nothing = self.stored is None and self.store.info.record == 0
            self.store.close()
            if is_nothing:
                self.folder.remove(self.name)
        self.folder.close()

    @property
    def state(self) -> Mapping[str, Any]:
        """What was saved of session and chat; empty if no model has read it yet."""
        return {} if self.stored is None else self.stored.state

    @property
    def n_cells(self) -> int:
        """Cells that it takes to go on with what was saved last, 0 for none yet and where its text is read again."""
        return int(self.state["session"]["budget"]) if self._is_held_with(self._model[1]) else 0

    def _is_held_with(self, fingerprint: str) -> bool:
        """Whether a model saved it, and it was this one."""
        return bool(self.state) and self.state["session"]["fingerprint"] == fingerprint

    def check_model(self, fingerprint: str, name: str) -> None:
        """Raises ConfigError if another model held the session, unless that is wanted."""
        if self.state and not self._is_held_with(fingerprint) and not self.options.change_model:
            held = str(self.state.get("terms", {}).get("model", ""))
            file = Path(held).name
            was = f"with another file of the name {file}" if file == name else f"with the model {file}, not with {name}"
            raise ConfigError(
                f"the session {self.name!r} was held {was}; give --model {held} to go on with that, or --change-model "
                f"to have {name} read what was said"
            )

    def saver(self, model: str, fingerprint: str) -> "Saver":
        """Saves the chat from now on. model: how it is found again. A session that is not there yet is begun."""
        from edge_sir.chat.saving import Saver  # with the archive, of which a chat without a name needs nothing

        terms = kept_terms(self.options, model)
        self._model = model, fingerprint
        if self.store is None:
            self.store = self.folder.create(self.name, model=model, fingerprint=fingerprint, options=terms)
        return Saver(
            self.folder,
            self.store,
            terms=terms,
            resume_s=self.options.resume_s,
            on_disk=self.options.archive_on_disk,
        )

    def resume(self, saver: "Saver", engine: "Engine", codec: "TextCodec", scores: frozenset[str]) -> None:
        """Gives the saver what the chat goes on from, if there are cells. The disk stays as it is until `go_on`."""
        if self.stored is not None:
            saver.hold()
        if self._is_held_with(engine.spec.fingerprint):
            try:
                saver.resume(engine, codec, scores)
            except StateError as error:
                _log.warning("the session's cells cannot be had again (%s)", error)
                engine.remove(0, 0, -1)

    def go_on(self, chat: "Chat", saver: "Saver") -> None:
        """Brings a chat that was just opened to where its session is, and to the options that were given for it."""
        if self.stored is None:
            chat.begun = Begun(self.name, self._like(), self.changed)
            return
        going_on, n_turns = saver.going_on, chat.session.turn
        if going_on is not None:
            self._take_given(chat)
            saver.release()
        elif self.stored.path or self.state:
            n_turns = self._read_again(chat, saver)
        else:
            saver.release()
        self._note_model()
        if going_on is None and not self.stored.path and not self.stored.unsent:
            chat.begun = Begun(self.name, "", self.changed)
            return
        last = last_in(self.stored)
        chat.resumed = Resumed(
            self.name,
            n_turns,
            self._used,
            "read again" if going_on is None else going_on.how,
            0 if going_on is None else going_on.n_replayed,
            0 if going_on is None else going_on.n_left_out,
            self.stored.unsent,
            last,
            going_on is not None and bool(last) and last[-1].turn == going_on.chat.get("cut_turn"),
            self.kept,
            self.changed,
        )

    def _like(self) -> str:
        """The name of another session that a person may have meant."""
        names = {name.casefold(): name for name in self.folder.names() if name != self.name}
        close = difflib.get_close_matches(self.name.casefold(), names, n=1)
        return names[close[0]] if close else ""

    def _note_model(self) -> None:
        assert self.store is not None
        info = self.store.info
        if not self.store.read_only and (info.model, info.fingerprint) != self._model:
            self.store.note_model(*self._model)

    def _read_again(self, chat: "Chat", saver: "Saver") -> int:
        """The model reads what was said as text; what is on disk becomes an earlier conversation."""
        assert self.stored is not None
        said = [row.message for row in said_in(self.stored)]
        if "system" in self.given:
            said = [message for message in said if message.role != "system"]
        if said:
            _log.warning("the text of %d messages is read again", len(said))
        n_turns = chat.load(said)
        if self.state and "system" not in self.given and chat.system != self.state["chat"]["system"]:
            chat.set_system(self.state["chat"]["system"] or "")  # it was removed, and stands in the text all the same
        saver.begin_anew(self.stored.unsent)
        return n_turns

    @property
    def tools(self) -> str:
        """JSON text of the tools that the session has, "" for none."""
        return str(self.state["chat"].get("tools", "")) if self.state else ""

    def _take_given(self, chat: "Chat") -> None:
        options, mode = self.options, chat.session.mode
        if "positions" in self.given and options.positions not in ("auto", mode):
            raise ConfigError(f"the session {self.name!r} has positions {mode}; go on without --positions")
        if "policy" in self.given and options.policy != chat.session.policy.spec:
            chat.set_policy(options.policy)
        if "budget" in self.given and options.budget != chat.session.budget.n_cells:
            chat.set_budget(options.budget)
        if "system" in self.given and (options.system or None) != chat.system:
            chat.set_system(options.system or "")


def kept_terms(options: Options, model: str) -> dict[str, Any]:
    """What a session keeps of the options that it is begun with, as JSON has it. model: how it is found again."""
    # Its system prompt is in the state of its chat alone, where it can be replaced and forgotten.
    wanted = set(Options.model_fields) - _NOT_KEPT - {"system"}
    kept = options.model_dump(mode="json", exclude_unset=True, include=wanted)
    if options.chat_template is not None:  # the next process may be in another folder
        kept["chat_template"] = str(options.chat_template.expanduser().resolve())
    return kept | {"model": model}


def terms_of(state: Mapping[str, Any], begun_with: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a session keeps: what it was begun with, as flags and commands have changed it since."""
    if not state:
        return dict(begun_with)
    session, chat = state["session"], state["chat"]
    return dict(state["terms"]) | {"policy": session["policy"], "budget": session["budget"], "system": chat["system"]}


def _merged(options: Options, given: Collection[str], terms: Mapping[str, Any]) -> Options:
    """The options as given, where nothing was given as the session was begun with, and else as they are set."""
    are_set = options.model_dump(by_alias=True, exclude_unset=True)
    kept = {name: value for name, value in terms.items() if name in Options.model_fields and name not in _NOT_KEPT}
    return type(options)(**(are_set | kept | {name: value for name, value in are_set.items() if name in given}))


def not_default(terms: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not as they are where nothing is given, model and system prompt aside."""
    defaults = Options()
    names = [name for name in Options.model_fields if name in _KEPT and name in terms]
    return {name: terms[name] for name in names if not _is_same(terms[name], getattr(defaults, name))}


def _kept_and_changed(
    options: Options, given: Collection[str], terms: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the session keeps of its own, and what is given now and differs from that."""
    kept = not_default({name: value for name, value in terms.items() if name not in given})
    had, names = Options().model_dump() | dict(terms), [n for n in Options.model_fields if n in _KEPT and n in given]
    return kept, {name: getattr(options, name) for name in names if not _is_same(getattr(options, name), had[name])}


def _is_same(value: Any, other: Any) -> bool:
    """As JSON has them: what was on disk is that."""
    return bool(_plain(value) == _plain(other))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
