"""What recall costs until the first token of a turn, where it finds nothing and where it finds something.

Two chats of one model hold the same long conversation in 1,024 cells, one with recall and one without, and take turns.
A hit is a turn whose message asks for what was evicted; in others nothing that was said matches the message.
"""

from collections.abc import Sequence

import numpy as np
from bench_chat import chat_text
from bench_rig import Setup, say
from bench_stats import Figure, bootstrap, paired

from edge_sir.chat import Chat
from edge_sir.engine import Slice
from edge_sir.options import Options
from edge_sir.runtime import Model, ensure_model

__all__ = ["KEYS", "recalling"]

KEYS = ("recall_first_token_ratio", "recall_hit_decode_steps")

_N_CELLS = 1024
_N_FILLER = 1600  # tokens said between the facts and after them
_N_STEPS = 3  # decode steps beside each turn
_FACTS = """
Ottilie|keeps her bees in Bergen|Where does Ottilie keep her bees?
Ragnar|sails a yellow dinghy out of Lisbon|Where does Ragnar sail that dinghy?
Ludmila|bakes rye pretzels for the Tromso ferry|Which ferry gets the pretzels of Ludmila?
Anselm|tunes church organs around Verona|Around which city does Anselm tune organs?
Brunhild|breeds spotted goats above Ghent|Where does Brunhild breed goats?
Casimir|drives tram number eleven through Cadiz|Which tram does Casimir drive?
Dragana|paints theatre curtains for Dresden|For which city does Dragana paint curtains?
Eberhard|grows giant pumpkins near Uppsala|Where does Eberhard grow pumpkins?
Fenella|translates chess manuals from Hungarian|From which language does Fenella translate manuals?
Gustavo|collects broken typewriters in Leiden|Where does Gustavo collect typewriters?
Hjalmar|teaches fencing every Tuesday|On which day does Hjalmar teach fencing?
Isolde|restores carousel animals in Malaga|Where does Isolde restore the carousel?
Jocasta|forecasts hail for the Narvik airfield|For which airfield does Jocasta forecast hail?
Kaspar|polishes telescope mirrors in Odessa|Where does Kaspar polish mirrors?
"""


def recalling(setup: Setup, n_rounds: int, keys: Sequence[str] = KEYS) -> list[Figure]:
    """Seconds until the first token with recall over those without, and what a hit costs in decode steps."""
    facts = [line.split("|") for line in _FACTS.strip().splitlines()]
    options = Options(
        model=setup.model, threads=setup.threads, budget=_N_CELLS, max_tokens=1, temperature=0, quiet=True
    )
    with Model(ensure_model(setup.model, quiet=True), options) as model:
        off, on = model.chat(recall="off"), model.chat(recall="cells")
        if not on.engine.spec.can_restore:
            return [Figure(key, None, note=on.engine.spec.why_restore) for key in keys]
        for chat in (off, on):
            say(f"a long conversation, {'without' if chat is off else 'with'} recall")
            _tell(chat, [f"My cousin {name} {does}" for name, does, _ in facts])
        rounds = []
        for i in range(n_rounds + 1):
            say(f"recall, round {i} of {n_rounds}")
            rounds.append(_one_round(setup, off, on, facts[i % len(facts)][2], first=i % 2))
        return _figures(np.array([r for r in rounds[1:] if r is not None]), on, keys)


def _tell(chat: Chat, facts: Sequence[str]) -> None:
    """The facts, and after them more than the cells hold."""
    filler = chat_text(chat, _N_FILLER).split(". ")
    n_each = len(filler) // (3 * len(facts))
    for i, fact in enumerate(facts):
        chat.add("user", ". ".join([fact, *filler[i * n_each :][:n_each]]) + ".")
    rest = filler[len(facts) * n_each :]
    for start in range(0, len(rest), 8):
        chat.add("user", ". ".join(rest[start : start + 8]) + ".")


def _one_round(setup: Setup, off: Chat, on: Chat, question: str, first: int) -> list[float] | None:
    """Seconds: nothing found, recall off and on; found, off and on; a decode step. Then tokens recalled.

    None where the fact was resident, so that nothing had to be recalled.
    """
    chats = (off, on) if first else (on, off)
    step = float(np.median([_step(setup, off) for _ in range(_N_STEPS)]))
    missed = {chat: _first_token(setup, chat, "Well then, hello to you!") for chat in chats}
    found = {chat: _first_token(setup, chat, question) for chat in chats}
    if missed[on][1]:
        raise RuntimeError("the message was meant to match nothing")
    if not found[on][1]:
        return None
    return [missed[off][0], missed[on][0], found[off][0], found[on][0], step, found[on][1]]


def _first_token(setup: Setup, chat: Chat, text: str) -> tuple[float, int]:
    """Seconds until the first piece of the reply, or its end; and how many tokens were recalled."""
    started = setup.clock()
    stream = chat.stream(text)
    next(stream, None)
    seconds = setup.clock() - started
    for _ in stream:
        pass
    return seconds, sum(r.n_tokens for r in stream.reply.recalled)


def _step(setup: Setup, chat: Chat) -> float:
    """Seconds of one decode step: of the last token once more, since the cells may be full."""
    session, engine = chat.session, chat.engine
    at = session.ledger.next_pos - 1
    piece = Slice(session.seq, session.ledger["token"][-1:].copy(), at, np.full(1, -1, np.int32), logits=True)
    engine.remove(session.seq, at, -1)
    started = setup.clock()
    engine.decode([piece])
    return setup.clock() - started


def _figures(rounds: np.ndarray, on: Chat, keys: Sequence[str]) -> list[Figure]:
    missed_off, missed_on, found_off, found_on, step, n_tokens = rounds.T
    steps = (found_on - found_off) / step
    low, high = bootstrap(len(steps), lambda i: float(np.median(steps[i])))
    detail = {
        "tokens_recalled": float(np.median(n_tokens)),
        "recall_off_ms": 1e3 * float(np.median(found_off)),
        "recall_on_ms": 1e3 * float(np.median(found_on)),
        "decode_step_ms": 1e3 * float(np.median(step)),
        "turns": on.session.turn,
    }
    return [
        paired(keys[0], missed_on, missed_off, detail={"recall_off_ms": 1e3 * float(np.median(missed_off))}),
        Figure(keys[1], float(np.median(steps)), low, high, f"95 % of {len(steps)} pairs", detail=detail),
    ]
