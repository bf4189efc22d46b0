"""Lines of JSON to a frame of the columns that are read, with a reject for each line that has no row.

Others use `decoder.Decoder`, `inference`, `schema` and `rejects`. Why a line is rejected, and the words for it, are in
`members` (not a JSON object), `columns` (not of the column's type) and `rejects` (too long).
"""
