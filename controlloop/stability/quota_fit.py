"""Growth that a quota refuses is not decided: its pods would never be made."""

from __future__ import annotations

from collections import Counter

from controlloop.api.decision import Action, Decision, Problem
from controlloop.api.holds import HoldReason
from controlloop.api.observation import QuotaShare
from controlloop.api.system import LOWEST_PRIORITY
from controlloop.stability.node_fit import cut_growth


def within_quotas(decisions: tuple[Decision, ...], problem: Problem) -> tuple[Decision, ...]:
    """The decisions, each without the growth that a quota of its namespace refuses.

    Servers of one quota share what it leaves in order of priority, then of name, after what was
    asked for already. A switch needs room for its first new replica, or is not made. What a
    decrease of the same plan frees counts in the next cycle, when it is free.
    """
    if not problem.quotas:
        return decisions
    free = _free(problem)
    priorities = {each.name: each.priority for each in problem.system.classes}
    ranks = {
        each.name: priorities.get(each.service_class, LOWEST_PRIORITY)
        for each in problem.system.servers
    }
    cut: dict[str, Decision] = {}
    for each in sorted(decisions, key=lambda one: (ranks.get(one.server, 0), one.server)):
        quota, more = problem.quotas.get(each.server), _more(each)
        if quota is None or more <= 0:
            continue
        fits = [(free[_key(share)] // share.cards, share) for share in quota.shares]
        fit, tightest = min(fits, key=lambda one: one[0])
        fit = min(max(fit, 0), more)
        for share in quota.shares:
            free[_key(share)] -= fit * share.cards
        if fit < more:
            detail = (
                f"{fit} of {more} new replicas are allowed: each asks for {tightest.cards} "
                f"{tightest.resource}, {tightest.quota} has {tightest.used} of {tightest.hard} used"
            )
            cut[each.server] = cut_growth(each, HoldReason.QUOTA, detail, fit)
    return tuple(cut.get(each.server, each) for each in decisions)


def _free(problem: Problem) -> Counter[tuple[str, str]]:
    """What each quota leaves, less the pods that are still to be made."""
    free: Counter[tuple[str, str]] = Counter()
    for quota in problem.quotas.values():
        for share in quota.shares:
            free[_key(share)] = share.hard - share.used
    for quota in problem.quotas.values():
        for share in quota.shares:
            free[_key(share)] -= quota.due * share.cards
    return free


def _key(share: QuotaShare) -> tuple[str, str]:
    return share.quota, share.resource


def _more(decision: Decision) -> int:
    if decision.action is Action.SWITCH:
        return min(decision.desired.replicas, 1)
    return decision.desired.replicas - decision.current.replicas
