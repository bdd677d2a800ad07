"""What cannot work is refused with exit code 2 and one line that names the remedy."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

TINY = ("--budget", "96", "--max-tokens", "8")


@pytest.fixture
def refused(run_cli: Callable) -> Callable[..., str]:
    """Runs `edge-sir chat` on what must be refused, and returns the complaint."""

    def run(*args: str | Path, **settings: object) -> str:
        return run_cli("chat", *args, **{"input": b"hello\n", "timeout": 30, **settings}).complaint

    return run


def damaged(path: Path, edit: Callable[[bytearray], object], target: Path) -> Path:
    data = bytearray(path.read_bytes())
    edit(data)
    target.write_bytes(data)
    return target


# ---- model files ---------------------------------------------------------------------------------


def test_a_file_that_is_not_there(refused: Callable) -> None:
    assert "missing.gguf" in refused("--model", "missing.gguf")


def test_a_name_that_is_not_known(refused: Callable) -> None:
    assert "did you mean 'smollm2-135m-instruct'" in refused("--model", "smollm2")


def test_a_folder(refused: Callable, workdir: Path) -> None:
    (workdir / "folder.gguf").mkdir()
    (workdir / "folder").mkdir()
    for folder in (".", "folder", "folder.gguf", "folder/"):
        assert "is a folder; give the .gguf file in it" in refused("--model", folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"just a text\n" * 99, "not a GGUF"),
        (b"PK\3\4" + bytes(99), "not a GGUF"),
        (b"GG", "not a GGUF"),
    ],
    ids=["empty", "text", "zip", "two-bytes"],
)
def test_a_file_of_another_kind(refused: Callable, workdir: Path, content: bytes, words: str) -> None:
    (workdir / "m.gguf").write_bytes(content)
    assert words in refused("--model", "m.gguf")


@pytest.mark.parametrize("n_bytes", [4, 8, 20, 24, 1000, -1, -1000])
def test_a_truncated_file(refused_here: Callable, workdir: Path, tiny_llama_path: Path, n_bytes: int) -> None:
    (workdir / "m.gguf").write_bytes(tiny_llama_path.read_bytes()[:n_bytes])
    assert re.search("truncated|damaged|more than fit", refused_here("--model", "m.gguf"))


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d.__setitem__(slice(4, 8), b"\x63\0\0\0"),
        lambda d: d.__setitem__(slice(4, 8), b"\0\0\0\3"),
        lambda d: d.__setitem__(slice(8, 16), b"\xff" * 8),
        lambda d: d.__setitem__(slice(16, 24), b"\xff" * 8),
        lambda d: d.__setitem__(slice(24, 32), b"\xff" * 8),
        lambda d: d.__setitem__(slice(40, 400), bytes(360)),
    ],
    ids=["version", "big-endian", "n-tensors", "n-entries", "key-length", "zeroes"],
)
def test_a_damaged_header(refused_here: Callable, workdir: Path, tiny_llama_path: Path, edit: Callable) -> None:
    assert "m.gguf" in refused_here("--model", damaged(tiny_llama_path, edit, workdir / "m.gguf"))


@pytest.mark.parametrize(
    "metadata",
    [
        {"llama.block_count": 0},
        {"llama.context_length": None},
        {"llama.attention.head_count": 3},
        {"llama.rope.scaling.type": "spiral"},
        {"tokenizer.ggml.tokens": ["a", "a"]},
    ],
    ids=lambda metadata: next(iter(metadata)),
)
def test_a_header_that_makes_no_sense(refused_here: Callable, write_model: Callable, metadata: dict) -> None:
    model = write_model(f"odd-{next(iter(metadata))}", metadata=metadata)
    assert model.name in refused_here("--model", model)


def test_an_embedding_model(refused: Callable, write_model: Callable) -> None:
    assert "an embedding model" in refused("--model", write_model("bert", kind="header", arch="bert"))
    pooled = write_model("pooled", metadata={"llama.pooling_type": 1})
    assert "an embedding model" in refused("--model", pooled)


def test_a_projector(refused: Callable, write_model: Callable) -> None:
    assert "cannot chat" in refused("--model", write_model("clip", kind="header", arch="clip"))


def test_a_pipe_is_no_model(refused: Callable, workdir: Path) -> None:
    os.mkfifo(workdir / "m.gguf")
    assert "m.gguf" in refused("--model", "m.gguf", timeout=10)


# ---- chat templates ------------------------------------------------------------------------------


def test_a_model_without_chat_template_needs_one(
    refused: Callable, run_cli: Callable, write_model: Callable, workdir: Path
) -> None:
    model = write_model("bare", chat_template=None)
    assert "--chat-template" in refused("--model", model, *TINY)
    (workdir / "t.jinja").write_text(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    result = run_cli("chat", "--model", model, *TINY, "--chat-template", "t.jinja", input=b"hello\n")
    assert result.succeeded().out


@pytest.mark.parametrize(
    "source",
    [
        b"{% for m in messages %}",
        b"{{ messages[0].content.nothing() }}",
        b"nothing is said",
        b"{{ raise_exception('no\nno') }}",
        b"\xff\xfe",
        b"",
        b"{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}",
    ],
    ids=["syntax", "fails", "drops", "raises", "not-utf8", "empty", "rewrites"],
)
def test_a_bad_chat_template(refused_here: Callable, tiny_llama_path: Path, workdir: Path, source: bytes) -> None:
    (workdir / "t.jinja").write_bytes(source)
    assert "template" in refused_here("--model", tiny_llama_path, *TINY, "--chat-template", "t.jinja")


@pytest.mark.parametrize("where", ["nowhere.jinja", "."])
def test_an_unreadable_chat_template(refused_here: Callable, tiny_llama_path: Path, where: str) -> None:
    assert "chat template" in refused_here("--model", tiny_llama_path, *TINY, "--chat-template", where)


# ---- budgets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "budget"),
    [
        ([], 8),
        (["--policy", "streaming:n_sink=64"], 64),
        (["--system", "You are a careful helper who says little."], 60),
        (["--system", "hello " * 60], 100),
        (["--policy", "sirllm:n_sink=200", "--system", "hello"], 100),
    ],
    ids=["sinks", "many-sinks", "system", "long-system", "sinks-and-system"],
)
def test_too_small_a_budget_names_one_that_works(
    refused: Callable, run_cli: Callable, tiny_llama_path: Path, args: list[str], budget: int
) -> None:
    args = ["--model", str(tiny_llama_path), "--max-tokens", "8", *args]
    complaint = refused(*args, "--budget", str(budget))
    found = re.search(r"--budget (\d+) or more", complaint)
    assert found, complaint
    enough = int(found[1])
    result = run_cli("chat", *args, "--budget", str(enough), input=b"hello you there\n" * 20).succeeded()
    assert result.out and b"evicted" in result.err
    refused(*args, "--budget", str(enough - 1))


# The third would be 256 cells in llama.cpp's 32 bits.
@pytest.mark.parametrize("budget", [513, 10**8, 2**32 + 256])
def test_a_budget_beyond_the_trained_length(refused: Callable, tiny_llama_path: Path, budget: int) -> None:
    assert "--budget 512" in refused("--model", tiny_llama_path, "--budget", str(budget))


def test_a_system_prompt_longer_than_the_model_can_read(refused: Callable, tiny_llama_path: Path) -> None:
    complaint = refused("--model", tiny_llama_path, "--budget", "512", "--system", "hello there " * 400)
    # A larger budget alone would be advice that cannot be followed.
    assert "system prompt" in complaint and "shorten" in complaint


def test_keep_all_ends_where_the_model_does(run_cli: Callable, tiny_llama_path: Path) -> None:
    args = ("chat", "--model", tiny_llama_path, "--policy", "keep-all", "--max-tokens", "8")
    result = run_cli(*args, input=b"hello you there\n" * 99)
    assert result.code == 2
    assert len(result.out.splitlines()) > 5
    *cut, line = result.err.decode().splitlines()
    assert all(line.endswith("is cut at 8 tokens (--max-tokens)") for line in cut) and "--policy sir" in line


def test_keep_all_ends_within_a_reply(run_cli: Callable, tiny_llama_path: Path) -> None:
    args = ("chat", "--model", tiny_llama_path, "--policy", "keep-all", "--max-tokens", "9999", "--temperature", "0")
    result = run_cli(*args, "--repeat-penalty", "1", input=b"hello you there\n" * 99)
    *cut, line = result.err.decode().splitlines()
    assert result.code == 2 and "--policy sir" in line
    assert all("(no cell is left)" in line for line in cut)


# ---- options -------------------------------------------------------------------------------------

BAD_FLAGS = {
    "--budgett 96": "--budget",
    "--budge 96": "--budget",
    "--nonsense": "--nonsense",
    "words": "words",
    "--budget": "--budget",
    "--policy sirr": "did you mean 'sir'",
    "--policy sir:decai=1": "did you mean 'decay'",
    "--policy sir:decay": "decay",
    "--policy sir:decay=x": "a number",
    "--policy sir:decay=0": "decay",
    "--policy sir:decay=1.5": "decay",
    "--policy sir:decay=nan": "decay",
    "--policy sir:n_sink=1.5": "a whole number",
    "--policy sir:n_sink=-1": "n_sink",
    "--policy units:unit=page": "sentence",
    "--policy units:max_unit=0": "max_unit",
    "--policy streaming:unit=turn": "unit",
    "--policy=": "policy",
    "--positions sideways": "positions",
    "--kv-v q5_0": "kv-v",
    "--flash-attn maybe": "flash-attn",
    "--config nowhere.toml": "nowhere.toml",
    "--config ~nobody-of-this-name/c.toml": "nobody-of-this-name",
}
NUMBERS = {
    "--budget": ["0", "-1", "1.5", "many", "", "nan"],
    "--max-tokens": ["0", "-1", "x"],
    "--temperature": ["-0.1", "11", "nan", "inf", "warm"],
    "--top-k": ["-1", "0.5"],
    "--top-p": ["0", "1.1", "nan"],
    "--min-p": ["-0.1", "1", "nan"],
    "--repeat-penalty": ["0", "11", "nan"],
    "--seed": ["-1", "4294967296", "1.5"],
    "--threads": ["-1", "513"],
    "--gpu-layers": ["-2", "x"],
    "--chunk": ["-1", "4097"],
}


@pytest.mark.parametrize("line", BAD_FLAGS)
def test_bad_flags(refused_here: Callable, line: str) -> None:
    assert BAD_FLAGS[line] in refused_here(*line.split())


@pytest.mark.parametrize("flag", NUMBERS)
def test_numbers_out_of_range(refused_here: Callable, flag: str) -> None:
    for value in NUMBERS[flag]:
        complaint = refused_here(f"{flag}={value}")
        assert flag.removeprefix("--") in complaint and "(flag)" in complaint


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"EDGE_SIR_BUDGETT": "96"}, "did you mean 'budget'"),
        ({"EDGE_SIR_": "96"}, "environment"),
        ({"EDGE_SIR_QUIET": "perhaps"}, "quiet (environment)"),
        ({"EDGE_SIR_POLICY": "sirr"}, "did you mean 'sir'"),
        ({"EDGE_SIR_CONFIG": "nowhere.toml"}, "nowhere.toml"),
    ],
    ids=["unknown", "nameless", "boolean", "policy", "config"],
)
def test_bad_environment(refused_here: Callable, env: dict[str, str], words: str) -> None:
    assert words in refused_here(env=env)


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        (b"budget = ", "not valid TOML"),
        (b"\xff = 1", "not valid TOML"),
        (b"x = " + b"[" * 5000 + b"]" * 5000, "edge-sir.toml"),
        (b"budgett = 96", "did you mean 'budget'"),
        (b"[chat]\nbudget = 96", "chat"),
        (b"budget = 'many'", "budget (edge-sir.toml)"),
        (b"budget = [96]", "budget (edge-sir.toml)"),
        (b"stop = [1]", "stop (edge-sir.toml)"),
        (b'stats = "a\\u0000b"', "--stats"),
    ],
    ids=["syntax", "not-utf8", "deep", "unknown", "table", "text", "list", "stop", "nul-in-path"],
)
def test_bad_toml(refused_here: Callable, workdir: Path, toml: bytes, words: str) -> None:
    (workdir / "edge-sir.toml").write_bytes(toml)
    assert words in refused_here("--model", "missing.gguf")


@pytest.mark.parametrize(
    "args", [["--no\nsense"], ["--model", "a\nb.gguf"], ["--config", "a\nb.toml"], ["a\rb\x1b[31m"]]
)
def test_a_complaint_is_one_line_whatever_it_quotes(refused_here: Callable, args: list[str]) -> None:
    assert refused_here(*args).isprintable()


@pytest.mark.parametrize("args", [[], ["talk"], ["models"], ["models", "fetch"], ["models", "list", "--nonsense"]])
def test_bad_commands(run_cli: Callable, args: list[str]) -> None:
    assert run_cli(*args).complaint


# ---- what this model cannot do -------------------------------------------------------------------


def test_a_quantized_v_cache_needs_flash_attention(refused: Callable, write_model: Callable) -> None:
    model = write_model("wide-heads", n_embd=128)
    complaint = refused("--model", model, *TINY, "--kv-v", "q8_0", "--flash-attn", "off")
    assert "--flash-attn auto" in complaint


@pytest.mark.parametrize("kind", ["q8_0", "q4_0"])
def test_a_quantized_v_cache_needs_heads_of_whole_blocks(refused: Callable, tiny_llama_path: Path, kind: str) -> None:
    assert "--kv-v f16" in refused("--model", tiny_llama_path, *TINY, "--kv-v", kind)


def test_packing_where_the_gate_says_no(
    refused: Callable, write_model: Callable, tiny_gemma3_path: Path, tiny_gemma3_wide_path: Path, run_cli: Callable
) -> None:
    packed = (*TINY, "--positions", "packed")
    yarn = write_model("yarn", rope_scaling=("yarn", 2.0))
    for model in (tiny_gemma3_path, yarn):
        assert "--positions gaps" in refused("--model", model, *packed)
        assert run_cli("chat", "--model", model, *TINY, input=b"hello\n").succeeded().out
    assert run_cli("chat", "--model", tiny_gemma3_wide_path, *packed, input=b"hello\n").succeeded().out


def test_a_file_that_ends_llama_cpp_ends_in_one_line(run_cli: Callable, tmp_path: Path) -> None:
    """Its header is sound, but llama.cpp asserts that the inner size is twice the embedding."""
    from tiny_families import write_jamba

    path = write_jamba(tmp_path / "jamba.gguf", {"ssm.inner_size": 96})
    complaint = run_cli("chat", "--model", path, "--budget", "256", input=b"Hi\n").complaint
    assert "loading it ends llama.cpp (SIGABRT: jamba.cpp:" in complaint and "download the file again" in complaint


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--session", "-x"), "--session: expected one argument, and '-x' reads as a flag; no name begins with '-'"),
        (("--system", "-x"), "'-x' reads as a flag; write --system=-x if it is the value"),
    ],
)
def test_a_value_that_reads_as_a_flag(refused_here: Callable, args: tuple[str, ...], says: str) -> None:
    assert says in refused_here(*args)
