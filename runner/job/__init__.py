"""A job process: one object at a time, from the input bucket to its published output.

Start with `job`, which makes attempts (`attempt`). `process` decides which errors are retried and which are final.
`protocol` contains the messages between the worker and its job processes. Other rooms also use `keys`, `identity` and
`cancellation`.
"""
