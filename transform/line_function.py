"""A plain Python function, called line by line: slow, for calculations that already exist as a function."""

import json
import pickle
from collections.abc import Callable
from typing import Any

import msgspec
import polars as pl

from transform.decode.row_format import LINES, RowFormat
from transform.engine.function import Function, FunctionPlan, FunctionSpec
from transform.engine.module_sources import Modules, import_missing_from
from transform.engine.spec import digest
from transform.engine.summary import Summary
from transform.errors import CalculationError
from transform.explore.preview import report_rejected
from transform.io.sources import Source, open_source
from transform.runnable import Runnable
from transform.sizes import count_option

_NO_MODULES: Modules = {}
_PREVIEW_CHUNK_BYTES = 64 << 10


class LineFunction(Runnable):
    """A `def calculation(json_obj)` that returns the object to write, or None to drop the line.

    Each line is decoded, passed to the function, and encoded again, so the spelling of numbers, white space and
    duplicate members are not kept. A line for which the function raises is rejected.

    Args:
        function: The function; it must be pure.
        origin: The text that it was made from, as its identity.
        modules: The modules beside its file, from which worker processes import.
        rows: What the rows of an input are.

    Example:
        >>> def calculation(json_obj):
        ...     json_obj["double"] = json_obj["stars"] * 2
        ...     return json_obj
        >>> LineFunction(calculation)
        LineFunction(calculation)
    """

    __slots__ = ("_function", "_modules", "_origin", "_rows")

    def __init__(
        self,
        function: Function,
        origin: tuple[bytes, ...] = (),
        modules: Modules = _NO_MODULES,
        rows: RowFormat = LINES,
    ) -> None:
        self._function = function
        self._origin = origin
        self._modules = modules
        self._rows = rows

    @property
    def digest(self) -> str:
        """Its identity: a SHA-256 over its text, or over the pickled function."""
        return digest((*(self._origin or (self._pickled(),)), *self._rows.digest_parts()))

    def _pickled(self) -> bytes:
        import cloudpickle  # noqa: PLC0415 - a function that is loaded from a file has its text

        try:
            pickled: bytes = cloudpickle.dumps(self._function)
        except Exception as error:  # whatever the function refers to
            found = " ".join(str(error).split())
            raise CalculationError(f"{self!r} cannot be pickled, nor what it refers to: {found:.200}") from error
        return pickled

    def __reduce__(self) -> tuple[object, ...]:
        """Return how to make an equal one, also of a function that only this process can import.

        Raises:
            CalculationError: The function cannot be pickled.
        """
        pickled = self._pickled()
        return _unpickled, (pickled, self._origin or (pickled,), self._modules, self._rows)

    def made_from(self, origin: tuple[bytes, ...]) -> "LineFunction":
        """Return the same with the text that it was made from, as its identity."""
        return LineFunction(self._function, origin, self._modules, self._rows)

    def with_modules(self, modules: Modules) -> "LineFunction":
        """Return the same with the modules beside its file, from which worker processes import."""
        return LineFunction(self._function, self._origin, {**modules, **self._modules}, self._rows)

    def changing_rows(self, change: Callable[[RowFormat], RowFormat]) -> "LineFunction":
        """Return the same for inputs with other rows; `change` gets what they are now."""
        return LineFunction(self._function, self._origin, self._modules, change(self._rows))

    def preview(self, source: Source, rows: int = 10, *, rejected: list[str] | None = None) -> pl.DataFrame:
        """Return the objects that the function returns for the first lines.

        Args:
            source: As for `run`.
            rows: The maximum number of objects.
            rejected: A list to which messages about rejected lines are added, of those that were read.

        Raises:
            TransformError: As `run` does.
        """
        rows = count_option("rows", rows, 0)
        found: list[Any] = []
        plan, seen = FunctionPlan(self._function), Summary()
        with open_source(source) as reader:
            for chunk in self._rows.expanded(self._rows.read(reader.read_into, _PREVIEW_CHUNK_BYTES)):
                result = plan.transform(chunk)
                seen.count(result)
                output = b"".join(result.output)
                found += [_decoded(line) for line in output.split(b"\n") if line]
                if len(found) >= rows:
                    break
        report_rejected(seen, rejected, in_lines=self._rows.in_lines)
        return _as_frame(found[:rows])

    @property
    def function(self) -> Function:
        """The function itself."""
        return self._function

    def spec_for(self, source: Source) -> "FunctionSpec":  # noqa: ARG002 - the same for every input
        """Return the spec of a run on an input."""
        return FunctionSpec(self._function, self._modules, self._rows)

    def __repr__(self) -> str:
        return f"LineFunction({getattr(self._function, '__name__', self._function)})"

    def _repr_html_(self) -> str:
        from transform import html  # noqa: PLC0415 - only notebooks need it

        name = getattr(self._function, "__name__", str(self._function))
        return html.render("LineFunction", html.Table([("function", html.Code(name)), ("runs", "line by line")]))


def _decoded(line: bytes) -> object:
    """Return the value of a line; lone surrogates, which polars cannot hold, become question marks."""
    try:
        return msgspec.json.decode(line)
    except msgspec.DecodeError:
        text = json.dumps(json.loads(line), ensure_ascii=False)
        return msgspec.json.decode(text.encode(errors="replace"))


def _shown(value: Any) -> Any:
    """Return a value as a frame can have it: integers beyond 128 bits become text."""
    if isinstance(value, dict):
        return {name: _shown(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_shown(one) for one in value]
    return str(value) if isinstance(value, int) and not -(2**127) <= value < 2**127 else value


def _as_frame(rows: list[Any]) -> pl.DataFrame:
    """Return objects as a frame, and as the JSON texts of their members if these have no common type."""
    try:
        return pl.DataFrame(_shown(rows), infer_schema_length=None, strict=False)
    except pl.exceptions.PolarsError:
        texts = [
            {name: json.dumps(value, ensure_ascii=False, separators=(",", ":")) for name, value in row.items()}
            for row in rows
        ]
        return pl.DataFrame(texts, infer_schema_length=None)


def _unpickled(
    pickled: bytes, origin: tuple[bytes, ...], modules: Modules = _NO_MODULES, rows: RowFormat = LINES
) -> LineFunction:
    import_missing_from(modules)
    return LineFunction(pickle.loads(pickled), origin, modules, rows)  # noqa: S301 - pickled by the class itself
