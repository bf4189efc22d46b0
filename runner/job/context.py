"""The context that all jobs of a process share: the settings, the calculation that they name, and the buckets."""

from __future__ import annotations

import hashlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.aws.bucket import Store
from runner.aws.surroundings import REAL, Surroundings
from runner.job.cancellation import Cancellations
from runner.job.keys import cancellations_prefix
from runner.job.rejects import MAX_REJECT_BYTES
from transform import Calculation, CalculationsByPrefix, PartSizes, load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.job.claim import Claim
    from runner.settings import Settings
    from transform import Runnable


def load_calculation(settings: Settings) -> Runnable:
    """Return the calculation, from a file or module, or from SQL text.

    Raises:
        TransformError: It does not exist, or is wrong, or declares the type of a column that nothing reads, or needs a
            key that is not there: a fault of the deployment, of which no object is to blame.
    """
    calculation = load(settings.calculation) if settings.is_reference else _from_sql(settings)
    calculation.check_schema()
    if settings.format_ is not None:
        calculation = calculation.with_format(settings.format_)
    if settings.each is not None:
        calculation = calculation.each(settings.each, settings.with_)
    _ = calculation.digest  # which has the fingerprint of the key
    return calculation


def _from_sql(settings: Settings) -> Runnable:
    calculation = Calculation.from_sql(settings.calculation, settings.where, settings.reject)
    calculation = calculation.drop(*settings.drop)
    calculation = calculation.select(*settings.select) if settings.select else calculation
    return calculation.with_schema(settings.schema_)


def digest_of(calculation: Runnable, settings: Settings, uri: str) -> str:
    """Return a hash of the calculation for an object: outputs of deployments with the same digest are the same.

    Of the other settings, none changes what is in an output: `on_error`, `max_rejects` and `max_inflation` decide
    whether there is one, and `part_bytes` where its compressed streams end.

    Raises:
        CalculationError: There is no calculation for the object.
    """
    one = calculation.of(uri) if isinstance(calculation, CalculationsByPrefix) else calculation
    return hashlib.sha256(f"{one.digest} {settings.max_line_bytes}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class JobContext:
    """The context that all jobs of a process share.

    Attributes:
        settings: The worker's settings.
        calculation: The calculation.
        sources: The input buckets by their names.
        store: The output bucket.
        cancellations: Notes of operators that cancel jobs.
        part_sizes: The sizes of the parts of outputs.
        worker: The task or host, as checkpoints show it.
        max_parts_in_flight: How many parts of an output may be sent at a time; None if the job decides.
        max_reject_bytes: How many bytes of rejected lines a job keeps.
        around: The clock, threads and so on of the process.
        claim: The claim to the prefixes, which is checked before each job; None for none.
    """

    settings: Settings
    calculation: Runnable
    sources: Mapping[str, Store]
    store: Store
    cancellations: Cancellations
    part_sizes: PartSizes
    worker: str = ""
    max_parts_in_flight: int | None = None
    max_reject_bytes: int = MAX_REJECT_BYTES
    around: Surroundings = REAL
    claim: Claim | None = None

    @classmethod
    def open(cls, settings: Settings, environ: Mapping[str, str], around: Surroundings = REAL) -> JobContext:
        """Load the calculation and check that the buckets can be reached; return the context.

        Raises:
            TransformError, RunnerError: The calculation does not load, or a bucket cannot be reached.
        """
        requests = around.s3(environ, None)
        sources = {name: Store(name, requests) for name in settings.input_buckets}
        store = Store(settings.output_bucket, requests)
        worker = around.task_metadata(environ).arn or socket.gethostname()
        cancellations = Cancellations(store, cancellations_prefix(settings), clock=around.clock)
        sizes = PartSizes(settings.part_bytes)
        context = cls(settings, load_calculation(settings), sources, store, cancellations, sizes, worker, around=around)
        for source in sources.values():
            source.check()
        context.store.check()
        return context

    def check_claim(self) -> None:
        """Check the claim to the prefixes, if there is one; raises as `Claim.check` does."""
        if self.claim is not None:
            self.claim.check()
