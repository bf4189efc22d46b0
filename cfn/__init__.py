"""The templates of the stack, and the program that deploys them: `python -m cfn`, which the Makefile calls.

`environment` reads what to deploy from the command line and a file, `plan` compares it with the stack, `changes` shows
what would change, `deployment` carries it out, and `failures` finds out why that failed. `smoke` compares an output of
the deployment with the expected one. Nothing here is part of the packages or the image.
"""
