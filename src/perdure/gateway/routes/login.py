"""Login: how a browser comes to be known, without a key in any URL or script."""

from __future__ import annotations

from perdure.gateway import schemas
from perdure.gateway.access.access import refuse_borrowed
from perdure.gateway.access.principal import Scope
from perdure.gateway.endpoint import Answer, Call, Section
from perdure.values.clock import iso

login = Section("Login", "One-time codes that log a browser in.")


@login.post("/v1/login", scope=None, body=schemas.LoginBody, answers=schemas.Health, problems=(401,))
async def log_in(call: Call) -> Answer:
    """Log this browser in, with a one-time code or a key."""
    address = (call.connection.get("client") or ("?",))[0]
    cookie = await call.gateway.access.log_in(call.body.code, address)
    return Answer({"status": "ok"}, headers={"Set-Cookie": _cookie(call, cookie, call.gateway.settings.login_seconds)})


@login.post("/v1/logout", scope=Scope.VIEWER, body=schemas.Nothing, body_optional=True, answers=schemas.Health)
async def log_out(call: Call) -> Answer:
    """Log this browser out."""
    await call.gateway.access.log_out(call.headers)
    return Answer({"status": "ok"}, headers={"Set-Cookie": _cookie(call, "", 0)})


@login.post(
    "/v1/login-codes", scope=Scope.VIEWER, body=schemas.Nothing, body_optional=True, answers={201: schemas.LoginCode}
)  # fmt: skip
async def make_login_code(call: Call) -> Answer:
    """A code that logs a browser in once, as who asks for it."""
    refuse_borrowed(call.principal)
    code, expires = await call.gateway.access.logins.make_code(call.principal)
    url = f"{call.gateway.settings.public_url}/#/login?code={code}"
    return Answer({"code": code, "url": url, "expires": iso(expires)}, 201)


def _cookie(call: Call, value: str, seconds: float) -> str:
    settings = call.gateway.settings
    secure = "; Secure" if settings.tls else ""
    return (
        f"{call.gateway.access.cookie}={value}; Path={settings.prefix or '/'}; Max-Age={round(seconds)}; "
        f"HttpOnly; SameSite=Strict{secure}"
    )
