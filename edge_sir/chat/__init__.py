"""A conversation in text.

chat.py  what a person may ask of it        conversation.py  turns, roles, the system prompt
turn.py  one turn as a step machine         stream.py        a reply as it comes        stats.py  its figures
commands.py  what /memory, /pin ... do, as functions that return values

The `Reply` that a turn ends with, and what it counts, is in edge_sir/text/reply.py.
"""

from edge_sir.chat.chat import Chat, RegeneratedStream, Undone
from edge_sir.chat.conversation import Host
from edge_sir.chat.stats import ChatStats
from edge_sir.chat.stream import ReplyStream
from edge_sir.chat.turn import Terms, Turn, drive
from edge_sir.text.reply import Reply

__all__ = ["Chat", "ChatStats", "Host", "RegeneratedStream", "Reply", "ReplyStream", "Terms", "Turn", "Undone", "drive"]
