"""Many dialogues at once: requests are lines, the scheduler says what is decoded next, jobs are files in and out."""
