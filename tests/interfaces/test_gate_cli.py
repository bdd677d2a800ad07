"""What a person sees of the gate."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_families import FAMILIES

LINES = b"Tell me about the sea and the ships that cross it by night.\n" * 12


@pytest.mark.parametrize(("name", "done"), [("llama", "moved together"), ("qwen2-yarn", "read again")])
def test_the_trained_length_is_announced_and_the_talk_goes_on(
    run_cli: Callable, tiny_folder: Path, name: str, done: str
) -> None:
    """512 positions, in gap mode: renumbered where keys can move, else read again."""
    path = next(family for family in FAMILIES if family.name == name).file(tiny_folder)
    arguments = ("chat", "--model", path, "--budget", "256", "--positions", "gaps", "--max-tokens", "16")
    told = run_cli(*arguments, input=LINES).succeeded().err.decode().splitlines()
    notices = [line for line in told if "trained length" in line]
    assert notices and all(
        line.startswith("edge-sir: the trained length of 512 positions is reached: ") and line.endswith(done)
        for line in notices
    )
    assert run_cli(*arguments, "--quiet", input=LINES).succeeded().err == b""


def test_quantized_keys_do_not_pack_and_do_talk(run_cli: Callable, tiny_folder: Path) -> None:
    path = next(family for family in FAMILIES if family.name == "llama64+q4_0").file(tiny_folder)
    arguments = ("chat", "--model", path, "--budget", "256", "--kv-k", "q8_0", "--max-tokens", "8")
    complaint = run_cli(*arguments, "--positions", "packed").complaint
    assert "moving q8_0 keys ruins them; packing needs --kv-k f16" in complaint and "--positions gaps" in complaint
    assert len(run_cli(*arguments, "--quiet", input=LINES).succeeded().out.splitlines()) >= 12
