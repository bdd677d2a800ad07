"""A user's program against the public names passes mypy --strict."""

import subprocess
import sys
from pathlib import Path

import edge_sir

PROGRAM = """
import threading

import edge_sir


def lost(event: edge_sir.Eviction) -> None:
    print(event.why, len(event))


def main() -> None:
    options = edge_sir.Options(budget=256, policy="sir:decay=0.99")
    with edge_sir.open_chat(options, on_evict=lost) as chat:
        for piece in chat.stream("My name is Ada."):
            text: str = piece.text
            print(text, end="")
        reply: edge_sir.Reply = chat.reply("What is my name?")
        print(reply.text, reply.evicted + 1)
        pinned: tuple[edge_sir.Passage, ...] = chat.pin("Ada")
        chat.forget(1)
        memory: edge_sir.Memory = chat.memory()
        for turn in memory:
            why: tuple[edge_sir.Loss, ...] = turn.losses
            print(turn.state, turn.n_dropped, [loss.cut for loss in why], [m.text for m in turn.said])
        undone: edge_sir.Undone = chat.undo()
        print(undone.lost, pinned, chat.set_budget(300) + 1)
        chat.transcript.save("talk.txt")
        chat.load(edge_sir.read_transcript("talk.txt"))
        threading.Thread(target=lambda: chat.reply("Hi")).start()
    again: edge_sir.Replayed = edge_sir.replay(edge_sir.read_trace("trace.jsonl"))
    print(again.as_recorded)


try:
    main()
except edge_sir.UserError as error:
    print(error)
"""


def _mypy(program: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    path = folder / "program.py"
    path.write_text(program)
    root = Path(edge_sir.__file__).parents[1]
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(root / "pyproject.toml")]
    command += ["--cache-dir", str(folder / "cache"), str(path)]
    return subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)


def test_a_user_s_program_is_typed(tmp_path: Path) -> None:
    run = _mypy(PROGRAM, tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_mistake_in_it_is_found(tmp_path: Path) -> None:
    """The control: names that were untyped would let this pass."""
    run = _mypy(PROGRAM.replace("text: str = piece.text", "text: int = piece.text"), tmp_path)
    assert run.returncode == 1 and "Incompatible types" in run.stdout
