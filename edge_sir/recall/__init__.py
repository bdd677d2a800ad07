"""Recall: what was evicted and matches a message comes back into the cache for its turn."""
