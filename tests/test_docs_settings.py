"""docs/settings.md and docs/parameters.md are what the settings and the templates say of themselves."""

from __future__ import annotations

import re

import pytest

from runner.errors import SettingsError
from runner.setting_texts import names_of
from runner.settings import Settings
from tests import parameters_page
from tests.cfn.templates import KINDS, load
from tests.conftest import ROOT
from tests.settings_page import GROUPS, PAGE, page


def test_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.settings_page"


def test_page_of_parameters_is_what_the_templates_say() -> None:
    written = parameters_page.PAGE.read_text()
    assert written == parameters_page.page(), "run python -m tests.parameters_page"
    named = set(re.findall(r"^\| `(p\w+)` \|", written, re.MULTILINE))
    assert named == {name for kind in KINDS for name in load(kind)["Parameters"]}


def test_page_names_each_setting_once_and_nothing_else() -> None:
    known = {name for field in Settings.model_fields.values() for name in names_of(field)}
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    first = [row.split("`")[1] for row in rows]
    also = [name for row in rows for name in re.findall(r"`(\w+)`", row.rpartition(" | ")[2])]
    assert len(first) == len(Settings.model_fields)
    assert sorted(first + also) == sorted(known)
    assert Settings.model_fields.keys() >= GROUPS.keys()


@pytest.mark.parametrize("older", ["s3InputBucket", "s3OutputBucket", "SQSBatchQueue", "AWS_DEFAULT_REGION"])
def test_older_names_are_still_read(older: str) -> None:
    names = next(names for field in Settings.model_fields.values() if older in (names := names_of(field)))
    given = {"S3_INPUT_BUCKET": "in-bucket", "S3_OUTPUT_BUCKET": "out-bucket", "SQS_BATCH_QUEUE": "jobs"}
    given = {name: text for name, text in given.items() if name not in names} | {"CALCULATION": "a AS b"}
    settings = Settings.read(given | {older: "eu-north-1"})
    assert {"eu-north-1", ("eu-north-1",)} & {*map(str, dict(settings).values()), settings.input_buckets}


def test_what_the_page_says_of_empty_and_double_variables() -> None:
    given = {"S3_INPUT_BUCKET": "in-bucket", "S3_OUTPUT_BUCKET": "out-bucket", "SQS_BATCH_QUEUE": "jobs"}
    given |= {"CALCULATION": "a AS b"}
    settings = Settings.read(given | {"OUTPUT_PREFIX": "", "REJECTS_PREFIX": ""})
    assert (settings.output_prefix, settings.rejects_prefix) == ("", "rejects/")
    assert Settings.read(given | {"s3InputBucket": "in-bucket"}).input_buckets == ("in-bucket",)
    with pytest.raises(SettingsError, match="S3_INPUT_BUCKET and s3InputBucket"):
        Settings.read(given | {"s3InputBucket": "another"})
    assert Settings.read(given | {"AWSRegion": "eu-west-1", "AWS_REGION": "eu-north-1"}).region == "eu-west-1"


def test_readme_leads_to_the_page() -> None:
    assert "(docs/settings.md)" in (ROOT / "README.md").read_text()
