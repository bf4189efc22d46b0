"""The process that owns the messages: it receives, keeps leases, starts job processes, and settles.

Start with `loop`. It imports neither polars nor pyarrow, so that nothing that a calculation does stops the heartbeat.
"""
