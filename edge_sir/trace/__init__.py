"""The record of a session: every change of its ledger in a file, and what another policy would have done."""
