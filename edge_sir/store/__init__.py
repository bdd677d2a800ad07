"""What outlives the process: one state folder with a database of what was said and files of what the engine held.

It knows nothing of chats and engines: their records, entries and snapshots are bytes here.
"""
