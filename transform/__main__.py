"""`python -m transform` is the `transform` command."""

from transform.cli import main

if __name__ == "__main__":  # the guard keeps worker processes, which import this module, from running it
    main()
