"""Expressions: parsed, checked to be row-wise, evaluated on a frame, and their results formatted as JSON.

`row_wise` refuses whatever is not known to be safe. Other rooms use `parse`, `row_wise` and `evaluate`.
"""
