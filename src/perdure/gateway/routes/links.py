"""Approval links: one decision with one tap, on a page that needs no login and no script.

Looking changes nothing, however often programs look at links; the page's form decides, sent by the page itself.
"""

from __future__ import annotations

import json
from html import escape
from typing import Any
from urllib.parse import parse_qsl

from pydantic import ValidationError
from starlette.responses import Response
from starlette.types import ASGIApp

from perdure.errors import AlreadySettled, InvalidInput
from perdure.gateway import trigger_schemas
from perdure.gateway.access.principal import Scope
from perdure.gateway.endpoint import Answer, Call, Section
from perdure.gateway.problems import Problem
from perdure.triggers.links import DeadLink, Link
from perdure.values.clock import iso
from perdure.values.json import decode

links = Section("Approval links", "Links that are good for one decision about one exact action, without a login.")

_FORM = "application/x-www-form-urlencoded"
#: What the names of the fields begin with that hold arguments.
_ARGUMENT = "arg."
#: The page's form has to say where it comes from, so unlike other pages this one may; only ever to this server.
_HEADERS = {"Referrer-Policy": "same-origin", "Cache-Control": "no-store"}


@links.post(
    "/v1/asks/{ask}/links", scope=Scope.APPROVER, body=trigger_schemas.LinkBody, body_optional=True,
    answers={201: trigger_schemas.Link}, problems=(404, 409),
)  # fmt: skip
async def make_link(call: Call) -> Answer:
    """A link with which whoever has it may approve or reject this one action, once; with `edit`, change it first."""
    body: trigger_schemas.LinkBody = call.body
    token, expires = await call.gateway.triggers.links.make(
        call.path["ask"], by=call.principal.name, to=body.to, expires_seconds=body.expires_seconds, edit=body.edit
    )
    return Answer({"url": f"{call.gateway.settings.public_url}/a/{token}", "expires": expires}, 201)


@links.get("/a/style.css", scope=None, answers={200: "text/css"})
async def link_style(call: Call) -> ASGIApp:
    """The looks of the page."""
    return Response(_STYLE, media_type="text/css", headers={"Cache-Control": "max-age=3600"})


@links.get("/a/{token}", scope=None, answers={200: "text/html", 410: "text/html"})
async def show_link(call: Call) -> ASGIApp:
    """The action and its arguments, with a form to approve or reject. Looking changes nothing."""
    try:
        link = await call.gateway.triggers.links.look(call.path["token"])
    except DeadLink as error:
        return _dead(call, str(error))
    return _page(f"Approve {link.action}?", _question(link))


@links.post(
    "/a/{token}", scope=None, body=bytes, takes=_FORM, problems=(415,),
    answers={200: "text/html", 410: "text/html", 422: "text/html"},
)  # fmt: skip
async def decide_link(call: Call) -> ASGIApp:
    """Approve or reject; the link is used up by it."""
    # The guard has compared it with our own; here it must be there.
    if call.header("origin") is None:
        raise Problem(403, "a decision is sent by the link's own page", error="Forbidden")
    found, form, given = call.gateway.triggers.links, *_form(call)
    approve = form.decision == "approve"
    try:
        edit = _changed(await found.look(call.path["token"]), given) if approve else None
        link = await found.decide(call.path["token"], approve=approve, edit=edit, note=form.note or None)
    except (DeadLink, AlreadySettled) as error:
        return _dead(call, str(error))
    except InvalidInput as error:
        return _page("That does not fit", f"<p class='done'>{_text(str(error))}. Go back and change it.</p>", 422)
    said = ("approved with your changes" if edit else "approved") if approve else "rejected"
    return _page(
        f"{said.capitalize()}", f"<p class='done'>{_text(link.action)} is {said}. You may close this page.</p>"
    )


def _form(call: Call) -> tuple[trigger_schemas.LinkForm, dict[str, str]]:
    """The decision, and the arguments as the form's fields say them."""
    if (call.header("content-type") or "").partition(";")[0].strip().lower() != _FORM:
        raise Problem(415, f"the page sends {_FORM}")
    try:
        pairs = parse_qsl(
            call.body.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=200
        )
        given = {name[len(_ARGUMENT) :]: value for name, value in pairs if name.startswith(_ARGUMENT)}
        said = {name: value for name, value in pairs if not name.startswith(_ARGUMENT)}
        return trigger_schemas.LinkForm.model_validate(said), given
    except (ValueError, ValidationError):
        raise Problem(
            422, "the form has a decision (approve or reject) and perhaps a note", error="InvalidInput"
        ) from None


def _changed(link: Link, given: dict[str, str]) -> dict[str, Any]:
    """The arguments that were changed on the page, by name. Raises InvalidInput."""
    changed: dict[str, Any] = {}
    for name, text in given.items():
        if name not in link.args:
            raise InvalidInput(f"{link.action} has no argument {name!r}")
        plain = _as_sent(text)
        if plain != _as_sent(_json(link.args[name])):
            changed[name] = plain if isinstance(link.args[name], str) else _value(name, plain)
    return changed


def _as_sent(text: str) -> str:
    """As a browser's field holds it, whatever line ends it was given or sends."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")


def _value(name: str, text: str) -> Any:
    try:
        return decode(text)
    except ValueError:
        raise InvalidInput(f"{name} is no JSON: {text[:100]!r}") from None


def _dead(call: Call, why: str) -> Response:
    # Whoever tries tokens one after the other is counted like whoever tries keys.
    call.gateway.access.count_wrong((call.connection.get("client") or ("?",))[0])
    return _page("Nothing to decide", f"<p class='done'>{_text(why)}</p>", 410)


def _question(link: Link) -> str:
    ask, args = link.ask, link.args if isinstance(link.args, dict) else {"": link.args}
    rows = "".join(f"<dt>{_text(name)}</dt><dd><pre>{_text(_json(value))}</pre></dd>" for name, value in args.items())
    title = "" if ask.title == link.action else f"<p>{_text(ask.title)}</p>"
    session = f", session {_text(ask.session)}" if ask.session is not None else ""
    return f"""<p class="who">{_text(ask.agent)}{session} wants to do this, and waits for you:</p>
{title}<dl>{rows}</dl>
<form method="post">{_fields(link)}<label for="note">Note (the agent sees it)</label>
<textarea id="note" name="note" maxlength="10000" rows="3"></textarea>
<button class="yes" name="decision" value="approve">Approve</button>
<button class="no" name="decision" value="reject">Reject</button></form>
<p class="small">For exactly this action, once, as {_text(link.by)}. The link is good until {iso(link.expires)[:16]}Z.
Run {_text(ask.run)}.</p>"""


def _fields(link: Link) -> str:
    """A field for each argument, where the link allows changes: what is approved is what they say."""
    if not link.edit or not isinstance(link.args, dict) or not link.args:
        return ""
    # A browser drops the first line end of a field: that one is ours.
    fields = "".join(
        f'<label for="arg-{number}">{_text(name)}</label>'
        f'<textarea id="arg-{number}" name="{_text(_ARGUMENT + name)}" rows="1">\n{escape(_json(value))}</textarea>'
        for number, (name, value) in enumerate(link.args.items())
    )
    return f"<details><summary>Change it first</summary>{fields}</details>"


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _text(text: str) -> str:
    """As it is, and as nothing else: no markup, and no characters that turn or hide what stands beside them."""
    return escape(
        "".join(letter if letter.isprintable() or letter == "\n" else f"\\u{ord(letter):04x}" for letter in text)
    )


def _page(title: str, body: str, status: int = 200) -> Response:
    html = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex"><title>{_text(title)}</title><link rel="stylesheet" href="style.css"></head>
<body><main><h1>{_text(title)}</h1>{body}</main></body></html>
"""
    return Response(html, status, _HEADERS, "text/html")


_STYLE = """:root { color-scheme: light dark; --line: #8884; --accent: #1f6f54; --no: #a3352c }
* { box-sizing: border-box }
body { margin: 0; font: 17px/1.5 system-ui, sans-serif }
main { max-width: 36rem; margin: 0 auto; padding: 2rem 1.25rem }
h1 { font-size: 1.5rem; line-height: 1.2; margin: 0 0 .5rem; overflow-wrap: anywhere }
.who, .small { opacity: .75 } .small { font-size: .8rem; margin-top: 2rem; overflow-wrap: anywhere }
dl { border: 1px solid var(--line); border-radius: .75rem; padding: .25rem 1rem; margin: 1.25rem 0 }
dt { font-size: .8rem; opacity: .75; margin-top: .75rem } dd { margin: 0 0 .75rem }
details { margin: 0 0 1rem } summary { cursor: pointer; padding: .5rem 0 }
details label { margin-top: .5rem }
pre { margin: 0; font: 15px/1.45 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere }
label { display: block; font-size: .8rem; opacity: .75 }
textarea { width: 100%; font: inherit; padding: .6rem; border: 1px solid var(--line); border-radius: .5rem;
  background: transparent; color: inherit }
button { width: 100%; min-height: 3rem; margin-top: .75rem; font: inherit; font-weight: 600; border-radius: .75rem;
  cursor: pointer }
.yes { background: var(--accent); border: 0; color: #fff }
.no { background: transparent; border: 1px solid var(--no); color: var(--no) }
@media (prefers-color-scheme: dark) { :root { --no: #f09088 } }
"""
