"""Playing: a dialogue becomes tokens, is run under many arms, and its answers become rows."""
