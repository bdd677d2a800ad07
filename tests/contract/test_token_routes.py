"""Two routes for tokens: those of a conversation read message by message, and of the whole text tokenized at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from engines import param

from edge_sir.engine import TextCodec, Tokens
from edge_sir.text.encoder import MessageEncoder
from edge_sir.text.template import ChatTemplate

TEMPLATES = {
    "control tokens": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "control tokens and blanks": (
        "{% for m in messages %}<|im_start|> {{ m.role }} {{ m.content }} <|im_end|> {% endfor %}"
        "{% if add_generation_prompt %}<|im_start|> assistant{% endif %}"
    ),
    "brackets": (
        "{{ bos_token }}{% set sys = messages[0].role == 'system' %}{% for m in (messages[1:] if sys else messages) %}"
        "{% if m.role == 'assistant' %} {{ m.content }}{{ eos_token }}{% else %}"
        "[INST] {{ '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' if sys and loop.first }}"
        "{{ m.content }} [/INST]{% endif %}{% endfor %}"
    ),
    "brackets, each with a beginning": (
        "{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }} {{ eos_token }}"
        "{% else %}{{ bos_token }}[INST] {{ m.content }} [/INST]{% endif %}{% endfor %}"
    ),
    "a marker that ends in a blank": (
        "{% for m in messages %}{{ 'Assistant: ' if m.role == 'assistant' else 'User: ' }}{{ m.content }}<|im_end|>"
        "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
    ),
    "lines": (
        "{% for m in messages %}{{ 'Assistant: ' if m.role == 'assistant' else 'User: ' }}{{ m.content }}\n"
        "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
    ),
}
SAID = {
    "words": ("Hello there", "the thing and you", "Yes 123.4 hello"),
    "signs at the ends": ("'the' (and)", "-7, hello!", "...and?"),
    "lines": ("one\ntwo", "def f(x):\n    return x", "a\n\nb"),
    "capitals and accents": ("Ünïcode é", "HELLO There", "naïve"),
}


@dataclass
class Vocabulary:
    """A tokenizer under test. blanks: it tells how many blanks there are."""

    codec: TextCodec
    control: list[str]


def _of_file(path: Path) -> Vocabulary:
    from edge_sir.llama.gguf.reader import read_header
    from edge_sir.llama.native import NativeModel, lib
    from edge_sir.llama.text import LlamaText

    model = NativeModel(path, header=read_header(path))
    ids = [i for i in range(model.n_vocab) if lib.llama_vocab_is_control(model.vocab, i)]
    names = [lib.llama_vocab_get_text(model.vocab, i).decode() for i in ids]
    return Vocabulary(LlamaText(model), [name for name in names if name])


def _of_model(name: str, request: pytest.FixtureRequest) -> Vocabulary:
    return _of_file(request.getfixturevalue(name).header.path)


KINDS = ["sentencepiece", "sentencepiece with a blank before", "bpe qwen2", "bpe llama-bpe", "unigram", "wordpiece"]


@pytest.fixture(params=[*KINDS, param("smollm2")], scope="module")
def vocabulary(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vocabulary]:
    from tiny_gguf import bpe_tokenizer, unigram_tokenizer, wordpiece_tokenizer, write_llama

    kind, path = request.param, tmp_path_factory.mktemp("vocabulary") / "v.gguf"
    match kind.split():
        case ["sentencepiece", *blank]:
            metadata = {"tokenizer.ggml.add_space_prefix": bool(blank)}
        case ["bpe", pre]:
            metadata = bpe_tokenizer(pre)
        case ["unigram"]:
            metadata = unigram_tokenizer()
        case ["wordpiece"]:
            metadata = wordpiece_tokenizer()
        case _:
            yield _of_model(kind, request)
            return
    yield _of_file(write_llama(path, metadata=metadata))


def conversation(said: Sequence[str], system: str | None) -> list[dict[str, str]]:
    messages = [{"role": role, "content": text} for role, text in zip(("user", "assistant", "user"), said, strict=True)]
    return [{"role": "system", "content": system}, *messages] if system else messages


def by_message(codec: TextCodec, template: ChatTemplate, messages: Sequence[dict[str, str]]) -> Tokens:
    """All tokens that a chat feeds for these messages and a reply's opening."""
    system = messages[0]["content"] if messages[0]["role"] == "system" else None
    encoder = MessageEncoder(codec, template, system)
    parts = encoder.opening()
    for i, message in enumerate(messages[1:] if system else messages):
        parts += encoder.message(message["role"], message["content"], first=i == 0)
    parts += encoder.reply_opening()
    return np.concatenate([tokens for _, tokens in parts])


def at_once(codec: TextCodec, template: ChatTemplate, messages: Sequence[dict[str, str]]) -> Tokens:
    tokens = codec.encode(template.render(messages, generate=True), special=True)
    return tokens if codec.bos < 0 or tokens[:1].tolist() == [codec.bos] else np.append(np.int32(codec.bos), tokens)


@pytest.mark.parametrize("system", [None, "Be kind."], ids=["no system prompt", "a system prompt"])
@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("source", TEMPLATES)
def test_message_by_message_the_tokens_are_those_of_the_whole(
    vocabulary: Vocabulary, source: str, said: str, system: str | None
) -> None:
    codec = vocabulary.codec
    template = ChatTemplate(TEMPLATES[source], bos=codec.bos_text, eos=codec.eos_text)
    messages = conversation(SAID[said], system)
    own, whole = by_message(codec, template, messages), at_once(codec, template, messages)
    assert spelled(codec, own) == spelled(codec, whole)
    assert own.tolist() == whole.tolist()


def spelled(codec: TextCodec, tokens: Tokens) -> list[bytes]:
    return [codec.piece(int(token)) for token in tokens]


@pytest.mark.parametrize("source", TEMPLATES)
def test_what_was_said_never_becomes_a_control_token(vocabulary: Vocabulary, source: str) -> None:
    codec = vocabulary.codec
    template = ChatTemplate(TEMPLATES[source], bos=codec.bos_text, eos=codec.eos_text)
    encoder = MessageEncoder(codec, template, None)
    control = [int(codec.encode(name, special=True)[0]) for name in vocabulary.control]
    assert len(control) >= 4
    plain = [t for _, tokens in encoder.message("user", "x", first=False) for t in tokens.tolist()]
    for name in vocabulary.control:
        for text in (name, f"say {name} now", f"{name}{name}", f"\n{name}\n", f"{name[:-1]}", f"{name[1:]}"):
            found = [t for _, tokens in encoder.message("user", text, first=False) for t in tokens.tolist()]
            assert sum(t in control for t in found) == sum(t in control for t in plain), (name, text)
