"""Which signals are known to be consumed: what a reader may still hold, and no more than that."""

from __future__ import annotations

from perdure.kernel.signals import TakenSignals
from perdure.store.contract import Signal


def brought(*ids):
    """What a reader got."""
    return [Signal("a", None, "run_1", "message", "{}", "a:0", 0, id) for id in ids]


def there(taken, *ids):
    """Which of these are still there."""
    return [signal.id for signal in taken.still_there(brought(*ids))]


def test_what_was_consumed_while_somebody_reads_is_not_there_for_any_reader():
    """Also not for one who began later, and read before it was consumed."""
    taken = TakenSignals()
    with taken.reading(), taken.reading():
        taken.add([1, 2])
        assert there(taken, 1, 2, 3) == [3]


def test_what_nobody_can_hold_any_more_is_forgotten():
    """Although on a busy node there is always somebody who reads."""
    taken = TakenSignals()
    reader = taken.reading()
    reader.__enter__()
    for id in range(100):
        taken.add([id])
        following = taken.reading()
        following.__enter__()
        reader.__exit__(None, None, None)
        reader = following
    assert len(taken._ids) == 0
    taken.add([100])
    assert there(taken, 100) == []
    reader.__exit__(None, None, None)
    assert len(taken._ids) == 0
