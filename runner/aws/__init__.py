"""S3, SQS and ECS as the worker and its operator use them, with their answers as errors of `runner.errors`."""
