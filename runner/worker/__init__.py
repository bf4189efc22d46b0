"""The process that owns the messages: it receives them, keeps leases, starts job processes and settles.

Start with `loop`; `settlement` deletes, requeues or dead-letters a message. This process imports neither polars nor
pyarrow, so that nothing that a calculation does can stop the heartbeat.
"""
