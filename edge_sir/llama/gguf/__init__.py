"""Model files: what their headers say, read and checked before llama.cpp sees them."""
