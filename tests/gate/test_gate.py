"""What the gate decides, family by family, in the way a user's model is let in: header, child process, engine."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_families import FAMILIES, N_CTX_TRAIN, Family
from tiny_gguf import hyperparameters, tokenizer, write_gguf, write_llama

from edge_sir.core.budget import Budget
from edge_sir.engine import Slice
from edge_sir.errors import BudgetError, CapabilityError, ModelFileError
from edge_sir.llama.engine import EngineOptions, LlamaEngine
from edge_sir.llama.gguf.check import check_model_file
from edge_sir.llama.gguf.header import GGUFHeader
from edge_sir.llama.kshift.admission import ChildReport, _stages, admit, build_id, judge, run_probe
from edge_sir.llama.kshift.gate import KV_TYPES, RestoreTest, ShiftTest, Trials, check_kv_types, packing_verdict
from edge_sir.llama.kshift.probe import main
from edge_sir.llama.kshift.trial import read_plainly, restore_test, shift_test, trial_options
from edge_sir.llama.kshift.verdicts import VerdictStore
from edge_sir.llama.native import NativeModel
from edge_sir.policies import from_spec
from edge_sir.session import Session

BUDGET = 256
DONE = {"done": True, "moved": 0.0, "rounding": 0.1}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def shared_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each family's file meets the child process once and not in every test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


def families(*modes: str) -> pytest.MarkDecorator:
    chosen = [family for family in FAMILIES if family.mode in modes]
    return pytest.mark.parametrize("family", chosen, ids=[family.name for family in chosen])


@pytest.fixture
def engine(family: Family, tiny_folder: Path, shared_cache: None) -> Iterator[LlamaEngine]:
    """The engine that a user of the family's file would get."""
    header = check_model_file(family.file(tiny_folder))
    trials = admit(header, threads=1, kv_k=family.type_k)
    options = EngineOptions(threads=1, chunk=64, kv_k=family.type_k)  # type: ignore[arg-type]
    made = LlamaEngine(NativeModel(header.path, header=header), BUDGET, options, owns_model=True, trials=trials)
    yield made
    made.close()


# ---- the verdicts --------------------------------------------------------------------------------

REASONS = {
    "gemma3": "exceed the sliding window of 32",
    "qwen2-yarn": "RoPE scaling 'yarn'",
    "phi3-longrope": "RoPE scaling 'longrope'",
    "smollm3": "know no positions",
    "gpt2": "beyond the 0.00",
    "qwen2vl": "cannot shift",
    "stablelm+q8_0": "moving q8_0 keys ruins them",
    "llama64+q4_0": "moving q4_0 keys ruins them",
}


@families("packed", "gaps")
def test_each_family_gets_its_mode_and_a_reason(family: Family, engine: LlamaEngine) -> None:
    assert engine.spec.can_pack == (family.mode == "packed"), engine.spec.why
    assert REASONS.get(family.name, "within the 0.00") in engine.spec.why


@families("packed", "gaps")
def test_cells_of_each_family_can_be_restored(family: Family, engine: LlamaEngine) -> None:
    """Also where keys must not move: at its old position a cell's key is as it was."""
    assert engine.spec.can_restore, engine.spec.why_restore
    assert re.fullmatch(r"restoring cells moved logits by \S+ sd, within the \S+ of rounding", engine.spec.why_restore)


@families("gaps")
def test_packing_is_refused_with_the_reason(family: Family, engine: LlamaEngine) -> None:
    with pytest.raises(CapabilityError, match="use --positions gaps"):
        Session(engine, from_spec("sir"), Budget(BUDGET), positions="packed")


@families("refused")
def test_recurrent_memory_is_refused_in_one_line(family: Family, tiny_folder: Path, shared_cache: None) -> None:
    with pytest.raises(ModelFileError, match=r"recurrent state.*use a model with attention alone") as refusal:
        admit(check_model_file(family.file(tiny_folder)), threads=1)
    assert "\n" not in str(refusal.value)


def test_a_window_that_holds_the_budget_packs_and_a_smaller_one_does_not(tiny_gemma3_wide_path: Path) -> None:
    header = check_model_file(tiny_gemma3_wide_path)
    passed = ShiftTest(moved=0.001, rounding=0.001)
    assert packing_verdict(header, 512, 512, True, test=passed).allowed
    assert not packing_verdict(header, 768, 512, True, test=passed).allowed


def test_metadata_and_llama_cpp_overrule_a_passed_trial(tmp_path: Path) -> None:
    header = check_model_file(write_llama(tmp_path / "yarn.gguf", rope_scaling=("yarn", 1.5)))
    passed = ShiftTest(moved=0.0, rounding=0.001)
    assert not packing_verdict(header, 256, 0, True, test=passed).allowed
    plain = check_model_file(write_llama(tmp_path / "plain.gguf"))
    assert packing_verdict(plain, 256, 0, True, test=passed).allowed
    assert not packing_verdict(plain, 256, 0, False, test=passed).allowed
    assert not packing_verdict(plain, 256, 0, True, kv_k="q8_0", test=passed).allowed


@pytest.mark.parametrize(
    "test", [ShiftTest(0.3, 0.001), ShiftTest(float("nan"), 0.1), ShiftTest(0, 0.1, died="SIGABRT: ...")], ids=str
)
def test_a_failed_trial_means_gaps_even_for_a_llama(tiny_llama_path: Path, test: ShiftTest) -> None:
    verdict = packing_verdict(check_model_file(tiny_llama_path), 256, 0, True, test=test)
    assert (verdict.allowed, verdict.why) == (False, str(test))


@pytest.mark.parametrize("kinds", [("q8_0", "f16", "K"), ("f16", "q4_0", "V")])
def test_heads_that_fill_no_block_cannot_be_quantized(tiny_llama: NativeModel, kinds: tuple[str, str, str]) -> None:
    kv_k, kv_v, named = kinds
    with pytest.raises(CapabilityError, match=f"quantized {named} cache; use --kv-{named.lower()} f16"):
        LlamaEngine(tiny_llama, 256, EngineOptions(kv_k=kv_k, kv_v=kv_v))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["qwen2-yarn", "phi3-longrope", "smollm3", "gpt2"])
def test_the_trial_finds_silent_harm_without_metadata(name: str, tiny_folder: Path) -> None:
    model = NativeModel(next(f for f in FAMILIES if f.name == name).file(tiny_folder))
    options = trial_options(threads=1)
    test = shift_test(model, read_plainly(model, options)[0], options)
    model.close()
    assert test.moved > 20 * test.tolerance and not test.passed


# ---- restoring -----------------------------------------------------------------------------------

SETTINGS = [(k, v, flash) for k in KV_TYPES for v in KV_TYPES for flash in ("off", "on")]


def settings_of(model: NativeModel) -> list[EngineOptions]:
    """The contexts of a trial with all types of K and V that llama.cpp takes for the model."""
    found = []
    for kv_k, kv_v, flash_attn in SETTINGS:
        with suppress(CapabilityError):
            check_kv_types(model.header, kv_k, kv_v, flash_attn)
            found.append(replace(trial_options(1), kv_k=kv_k, kv_v=kv_v, flash_attn=flash_attn))  # type: ignore[arg-type]
    return found


@families("packed", "gaps")
def test_restored_cells_leave_logits_alone_and_lost_ones_do_not(family: Family, tiny_folder: Path) -> None:
    """Sliding windows within and beyond the text, all types of K and V, flash attention on and off."""
    model = NativeModel(family.file(tiny_folder))
    try:
        settings = settings_of(model)
        assert len(settings) in (2, 12)
        for options in settings:
            test, lost = restore_test(model, options), restore_test(model, options, restore=False)
            assert test.passed, (options, test)
            assert lost.moved > 5 * lost.tolerance, (options, lost)
    finally:
        model.close()


def test_a_context_that_cannot_be_made_is_a_reason(tiny_llama_path: Path) -> None:
    header = check_model_file(tiny_llama_path)
    trials = judge(header, run_probe(header, threads=1, kv_k="q8_0"))
    assert trials.shift is not None and trials.shift.passed
    assert trials.restore is not None and not trials.restore.passed
    assert "could not be restored" in str(trials.restore) and "use --kv-k f16" in str(trials.restore)


def test_a_failed_trial_of_restoring_means_text(tiny_llama: NativeModel) -> None:
    failed = RestoreTest(moved=0.5, rounding=0.001)
    engine = LlamaEngine(tiny_llama, 256, EngineOptions(threads=1), trials=Trials(restore=failed))
    assert (engine.spec.can_restore, engine.spec.why_restore) == (False, str(failed))
    read = engine.text.encode("Once upon a time", special=False)
    engine.decode([Slice(0, read, 0, np.full(len(read), -1, np.int32))])
    with pytest.raises(CapabilityError, match=r"beyond the 0\.002"):
        engine.save(0, 0, 2)
    engine.close()


def test_another_type_or_setting_is_tried_anew(header: GGUFHeader, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[dict[str, Any]] = []
    done = ChildReport(0, [{"loaded": True}, {"read": True}, {"restored": 0.5, "restore_rounding": 0.1}, DONE], "")
    monkeypatch.setattr("edge_sir.llama.kshift.admission.run_probe", lambda _, **how: tried.append(how) or done)
    for _ in range(2):
        for how in ({}, {"kv_v": "q8_0"}, {"kv_k": "q8_0"}, {"flash_attn": "on"}):
            assert admit(header, **how) == Trials(ShiftTest(0.0, 0.1), RestoreTest(0.5, 0.1))  # type: ignore[arg-type]
    assert [(t["kv_k"], t["kv_v"], t["flash_attn"]) for t in tried] == [
        ("f16", "f16", "auto"),
        ("f16", "q8_0", "auto"),
        ("q8_0", "f16", "auto"),
        ("f16", "f16", "on"),
    ]


def test_a_trial_for_which_memory_does_not_suffice_is_not_remembered(
    tiny_llama_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> RestoreTest:
        raise BudgetError("7 MB are free")

    monkeypatch.setattr("edge_sir.llama.kshift.trial.restore_test", refuse)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the child's, not this process's
    main([json.dumps({"path": str(tiny_llama_path), "gpu_layers": -1, "threads": 1})])
    stages = _stages(capsys.readouterr().out.encode())
    assert stages[-1] == {"refused": "7 MB are free"}
    assert not any("done" in stage or "not_restored" in stage for stage in stages)


def test_a_death_while_restoring_says_no_to_both(header: GGUFHeader) -> None:
    trials = judge(header, ChildReport(-6, [LOADED, READ], ABORTED))
    assert trials.restore is not None and "GGML_ASSERT" in str(trials.restore)
    restored = {"restored": 0.0, "restore_rounding": 0.1}
    assert judge(header, ChildReport(-6, [LOADED, READ, restored], ABORTED)).restore == RestoreTest(0.0, 0.1)


# ---- endless generation --------------------------------------------------------------------------


@families("packed", "gaps")
def test_four_contexts_are_generated_without_end(
    family: Family, engine: LlamaEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """4 x n_ctx tokens in the family's mode; in gap mode across the trained length, which is renumbered once a time."""
    session = Session(engine, from_spec("sir"), Budget(BUDGET))
    session.begin_turn()
    session.feed(engine.text.encode("Once upon a time", special=False), "user")
    while session.step():
        pass
    n_generated = 4 * engine.spec.n_ctx
    for i in range(n_generated):
        if i % 200 == 0:
            session.begin_turn()
        session.feed([20 + (7 * i + i // 13) % 230], "assistant")
        session.step(n_generated=1)
    stats = session.stats
    assert stats.tokens_out == n_generated
    assert stats.evicted == stats.tokens_in + stats.tokens_out - len(session.ledger)
    assert stats.max_resident <= BUDGET
    assert engine.pos_range(0)[1] == session.ledger.next_pos - 1 < N_CTX_TRAIN
    if family.mode == "packed":
        assert session.mode == "packed" and (stats.packs, stats.rereads) == (0, 0) and not caplog.records
    else:
        assert session.mode == "gaps" and stats.packs == 0 and 1 <= stats.rereads <= 4
        notices = [r.getMessage() for r in caplog.records if "trained length of 512" in r.getMessage()]
        assert len(notices) == stats.rereads and all("read again" in text for text in notices)


def test_gap_mode_packs_at_the_trained_length_where_that_is_right(
    tiny_llama: NativeModel, caplog: pytest.LogCaptureFixture
) -> None:
    engine = LlamaEngine(tiny_llama, BUDGET, EngineOptions(threads=1, chunk=64))
    session = Session(engine, from_spec("sir"), Budget(BUDGET), positions="gaps")
    for _ in range(20):
        session.begin_turn()
        session.feed(list(range(100, 140)), "user")
        while session.step():
            pass
    assert session.stats.packs >= 1 and session.stats.rereads == 0
    assert "moved together" in caplog.text
    engine.close()


# ---- the child and what is remembered --------------------------------------------------------------


@pytest.fixture
def header(tiny_llama_path: Path) -> GGUFHeader:
    return check_model_file(tiny_llama_path)


def test_a_file_is_tried_once(header: GGUFHeader, monkeypatch: pytest.MonkeyPatch) -> None:
    first = admit(header, threads=1)
    assert first.shift is not None and first.shift.passed
    monkeypatch.setattr("edge_sir.llama.kshift.admission.run_probe", lambda *_, **__: pytest.fail("a second child"))
    assert admit(header, threads=1) == first


@pytest.mark.parametrize("gpu_layers", [-1, 0])
def test_another_file_build_or_offload_is_another_verdict(
    header: GGUFHeader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu_layers: int
) -> None:
    children = []
    done = ChildReport(0, [{"loaded": True}, {"read": True}, DONE], "")
    monkeypatch.setattr("edge_sir.llama.kshift.admission.run_probe", lambda h, **_: children.append(h.path) or done)
    admit(header, gpu_layers=gpu_layers)
    admit(header, gpu_layers=gpu_layers)
    other = check_model_file(write_llama(tmp_path / "other.gguf", n_ctx_train=1024))
    admit(other, gpu_layers=gpu_layers)
    monkeypatch.setattr("edge_sir.llama.kshift.admission.build_id", lambda: "0.0.0")
    admit(header, gpu_layers=gpu_layers)
    admit(header, gpu_layers=5)
    assert children == [header.path, other.path, header.path, header.path]


def test_the_build_is_named_by_version_and_libraries() -> None:
    assert build_id() == build_id()
    assert build_id().startswith("0.3.36-")


DAMAGED = ["", "{", "[]", "null", '"x"', '{"key": "k"}', '{"key": "k", "test": 5}', '{"key": "other", "test": null}']
DAMAGED += ['{"key": "k", "test": {"moved": "a", "rounding": 1, "died": ""}}']
DAMAGED += ['{"key": "k", "test": {"moved": 0, "rounding": NaN, "died": ""}}']
DAMAGED += ['{"key": "k", "test": {"moved": 0, "rounding": 1, "died": 7}}']


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_verdict_is_ignored_and_replaced(text: str) -> None:
    store = VerdictStore("k")
    store.write(Trials())
    assert store.read() == Trials()
    store.path.write_text(text)
    assert store.read() is None
    trials = Trials(ShiftTest(0.1, 0.2), RestoreTest(0.3, 0.4, "why"))
    store.write(trials)
    assert store.read() == trials
    assert [p.name for p in store.path.parent.iterdir()] == [store.path.name]


def test_bytes_that_are_no_text_are_ignored() -> None:
    store = VerdictStore("k")
    store.write(Trials())
    store.path.write_bytes(b"\xff\xfe\x00")
    assert store.read() is None


def test_a_cache_that_cannot_be_written_costs_a_second_try_only(
    header: GGUFHeader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    first, second = admit(header, threads=1), admit(header, threads=1)
    assert first == second and first.shift is not None and first.shift.passed


def test_modules_in_the_working_folder_are_not_run(
    header: GGUFHeader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json.py", "runpy.py", "numpy.py", "edge_sir.py"):
        (tmp_path / name).write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert run_probe(header, threads=1).reached("done")


def test_ctrl_c_while_a_file_is_tried_ends_the_child(header: GGUFHeader, monkeypatch: pytest.MonkeyPatch) -> None:
    children = []

    def interrupted(child: "subprocess.Popen[bytes]", _: GGUFHeader) -> None:
        children.append(child)
        raise KeyboardInterrupt

    monkeypatch.setattr("edge_sir.llama.kshift.admission._wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        admit(header)
    assert children[0].returncode == -signal.SIGKILL
    assert VerdictStore("any").path.parent.exists() is False  # nothing was remembered


def test_a_hanging_child_is_stopped(header: GGUFHeader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_sir.llama.kshift.admission._ANNOUNCE_AFTER_S", 0.01)
    monkeypatch.setattr("edge_sir.llama.kshift.admission._LEAST_PATIENCE_S", 0.01)
    with pytest.raises(ModelFileError, match="it hangs"):
        admit(header)


# ---- what a child's end means ------------------------------------------------------------------------

ABORTED = "noise\n/home/x/llama.cpp/src/llama-model.cpp:12: GGML_ASSERT(n > 0) failed\nmore noise\n"
LOADED, READ = {"loaded": True}, {"read": True}


def test_a_death_while_loading_is_one_clear_line(header: GGUFHeader) -> None:
    with pytest.raises(ModelFileError) as refusal:
        judge(header, ChildReport(-6, [], ABORTED))
    line = f"{header.path}: loading it ends llama.cpp (SIGABRT: llama-model.cpp:12: GGML_ASSERT(n > 0) failed)"
    assert str(refusal.value) == f"{line}; download the file again"


def test_a_death_while_reading_is_one_clear_line(header: GGUFHeader) -> None:
    with pytest.raises(ModelFileError, match=r"reading a text with it ends llama.cpp \(SIGSEGV: it gave no reason\)"):
        judge(header, ChildReport(-11, [LOADED], ""))


def test_a_death_while_moving_keys_means_gaps(header: GGUFHeader) -> None:
    test = judge(header, ChildReport(-6, [LOADED, READ], ABORTED)).shift
    assert test is not None and not test.passed and "GGML_ASSERT" in str(test)


def test_an_error_while_moving_keys_means_gaps(header: GGUFHeader) -> None:
    test = judge(header, ChildReport(0, [LOADED, READ, {"refused": "a K-shift failed"}], "")).shift
    assert test is not None and not test.passed and "a K-shift failed" in str(test)


def test_a_kill_is_not_blamed_on_the_file(header: GGUFHeader) -> None:
    with pytest.raises(ModelFileError, match="want of memory; use a smaller model"):
        judge(header, ChildReport(-9, [LOADED], ""))


@pytest.mark.parametrize(("status", "kept"), [(-6, True), (-11, True), (-9, False), (1, False), (None, False)])
def test_only_what_would_happen_again_is_remembered(
    header: GGUFHeader, monkeypatch: pytest.MonkeyPatch, status: int | None, kept: bool
) -> None:
    children = []
    report = ChildReport(status, [LOADED, READ], ABORTED)
    monkeypatch.setattr("edge_sir.llama.kshift.admission.run_probe", lambda *_, **__: children.append(1) or report)
    for _ in range(2):
        test = admit(header).shift
        assert test is not None and not test.passed
    assert len(children) == (1 if kept else 2)


@pytest.mark.parametrize("executable", ["", "/nowhere/python"])
def test_where_no_process_can_be_started_gaps_are_right(
    header: GGUFHeader, monkeypatch: pytest.MonkeyPatch, executable: str
) -> None:
    monkeypatch.setattr("sys.executable", executable)
    test = admit(header).shift
    assert test is not None and not test.passed and "not tried" in str(test)


def test_a_hang_is_named(header: GGUFHeader) -> None:
    with pytest.raises(ModelFileError, match="it hangs"):
        judge(header, ChildReport(None, [], ""))


def test_a_refusal_comes_through_word_by_word(header: GGUFHeader) -> None:
    with pytest.raises(ModelFileError, match=r"^it is blue$"):
        judge(header, ChildReport(0, [LOADED, {"refused": "it is blue"}], ""))


def test_noise_on_the_childs_output_is_skipped() -> None:
    text = b'hello\n{"loaded": true}\n[1]\n{"done": tr'
    assert _stages(text) == [LOADED]


def test_a_file_that_only_llama_cpp_sees_through_is_refused_by_the_child(tmp_path: Path) -> None:
    """A file that passes the header check but has no weights for its layers: llama.cpp refuses it in the child."""
    entries = hyperparameters("llama", 2, 64, 4, 2, 512, 128) | tokenizer(None)
    path = write_gguf(tmp_path / "hollow.gguf", "llama", entries, {"token_embd.weight": np.zeros((8, 64), np.float32)})
    with pytest.raises(ModelFileError, match="could not load"):
        admit(check_model_file(path), threads=1)
