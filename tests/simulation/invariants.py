"""What holds at each moment of a run, whatever fails, and what holds at its end, once nothing fails any more."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from dms.adapters.eventlog.envelope import Draft
from dms.domain.deployment import Deployment
from dms.domain.device import Offer
from dms.domain.job import Job
from dms.domain.reservations import Reservations
from dms.domain.resources import Resources
from dms.domain.retry import job_of
from dms.domain.reward import RewardType

JOB_ENDS = frozenset((Job.Completed.TOPIC, Job.Failed.TOPIC, Job.Expired.TOPIC))
DEPLOYMENT_ENDS = frozenset(
    kind.TOPIC for kind in (Deployment.Rejected, Deployment.ContainerExited, Deployment.Failed, Deployment.Stopped)
)

RAN = frozenset((Job.Completed.TOPIC, Deployment.ContainerStarted.TOPIC))


class Violation(AssertionError):
    """Something that must never be, is."""


def require(holds: object, text: str) -> None:
    if not holds:
        raise Violation(text)


class Durable:
    """What each node has on its disk, as it was committed; each commit is held against what was before it."""

    def __init__(self, offer: Offer, vram_mb: int = 0) -> None:
        """offer: of each provider. vram_mb: of each one's GPUs."""
        self._offered = Resources(cpu_mhz=offer.cpu_mhz, memory_mb=offer.memory_mb, vram_mb=vram_mb)
        self.streams: dict[tuple[str, str], list[Draft]] = defaultdict(list)  # (node, stream) -> its events
        self._reserved: dict[str, dict[str, Resources]] = defaultdict(dict)  # node -> open deployment -> what it holds
        self.payments: dict[str, str] = {}  # job id -> the transaction it was paid with
        self._paid: dict[tuple[str, str], str] = {}  # (node, transaction) -> the job that it paid for there
        self._made: Counter[tuple[str, str]] = Counter()  # (node, deployment) -> containers
        self.starts: Counter[tuple[str, str]] = Counter()

    def topics(self, node: str, stream: str) -> list[str]:
        return [draft.topic for draft in self.streams[node, stream]]

    # --- at each commit ---------------------------------------------------------------------------------
    def committed(self, node: str, drafts: Sequence[Draft]) -> None:
        for draft in drafts:
            stream = self.streams[node, draft.originator_id]
            known = stream[-1].originator_version if stream else 0
            if stream or draft.originator_version == 1:  # what was there before the run is not known here
                require(draft.originator_version == known + 1, f"{draft.originator_id} has a gap before {draft.topic}")
            stream.append(draft)
            kind, _, key = draft.originator_id.partition("-")
            if kind == Job.KIND:
                self._of_job(node, key, draft)
            elif kind == Deployment.KIND:
                self._of_deployment(node, key, draft)

    def _of_job(self, node: str, key: str, draft: Draft) -> None:
        topics = self.topics(node, draft.originator_id)
        require(sum(topic in JOB_ENDS for topic in topics) <= 1, f"job {key} ended twice: {topics}")
        body = msgspec.json.decode(draft.state)
        if draft.topic == Job.Submitted.TOPIC:
            require(Job.FundingAccepted.TOPIC in topics, f"job {key} is submitted and not paid for")
        if draft.topic == Job.FundingAccepted.TOPIC:
            self._pays(node, key)
        if "record" in body:
            self._agrees(body["record"])
        if draft.topic == Job.RewardClaimed.TOPIC and body["reward_type"] != RewardType.REFUND:
            require(Job.DeploymentResponded.TOPIC in topics, f"job {key} has a reward and never ran")

    def _of_deployment(self, node: str, key: str, draft: Draft) -> None:
        topics, body = self.topics(node, draft.originator_id), msgspec.json.decode(draft.state)
        require(sum(topic in DEPLOYMENT_ENDS for topic in topics) <= 1, f"deployment {key} ended twice: {topics}")
        if draft.topic == Deployment.Accepted.TOPIC:
            require(Deployment.FundingAccepted.TOPIC in topics, f"deployment {key} is accepted and not paid for")
            self._reserved[node][key] = msgspec.convert(body["reserved"], Resources)
            held = sum(self._reserved[node].values(), start=Resources())
            short = self._offered.shortfalls(held)
            require(not short, f"{node} is overbooked by deployment {key}: {'; '.join(short)}")
        if draft.topic == Deployment.FundingAccepted.TOPIC:
            self._pays(node, job_of(key))
        if draft.topic in DEPLOYMENT_ENDS:
            self._reserved[node].pop(key, None)
        if draft.topic == Deployment.RewardClaimed.TOPIC and body["reward_type"] != RewardType.REFUND:
            require(Deployment.ContainerStarted.TOPIC in topics, f"deployment {key} has a reward and never ran")

    def _pays(self, node: str, job_id: str) -> None:
        """A payment pays for one job; one that is over and never ran leaves it to the next."""
        tx_hash = self.payments[job_id]
        before = self._paid.get((node, tx_hash), job_id)
        self._paid[node, tx_hash] = job_id
        for (where, stream), drafts in self.streams.items():
            kind, _, key = stream.partition("-")
            if where == node and before != job_id and kind in (Job.KIND, Deployment.KIND) and job_of(key) == before:
                topics = {draft.topic for draft in drafts}
                left = topics & (JOB_ENDS | DEPLOYMENT_ENDS) and not topics & RAN
                require(left, f"{node} lets one payment pay for {before} and for {job_id}")

    def _agrees(self, record: Mapping[str, Any]) -> None:
        """What a job's log has of its provider's is what that one's own log has."""
        version = int(record["version"])
        for (_, stream), drafts in self.streams.items():
            if stream == record["stream"] and len(drafts) >= version:
                draft = drafts[version - 1]
                if draft.topic == record["topic"] and draft.state.decode() == record["data"]:
                    return
        raise Violation(f"{record['stream']} version {version} ({record['topic']}) is known and in no provider's log")

    # --- at each effect ---------------------------------------------------------------------------------
    def started(self, node: str, job_id: str) -> None:
        """The container of that deployment is started now."""
        topics = self.topics(node, f"{Deployment.KIND}-{job_id}")
        require(Deployment.Accepted.TOPIC in topics, f"{node} runs {job_id}, and its log has not accepted it: {topics}")
        require(Deployment.FundingAccepted.TOPIC in topics, f"{node} runs {job_id}, which nobody paid for")
        self.starts[node, job_id] += 1
        require(self.starts[node, job_id] == 1, f"{node} started {job_id} a second time")

    def created(self, node: str, job_id: str) -> None:
        topics = self.topics(node, f"{Deployment.KIND}-{job_id}")
        require(Deployment.Accepted.TOPIC in topics, f"{node} made a container of {job_id}, which it has not accepted")
        self._made[node, job_id] += 1
        require(self._made[node, job_id] == 1, f"{node} made a second container of {job_id}")

    def acknowledged(self, node: str, stream: str, topic: str) -> None:
        """Somebody was told so."""
        require(
            topic in self.topics(node, stream), f"{node} has acknowledged {topic} of {stream}, and does not have it"
        )

    # --- at the end -------------------------------------------------------------------------------------
    def check_ends(self) -> None:
        for (node, stream), drafts in self.streams.items():
            kind, _, key = stream.partition("-")
            if kind in (Job.KIND, Deployment.KIND):
                ends = JOB_ENDS if kind == Job.KIND else DEPLOYMENT_ENDS
                topics = [draft.topic for draft in drafts]
                require(any(topic in ends for topic in topics), f"{kind} {key} of {node} never ends: {topics}")
                if Job.Completed.TOPIC in topics:
                    self._check_completed(key)

    def _check_completed(self, job_id: str) -> None:
        found = [
            msgspec.json.decode(draft.state)
            for (_, stream), drafts in self.streams.items()
            for draft in drafts
            if draft.topic == Deployment.ContainerExited.TOPIC and job_of(stream.partition("-")[2]) == job_id
        ]
        require(any(not body.get("exit_code", 0) for body in found), f"job {job_id} completed, and no run of it did")


def check_capacity(node: str, held: Reservations, offer: Offer) -> None:
    total = held.total
    require(total.cpu_mhz >= 0 and total.memory_mb >= 0, f"{node} holds less than nothing: {total}")
    require(
        total.cpu_mhz <= offer.cpu_mhz and total.memory_mb <= offer.memory_mb,
        f"{node} has given more than it has: {total}",
    )
