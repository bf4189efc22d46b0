"""What nobody goes on with is removed, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from runner.aws.bucket import Store
from runner.job.protocol import JobResult
from runner.ops.deployment import Deployment as Operated
from runner.ops.sweep import sweep
from tests.runner.job.test_resume import check, example
from tests.support.jobs import KEY, Free, Jobs, Killed
from tests.support.operating import asked, environment_of, operate
from tests.support.proxy import Refuse

if TYPE_CHECKING:
    from tests.support.deployment import Deployment
    from tests.support.proxy import Fault, Proxy, Request

pytestmark = pytest.mark.slow


@pytest.fixture
def abandoned(jobs: Jobs) -> Jobs:
    """Jobs, one of which was killed in the middle."""
    jobs.deployment.put(KEY, example().content)
    with pytest.raises(Killed):
        jobs.do(control=Free(lives=2))
    return jobs


def begin_upload(deployment: Deployment, key: str) -> None:
    deployment.s3.create_multipart_upload(Bucket=deployment.output, Key=key)


def kinds(told: dict[str, Any]) -> list[str]:
    return [one["kind"] for one in told["swept"]]


def test_an_old_checkpoint_goes_with_its_upload(abandoned: Jobs) -> None:
    assert len(abandoned.left()) == 2
    told = asked(abandoned.deployment, "sweep", "--older-than", "0s")
    assert kinds(told) == ["checkpoint", "upload"]
    assert [one["about"] for one in told["swept"]][:2] == [f"s3://{abandoned.deployment.input}/{KEY}", ""]
    assert abandoned.left() == []
    operated = Operated.open(environment_of(abandoned.deployment))
    now = timedelta(0)
    rejects = abandoned.deployment.stored_keys("rejects/")
    assert rejects, "they stay for MAX_LEASE_S"
    assert [one.key for one in sweep(operated, now, dry_run=False, longest_lease=now)] == rejects
    assert abandoned.deployment.stored_keys("rejects/") == []
    assert abandoned.do(again=True).kind is JobResult.DONE, "it starts over"
    check(abandoned.deployment, example())


@pytest.mark.parametrize("options", [[], ["--older-than", "1h"], ["--older-than", "0s", "--dry-run"]])
def test_a_young_one_stays_and_a_dry_run_removes_nothing(abandoned: Jobs, options: list[str]) -> None:
    told = asked(abandoned.deployment, "sweep", *options)
    assert kinds(told)[:2] == (["checkpoint", "upload"] if "--dry-run" in options else [])
    assert len(abandoned.left()) == 2
    assert abandoned.deployment.stored_keys("rejects/")
    assert abandoned.do(again=True).kind is JobResult.DONE
    check(abandoned.deployment, example())


class StoreOfOldUploads(Store):
    """A bucket whose uploads were begun three days before they were."""

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        answer = super().call(operation, **arguments)
        for upload in answer.get("Uploads", ()) if operation == "list_multipart_uploads" else ():
            upload["Initiated"] -= timedelta(days=3)
        return answer


def test_the_old_upload_of_a_job_that_still_runs_stays(abandoned: Jobs) -> None:
    operated = Operated.open(environment_of(abandoned.deployment))
    operated = replace(operated, store=StoreOfOldUploads(operated.store.bucket, operated.store.requests))
    begin_upload(abandoned.deployment, "output/lost")
    swept = [*sweep(operated, timedelta(days=2), dry_run=False)]
    assert [(one.kind, one.key) for one in swept] == [("upload", "output/lost")]
    assert len(abandoned.left()) == 2


def test_a_checkpoint_that_changes_meanwhile_stays_with_its_upload(abandoned: Jobs, proxy: Proxy) -> None:
    """A worker takes the job up between the look and the removal."""
    (name,) = abandoned.deployment.stored_keys("checkpoints/")
    content = abandoned.deployment.content(name) or b""

    def rule(request: Request) -> None:
        if request.operation == "DeleteObject":
            abandoned.deployment.s3.put_object(Bucket=abandoned.deployment.output, Key=name, Body=content + b" ")

    proxy.rule = rule
    assert kinds(asked(abandoned.deployment, "sweep", "--older-than", "0s")) == []
    assert len(abandoned.left()) == 2
    proxy.rule = lambda _: None
    assert abandoned.do(again=True).kind is JobResult.DONE
    assert proxy.count("CreateMultipartUpload") == 1


@pytest.mark.usefixtures("one_by_one")
def test_a_worker_whose_checkpoint_was_swept_starts_again(abandoned: Jobs) -> None:
    """It had read the checkpoint when that was removed."""
    swept: list[Any] = []

    def sweep_once() -> None:
        if len(control.offsets) == 2 and not swept:
            swept.append(asked(abandoned.deployment, "sweep", "--older-than", "0s"))

    control = Free(check=sweep_once)
    assert abandoned.do(again=True, control=control).kind is JobResult.FENCED
    assert kinds(swept[0])[:2] == ["checkpoint", "upload"]
    assert abandoned.do(again=True).kind is JobResult.DONE
    check(abandoned.deployment, example())


@pytest.mark.parametrize("prefix", ["output/", ""])
def test_uploads_that_nobody_knows_of(deployment: Deployment, prefix: str) -> None:
    """Where outputs have no prefix, others may upload there as well."""
    deployment.env["OUTPUT_PREFIX"] = prefix
    for key in ("output/a b+c%2F ü", "output/d", "others/d", "rejects/d"):
        begin_upload(deployment, key)
    deployment.s3.put_object(Bucket=deployment.output, Key="output/old", Body=b"{}")
    told = asked(deployment, "sweep", "--older-than", "0s")
    assert [one["key"] for one in told["swept"]] == (["output/a b+c%2F ü", "output/d"] if prefix else [])
    assert len(deployment.uploads()) == (2 if prefix else 4)
    assert deployment.stored_keys() == ["output/old"]


def test_notes_of_cancelled_jobs_go_when_no_message_can_be_that_old(deployment: Deployment) -> None:
    deployment.put("a", b"{}")
    asked(deployment, "cancel", "a")
    assert kinds(asked(deployment, "sweep", "--older-than", "0s")) == []
    (name,) = deployment.stored_keys("checkpoints/cancelled/")
    operated = Operated.open(environment_of(deployment))
    assert [*sweep(operated, timedelta(days=2), dry_run=False, retention=timedelta(0))] == []
    swept = [*sweep(operated, timedelta(0), dry_run=False, retention=timedelta(0))]
    assert [(one.kind, one.key) for one in swept] == [("cancellation", name)]
    assert deployment.stored_keys() == []


def test_what_is_swept_is_told(deployment: Deployment) -> None:
    begin_upload(deployment, "output/a")
    said = operate(deployment, "sweep", "--older-than", "0s").stdout.splitlines()
    assert said[0].startswith("upload of 20")
    assert (said[0].endswith(": output/a"), said[1]) == (True, "1 removed")
    refused = operate(deployment, "sweep", "--older-than", "soon", exit_status=2)
    assert "'soon' is not an age such as 90s" in refused.stderr


def test_a_denial_is_told(deployment: Deployment, proxy: Proxy) -> None:
    def rule(request: Request) -> Fault | None:
        return Refuse(403, "AccessDenied") if request.operation == "GetBucket" else None

    proxy.rule = rule
    assert operate(deployment, "sweep", exit_status=1).stderr.startswith("runner: list_multipart_uploads of s3://")
