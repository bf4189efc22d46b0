"""The resources of one job: its input, checkpoint and so on, which all its attempts share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from runner.job.cancellation import Cancellation
from runner.job.checkpoint import Checkpoint, ProgressLog
from runner.job.input_object import InputObject
from runner.job.keys import output_key, sharing_of
from runner.job.publish import Publisher
from runner.job.rejects import RejectObjects

if TYPE_CHECKING:
    from runner.job.context import JobContext
    from runner.job.control import Control
    from runner.job.identity import JobIdentity, Origin
    from runner.job.progress import JobProgress
    from runner.job.protocol import Order


@dataclass(frozen=True, slots=True)
class JobResources:
    """The resources of one job.

    Attributes:
        context: The context that all jobs share.
        identity: The identity of the job.
        order: How to do it, and for which message.
        control: The connection to the worker.
        cancellation: Tells whether an operator has cancelled it.
        checkpoint: Its checkpoint.
        progress: Writes its progress to the checkpoint.
        input: Its input.
    """

    context: JobContext
    identity: JobIdentity
    order: Order
    control: Control
    cancellation: Cancellation
    checkpoint: Checkpoint
    progress: ProgressLog
    input: InputObject

    @classmethod
    def open(cls, context: JobContext, identity: JobIdentity, order: Order, control: Control) -> Self:
        """Return the resources of the job that an order asks for; no request is made."""
        checkpoint = Checkpoint(context.store, identity.checkpoint_key, context.around)
        lease_s = context.settings.visibility_timeout_s
        return cls(
            context,
            identity,
            order,
            control,
            Cancellation(context.cancellations, identity.cancellation_key, order.first_sent),
            checkpoint,
            ProgressLog(checkpoint, order.owner, lease_s, identity.about, context.around.clock),
            InputObject(context.sources[order.event.bucket], order.event),
        )

    def output_key(self, origin: Origin) -> str:
        """Return the key of the output, given its origin with the time of the input."""
        event = self.order.event
        known = self.identity.output_key
        return known or output_key(self.context.settings, event.bucket, event.key, origin.modified_at)

    def publisher_at(self, key: str) -> Publisher:
        """Return what publishes an output with a key."""
        context = self.context
        sharing = sharing_of(context.settings, self.order.event.key, key)
        return Publisher(context.store, key, self.input, self.control.check_lease, context.around, sharing)

    def reject_objects(self, progress: JobProgress | None) -> RejectObjects:
        """Return the objects of rejected lines, with those that a checkpoint names, None for no checkpoint."""
        context = self.context
        return RejectObjects(
            context.store,
            self.identity.rejects_folder,
            context.around.chance.token(),
            context.around.clock,
            self.control.check_lease,
            names=progress.rejects if progress else (),
            size=progress.reject_bytes if progress else 0,
            max_bytes=context.max_reject_bytes,
        )
