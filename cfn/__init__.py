"""The templates of the stack, and the program that deploys them: `python -m cfn`, which the Makefile calls.

What to deploy comes from the command line and a file per environment (`environment`). An `account` is where, `image`
what runs, `stack` what CloudFormation has of it, `changes` what a deployment would do, `failures` why one went wrong,
and `smoke` compares an output. Nothing here is part of the packages or the image.
"""
