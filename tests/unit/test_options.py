"""Where an option's value comes from, and what a wrong one is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from edge_sir.cli._options import CliOptions
from edge_sir.errors import ConfigError
from edge_sir.options import ENV_PREFIX, Options, Sourced, config_file, gather

FLAG, ENV, FILE = "flag", "environment", "file"


@pytest.fixture(autouse=True)
def no_options_of_the_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))


def gather_from(tmp_path: Path, layers: dict[str, Any]) -> Sourced:
    """Options from layers by name: flags as a dict, the environment as a dict, the file as TOML text."""
    file = None
    if FILE in layers:
        file = tmp_path / "o.toml"
        file.write_text(layers[FILE], encoding="utf-8")
    return gather(CliOptions, layers.get(FLAG, {}), file=file, environ=layers.get(ENV, {}))


EVERY = {FILE: "budget = 101", ENV: {"EDGE_SIR_BUDGET": "102"}, FLAG: {"budget": 103}}


@pytest.mark.parametrize(
    ("given", "budget", "source"),
    [
        ([], 1024, "default"),
        ([FILE], 101, FILE),
        ([ENV], 102, ENV),
        ([FLAG], 103, FLAG),
        ([FILE, ENV], 102, ENV),
        ([FILE, FLAG], 103, FLAG),
        ([ENV, FLAG], 103, FLAG),
        ([FILE, ENV, FLAG], 103, FLAG),
    ],
)
def test_flags_over_environment_over_file_over_default(
    tmp_path: Path, given: list[str], budget: int, source: str
) -> None:
    got = gather_from(tmp_path, {name: EVERY[name] for name in given})
    assert got.options.budget == budget
    assert got.sources["budget"] == (str(tmp_path / "o.toml") if source == FILE else source)


def test_each_option_has_its_own_source(tmp_path: Path) -> None:
    layers = {
        FILE: "seed = 1\ntop-k = 3",
        ENV: {"EDGE_SIR_SEED": "2", "EDGE_SIR_JSON": "true"},
        FLAG: {"max-tokens": 4},
    }
    got = gather_from(tmp_path, layers)
    options, sources = got.options, got.sources
    assert (options.seed, options.top_k, options.json_output, options.max_tokens) == (2, 3, True, 4)
    names = ("seed", "top_k", "json", "max_tokens", "quiet")
    assert [sources[n] for n in names] == [ENV, str(tmp_path / "o.toml"), ENV, FLAG, "default"]
    assert sources.keys() == CliOptions.names().keys()


@pytest.mark.parametrize(
    ("layers", "stop"),
    [
        ({FLAG: {"stop": ["a", "b"]}}, ("a", "b")),
        ({FLAG: {"stop": "ab"}}, ("ab",)),
        ({ENV: {"EDGE_SIR_STOP": "User: , x"}}, ("User: , x",)),
        ({FILE: 'stop = "ab"'}, ("ab",)),
        ({FILE: 'stop = ["a", "\\nb"]'}, ("a", "\nb")),
        ({FILE: 'stop = ["a"]', ENV: {"EDGE_SIR_STOP": "b"}}, ("b",)),
        ({FILE: 'stop = ["a"]', FLAG: {"stop": []}}, ()),
    ],
)
def test_stop_in_each_layer(tmp_path: Path, layers: dict[str, Any], stop: tuple[str, ...]) -> None:
    assert gather_from(tmp_path, layers).options.stop == stop


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({FLAG: {"budgt": 1}}, "unknown option 'budgt' (flag); did you mean 'budget'?"),
        ({ENV: {"EDGE_SIR_TOPK": "1"}}, "unknown option 'topk' (environment); did you mean 'top-k'?"),
        ({FILE: "max-token = 1"}, "did you mean 'max-tokens'?"),
        ({FILE: "json-output = true"}, "unknown option 'json-output'"),
        ({FILE: "[sampling]\ntop-k = 1"}, "unknown option 'sampling'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(tmp_path: Path, layers: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        gather_from(tmp_path, layers)
    assert message in str(error.value)
    assert FILE not in layers or "o.toml)" in str(error.value)


BAD: list[tuple[str, Any, str]] = [
    ("budget", 0, "greater than or equal to 1, not 0"),
    ("budget", -7, "greater than or equal to 1, not -7"),
    ("budget", 1.5, "valid integer"),
    ("budget", "many", "not 'many'"),
    ("temperature", -0.5, "greater than or equal to 0, not -0.5"),
    ("temperature", float("nan"), "not nan"),
    ("top-p", 0, "greater than 0, not 0"),
    ("top-p", float("nan"), "not nan"),
    ("repeat-penalty", 0, "greater than 0"),
    ("min-p", 1, "less than 1, not 1"),
    ("seed", 2**32, "less than 4294967296"),
    ("seed", -1, "greater than or equal to 0"),
    ("kv-v", "q4", "'f16', 'q8_0' or 'q4_0', not 'q4'"),
    ("positions", "packd", "not 'packd'"),
    ("quiet", "perhaps", "not 'perhaps'"),
    ("json", "perhaps", "not 'perhaps'"),
    ("policy", "sirlm", "did you mean 'sirllm'?"),
    ("policy", "sir:decay=2", "decay must be above 0 and at most 1"),
    ("policy", "sir:power", "needs a value"),
    ("stop", [1], "valid string"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_a_bad_value_is_refused_in_one_line_that_names_its_source(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        gather(CliOptions, {name: value}, environ={})
    text = str(error.value)
    assert message in text and "\n" not in text and "Value error" not in text
    assert text.startswith(f"{name} (flag): ")


@pytest.mark.parametrize("layer", [ENV, FILE])
@pytest.mark.parametrize(("name", "value"), [("top_k", "-1"), ("policy", "sirlm")])
def test_the_source_of_a_bad_value_is_the_layer_it_came_from(tmp_path: Path, layer: str, name: str, value: str) -> None:
    setting: Any = {ENV_PREFIX + name.upper(): value} if layer == ENV else f'{name} = "{value}"'
    with pytest.raises(ConfigError) as error:
        gather_from(tmp_path, {layer: setting})
    source = str(tmp_path / "o.toml") if layer == FILE else ENV
    assert str(error.value).startswith(f"{name.replace('_', '-')} ({source}): ")


def test_a_better_layer_hides_a_bad_value(tmp_path: Path) -> None:
    assert gather_from(tmp_path, {ENV: {"EDGE_SIR_SEED": "no"}, FLAG: {"seed": 1}}).options.seed == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"budget = ", "not valid TOML"), (b"a = 1\na = 2", "not valid TOML"), (b'model = "\xff"', "not valid TOML")],
)
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        gather(CliOptions, {}, file=file, environ={})
    assert str(file) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        gather(CliOptions, {}, file=tmp_path / name, environ={})


def test_variables_that_are_read_elsewhere_or_not_ours_are_no_options() -> None:
    environ = {"EDGE_SIR_CONFIG": "x", "EDGE_SIR_MODELS_DIR": "y", "EDGE_BUDGET": "1", "PATH": "z"}
    assert set(gather(CliOptions, {}, environ=environ).sources.values()) == {"default"}


def test_the_chosen_file_comes_before_all_others(tmp_path: Path) -> None:
    assert config_file(environ={}) is None
    usual = tmp_path / "home" / "edge-sir" / "config.toml"
    usual.parent.mkdir(parents=True)
    usual.touch()
    assert config_file(environ={}) == usual
    (tmp_path / "edge-sir.toml").touch()
    assert config_file(environ={}) == Path("edge-sir.toml")
    assert config_file(environ={"EDGE_SIR_CONFIG": "~/e.toml"}) == Path.home() / "e.toml"
    assert config_file("c.toml", {"EDGE_SIR_CONFIG": "e.toml"}) == Path("c.toml")


def test_every_option_says_what_it_does() -> None:
    assert all(field.description for field in Options.model_fields.values())


def test_options_are_frozen_and_closed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Options().budget = 5  # type: ignore[misc]
    with pytest.raises(ConfigError, match="unknown option 'budgt'; did you mean 'budget'"):
        Options(budgt=5)
    with pytest.raises(ConfigError, match=r"budget .*greater than or equal to 1, not 0"):
        Options(budget=0)


# ---- what only a command line has, and what a template asks for ----------------------------------


@pytest.mark.parametrize(
    ("layers", "stop"),
    [
        ({FLAG: {"stop": [r"\n", r"a\tb", "\\\\n", r"\u00e9\d"]}}, ("\n", "a\tb", r"\n", r"é\d")),
        ({ENV: {"EDGE_SIR_STOP": r"\n\n"}}, ("\n\n",)),
        ({FILE: "stop = ['\\n']"}, (r"\n",)),  # TOML has its own way to write a line break
    ],
)
def test_escapes_are_read_where_a_line_break_cannot_be_typed(
    tmp_path: Path, layers: dict[str, Any], stop: tuple[str, ...]
) -> None:
    assert gather_from(tmp_path, layers).options.stop == stop


def test_a_stop_string_in_python_is_taken_as_it_is() -> None:
    assert Options(stop=r"\n").stop == (r"\n",)


ARGUMENTS = {"enable_thinking": True, "effort": "low", "n": 3, "names": ["a"], "date": "26 Jul 2024", "empty": ""}
AS_TOML = ("enable_thinking = true", "effort = 'low'", "n = 3", "names = ['a']", "date = '26 Jul 2024'", "empty = ''")
AS_FLAGS = ["enable_thinking=true", "effort=low", "n=3", 'names=["a"]', "date=26 Jul 2024", "empty="]


@pytest.mark.parametrize(
    "layers",
    [
        {FLAG: {"template_args": AS_FLAGS}},
        {FILE: f"template-args = {{{', '.join(AS_TOML)}}}"},
        {FILE: "\n".join(("[template_args]", *AS_TOML))},
    ],
    ids=["flags", "a table in a line", "a table"],
)
def test_template_arguments_in_each_layer(tmp_path: Path, layers: dict[str, Any]) -> None:
    assert gather_from(tmp_path, layers).options.template_args == ARGUMENTS


def test_a_template_argument_in_the_environment(tmp_path: Path) -> None:
    layers = {ENV: {"EDGE_SIR_TEMPLATE_ARGS": "enable_thinking=false"}}
    assert gather_from(tmp_path, layers).options.template_args == {"enable_thinking": False}


@pytest.mark.parametrize("name", ["", "two words", "messages", "bos_token"])
def test_what_cannot_be_a_template_argument_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        Options(template_args={name: 1})


@pytest.mark.parametrize("value", [5, [1], True, "enable_thinking", ["a=1", "enable_thinking"]], ids=repr)
def test_template_arguments_without_a_key_or_a_value_are_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        Options(template_args=value)
    with pytest.raises(ConfigError, match=r"template-args \(.*\): .*KEY=VALUE"):
        gather_from(tmp_path, {FILE: f"template_args = {json.dumps(value)}"})


def test_a_template_argument_that_is_nested_too_deep_for_json_is_a_text() -> None:
    deep = "[" * 100_000
    assert Options(template_args=f"a={deep}").template_args == {"a": deep}


def test_a_file_of_options_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert gather_from(tmp_path, {FILE: "\ufeffbudget = 300\n"}).options.budget == 300


def test_a_number_that_python_refuses_to_read_is_named_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not valid TOML"):
        gather_from(tmp_path, {FILE: "seed = " + "9" * 5000})


@pytest.mark.parametrize(
    ("given", "n_bytes"),
    [
        ({FILE: 'archive = "256MB"'}, 256 * 10**6),
        ({FILE: "archive = 0"}, 0),
        ({ENV: {"EDGE_SIR_ARCHIVE": "2G"}}, 2 * 10**9),
        ({FLAG: {"archive": "1.5GiB"}}, 3 * 2**29),
        ({}, None),
    ],
)
def test_a_size_has_a_unit(tmp_path: Path, given: dict[str, Any], n_bytes: int | None) -> None:
    assert gather_from(tmp_path, given).options.archive == n_bytes


@pytest.mark.parametrize("size", ["lots", "-1", "2X", "1e9"])
def test_what_is_no_size_is_refused(tmp_path: Path, size: str) -> None:
    with pytest.raises(ConfigError, match=r"archive \(flag\).* write it like 900M, 2G or 1.5GiB"):
        gather_from(tmp_path, {FLAG: {"archive": size}})
    with pytest.raises(ConfigError, match="archive"):
        Options(archive=-1)
