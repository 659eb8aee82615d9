"""Bugs, planted on purpose: a simulator that does not find them proves nothing by finding none.

Each is one that such systems really have. It is put into the running code by a context manager and taken out again;
in between, seeds are simulated until one fails.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass

from perdure.testing.planted import cluster, commits, effects, ownership, recovery
from perdure.testing.planted.patches import Patch
from perdure.testing.simulation import simulate

_COLLECT_EVERY = 20


@dataclass(frozen=True, slots=True)
class Bug:
    """A bug and how to plant it."""

    name: str
    plant: Callable[[], Patch]


def seeds_until_found(bug: Bug, first: int = 0, most: int = 2_000) -> int | None:
    """How many seeds, from `first`, it takes until one fails; None when `most` do not."""
    with bug.plant():
        for count in range(1, most + 1):
            if simulate(first + count - 1).violations:
                return count
            if count % _COLLECT_EVERY == 0:
                gc.collect()  # as in a campaign
    return None


def look_for(name: str, tries: int, most: int) -> tuple[str, list[int | None]]:
    """The name of a bug, for a process of its own, and how many seeds it took from each of `tries` first ones."""
    logging.disable(logging.CRITICAL)
    [bug] = [bug for bug in BUGS if bug.name == name]
    return name, [seeds_until_found(bug, first * 10_000, most) for first in range(tries)]


BUGS = [
    Bug("no fence is checked", ownership.no_fence),
    Bug("a claim does not raise the epoch", ownership.old_epoch),
    Bug("two runs of a session at once", ownership.two_runs_of_a_session),
    Bug("acknowledged before it is durable", commits.acknowledged_early),
    Bug("children are created outside of the transaction", commits.children_first),
    Bug("messages are sent outside of the transaction", commits.messages_first),
    Bug("state is saved outside of the transaction", commits.state_later),
    Bug("a signal is consumed outside of the transaction", commits.consumed_later),
    Bug("an end is overwritten", commits.end_is_not_the_end),
    Bug("idempotency keys are forgotten", commits.keys_forgotten),
    Bug("an expired question is answered", commits.answered_twice),
    Bug("an effect before its journal", effects.effect_before_journal),
    Bug("recovery repeats a once step", effects.once_is_repeated),
    Bug("unknown is taken for not happened", effects.unknown_is_not_happened),
    Bug("each attempt has a key of its own", effects.key_per_attempt),
    Bug("consent is used twice", effects.consent_used_twice),
    Bug("consent is for any arguments", effects.consent_for_anything),
    Bug("consent is not needed", effects.no_consent),
    Bug("timers are lost at a restart", recovery.timers_lost),
    Bug("timers fire early", recovery.timers_early),
    Bug("runs of a dead node are left behind", recovery.left_behind),
    Bug("a signal is lost with its reader", recovery.signals_lost),
    Bug("the order of messages is lost", recovery.mail_backwards),
    Bug("results are told before their commit", recovery.told_before_commit),
    Bug("a replay in another order", recovery.replayed_in_another_order),
    Bug("eviction drops a draft", recovery.draft_evicted),
    Bug("strikes are never counted", recovery.strikes_forgotten),
    Bug("children outlive their parent", recovery.orphans),
    Bug("a node that was paused goes on", cluster.no_term),
    Bug("a lease is measured by the wall clock", cluster.term_by_wall_clock),
    Bug("a node that is cut off works on", cluster.cut_off_and_working),
    Bug("lost shards are kept", cluster.lost_shards_kept),
    Bug("what may have happened is done again", cluster.blind_retry),
    Bug("a shard is let go before all is written", cluster.let_go_unwritten),
    Bug("a share is kept when the lease is over", cluster.share_kept),
    Bug("a token is used twice", cluster.token_used_twice),
    Bug("shards go to and fro", cluster.restless),
    Bug("who has all shares none", cluster.never_shares),
    Bug("a signal is skipped", cluster.cursor_too_far),
]
