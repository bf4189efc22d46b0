"""A run: lines → decode → evaluate → splice → sink, in order, on all cores, published whole or not at all.

Start with `run` (the loop) and `plan` (one chunk, start to end). Others use `run`, `spec`, `summary` and `state`.
"""
