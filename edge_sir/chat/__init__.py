"""A conversation in text.

chat.py  what a person may ask of it        conversation.py  turns, roles, the system prompt
turn.py  one turn as a step machine         stream.py        a reply as it comes        stats.py  its figures
commands.py  what /memory, /pin ... do, as functions that return values

saving.py      a session's chat on disk, call by call     resuming.py  goes on from that, in another process
forgetting.py  what leaves the disk on request            blobs.py     evicted cells on disk    resumed.py  what is said

The `Reply` that a turn ends with, and what it counts, is in edge_sir/text/reply.py.
"""

from edge_sir.chat.chat import Chat, RegeneratedStream, Undone
from edge_sir.chat.conversation import Host
from edge_sir.chat.resumed import Begun, Resumed
from edge_sir.chat.stats import ChatStats
from edge_sir.chat.stream import ReplyStream
from edge_sir.chat.turn import Terms, Turn, drive
from edge_sir.text.reply import Reply

__all__ = [
    "Begun",
    "Chat",
    "ChatStats",
    "Host",
    "RegeneratedStream",
    "Reply",
    "ReplyStream",
    "Resumed",
    "Terms",
    "Turn",
    "Undone",
    "drive",
]
