"""The compiled kernel: it finds and checks lines, reads members, and writes the output; see `kernel.c`."""
