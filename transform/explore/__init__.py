"""What a calculation does to an input, without an output: preview, check, compare, profile, describe.

`transform.calculation` and the command use each file's one public function; nothing here is used by a run.
"""
