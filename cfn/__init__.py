"""The templates of the stack, and the program that deploys them: `python -m cfn`, which the Makefile calls.

`environment` says what to deploy, from the command line and a file; `plan` adds what is there; `changes` shows what
would change; `deployment` carries it out, and `failures` says why that failed. `smoke` compares an output with what was
meant. Nothing here is part of the packages or the image.
"""
