"""The process that owns the messages: it receives them, keeps their leases, starts job processes, and settles.

Start with `loop`. This process imports neither polars nor pyarrow, so that no calculation can stop the heartbeat.
"""
