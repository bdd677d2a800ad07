"""Makes standing.md and report.md of docs/results from the rows that are there, and plays nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from grouped import (
    Arms,
    Column,
    answered,
    kilobytes_outside,
    margin,
    megabytes_outside,
    number_of,
    perplexity_over_streaming,
    questions,
    read_again,
    right,
    right_and_gap,
)
from pieces import ROOT, TWELVE, TWELVE_TASKS, Piece, note_groups

from edge_sir.eval.play.controls import arm_keys
from edge_sir.eval.report import markdown as md
from edge_sir.eval.report.comparisons import KEEP_ALL, compare
from edge_sir.eval.report.folder import Loaded, load_all, write_reports
from edge_sir.eval.report.runs import Run, find
from edge_sir.eval.report.standing import (
    Aim,
    Measured,
    accuracy,
    aims_table,
    compared,
    perplexity_aim,
    retained,
    rival_tables,
)
from edge_sir.eval.store import pack_rows

RESULTS = ROOT / "docs" / "results"

OURS = "sir:recall=cells"
"""What a chat does."""
WORDS = "sir:recent=0"
ABLATION = {
    KEEP_ALL: "everything in the cache",
    "streaming": "window",
    "streaming:recall=text": "window, recall as text",
    "streaming:recall=cells": "window, recall as cells",
    "streaming:recall=oracle": "window, the right turn recalled",
    WORDS: "words",
    f"{WORDS},recall=cells": "words, recall as cells",
    "sir": "window, words",
    "sir:recall=text": "window, words, recall as text",
    OURS: "**window, words, recall as cells**",
    "sir:recall=oracle": "window, words, the right turn recalled",
}
"""By arm what it has. Bare policies have no recall."""
WIDER = ("sir:recent=0.25", "sir:recent=0.25,recall=cells")
"""With a quarter of the cells for the window, the other end of the choice."""
CONTROLS = {
    "random": "as many tokens, drawn at random",
    "sir:reply_weight=1": "window, words, replies as heavy as what the user says",
}
"""What the words themselves are compared with."""
DENSE = "sir:recall=dense"
RETRIEVAL = "retrieval"
BASELINES = {"sirllm": "the paper's policy", RETRIEVAL: "no cache: what matches, in a prompt of as many tokens"}

QUARTER = 300
"""Cells for dialogues of about 1,200 tokens."""
RIVALS = (KEEP_ALL, "sir", WORDS, "streaming:recall=cells", "streaming", "sirllm", RETRIEVAL)
MODEL = "Qwen2.5-Coder-0.5B"
OTHER_MODELS = {"qwen2.5-coder-1.5b": "Qwen2.5-Coder-1.5B", "smollm2-135m-recall": "SmolLM2-135M"}
"""By folder the models of which the aims alone are played."""

_EACH = 6
"""Dialogues of each of the twelve tasks that are counted together; one was played on (README)."""
_NAMED = Column("named", [f"task-{name}" for name in TWELVE if name != "preference"], n=_EACH)
_NOT_NAMED = Column("not named", ["unnamed"])

PLOTS = ("grocery-lead10/recall-by-budget.png", "far/recall-by-number.png")
"""What the page shows. The tables have all figures; `edge-sir eval report` draws every plot."""


def make_pages(folder: Path, pieces: Sequence[Piece] = ()) -> tuple[Path, Path]:
    """Writes all reports and the plots of PLOTS, packs the rows; returns the paths of report.md and standing.md.

    Each other model has a report.md of its own. pieces: whose groups are noted.
    """
    note_groups(folder, [piece for piece in pieces if piece.place == "docs/results"])
    loaded = load_all(folder)
    others = {name: load_all(folder / name) for name in OTHER_MODELS if any((folder / name).glob("*/run.json"))}
    page = folder / "standing.md"
    page.write_text(
        standing(_by_name(loaded), {name: _by_name(found) for name, found in others.items()}), encoding="utf-8"
    )
    pages = write_reports(folder, loaded, only={folder / plot for plot in PLOTS}), page
    for name, found in others.items():
        write_reports(folder / name, found, only=())
    for place in (*loaded, *(place for found in others.values() for place in found)):
        pack_rows(place)
    return pages


def _by_name(loaded: Mapping[Path, Loaded]) -> dict[str, Loaded]:
    return {place.name: found for place, found in loaded.items()}


# ---- standing.md -----------------------------------------------------------------------------------

_HEAD = f"""# Where it stands

Made by `scripts/results --report` from the rows of the folders beside it; [README](README.md) says what each of
them asks and how to read it. {MODEL}, except where another model is named."""

_SHORT = f"""## In one table

*named*, *not named*: right answers about facts of dialogues of 1,200 tokens in {QUARTER} cells. The former are eleven
of the twelve tasks, {_EACH} dialogues each; the latter the folder `unnamed`, whose requests share no word with their
fact, so that recall cannot find it. *1k to 100k tokens ago*: of a talk of 110,000 tokens in 512 cells, fifty questions
that share a word with their fact; this model was trained on 32,768 tokens and cannot hold that talk. *read again*:
tokens of the past that are read for a question of that talk, mean of all hundred. *outside*: what an arm keeps of it
beside its cells. *text*: the perplexity of a licence at 256 cells over `streaming`'s, above 1 is worse; one text of
4,000 tokens, read without recall."""

_AIMS = """## Aims

Of `{ours}`, which is what a chat does. The verdict is about the figure; where its 95 % interval reaches
across the bound, or where there is none, it says so. A bound of two points asks that not one question is lost, where
there are fewer than fifty. Text is read without recall. *facts not named* is the folder `unnamed`. Other models have
what was played with them."""

_ABLATION = f"""## What each part does

A quarter of the dialogue in the cache: {QUARTER} cells for about 1,200 tokens. A cell says how many questions were
answered right, and the gold log-probability less keep-all's in nats, its 95 % interval drawn by dialogues. *named*: of
the twelve tasks all but `preference`, {_EACH} dialogues each. *not named*: `unnamed`. *kB outside*: what an arm keeps
beside the cells when it is asked: evicted cells, their rows, and the index of what was said. A cell itself takes 12.3
kB."""

_RIVALS = f"""## Wins, ties, losses

`{OURS}` less each other arm at the same budget, by margin (how much likelier the right option is than the best
wrong one, nats), in each folder by its first metric. *win* and *loss*: the paired 95 % interval leaves zero out;
*tie*: it does not; *open*: too few dialogues for an interval. What this model cannot do even with everything in its
cache is left out (`updates`, whose table is below). Text, which recall has no part in, is not here. Not corrected for
the number of comparisons. The mean of the twelve tasks counts each once; its interval says how much hangs on the choice
of tasks."""

_FAR = """## Far back

One talk of 110,000 tokens under 512 cells, twenty facts told around each distance, ten of them asked for with a word
of the fact (overlap 1+) and ten without one (overlap 0). How many of the ten were answered right; chance is 2.5.
*found by meaning*: its vectors, 1.5 kB for a sentence, and the encoder's 23 MB are not counted. What recall leaves out
where a message names somebody was settled after this talk had been looked at; `{others}` has two talks that had not."""

_GROCERY = """## The paper's task

Right answers, and the gold log-probability less keep-all's. *lead 10*: ten exchanges before the fact. *by letters*:
options are listed and the likeliest letter wins, the paper's protocol, whose twenty common-sense questions are asked,
too."""

_UPDATES = """## A value overwritten again and again

Right answers by how often the asked value was overwritten; 500 cells for dialogues of 2,000 tokens."""

FAR_FOLDERS = ("far", "far-dense")
FAR_OTHERS = "far-others"
"""Talks that nobody had looked at before recall was settled."""
_DISTANCES = ("1k", "3k", "10k", "30k", "100k")


def standing(loaded: Mapping[str, Loaded], others: Mapping[str, Mapping[str, Loaded]]) -> str:
    """Where the default stands, as a page. others: of the other models, by folder."""
    parts = [_HEAD, _SHORT, short_table(loaded), _AIMS.format(ours=OURS), f"### {MODEL}", aims_table(aims_of(loaded))]
    for name, found in others.items():
        parts += [f"### {OTHER_MODELS[name]}", aims_table([aim for aim in aims_of(found) if aim.found is not None])]
    runs = [run for name, found in loaded.items() for run in found.by_metric(name)[:1]]
    rivals = rival_tables(runs, OURS, RIVALS, (TWELVE_TASKS, "mean of the twelve tasks"), "margin")
    parts += [
        _ABLATION,
        ablation_table(loaded),
        _RIVALS,
        *rivals,
        _FAR.format(others=FAR_OTHERS),
        far_table(loaded),
        _GROCERY,
        grocery_table(loaded),
    ]
    parts += [_UPDATES, updates_table(loaded)]
    return "\n\n".join(parts) + "\n"


def aims_of(loaded: Mapping[str, Loaded]) -> list[Aim]:
    """The aims that the project set itself, in its order."""
    runs = [run for name, found in loaded.items() for run in found.by_metric(name)]
    paper = find(runs, "grocery-lead10")
    return [
        Aim(
            "grocery, lead 10, 256 cells: accuracy − keep-all's",
            -0.02,
            compared(paper, OURS, KEEP_ALL, 256, "accuracy"),
        ),
        Aim(
            "the same: gold log-probability − keep-all's",
            -0.5,
            compared(paper, OURS, KEEP_ALL, 256, "gold_logprob"),
            show=md.signed,
        ),
        _retention_together(loaded),
        *_retention(runs),
        *(
            Aim(f"`far`, 512 cells, {n}, overlap 1+: right", 0.9, accuracy(_far(runs, n, 1), OURS, 512, "questions"))
            for n in _DISTANCES[2:]
        ),
        *(
            Aim(
                f"`{FAR_OTHERS}`, the same of two further talks, {n}: right",
                0.9,
                accuracy(_far(runs, n, 1, FAR_OTHERS), OURS, 512, "questions"),
            )
            for n in _DISTANCES[2:4]
        ),
        *_not_named(find(runs, "unnamed")),
        *(
            perplexity_aim(find(runs, name), text, arm_keys(OURS)[0], budget, 1.03)
            for name, text in (("perplexity-licence", "a licence"), ("perplexity", "our own text (templates)"))
            for budget in (256, 512)
        ),
        Aim(
            "the value after 16 overwrites: right − keep-all's",
            0.0,
            compared(find(runs, "updates", "recall_16"), OURS, KEEP_ALL, 500, "accuracy"),
        ),
    ]


def _retention_together(loaded: Mapping[str, Loaded]) -> Aim:
    """Over the questions of all twelve, whether or not one task alone can be measured."""
    names = [name for name in loaded if name.removeprefix("task-") in TWELVE]
    rows = [
        replace(row, dialogue=f"{name}/{row.dialogue}", metric="recall")
        for name in names
        for row in loaded[name].rows
        if row.gold >= 0 and number_of(row) < _EACH
    ]
    versus = compare(rows, (OURS, QUARTER), (KEEP_ALL, 0), "recall")
    found = versus and versus.accuracy_ratio and Measured(versus.accuracy_ratio, f"{versus.n} questions")
    return Aim("twelve tasks at a quarter, all questions: right over keep-all's", 0.95, found)


def _retention(runs: Sequence[Run]) -> list[Aim]:
    mean, least = retained([run for run in runs if run.name.removeprefix("task-") in TWELVE], OURS)
    return [
        Aim("the tasks of them that can be measured alone: mean retention", 0.95, mean),
        Aim("those: least retention", 0.8, least),
    ]


def _far(runs: Sequence[Run], distance: str, overlap: int, folder: str = FAR_FOLDERS[0]) -> Run | None:
    return find(runs, folder, f"recall_{distance}/overlap-{overlap}")


def _not_named(run: Run | None) -> list[Aim]:
    says = "facts not named: right − {}"
    return [
        Aim(says.format("words' without recall"), -0.02, compared(run, OURS, WORDS, QUARTER, "accuracy")),
        Aim(says.format("the window's alone"), 0.2, compared(run, OURS, "streaming", QUARTER, "accuracy")),
    ]


def _described() -> dict[str, str]:
    """Every arm and what it has, in the order of the tables."""
    further = {DENSE: "window, words, recall as cells, found by meaning, too"}
    wider = {WIDER[0]: "a wider window, words", WIDER[1]: "a wider window, words, recall as cells"}
    return ABLATION | further | wider | BASELINES | CONTROLS


def ablation_table(loaded: Mapping[str, Loaded]) -> str:
    """A line for each arm: named and not named facts, questions with a decoy, other questions, texts."""
    arms = _described()
    found = {
        column.title: questions(loaded, column)
        for column in (
            _NAMED,
            _NOT_NAMED,
            Column("preference", ["task-preference"]),
            Column("decoy, overlap 0", ["decoy"], "recall/overlap-0"),
            Column("decoy, overlap 1+", ["decoy"], "recall/overlap-1"),
            Column("asked early, follow-up", ["asked-early", "follow-up"]),
        )
    }
    columns: dict[str, Callable[[str], str]] = {"what it has": lambda spec: arms[spec], "policy": md.policy}
    columns |= {title: right_and_gap(by_arm) for title, by_arm in found.items()}
    columns["named: margin"] = margin(found["named"])
    columns["kB outside"] = kilobytes_outside(found["named"], RETRIEVAL)
    for budget in (256, 512):
        columns[f"a licence, {budget}"] = perplexity_over_streaming(loaded, "perplexity-licence", budget)
    return md.grid(answered(arms, found.values()), columns)


_SHOWN = {
    KEEP_ALL: "everything in the cache",
    OURS: f"**`{OURS}`, as a chat has it**",
    "sir:recall=text": "`sir:recall=text`: what is found is read again",
    "streaming:recall=cells": "`streaming:recall=cells`: the newest text, and recall",
    "sir": "`sir`, without recall",
    "sirllm": "`sirllm`, the paper's policy",
    "streaming": "`streaming`: the newest text alone",
    RETRIEVAL: "plain retrieval: no cache, all is read for each question",
}


def short_table(loaded: Mapping[str, Loaded]) -> str:
    """A line for each arm that a reader compares, with what each group of questions says of it."""
    asked = {
        "named": questions(loaded, _NAMED),
        "not named": questions(loaded, _NOT_NAMED),
        "1k to 100k tokens ago": _together(
            [questions(loaded, Column("", FAR_FOLDERS, f"recall_{n}/overlap-1")) for n in _DISTANCES]
        ),
    }
    columns: dict[str, Callable[[str], str]] = {"": lambda spec: _SHOWN[spec]}
    columns |= {title: right(by_arm) for title, by_arm in asked.items()}
    talk = questions(loaded, Column("", FAR_FOLDERS))
    columns["read again"] = read_again(talk, RETRIEVAL)
    columns["outside"] = megabytes_outside(talk, RETRIEVAL)
    columns["text"] = perplexity_over_streaming(loaded, "perplexity-licence", 256)
    return md.grid(answered(_SHOWN, asked.values()), columns)


def _together(parts: Sequence[Arms]) -> Arms:
    specs = dict.fromkeys(spec for arms in parts for spec in arms)
    return {spec: {key: row for arms in parts for key, row in arms.get(spec, {}).items()} for spec in specs}


def far_table(loaded: Mapping[str, Loaded]) -> str:
    """A line for each arm: right answers by overlap and distance, and what it keeps outside the cells."""
    arms = _described()
    asked = {
        (overlap, distance): questions(loaded, Column("", FAR_FOLDERS, f"recall_{distance}/overlap-{overlap}"))
        for overlap in (1, 0)
        for distance in _DISTANCES
    }
    columns: dict[str, Callable[[str], str]] = {"what it has": lambda spec: arms[spec]}
    columns |= {f"{n}, overlap {'1+' if k else '0'}": right(by_arm) for (k, n), by_arm in asked.items()}
    columns["kB outside"] = kilobytes_outside(questions(loaded, Column("", FAR_FOLDERS)), RETRIEVAL)
    return md.grid(answered(arms, asked.values()), columns)


def grocery_table(loaded: Mapping[str, Loaded]) -> str:
    """A line for each arm: the paper's task by budget, and by letters."""
    arms = _described()
    columns: dict[str, Callable[[str], str]] = {"what it has": lambda spec: arms[spec]}
    found = []
    for title, name, metric, budgets in (
        ("lead 10", "grocery-lead10", "recall", (256, 512)),
        ("lead 0", "grocery-lead0", "recall", (256, 512)),
        ("lead 10 by letters", "grocery-letters", "recall", (256,)),
        ("common sense by letters", "grocery-letters", "commonsense", (256,)),
    ):
        for budget in budgets:
            found.append(questions(loaded, Column("", [name], metric), budget))
            columns[f"{title}, {budget}"] = right_and_gap(found[-1])
            if name == "grocery-lead10":
                columns[f"kB outside, {budget}"] = kilobytes_outside(found[-1], RETRIEVAL)
    return md.grid(answered(arms, found), columns)


def updates_table(loaded: Mapping[str, Loaded]) -> str:
    """A line for each arm: right answers by how often the value was overwritten."""
    asked = {n: questions(loaded, Column("", ["updates"], f"recall_{n}")) for n in (1, 2, 4, 8, 16, 32)}
    columns: dict[str, Callable[[str], str]] = {"what it has": lambda spec: ABLATION[spec]}
    columns |= {str(n): right(by_arm) for n, by_arm in asked.items()}
    return md.grid(answered(ABLATION, asked.values()), columns)
