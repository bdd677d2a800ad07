"""What a reply can be asked for: a grammar, a JSON schema, biases, log-probabilities."""

import json
from typing import Any

import numpy as np
import pytest
from chatting import CODEC, END, make_chat, said, script, transcript
from driving import agrees
from rendering import BOS, EOS, MarkerTokenizer
from templates import KINDS

from edge_sir.chat import Chat
from edge_sir.chat.turn import drive
from edge_sir.engine import SamplingParams
from edge_sir.errors import ConfigError
from edge_sir.policies import from_spec
from edge_sir.testing import ToyEngine
from edge_sir.text.template import ChatTemplate

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
}
YES = 'root ::= "yes" | "no"'


# ---- grammars ------------------------------------------------------------------------------------


def test_a_reply_fits_its_grammar_and_ends_where_that_does() -> None:
    chat = make_chat()
    for _ in range(5):
        reply = chat.reply("Is it?", grammar=YES)
        assert reply.text in ("yes", "no")
        assert (reply.finish, reply.n_generated) == ("stop", len(reply.text))
    agrees(chat.session)
    assert transcript(chat).count(f"assistant\n{reply.text}<|im_end|>\n") >= 1


def test_no_end_is_drawn_before_the_grammar_allows_one() -> None:
    chat = make_chat()
    reply = chat.reply("Count.", grammar='root ::= "1"{7} "2"?', sampling=SamplingParams(logit_bias={END: 1000.0}))
    assert (reply.text, reply.finish) == ("1" * 7, "stop")


@pytest.mark.parametrize("seed", range(5))
def test_replies_fit_a_json_schema(seed: int) -> None:
    chat = make_chat()
    sampling = SamplingParams(seed=seed, temperature=1.0)
    found = json.loads(chat.reply("Who?", json_schema=PERSON, sampling=sampling, max_tokens=400).text)
    assert list(found) == ["name", "age"]
    assert len(found["name"]) <= 5 and 0 <= found["age"] <= 99
    again = json.loads(chat.reply("Who?", json_schema=json.dumps(PERSON), sampling=sampling, max_tokens=400).text)
    assert list(again) == ["name", "age"]


def test_a_script_passes_over_what_does_not_fit() -> None:
    chat = make_chat(['Sure! {"name": "Ada", "age": 36} Done.'])
    assert chat.reply("Who?", json_schema=PERSON).text == '{"name": "Ada", "age": 36}'


def test_a_reply_that_is_cut_fits_as_far_as_it_comes() -> None:
    chat = make_chat()
    reply = chat.reply("Count.", grammar='root ::= "1"{50}', max_tokens=8)
    assert (reply.text, reply.finish) == ("1" * 8, "length")
    assert chat.reply("And?", grammar=YES).text in ("yes", "no")


def test_a_stop_string_ends_it_too() -> None:
    chat = make_chat()
    reply = chat.reply("Count.", grammar='root ::= "1"{3} "stop" "2"', stop=["stop"])
    assert (reply.text, reply.finish) == ("111", "stop")
    agrees(chat.session)


def test_eviction_and_recall_go_on_meanwhile() -> None:
    chat = make_chat(budget=120, recall="cells")
    for i in range(6):
        reply = chat.reply(f"My key number {i} is {i}{i}{i}.", grammar='root ::= "k"{10}')
        assert reply.text == "k" * 10
    assert chat.stats().evicted > 0
    assert chat.reply("What is my key number 1?", grammar=YES).text in ("yes", "no")
    agrees(chat.session)


def test_the_next_reply_is_free_again() -> None:
    chat = make_chat()
    chat.reply("Is it?", grammar=YES)
    chat.engine.script[:] = script("Free.")
    assert chat.reply("And?").text == "Free."


def test_an_end_of_the_template_ends_it_whatever_the_vocabulary_says() -> None:
    template = ChatTemplate(KINDS["the same in history"], bos=BOS, eos=EOS)
    codec = MarkerTokenizer(template)
    end = int(codec.encode("<|end|>", special=True)[0])
    engine = ToyEngine(512, n_vocab=256 + len(codec.SPECIALS))
    engine.script[:] = [end, *b"yes", end]
    chat = Chat(engine, codec, template, from_spec("sir"), 512, sampling=SamplingParams(0))
    reply = chat.reply("Is it?", grammar='root ::= "yes" " no"?')
    assert (reply.text, reply.finish, engine.script) == ("yes", "stop", [])


def test_a_thought_is_free_and_the_answer_is_not() -> None:
    template = ChatTemplate(KINDS["a thought is opened"], bos=BOS, eos=EOS)
    codec = MarkerTokenizer(template)
    engine = ToyEngine(512, n_vocab=256 + len(codec.SPECIALS))
    engine.script[:] = codec.encode("Well, no doubt.</think>Oh yes<|end|>", special=True).tolist()
    chat = Chat(engine, codec, template, from_spec("sir"), 512, sampling=SamplingParams(0))
    reply = chat.reply("Is it?", grammar=YES, top_logprobs=0)
    assert (reply.thought, reply.text, reply.finish) == ("Well, no doubt.", "yes", "stop")
    assert b"".join(drawn.text for drawn in reply.drawn) == b"yes"


def test_a_sampler_with_a_grammar_goes_on_in_another_engine() -> None:
    """As a session does that is carried over in the middle of a reply."""
    chat = make_chat()
    turn = chat.turn("Count.", grammar='root ::= ("ab" | "cd"){10}')
    pieces = drive(turn, chat.engine)
    for _ in range(7):
        next(pieces)
    begun = chat.session._sampler
    assert begun is not None
    state = json.loads(json.dumps(begun.state()))
    sampler = ToyEngine(64).sampler(SamplingParams(**state["params"]), state["drawn"])
    text = bytes(state["drawn"])
    logits = np.zeros(CODEC.n_vocab, np.float32)
    while len(text) < 20:
        text += bytes([sampler.sample(logits)])
    assert all(text[i : i + 2] in (b"ab", b"cd") for i in range(0, 20, 2))
    assert sampler.sample(logits) == END


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"grammar": "root ::= root"}, "begin with itself"),
        ({"grammar": "\0"}, "the grammar is wrong"),
        ({"grammar": 5}, "a grammar is text"),
        ({"json_schema": "{"}, "no JSON"),
        ({"json_schema": {"type": "x"}}, "one of object"),
        ({"json_schema": {"a": object()}}, "no JSON"),
        ({"grammar": YES, "json_schema": PERSON}, "ask for one"),
        ({"logit_bias": {5000: 1.0}}, "the last of this model is 260"),
        ({"logit_bias": {-1: 1.0}}, "not negative"),
        ({"logit_bias": {"x": 1.0}}, "a number each"),
        ({"logit_bias": {1: float("nan")}}, "at most 1000"),
        ({"top_logprobs": 1000}, "up to 100"),
        ({"tool_choice": "required"}, "there are no tools"),
        ({"tool_choice": "perhaps"}, "none, auto or required"),
        ({"best_of": 2}, "'best_of'"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_is_read(more: dict[str, Any], says: str) -> None:
    chat = make_chat(["Fine."])
    n = len(chat.session.ledger)
    with pytest.raises(ConfigError, match=says):
        chat.reply("Hi", **more)
    assert (len(chat.session.ledger), chat.session.turn, chat.awaits) == (n, 0, False)
    assert chat.reply("Hi").text == "Fine."


def test_a_grammar_that_leads_nowhere_ends_its_reply_and_not_the_chat() -> None:
    chat = make_chat()
    with pytest.raises(ConfigError, match="allows nothing"):
        chat.reply("Hi", grammar='root ::= "a" [\\U0010FFFF]'.replace("[\\U0010FFFF]", "[]"))
    chat.engine.script[:] = script("Fine.")
    assert chat.reply("And?").text == "Fine."
    agrees(chat.session)


def test_regenerate_takes_them_too() -> None:
    chat = make_chat(["Perhaps."])
    chat.reply("Is it?")
    stream = chat.regenerate(grammar=YES)
    assert "".join(piece.text for piece in stream) in ("yes", "no")


# ---- biases and log-probabilities ----------------------------------------------------------------


def test_biases_are_added_to_logits() -> None:
    chat = make_chat()
    reply = chat.reply("Hi", logit_bias={ord("z"): 900.0}, sampling=SamplingParams(temperature=0), max_tokens=5)
    assert reply.text == "z" * 5


def test_log_probabilities_are_those_of_the_models_logits() -> None:
    chat, rows = make_chat(), []
    turn = chat.turn("Hi", top_logprobs=3, max_tokens=6, logit_bias={ord("z"): 900.0})
    while (piece := turn.next_slice()) is not None:
        result = chat.engine.decode([piece])[0]
        assert result.logits is not None
        rows.append(result.logits.astype(np.float64))
        turn.commit(result)
    reply = turn.reply
    assert [drawn.text for drawn in reply.drawn] == [b"z"] * 6
    for drawn, logits in zip(reply.drawn, rows[-8:-2], strict=True):
        expected = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
        assert drawn.logprob == pytest.approx(expected[ord("z")], abs=1e-5)
        best = np.argsort(-expected)[:3]
        assert [text for text, _ in drawn.likeliest] == [CODEC.piece(int(token)) for token in best]
        assert [p for _, p in drawn.likeliest] == pytest.approx(expected[best], abs=1e-5)


def test_they_are_of_the_answer_as_it_stays() -> None:
    chat = make_chat(["One two STOP three"])
    reply = chat.reply("Hi", stop=["STOP"], top_logprobs=0)
    assert b"".join(drawn.text for drawn in reply.drawn) == b"One two "
    assert reply.drawn[0].likeliest == ()
    chat.engine.script[:] = script("<think>Hm.</think>Yes")
    reply = chat.reply("Hi", top_logprobs=1)
    assert b"".join(drawn.text for drawn in reply.drawn) == b"Yes"
    assert said(chat, "thought") == ""


def test_without_being_asked_for_there_are_none() -> None:
    assert make_chat(["One"]).reply("Hi").drawn == ()
