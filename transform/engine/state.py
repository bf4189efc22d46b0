"""How far a run has come: all it takes to resume it, in another process and on another day; and starting it again."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import polars as pl

from transform.decode.schema import Column, read_type
from transform.engine.summary import Summary
from transform.errors import SchemaError, WidenError
from transform.io.sources import Position, Source, reopenable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class State:
    """How far a run has come.

    Attributes:
        summary: What was done so far; `bytes_in` is where the run is to be resumed.
        widened: The types of the columns whose inferred type turned out too narrow.
        codec: The name of the compression of the input, None for none.

    Example:
        >>> State.from_dict(State().to_dict()) == State()
        True
    """

    summary: Summary = field(default_factory=Summary)
    widened: Mapping[str, pl.DataType] = field(default_factory=dict)
    codec: str | None = None

    @property
    def position(self) -> Position | None:
        """Where to go on reading, None for the start of the input."""
        return Position(self.summary.bytes_in, self.codec) if self.summary.bytes_in else None

    @property
    def columns(self) -> dict[str, Column] | None:
        """The columns read with their types, None if they are still to be inferred."""
        if self.position is None:
            return None
        schema = self.summary.schema
        return {
            name: Column(read_type(dtype), inferred=origin == "inferred") for name, (dtype, origin) in schema.items()
        }

    def restarted(self, name: str, dtype: Any) -> "State":
        """Return the state of the run started again, with a wider type for a column."""
        return State(widened={**self.widened, name: dtype})

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain data, for JSON."""
        widened = {name: str(dtype) for name, dtype in self.widened.items()}
        return {"summary": self.summary.to_dict(), "widened": widened, "codec": self.codec}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Return the state that `to_dict` has made plain data of.

        Raises:
            ValueError, KeyError, TypeError: The data is something else, or has an unknown type.
        """
        widened = {name: read_type(text) for name, text in plain["widened"].items()}
        state = cls(Summary.from_dict(plain["summary"]), widened, plain["codec"])
        _ = state.columns  # raises here, rather than later, if a type is unknown
        return state


def retry_widened(source: Source, attempt: Callable[[State], T]) -> T:
    """Return the result of the first attempt that needs no wider type for a column.

    A column inferred as integer may turn out to hold floats. The run then starts again, with the same result as if the
    sample had shown a float.

    Args:
        source: The input that the attempts read.
        attempt: Is called with the state to start from, once and again for each column that needs a wider type.

    Raises:
        SchemaError: It would have to start again, but the source cannot be read again.
    """
    state = State()
    while True:
        try:
            return attempt(state)
        except WidenError as error:
            if not reopenable(source):
                raise cannot_restart(error, "the input is a pipe") from None
            state = state.restarted(error.name, error.dtype)


def cannot_restart(error: WidenError, why: str) -> SchemaError:
    """Return the error for a run that would have to start again, and cannot: it says what to declare."""
    return SchemaError(
        f"{error}. The run cannot start again with that in mind, as {why}: declare the type, for example with "
        f"--schema {shlex.quote(f'{error.name}={error.dtype}')} or .with_schema({{{error.name!r}: pl.{error.dtype}}})"
    )
