"""May this step begin? Only with a person's unused consent to exactly this action, where the tool wants one."""

from __future__ import annotations

from perdure.agents.approval import action_hash
from perdure.kernel.contract import Admission, Decision
from perdure.values.json import decode


class ConsentGate:
    """The kernel's Gate: tools marked `approval=` need a matching, unused approval of their run."""

    def decide(self, admission: Admission) -> Decision:
        """Allow what needs no consent; use up the approval that matches; deny the rest."""
        if not admission.grants:
            if admission.approval is None:
                return Decision(allowed=True)
            return Decision(allowed=False, reason=_missing(admission))
        hash = action_hash(admission.name, decode(admission.arguments_json))
        approval = next((id for id, granted in admission.grants.items() if granted == hash), None)
        if approval is None and admission.approval is not None:
            return Decision(allowed=False, reason=_missing(admission))
        return Decision(allowed=True, approval=approval)


def _missing(admission: Admission) -> str:
    return f"{admission.name} needs the consent of {admission.approval} to exactly these arguments, and has none"
