"""Several calculations, one for each prefix of the keys of inputs."""

import os
from collections.abc import Callable, Mapping

import polars as pl

from transform.decode.row_format import RowFormat
from transform.engine.module_sources import Modules
from transform.engine.run import Spec
from transform.engine.spec import digest
from transform.errors import CalculationError
from transform.io.s3 import is_uri
from transform.io.sources import Source
from transform.runnable import Runnable


class CalculationsByPrefix(Runnable):
    """Calculations by the prefix of the input's key; the longest prefix that matches is taken.

    The key of an S3 object is what its URI has after the bucket; of a local file it is the path as given.

    Args:
        calculations: By prefix; the empty prefix matches every key.

    Example:
        >>> import polars as pl
        >>> from transform import Calculation
        >>> several = CalculationsByPrefix({
        ...     "raw/reviews/": Calculation(stars=pl.col("stars") * 2),
        ...     "raw/users/": Calculation().drop("email"),
        ... })
        >>> several.of("s3://bucket/raw/users/2024.jsonl").results
        ()
    """

    __slots__ = ("_calculations",)

    def __init__(self, calculations: Mapping[str, Runnable]) -> None:
        self._calculations = dict(calculations)

    @property
    def digest(self) -> str:
        """The identity of all of them together; each calculation has its own digest as well."""
        return digest(f"{prefix}={found.digest}".encode() for prefix, found in sorted(self._calculations.items()))

    def made_from(self, origin: tuple[bytes, ...]) -> "CalculationsByPrefix":
        """Return the same with the text that they were made from, as their identity."""
        return CalculationsByPrefix({prefix: found.made_from(origin) for prefix, found in self._calculations.items()})

    def with_modules(self, modules: Modules) -> "CalculationsByPrefix":
        """Return the same with the modules beside their file, from which worker processes import."""
        return CalculationsByPrefix({prefix: one.with_modules(modules) for prefix, one in self._calculations.items()})

    def changing_rows(self, change: Callable[[RowFormat], RowFormat]) -> "CalculationsByPrefix":
        """Return the same for inputs with other rows; `change` gets what they are now, for each calculation."""
        return CalculationsByPrefix({prefix: one.changing_rows(change) for prefix, one in self._calculations.items()})

    def check_schema(self) -> None:
        """Raise if one of them declares a type for a column that nothing reads.

        Raises:
            SchemaError: There is such a column.
        """
        for calculation in self._calculations.values():
            calculation.check_schema()

    def of(self, source: Source) -> Runnable:
        """Return the calculation for an input.

        Raises:
            CalculationError: No prefix matches.
        """
        key = _key(source)
        prefixes = [prefix for prefix in self._calculations if key.startswith(prefix)]
        if not prefixes:
            known = ", ".join(f"`{prefix}`" for prefix in self._calculations) or "none"
            raise CalculationError(f"no calculation for the key `{key}`: it begins with none of the prefixes {known}")
        return self._calculations[max(prefixes, key=len)]

    def preview(self, source: Source, rows: int = 10, *, rejected: list[str] | None = None) -> pl.DataFrame:
        """Return the results of the first lines.

        Args:
            source: As for `run`.
            rows: The maximum number of lines.
            rejected: A list to which messages about rejected lines are added, of those that were read.
        """
        return self.of(source).preview(source, rows, rejected=rejected)

    def spec_for(self, source: Source) -> Spec:
        """Return the spec of a run on an input.

        Raises:
            CalculationError: No prefix matches, or there is nothing to do.
        """
        return self.of(source).spec_for(source)

    def __repr__(self) -> str:
        return "\n".join(f"{prefix!r}: {calculation!r}" for prefix, calculation in self._calculations.items())

    def _repr_html_(self) -> str:
        from transform import html  # noqa: PLC0415 - only notebooks need it

        rows = [(html.Code(repr(prefix)), html.Code(repr(found))) for prefix, found in self._calculations.items()]
        return html.render("CalculationsByPrefix", html.Table(rows, ("prefix", "calculation")))


def _key(source: Source) -> str:
    if not isinstance(source, str | os.PathLike):
        return str(getattr(source, "name", ""))
    place = os.fspath(source)
    return place.removeprefix("s3://").partition("/")[2] if is_uri(place) else place
