"""`edge-sir config` and the help: every option, its value and where it came from."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest

from edge_sir.cli._options import CliOptions

OPTIONS = (
    "model budget policy positions system max-tokens temperature top-k top-p min-p seed stop threads gpu-layers "
    "kv-v flash-attn chunk chat-template stats json quiet"
)


@pytest.fixture
def config(run_cli: Callable) -> Callable[..., dict[str, tuple[object, str]]]:
    """What `edge-sir config --json` says: (value, source) by option, with nothing set beforehand."""

    def run(*args: str | Path, env: dict[str, str | None] | None = None) -> dict[str, tuple[object, str]]:
        result = run_cli("config", "--json", *args, env={"EDGE_SIR_THREADS": None, **(env or {})}).succeeded()
        assert result.err == b""
        told = json.loads(result.out)
        assert all(set(entry) == {"value", "source"} for entry in told.values())
        return {name: (entry["value"], entry["source"]) for name, entry in told.items()}

    return run


# ---- values and sources --------------------------------------------------------------------------


def test_defaults(config: Callable) -> None:
    told = config()
    assert told.pop("json") == (True, "flag")
    defaults = CliOptions().model_dump(mode="json", by_alias=True)
    assert told == {name: (value, "default") for name, value in defaults.items() if name != "json"}
    assert {name.replace("_", "-") for name in told} >= {*OPTIONS.split()} - {"json"}


def test_flag_over_environment_over_file_over_default(config: Callable, workdir: Path) -> None:
    (workdir / "edge-sir.toml").write_text("budget = 100\nchunk = 10\nseed = 1\n")
    told = config("--budget", "300", env={"EDGE_SIR_BUDGET": "200", "EDGE_SIR_CHUNK": "20"})
    assert told["budget"] == (300, "flag")
    assert told["chunk"] == (20, "environment")
    assert told["seed"] == (1, "edge-sir.toml")
    assert told["top_k"] == (40, "default")


def test_each_source_reaches_the_conversation(run_cli: Callable, tiny_llama_path: Path, workdir: Path) -> None:
    (workdir / "edge-sir.toml").write_text(f"model = {json.dumps(str(tiny_llama_path))}\nmax-tokens = 3\njson = true\n")
    run_cli("chat", "--stats", "s.json", env={"EDGE_SIR_BUDGET": "80"}, input=b"hello\n").succeeded()
    told = json.loads((workdir / "s.json").read_text())
    assert (told["model"], told["budget"]) == ("llama.gguf", 80)
    assert told["tokens_out"] <= 3


def test_a_chosen_file_replaces_the_usual_ones(config: Callable, workdir: Path) -> None:
    user = Path(platformdirs.user_config_dir("edge-sir")) / "config.toml"
    user.parent.mkdir(parents=True)
    user.write_text("budget = 1\nseed = 1\n")
    assert config()["seed"] == (1, str(user))
    (workdir / "edge-sir.toml").write_text("budget = 2\n")
    told = config()
    assert (told["budget"], told["seed"]) == ((2, "edge-sir.toml"), (0, "default"))
    (workdir / "mine.toml").write_text("budget = 3\n")
    assert config(env={"EDGE_SIR_CONFIG": "mine.toml"})["budget"] == (3, "mine.toml")
    (workdir / "other.toml").write_text("budget = 4\n")
    assert config("--config", "other.toml", env={"EDGE_SIR_CONFIG": "mine.toml"})["budget"] == (4, "other.toml")


@pytest.mark.parametrize("key", ["max-tokens", "max_tokens"])
def test_a_file_may_write_dashes_or_underscores(config: Callable, workdir: Path, key: str) -> None:
    (workdir / "edge-sir.toml").write_text(f"{key} = 7\n")
    assert config()["max_tokens"] == (7, "edge-sir.toml")


def test_every_option_can_be_set_in_all_three_ways(config: Callable, workdir: Path) -> None:
    texts = {
        "model": "m",
        "policy": "random:seed=3",
        "positions": "gaps",
        "recall": "cells",
        "recall_index": "dense",
        "system": "S ☕",
        "stats": "s.json",
        "trace": "t.jsonl",
        "session": "ada",
        "state_dir": "states",
    }
    texts |= {"chat_template": "t.jinja", "kv_k": "q8_0", "kv_v": "q8_0", "flash_attn": "on"}
    numbers = {
        "budget": 99,
        "archive": 10**6,
        "max_tokens": 9,
        "top_k": 3,
        "seed": 5,
        "threads": 2,
        "gpu_layers": 0,
        "chunk": 4,
    }
    numbers |= {"temperature": 0.5, "top_p": 0.25, "min_p": 0.125, "repeat_penalty": 1.5, "resume_s": 2.5}
    numbers |= {"frequency_penalty": 0.75, "presence_penalty": -0.5, "repeat_last_n": 8}
    switches = dict.fromkeys(("quiet", "commands", "archive_on_disk", "read_only", "change_model"), True)
    values = {**texts, **numbers, **switches, "stop": ["END"]}
    arguments = {"template_args": {"enable_thinking": True}}
    assert {*values, *arguments, "json"} == set(CliOptions.names())
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in {**texts, **numbers, "stop": "END"}.items()]
    flags += [f"--{name.replace('_', '-')}" for name in switches]
    told_flags = config(*flags, "--template-arg=enable_thinking=true")
    env = {f"EDGE_SIR_{name.upper()}": str(value) for name, value in {**texts, **numbers, "stop": "END"}.items()}
    env |= {f"EDGE_SIR_{name.upper()}": "1" for name in switches}
    told_env = config(env=env | {"EDGE_SIR_TEMPLATE_ARGS": "enable_thinking=true"})
    (workdir / "edge-sir.toml").write_text(
        "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())
        + "[template_args]\nenable_thinking = true\n",
        "utf-8",
    )
    told_file = config()
    for name, value in (values | arguments).items():
        assert told_flags[name] == (value, "flag")
        assert told_env[name] == (value, "environment")
        assert told_file[name] == (value, "edge-sir.toml")


def test_stop_may_be_given_several_times(config: Callable) -> None:
    assert config("--stop", "a", "--stop", "b")["stop"] == (["a", "b"], "flag")


def test_a_flag_switches_off_what_the_environment_switches_on(config: Callable) -> None:
    assert config("--no-quiet", env={"EDGE_SIR_QUIET": "yes"})["quiet"] == (False, "flag")


def test_the_models_folder_is_no_option(config: Callable, tmp_path: Path) -> None:
    assert "models_dir" not in config(env={"EDGE_SIR_MODELS_DIR": str(tmp_path)})


# ---- for people ----------------------------------------------------------------------------------


def test_the_table_names_each_option_as_its_flag(run_cli: Callable) -> None:
    result = run_cli("config", "--budget", "300", "--system", "Be brief.").succeeded()
    rows = [re.split(r"  +", line) for line in result.out.decode().splitlines()]
    assert all(len(row) == 3 for row in rows)
    told = {name: (value, source) for name, value, source in rows}
    assert [*told] == [name.replace("_", "-") for name in CliOptions.names()]
    assert told["budget"] == ("300", "flag")
    assert told["system"] == ('"Be brief."', "flag")
    assert told["threads"] == ("1", "environment")
    assert told["max-tokens"] == ("256", "default")


def test_the_table_shows_what_the_terminal_can(run_cli: Callable) -> None:
    result = run_cli("config", "--system", "ünï", env={"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"})
    assert result.succeeded().err == b""


@pytest.mark.parametrize("command", ["chat", "config"])
def test_the_help_lists_every_option(run_cli: Callable, command: str) -> None:
    result = run_cli(command, "--help").succeeded()
    text = result.out.decode()
    for name in OPTIONS.split():
        assert re.search(rf"^  --{name}\b", text, re.M), name
    assert result.err == b""


def test_the_help_tells_defaults_and_choices(run_cli: Callable) -> None:
    text = " ".join(run_cli("chat", "--help").succeeded().out.decode().split())
    for part in ("(default: 1024)", "(default: sir)", "packed|gaps|auto", "f16|q8_0|q4_0", "(default: 0.7)"):
        assert part in text


def test_the_help_names_every_command(run_cli: Callable) -> None:
    text = run_cli("--help").succeeded().out.decode()
    for command in ("chat", "models", "config"):
        assert re.search(rf"^    {command}\b", text, re.M)


def test_the_script_is_the_module(run_cli: Callable) -> None:
    script = run_cli("config", command=(str(Path(sys.executable).with_name("edge-sir")),))
    assert script.succeeded().out == run_cli("config").succeeded().out


def test_nothing_but_a_conversation_loads_llama_cpp(run_cli: Callable) -> None:
    program = (
        "import sys; from edge_sir.cli import main; main(['config']); main(['models', 'list']); "
        "sys.exit('llama_cpp' in sys.modules)"
    )
    run_cli(command=(sys.executable, "-c", program)).succeeded()
