"""Decoding: lines of JSON to a frame of the columns that are read, and a reject for each invalid line.

`line_errors`, `columns` and `rejects` contain the reasons for which a line is rejected, with their texts: not a JSON
object, a value that does not fit its column, too long. Other rooms use all files but `columns`.
"""
