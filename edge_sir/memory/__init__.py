"""What was said, what of it is resident, and what was evicted and why: to look at, to find, to pin and to forget."""
