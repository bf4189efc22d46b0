"""Bytes in and out: files, pipes and S3 objects, compressed or not, cut into chunks of whole lines.

Others use `sources.open_source`, `outputs.Output`, `chunks`, and `s3`. An output becomes visible in `publish` of
`outputs.FileSink` (a rename) and `s3_sink` (one PutObject or CompleteMultipartUpload), and nowhere else.
"""
