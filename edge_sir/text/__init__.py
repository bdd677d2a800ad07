"""Text: where its sentences and words begin."""
