"""How far a run has come: all it takes to go on from there, in another process and on another day."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import polars as pl

from transform.decode.schema import Column, read_type
from transform.engine.summary import Summary
from transform.io.sources import Position


@dataclass(frozen=True, slots=True)
class State:
    """How far a run has come.

    Attributes:
        summary: What was done so far; `bytes_in` is where to go on.
        widened: The types of columns that turned out to need another than was inferred.
        codec: The name of the format that the input is compressed in, None where it is not.

    Example:
        >>> State.from_dict(State().to_dict()) == State()
        True
    """

    summary: Summary = field(default_factory=Summary)
    widened: Mapping[str, pl.DataType] = field(default_factory=dict)
    codec: str | None = None

    @property
    def position(self) -> Position | None:
        """Where to go on reading, None for the input's start."""
        return Position(self.summary.bytes_in, self.codec) if self.summary.bytes_in else None

    @property
    def columns(self) -> dict[str, Column] | None:
        """The columns read with their types, None where they are still to be settled."""
        if self.position is None:
            return None
        schema = self.summary.schema
        return {
            name: Column(read_type(dtype), inferred=origin == "inferred") for name, (dtype, origin) in schema.items()
        }

    def restarted(self, name: str, dtype: Any) -> "State":
        """Return the state of a run that starts again, with a wider type for a column."""
        return State(widened={**self.widened, name: dtype})

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, for JSON."""
        widened = {name: str(dtype) for name, dtype in self.widened.items()}
        return {"summary": self.summary.to_dict(), "widened": widened, "codec": self.codec}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Return what `to_dict` has made plain data of.

        Raises:
            ValueError, KeyError, TypeError: It is something else, or has a type that cannot be read again.
        """
        widened = {name: read_type(text) for name, text in plain["widened"].items()}
        state = cls(Summary.from_dict(plain["summary"]), widened, plain["codec"])
        _ = state.columns  # which raises now rather than later
        return state
