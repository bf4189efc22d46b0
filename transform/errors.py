"""What can go wrong, as one short hierarchy.

A `TransformError` is an answer to a user: it says what was found, where, and what to do, and the command prints it
without a traceback. Anything else that is raised is a bug and shows its traceback.
"""


class TransformError(Exception):
    """Base of every error that this package raises on purpose."""


class OptionError(TransformError, ValueError):
    """An option, or what was given as a place to read from or write to, is not what it can be."""


class CalculationError(TransformError):
    """What to compute is wrong: an expression polars refuses, a result without a name, a file that does not load."""


class SchemaError(TransformError):
    """The columns are wrong: a column that is not there, of mixed kinds, or declared as something JSON cannot hold."""


class WidenError(TransformError):
    """A column inferred as integer holds a float: the run has to start again with the wider type.

    Attributes:
        name: Of the column.
        dtype: The type it needs, a polars one.
        offset: Of the line that shows it.
    """

    def __init__(self, name: str, dtype: object, offset: int) -> None:
        super().__init__(name, dtype, offset)  # all of it, so that it can travel between processes
        self.name = name
        self.dtype = dtype
        self.offset = offset

    def __str__(self) -> str:
        return f"column `{self.name}` was inferred as integer, and the line at offset {self.offset} holds a float"


class InputError(TransformError):
    """The input is missing, cannot be read, is corrupt or truncated, or changed while it was read."""


class SourceChangedError(InputError):
    """The input is no longer what was to be read: it was overwritten, or removed."""


class AccessDeniedError(InputError):
    """The input may not be read with the credentials there are, or there are none."""


class UnavailableError(InputError):
    """Where the input is could not be reached, or did not answer as it should: a later time may do better."""


class OutputError(TransformError):
    """The output, or the rejects beside it, cannot be written."""


class WorkerError(TransformError):
    """A worker process ended before its work was done."""


class RejectedError(TransformError):
    """More lines were rejected than the policy allows; the rejects are kept, nothing is published."""
