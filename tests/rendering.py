"""Conversations on the toy, message by message, beside what a chat template renders of the whole."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edge_sir.chat import Chat
from edge_sir.engine import SamplingParams
from edge_sir.policies import from_spec
from edge_sir.testing import ByteTokenizer, ToyEngine
from edge_sir.text.encoder import MessageEncoder
from edge_sir.text.template import ChatTemplate
from edge_sir.text.thoughts import MARKER

BOS, EOS = "<BOS>", "<EOS>"
SAID = ("Hi there.", "How are you?\n\nTell me.", "And now: [INST] é?")
ANSWERS = ("Hello!", "Fine, and you?\nWell?", "Good.")
SYSTEM = "Be brief."


class MarkerTokenizer(ByteTokenizer):
    """A byte is a token, and so is each of the markers that a template writes."""

    def __init__(self, template: ChatTemplate) -> None:
        roles = [template.markers(r) for r in ("user", "assistant")] + [template.markers("system", first=True)]
        thoughts = template.thoughts
        texts = [template.preamble, template.generation, template.after_reply]
        texts += [text for marker in roles for text in (marker.open, marker.close)]
        texts += [thoughts.open, thoughts.close] if thoughts is not None else []
        found = [mark for text in texts for mark in MARKER.findall(text)]
        self.SPECIALS = tuple(dict.fromkeys([BOS, EOS, *found]))  # type: ignore[misc]
        self.n_vocab = 256 + len(self.SPECIALS)
        self.bos_text, self.eos_text = BOS, EOS
        self.bos = 256 if template.preamble.startswith(BOS) else -1

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b""

    def is_end(self, token: int) -> bool:
        return token == 256 + self.SPECIALS.index(EOS)

    def spelled(self, tokens: Sequence[int]) -> str:
        """All of the tokens, control tokens too."""
        parts = (self.SPECIALS[t - 256].encode() if t >= 256 else bytes([t]) for t in tokens)
        return b"".join(parts).decode("utf-8", "replace")


@dataclass(frozen=True)
class Routes:
    """The same conversation by two routes, up to a reply's opening: in the cache, and as the template renders it."""

    case: str
    cached: str
    rendered: str


def replies_of(template: ChatTemplate) -> dict[str, str]:
    """What a model may write before an answer, in the template's own dialect."""
    codec = MarkerTokenizer(template)
    form = MessageEncoder(codec, template, None).reply_form
    opening = "" if form.thinking else form.tags.open
    kinds = {"a thought": f"{opening}\nHm, so.\n{form.tags.close}\n\n"}
    if not form.thinking:
        kinds["no thought"] = ""
        kinds["what history has"] = form.lead
    return kinds


def routes(template: ChatTemplate, *, system: bool, n: int = 3) -> Iterator[Routes]:
    """`n` turns for each way to begin a reply, compared before each reply is written."""
    codec = MarkerTokenizer(template)
    end = codec.encode(EOS, special=True).tolist()
    for kind, before in replies_of(template).items():
        engine = ToyEngine(1 << 15, n_batch=512, n_vocab=codec.n_vocab, n_ctx_train=1 << 16)
        prompt = SYSTEM if system else None
        chat = Chat(engine, codec, template, from_spec("keep-all"), 1 << 15, sampling=SamplingParams(0), system=prompt)
        messages = [{"role": "system", "content": SYSTEM}] if system else []
        for i in range(n):
            messages.append({"role": "user", "content": SAID[i]})
            engine.script[:] = [*codec.encode(before + ANSWERS[i], special=True).tolist(), *end]
            turn = chat.turn(SAID[i])
            while turn.phase == "reading" and (piece := turn.next_slice()) is not None:
                [result] = engine.decode([piece])
                if chat.session.n_pending == len(piece.tokens):
                    cached = codec.spelled([*chat.session.ledger["token"].tolist(), *piece.tokens.tolist()])
                    rendered = template.render(messages, generate=True).rstrip(" ")
                    yield Routes(f"turn {i + 1}, {kind}, {'a' if system else 'no'} system prompt", cached, rendered)
                turn.commit(result)
            while (piece := turn.next_slice()) is not None:
                turn.commit(engine.decode([piece])[0])
            assert turn.reply.text == ANSWERS[i], (kind, turn.reply)
            assert ("Hm, so." in turn.reply.thought) == (kind == "a thought"), (kind, turn.reply)
            messages.append({"role": "assistant", "content": ANSWERS[i]})
        chat.close()


def passage(routes: Routes) -> str:
    """Where the two part, in a few words."""
    n = next(
        (i for i, (a, b) in enumerate(zip(routes.cached, routes.rendered, strict=False)) if a != b),
        min(len(routes.cached), len(routes.rendered)),
    )
    own, other = (re.sub(r"\s+", " ", repr(t[max(0, n - 20) : n + 40])) for t in (routes.cached, routes.rendered))
    return f"{routes.case}: {other} in the template's rendering, {own} here"
