"""A person's one-shot consent to one exact action: tool, arguments, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.errors import AlreadySettled
from perdure.journal.brain import Brain
from perdure.journal.commands import OpenAsk
from perdure.values.ids import ask_id
from perdure.values.json import decode, digest, encode

if TYPE_CHECKING:
    from perdure.agents.tool import Tool


def action_hash(name: str, arguments: Any) -> str:
    """What an approval binds to: the action's name and its exact arguments."""
    return digest({"action": name, "args": arguments})


class Approval:
    """The decision on one action. True in a condition when granted; `await approval.perform()` does it, once."""

    def __init__(self, brain: Brain, tool: Tool[..., Any] | None, command: OpenAsk, data: dict[str, Any]) -> None:
        self.approved: bool = data.get("approved", False)
        #: who decided, and what they wrote
        self.by: str | None = data.get("by")
        self.note: str | None = data.get("note")
        #: the arguments as approved (a person may have edited them), by name; a copy to look at, `perform` has its own
        self.args: dict[str, Any] = data.get("args", {})
        self.step = command.step
        self.id = ask_id(brain.run, command.step)
        self._arguments_json = encode(self.args)
        self._brain = brain
        self._tool = tool
        self._at = command.at
        self._performed = False

    def __bool__(self) -> bool:
        return self.approved

    @property
    def arguments_json(self) -> str:
        """The approved arguments as JSON text."""
        return self._arguments_json

    @property
    def arguments(self) -> dict[str, Any]:
        """The approved arguments as the tool's types. Raises InvalidInput when an edit does not fit them."""
        text = self._arguments_json
        return self._tool.signature.validate_json(text) if self._tool is not None else dict(decode(text))

    async def perform(self) -> Any:
        """Run the approved tool with the approved arguments. Raises AlreadySettled the second time."""
        if not self.approved or self._tool is None or self._performed:
            what = "was used before" if self._performed else "does not allow a tool call"
            raise AlreadySettled(f"approval {self.id} {what}")
        self._performed = True
        return await self._tool.issue(self._brain, self._at, self.arguments, self._arguments_json)


async def request_approval(
    brain: Brain, action: Tool[..., Any] | str, arguments_json: str, *, at: str, to: str | None = None,
    timeout: float | None = None, reason: str | None = None,
) -> Approval:  # fmt: skip
    """Open an approval for one exact action and wait for the decision. Raises AskTimeout after `timeout` seconds."""
    tool = None if isinstance(action, str) else action
    name = action if isinstance(action, str) else action.name
    arguments = decode(arguments_json)
    command = OpenAsk(
        "approval", name, at,
        title=reason or name,
        detail={
            "action": name,
            "args": arguments,
            "hash": action_hash(name, arguments),
            "schema": tool.signature.input_schema() if tool is not None else None,
        },
        to=to,
        deadline=brain.deadline(timeout),
    )  # fmt: skip
    command.decode = lambda data: Approval(brain, tool, command, data)
    approval: Approval = await brain.result(brain.issue(command))
    return approval
