"""What goes over the wire: OpenAI's requests, answers, chunks and errors. Nothing in here knows HTTP."""
