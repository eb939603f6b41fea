"""Data sets that are generated: tasks whose answer lies in the timing alone."""
