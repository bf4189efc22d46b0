"""Views of a calculation on an input, without an output: preview, check, compare, profile, describe.

The public classes and the command use one function of each file. A run uses nothing from this room.
"""
