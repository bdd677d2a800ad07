"""On llama.cpp: who goes on with a session draws what the run that went on draws, to the last bit.

That holds after a snapshot, and after a power cut, when turns are done again; with recalls among them if the cells of
what was recalled are on disk, or left the cache after the snapshot.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keeping import copied
from next_process import answers

import edge_sir
from edge_sir import models
from edge_sir.chat import Chat
from edge_sir.errors import ModelError
from edge_sir.options import Options

FACTS = (
    "Please remember: my cousin Beatrix keeps seventeen turtles in Ljubljana.",
    "My bicycle is a green Bianchi from 1985, and its bell is broken.",
)
FILL = (
    "Rinse the rice, add one and a half cups of water for each cup, and let it simmer until no water is left.",
    "The sky is blue since the air scatters light of short waves more than that of long ones.",
    "The Danube has its source in the Black Forest, the Rhone in Valais, and the Vltava in Bohemia.",
    "Pedals came in the sixties of that century, and the safety machine with a chain twenty years after them.",
)
ASK, ASK_AGAIN = "How many turtles does Beatrix keep?", "Which colour has my bicycle?"
ON = {
    "replayed": ("Tell a long story, in many words, of a fox and a hen.", "Explain how a clock works, step by step."),
    "exact": ("List ten fruits and say of each how it tastes.", "Write a letter to your aunt on holidays at sea."),
}
QUANTIZED = {"kv_v": "q8_0", "flash_attn": "on"}


def fill(chat: Chat) -> None:
    for text in FILL * 2:
        chat.add("user", text)
        chat.add("assistant", "I see.")


def talk(chat: Chat) -> None:
    """Facts that are evicted and recalled."""
    chat.add("user", FACTS[0])
    chat.add("assistant", "I will.")
    fill(chat)
    assert chat.reply(ASK).recalled
    chat.add("user", FACTS[1])
    chat.add("assistant", "Noted.")
    fill(chat)
    assert chat.reply(ASK_AGAIN).recalled
    chat.reply("Thank you.")


def in_next_process(said: Sequence[str], **options: Any) -> Any:
    """What `next_process` says of going on with a session."""
    script = Path(__file__).with_name("next_process.py")
    call = json.dumps({"options": options | {"quiet": True}, "said": said}, default=str)
    done = subprocess.run([sys.executable, script, call], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("on_disk", [False, True], ids=["in memory", "on disk"])
@pytest.mark.parametrize("positions", ["packed", "gaps"])
@pytest.mark.parametrize("name", ["tiny_llama_path", "tiny_gemma3_wide_path"])
def test_what_is_done_again_is_the_same_to_the_last_bit(
    name: str, positions: str, on_disk: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Keys are rounded whenever they follow their positions: a replay lets them do so when they did."""
    n_recalled = 0
    loading = {"quiet": True, "threads": 1, "budget": 192, "max_tokens": 6, "temperature": 0, "resume_s": 1e6}
    saving = {"session": "ada", "archive_on_disk": on_disk, "positions": positions}
    with edge_sir.load(request.getfixturevalue(name), **loading) as model:
        chat = model.chat(state_dir=tmp_path / "state", **saving)
        for number, text in enumerate((FACTS[0], *FILL, ASK, FACTS[1], *FILL, ASK, ASK_AGAIN, *FILL[:2], ASK)):
            n_recalled += bool(chat.reply(text).recalled)
            if on_disk and number == 2:
                chat.snapshot()
            if number % 3 != 2:
                continue
            path = copied(tmp_path / "state", tmp_path / "copy")
            with model.chat(state_dir=path, session="ada") as other:
                how = "exact" if on_disk and number == 2 else "replayed"
                assert other.resumed is not None and (other.resumed.how, other.resumed.n_left_out) == (how, 0)
                np.testing.assert_array_equal(other.session.last_logits, chat.session.last_logits)
                assert other.engine.dump(0) == chat.engine.dump(0)
            shutil.rmtree(path)
    assert n_recalled > 1


@pytest.fixture(params=["smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct", "gemma-3-270m"])
def model_path(request: pytest.FixtureRequest) -> Path:
    """The others where they are, and with `--model-walks 300`, since they take minutes."""
    if not request.param.startswith("smollm2") and request.config.getoption("--model-walks") < 300:
        pytest.skip("--model-walks is less than 300")
    try:
        return models.resolve(request.param).path
    except ModelError:
        if request.param.startswith("smollm2"):
            raise
        pytest.skip("this model is not here")


@pytest.mark.model
@pytest.mark.parametrize("kv", [{}, QUANTIZED | {"archive_on_disk": True}], ids=["f16", "q8_0 on disk"])
@pytest.mark.parametrize("positions", ["packed", "gaps"])
def test_the_next_process_draws_what_the_run_that_went_on_draws(
    model_path: Path, positions: str, kv: dict[str, Any], tmp_path: Path
) -> None:
    """50 tokens, greedy; after the power went, and after a snapshot. What is on disk can be recalled then, too."""
    state = tmp_path / "state"
    here = Options(
        model=str(model_path),
        positions=positions,
        budget=144,
        temperature=0,
        max_tokens=40,
        threads=1,
        session="ada",
        state_dir=state,
        quiet=True,
        resume_s=1e6,
        **kv,
    )
    with edge_sir.open_chat(here) as chat:
        talk(chat)
        for how, copy in (("replayed", tmp_path / "cut"), ("exact", tmp_path / "closed")):
            if how == "exact":
                chat.snapshot()
            copied(state, copy)
            logits = chat.session.last_logits.astype(float).tolist()
            said: list[str] = []
            drawn: list[list[int]] = []
            while sum(map(len, drawn)) < 50:  # a base model says little at a time
                said += (ASK, *ON[how]) if here.archive_on_disk else ON[how]
                drawn += answers(chat, said[len(drawn) :])
            then = in_next_process(said, session="ada", state_dir=copy, threads=1, resume_s=1e6)
            assert (then["how"], then["n_left_out"]) == (how, 0)
            assert then["logits"] == logits
            assert then["drawn"] == drawn


def test_a_turn_is_taken_back_that_is_longer_than_the_window_that_was_saved(
    tiny_gemma3_path: Path, tmp_path: Path
) -> None:
    """Of a sliding window's cells a snapshot has only those that are still seen; what they saw is read again then."""
    here: dict[str, Any] = {"session": "ada", "state_dir": tmp_path / "state", "budget": 128, "max_tokens": 8}
    with edge_sir.load(tiny_gemma3_path, quiet=True, threads=1) as model:
        with model.chat(**here) as chat:
            for number in range(6):
                chat.reply(f"My locker number is {number} and the river is long.")
        with model.chat(**here) as chat:
            assert chat.resumed is not None and chat.resumed.how == "exact"
            n_rereads = chat.session.stats.rereads
            chat.undo()
            assert chat.session.stats.rereads > n_rereads
            assert chat.engine.pos_range(0) == (0, chat.session.ledger.next_pos - 1)
            chat.reply("And then?")
        with model.chat(**here) as chat:
            assert chat.session.stats.rereads > n_rereads
