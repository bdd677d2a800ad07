"""The arithmetic of forgetting: numpy and the standard library only, no I/O, no model."""
