"""Who calls, and what may they do?"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a caller may do. Each but VIEWER includes looking; ADMIN includes all."""

    #: look at runs, journals, sessions, asks
    VIEWER = "viewer"
    #: start runs, send messages, pause, resume, cancel, retry, fork
    OPERATOR = "operator"
    #: answer questions, approve and reject actions
    APPROVER = "approver"
    #: keys, schedules, webhooks
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller that is known."""

    #: what journals keep as `by`
    name: str
    scopes: frozenset[Scope]
    #: how it is known: key | cookie | jwt | nobody
    via: str
    #: which one it is, where several have a name
    id: str = ""
    #: what it stands and falls with: `key ID HASH`, `token HASH`, or "" for who has the store itself
    root: str = ""

    def may(self, scope: Scope) -> bool:
        """True when it may do what `scope` names."""
        return bool(self.scopes & _INCLUDED_IN[scope])


#: Scope -> the scopes that are enough for it.
_INCLUDED_IN = {
    Scope.VIEWER: frozenset(Scope),
    Scope.OPERATOR: frozenset({Scope.OPERATOR, Scope.ADMIN}),
    Scope.APPROVER: frozenset({Scope.APPROVER, Scope.ADMIN}),
    Scope.ADMIN: frozenset({Scope.ADMIN}),
}

#: Who calls an endpoint that asks for nobody.
NOBODY = Principal("nobody", frozenset(), "nobody")
