"""Ends and thoughts: what ends a reply, what is a thought, and what a thought may take room from."""

from pathlib import Path

import numpy as np
import pytest
from chatting import END, make_chat, said, transcript
from driving import agrees, role_rows
from rendering import BOS, EOS, MarkerTokenizer
from templates import KINDS

from edge_sir.chat import Chat
from edge_sir.engine import SamplingParams
from edge_sir.policies import from_spec
from edge_sir.testing import ToyEngine
from edge_sir.text.encoder import MessageEncoder
from edge_sir.text.template import ChatTemplate


def speak(source: str, *replies: str, stop: tuple[str, ...] = (), more: tuple[str, ...] = (), n: int = 400) -> Chat:
    """A chat under another template, whose model writes these replies; `more` control tokens are in its vocabulary."""
    template = ChatTemplate(source, bos=BOS, eos=EOS)
    codec = MarkerTokenizer(template)
    codec.SPECIALS = (*codec.SPECIALS, *more)  # type: ignore[misc]
    engine = ToyEngine(2048, n_vocab=256 + len(codec.SPECIALS))
    engine.script[:] = [token for reply in replies for token in codec.encode(reply, special=True).tolist()]
    return Chat(engine, codec, template, from_spec("sir"), 2048, sampling=SamplingParams(0), stop=stop, max_tokens=n)


def resident(chat: Chat) -> str:
    assert isinstance(chat.codec, MarkerTokenizer)
    return chat.codec.spelled(chat.session.ledger["token"].tolist())


# ---- ends ----------------------------------------------------------------------------------------

PLAYS_THE_USER = "Fine.<|end|>\n<|user|>\nAnd?<|end|>\n"


def test_the_templates_closing_marker_ends_a_reply_whatever_the_vocabulary_says() -> None:
    chat = speak(KINDS["the same in history"], PLAYS_THE_USER)
    reply = chat.reply("Hi")
    assert (reply.text, reply.finish, reply.n_generated) == ("Fine.", "stop", len("Fine."))
    assert resident(chat).endswith("<|assistant|>\nFine.<|end|>\n")


def test_a_stop_string_that_is_one_control_token_stops_on_it() -> None:
    chat = speak(KINDS["the same in history"], "Fine.<|over|>More.", stop=("<|over|>",), more=("<|over|>",))
    reply = chat.reply("Hi")
    assert (reply.text, reply.finish) == ("Fine.", "stop")
    assert "<|over|>" not in resident(chat)


class WideTokenizer(MarkerTokenizer):
    """Some of its tokens are several letters, as in a real vocabulary."""

    WIDE = (".\n", "User", ": ST", "OP!")

    def piece(self, token: int) -> bytes:
        text = self.SPECIALS[token - 256] if token >= 256 else ""
        return text.encode() if text in self.WIDE else super().piece(token)


@pytest.mark.parametrize(
    ("tokens", "stop", "answer"),
    [
        (["Fine", ".\n", "User", ": "], "\nUser:", "Fine."),
        (["Fine", ": ST", "OP!"], "STOP", "Fine:"),
        (["Fine", "é: ST", "OP!"], "STOP", "Fineé:"),
        (["<thi", "<|end|>"], "h", "<t"),  # what may begin a tag is held back until the reply ends
    ],
)
def test_a_stop_string_leaves_no_part_of_itself_in_the_cache(tokens: list[str], stop: str, answer: str) -> None:
    template = ChatTemplate(KINDS["the same in history"], bos=BOS, eos=EOS)
    codec = WideTokenizer(template)
    codec.SPECIALS = (*codec.SPECIALS, *codec.WIDE)  # type: ignore[misc]
    engine = ToyEngine(512, n_vocab=256 + len(codec.SPECIALS))
    engine.script[:] = [int(t) for text in tokens for t in codec.encode(text, special=True)]
    chat = Chat(engine, codec, template, from_spec("sir"), 512, sampling=SamplingParams(0), stop=(stop,))
    assert chat.reply("Hi").text == answer
    stays = chat.session.ledger["token"][role_rows(chat.session, "assistant")].tolist()
    assert b"".join(codec.piece(t) for t in stays).decode().rstrip() == answer
    assert agrees(chat.session)


@pytest.mark.parametrize(
    ("kind", "written", "n", "by_hand"),
    [
        ("channels", "<|channel|>analysis<|message|>Hm.", n, by_hand)
        for n in (1, 2, 5, 9, 12)
        for by_hand in (False, True)
    ]
    + [("an empty channel is opened", "<|channel>thought Hm.", n, by_hand) for n in (1, 5) for by_hand in (False, True)]
    + [("the same in history", "\U0001f44b", n, True) for n in (1, 3)],  # a token is a byte
)
def test_a_reply_cut_before_its_first_word_leaves_nothing_but_its_form(
    kind: str, written: str, n: int, by_hand: bool
) -> None:
    chat = speak(KINDS[kind], written + "<|end|>", n=99 if by_hand else n)
    turn, n_drawn = chat.turn("Hi"), 0
    while (piece := turn.next_slice()) is not None:
        turn.commit(chat.engine.decode([piece])[0])
        n_drawn += turn.phase == "writing"
        if by_hand and n_drawn == n:
            turn.cancel()
    assert turn.reply.text == ""
    chat.add("user", "And?")
    messages = [{"role": role, "content": text} for role, text in (("user", "Hi"), ("assistant", ""), ("user", "And?"))]
    assert resident(chat) + chat.template.generation == chat.template.render(messages, generate=True)
    assert agrees(chat.session)


def test_a_reply_that_begins_with_its_stop_string_stands_as_history_has_it() -> None:
    chat = speak(KINDS["history has a word"], "STOP and more", stop=("STOP",))
    assert chat.reply("Hi").text == ""
    assert resident(chat).endswith("<|assistant|>\n>>>all\n<|end|>\n")


@pytest.mark.parametrize("answer", ["Yes.", ""])
def test_a_token_that_ends_a_channel_ends_no_reply_inside_a_thought(answer: str) -> None:
    thought = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>"
    reply = speak(KINDS["channels"], f"{thought}{answer}<|end|>No.<|end|>").reply("Hi")
    assert (reply.thought, reply.text, reply.finish) == ("Hm.", answer, "stop")


def test_a_renamed_end_of_a_real_vocabulary_ends_a_reply(tmp_path: Path) -> None:
    from tiny_gguf import CHATML, vocabulary, write_llama

    from edge_sir.llama.native import NativeModel
    from edge_sir.llama.text import LlamaText

    texts = ["<|turn_over|>" if text == "<|im_end|>" else text for text in vocabulary()[0]]
    metadata = {"tokenizer.ggml.tokens": texts, "tokenizer.ggml.eot_token_id": None, "tokenizer.ggml.eos_token_id": 0}
    source = CHATML.replace("<|im_end|>", "<|turn_over|>")
    codec = LlamaText(NativeModel(write_llama(tmp_path / "m.gguf", metadata=metadata, chat_template=source)))
    encoder = MessageEncoder(codec, ChatTemplate(source, bos=codec.bos_text, eos=codec.eos_text), None)
    end = texts.index("<|turn_over|>")
    assert not codec.is_end(end)
    assert encoder.reply_form.ends == {end}
    assert encoder.control_token("<|turn_over|>") == end
    assert encoder.control_token("turn over") is None and encoder.control_token("") is None


# ---- what is a thought ---------------------------------------------------------------------------


def test_tags_that_only_the_vocabulary_has_mark_thoughts() -> None:
    written = "[THINK]Hm.[/THINK]Yes.<|end|>"
    chat = speak(KINDS["the same in history"], written, more=("[THINK]", "[/THINK]"))
    reply = chat.reply("Hi")
    assert (reply.thought, reply.text) == ("Hm.", "Yes.")
    assert resident(chat).endswith("<|assistant|>\nYes.<|end|>\n")


def test_what_stands_before_a_closing_tag_was_a_thought() -> None:
    chat = make_chat(["I should greet.\n</think>\n\nHello!"])
    stream = chat.stream("Hi")
    pieces = list(stream)
    assert (stream.reply.text, stream.reply.thought) == ("Hello!", "I should greet.")
    assert pieces[-1].role == "assistant" and pieces[-1].text.endswith("!")
    assert transcript(chat).endswith("assistant\nHello!<|im_end|>\n")
    assert [m.text for m in chat.transcript.of(1)] == ["Hi", "Hello!"]
    assert agrees(chat.session)


@pytest.mark.parametrize("before", ["<think>Hm.</think>", "<think>Hm.</think>\n\n", "Hm.</think> "])
@pytest.mark.parametrize("answer", ["é!", "\U0001f44b Hello", "\u3000Hello"])
def test_a_character_of_several_tokens_that_begins_an_answer_stays_whole(before: str, answer: str) -> None:
    chat = make_chat([before + answer])
    assert chat.reply("Hi").text == answer.strip()
    assert transcript(chat).endswith(f"assistant\n{answer.strip()}<|im_end|>\n")
    assert agrees(chat.session)


@pytest.mark.parametrize("n_pieces", [1, 2, 9, 30])
@pytest.mark.parametrize(
    "kind", ["history has an empty thought", "channels", "a thought is opened", "history has a word"]
)
def test_a_reply_that_is_stopped_stands_as_history_has_it(kind: str, n_pieces: int) -> None:
    template = ChatTemplate(KINDS[kind], bos=BOS, eos=EOS)
    opening = "" if "opened" in kind else MessageEncoder(MarkerTokenizer(template), template, None).reply_form.tags.open
    close = template.thoughts.close if template.thoughts else ""
    thought = f"{opening}Let me see.{close}" if close else ""
    chat = speak(KINDS[kind], f"{thought}It is Ada, I think.<|end|>")
    with chat.stream("Hi") as stream:
        for _ in range(n_pieces):
            next(stream, None)
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": stream.text}]
    history = template.render([*messages, {"role": "user", "content": "And?"}], generate=True)
    chat.add("user", "And?")
    assert resident(chat) + template.generation == history
    assert agrees(chat.session)


@pytest.mark.parametrize("written", ["It is Ada.STOP", "STOP"])
@pytest.mark.parametrize("kind", ["history has an empty thought", "history has a word"])
def test_a_reply_that_a_stop_string_ends_stands_as_history_has_it(kind: str, written: str) -> None:
    template = ChatTemplate(KINDS[kind], bos=BOS, eos=EOS)
    chat = speak(KINDS[kind], f"{written}<|end|>", stop=("STOP",))
    reply = chat.reply("Hi")
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": reply.text}]
    history = template.render([*messages, {"role": "user", "content": "And?"}], generate=True)
    chat.add("user", "And?")
    assert resident(chat) + template.generation == history
    assert agrees(chat.session)


def test_a_reply_says_how_long_its_thought_was() -> None:
    [cut] = [make_chat(["<think>Let me see"], max_tokens=7).reply("Hi")]
    assert (cut.text, cut.finish, cut.n_generated, cut.n_thought) == ("", "length", 7, 7)
    assert make_chat(["<think>hm</think>Fine."]).reply("Hi").n_thought == 4
    assert make_chat(["Fine."]).reply("Hi").n_thought == 0


# ---- what a thought takes ------------------------------------------------------------------------

FACTS = ("My name is Ada and my cat is Tom.", "I live in Bonn, on the Rhine.")


@pytest.mark.parametrize("policy", ["sir", "units", "sirllm", "entropy", "streaming", "random"])
def test_a_long_thought_leaves_what_was_said_where_its_own_tokens_can_go(policy: str) -> None:
    chat = make_chat(["Fine.", "Fine."], policy=policy, budget=192, max_tokens=2000)
    for fact in FACTS:
        chat.reply(fact)
    before = len(chat.session.ledger)
    assert isinstance(chat.engine, ToyEngine)
    chat.engine.script[:] = [259, *(b"Let me see what this is about. " * 27)[:819], 260, *b"It is Ada.", END]
    reply = chat.reply("What is my name?")
    assert (reply.n_thought, reply.text) == (821, "It is Ada.")
    assert len(role_rows(chat.session, "thought")) == 0
    kept = int((chat.session.ledger["turn"] < 3).sum())
    assert kept >= 0.6 * before  # 95 of 115 by chunks, 75 by whole turns; it was 4 to 51
    assert said(chat, "user").endswith("What is my name?")
    assert agrees(chat.session)


def test_a_thought_keeps_its_newest_part_while_it_runs() -> None:
    chat = make_chat(budget=192, max_tokens=2000)
    assert isinstance(chat.engine, ToyEngine)
    thought = np.arange(600) % 60 + 48
    chat.engine.script[:] = [259, *thought.tolist(), 260, END]
    turn = chat.turn("Hi")
    while turn.phase != "closing" and (piece := turn.next_slice()) is not None:
        turn.commit(chat.engine.decode([piece])[0])
        tokens = chat.session.ledger["token"][role_rows(chat.session, "thought")]
        n = min(len(tokens), 192 // 4)
        born = chat.session.ledger["born"][role_rows(chat.session, "thought")]
        assert n == 0 or born[-1] - born[-n] == n - 1
