"""Expressions: parsed, checked, evaluated on a frame, and their results formatted as JSON.

`row_wise` refuses whatever is not known to be safe, `mixtures` values of types that do not go together. Other packages
use `parse`, `reads`, `row_wise` and `evaluate`.
"""
