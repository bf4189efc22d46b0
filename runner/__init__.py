"""The SQS-triggered worker that runs inside an ECS task."""
