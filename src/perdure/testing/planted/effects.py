"""Bugs about acting on the world: order, repetition, keys, consent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

from perdure.agents import approval
from perdure.agents.attempt import Attempt
from perdure.agents.tool import DID_NOT_HAPPEN
from perdure.governance import consent
from perdure.hands.tools import ToolHands
from perdure.kernel.contract import Decision
from perdure.testing.planted.patches import Patch, always, always_soon, replaced, together
from perdure.values.effects import Effect


def effect_before_journal() -> Patch:
    return mock.patch.object(Effect, "admitted", property(lambda _: False))


def once_is_repeated() -> Patch:
    return mock.patch.object(Effect, "repeatable", property(lambda _: True))


def unknown_is_not_happened() -> Patch:
    return replaced(ToolHands, "probe", always_soon(DID_NOT_HAPPEN))


def key_per_attempt() -> Patch:
    def make(init: Any) -> Any:
        def init_with_other_key(
            self: Attempt, run: str, session: Any, step: int, attempt: int, key: str, *more: Any
        ) -> None:
            init(self, run, session, step, attempt, f"{key}:{attempt}", *more)

        return init_with_other_key

    return replaced(Attempt, "__init__", make)


def consent_used_twice() -> Patch:
    """The gate does not ask whether a consent was used before."""
    given: dict[str, str] = {}

    def make(decide: Any) -> Any:
        def decide_from_memory(self: Any, admission: Any) -> Decision:
            given.update(admission.grants)
            return decide(self, replace(admission, grants={**given, **admission.grants}))

        return decide_from_memory

    def make_perform(perform: Any) -> Any:
        async def perform_again(self: approval.Approval) -> Any:
            self._performed = False
            return await perform(self)

        return perform_again

    return together(replaced(consent.ConsentGate, "decide", make), replaced(approval.Approval, "perform", make_perform))


def consent_for_anything() -> Patch:
    def by_name(name: str, _arguments: Any) -> str:
        return name

    return together(
        mock.patch.object(approval, "action_hash", by_name), mock.patch.object(consent, "action_hash", by_name)
    )


def no_consent() -> Patch:
    return replaced(consent.ConsentGate, "decide", always(Decision(allowed=True)))
