"""Pseudonyms are the hashes that everybody computes, the same on every line, and nobody learns the key."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import pickle
import unicodedata
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.transform.native.test_hashes import HMAC_SHA256, SHA256
from transform import (
    Calculation,
    CalculationError,
    CalculationsByPrefix,
    TransformError,
    hmac_sha256,
    load,
    mask,
    sha256,
)
from transform.expressions.pseudonyms import KEY_VARIABLE, fingerprint, read_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY, OTHER = "0123456789abcdef" * 2, "é" * 40


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, f" {KEY}\n")


def rows(lines: list[dict[str, Any]], calculation: Calculation, **options: Any) -> list[dict[str, Any]]:
    output = io.BytesIO()
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    calculation.run(io.BytesIO(content), output, **options)
    return [json.loads(line) for line in output.getvalue().splitlines()]


def sha(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


def code(text: str | None, key: str = KEY) -> str | None:
    return None if text is None else hmac.new(key.encode(), text.encode(), "sha256").hexdigest()


def masked(text: str | None) -> str | None:
    if text is None:
        return None
    letters = {"Lu": "X", "Lt": "X", "Ll": "x", "Lm": "x", "Lo": "x", "M": "x", "N": "n"}
    kinds = [unicodedata.category(character) for character in text]
    return "".join(letters.get(kind, letters.get(kind[0], c)) for c, kind in zip(text, kinds, strict=True))


def test_published_hashes_of_columns() -> None:
    lines = [{"s": text.decode()} for text in SHA256]
    assert [row["h"] for row in rows(lines, Calculation.from_sql("SHA256(s) AS h"))] == list(SHA256.values())


def test_published_codes_of_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    key, text, published = HMAC_SHA256[4]
    monkeypatch.setenv(KEY_VARIABLE, os.fsdecode(key))
    assert rows([{"s": text.decode()}], Calculation(h=hmac_sha256("s")))[0]["h"] == published


TEXTS = st.none() | st.text(st.sampled_from('abzXÉß 中ǅʰ́½٣7-.@\n"\U0001f600'), max_size=150)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.tuples(TEXTS, st.none() | st.integers(-(2**127), 2**127 - 1)), min_size=1, max_size=20),
    options=st.fixed_dictionaries({"chunk_bytes": st.integers(1, 300), "workers": st.integers(1, 3)}),
)
def test_they_are_those_of_python_however_the_input_is_cut(
    values: list[tuple[str | None, int | None]], options: dict[str, int]
) -> None:
    calculation = Calculation(
        a=sha256("s"), b=hmac_sha256(pl.col("s") + "!"), c=hmac_sha256(sha256("i")), m=mask("s")
    ).with_schema({"s": "String", "i": "Int128"})
    expected = [
        {
            "a": sha(s),
            "b": code(None if s is None else f"{s}!"),
            "c": code(sha(None if i is None else str(i))),
            "m": masked(s),
        }
        for s, i in values
    ]
    assert rows([{"s": s, "i": i} for s, i in values], calculation.select(), **options) == expected


def test_sql_filters_and_rules_have_them() -> None:
    calculation = Calculation.from_sql(
        "UPPER(SHA256(s)) AS a, LEFT(HMAC_SHA256(o.k), 8) AS b, IF(SHA256(s) = SHA256('y'), 1, 2) AS c, "
        "sha256(i + 1) || MASK('Ab1') AS d",
        where=f"HMAC_SHA256(s) <> '{code('z')}'",
        reject=f"SHA256(s) = '{sha('w')}': w",
    ).select()
    lines = [{"s": s, "o": {"k": "k"}, "i": 7} for s in "wxyz"]
    assert rows(lines, calculation) == [
        {"a": str(sha(s)).upper(), "b": str(code("k"))[:8], "c": c, "d": f"{sha('8')}Xxn"}
        for s, c in (("x", 2), ("y", 1))
    ]
    assert calculation.preview(io.BytesIO(b'{"s":"x","o":{"k":"k"},"i":1}')).height == 1


def test_columns_of_any_name_are_left_alone() -> None:
    lines = [{"sha256": "a", "sha256'": "b", "hmac_sha256": "c"}]
    calculation = Calculation(
        x=pl.concat_str(pl.col("sha256"), sha256("sha256'"), hmac_sha256("hmac_sha256"), "sha256'")
    )
    assert rows(lines, calculation.select()) == [{"x": f"a{sha('b')}{code('c')}b"}]


def test_a_line_on_which_the_value_fails_is_rejected_alone() -> None:
    calculation = Calculation(h=sha256(pl.col("s").cast(pl.Int64)), o=sha256(pl.col("i") * 4)).with_schema(
        {"s": "String", "i": "Int128"}
    )
    lines = [{"s": "1", "i": 1}, {"s": "x", "i": 1}, {"s": "2", "i": 2**126}, {"s": "3", "i": 3}]
    assert [row["h"] for row in rows(lines, calculation.select())] == [sha("1"), sha("3")]


def test_the_digest_has_the_key_and_does_not_tell_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "c.py"
    file.write_text("from transform import Calculation, hmac_sha256\ncalculation = Calculation(u=hmac_sha256('u'))\n")
    keyed = Calculation.from_sql("HMAC_SHA256(u) AS u")
    made = {
        "sql": keyed,
        "file": load(file),
        "filter": Calculation().filter(hmac_sha256("u") > "8"),
        "rule": Calculation().reject(hmac_sha256("u") > "8"),
        "prefixes": CalculationsByPrefix({"": keyed}),
    }
    before = {name: calculation.digest for name, calculation in made.items()}
    plain = Calculation.from_sql("SHA256(u) AS u").digest
    monkeypatch.setenv(KEY_VARIABLE, OTHER)
    for name, calculation in made.items():
        assert calculation.digest != before[name], name
    assert Calculation.from_sql("SHA256(u) AS u").digest == plain
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    assert {name: calculation.digest for name, calculation in made.items()} == before
    assert fingerprint(KEY.encode()) != fingerprint(OTHER.encode())
    for calculation in made.values():
        for shown in (pickle.dumps(calculation), repr(calculation).encode(), calculation.digest.encode()):
            assert KEY.encode() not in shown
            assert KEY.encode().hex().encode() not in shown
    spec = keyed.with_schema({"u": "String"}).spec_for("")
    plan = spec.declared_plan()
    assert KEY.encode() not in pickle.dumps(plan)
    assert KEY not in repr(vars(plan))


def test_worker_processes_have_the_key(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(f'{{"s":"{number}"}}\n' for number in range(300)))
    upper = pl.col("s").map_elements(lambda text: f"{text}!".upper(), return_dtype=pl.String)
    calculation = Calculation(h=hmac_sha256(upper)).assume_pure().select()
    calculation.run(source, target, workers=2, range_bytes=500, chunk_bytes=200)
    found = [json.loads(line)["h"] for line in target.read_text().splitlines()]
    assert found == [code(f"{number}!") for number in range(300)]


@pytest.mark.parametrize(
    ("given", "message"), [(None, "needs a key"), (" \n", "needs a key"), ("short " * 4, "has 23 characters")]
)
def test_a_key_that_is_missing_or_short_is_an_error(
    monkeypatch: pytest.MonkeyPatch, given: str | None, message: str
) -> None:
    monkeypatch.delenv(KEY_VARIABLE) if given is None else monkeypatch.setenv(KEY_VARIABLE, given)
    keyed = Calculation.from_sql("HMAC_SHA256(s) AS h")
    for use in (lambda: keyed.digest, lambda: keyed.preview(io.BytesIO(b'{"s":"x"}'))):
        with pytest.raises(CalculationError, match=message) as caught:
            use()
        assert "short" not in str(caught.value).replace("a shorter one", "")
    assert rows([{"s": "x"}], Calculation.from_sql("SHA256(s) AS h"))[0]["h"] == sha("x")


def test_a_key_may_have_any_characters() -> None:
    assert read_key({KEY_VARIABLE: f"\t{OTHER} "}) == OTHER.encode()


@pytest.mark.parametrize(
    ("text", "value"),
    [("SHA256(v) AS h", 1.5), ("SHA256(v) AS h", [1]), ("HMAC_SHA256(v) AS h", {"a": 1}), ("SHA256(v) AS h", True)],
)
def test_what_cannot_be_hashed_is_refused(text: str, value: object) -> None:
    with pytest.raises(CalculationError, match="takes text or integers"):
        rows([{"v": value}], Calculation.from_sql(text))


def test_elements_of_lists_are_refused() -> None:
    with pytest.raises(CalculationError, match="elements of lists cannot be hashed"):
        rows([{"v": ["a"]}], Calculation(h=pl.col("v").list.eval(sha256(pl.element()))))


@pytest.mark.parametrize("function", [sha256, hmac_sha256, mask])
@pytest.mark.parametrize("value", [3, None, True, b"s", ["s"], pl.Series(["s"]), "\ud83d"])
def test_they_take_an_expression_or_a_name(function: Callable[[Any], pl.Expr], value: Any) -> None:
    with pytest.raises(CalculationError, match=f"{function.__name__} takes an expression or the name of a column"):
        function(value)


@pytest.mark.parametrize("text", ["SHA256(s)", "HMAC_SHA256(s)", "MASK(s)"])
def test_a_result_needs_a_name(text: str) -> None:
    with pytest.raises(CalculationError, match="needs a name"):
        Calculation.from_sql(text)


def test_no_message_shows_how_a_hash_is_marked() -> None:
    calculation = Calculation(h=sha256("s")).filter(hmac_sha256("s") != "").reject(sha256("s") == "")
    shown = [str(calculation), calculation._repr_html_()]
    for make in (
        lambda: Calculation(sha256("s")),
        lambda: Calculation(h=sha256(pl.all())),
        lambda: rows([{"s": ["a"]}], Calculation(h=pl.col("s").list.eval(sha256(pl.element())))),
        lambda: rows([{"s": "a"}], Calculation(h=1).filter(sha256("s"))),
        lambda: rows([{"s": "a"}], Calculation(h=1).reject(sha256("s") != "")),
    ):
        with pytest.raises(TransformError) as caught:
            make()
        shown.append(str(caught.value))
    for text in shown:
        assert ("the hash of" in text, "concat" in text, "hash([" in text) == (False, False, True), text


def test_null_is_null() -> None:
    assert rows(
        [{"s": None}], Calculation.from_sql("SHA256(s) AS a, SHA256(NULL) AS b").with_schema({"s": "String"})
    ) == [{"s": None, "a": None, "b": None}]


def test_another_key_is_used_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    calculation = Calculation.from_sql("hmac_sha256(a) AS h")
    found = []
    for key in ("k" * 32, "l" * 32, "k" * 32):
        monkeypatch.setenv("HMAC_KEY", key)
        made = calculation.preview(io.BytesIO(b'{"a":"x"}'))["h"].item()
        assert made == hmac.new(key.encode(), b"x", "sha256").hexdigest()
        found.append((calculation.digest, made))
    assert found[0] == found[2] != found[1]
