"""Does it remember? Dialogues in which one turn names a grocery, measured at a fixed number of cells.

One user turn, at a random place from turn 4 on, names a grocery; about 1,200 tokens of unlike turns stand
around it; then the reply "You want me to buy the GROCERY: [" is begun, and the right word and three wrong
ones are ranked by the log-probability of their tokens and the closing bracket. All text is made here, from
a seed. The ranking's scratch cells are outside the budget. A first look: the evaluation proper comes later.

    .venv/bin/python scripts/grocery.py --n 24 --budget 256 --policy sir --policy sirllm
"""

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge_sir import models
from edge_sir.chat import Chat
from edge_sir.engine import Slice
from edge_sir.llama.engine import EngineOptions, LlamaEngine
from edge_sir.llama.native import NativeModel
from edge_sir.policies import from_spec
from edge_sir.template import ChatTemplate

GROCERIES = (
    "milk,apples,peanut butter,rice,tea,cheese,olive oil,bananas,oat flakes,tomatoes,yogurt,honey,black beans,spinach,"
    "coffee,butter,lemons,garlic,pasta,carrots,salmon,walnuts,maple syrup,cucumber,brown sugar,mushrooms,tofu,mustard"
).split(",")
NAMES = "Ada,Bruno,Chika,Dmitri,Elena,Farid,Greta,Hiro,Ines,Jonas,Katya,Liam,Mona,Nikhil".split(",")
CITIES = "Utrecht,Lagos,Porto,Osaka,Quito,Tampere,Cork,Graz,Leeds,Kigali,Hanoi,Bergen".split(",")
TOPICS = "tides,volcanoes,beavers,glass,maps,clocks,bread,bridges,comets,moss,violins,lighthouses".split(",")

STEM = "You want me to buy the GROCERY: ["
SYSTEM = "You are a helpful assistant with a good memory."


def _question(r: random.Random) -> tuple[str, str]:
    topic = r.choice(TOPICS)
    return r.choice(
        [
            (f"What is the most surprising thing about {topic}?", f"Many people are surprised how old {topic} are."),
            (f"Why do people in {r.choice(CITIES)} care so much about {topic}?", "It has to do with local history."),
            (
                f"Could you explain {topic} to a child in two sentences?",
                f"Think of {topic} as a puzzle. We look at it.",
            ),
            ("How far away is the Moon?", "On average about 384,000 kilometres from the Earth."),
            ("Who wrote Pride and Prejudice?", "Jane Austen wrote it; it was published in 1813."),
            ("What makes the sky blue?", "Air scatters short blue waves of sunlight more than long red ones."),
        ]
    )


def _small_talk(r: random.Random) -> tuple[str, str]:
    name, city = r.choice(NAMES), r.choice(CITIES)
    return r.choice(
        [
            (f"I just came back from {city}, it rained all week.", "Oh no! I hope you had a good umbrella with you."),
            (f"My neighbour {name} plays the trumpet at midnight.", "That sounds tiring. Have you talked about it?"),
            ("I slept badly and I am a bit grumpy today.", "I am sorry to hear that. Maybe a short walk would help."),
            (f"{name} said hello, by the way.", f"How kind! Please give {name} my best wishes."),
            ("Do you ever get bored?", "I do not get bored, but I am always glad when somebody writes to me."),
        ]
    )


def _listing(r: random.Random) -> tuple[str, str]:
    a, b, c, d = r.sample(CITIES, 4)
    x, y, z = r.sample(NAMES, 3)
    return r.choice(
        [
            ("Name four cities for a long trip.", f"1. {a}\n2. {b}\n3. {c}\n4. {d}"),
            ("Who is on the list for Friday?", f"- {x}\n- {y}\n- {z}\nThat makes three people."),
            (
                "Give me three ways to relax.",
                "- Read a novel in the garden.\n- Take a warm bath.\n- Call an old friend.",
            ),
        ]
    )


def _numbers(r: random.Random) -> tuple[str, str]:
    a, b = r.randint(11, 99), r.randint(11, 99)
    return r.choice(
        [
            (f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."),
            (f"My meter reads {r.randint(10000, 99999)} today.", "Thank you, I have noted the reading."),
            (f"Convert {a} kilometres to miles.", f"{a} kilometres are about {a * 0.6214:.1f} miles."),
            (f"The train leaves at {r.randint(6, 22)}:{r.randint(10, 59)}.", "Then you should leave in good time."),
        ]
    )


def _code(r: random.Random) -> tuple[str, str]:
    n = r.randint(2, 9)
    return r.choice(
        [
            (
                f"for i in range({n}):\n    print(i ** 2)\nWhat does this print?",
                f"The squares from 0 to {(n - 1) ** 2}.",
            ),
            ("How do I reverse a list in Python?", "Use `items[::-1]` or call `items.reverse()` to do it in place."),
            ("git says I am in a detached HEAD state?", "You checked out a commit. Run `git switch main` to go back."),
        ]
    )


def _paste(r: random.Random) -> tuple[str, str]:
    name, city = r.choice(NAMES), r.choice(CITIES)
    return (
        f"Please read this: The council of {city} met on Tuesday to discuss the old tram depot. {name} proposed to "
        f"turn it into a library with {r.randint(2, 9)} reading rooms, while others wanted a swimming pool. After "
        f"{r.randint(2, 6)} hours the vote was postponed until the engineers have looked at the roof.",
        f"I have read it. The council of {city} postponed the vote on the old tram depot.",
    )


KINDS = (_question, _small_talk, _listing, _numbers, _code, _paste)


def dialogue(seed: int, codec_len, n_tokens: int = 1200) -> tuple[list[tuple[str, str]], str, list[str]]:
    """(user, assistant) turns, the grocery, and the four options. `codec_len` counts a text's tokens."""
    r = random.Random(seed)
    options = r.sample(GROCERIES, 4)
    gold = options[r.randrange(4)]
    turns: list[tuple[str, str]] = []
    length = 0
    while length < n_tokens:
        turn = r.choice(KINDS)(r)
        if turn in turns[-8:]:
            continue
        turns.append(turn)
        length += codec_len(turn[0]) + codec_len(turn[1]) + 12
    fact = r.choice(
        [f"I want you to buy the GROCERY: [{gold}].", f"Please remember to buy the GROCERY: [{gold}] for me."]
    )
    turns.insert(r.randint(3, len(turns) - 1), (fact, "OK."))
    return turns, gold, options


def option_logprobs(chat: Chat, options: list[str], scratch: int) -> list[float]:
    """log P(option and closing bracket | what is in the cache), in nats, each on a copy of the sequence."""
    session, engine = chat.session, chat.engine
    first = session._carry.logits.astype(np.float64)
    first -= first.max() + math.log(np.exp(first - first.max()).sum())
    values = []
    for option in options:
        tokens = chat.codec.encode(option + "]", special=False)
        engine.copy(session.seq, scratch)
        targets = np.append(tokens[1:], -1).astype(np.int32)
        piece = Slice(scratch, tokens, session.ledger.next_pos, targets, frozenset({"surprisal"}), False)
        rest = engine.decode([piece])[0].scores["surprisal"][:-1]
        values.append(float(first[tokens[0]] - rest.sum()))
        engine.remove(scratch, 0, -1)
    return values


def run_one(model: NativeModel, template: ChatTemplate, spec: str, budget: int, seed: int, threads: int) -> dict:
    policy = from_spec(spec)
    n_cells = budget if policy.evicts else 2048
    engine = LlamaEngine(model, n_cells + 64, EngineOptions(threads=threads, n_seq_max=2), owns_model=False)
    try:
        started = time.perf_counter()
        codec = engine.text
        turns, gold, options = dialogue(seed, lambda text: len(codec.encode(text, special=False)))
        chat = Chat(engine, codec, template, policy, n_cells, system=SYSTEM)
        for user, assistant in turns:
            # As one piece, so that a policy that makes room once per turn knows all that comes.
            chat.session.begin_turn()
            chat._feed(chat._encode("user", user))
            chat._spoken = True
            chat._feed(chat._encode("assistant", assistant))
            chat._drain()
        chat.session.begin_turn()
        chat._feed(chat._encode("user", "Which grocery do you have to buy?"))
        chat._open_reply()
        chat.session.feed(codec.encode(STEM, special=False), "assistant")
        chat._drain()
        logprobs = option_logprobs(chat, options, 1)
        at = options.index(gold)
        held = codec.encode(gold, special=False)
        resident = np.isin(held, chat.session.ledger["token"]).mean()
        return {
            "policy": spec,
            "budget": budget if policy.evicts else 0,
            "seed": seed,
            "gold_logprob": logprobs[at],
            "correct": int(np.argmax(logprobs)) == at,
            "resident": float(resident),
            "tokens": chat.session.stats.tokens_in,
            "max_resident": chat.session.stats.max_resident,
            "seconds": time.perf_counter() - started,
        }
    finally:
        engine.close()


def wilson(k: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share."""
    p, d = k / n, 1 + z * z / n
    mid, half = (p + z * z / (2 * n)) / d, z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / d
    return mid - half, mid + half


def table(rows: list[dict]) -> Iterator[str]:
    yield "| policy | cells | n | recall (95 % CI) | gold log-probability (95 % CI) | tokens |"
    yield "|---|---|---|---|---|---|"
    for key in dict.fromkeys((r["policy"], r["budget"]) for r in rows):
        group = [r for r in rows if (r["policy"], r["budget"]) == key]
        k, n = sum(r["correct"] for r in group), len(group)
        lo, hi = wilson(k, n)
        logprobs = np.array([r["gold_logprob"] for r in group])
        draws = np.random.default_rng(0).choice(logprobs, (4000, n)).mean(axis=1)
        low, high = np.percentile(draws, [2.5, 97.5])
        tokens = np.mean([r["tokens"] for r in group])
        yield (
            f"| {key[0]} | {key[1] or 'all'} | {n} | {k / n:.2f} ({lo:.2f} to {hi:.2f}) "
            f"| {logprobs.mean():.2f} ({low:.2f} to {high:.2f}) | {tokens:.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", action="append", required=True)
    parser.add_argument("--budget", action="append", type=int, required=True)
    parser.add_argument("--n", type=int, default=24)
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", help="file that gets one JSON row per dialogue")
    args = parser.parse_args()
    model = NativeModel(models.resolve("smollm2-135m-instruct").path)
    template = ChatTemplate(model.header.chat_template, bos="<|im_start|>", eos="<|im_end|>")
    rows = []
    for spec in args.policy:
        for budget in args.budget if from_spec(spec).evicts else args.budget[:1]:
            for seed in range(args.offset, args.offset + args.n):
                rows.append(run_one(model, template, spec, budget, seed, args.threads))
                if args.out:
                    with Path(args.out).open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
            print(list(table(rows))[-1], file=sys.stderr, flush=True)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
