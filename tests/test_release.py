"""A release is what its tag, its version and the changelog say; workflows publish what is tested, signed and listed."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from tests.conftest import ROOT
from tests.release_notes import release_notes

WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yml")}
CHANGELOG = "# Changelog\n\n## 0.2.0\n\n### Added\n\n- This.\n\n## 0.1.0\n\n- That.\n"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_notes_are_the_section_of_the_version() -> None:
    assert release_notes("v0.2.0", "0.2.0", CHANGELOG) == "### Added\n\n- This.\n"
    assert release_notes("v0.1.0", "0.1.0", CHANGELOG[CHANGELOG.index("## 0.1.0") :]) == "- That.\n"


@pytest.mark.parametrize(
    ("tag", "version", "heading", "message"),
    [
        ("v0.2.1", "0.2.0", "## 0.2.0", "the tag is v0.2.1, expected v0.2.0"),
        ("0.2.0", "0.2.0", "## 0.2.0", "the tag is 0.2.0, expected v0.2.0"),
        ("v0.3.0", "0.3.0", "## 0.2.0", "does not begin with a section ## 0.3.0"),
        ("v0.2.0", "0.2.0", "## 0.2.0 (not released yet)", "remove that from the heading"),
        ("v0.2.0", "0.2.0", "## 0.2.0 soon", "does not begin with a section ## 0.2.0"),
    ],
)
def test_release_whose_parts_do_not_agree_is_refused(tag: str, version: str, heading: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        release_notes(tag, version, CHANGELOG.replace("## 0.2.0", heading))


def test_changelog_begins_with_the_version_of_the_package() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.release_notes", f"v{VERSION}"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    refused = f"CHANGELOG.md says that {VERSION} is (not released yet): remove that from the heading\n"
    assert (done.returncode, done.stderr) in {(0, ""), (1, refused)}


def steps(workflow: str, job: str) -> list[str]:
    return [step.get("uses", step.get("run", "")) for step in WORKFLOWS[workflow]["jobs"][job]["steps"]]


def test_nothing_is_published_that_was_not_tested_signed_and_listed() -> None:
    jobs = WORKFLOWS["release"]["jobs"]
    assert ".ci/run" in steps("release", "build")
    assert "make dist" in steps("release", "build")
    assert jobs["sign"]["needs"] == jobs["image"]["needs"] == "build"
    assert set(jobs["publish"]["needs"]) == {"sign", "image"}
    for job in ("sign", "image"):
        used = [use.partition("@")[0] for use in steps("release", job)]
        assert {"actions/attest-build-provenance", "actions/attest"} <= set(used)
    for job in ("build", "image"):
        assert any(use.startswith("anchore/sbom-action@") for use in steps("release", job))


def test_only_tags_publish_and_without_passwords() -> None:
    # `on` is true for YAML 1.1.
    assert WORKFLOWS["release"][True] == {"push": {"tags": ["v*"]}}
    assert set(WORKFLOWS["ci"][True]) == {"push", "pull_request"}
    for workflow in WORKFLOWS.values():
        assert "secrets." not in str(workflow)
        assert workflow["permissions"] == {}
    writes = {
        (name, job, permission)
        for name, workflow in WORKFLOWS.items()
        for job, content in workflow["jobs"].items()
        for permission, access in content["permissions"].items()
        if access == "write"
    }
    signing = {("release", job, permission) for job in ("sign", "image") for permission in ("id-token", "attestations")}
    others = {("image", "packages"), ("publish", "id-token"), ("announce", "contents")}
    assert writes == signing | {("release", *other) for other in others}


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_actions_are_pinned_to_commits(name: str) -> None:
    text = (ROOT / ".github/workflows" / f"{name}.yml").read_text()
    uses = re.findall(r"uses: (.*)$", text, re.MULTILINE)
    assert uses
    for use in uses:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use), use
