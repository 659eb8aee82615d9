"""When must this node look up? At the earliest moment that anything is due, and soon after something can wait a little.

One alarm for all that is due, of live runs and in the store; one for the drafts that are in no hurry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.values.clock import Alarm

if TYPE_CHECKING:
    from perdure.kernel.activation import Activation
    from perdure.kernel.kernel import Kernel

#: What is in no hurry is written with whatever is, or after this.
_LAZY_SECONDS = 0.05


class Alarms:
    """The alarms of one node, but for that of its leases."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._lazy: set[Activation] = set()
        self._lazy_alarm: Alarm | None = None
        self._alarm: Alarm | None = None
        self._alarm_at: int | None = None
        #: when the first run whose row says so wakes
        self._store_due: int | None = None

    def write_soon(self, activation: Activation) -> None:
        """Write the run's draft within 50 ms."""
        self._lazy.add(activation)
        if self._lazy_alarm is None:
            self._lazy_alarm = self._kernel.clock.call_later(_LAZY_SECONDS, self._write_lazy)

    def due_for(self, activation: Activation, due: int) -> None:
        """A live run has something due."""
        self._kernel.live.due_for(activation, due)
        self._ring_at(due)

    def due_at(self, due: int) -> None:
        """Some run's row says that it wakes at `due`."""
        if self._store_due is None or due < self._store_due:
            self._store_due = due
            self._ring_at(due)

    def overdue(self, now: int) -> bool:
        """True when something is due that was not looked at."""
        return any(due is not None and due <= now for due in (self._kernel.live.next_due(), self._store_due))

    def ring(self) -> None:
        """Do what is due, and set the alarm for what is due next."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._alarm_at = None
        now = self._kernel.clock.now_us()
        self._kernel.live.fire_due(now)
        if self._store_due is not None and self._store_due <= now:
            self._store_due = None
            self._kernel.spawn_task(self._kernel.ownership.wake_due(now))
        for due in (self._kernel.live.next_due(), self._store_due):
            if due is not None:
                self._ring_at(due)
        self._kernel.check_idle()

    def cancel(self) -> None:
        """Nothing rings any more."""
        for alarm in (self._alarm, self._lazy_alarm):
            if alarm is not None:
                alarm.cancel()

    def _ring_at(self, due: int) -> None:
        if self._kernel.halted:
            return
        if self._alarm is not None:
            if self._alarm_at is not None and self._alarm_at <= due:
                return
            self._alarm.cancel()
        self._alarm_at = due
        seconds = max(0.0, (due - self._kernel.clock.now_us()) / 1e6)
        self._alarm = self._kernel.clock.call_later(seconds, self.ring)

    def _write_lazy(self) -> None:
        self._lazy_alarm = None
        lazy, self._lazy = self._lazy, set()
        for activation in lazy:
            if not activation.writer.draft.empty or activation.steps.streams_wait:
                activation.writer.write_now()
