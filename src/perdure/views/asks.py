"""How is a question or an approval shown?"""

from __future__ import annotations

from typing import Any

from perdure.store.contract import Ask
from perdure.values.clock import iso
from perdure.values.json import decode


def ask_json(ask: Ask) -> dict[str, Any]:
    """An open ask, as the inbox lists it."""
    detail = decode(ask.detail)
    return {
        "id": ask.id, "kind": ask.kind, "run": ask.run, "agent": ask.agent, "session": ask.session, "step": ask.step,
        "title": ask.title, "to": ask.to, "created": iso(ask.created), "deadline": _moment(ask.deadline),
        "schema": detail.get("schema"), "action": detail.get("action"), "args": detail.get("args"),
    }  # fmt: skip


def settled_ask_json(ask: Ask) -> dict[str, Any]:
    """An ask with what became of it."""
    return {
        **ask_json(ask), "status": ask.status, "answer": None if ask.answer is None else decode(ask.answer),
        "by": ask.by, "note": ask.note, "closed": _moment(ask.closed),
    }  # fmt: skip


def _moment(time_us: int | None) -> str | None:
    return None if time_us is None else iso(time_us)
