"""The tables, and how each version of them becomes the next. A database's version is SQLite's `user_version`.

Released migrations are never changed. Each one is a transaction, its number included.
"""

import sqlite3

__all__ = ["APPLICATION", "MIGRATIONS", "migrate"]

APPLICATION = 0x65736972  # "esir", SQLite's application_id

# depth: place on the path from the conversation's beginning. taken_back: it is on the path no more. parent has no
# foreign key: removing a session would look for the children of every row; the chain of hashes vouches for it.
# folded: NULL where the text is ASCII, which SQLite folds itself.
_FIRST = """
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, key TEXT NOT NULL UNIQUE, created REAL NOT NULL,
    used REAL NOT NULL, model TEXT NOT NULL, fingerprint TEXT NOT NULL, options TEXT NOT NULL,
    n_turns INTEGER NOT NULL DEFAULT 0, conversation INTEGER NOT NULL DEFAULT 1, record INTEGER NOT NULL DEFAULT 0,
    next_file INTEGER NOT NULL DEFAULT 1, unsent TEXT NOT NULL DEFAULT '[]', state TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE TABLE messages (
    id INTEGER PRIMARY KEY, session INTEGER NOT NULL REFERENCES sessions, conversation INTEGER NOT NULL,
    depth INTEGER NOT NULL, parent INTEGER, taken_back INTEGER NOT NULL DEFAULT 0, number INTEGER NOT NULL,
    turn INTEGER NOT NULL, role TEXT NOT NULL, said REAL NOT NULL, hash BLOB NOT NULL, text TEXT NOT NULL, folded TEXT
) STRICT;
CREATE INDEX messages_path ON messages (session, conversation, depth);
CREATE TABLE records (
    session INTEGER NOT NULL REFERENCES sessions, number INTEGER NOT NULL, conversation INTEGER NOT NULL,
    made REAL NOT NULL, changes BLOB NOT NULL, entries BLOB NOT NULL, PRIMARY KEY (session, number)
) STRICT;
CREATE TABLE pieces (
    session INTEGER NOT NULL REFERENCES sessions, key INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (session, key)
) STRICT;
CREATE TABLE snapshots (
    session INTEGER NOT NULL REFERENCES sessions, number INTEGER NOT NULL, record INTEGER NOT NULL,
    fingerprint TEXT NOT NULL, made REAL NOT NULL, n_bytes INTEGER NOT NULL, parts TEXT NOT NULL,
    PRIMARY KEY (session, number)
) STRICT;
CREATE TABLE blobs (
    session INTEGER NOT NULL REFERENCES sessions, key INTEGER NOT NULL, number INTEGER NOT NULL,
    n_bytes INTEGER NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (session, key)
) STRICT;
CREATE VIEW messages_folded AS SELECT id, coalesce(folded, text) AS folded FROM messages;
CREATE VIRTUAL TABLE messages_fts USING fts5 (
    folded, content = 'messages_folded', content_rowid = 'id', tokenize = 'trigram', detail = none, columnsize = 0
);
"""

# What the server finds sessions by, see `nodes`. A removed session takes its rows along.
_SERVED = """
CREATE TABLE served (
    session INTEGER PRIMARY KEY REFERENCES sessions ON DELETE CASCADE, space BLOB NOT NULL, exact BLOB NOT NULL,
    masked BLOB NOT NULL, tip INTEGER, owner BLOB NOT NULL DEFAULT x''
) STRICT;
CREATE INDEX served_owner ON served (owner);
CREATE TABLE nodes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER NOT NULL REFERENCES served ON DELETE CASCADE,
    space BLOB NOT NULL, parent INTEGER, role TEXT NOT NULL, content BLOB, n_chars INTEGER NOT NULL,
    chain BLOB NOT NULL, n_replies INTEGER NOT NULL, number INTEGER NOT NULL
) STRICT;
CREATE INDEX nodes_chain ON nodes (space, chain);
CREATE INDEX nodes_reply ON nodes (space, content, chain) WHERE role = 'assistant';
CREATE INDEX nodes_session ON nodes (session);
CREATE TABLE node_names (
    name BLOB PRIMARY KEY, node INTEGER NOT NULL REFERENCES nodes ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX node_names_node ON node_names (node);
"""

MIGRATIONS: tuple[str, ...] = (_FIRST, _SERVED)


def migrate(connection: sqlite3.Connection) -> None:
    """Brings a database to the newest version; an empty one is version 0. Raises sqlite3.Error."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in script.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise
