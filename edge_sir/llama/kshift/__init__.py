"""May this model's keys be moved to other positions? Decided per file, and proved by a trial."""
