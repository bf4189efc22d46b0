"""The calculation that the settings name."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from transform import Calculation, CalculationsByPrefix, load

if TYPE_CHECKING:
    from runner.settings import Settings
    from transform import Runnable


def load_calculation(settings: Settings) -> Runnable:
    """Return the calculation, from a file or module, or from SQL text.

    Raises:
        TransformError: There is none, or it is wrong.
    """
    if settings.is_reference:
        return load(settings.calculation)
    calculation = Calculation.from_sql(settings.calculation, settings.where).drop(*settings.drop)
    calculation = calculation.select(*settings.select) if settings.select else calculation
    return calculation.with_schema(settings.schema_)


def digest_of(calculation: Runnable, settings: Settings, uri: str) -> str:
    """Return what distinguishes the outputs for an object from those of another deployment.

    Raises:
        CalculationError: There is no calculation for the object.
    """
    one = calculation.of(uri) if isinstance(calculation, CalculationsByPrefix) else calculation
    return hashlib.sha256(f"{one.digest} {settings.max_line_bytes}".encode()).hexdigest()
