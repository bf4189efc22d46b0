"""A plain Python function, called line by line: slow, for calculations that already exist as a function."""

import msgspec
import polars as pl

from transform.engine.function import Function, FunctionPlan, FunctionSpec
from transform.engine.spec import digest
from transform.engine.summary import Summary
from transform.explore.preview import report_rejected
from transform.io.chunks import read_chunks
from transform.io.sources import Source, open_source
from transform.runnable import Runnable

_PREVIEW_CHUNK_BYTES = 64 << 10


class LineFunction(Runnable):
    """A `def calculation(json_obj)` that returns the object to write, or None to drop the line.

    Each line is decoded, passed to the function, and encoded again, so the spelling of numbers, white space and
    duplicate members are not kept. A line for which the function raises is rejected.

    Args:
        function: The function; it has to be pure.
        origin: The text that it was made from, as its identity.

    Example:
        >>> def calculation(json_obj):
        ...     json_obj["double"] = json_obj["stars"] * 2
        ...     return json_obj
        >>> LineFunction(calculation)
        LineFunction(calculation)
    """

    __slots__ = ("_function", "_origin")

    def __init__(self, function: Function, origin: tuple[bytes, ...] = ()) -> None:
        self._function = function
        self._origin = origin

    @property
    def digest(self) -> str:
        """Its identity: a SHA-256 over its text, or over the pickled function."""
        if self._origin:
            return digest(self._origin)
        import cloudpickle  # noqa: PLC0415 - a function that is loaded from a file has its text

        return digest((cloudpickle.dumps(self._function),))

    def made_from(self, origin: tuple[bytes, ...]) -> "LineFunction":
        """Return the same with the text that it was made from, as its identity."""
        return LineFunction(self._function, origin)

    def preview(self, source: Source, rows: int = 10, *, rejected: list[str] | None = None) -> pl.DataFrame:
        """Return the objects that the function returns for the first lines.

        Args:
            source: As for `run`.
            rows: The maximum number of objects.
            rejected: A list to which messages about rejected lines are added, of those that were read.

        Raises:
            TransformError: As `run` does.
        """
        found: list[object] = []
        plan, seen = FunctionPlan(self._function), Summary()
        with open_source(source) as reader:
            for chunk in read_chunks(reader.read_into, _PREVIEW_CHUNK_BYTES):
                result = plan.transform(chunk)
                seen.count(result)
                output = b"".join(result.output)
                found += [msgspec.json.decode(line) for line in output.split(b"\n") if line]
                if len(found) >= rows:
                    break
        report_rejected(seen, rejected)
        return pl.DataFrame(found[:rows], infer_schema_length=None, strict=False)

    @property
    def function(self) -> Function:
        """The function itself."""
        return self._function

    def spec_for(self, source: Source) -> "FunctionSpec":  # noqa: ARG002 - the same for every input
        """Return the spec of a run on an input."""
        return FunctionSpec(self._function)

    def __repr__(self) -> str:
        return f"LineFunction({getattr(self._function, '__name__', self._function)})"

    def _repr_html_(self) -> str:
        from transform import html  # noqa: PLC0415 - only notebooks need it

        name = getattr(self._function, "__name__", str(self._function))
        return html.render("LineFunction", html.Table([("function", html.Code(name)), ("runs", "line by line")]))
