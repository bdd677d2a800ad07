"""Sessions by their names, as the library opens them, on a llama of two layers."""

import json
import logging
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from keeping import copied, die, picture, same_picture
from traces import traces

import edge_sir
from edge_sir.chat import Chat
from edge_sir.cli._idle import Idle
from edge_sir.core.budget import Budget
from edge_sir.core.ledger import ROLES
from edge_sir.errors import BudgetError, ComputeError, ConfigError, SessionBusyError, SessionError
from edge_sir.llama.engine import LlamaEngine
from edge_sir.memory.transcript import Message
from edge_sir.options import Options
from edge_sir.policies import from_spec
from edge_sir.runtime import Model
from edge_sir.store.folder import StateFolder
from edge_sir.store.values import ON_DISK, ON_PATH, Record

LOADING: dict[str, Any] = {"quiet": True, "threads": 1}
TEXTS = ("My name is Ada.", "I sell boats.", "My sister is Eve.")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def model(tiny_llama_path: Path) -> Iterator[Model]:
    with edge_sir.load(tiny_llama_path, **LOADING, budget=128, max_tokens=4, temperature=0) as model:
        yield model


def begin(model: Model, state: Path, **options: Any) -> None:
    """A session of three turns that was closed."""
    with model.chat(session="ada", state_dir=state, **options) as chat:
        for text in TEXTS:
            chat.reply(text)


def on_disk(state: Path) -> tuple[Any, ...]:
    """What of the session must not change when going on with it fails."""
    with StateFolder(state, read_only=True) as folder:
        info, store = folder.sessions()[0], folder.open("ada", read_only=True)
        stored = store.read()
        said = [(row.row, row.on_path, row.message.text) for row in store.messages()]
        snapshots = store.snapshots()
        return (info.model, info.fingerprint, info.record, said, stored.state, stored.unsent, snapshots)


def imported(state: Path, *texts: str) -> None:
    """A session that no model has read yet."""
    said = tuple(Message(i, "user", text, i) for i, text in enumerate(texts, 1))
    with StateFolder(state) as folder, folder.create("ada", model="", fingerprint="") as store:
        store.write(Record(0, said, b"", {}, len(texts)))


def said(chat: Chat, role: str = "user") -> list[str]:
    return [m.text for m in chat.transcript if m.role == role]


# ---- another model, and text that is read again ----------------------------------------------------


def test_a_session_of_another_model_is_refused_and_stays(
    model: Model, state: Path, tiny_gemma3_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(model, state)
    before = on_disk(state)
    given = Options(model=str(tiny_gemma3_path), session="ada", state_dir=state, **LOADING)
    says = r"'ada' was held with the model \S*llama\S*, not with gemma3.gguf; give --model .*, or --change-model"
    with monkeypatch.context() as patched, pytest.raises(ConfigError, match=says):
        patched.setattr("edge_sir.runtime.Model", None)  # it is refused before it is loaded
        edge_sir.open_chat(given)
    assert on_disk(state) == before
    with model.chat(session="ada", state_dir=state) as chat:
        assert chat.resumed is not None and chat.resumed.how == "exact"


def test_another_model_reads_its_text_again(model: Model, state: Path, tiny_gemma3_path: Path) -> None:
    begin(model, state, system="Be kind.", budget=120)
    with model.chat(session="ada", state_dir=state) as chat:
        replies = said(chat, "assistant")
    given = Options(model=str(tiny_gemma3_path), session="ada", state_dir=state, change_model=True, **LOADING)
    with edge_sir.open_chat(given) as chat:
        assert chat.resumed is not None and (chat.resumed.how, chat.resumed.n_turns) == ("read again", 3)
        assert said(chat) == list(TEXTS) and said(chat, "assistant") == replies
        assert (chat.system, chat.session.budget.n_cells) == ("Be kind.", 120)
        assert [found.state for found in chat.search("boats")] == [ON_PATH]  # once, though it is on disk twice
        chat.reply("And I have a cat.")
        then = picture(chat)
    with edge_sir.open_chat(Options(session="ada", state_dir=state, **LOADING)) as chat:
        assert chat.resumed is not None and chat.resumed.how == "exact" and "gemma3" in chat.engine.spec.model
        same_picture(picture(chat), then, ("held",))
    with pytest.raises(ConfigError, match="--change-model"):
        model.chat(session="ada", state_dir=state)


def test_a_system_prompt_that_was_removed_stays_so_for_another_model(
    model: Model, state: Path, tiny_gemma3_path: Path
) -> None:
    with model.chat(session="ada", state_dir=state, system="Be kind.") as chat:
        chat.reply(TEXTS[0])
        chat.set_system("Be brief.")
        chat.reply(TEXTS[1])
        chat.set_system("")
        chat.reply(TEXTS[2])
    given = Options(model=str(tiny_gemma3_path), session="ada", state_dir=state, change_model=True, **LOADING)
    with edge_sir.open_chat(given) as chat:
        assert chat.system is None and said(chat) == list(TEXTS)
        ledger = chat.session.ledger
        assert not (ledger["role"] == ROLES.index("system")).any()


def test_another_model_takes_no_more_cells_than_it_is_given(model: Model, state: Path, tiny_gemma3_path: Path) -> None:
    begin(model, state, budget=400)
    given = Options(
        model=str(tiny_gemma3_path), session="ada", state_dir=state, change_model=True, budget=128, **LOADING
    )
    with edge_sir.open_chat(given) as chat:
        n_ctx = chat.engine.spec.n_ctx
    given = given.model_copy(update={"session": "eve"})
    with edge_sir.open_chat(given) as chat:
        assert n_ctx == chat.engine.spec.n_ctx < 400


def test_its_chat_template_is_found_from_another_folder(
    tiny_llama_path: Path, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (here / "mine.jinja").write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    given = {"session": "ada", "state_dir": state, "max_tokens": 3, "budget": 128, **LOADING}
    monkeypatch.chdir(here)
    with edge_sir.open_chat(Options(model=str(tiny_llama_path), chat_template=Path("mine.jinja"), **given)) as chat:
        chat.reply(TEXTS[0])
    monkeypatch.chdir(there)
    with edge_sir.open_chat(Options(**given)) as chat:
        assert chat.resumed is not None and chat.resumed.how == "exact"


def test_a_model_that_was_moved_is_listed_where_it_is(tiny_llama_path: Path, state: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old.gguf", tmp_path / "new.gguf"
    shutil.copy(tiny_llama_path, old)
    given = {"session": "ada", "state_dir": state, "max_tokens": 3, "budget": 128, **LOADING}
    with edge_sir.open_chat(Options(model=str(old), **given)) as chat:
        chat.reply(TEXTS[0])
    old.rename(new)
    with edge_sir.open_chat(Options(model=str(new), **given)) as chat:
        assert chat.resumed is not None and chat.resumed.how == "exact"
    with StateFolder(state, read_only=True) as folder:
        assert folder.sessions()[0].model == str(new.resolve())


def test_another_model_gets_a_first_message_that_had_no_reply(
    model: Model, state: Path, tiny_gemma3_path: Path
) -> None:
    """No message is on the path yet. It was lost, and the log of this model went on from the tokens of the other."""
    chat = model.chat(session="ada", state_dir=state)
    next(chat.stream(TEXTS[0]))
    die(chat)
    given = Options(model=str(tiny_gemma3_path), session="ada", state_dir=state, change_model=True, **LOADING)
    chat = edge_sir.open_chat(given)
    assert chat.resumed is not None and (chat.resumed.how, chat.resumed.unsent) == ("read again", (TEXTS[0],))
    chat.reply(TEXTS[1], max_tokens=4)
    then = picture(chat)
    die(chat)
    assert said(chat) == list(TEXTS[:2])
    for snapshot in (state / "snapshots").iterdir():
        snapshot.write_bytes(b"damaged")
    with edge_sir.open_chat(given) as chat:
        assert chat.resumed is not None and chat.resumed.how in ("replayed", "rebuilt")
        same_picture(picture(chat), then, ("held", "stats", "scalars", "ledger.pos"))


def breaks(how: str, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode number `at` fails, or Ctrl-C comes in it."""
    decode, n = LlamaEngine.decode, 0

    def broken(self: LlamaEngine, *args: Any) -> Any:
        nonlocal n
        n += 1
        if n == at and how == "error":
            raise ComputeError("the machine is on fire")
        if n == at:
            signal.raise_signal(signal.SIGINT)
        return decode(self, *args)

    monkeypatch.setattr(LlamaEngine, "decode", broken)


@pytest.mark.parametrize("at", [1, 2, 3, 5])
@pytest.mark.parametrize("how", ["error", "ctrl-c"])
@pytest.mark.parametrize("kind", ["imported", "another model"])
def test_reading_that_is_broken_off_leaves_the_disk_as_it_was(
    kind: str, how: str, at: int, model: Model, state: Path, tiny_gemma3_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model.path
    if kind == "imported":
        imported(state, *TEXTS, "And that.", "And this.")
    else:
        begin(model, state)
        path = tiny_gemma3_path
    before = on_disk(state)
    given = Options(
        model=str(path), session="ada", state_dir=state, change_model=True, system="Be kind.", budget=128, **LOADING
    )
    with monkeypatch.context() as patched:
        breaks(how, at, patched)
        with pytest.raises(ComputeError if how == "error" else KeyboardInterrupt):
            edge_sir.open_chat(given)
    assert on_disk(state)[2:] == before[2:]
    if kind == "another model":
        assert on_disk(state) == before
    with edge_sir.open_chat(given) as chat:
        assert chat.resumed is not None and chat.resumed.how == "read again"
        assert said(chat)[:3] == list(TEXTS)


def test_an_imported_session_is_read_by_the_first_model(model: Model, state: Path) -> None:
    imported(state, *TEXTS)
    with model.chat(session="ada", state_dir=state, system="Be kind.") as chat:
        assert chat.resumed is not None and (chat.resumed.how, chat.resumed.n_turns) == ("read again", 3)
        assert said(chat) == list(TEXTS) and chat.system == "Be kind."
        chat.reply("Hello.")
        then = picture(chat)
    with model.chat(session="ada", state_dir=state) as chat:
        assert chat.resumed is not None and chat.resumed.how == "exact"
        same_picture(picture(chat), then, ("held",))


# ---- what it was begun with, and what is given -----------------------------------------------------


def test_what_a_session_was_begun_with_holds_where_nothing_is_given(tiny_gemma3_wide_path: Path, state: Path) -> None:
    begun = {"budget": 100, "policy": "streaming", "system": "Be kind.", "max_tokens": 3, "kv_v": "q8_0"}
    begun |= {"flash_attn": "on", "positions": "gaps", "recall": "off", "temperature": 0.5, "seed": 7}
    path = str(tiny_gemma3_wide_path)
    with edge_sir.open_chat(Options(model=path, session="ada", state_dir=state, **LOADING, **begun)) as chat:
        chat.reply("Hello.")
    with edge_sir.open_chat(Options(session="ada", state_dir=state, **LOADING)) as chat:
        assert chat.resumed is not None and chat.resumed.how == "exact"
        session = chat.session
        assert (session.budget.n_cells, session.policy.spec, chat.system) == (100, "streaming", "Be kind.")
        assert (chat.max_tokens, session.mode, chat._recall) == (3, "gaps", None)
        assert (chat.sampling.temperature, chat.sampling.seed) == (0.5, 7)
        chat.set_budget(90)
        chat.set_policy("sir")
        chat.set_system("Be quick.")
    with edge_sir.open_chat(Options(session="ada", state_dir=state, max_tokens=5, **LOADING)) as chat:
        session = chat.session
        assert (session.budget.n_cells, session.policy.spec, chat.system) == (90, "sir", "Be quick.")
        assert chat.max_tokens == 5
    with edge_sir.open_chat(Options(session="ada", state_dir=state, **LOADING)) as chat:
        assert chat.max_tokens == 5


def test_what_is_kept_is_said_and_what_is_given_instead(tiny_llama_path: Path, state: Path) -> None:
    given: dict[str, Any] = {"session": "ada", "state_dir": state, **LOADING}
    begun = Options(model=str(tiny_llama_path), budget=100, max_tokens=3, stop=("x y",), **given)
    with edge_sir.open_chat(begun) as chat:
        assert chat.resumed is None and chat.begun is not None
        assert chat.begun.changed == {"budget": 100, "max_tokens": 3, "stop": ("x y",)}
        chat.reply("Hello.")
        chat.set_budget(90)
    with edge_sir.open_chat(Options(**given, max_tokens=5, stop=("x y",), temperature=0.5)) as chat:
        assert chat.begun is None and chat.resumed is not None
        assert (chat.resumed.kept, chat.resumed.changed) == ({"budget": 90}, {"max_tokens": 5, "temperature": 0.5})
    with edge_sir.open_chat(Options(**given)) as chat:
        assert chat.resumed is not None and chat.resumed.changed == {}
        assert chat.resumed.kept == {"budget": 90, "max_tokens": 5, "temperature": 0.5, "stop": ["x y"]}


def test_nothing_is_kept_of_a_session_in_which_nothing_was_said(model: Model, state: Path) -> None:
    begin(model, state)
    with model.chat(session="adda", state_dir=state, system="Be kind.") as chat:
        assert chat.begun is not None and (chat.begun.name, chat.begun.like) == ("adda", "ada")
    with StateFolder(state) as folder:
        assert folder.names() == ["ada"] and folder.verify() == []
    with model.chat(session="boats", state_dir=state) as chat:
        assert chat.begun is not None and chat.begun.like == ""
        chat.reply(TEXTS[0])
        chat.clear()
    with model.chat(session="eve", state_dir=state) as chat:
        next(chat.stream(TEXTS[0]))
        die(chat)
    with StateFolder(state) as folder:
        assert set(folder.names()) == {"ada", "boats", "eve"}


def test_the_last_exchange_is_there_and_whether_its_reply_was_stopped(model: Model, state: Path) -> None:
    begin(model, state)
    with model.chat(session="ada", state_dir=state) as chat:
        assert chat.resumed is not None and not chat.resumed.is_cut
        assert [m.role for m in chat.resumed.last] == ["user", "assistant"] and chat.resumed.last[0].text == TEXTS[-1]
        stream = chat.stream("And now?")
        next(stream)
        stream.close()
    for _ in range(2):
        with model.chat(session="ada", state_dir=state) as chat:
            assert chat.resumed is not None and chat.resumed.is_cut and chat.resumed.last[0].text == "And now?"
    with model.chat(session="ada", state_dir=state) as chat:
        for _ in chat.regenerate():
            pass
    with model.chat(session="ada", state_dir=state) as chat:
        assert chat.resumed is not None and not chat.resumed.is_cut


def test_a_chat_that_only_looks_says_what_is_on_disk(model: Model, state: Path) -> None:
    begin(model, state)
    with model.chat(session="ada", state_dir=state, read_only=True) as chat:
        assert chat.is_looking and [one.where for one in chat.search("boats")] == ["resident"]
        chat.forget("boats")
        assert [one.where for one in chat.search("boats")] == [ON_DISK]
    with model.chat(session="ada", state_dir=state) as chat:
        assert not chat.is_looking and [one.where for one in chat.search("boats")] == ["resident"]


@pytest.mark.parametrize("is_closed", [True, False])
def test_what_is_given_is_taken_after_going_on(is_closed: bool, model: Model, state: Path, tmp_path: Path) -> None:
    begin(model, state)
    with model.chat(session="ada", state_dir=state) as chat:
        for text in TEXTS:
            chat.reply(text)
        path = state if is_closed else copied(state, tmp_path / "copy")
    with model.chat(session="ada", state_dir=path, budget=96, policy="streaming", system="Be kind.") as chat:
        assert chat.resumed is not None and chat.resumed.how == ("exact" if is_closed else "replayed")
        session = chat.session
        assert (session.budget.n_cells, session.policy.spec, chat.system) == (96, "streaming", "Be kind.")
        assert len(session.ledger) <= 96 and session.turn == 7
        chat.reply("Hello.")
    with model.chat(session="ada", state_dir=path, budget=200) as chat:
        session = chat.session
        assert (session.budget.n_cells, session.policy.spec, chat.system) == (200, "streaming", "Be kind.")
        for text in TEXTS * 3:
            chat.reply(text)
        assert len(session.ledger) > 96


def test_a_budget_that_does_not_hold_what_is_pinned_is_refused_and_the_session_stays(model: Model, state: Path) -> None:
    begin(model, state)
    with model.chat(session="ada", state_dir=state) as chat:
        chat.add("user", "Mind that: " + "boats, " * 5, pinned=True)
    before = on_disk(state)
    with pytest.raises(BudgetError):
        model.chat(session="ada", state_dir=state, budget=30)
    assert on_disk(state) == before
    with model.chat(session="ada", state_dir=state) as chat:
        assert chat.session.budget.n_cells == 128


def test_positions_that_differ_are_refused(model: Model, state: Path) -> None:
    begin(model, state, positions="gaps")
    before = on_disk(state)
    with pytest.raises(ConfigError, match="has positions gaps; go on without --positions"):
        model.chat(session="ada", state_dir=state, positions="packed")
    assert on_disk(state) == before
    for positions in ("gaps", "auto"):
        with model.chat(session="ada", state_dir=state, positions=positions) as chat:
            assert chat.session.mode == "gaps"


def test_an_earlier_system_prompt_can_be_forgotten(model: Model, state: Path) -> None:
    with model.chat(session="ada", state_dir=state, system="Your code is QXZJQ.") as chat:
        chat.reply("Hello.")
        chat.set_system("Be kind.")
        chat.reply("Hello.")
        chat.forget("QXZJQ")
        tokens = chat.codec.encode("QXZJQ", special=False).tolist()
    assert traces(state, "QXZJQ", tokens) == []


# ---- several at once -------------------------------------------------------------------------------


def test_two_sessions_on_one_model_do_not_meet(model: Model, state: Path) -> None:
    with model.chat(session="ada", state_dir=state) as ada, model.chat(session="eve", state_dir=state) as eve:
        for text in TEXTS:
            ada.reply(text)
            eve.reply(text[::-1])
        with pytest.raises(SessionBusyError, match="'ada' is open in this process"):
            model.chat(session="ADA", state_dir=state)
        with model.chat(session="ada", state_dir=state, read_only=True) as looking:
            same_picture(picture(looking), picture(ada), ("held",))
            looking.reply("And mine is Finn.")
            assert not looking.is_saved
        then = picture(ada), picture(eve)
    for name, before in zip(("ada", "eve"), then, strict=True):
        with model.chat(session=name, state_dir=state) as chat:
            assert chat.resumed is not None and chat.resumed.how == "exact"
            same_picture(picture(chat), before, ("held",))


def test_two_sessions_in_two_threads(model: Model, state: Path) -> None:
    pictures, errors = dict[str, Any](), list[BaseException]()

    def talk(name: str) -> None:
        try:
            with model.chat(session=name, state_dir=state, budget=96, archive_on_disk=True) as chat:
                for text in TEXTS * 4:
                    chat.reply(f"{name}: {text}")
                chat.undo()
                pictures[name] = picture(chat)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=talk, args=(name,)) for name in ("ada", "eve")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    for name, before in pictures.items():
        with model.chat(session=name, state_dir=state) as chat:
            same_picture(picture(chat), before, ("held",))
    with StateFolder(state) as folder:
        assert folder.verify() == []


def test_a_fork_is_not_saved_and_changes_nothing(model: Model, state: Path) -> None:
    with model.chat(session="ada", state_dir=state) as chat:
        for text in TEXTS:
            chat.reply(text)
        before = picture(chat)
        engine = model.open_engine(128)
        engine.load(0, chat.engine.dump(0))
        other = chat.session.fork(engine, from_spec("sir"), Budget(128))
        other.begin_turn()
        other.start_message()
        other.feed(chat.codec.encode("Something else entirely.", special=False), "user")
        while other.step():
            pass
        model.release(engine)
        chat.stats()
        same_picture(picture(chat), before)
    with model.chat(session="ada", state_dir=state) as chat:
        assert chat.resumed is not None and chat.resumed.how == "exact"
        same_picture(picture(chat), before, ("held",))


def test_while_nobody_types_the_cells_are_written(model: Model, state: Path) -> None:
    """`Idle` does it in a thread of its own, after a turn and in the midst of a reply."""
    with model.chat(session="ada", state_dir=state, wait_s=5) as chat:
        chat.reply(TEXTS[0])
        with StateFolder(state, read_only=True) as folder:
            looking = folder.open("ada", read_only=True)
            assert looking.snapshots() == []
            idle = Idle(chat.snapshot, 0.01)
            done = threading.Event()
            timer = threading.Timer(0.5, done.set)
            with idle:
                timer.start()
                done.wait()
            assert idle.error is None and [row.record for row in looking.snapshots()] == [looking.info.record]
            stream = chat.stream(TEXTS[1])
            next(stream)
            idle = Idle(chat.snapshot, 0.01)
            done.clear()
            timer = threading.Timer(0.5, done.set)
            with idle:
                timer.start()
                done.wait()
            assert isinstance(idle.error, SessionError | None)
            stream.close()
            then = picture(chat)
    with model.chat(session="ada", state_dir=state) as chat:
        same_picture(picture(chat), then, ("held",))


def test_to_look_at_nothing_is_a_mistake(model: Model) -> None:
    with pytest.raises(ConfigError, match="--read-only looks at a session that is saved; give --session NAME"):
        model.chat(read_only=True)


def test_a_chat_that_is_no_session_says_so(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), model.chat() as chat:
        for call in (chat.snapshot, lambda: chat.search("boats")):
            with pytest.raises(ConfigError, match="no session: start it with --session NAME"):
                call()
        assert chat.resumed is None and not chat.is_saved


def test_terms_are_json_all_through(model: Model, state: Path) -> None:
    begin(model, state, stop=("\n",))
    with StateFolder(state, read_only=True) as folder:
        info = folder.sessions()[0]
        assert json.loads(json.dumps(info.options)) == info.options and info.options["stop"] == ["\n"]
    with model.chat(session="ada", state_dir=state) as chat:
        assert "\n" in chat.stop
