"""edge-sir: a conversation without end in a fixed number of KV-cache cells, that keeps what matters.

import edge_sir

with edge_sir.open_chat(edge_sir.Options(budget=256)) as chat:
    for piece in chat.stream("My name is Ada."):
        print(piece.text, end="", flush=True)
    print(chat.reply("What is my name?").text)
    print(chat.stats())
"""

from edge_sir.batch.request import BatchRequest
from edge_sir.batch.result import BatchResult
from edge_sir.chat import Chat, ChatStats, Reply, ReplyStream, Resumed, Turn, Undone
from edge_sir.core.records import Eviction
from edge_sir.engine import SamplingParams
from edge_sir.errors import EdgeSirError, EngineError, SessionError, UserError
from edge_sir.memory.evictions import Loss
from edge_sir.memory.passages import Match, Passage
from edge_sir.memory.transcript import Message, Transcript, read_transcript
from edge_sir.memory.view import Memory, TurnMemory
from edge_sir.options import Options
from edge_sir.runtime import Model, load, open_chat
from edge_sir.text.reply import Drawn, Piece, ToolCall
from edge_sir.trace.record import Trace, read_trace
from edge_sir.trace.replay import Replayed, replay

__all__ = [
    "BatchRequest",
    "BatchResult",
    "Chat",
    "ChatStats",
    "Drawn",
    "EdgeSirError",
    "EngineError",
    "Eviction",
    "Loss",
    "Match",
    "Memory",
    "Message",
    "Model",
    "Options",
    "Passage",
    "Piece",
    "Replayed",
    "Reply",
    "ReplyStream",
    "Resumed",
    "SamplingParams",
    "SessionError",
    "ToolCall",
    "Trace",
    "Transcript",
    "Turn",
    "TurnMemory",
    "Undone",
    "UserError",
    "load",
    "open_chat",
    "read_trace",
    "read_transcript",
    "replay",
]
