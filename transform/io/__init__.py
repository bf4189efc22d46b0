"""Input and output: files, pipes and S3 objects, compressed or not, and chunks of whole lines.

A local output becomes visible in `outputs` (a rename), an output in S3 in the files that begin with `s3_` (PutObject or
CompleteMultipartUpload). Other rooms use `sources`, `chunks`, `outputs`, `compression`, `conflicts`
and `s3`; the worker uses the writer through what `transform` exports.
"""
