"""A process of its own that goes on with a session: python next_process.py '{"options": {...}, "said": [...]}'.

Prints as JSON how it went on, and which tokens it drew for each of these messages.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

import edge_sir
from edge_sir.chat import Chat
from edge_sir.options import Options


def answers(chat: Chat, said: Sequence[str]) -> list[list[int]]:
    """The tokens that were drawn for each message."""
    sample, drawn = chat.session.sample, list[int]()

    def noted() -> int:
        drawn.append(sample())
        return drawn[-1]

    out = []
    chat.session.sample = noted  # type: ignore[method-assign]
    for text in said:
        chat.reply(text)
        out.append(drawn[:])
        drawn.clear()
    del chat.session.sample  # type: ignore[method-assign]
    return out


def gone_on(options: dict[str, Any], said: Sequence[str]) -> dict[str, Any]:
    """What is printed."""
    with edge_sir.open_chat(Options(**options)) as chat:
        resumed = chat.resumed
        assert resumed is not None
        last = chat.session.last_logits.astype(float).tolist()
        return {
            "how": resumed.how,
            "n_replayed": resumed.n_replayed,
            "n_left_out": resumed.n_left_out,
            "unsent": resumed.unsent,
            "n_turns": chat.session.turn,
            "logits": last,
            "drawn": answers(chat, said),
        }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(gone_on(**json.loads(sys.argv[1]))))
