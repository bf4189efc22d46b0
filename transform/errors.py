"""What can go wrong, as one short hierarchy.

A `TransformError` is an answer to a user: it says what was found, where, and what to do, and the command prints it
without a traceback. Anything else that is raised is a bug and shows its traceback.
"""


class TransformError(Exception):
    """Base of every error that this package raises on purpose.

    Example:
        >>> from transform import load
        >>> try:
        ...     load("absent.py")
        ... except TransformError as error:
        ...     print(error)
        absent.py: no such file
    """


class OptionError(TransformError, ValueError):
    """An option, or what was given as a place to read from or write to, is not what it can be."""


class CalculationError(TransformError):
    """What to compute is wrong: an expression polars refuses, a result without a name, a file that does not load.

    Example:
        >>> import polars as pl
        >>> from transform import Calculation
        >>> Calculation(pl.col("a") * 2)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        transform.errors.CalculationError: `[(col("a")) * (dyn int: 2)]` needs a name for its result: ...
    """


class SchemaError(TransformError):
    """The columns are wrong: a column that is not there, of mixed kinds, or declared as something JSON cannot hold.

    Example:
        >>> import io
        >>> from transform import Calculation
        >>> Calculation.from_sql("b AS c").preview(io.BytesIO(b'{"a":1}'))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        transform.errors.SchemaError: there is no column `b` in the input (1 line). ...
    """


class WidenError(TransformError):
    """A column inferred as integer holds a float: the run has to start again with the wider type.

    Attributes:
        name: Of the column.
        dtype: The type it needs, a polars one.
        offset: Of the line that shows it.

    Example:
        >>> print(WidenError("price", "Float64", 120))
        column `price` was inferred as integer, and the line at offset 120 holds a float
    """

    def __init__(self, name: str, dtype: object, offset: int) -> None:
        super().__init__(name, dtype, offset)  # all of it, so that it can travel between processes
        self.name = name
        self.dtype = dtype
        self.offset = offset

    def __str__(self) -> str:
        return f"column `{self.name}` was inferred as integer, and the line at offset {self.offset} holds a float"


class InputError(TransformError):
    """The input is missing, cannot be read, is corrupt or truncated, or changed while it was read.

    Example:
        >>> from transform import Calculation
        >>> Calculation.from_sql("a AS b").run("absent.jsonl", "out.jsonl")
        Traceback (most recent call last):
        transform.errors.InputError: absent.jsonl: no such file or directory
    """


class SourceChangedError(InputError):
    """The input is no longer what was to be read: it was overwritten, or removed.

    Example:
        >>> issubclass(SourceChangedError, InputError)
        True
    """


class AccessDeniedError(InputError):
    """The input may not be read with the credentials there are, or there are none.

    Example:
        >>> issubclass(AccessDeniedError, InputError)
        True
    """


class UnavailableError(InputError):
    """Where the input is could not be reached, or did not answer as it should: a later time may do better.

    Example:
        >>> issubclass(UnavailableError, InputError)
        True
    """


class OutputError(TransformError):
    """The output, or the rejects beside it, cannot be written.

    Example:
        >>> import io
        >>> from transform import Calculation
        >>> Calculation.from_sql("a AS b").run(io.BytesIO(b'{"a":1}'), "absent/out.jsonl")
        Traceback (most recent call last):
        transform.errors.OutputError: absent/out.jsonl: no such file or directory
    """


class WorkerError(TransformError):
    """A worker process ended before its work was done.

    Example:
        >>> raise WorkerError("worker process 1234 was killed by signal 9")
        Traceback (most recent call last):
        transform.errors.WorkerError: worker process 1234 was killed by signal 9
    """


class RejectedError(TransformError):
    """More lines were rejected than the policy allows; the rejects are kept, nothing is published.

    Example:
        >>> import io
        >>> from transform import Calculation
        >>> lines = io.BytesIO(b'{"a":1},')
        >>> Calculation.from_sql("a AS b").with_schema({"a": "Int64"}).run(lines, io.BytesIO(), max_rejects=0)
        ... # doctest: +ELLIPSIS
        Traceback (most recent call last):
        transform.errors.RejectedError: line 1 (offset 0) was rejected, and the first one fails the run: ...
    """
