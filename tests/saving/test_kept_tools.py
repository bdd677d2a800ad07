"""A session that goes on has its tools, and calls in it are what they were."""

from pathlib import Path

import pytest
from chatting import script
from keeping import die, open_kept, picture, same_picture

from edge_sir.testing import ToyEngine

CLOCK = {"type": "function", "function": {"name": "clock", "description": "The time"}}
CALL = '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'


@pytest.mark.parametrize("ends", ["closed", "dead"])
@pytest.mark.parametrize("changed", [False, True])
def test_a_session_keeps_its_tools(tmp_path: Path, ends: str, changed: bool) -> None:
    engine = ToyEngine(1500)
    chat = open_kept(tmp_path, engine, budget=1200, tools=None if changed else [CLOCK])
    engine.script[:] = script("Hello.", CALL)
    chat.reply("Hi")
    if changed:
        chat.set_tools([CLOCK])
    chat.reply("Time?")
    chat.add("tool", "Noon.")
    then = picture(chat)
    if ends == "closed":
        chat.close()
    else:
        die(chat)
    engine = ToyEngine(1500)
    again = open_kept(tmp_path, engine, budget=1200)
    same_picture(picture(again), then, but=("stats", "pieces", "held"))
    assert again.tools.names == ("clock",)
    engine.script[:] = script(CALL)
    assert [call.name for call in again.reply("And now?").calls] == ["clock"]
    again.set_tools(None)
    again.close()
    assert not open_kept(tmp_path, ToyEngine(1500), budget=1200).tools
