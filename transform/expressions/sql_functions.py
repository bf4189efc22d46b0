"""The SQL functions that a calculation can call, and what to write instead of others that people know.

docs/semantics.md lists the functions with an example of each, and a test compares that list with this one. Whatever is
not in `FUNCTIONS` is refused, also if a newer version of polars has it: it may look at other lines, or at the clock.
"""

import difflib
import functools
import io
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from transform.expressions.pseudonyms import hmac_sha256, mask, sha256

_FUNCTIONS = """
        abs acos acosd array_contains array_get array_length array_reverse array_sum array_to_string array_unique asin
    asind     atan atan2 atan2d atand bit_and bit_count bit_length bit_not bit_or bit_xor bitand bitcount bitnot bitor
    bitxor cbrt     ceil ceiling char_length character_length coalesce concat concat_ws cos cosd cot cotd date date_part
    datetime day     dayofmonth dayofweek dayofyear degrees div ends_with erf exp floor generate_series greatest
    hmac_sha256 hour if ifnull initcap     least left length ln log10 log1p log2 lower lpad ltrim mask minute mod month
    normalize nullif octet_length pi pow power     quarter radians range regexp_like regexp_replace replace reverse
    right round rpad rtrim second sha256 sign sin sind     source split_part sqrt starts_with strftime string_to_array
    strpos strptime substr tan tand time timestamp trunc     truncate upper week xor year
"""
FUNCTIONS = frozenset(_FUNCTIONS.split())
"""The functions that are row-wise and deterministic, as they are called: `name(…)`."""

_SYNTAX = """
    and any array as between by case cast else exists extract from ilike in is like not on or position regexp rlike
    safe_cast similar some substring then to trim try_cast using values when xor all interval struct
"""
SYNTAX = frozenset(_SYNTAX.split())
"""Words that can come before a parenthesis and are not functions by themselves."""

_AGGREGATES = """
    any_value approx_count_distinct approx_quantile arbitrary arg_max arg_min array_agg avg bool_and bool_or corr count
    count_if covar covar_pop covar_samp every first first_value group_concat histogram last last_value list listagg max
    max_by mean median min min_by mode product quantile quantile_cont quantile_disc skewness kurtosis std stddev
    stddev_pop stddev_samp stdev stdev_samp string_agg sum total unique_count var var_pop var_samp variance
"""
AGGREGATES = frozenset(_AGGREGATES.split())
WINDOWS = {"cume_dist", "dense_rank", "lag", "lead", "nth_value", "ntile", "percent_rank", "rank", "row_number"}
_ACROSS_COLUMNS = {"max": "GREATEST(a, b)", "min": "LEAST(a, b)", "sum": "a + b", "avg": "(a + b) / 2"}
RULE = "A line's result may depend on that line only: compute totals and the like beforehand, give them as literals."

_HASH = (
    "write `SHA256(s)`, or `HMAC_SHA256(s)` with a key; or call hashlib in a Python function: .map_elements(…, "
    "return_dtype=pl.String) and .assume_pure()"
)
_RANDOM = "results would differ from run to run: compute such values beforehand, or derive them from a member"
_PYTHON_DATE = "in Python, {} does that"
_JSON = "members are read by their path, as in `o.x`, and elements by their place, as in `l[1]`"
_CLOCK = (
    "the output would depend on when it ran; give the time as a literal, such as TIMESTAMP '2026-01-31 12:00:00' or "
    "DATE '2026-01-31'"
)
_SQL_TEXT_TO_DATE = "write `DATE(x, '%Y-%m-%d')` or `TIMESTAMP(x, '%Y-%m-%d %H:%M:%S')`"
_SECONDS_TO_TIME = (
    "seconds since 1970 are `TIMESTAMP '1970-01-01' + INTERVAL '1 second' * {0}`, in Python "
    '`pl.from_epoch(pl.col("{0}"), time_unit="s")`; for milliseconds write `INTERVAL \'1 millisecond\'` or '
    "`time_unit=\"ms\"`. Text is read with `TIMESTAMP(x, '%Y-%m-%d %H:%M:%S')`"
)
_LIST = "in Python, {} does that"

_INSTEAD: tuple[tuple[str, str], ...] = (
    ("md5 sha sha1 sha2 sha224 sha512 hash crc32 xxhash farm_fingerprint murmur_hash", _HASH),
    ("random rand randn randint uuid gen_random_uuid newid setseed nextval", _RANDOM),
    (
        "today getdate getutcdate sysdate sysdatetime systimestamp curdate curtime utc_timestamp utc_date utc_time",
        _CLOCK,
    ),
    ("now current_date current_time current_timestamp localtime localtimestamp unix_timestamp clock_timestamp", _CLOCK),
    ("statement_timestamp transaction_timestamp timeofday get_current_timestamp", _CLOCK),
    ("date_trunc datetrunc time_bucket", _PYTHON_DATE.format(".dt.truncate('1d')") + "; a date is `CAST(t AS DATE)`"),
    ("date_add dateadd adddate date_sub subdate", "write `t + INTERVAL '1 day'` or `t - INTERVAL '2 hours'`"),
    (
        "date_diff datediff timestampdiff datesub age",
        "write `a - b`, which is a duration; " + _PYTHON_DATE.format("(a - b).dt.total_days()"),
    ),
    ("to_date str_to_date parse_date try_strptime", _SQL_TEXT_TO_DATE),
    ("parse_timestamp parse_datetime make_date datefromparts", _SQL_TEXT_TO_DATE),
    ("to_timestamp make_timestamp from_unixtime from_epoch make_epoch", _SECONDS_TO_TIME),
    ("date_format to_char format_date format_timestamp", "write `STRFTIME(t, '%Y-%m-%d')`"),
    ("epoch epoch_ms epoch_us to_unixtime to_epoch", _PYTHON_DATE.format(".dt.timestamp('ms')")),
    ("monthname dayname last_day", "write STRFTIME(t, '%B') or STRFTIME(t, '%A'), or " + _PYTHON_DATE.format(".dt.…")),
    (
        "isodow dow weekday weekofyear yearweek isoyear millisecond microsecond decade century doy",
        "write `DATE_PART('isodow', t)`; name other parts in the same way",
    ),
    ("nvl isnull zeroifnull", "write `COALESCE(a, b)`, or `a IS NULL`"),
    ("nvl2 decode choose", "write `CASE WHEN a IS NOT NULL THEN b ELSE c END`"),
    ("iff iif", "write `IF(condition, a, b)`"),
    ("len strlen text_length char_len", "write `LENGTH(s)`, of a list `ARRAY_LENGTH(l)`"),
    ("ucase to_uppercase", "write `UPPER(s)`"),
    ("lcase to_lowercase", "write `LOWER(s)`"),
    ("instr locate charindex index_of find", "write `STRPOS(s, 'part')`"),
    (
        "contains str_contains includes",
        "write `s LIKE '%part%'`, or `STRPOS(s, part) > 0`; of a list `ARRAY_CONTAINS(l, 1)`",
    ),
    ("startswith prefix", "write `STARTS_WITH(s, 'part')`"),
    ("endswith suffix", "write `ENDS_WITH(s, 'part')`"),
    ("regexp_matches regexp_full_match regexp_instr regexp_count", "write `REGEXP_LIKE(s, 'pattern')`"),
    ("regexp_extract regexp_substr regexp_extract_all", "in Python, .str.extract(r'…', 1) does that"),
    ("split str_split string_split regexp_split_to_array", "write `STRING_TO_ARRAY(s, ',')`"),
    ("array_mean array_avg list_avg", "in Python, .list.agg(pl.element().mean()) does that"),
    ("array_lower array_min list_min", _LIST.format(".list.min()")),
    ("array_upper array_max list_max", _LIST.format(".list.max()")),
    ("list_sum", "write `ARRAY_SUM(l)`"),
    ("array_size cardinality list_length array_count list_count", "write `ARRAY_LENGTH(l)`"),
    ("list_contains list_has array_has array_position", "write `ARRAY_CONTAINS(l, 1)`"),
    ("list_extract list_element array_extract element_at", "write `l[1]`"),
    ("list_distinct array_distinct", "write `ARRAY_UNIQUE(l)`"),
    ("list_reverse", "write `ARRAY_REVERSE(l)`"),
    (
        "list_aggregate list_transform list_filter array_transform array_filter transform filter list_sort array_sort "
        "list_slice array_slice array_concat list_concat flatten array_append array_prepend list_zip reduce",
        _LIST.format(".list.eval(…), .list.filter(…), .list.agg(…), .list.sort() or .list.slice(…)"),
    ),
    ("list_value array_value array_construct", "in Python, pl.concat_list('a', 'b') does that"),
    (
        "struct_pack row struct named_struct object_construct json_object to_json json_build_object map",
        "in Python, pl.struct('a', 'b') does that",
    ),
    (
        "json_extract json_extract_string json_value json_query get_json_object json_extract_path json "
        "json_array_length struct_extract map_get",
        _JSON,
    ),
    (
        "convert try_convert to_number to_varchar to_string str int bigint float double varchar boolean",
        "write `CAST(a AS BIGINT)`, `CAST(a AS DOUBLE)` or `CAST(a AS VARCHAR)`",
    ),
    (
        "unnest explode columns generate_subscripts posexplode",
        "a line stays one line: write a line for each element beforehand",
    ),
    (
        "log",
        "LOG has its base first in some dialects and second in others: write `LN(x)`, `LOG10(x)`, `LOG2(x)`, or "
        "`LN(x) / LN(base)`",
    ),
    ("square", "write `POWER(x, 2)`"),
    ("sinh cosh tanh asinh acosh atanh gamma lgamma factorial", "in Python, .sinh(), .cosh(), .tanh() do that"),
    ("isnan is_nan isfinite isinf", "in Python, .is_nan() and .is_finite() do that"),
    ("typeof pg_typeof", "a column has one type: `transform schema` shows it"),
    (
        "repeat ascii chr char ord unicode translate soundex levenshtein format printf to_hex hex unhex to_base64 "
        "from_base64 base64 encode url_encode concat_list damerau_levenshtein jaccard strip_accents",
        "write it in Python, with the methods of pl.col('s').str, or .map_elements(…) and .assume_pure()",
    ),
    ("array_dot_product array_inner_product list_dot_product", "in Python, .list.agg(…) of the products does that"),
    ("try", "write `TRY_CAST(a AS BIGINT)` for a conversion that may fail"),
    ("overlay insert stuff", "write `CONCAT(LEFT(s, 2), 'new', SUBSTR(s, 5))`"),
    ("width_bucket", "write `FLOOR((x - low) / width)`"),
    ("like", "write `s LIKE 'a%'`"),
)
ADVISED = [name for names, _ in _INSTEAD for name in names.split()]
"""The functions for which something else is advised, each once."""
_ADVICE = {name: advice for names, advice in _INSTEAD for name in names.split()}


def objection(name: str, argument: str = "x") -> str | None:
    """Return why a function is refused, and what to write instead; None for one that is taken.

    Args:
        name: The name as the text has it, in any case of letters.
        argument: What it is called with, if that is a name.

    Example:
        >>> objection("LOWER")
        >>> objection("md5").split(":")[0]
        'there is no function `md5`'
    """
    known = name.lower()
    if known in FUNCTIONS:
        return None
    if known in WINDOWS:
        return f"is not row-wise: `{name}` looks at other rows. {RULE}"
    if known in AGGREGATES:
        across = _ACROSS_COLUMNS.get(known)
        hint = f" Of several members of one line it is `{across}`." if across else ""
        return f"is not row-wise: `{name}` is an aggregate of a whole column. {RULE}{hint}"
    if known in _ADVICE:
        return f"there is no function `{name}`: {_ADVICE[known].replace('{0}', argument)}"
    near = difflib.get_close_matches(known, FUNCTIONS, n=3, cutoff=0.7)
    if near:
        return f"there is no function `{name}`: did you mean {' or '.join(f'`{found.upper()}`' for found in near)}?"
    return (
        f"there is no function `{name}`. docs/semantics.md lists the functions; anything else can be written in Python"
    )


# --- calls that polars evaluates in another way than SQL does ---------------------------------------------------------

_LONGEST = 2**31 - 1
"""A number of characters that no text has."""


def call(name: str, given: Sequence[Any]) -> Any:
    """Return the call of a function as SQL has it: null where an argument is null."""
    if _NULL in (given[:1] if name == "STRING_TO_ARRAY" else given):
        return _NULL
    if name.startswith("BIT"):
        return operation(given[0], "And" if name.endswith("AND") else "Or", given[1])
    if name == "POSITION":
        given = given[::-1]
    text, *rest = (expression_of(part) for part in given)
    if name in _CALLS:
        return tree_of(_CALLS[name](text, *rest))
    numbers = [constant(part) for part in given[1:]]
    known = [part if number is None else number for part, number in zip(rest, numbers, strict=True)]
    if name in ("STRPOS", "POSITION"):
        made = _position(text, rest[0])
    elif name in ("SUBSTR", "SUBSTRING"):
        start = known[0] - 1
        skipped = _length(start)
        made = text.str.slice(skipped, _length(start + known[1] - skipped) if known[1:] else None)
    elif name == "LEFT":
        made = text.str.slice(0, _length(_choice(known[0] < 0, _characters(text) + known[0], known[0])))
    else:
        made = text.str.slice(_length(_choice(known[0] < 0, 0 - known[0], _characters(text) - known[0])))
    if all(number is not None for number in numbers) and numbers[-1] != 0:
        return tree_of(made)  # null only where the text is
    return tree_of(_if_present(made, text, *rest))


def _if_present(made: pl.Expr, *given: pl.Expr) -> pl.Expr:
    """Return an expression, but null where one of some others is."""
    present = [part.is_not_null() for part in given if "Literal" not in tree_of(part)]
    return pl.when(functools.reduce(operator.and_, present)).then(made) if present else made


def padded(text: Any, count: Any, function: Any) -> Any:
    """Return LPAD or RPAD of a text, which is empty for a negative length."""
    found, wanted = expression_of(text), expression_of(count)
    width = tree_of(_length(wanted))
    made = {"Function": {"input": [text, width], "function": function}}
    return tree_of(_if_present(expression_of(made).str.slice(0, expression_of(width)), found, wanted))


def _pieces(text: pl.Expr, by: pl.Expr) -> pl.Expr:
    """Return the pieces of a text; polars adds empty ones for an empty separator in a column."""
    if "Literal" in tree_of(by):
        return text.str.split(by)
    return pl.when(by == "").then(text.str.split("")).otherwise(text.str.split(by))


def _replaced(text: pl.Expr, old: pl.Expr, new: pl.Expr) -> pl.Expr:
    if new.meta.root_names() and not text.meta.root_names():
        text = pl.concat_str(text, pl.when(new.is_not_null()).then(pl.lit("")))  # polars takes no constant here
    # Null where the text is. With the text in the condition, each REPLACE around another would double its length.
    return _if_present(text.str.replace_all(old, new, literal=True), old, new)


def _split_part(text: pl.Expr, by: pl.Expr, number: pl.Expr) -> pl.Expr:
    place = pl.when(number > 0).then(number - 1).when(number < 0).then(number).cast(pl.Int64)
    return _if_present(_pieces(text, by).list.get(place, null_on_oob=True).fill_null(""), text, by, number)


def _split(text: pl.Expr, by: pl.Expr) -> pl.Expr:
    whole = pl.when(by.is_null() | (text == "")).then(pl.concat_list(text)).otherwise(_pieces(text, by))
    return _if_present(whole, text)


def _joined(values: pl.Expr, by: pl.Expr) -> pl.Expr:
    made = values.cast(pl.List(pl.String), strict=False).list.join(by)
    return pl.when((values.list.len() == 0) | _has_values(values)).then(made)


def _has_values(values: pl.Expr) -> pl.Expr:
    return values.list.drop_nulls().list.len() > 0


_CALLS: Mapping[str, Callable[..., pl.Expr]] = {
    "REPLACE": _replaced,
    "SPLIT_PART": _split_part,
    "STRING_TO_ARRAY": _split,
    "ARRAY_CONTAINS": lambda values, value: _if_present(values.list.contains(value), value),
    "ARRAY_SUM": lambda values: pl.when(_has_values(values)).then(values.list.sum()),
    "ARRAY_TO_STRING": _joined,
    "SHA256": sha256,
    "HMAC_SHA256": hmac_sha256,
    "MASK": mask,
}
_NULL = {"Literal": {"Scalar": {"Null": "Null"}}}


def constant(tree: Any) -> int | None:
    """Return the integer that a tree is as a literal."""
    match tree:
        case {"Literal": {"Dyn": {"Int": bytes(value)}}}:  # 128 bits
            return int.from_bytes(value, "big", signed=True)
    return None


def _characters(text: pl.Expr) -> pl.Expr:
    return text.str.len_chars().cast(pl.Int64)


def _choice(condition: Any, one: Any, other: Any) -> Any:
    return (
        (one if condition else other) if isinstance(condition, bool) else pl.when(condition).then(one).otherwise(other)
    )


def _length(count: Any) -> Any:
    """Return a number of characters, 0 if it is negative."""
    return count.cast(pl.Int128).clip(0, _LONGEST) if isinstance(count, pl.Expr) else min(max(count, 0), _LONGEST)


def _position(text: pl.Expr, part: pl.Expr) -> pl.Expr:
    """Return the place of a part in a text, in characters from 1, and 0 if it is not there."""
    before = text.cast(pl.Binary).bin.slice(0, text.str.find(part, literal=True)).cast(pl.String)
    return pl.when(text.str.contains(part, literal=True)).then(_characters(before) + 1).otherwise(0)


def expression_of(tree: Any) -> pl.Expr:
    """Return the expression of a tree."""
    import msgspec  # noqa: PLC0415 - a calculation of members as they are is defined without it

    # polars refuses JSON that is nested more than 128 levels deep
    return pl.Expr.deserialize(io.BytesIO(msgspec.msgpack.encode(tree)), format="binary")


def tree_of(expr: pl.Expr) -> Any:
    """Return the tree of an expression."""
    import msgspec  # noqa: PLC0415 - as above, only when needed

    return msgspec.msgpack.decode(expr.meta.serialize())


def operation(left: Any, op: str, right: Any) -> Any:
    """Return the tree of an operator of two trees."""
    return {"BinaryExpr": {"left": left, "op": op, "right": right}}
