"""Pseudonyms that stay the same: SHA-256 and HMAC of values, which the kernel computes, and masks.

polars has no such functions. In an expression, a hash is a call that joins a mark and the value; see `hashes`.
"""

from __future__ import annotations

import hmac
import os
from typing import TYPE_CHECKING

import polars as pl

from transform.errors import CalculationError
from transform.terminal_text import has_lone_surrogate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KEY_VARIABLE = "HMAC_KEY"
"""The variable of the environment that has the key."""
MIN_KEY_CHARACTERS = 32
SHA256, HMAC_SHA256 = "sha256", "hmac_sha256"
MARK = "the hash of 8d1f4c0e-5b0f-4d0c-9a53-2f6f1e1b7a90"
_FINGERPRINT = b"transform: the fingerprint of a key"


def sha256(value: pl.Expr | str) -> pl.Expr:
    """Return the SHA-256 of text or of an integer, as 64 hexadecimal digits; null where the value is null.

    Anyone who can guess a value can find its hash, for example by trying all telephone numbers. `hmac_sha256`
    needs a key.

    Args:
        value: An expression, or the name of a column: of text, whose UTF-8 is hashed, or of integers, which are hashed
            as their decimal digits. Elements of lists, lists and objects cannot be hashed.

    Example:
        >>> import io
        >>> from transform import Calculation
        >>> Calculation(key=sha256("s").str.slice(0, 8)).preview(io.BytesIO(b'{"s":"abc"}')).to_dicts()
        [{'s': 'abc', 'key': 'ba7816bf'}]
    """
    return _marked(value, SHA256)


def hmac_sha256(value: pl.Expr | str) -> pl.Expr:
    """Return the HMAC with SHA-256 of text or of an integer, as `sha256` does, with the key in `HMAC_KEY`.

    The key is text of at least 32 characters in that variable of the environment; white space around it is ignored. It
    is read when a calculation is run, or its digest is asked for, which has a fingerprint of it.

    Args:
        value: As for `sha256`.

    Example:
        >>> from transform import Calculation
        >>> Calculation(user=hmac_sha256("user")).columns
        ('user',)
    """
    return _marked(value, HMAC_SHA256)


def mask(value: pl.Expr | str) -> pl.Expr:
    """Return text with its upper-case letters replaced by X, other letters by x, and digits by n.

    What is neither stays, and so does the number of characters: `Ada-42@example.org` becomes `Xxx-nn@xxxxxxx.xxx`.

    Args:
        value: An expression of text, or the name of a column.

    Example:
        >>> import io
        >>> from transform import Calculation
        >>> Calculation(s=mask("s")).preview(io.BytesIO(b'{"s":"Ada-42@example.org"}')).to_dicts()
        [{'s': 'Xxx-nn@xxxxxxx.xxx'}]
    """
    expr = _to_expression(value, "mask")
    for pattern, letter in ((r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", "x"), (r"[\p{Lu}\p{Lt}]", "X"), (r"\p{N}", "n")):
        expr = expr.str.replace_all(pattern, letter)
    return expr


def _marked(value: pl.Expr | str, kind: str) -> pl.Expr:
    return pl.concat_str([pl.lit(MARK), _to_expression(value, kind)], separator=kind)


def _to_expression(value: pl.Expr | str, function: str) -> pl.Expr:
    if isinstance(value, pl.Expr):
        return value
    if not isinstance(value, str) or has_lone_surrogate(value):
        raise CalculationError(f"{function} takes an expression or the name of a column, not {value!r:.80}")
    return pl.col(value)


def as_text(expr: pl.Expr) -> str:
    """Return an expression as messages show it, which is how polars does, except for hashes."""
    return str(expr).replace(f'"{MARK}".str.concat_horizontal', "hash")


def uses_key(exprs: Iterable[pl.Expr]) -> bool:
    """Return whether any of the expressions needs the key."""
    content = [expr.meta.serialize() for expr in exprs]
    return any(MARK.encode() in one and HMAC_SHA256.encode() in one for one in content)


def read_key(environ: Mapping[str, str] | None = None) -> bytes:
    """Return the key that a variable of the environment has.

    Args:
        environ: The environment; by default that of the process.

    Raises:
        CalculationError: There is no key, or it is too short; the message does not have it.
    """
    text = (os.environ if environ is None else environ).get(KEY_VARIABLE, "").strip()
    if not text:
        raise CalculationError(
            f"hmac_sha256 needs a key in the environment variable {KEY_VARIABLE}, of at least {MIN_KEY_CHARACTERS} "
            "characters, as `openssl rand -hex 32` makes one"
        )
    if len(text) < MIN_KEY_CHARACTERS:
        raise CalculationError(
            f"the key in the environment variable {KEY_VARIABLE} has {len(text)} characters, and needs at least "
            f"{MIN_KEY_CHARACTERS}: a shorter one can be guessed, and the values with it"
        )
    return os.fsencode(text)


def fingerprint(key: bytes) -> bytes:
    """Return what is the same for the same key only, and does not tell the key."""
    return hmac.digest(key, _FINGERPRINT, "sha256")
