"""A verb measured on data: the same numbers from a run, the command and Python."""
