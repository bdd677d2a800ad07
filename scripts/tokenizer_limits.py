"""How long a run of one kind of characters llama.cpp's tokenizers survive, found by trying it in child processes.

Three questions, for every pre-tokenizer that this llama.cpp knows and every kind of characters that their regexes
tell apart: from which length on does the bare tokenizer end the process (bisected), does edge-sir's survive the
longest length and any mixture, and are its tokens those of the bare tokenizer up to the length that it promises?
"""

import argparse
import ctypes
import importlib.metadata
import itertools
import json
import logging
import os
import platform
import random
import re
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from tiny_gguf import bpe_bytes, bpe_tokenizer, hyperparameters, write_gguf, write_llama

from edge_sir import _owner
from edge_sir.llama.native import LOG, NativeModel, lib
from edge_sir.llama.text import LlamaText
from edge_sir.llama.text_limits import recurses

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tokenizer-limits.md"

# Those of llama-cpp-python 0.3.36. What else the library's strings hold and llama.cpp takes for a name is added.
NAMES = """
default minicpm5 llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano deepseek-llm
deepseek-coder deepseek-v3 spark2_5 youtu falcon mpt starcoder gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es
jina-v2-de a.x-4.0 mellum modern-bert jina-v1-en jina-v2-code roberta-bpe exaone4 jais-2 gemma4
granite-embed-multi-311m sarvam-moe whitespace refact command-r qwen2 deepseek-r1-qwen kormo f2llmv2 megrez qwen35
stablelm2 olmo dbrx smaug-bpe poro-chat chatglm-bpe glm4 glm5 viking jais tekken smollm codeshell bloom gpt3-finnish
exaone exaone-moe chameleon minerva-7b gpt-4o llama4 kanana2 talkie granite-embed-multi-97m tiny_aya cohere2moe
superbpe trillion granite-docling bailingmoe bailingmoe2 llada-moe seed-coder hunyuan hunyuan-dense hy_v4 joyai-llm
kimi-k2 ufakzeka grok-2 afmoe laguna minimax-m2 solar-open mellum2
"""
UNITS = [
    *"z Z zZ Hello é ж λ e\u0301 \u0301 हि ท ที่ م ש 中 か 한 ㄱ ㄅ 7 ٣ ½".split(" "),
    *". ! ' \" / _ + $ ` [ < | 。 — → 😀 👩\u200d \u200b \x01 \0 \ue000 \U000e1000".split(" "),
    *"'s a1 a. a+ 1. 中a IMGIMGABZ ABCDEFGHIJ".split(" "),
    *(" ", "\t", "\n", "\r", "\r\n", "\u00a0", "\u3000", "\u2028", "\n ", ".\n", "/\n", "a\n"),
    *(" a", " word", " 中", " e\u0301", " 1", "  a"),
]
"""One for each kind of characters that a regex of llama.cpp tells apart, and mixtures that one match may take."""
ATOMS = [*UNITS, "the", "don't", "ЖЖ", "中文", "<|x|>", "1234", " \t", "\r\n\r\n", "x" * 50, " " * 50]

_LONGEST = 1_000_000
_LONG, _LONG_ENOUGH = 300_000, 50_000  # more than the large stack holds, and more than what is cut
_PROMISED = 8192  # characters in a row whose tokens may not change in any model
_PATIENCE_S = 120  # of a processor, for one text
_PROBE = 40_000  # characters by which pre-tokenizers are told apart


# ---- children --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class End:
    """How a child ended. signal: that killed it, 0 for none; slow if it was stopped. told: what it had to say."""

    signal: int
    told: Any = None

    @property
    def died(self) -> bool:
        return self.signal not in (0, signal.SIGXCPU)


def in_child(work: Callable[[], Any]) -> End:
    """Runs `work` in a fork of this process; what it returns comes back through JSON."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _owner._forks = 0  # edge-sir refuses a forked process; this one asks for nothing that needs other threads
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (_PATIENCE_S, _PATIENCE_S + 5))
        status = 1
        try:
            with os.fdopen(writer, "w") as out:
                json.dump(work(), out)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as answers:
        told = answers.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status > 0:
        raise RuntimeError("the script failed in a child; run its work in this process to see why")
    return End(-status, json.loads(told) if status == 0 else None)


def bare(vocab: Any, text: str) -> np.ndarray:
    """The tokens as llama_tokenize gives them, int32 [n]."""
    data = text.encode()
    tokens = np.empty(3 * len(data) + 8, np.int32)
    pointer = tokens.ctypes.data_as(ctypes.POINTER(lib.llama_token))
    return tokens[: lib.llama_tokenize(vocab, data, len(data), pointer, len(tokens), False, False)]


def timed(vocab: Any, text: str) -> float:
    """Seconds that llama_tokenize takes."""
    started = time.perf_counter()
    bare(vocab, text)
    return time.perf_counter() - started


def in_thread(stack_bytes: int, work: Callable[[], Any]) -> Any:
    """Runs `work` in a thread with that much stack, 0 for Python's usual."""
    threading.stack_size(stack_bytes)
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


def run_of(unit: str, n: int) -> str:
    """`n` characters of `unit`, repeated."""
    return (unit * (n // len(unit) + 1))[:n]


# ---- vocabularies ------------------------------------------------------------------------------------


@contextmanager
def opened(path: Path) -> Iterator[Any | None]:
    """The vocabulary of a file, without its weights; None if llama.cpp refuses it."""
    params = lib.llama_model_default_params()
    params.vocab_only = True
    model = lib.llama_model_load_from_file(os.fsencode(path), params)
    yield lib.llama_model_get_vocab(model) if model else None
    if model:
        lib.llama_model_free(model)


def model_of(pre: str) -> str:
    """The tokenizer.ggml.model that goes with a pre-tokenizer."""
    return "whitespace" if pre == "whitespace" else "gpt2"


def write_plain(path: Path, pre: str) -> Path:
    """A header with a vocabulary and no layers, for `opened`."""
    entries = hyperparameters("llama", 1, 32, 1, 1, 512, 64) | bpe_tokenizer(pre, model_of(pre))
    return write_gguf(path, "llama", entries, {"token_embd.weight": np.zeros((1, 32), np.float32)})


def known_names(folder: Path) -> list[str]:
    """All names that llama.cpp takes as `tokenizer.ggml.pre`: those above, and what its strings hold besides."""
    libraries = sorted((Path(llama_cpp.__file__).parent / "lib").glob("*llama.*"))
    strings = set().union(
        *(re.findall(rb"(?<=\0)[a-z][a-z0-9_.+-]{2,39}(?=\0)", path.read_bytes()) for path in libraries)
    )
    found = {text.decode() for text in strings} - set(NAMES.split())
    new = [name for name in sorted(found) if is_known(name, folder)]
    if new:
        say(f"new pre-tokenizers, to be added to this script: {' '.join(new)}")
    return [*NAMES.split(), *new]


def is_known(name: str, folder: Path) -> bool:
    with opened(write_plain(folder / "name.gguf", name)) as vocab:
        return vocab is not None


def write_probe(path: Path, pre: str) -> Path:
    """A vocabulary in which any two bytes merge, so that tokens show where a pre-tokenizer splits."""
    letters = bpe_bytes()
    pairs = list(itertools.product(letters, letters))
    entries = hyperparameters("llama", 1, 32, 1, 1, 512, 64) | bpe_tokenizer(pre, model_of(pre))
    texts = [*letters, *("".join(pair) for pair in pairs), "<|end|>"]
    entries |= {"tokenizer.ggml.tokens": texts, "tokenizer.ggml.merges": [" ".join(pair) for pair in pairs]}
    entries |= {"tokenizer.ggml.token_type": [1] * (len(texts) - 1) + [3]}
    entries |= {f"tokenizer.ggml.{role}_token_id": len(texts) - 1 for role in ("bos", "eos", "eot")}
    return write_gguf(path, "llama", entries, {"token_embd.weight": np.zeros((1, 32), np.float32)})


def grouped(names: Sequence[str], folder: Path) -> list[list[str]]:
    """The names in groups that split a long mixture at the same places."""
    chance = random.Random(0)
    mixture = "".join(chance.choice(ATOMS) * chance.choice((1, 1, 2, 3, 7)) for _ in range(_PROBE // 4))
    groups: dict[bytes, list[str]] = {}
    for name in names:
        with opened(write_probe(folder / "probe.gguf", name)) as vocab:
            groups.setdefault(bare(vocab, mixture).tobytes() if vocab else name.encode(), []).append(name)
    return list(groups.values())


# ---- the bare tokenizer ------------------------------------------------------------------------------


def bare_limits(pre: str, longest: int, folder: Path) -> dict[str, int]:
    """Of the units that end the process in the main thread, the fewest characters that do."""
    dies: dict[str, int] = {}
    with opened(write_plain(folder / "plain.gguf", pre)) as vocab:
        for unit in UNITS:
            end = try_run(vocab, unit, longest)
            if end.died:
                dies[unit] = fewest(vocab, unit, min(longest, 200_000), max(dies.values(), default=0))
            elif end.signal:
                say(f"{pre}: {longest} characters of {unit!a} take more than {_PATIENCE_S} s")
    return dies


def try_run(vocab: Any, unit: str, n: int) -> End:
    return in_child(lambda: timed(vocab, run_of(unit, n)))


def fewest(vocab: Any, unit: str, upper: int, hint: int, stack_bytes: int = -1) -> int:
    """Bisects the fewest characters that end the process, to one in a hundred; first near `hint`."""

    def dies(n: int) -> bool:
        text = run_of(unit, n)
        if stack_bytes < 0:
            return in_child(lambda: timed(vocab, text)).died
        return in_child(lambda: in_thread(stack_bytes, lambda: timed(vocab, text))).died

    alive, dead = 1, upper
    for n in (hint, hint * 199 // 200) if hint else ():
        if dies(n):
            dead = n
        else:
            alive = max(alive, n)
    while dead - alive > dead // 100:
        middle = (alive + dead) // 2
        if dies(middle):
            dead = middle
        else:
            alive = middle
    return dead


# ---- edge-sir's --------------------------------------------------------------------------------------


@dataclass
class Kept:
    """What edge-sir's tokenizer does. deaths: texts that ended the process; changed: units with other tokens."""

    tried: int = 0
    deaths: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)


def safe_limits(pre: str, longest: int, n_mixtures: int, folder: Path) -> Kept:
    """Runs of `longest` characters of every kind and mixtures through LlamaText, and its tokens at `_PROMISED`."""
    kept = Kept()
    path = write_llama(folder / "whole.gguf", n_layer=1, metadata=bpe_tokenizer(pre, model_of(pre)))
    model = NativeModel(path)
    codec = LlamaText(model)
    try:
        texts = [(ascii(unit), run_of(unit, longest)) for unit in UNITS]
        for name, text in itertools.chain(texts, mixtures(pre, n_mixtures)):
            end = in_child(lambda text=text: len(codec.encode(text, special=False)))
            kept.tried += 1
            kept.deaths += [name] if end.died else []
            kept.slow += [name] if end.signal and not end.died else []
        same = [(ascii(unit), "Well," + run_of(unit, _PROMISED) + "and more.") for unit in UNITS]
        for name, text in [*same, ("an ordinary text", ordinary_text(_LONG))]:
            end = in_child(lambda text=text: np.array_equal(codec.encode(text, special=False), bare(model.vocab, text)))
            kept.changed += [] if end.told else [name]
    finally:
        model.close()
    return kept


def mixtures(pre: str, n: int) -> Iterator[tuple[str, str]]:
    """Random texts of 300,000 characters: up to three atoms, each repeated often or seldom, over and over."""
    chance = random.Random(pre)
    for _ in range(n):
        parts = [chance.choice(ATOMS) * chance.choice((1, 2, 3, 50, 5000, 40_000)) for _ in range(chance.randint(1, 3))]
        yield ascii("".join(parts))[:60], run_of("".join(parts), _LONG)


def ordinary_text(n: int) -> str:
    """Short runs of every kind, with a blank or a line's end at least every hundred of them."""
    chance = random.Random(0)
    parts = (chance.choice(ATOMS) * chance.choice((1, 1, 2, 3, 7)) + " \n"[chance.random() < 0.1] for _ in range(n))
    return "".join(parts)[:n]


# ---- the page ----------------------------------------------------------------------------------------


def main() -> int:
    args = arguments()
    logging.getLogger("llama.cpp").addHandler(logging.NullHandler())
    LOG.install()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = args.names or known_names(folder)
        rows, failed = [], 0
        for group in grouped(names, folder):
            row, bad = measure(group, args.longest, folder)
            rows.append(row)
            failed += bad
        parts = (table(rows), stacks(names, folder), squares(folder), others(folder), [foot()])
        page = "\n".join([head(args.longest), *(line for part in parts for line in (*part, ""))])
    if args.write:
        PAGE.write_text(page, encoding="utf-8")
    else:
        print(page, end="")
    say(f"{failed} failures")
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="only these pre-tokenizers")
    parser.add_argument("--longest", type=int, default=_LONGEST, metavar="N", help="characters (default: %(default)s)")
    return parser.parse_args()


@dataclass(frozen=True)
class Row:
    names: Sequence[str]
    dies: dict[str, int]
    kept: Kept


def measure(group: Sequence[str], longest: int, folder: Path) -> tuple[Row, int]:
    """The row of one group, and how many things are not as edge-sir promises."""
    dies = bare_limits(group[0], longest, folder)
    kept = safe_limits(group[0], _LONG, 100, folder)
    for name in group[1:]:  # they split alike, so that shorter runs will do
        more = safe_limits(name, _LONG_ENOUGH, 6, folder)
        kept.tried += more.tried
        for ours, theirs in ((kept.deaths, more.deaths), (kept.slow, more.slow), (kept.changed, more.changed)):
            ours += [f"{name}: {what}" for what in theirs]
    wrong = [name for name in group if dies and not recurses(model_of(name), name)]
    say(f"{' '.join(group)}: dies on {len(dies)} units, {min(dies.values(), default=0)}; {kept}; {wrong}")
    return Row(group, dies, kept), len(kept.deaths) + len(kept.slow) + len(kept.changed) + len(wrong)


def head(longest: int) -> str:
    return f"""# How long a text the tokenizers of llama.cpp survive

Made by `scripts/tokenizer-limits --write`; do not edit.

llama.cpp splits a text with a regex before it tokenizes it. Where that is a `std::regex`, each character of a match
takes stack, and a long run of letters, blanks or signs ends the process. edge-sir cuts such runs
(none of {_PROMISED:,} characters or fewer) and tokenizes long texts on a thread with a large stack of its own.

Each row is a group of values of `tokenizer.ggml.pre` that split alike. *Dies from* is the fewest characters in a row
that end llama.cpp in the main thread, over the {len(UNITS)} kinds of characters that were tried up to {longest:,};
*kinds* says how many of them do. *edge-sir* counts the texts that its tokenizer survived: {_LONG:,} characters of
each kind ({_LONG_ENOUGH:,} for all but the first of a group) and random mixtures of kinds. *Same tokens* says whether
runs of {_PROMISED:,} characters of each kind, and an ordinary text of {_LONG:,}, give the tokens of llama.cpp alone.
"""


def table(rows: Sequence[Row]) -> list[str]:
    lines = ["| pre-tokenizers | dies from | kinds | edge-sir | same tokens |", "|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: (not row.dies, row.names[0])):
        fewest_of_all = f"{min(row.dies.values()):,}" if row.dies else "none"
        survived = f"{row.kept.tried - len(row.kept.deaths) - len(row.kept.slow):,} of {row.kept.tried:,}"
        same = "no: " + ", ".join(row.kept.changed) if row.kept.changed else "yes"
        names = ", ".join(row.names)
        lines.append(f"| {names} | {fewest_of_all} | {len(row.dies)} | {survived} | {same} |")
    return lines


def stacks(names: Sequence[str], folder: Path) -> list[str]:
    """What one pre-tokenizer that recurses survives on stacks of several sizes."""
    name = next((name for name in ("tekken", *names) if recurses("gpt2", name)), None)
    if name is None:
        return []
    main_kb = resource.getrlimit(resource.RLIMIT_STACK)[0] // 1024
    tried = {f"main thread, `ulimit -s` {main_kb}": -1, "Python thread": 0, "thread of 1 MB": 1 << 20}
    tried |= {"thread of 64 MB": 64 << 20}
    lines = [f"The stack decides. A run of `z` in `{name}`:", "", "| stack | dies from |", "|---|---|"]
    with opened(write_plain(folder / "plain.gguf", name)) as vocab:
        return lines + [f"| {what} | {fewest(vocab, 'z', 400_000, 0, size):,} |" for what, size in tried.items()]


def squares(folder: Path) -> list[str]:
    """The pre-tokenizers whose time grows with the square of a run."""
    lines = ["For two the time grows with the square of a run; seconds:", "", "| pre-tokenizer | run | 1,000 | 8,192 |"]
    lines.append("|---|---|---|---|")
    for name, what, unit, end in (("superbpe", "digits", "7", ""), ("deepseek-llm", "blanks before Han", " ", "中")):
        texts = [run_of(unit, n) + end for n in (1000, _PROMISED)]
        with opened(write_plain(folder / "plain.gguf", name)) as vocab:
            ends = [in_child(lambda text=text, vocab=vocab: timed(vocab, text)) for text in texts]
        lines.append(f"| {name} | {what} | {' | '.join(map(shown, ends))} |")
    return lines


def others(folder: Path) -> list[str]:
    """The tokenizers without a pre-tokenizer, which survive; the time that they take."""
    lines = ["Tokenizers without a pre-tokenizer survive any length; seconds for a run of characters:", ""]
    lines += [
        "| tokenizer | text | 10,000 | 100,000 | edge-sir, 100,000 | edge-sir, 1,000,000 |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("llama", "t5", "plamo2"):
        model = NativeModel(write_llama(folder / "other.gguf", n_layer=1, metadata={"tokenizer.ggml.model": name}))
        codec = LlamaText(model)
        for what, unit in {"letters": "z", "letters that are merged": "l", "not in the vocabulary": "中"}.items():
            ends = [try_run(model.vocab, unit, n) for n in (10_000, 100_000)]
            ends += [
                in_child(lambda n=n, unit=unit, codec=codec: seconds(codec, run_of(unit, n)))
                for n in (100_000, _LONGEST)
            ]
            lines.append(f"| {name} | {what} | {' | '.join(map(shown, ends))} |")
        model.close()
    return lines


def seconds(codec: LlamaText, text: str) -> float:
    started = time.perf_counter()
    codec.encode(text, special=False)
    return time.perf_counter() - started


def shown(end: End) -> str:
    if end.died:
        return signal.Signals(end.signal).name
    return f"over {_PATIENCE_S}" if end.signal else f"{end.told:.2f}"


def foot() -> str:
    version = importlib.metadata.version("llama-cpp-python")
    return f"llama-cpp-python {version}, {platform.system()} {platform.machine()}, {platform.libc_ver()[0] or 'libc'}."


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
