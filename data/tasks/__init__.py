"""Tasks that are generated: data sets whose answer lies in the timing alone, and memory tasks,
whose trials are drawn when they are needed.
"""
