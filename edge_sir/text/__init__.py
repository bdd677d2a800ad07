"""Text on its way to tokens and back: chat templates, messages, replies, where sentences and words begin."""
