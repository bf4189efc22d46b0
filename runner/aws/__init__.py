"""S3, SQS and ECS, as the worker and the operators' commands use them.

`bucket` and `queue` send the requests; the answer to a failed one becomes an error of `runner.errors`. `s3_events`
reads the events in a message. Other rooms may use every file.
"""
