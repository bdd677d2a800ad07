"""What recall's index finds on the evaluation's dialogues: no token is decoded, a model's tokenizer counts.

Everything said before a question counts as evicted, and what would come back within a number of tokens is read off. A
fact is found if the words that carry it are in that. The two groups of questions: those that share a content word with
their fact, as the index takes words, and those that share none. Chatter is every message that no fact is in: what it
recalls displaces cells for nothing.
"""

import argparse
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import edge_sir
from edge_sir.engine import TextCodec
from edge_sir.eval.chatter import Language, chatter
from edge_sir.eval.task import Ask, Dialogue, Say, Setup, Step, names, task
from edge_sir.eval.tasks._fact import FactTask
from edge_sir.memory.transcript import Message
from edge_sir.recall.choose import Sentence, chosen
from edge_sir.recall.dense import MiniLm, SentenceEncoder
from edge_sir.recall.index import TurnIndex
from edge_sir.recall.terms import terms
from edge_sir.text.boundaries import contains, sentences

ROOMS = (64, 110, 128, 256)
"""Tokens that may be recalled."""
_DIALOGUES = 20  # everyday ones
_LEFT_OUT = ("long", "far", "forgetting", "file")  # the longest, and what needs a file
_LATEST = 20  # messages of chatter that are tried in a dialogue that chatter was added to


@dataclass
class Found:
    """Of the questions of one group: the share of facts in what came back, by room."""

    shares: list[tuple[float, ...]] = field(default_factory=list)

    def row(self, name: str) -> str:
        """A line of the table."""
        means = (sum(column) / len(self.shares) for column in zip(*self.shares, strict=True))
        return f"| {name} | {len(self.shares)} | {' | '.join(f'{mean:.2f}' for mean in means)} |"


class Remembered:
    """An encoder that encodes each text once."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self.encode = lru_cache(None)(encoder.encode)


class Counted:
    """Sentences with their tokens, each text once."""

    def __init__(self, codec: TextCodec, encoder: SentenceEncoder | None = None) -> None:
        self.codec = codec
        self.encoder = encoder
        self.n_tokens = lru_cache(None)(lambda text: len(codec.encode(text, special=False)))
        self.sentences = lru_cache(None)(lambda text: [(s, self.n_tokens(s)) for s in sentences(codec, text)])

    def recalled(self, index: TurnIndex, said: Mapping[int, list[Message]], text: str, room: int) -> dict[int, str]:
        """What comes back for `text`, by turn."""
        found: dict[int, str] = {}
        for match in index.search(text):
            parts = [(m.role, *part) for m in said[match.turn] for part in self.sentences(m.text)]
            given = [
                Sentence(n, index.n_shared(part, match.held), role == "user", born)
                for born, (role, part, n) in enumerate(parts)
            ]
            if room >= 4 and (picked := chosen(given, room, by_meaning=not match.held)):
                found[match.turn] = " ".join(parts[i][1] for i, _ in sorted(picked))
                room -= sum(n for _, n in picked)
        return found


@dataclass
class Results:
    """facts: by task and whether a word is shared. chatter: tokens that each message recalled, by where it stood."""

    facts: dict[tuple[str, bool], Found] = field(default_factory=lambda: defaultdict(Found))
    chatter: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))


def measure(counted: Counted, results: Results, name: str, dialogue: Dialogue, far: int) -> None:
    """One dialogue. far: exchanges of chatter that were added; 0 for none."""
    index = TurnIndex(encoder=counted.encoder)
    said: dict[int, list[Message]] = {}
    facts: dict[str, dict[tuple[str, ...], list[int]]] = defaultdict(lambda: defaultdict(list))
    n_talk = sum(not isinstance(step, Ask) for step in dialogue.steps)
    for turn, step in enumerate(dialogue.steps, 1):
        if not isinstance(step, Say | Ask):
            continue
        is_late = not far or turn > n_talk - _LATEST
        if isinstance(step, Ask) or (not step.fact and is_late):
            index.sync(message for messages in said.values() for message in messages)
        if isinstance(step, Ask) and step.fact:
            _question(counted, results, name, index, said, step, facts[step.fact])
        elif not step.fact and is_late:
            back = counted.recalled(index, said, step.user, ROOMS[1])
            where = f"after {far} exchanges more" if far else "in the dialogues"
            kind = f"questions without a fact ({name})" if isinstance(step, Ask) else "chatter"
            results.chatter[f"{kind} {where}"].append(sum(map(counted.n_tokens, back.values())))
        if isinstance(step, Say) and step.fact:
            facts[step.fact][step.gold].append(turn)
        reply = step.assistant if isinstance(step, Say) else f"{step.stem}{step.options[step.gold]}{step.close}"
        if isinstance(step, Say) or step.reply != "none":
            said[turn] = [Message(turn, "user", step.user), Message(turn, "assistant", reply)]
    index.close()


def talk(counted: Counted, results: Results, data: Path | None) -> None:
    """Everyday dialogues one after the other, in one conversation: nothing in them is about an earlier one."""
    index = TurnIndex(encoder=counted.encoder)
    setup = Setup(counted.n_tokens, data=data)
    said: dict[int, list[Message]] = {}
    for dialogue in task("dailydialog").dialogues(setup, _DIALOGUES, 0):
        for step in dialogue.steps:
            assert isinstance(step, Ask)
            index.sync(message for messages in said.values() for message in messages)
            back = counted.recalled(index, said, step.user, ROOMS[1])
            whose = "the paper's" if data else "our"
            results.chatter[f"{whose} everyday dialogues"].append(sum(map(counted.n_tokens, back.values())))
            turn = len(said) + 1
            said[turn] = [Message(turn, "user", step.user), Message(turn, "assistant", step.options[step.gold])]
    index.close()


def _question(
    counted: Counted,
    results: Results,
    name: str,
    index: TurnIndex,
    said: Mapping[int, list[Message]],
    ask: Ask,
    facts: Mapping[tuple[str, ...], list[int]],
) -> None:
    told = {term for turns in facts.values() for turn in turns for term in terms(said[turn][0].text)}
    is_shared = index.n_shared(ask.user, frozenset(index.stems(told))) > 0
    shares = []
    for room in ROOMS:
        back = counted.recalled(index, said, ask.user, room)
        hits = [any(all(contains(back.get(t, ""), g) for g in gold) for t in turns) for gold, turns in facts.items()]
        shares.append(sum(hits) / len(hits))
    results.facts[name, is_shared].shares.append(tuple(shares))


def with_chatter(dialogue: Dialogue, n: int, seed: str, language: Language) -> Dialogue:
    """The dialogue with `n` exchanges of chatter right before its first question about a fact."""
    r = random.Random(f"{seed}/{dialogue.id}/far")
    avoid = [option for step in dialogue.steps if isinstance(step, Ask) for option in step.options]
    more: list[Step] = []
    while len(more) < n:
        more += chatter(r, min(50, n - len(more)), avoid=avoid, language=language)
    at = next(i for i, step in enumerate(dialogue.steps) if isinstance(step, Ask) and step.fact)
    return Dialogue(dialogue.id, (*dialogue.steps[:at], *more, *dialogue.steps[at:]), dialogue.system)


def dialogues(name: str, setup: Setup, n: int) -> Iterator[Dialogue]:
    """Those of a task that ask for a fact."""
    for dialogue in task(name).dialogues(setup, n, 0):
        if any(isinstance(step, Ask) and step.fact for step in dialogue.steps):
            yield dialogue


def tables(results: Results) -> Iterator[str]:
    """Facts by task and group, then chatter."""
    yield f"| task, words in common | n | {' | '.join(f'{room} tokens' for room in ROOMS)} |"
    yield f"|---|---|{'---|' * len(ROOMS)}"
    for (name, is_shared), found in sorted(results.facts.items()):
        yield found.row(f"{name}, {'one or more' if is_shared else 'none'}")
    for is_shared in (True, False):
        of_all = [share for (_, group), found in results.facts.items() if group == is_shared for share in found.shares]
        if of_all:
            yield Found(of_all).row(f"**all, {'one or more' if is_shared else 'none'}**")
    yield ""
    yield f"| messages | n | recalls something | tokens when it does, of {ROOMS[1]} |"
    yield "|---|---|---|---|"
    for where, tokens in sorted(results.chatter.items()):
        some = [n for n in tokens if n]
        mean = sum(some) / len(some) if some else 0
        yield f"| {where} | {len(tokens)} | {len(some) / len(tokens):.3f} | {mean:.0f} |"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What recall's index finds on the evaluation's dialogues.")
    parser.add_argument("--model", default="smollm2-135m-instruct", help="whose tokenizer counts")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--n", type=int, default=20, help="dialogues of a task and seed")
    parser.add_argument("--tasks", nargs="+", default=[name for name in names() if name not in _LEFT_OUT])
    parser.add_argument("--far", type=int, nargs="+", default=[0], help="exchanges of chatter before the question")
    parser.add_argument(
        "--index", choices=["terms", "dense"], default="terms", help="dense needs the extra recall-dense"
    )
    parser.add_argument("--data", type=Path, help="the paper's files, for grocery")
    args = parser.parse_args(argv)
    results = Results()
    with edge_sir.load(args.model, quiet=True) as model:
        counted = Counted(model.codec, Remembered(MiniLm()) if args.index == "dense" else None)
        for far, name, seed in _runs(args.far, args.tasks, args.seeds):
            kind = task(name)
            language = kind.language if isinstance(kind, FactTask) else "en"
            setup = Setup(counted.n_tokens, seed, None, args.data if name == "grocery" else None, kind.n_tokens)
            for dialogue in dialogues(name, setup, args.n):
                longer = with_chatter(dialogue, far, str(seed), language) if far else dialogue
                measure(counted, results, f"{name}{f' +{far}' if far else ''}", longer, far)
        talk(counted, results, None)
        if args.data:
            talk(counted, results, args.data)
    print("\n".join(tables(results)))


def _runs(fars: Iterable[int], tasks: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[int, str, int]]:
    yield from ((far, name, seed) for far in fars for name in tasks for seed in seeds)


if __name__ == "__main__":
    main()
