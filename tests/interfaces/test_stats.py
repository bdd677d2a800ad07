"""`edge-sir chat --stats FILE`: the figures of a run."""

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_sir import policies

KEYS = {
    *("policy", "position_mode", "budget", "n_ctx", "turns", "tokens_in", "tokens_out"),
    *("resident", "max_resident", "mean_resident", "evicted", "evictions", "kshifts", "packs", "rereads"),
    *("decode_s", "score_s", "evict_s", "kv_bytes", "model", "conversations", "archive_bytes"),
}
TURNS = "".join(f"tell me {i} things about the {i}th hello\n" for i in range(64)).encode()
UNENDED = 10**6  # a trained length that no test reaches


@pytest.fixture
def figures(run_cli: Callable, workdir: Path) -> Callable[..., dict]:
    """Runs a conversation and returns what --stats wrote."""

    def run(model: Path, *args: str, input: bytes = TURNS) -> dict:
        file = workdir / "s.json"
        args = ("--budget", "96", "--max-tokens", "8", "--stats", file.name, *args)
        run_cli("chat", "--model", model, "--quiet", *args, input=input).succeeded()
        assert os.listdir(workdir) == [file.name]  # noqa: PTH208 - and nothing else is left there
        return json.loads(file.read_text(encoding="utf-8"))

    return run


def check(told: dict) -> None:
    """What holds in every conversation."""
    assert set(told) == KEYS
    assert 0 < told["mean_resident"] <= told["max_resident"] <= told["budget"] <= told["n_ctx"]
    assert told["resident"] <= told["max_resident"]
    assert told["tokens_in"] + told["tokens_out"] - told["evicted"] == told["resident"]
    assert bool(told["evictions"]) == bool(told["evicted"])
    assert told["evictions"] <= told["evicted"]
    assert min(told["decode_s"], told["score_s"], told["evict_s"]) >= 0 < told["decode_s"]
    assert told["kv_bytes"] > 0


# ---- what the figures say ------------------------------------------------------------------------


def test_packed(figures: Callable, write_model: Callable) -> None:
    told = figures(write_model("unended", n_ctx_train=UNENDED), "--positions", "packed")
    check(told)
    assert told["evicted"] > 0 and told["kshifts"] > 0
    assert told["packs"] == told["rereads"] == 0
    expected = {"policy": "sir", "position_mode": "packed", "budget": 96, "n_ctx": 256, "turns": 64}
    assert {key: told[key] for key in expected} == expected
    assert told["model"] == "unended.gguf"
    assert 64 <= told["tokens_out"] <= 64 * 8


def test_gaps_never_touch_a_key(figures: Callable, write_model: Callable) -> None:
    told = figures(write_model("unended", n_ctx_train=UNENDED), "--positions", "gaps")
    check(told)
    assert told["evicted"] > 0 and told["position_mode"] == "gaps"
    assert told["kshifts"] == told["packs"] == told["rereads"] == 0


def test_gaps_pack_where_the_trained_length_ends(figures: Callable, tiny_llama_path: Path) -> None:
    told = figures(tiny_llama_path, "--positions", "gaps")
    check(told)
    assert told["kshifts"] == told["packs"] > 0 == told["rereads"]


def test_gaps_read_again_where_keys_cannot_move(figures: Callable, tiny_gemma3_path: Path) -> None:
    told = figures(tiny_gemma3_path)
    check(told)
    assert told["position_mode"] == "gaps"
    assert told["rereads"] > 0 == told["kshifts"] == told["packs"]


@pytest.mark.parametrize("name", policies.names())
def test_every_policy_runs(figures: Callable, write_model: Callable, name: str) -> None:
    turns = b"".join(TURNS.splitlines(keepends=True)[:20])
    told = figures(write_model("2k", n_ctx_train=2048), "--policy", name, input=turns)
    check(told)
    assert (told["policy"], told["turns"]) == (name, 20)
    if policies.policy_class(name).evicts:
        assert told["budget"] == 96 and told["evicted"] > 0
    else:  # thoughts leave even here
        assert told["budget"] == 2048 and told["resident"] > 800 and told["kshifts"] <= told["evictions"]


def test_the_figures_agree_with_what_the_turns_said(run_cli: Callable, tiny_llama_path: Path, workdir: Path) -> None:
    args = ("--budget", "96", "--max-tokens", "8", "--stats", "s.json", "--json")
    out = run_cli("chat", "--model", tiny_llama_path, *args, input=TURNS).succeeded().out
    replies = [json.loads(line) for line in out.splitlines()]
    told = json.loads((workdir / "s.json").read_text())
    assert sum(reply["evicted"] for reply in replies) == told["evicted"]
    assert replies[-1]["resident"] == told["resident"]
    assert max(reply["resident"] for reply in replies) <= told["max_resident"]


def test_what_a_stop_string_takes_back_is_no_eviction(figures: Callable, tiny_llama_path: Path) -> None:
    """Tokens behind the start of a stop string were generated, and are neither resident nor evicted."""
    told = figures(tiny_llama_path, *(f"--stop={c}" for c in "aeiou|}~"), *("--stop=xy", "--stop=|w"))
    assert set(told) == KEYS and told["turns"] == 64
    assert 0 <= told["tokens_in"] + told["tokens_out"] - told["evicted"] - told["resident"] <= 64


def test_a_short_conversation_forgets_nothing(figures: Callable, tiny_llama_path: Path) -> None:
    told = figures(tiny_llama_path, input=b"hello\n")
    check(told)
    assert told["evicted"] == told["evictions"] == told["kshifts"] == 0
    assert told["resident"] == told["max_resident"] == told["tokens_in"] + told["tokens_out"]


def test_the_file_keeps_the_whole_run(figures: Callable, tiny_llama_path: Path) -> None:
    told = figures(tiny_llama_path, "--commands", input=TURNS + b"/clear\nhello\n")
    assert (told["turns"], told["conversations"]) == (65, 2)
    assert told["evicted"] > 0 and told["max_resident"] > told["resident"]


def test_a_smaller_v_cache_takes_fewer_bytes(figures: Callable, write_model: Callable) -> None:
    model = write_model("wide-heads", n_embd=128)  # heads of 32, the size of a quantized block
    plain, small, smaller = (figures(model, "--kv-v", kind, input=b"hello\n") for kind in ("f16", "q8_0", "q4_0"))
    assert plain["kv_bytes"] > small["kv_bytes"] > smaller["kv_bytes"] > plain["kv_bytes"] / 2


# ---- the file ------------------------------------------------------------------------------------


def test_they_are_written_when_the_context_is_full(run_cli: Callable, tiny_llama_path: Path, workdir: Path) -> None:
    args = ("--policy", "keep-all", "--max-tokens", "8", "--stats", "s.json")
    assert run_cli("chat", "--model", tiny_llama_path, *args, input=TURNS).code == 2
    told = json.loads((workdir / "s.json").read_text())
    assert 400 < told["max_resident"] <= 512 == told["budget"]


def test_an_earlier_file_is_replaced(figures: Callable, tiny_llama_path: Path, workdir: Path) -> None:
    (workdir / "s.json").write_text("old")
    assert figures(tiny_llama_path, input=b"hello\n")["turns"] == 1


def test_the_file_is_as_readable_as_any_other(figures: Callable, tiny_llama_path: Path, workdir: Path) -> None:
    figures(tiny_llama_path, input=b"")
    (workdir / "other").touch()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in workdir.iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize(
    "where",
    ["nowhere/s.json", "folder", "file/s.json", "", "n" * 300],
    ids=["no-such-folder", "folder", "below-a-file", "empty", "long"],
)
def test_an_impossible_place_is_refused_before_the_model_is_looked_for(
    run_cli: Callable, workdir: Path, where: str
) -> None:
    (workdir / "folder").mkdir()
    (workdir / "file").touch()
    complaint = run_cli("chat", "--model", "missing.gguf", "--stats", where, timeout=20).complaint
    assert "--stats" in complaint and "missing.gguf" not in complaint
    assert {path.name for path in workdir.iterdir()} == {"folder", "file"}


def test_a_device_is_not_replaced_by_a_file(run_cli: Callable, tiny_llama_path: Path, workdir: Path) -> None:
    """A pipe stands for the devices (/dev/null, /dev/stderr) that root could replace."""
    os.mkfifo(workdir / "pipe")
    run_cli("chat", "--model", tiny_llama_path, "--budget", "96", "--stats", "pipe", timeout=20)  # may be refused
    assert (workdir / "pipe").is_fifo()


def test_numbers_are_rounded_for_readers(run_cli: Callable, tiny_llama_path: Path, workdir: Path) -> None:
    run_cli("chat", "--model", tiny_llama_path, "--budget", "96", "--stats", "s.json", input=b"hello\n").succeeded()
    assert not re.search(r"\d\.\d{5}", (workdir / "s.json").read_text())
