"""Expressions: parsed, proven to be row-wise, evaluated on a frame, and their results written as JSON.

Others use `parse`, `row_wise.check_row_wise` and `evaluate.Evaluator`.
"""
