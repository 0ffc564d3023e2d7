"""Follows each submitted job at its provider: takes the provider's records and lines until the job is over.

A provider that is away is waited for, up to its grace; one that is there and never comes to an end is not: the time
limit, the time to begin and the time to stop are held here as well."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from dms.application.cause import caused_by
from dms.application.checkpoints.checkpoint_receiver import CheckpointReceiver
from dms.application.jobs.followed_output import FollowedOutput
from dms.application.jobs.submission import RETRY_SECONDS, NotTaken, Submission
from dms.application.lasting import MOST_REMEMBERED
from dms.application.loops import said
from dms.application.network.budgets import EVENT_BYTES, RECORDS, Budgets
from dms.application.network.messages import FEED, FeedItem, FeedRequest, decode_answer, encode
from dms.application.ports.event_log import EventLog
from dms.application.ports.outputs import OutputStore
from dms.application.ports.peers import PeerNetwork
from dms.application.ports.signing import Signer
from dms.application.reactors import News, Reactor
from dms.application.results.results_receiver import ResultsReceiver
from dms.application.tasks import cancelled, either
from dms.backoff import Backoff
from dms.domain.attempt import Attempt
from dms.domain.bounds import Unreadable, check
from dms.domain.chain import SignedRecord, check_record
from dms.domain.deployment import Deployment
from dms.domain.directory import Provider
from dms.domain.event import Event
from dms.domain.job import Job, JobState
from dms.domain.job_results import check_results
from dms.domain.overdue import Overdue, seconds_between
from dms.domain.retry import job_of
from dms.domain.reward import Fault
from dms.domain.run_time import Instant
from dms.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    OutputUnavailable,
    PeerMisbehaved,
    PeerUnreachable,
    Unavailable,
)
from dms.recent import Recent

UNREACHABLE_AFTER_SECONDS = 30.0
LEAST_LOOK_SECONDS, MOST_LOOK_SECONDS = 0.01, 10.0  # between two looks at the limits: how the provider is may change


class CanNotAnswer(PeerUnreachable):
    """By its own word: it is as good as away, though it is heard."""


class Contact:
    """How long a provider is heard or silent in this run, and when to try it again."""

    def __init__(self, clock: Callable[[], Instant]) -> None:
        self._clock, self._backoff = clock, Backoff(*RETRY_SECONDS)
        self._there_since: Instant | None = None
        self._failing_since: Instant | None = None  # since when it tells nothing but that it can't answer
        self.silent_since: Instant | None = None  # since the first failure after it was last heard

    def heard(self) -> None:
        self.silent_since, self._there_since = None, self._there_since or self._clock()

    def told(self) -> None:
        """Something of the job; else one that ends each feed at once would be asked again without a pause."""
        self._backoff.reset()
        self._failing_since = None

    def failed(self, error: PeerUnreachable) -> None:
        """It could not be reached, or could not answer."""
        if not isinstance(error, CanNotAnswer) or (self.there_seconds or 0.0) >= UNREACHABLE_AFTER_SECONDS:
            self._failing_since = None
        if isinstance(error, CanNotAnswer):
            self._failing_since = self._failing_since or self._clock()
        self.silent_since, self._there_since = self.silent_since or self._clock(), None

    @property
    def silent_seconds(self) -> float:
        return seconds_between(self.silent_since, self._clock())

    @property
    def failing_seconds(self) -> float:
        return seconds_between(self._failing_since, self._clock())

    @property
    def there_seconds(self) -> float | None:
        """Without a break; None while it is silent."""
        return None if self._there_since is None else seconds_between(self._there_since, self._clock())

    def next_pause(self) -> float:
        return self._backoff.spread()


class FollowDeployments(Reactor[Job]):
    name = "following of deployments"
    kind = Job

    def __init__(
        self,
        log: EventLog,
        network: PeerNetwork,
        outputs: OutputStore,
        signer: Signer,
        checkpoints: CheckpointReceiver,
        results: ResultsReceiver,
        submission: Submission,
        grace_seconds: float,
        clock: Callable[[], Instant],
        budgets: Budgets,
    ) -> None:
        """grace_seconds: how long a provider may be away. clock: of this machine."""
        self._log, self._network, self._outputs, self._signer = log, network, outputs, signer
        self._checkpoints, self._results = checkpoints, results
        self._submission, self._grace_seconds = submission, grace_seconds
        self._clock, self._budgets = clock, budgets
        # By deployment: what breaks the following off begins no limit anew.
        self._limits: Recent[str, Overdue] = Recent(MOST_REMEMBERED)

    def due(self, aggregate: Job) -> bool:
        return aggregate.state in (JobState.SUBMITTED, JobState.RUNNING)

    def waits_for(self, aggregate: Job) -> str:
        return aggregate.provider

    async def react(self, aggregate: Job, news: News) -> None:
        self._remember_addresses(aggregate.provider)
        attempt = aggregate.attempt
        if attempt.provider_version == 0:
            try:
                await self._submission.send(aggregate, news)
            except NotTaken as error:
                await self._give_up(attempt, str(error), error.fault)
                return
        contact = Contact(self._clock)
        lines = FollowedOutput(self._outputs, attempt.deployment_id)
        following = asyncio.create_task(self._follow(attempt, contact, lines), name=f"feed of {attempt.deployment_id}")
        try:
            await self._until_over(attempt, following, contact, news)
        finally:
            await cancelled(following)
        self._limits.pop(attempt.deployment_id, None)

    async def give_up(self, aggregate: Job, error: Exception) -> None:
        aggregate.fail(f"this node failed to follow it: {said(error)}", Fault.REQUESTER)
        await self._log.save(aggregate)

    async def _until_over(self, attempt: Attempt, following: asyncio.Task[None], contact: Contact, news: News) -> None:
        most_left = self._results.most_bytes + self._checkpoints.most_bytes  # more is not taken here
        fresh = Overdue(self._grace_seconds, self._clock(), most_left)
        overdue = self._limits.setdefault(attempt.deployment_id, fresh)
        while not following.done() and (job := self._followed(attempt)) is not None:
            left = overdue.seconds_left(
                self._clock(),
                job.attempt.times,
                there_seconds=contact.there_seconds,
                minutes=attempt.minutes,
                running=job.state is JobState.RUNNING,
                stopping=job.termination is not None,
                stop_since=job.stop_since,
            )
            if left <= 0:
                await self._end_unheard(attempt, overdue.reason(attempt.minutes))
                return
            await either(following, news.changed(min(max(left, LEAST_LOOK_SECONDS), MOST_LOOK_SECONDS)))
        if following.done():
            following.result()

    async def _follow(self, attempt: Attempt, contact: Contact, lines: FollowedOutput) -> None:
        while (job := self._followed(attempt)) is not None:
            try:
                await self._take_feed(job.attempt, contact, lines)
                lines.try_again()
            except OutputUnavailable as error:
                lines.failed(error)
                await asyncio.sleep(contact.next_pause())
            except PeerUnreachable as error:
                lines.try_again()
                contact.failed(error)
                if await self._is_lost(attempt, contact, error):
                    return
                await asyncio.sleep(contact.next_pause())
            except NotFound:
                await self._end_unheard(attempt, "the provider no longer knows the job")
            except (Forbidden, InvalidInput, PeerMisbehaved) as error:
                await self._give_up(attempt, f"the provider broke the protocol: {error}")

    async def _take_feed(self, attempt: Attempt, contact: Contact, lines: FollowedOutput) -> None:
        output, provider = attempt.deployment_id, attempt.provider
        body = encode(
            FeedRequest(job_id=output, after=attempt.provider_version, log_after=await lines.last(), growing=True)
        )
        async with contextlib.aclosing(self._frames(provider, body)) as frames, self._growing(output):
            async for frame in frames:
                contact.heard()
                if (job := self._followed(attempt)) is None:
                    return
                await self._returned(job)
                item = decode_answer(provider, frame, FeedItem)
                if item.lines or item.records:
                    contact.told()
                await lines.take(item.lines)
                for line in item.growing:
                    self._outputs.growing.tell(output, line)
                for record in item.records:
                    await self._take_record(attempt, record, lines)
                if self._followed(attempt) is None or lines.to_be_tried_again:
                    return
        raise PeerUnreachable(f"{provider} ended its feed before the job's end")

    @contextlib.asynccontextmanager
    async def _growing(self, output: str) -> AsyncIterator[None]:
        """What is heard meanwhile of lines without an end is worth nothing once nothing is heard any more."""
        try:
            yield
        finally:
            self._outputs.growing.end(output)

    async def _frames(self, provider: str, body: bytes) -> AsyncGenerator[bytes, None]:
        """What the provider says, where its own trouble is told from ours: one that answers that it can't answer is as
        good as away; and following conflicts with no state of a deployment."""
        try:
            async with contextlib.aclosing(self._network.stream(provider, FEED, body)) as frames:
                async for frame in frames:
                    yield frame
        except PeerUnreachable:
            raise
        except Unavailable as error:
            raise CanNotAnswer(f"{provider} can't answer now: {error}") from error
        except Conflict as error:
            raise PeerMisbehaved(f"{provider} refuses to be followed: {error}") from error

    async def _take_record(self, attempt: Attempt, record: SignedRecord, lines: FollowedOutput) -> None:
        check_record(record, attempt.provider, self._signer.verify)
        cost = len(record.data) + len(record.traceparent) + EVENT_BYTES
        await self._budgets.wait(RECORDS, attempt.provider, cost, attempt.deployment_id)
        with caused_by(record.event_id, record.traceparent):
            try:
                await self._adopt(attempt, record, lines)
            except PeerMisbehaved as error:
                job = self._followed(attempt)
                if job is not None and job.provider_misbehaved(record.version, record.topic, str(error)):
                    await self._log.save(job)
                raise

    async def _adopt(self, attempt: Attempt, record: SignedRecord, lines: FollowedOutput) -> None:
        job = self._followed(attempt)
        event = self._log.open_record(record)
        if isinstance(event, Deployment.LogSealed) and job is not None and record.version == job.provider_version + 1:
            await lines.check(event)
        _check_event(attempt.provider, event)
        job = self._followed(attempt)
        if job is None:
            return
        if record.version > job.provider_version and isinstance(event, Deployment.CheckpointSaved):
            job.check_checkpoint(event)
            now = self._clock()
            job.report_from_provider(record, event, now)
            self._checkpoints.offer(job, event, now)
        elif record.version > job.provider_version and job.open and isinstance(event, Deployment.ResultsSaved):
            check_results(job.key, event)
            job.report_from_provider(record, event)
            self._results.offer(job, event)
        else:
            job.report_from_provider(record, event, self._clock())
        await self._log.save(job)

    async def _returned(self, job: Job) -> None:
        if job.provider_returned(self._clock()):
            await self._log.save(job)

    async def _is_lost(self, attempt: Attempt, contact: Contact, error: PeerUnreachable) -> bool:
        """Marks the job after half a minute, gives the attempt up after the grace. A restart does not begin the grace
        anew, but the provider is looked for half a minute in each run."""
        if isinstance(error, CanNotAnswer) and contact.failing_seconds >= self._grace_seconds:
            grace = f"{self._grace_seconds:g} s"
            await self._end_unheard(attempt, f"provider lost: not able to answer for {grace}: {error}")
            return True
        job, silent = self._followed(attempt), contact.silent_seconds
        if job is None or silent < min(UNREACHABLE_AFTER_SECONDS, self._grace_seconds):
            return False
        if silent >= UNREACHABLE_AFTER_SECONDS and job.provider_unreachable(str(error), contact.silent_since):
            await self._log.save(job)
        since = job.attempt.times.silent_since  # perhaps of an earlier run
        if max(silent, seconds_between(since, self._clock())) < self._grace_seconds:
            return False
        await self._end_unheard(attempt, f"provider lost: not reachable for {self._grace_seconds:g} s")
        return True

    async def _end_unheard(self, attempt: Attempt, reason: str) -> None:
        """For want of the provider's word. One that was to be terminated ends as that, and not by the provider's fault:
        who ordered an end has it."""
        job = self._followed(attempt)
        if job is None or job.termination is None:
            await self._give_up(attempt, reason)
        else:
            await self._give_up(attempt, job.termination, Fault.REQUESTER)

    async def _give_up(self, attempt: Attempt, reason: str, fault: Fault = Fault.PROVIDER) -> None:
        """Ends the attempt without the provider's word. That is told to it by another reactor, should it come back."""
        job = self._followed(attempt)
        if job is not None:
            job.fail_attempt(reason, fault)
            await self._log.save(job)

    def _followed(self, attempt: Attempt) -> Job | None:
        """The job, as long as this is the attempt that is followed."""
        job = self._log.load(Job, job_of(attempt.deployment_id))
        if job is None:
            raise NotFound(f"no job {job_of(attempt.deployment_id)} here")
        return job if self.due(job) and job.attempt.number == attempt.number else None

    def _remember_addresses(self, peer_id: str) -> None:
        """After a restart the log knows where the provider was, before the network tells."""
        provider = self._log.load(Provider, peer_id)
        if provider is not None and provider.addresses:
            self._network.add_addresses(peer_id, provider.addresses)


def _check_event(provider: str, event: Event) -> None:
    """Raises PeerMisbehaved on a value that is out of any sane range."""
    try:
        check(event)
    except Unreadable as error:
        raise PeerMisbehaved(f"{provider} sent an event {event.TOPIC} out of bounds: {error}") from error
