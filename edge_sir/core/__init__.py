"""The arithmetic of eviction: numpy and the standard library only, no I/O, no model."""
