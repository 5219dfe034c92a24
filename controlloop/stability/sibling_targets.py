"""What is to become of the siblings there are: remembered until it has."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from controlloop.api.decision import SiblingGoal
from controlloop.api.observation import ServerObservation, Workload
from controlloop.stability.mixes import whole

_MOST_DOUBLINGS: Final = 6


@dataclass(frozen=True, slots=True)
class _Leaving:
    """Siblings that are to shrink, each to so many replicas, by accelerator; decided at `since`."""

    replicas: Mapping[str, int]
    since: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A mix did not come about, `times` on end; none is tried before `until`, s since the epoch."""

    times: int
    until: float
    detail: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """Siblings that are to be made on these accelerators, asked for since `since`."""

    accelerators: frozenset[str]
    since: float


class SiblingTargets:
    """The replicas that each sibling is to have.

    What it runs, unless it is to shrink. All else is read off the cluster, so that a process that
    starts anew loses no more than a decision to shrink, which then is made again.

    Args:
        startup_s: replicas that never became ready in so long are given up, and so is a sibling
            that could not be made, and a shrinking for which the server's own replicas did not
            make up by then.
        backoff_s: after that no mix is tried for so long; doubled by each further one.

    """

    def __init__(self, startup_s: float, backoff_s: float) -> None:
        self._startup_s, self._backoff_s = startup_s, backoff_s
        self._leaving: dict[str, _Leaving] = {}
        self._starting: dict[str, float] = {}
        self._given_up: set[str] = set()
        self._failures: dict[str, Failure] = {}
        self._shown: dict[str, int] = {}
        self._asked: dict[str, _Asked] = {}

    def failure(self, server: str, now: float) -> Failure | None:
        """Why no mix of a server is tried now; None where one may be."""
        found = self._failures.get(server)
        return found if found is not None and now < found.until else None

    def leave(self, server: str, replicas: Mapping[str, int], now: float) -> None:
        """Remember that siblings are to shrink, each to so many replicas, by accelerator."""
        self._leaving[server] = _Leaving(replicas, now)

    def asked(self, asked: Mapping[str, Collection[str]], now: float) -> None:
        """Remember the accelerators on which siblings are to be made now, by server.

        What is asked for all the time and does not come is a failure, too: for lack of rights, for
        a name that is taken, or because the API server refuses it.
        """
        before, self._asked = self._asked, {}
        for server, accelerators in asked.items():
            names, known = frozenset(accelerators), before.get(server)
            lasts = known is not None and known.accelerators == names
            since = known.since if known is not None and lasts else now
            if now - since < self._startup_s:
                self._asked[server] = _Asked(names, since)
                continue
            what = f"a sibling on {' and '.join(sorted(names))} could not be made"
            self._fail(server, now, f"{what} within {self._startup_s:.0f} s")

    def forget_others(self, seen: Collection[ServerObservation]) -> None:
        """Forget servers and siblings that are not among these."""
        names = {each.name for each in seen}
        uids = {one.ref.uid for each in seen for one in each.siblings}
        for by_name in (self._leaving, self._failures, self._asked):
            for name in by_name.keys() - names:
                del by_name[name]
        for by_uid in (self._starting, self._shown):
            for uid in by_uid.keys() - uids:
                del by_uid[uid]
        self._given_up &= uids

    def of(self, seen: ServerObservation, now: float, *, unwanted: bool) -> Mapping[str, int]:
        """Replicas that each sibling is to have, by accelerator; never more than it has."""
        running = {each.accelerator: each.replicas for each in seen.siblings}
        if unwanted:
            return dict.fromkeys(running, 0)
        leaving = self._still_leaving(seen.name, running, now)
        found = {name: min(count, leaving.get(name, count)) for name, count in running.items()}
        for each in seen.siblings:
            uid, shown = each.ref.uid, self._shown_by(each)
            if each.ready_replicas >= found[each.accelerator]:
                if self._starting.pop(uid, None) is not None and uid not in self._given_up:
                    self._failures.pop(seen.name, None)
                self._given_up.discard(uid)
            elif now - self._starting.setdefault(uid, now) >= self._startup_s:
                stay = min(shown, found[each.accelerator])
                if uid not in self._given_up:
                    count, all_of_it = each.ready_replicas, found[each.accelerator]
                    what = f"{count} of {all_of_it} replicas of {each.ref} are ready"
                    kept = f", {stay} were and stay" if stay > count else ""
                    self._fail(seen.name, now, f"{what} after {self._startup_s:.0f} s{kept}")
                    self._given_up.add(uid)
                found[each.accelerator] = stay
        return found

    def _shown_by(self, sibling: Workload) -> int:
        """How many of its replicas are ready or were: that they are not now is no bad start."""
        lost = sum(pod.was_ready for pod in sibling.pods)
        now_or_ever = max(self._shown.get(sibling.ref.uid, 0), sibling.ready_replicas + lost)
        self._shown[sibling.ref.uid] = shown = min(now_or_ever, sibling.replicas)
        return shown

    def _still_leaving(
        self, server: str, running: Mapping[str, int], now: float
    ) -> Mapping[str, int]:
        leaving = self._leaving.get(server)
        if leaving is None:
            return {}
        done = all(running.get(name, 0) <= count for name, count in leaving.replicas.items())
        if done or now - leaving.since >= self._startup_s:
            del self._leaving[server]
        if not done and server not in self._leaving:
            detail = f"what was to take over did not within {self._startup_s:.0f} s"
            self._fail(server, now, f"{detail}: the siblings stay")
            return {}
        return leaving.replicas

    def _fail(self, server: str, now: float, detail: str) -> None:
        before = self._failures.get(server)
        times = 1 if before is None else before.times + 1
        backoff_s = self._backoff_s * 2.0 ** min(times - 1, _MOST_DOUBLINGS)
        self._failures[server] = Failure(times, now + backoff_s, detail)


def going(
    seen: ServerObservation,
    targets: Mapping[str, int],
    rest: float | None,
    why: str,
    *,
    blocked: bool,
) -> tuple[SiblingGoal, ...]:
    """What of the siblings may go now: never what serves before what replaces it is ready.

    Args:
        seen: the server.
        targets: replicas that each sibling is to have, by accelerator.
        rest: replicas of its own accelerator that its load needs beside those; None not known.
        why: the reason for it.
        blocked: whether something is not known, or wanted otherwise, that forbids a decrease.

    """
    ready = seen.workload.ready_replicas
    taken_over = not blocked and rest is not None and ready >= whole(rest)
    found = []
    for each in seen.siblings:
        target = targets[each.accelerator]
        # What was ready and is not now may be so for lack of word from its node.
        serving = each.ready_replicas + sum(pod.was_ready for pod in each.pods)
        idle = not each.replicas and not each.pods
        if idle or (target < each.replicas and (taken_over or target >= serving)):
            reason = f"{ready} of {seen.workload.ref} are ready: {why}" if taken_over else why
            found.append(
                SiblingGoal(
                    each.accelerator,
                    each.max_batch,
                    before=each.replicas,
                    replicas=target,
                    reason="no pod of it is left" if idle else reason,
                    ref=each.ref,
                    gone=idle,
                )
            )
    return tuple(found)


def renewed(seen: ServerObservation, targets: Mapping[str, int]) -> tuple[SiblingGoal, ...]:
    """The first sibling whose pods are made from another pod template than its primary's by now.

    One at a time, and only where every replica of all of them is ready: the primary's own rollout
    has then shown that the new template works.
    """
    workloads = (seen.workload, *seen.siblings)
    rollable = seen.workload.rollable
    settled = all(each.rollable is None or each.rollable.settled for each in workloads)
    ready = all(each.ready_replicas >= each.replicas for each in workloads)
    if rollable is None or not (settled and ready):
        return ()
    old = (
        each
        for each in seen.siblings
        if each.kinship is not None
        and each.kinship.source != rollable.digest
        and targets[each.accelerator] == each.replicas
    )
    return tuple(
        SiblingGoal(
            each.accelerator,
            each.max_batch,
            before=each.replicas,
            replicas=each.replicas,
            reason=f"the pod template of {seen.workload.ref} changed",
            ref=each.ref,
            renewed=True,
        )
        for each in islice(old, 1)
    )
