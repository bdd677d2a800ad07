"""edge-sir: a conversation without end in a fixed number of KV-cache cells, that keeps what matters.

import edge_sir

with edge_sir.open_chat(edge_sir.Options(budget=256)) as chat:
    for piece in chat.stream("My name is Ada."):
        print(piece.text, end="", flush=True)
    print(chat.reply("What is my name?").text)
    print(chat.stats())
"""

from edge_sir.chat import Chat, ChatStats, Reply
from edge_sir.core.records import Eviction
from edge_sir.engine import SamplingParams
from edge_sir.errors import EdgeSirError, EngineError, SessionError, UserError
from edge_sir.options import Options
from edge_sir.reply import Piece
from edge_sir.runtime import open_chat

__all__ = [
    "Chat",
    "ChatStats",
    "EdgeSirError",
    "EngineError",
    "Eviction",
    "Options",
    "Piece",
    "Reply",
    "SamplingParams",
    "SessionError",
    "UserError",
    "open_chat",
]
