"""A long talk through the server by openai-python, which sends everything again with every turn; ten facts are told
early and asked for at the end, and a chat that keeps all of the same talk is asked the same.

    scripts/server-facts --model qwen2.5-coder-0.5b-instruct --out DIR      goes on where a cut run stopped
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import openai
from long_chat_talk import Scenario, answers
from long_session_play import Settings, conversation
from one_line_parser import OneLineParser
from server_talk import command_for, start

import edge_sir
from edge_sir.errors import EdgeSirError

__all__ = ["main"]

_TALK = Path(__file__).with_name("long_chat.toml")
_N = 10  # turns at either end that are compared
_REPLY = 24

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what was found; returns the exit code."""
    parser = OneLineParser(
        prog="scripts/server-facts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="qwen2.5-coder-0.5b-instruct")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="rows and the server's state")
    parser.add_argument("--turns", type=int, default=300)
    parser.add_argument("--facts", type=int, default=10)
    parser.add_argument("--budget", type=int, default=512)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        settings = Settings(
            str(_TALK), args.facts, args.model, args.budget, args.turns, 1, _REPLY, args.threads, args.seed, False
        )
        rows = _played(settings, args.out)
        kept = _kept(settings, args.out, rows)
    except EdgeSirError as error:
        print(f"server-facts: {error}", file=sys.stderr)
        return 2
    print(_report(settings, rows, kept))
    return 0


def _rows(file: Path) -> list[Row]:
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


# ---- through the server ----------------------------------------------------------------------------


def _played(settings: Settings, folder: Path) -> list[Row]:
    """A row for each turn; those that are there are not played again."""
    file = folder / "rows.jsonl"
    rows = _rows(file)
    scenario, talk = conversation(settings)
    if len(rows) >= len(talk):
        return rows
    command = command_for(settings.model, folder / "state", 1, settings.budget)
    process, url = start([*command, "--threads", str(settings.threads), "--archive-on-disk"])
    try:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=600)
        with file.open("a", encoding="utf-8") as out:
            for said in talk[len(rows) :]:
                row = _turn(client, scenario, rows, said.text) | {"kind": said.kind, "fact": said.fact}
                rows.append(row)
                out.write(json.dumps(row) + "\n")
                out.flush()
    finally:
        process.terminate()
        process.communicate()
    return rows


def _turn(client: openai.OpenAI, scenario: Scenario, rows: Sequence[Row], text: str) -> Row:
    messages: list[Any] = [{"role": "system", "content": scenario.system}] if scenario.system else []
    for row in rows:
        messages += [{"role": "user", "content": row["said"]}, {"role": "assistant", "content": row["reply"]}]
    messages.append({"role": "user", "content": text})
    began, first_s, reply, usage = time.perf_counter(), 0.0, "", None
    stream = client.chat.completions.create(
        model="any", messages=messages, max_tokens=_REPLY, temperature=0, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    for chunk in stream:
        usage = chunk.usage or usage
        if chunk.choices and (bit := chunk.choices[0].delta.content):
            first_s = first_s or time.perf_counter() - began
            reply += bit
    details = usage.prompt_tokens_details.model_dump() if usage and usage.prompt_tokens_details else {}
    match = stream.response.headers["x-edge-sir-match"]
    return {"said": text, "reply": reply, "first_s": first_s, "match": match, "read": details.get("cache_write_tokens")}


# ---- a chat that keeps all -------------------------------------------------------------------------


def _kept(settings: Settings, folder: Path, rows: Sequence[Row]) -> list[Row]:
    """What a chat that keeps all answers to each question, after the same talk."""
    file = folder / "kept.jsonl"
    questions = [row for row in rows if row["kind"] == "question"]
    if len(kept := _rows(file)) >= len(questions):
        return kept
    scenario, _ = conversation(settings)
    with (
        edge_sir.load(settings.model, threads=settings.threads, policy="keep-all", temperature=0, quiet=True) as model,
        model.chat(system=scenario.system, max_tokens=_REPLY) as chat,
    ):
        for row in rows:
            if row["kind"] != "question":
                chat.add("user", row["said"])
                chat.add("assistant", row["reply"])
        kept = []
        for row in questions:
            reply = chat.reply(row["said"])
            kept.append({"fact": row["fact"], "reply": reply.text})
            chat.truncate(reply.turn)
    file.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    return kept


# ---- what was found --------------------------------------------------------------------------------


def _report(settings: Settings, rows: Sequence[Row], kept: Sequence[Row]) -> str:
    scenario, _ = conversation(settings)
    questions = [row for row in rows if row["kind"] == "question"]
    right = {row["fact"] for row in questions if answers(scenario.facts[row["fact"]], row["reply"])}
    right_kept = {row["fact"] for row in kept if answers(scenario.facts[row["fact"]], row["reply"])}
    talk = [row for row in rows if row["kind"] != "question" and row["first_s"]]
    early, late = talk[1 : 1 + _N], talk[-_N:]
    matches = {match: sum(row["match"] == match for row in rows) for match in {row["match"] for row in rows}}
    lines = [
        f"{settings.model}, {settings.budget} cells, {len(rows)} turns, everything sent again with each",
        "found: " + ", ".join(f"{n} {match}" for match, n in sorted(matches.items())),
        f"first token, ms, median of {_N}: early {1000 * median(r['first_s'] for r in early):.0f}, "
        f"late {1000 * median(r['first_s'] for r in late):.0f}",
        f"tokens read, median of {_N}: early {median(r['read'] for r in early):.0f}, "
        f"late {median(r['read'] for r in late):.0f}",
        f"facts: the server {len(right)} of {len(questions)}; a chat that keeps all {len(right_kept)}; of those the "
        f"server {len(right & right_kept)}",
    ]
    for row in questions:
        other = next((one["reply"] for one in kept if one["fact"] == row["fact"]), "")
        told = scenario.facts[row["fact"]].told
        lines.append(f"  {told!r}: server {row['reply']!r}; keeps all {other!r}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
