"""A job process: one object at a time, from the input bucket to its published output.

Start with `job`. `protocol` has the messages to and from the worker, the only thing that both sides share.
"""
