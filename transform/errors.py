"""The errors of the package, as one short hierarchy.

The message of a `TransformError` is meant for the user: it says what was found, where, and what to do, and the command
prints it without a traceback. Any other exception is a bug and shows its traceback.

    TransformError                  any of these
        OptionError                 an option, an input or an output has an invalid value; also a ValueError
        CalculationError            the calculation is wrong, or its file does not load
        SchemaError                 a column does not exist, or its type is not known or not possible: `column`
        WidenError                  a column needs a wider type, for `stream` only: `name`, `dtype`, `offset`
        InputError                  the input is missing, cannot be read, is corrupt, or has changed
            SourceChangedError      it is no longer the version that was to be read
            AccessDeniedError       the credentials do not permit reading it
            UnavailableError        its storage could not be reached; a later attempt may succeed
                DamagedError        what was read does not have the checksum of the storage
        OutputError                 the output, or the rejects beside it, cannot be written
        WorkerError                 a worker process ended before its work was done
        RejectedError               more lines were rejected than the policy allows: `line`, `offset`, `reason`

Those that are about a line or a column have it as attributes, so that a program need not read the message.
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

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows in place of a traceback, which would be of this package's code."""
        return [f"{type(self).__name__}: {self}"]


class OptionError(TransformError, ValueError):
    """An option, an input or an output has an invalid value.

    Example:
        >>> import io
        >>> from transform import Calculation
        >>> Calculation.from_sql("a AS b").run(io.BytesIO(b'{"a":1}'), io.BytesIO(), workers=0)
        Traceback (most recent call last):
        transform.errors.OptionError: workers is a whole number from 1 to 1024, not 0
    """


class CalculationError(TransformError):
    """The calculation is wrong: polars refuses an expression, a result has no name, a file does not load.

    Example:
        >>> import polars as pl
        >>> from transform import Calculation
        >>> Calculation(pl.col("a") * 2)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        transform.errors.CalculationError: `[(col("a")) * (dyn int: 2)]` needs a name for its result: ...
    """


class SchemaError(TransformError):
    """A column is wrong: it does not exist, has values of mixed kinds, or is declared with a type that JSON lacks.

    Attributes:
        column: The column, or the path of the member in it, such as `customer.city`; None if the error is about no
            single column.

    Example:
        >>> import io
        >>> from transform import Calculation
        >>> try:
        ...     Calculation.from_sql("b AS c").preview(io.BytesIO(b'{"a":1}'))
        ... except SchemaError as error:
        ...     print(error.column, "-", error)  # doctest: +ELLIPSIS
        b - there is no column `b` in the input (1 line). ...
    """

    def __init__(self, message: str, *, column: str | None = None) -> None:
        super().__init__(message)
        self.column = column


class WidenError(TransformError):
    """A column inferred as integer holds a float: the run has to start again with the wider type.

    Attributes:
        name: The name of the column.
        dtype: The wider type that it needs, a polars type.
        offset: Where the line with the float starts in the input.

    Example:
        >>> print(WidenError("price", "Float64", 120))
        column `price` was inferred as integer, and the line at offset 120 holds a float
    """

    def __init__(self, name: str, dtype: object, offset: int) -> None:
        super().__init__(name, dtype, offset)  # all of it, so that the error can be pickled
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
    """The input is no longer the version that was to be read: it was overwritten or removed.

    Example:
        >>> issubclass(SourceChangedError, InputError)
        True
    """


class AccessDeniedError(InputError):
    """The credentials do not permit reading the input, or no credentials were found.

    Example:
        >>> issubclass(AccessDeniedError, InputError)
        True
    """


class UnavailableError(InputError):
    """The storage of the input could not be reached, or did not answer correctly; a later attempt may succeed.

    Example:
        >>> issubclass(UnavailableError, InputError)
        True
    """


class DamagedError(UnavailableError):
    """The bytes that were read of an object do not have the checksum that the storage has of it.

    Example:
        >>> issubclass(DamagedError, UnavailableError)
        True
    """


class OutputError(TransformError):
    """The output, or the rejects beside it, cannot be written.

    Example:
        >>> import io
        >>> from transform import Calculation
        >>> Calculation.from_sql("a AS b").run(io.BytesIO(b'{"a":1}'), "absent/out.jsonl")
        Traceback (most recent call last):
        transform.errors.OutputError: absent/out.jsonl: there is no directory absent
    """


class WorkerError(TransformError):
    """A worker process ended before its work was done.

    Example:
        >>> raise WorkerError("worker process 1234 was killed by signal 9")
        Traceback (most recent call last):
        transform.errors.WorkerError: worker process 1234 was killed by signal 9
    """


class RejectedError(TransformError):
    r"""More lines were rejected than the policy allows; the rejects are kept, nothing is published.

    The attributes are about one line: the one that was too many, or the first one if the share of all was too large.
    They are None if the run was resumed and did not keep it.

    Attributes:
        line: Its number in the input, from 1.
        offset: Where it starts, in bytes of the input after decompression.
        reason: Why it was rejected.

    Example:
        >>> import io
        >>> from transform import Calculation
        >>> lines = io.BytesIO(b'{"a":1}\nnull')
        >>> try:
        ...     Calculation.from_sql("a AS b").run(lines, io.BytesIO(), max_rejects=0)
        ... except RejectedError as error:
        ...     print(error.line, error.offset, error.reason)
        2 8 not a JSON object: null
    """

    def __init__(
        self, message: str, *, line: int | None = None, offset: int | None = None, reason: str | None = None
    ) -> None:
        super().__init__(message)
        self.line = line
        self.offset = offset
        self.reason = reason
