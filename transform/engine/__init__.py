"""A run: lines → decode → evaluate → splice → output, in order, on all cores, published whole or not at all.

Start with `plan`, which transforms one chunk, and `run`, the loop around it. Other rooms mostly use these two, `spec`,
`options` and `summary`.
"""
