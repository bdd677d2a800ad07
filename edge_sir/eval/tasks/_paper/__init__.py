"""What the paper's tasks and ours of their kind share: given files, and our own seeded texts in their place."""
