"""One task per file; the file's name is the task's name on the command line."""
