"""Attacks on the gateway, each with the number it has in the checklist that the project keeps (docs/reliability.md)."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
import resource
from pathlib import Path

import httpx2
import pytest

import perdure
from perdure.errors import StoreBusy
from perdure.gateway.access.principal import Scope
from perdure.gateway.access.rates import Rates
from perdure.store import MemoryStore, SqliteStore
from tests.gateway.servers import TOKEN, play, served

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO")
BROWSER = {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-origin"}


def endpoints(gateway):
    """Every endpoint there is, with a path in which all variables say something."""
    for section in gateway.sections:
        for endpoint in section.endpoints:
            yield endpoint, re.sub(r"\{\w+\}", "x", endpoint.path)


async def logged_in(server, *scopes):
    """A browser: a client that is known by its cookie."""
    client = httpx2.AsyncClient(base_url=server.url, transport=httpx2.ASGITransport(app=server.gateway))
    answer = await client.post("/v1/login", json={"code": await server.key(*scopes or ["admin"])}, headers=BROWSER)
    assert answer.status_code == 200, answer.text
    return client


class TestWeb:
    def test_01_without_a_key_there_is_nothing(self):
        """Every route and method answers 401, but those that are public by intent; so does what is not there."""
        public = {
            ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/openapi.json"), ("GET", "/docs"), ("POST", "/v1/login"),
            ("GET", "/"), ("GET", "/console/{file}"), ("GET", "/console/{folder}/{file}"),
        }  # fmt: skip

        async def scenario(server):
            bare = httpx2.AsyncClient(base_url=server.url, transport=httpx2.ASGITransport(app=server.gateway))
            open_to_all = {
                (endpoint.method, endpoint.path) for endpoint, _ in endpoints(server.gateway) if endpoint.scope is None
            }
            assert open_to_all - TRIGGERED == public
            paths = {path: endpoint.path for endpoint, path in endpoints(server.gateway)}
            tried = 0
            for path, pattern in [*paths.items(), ("/v1/nothing", ""), ("/v1", ""), ("/admin", "")]:
                for method in METHODS:
                    asked = "GET" if method == "HEAD" else method
                    if (asked, pattern) in open_to_all:
                        continue
                    answer = await bare.request(method, path)
                    assert answer.status_code == 401, (method, path, answer.status_code)
                    tried += 1
            assert tried > 200

        play(scenario)

    def test_01_every_scope_is_kept(self):
        """A key does what its scope says and nothing more, on every route."""
        enough = {
            Scope.VIEWER: {"viewer", "operator", "approver", "admin"}, Scope.OPERATOR: {"operator", "admin"},
            Scope.APPROVER: {"approver", "admin"}, Scope.ADMIN: {"admin"},
        }  # fmt: skip

        async def scenario(server):
            keys = {name: await server.key(name) for name in ("viewer", "operator", "approver")}
            for endpoint, path in endpoints(server.gateway):
                if endpoint.scope is None or path == "/v1/changes":
                    continue
                for name, key in keys.items():
                    headers = {"Authorization": f"Bearer {key}"}
                    answer = await server.client.request(endpoint.method, path, headers=headers)
                    refused = answer.status_code == 403
                    assert refused == (name not in enough[endpoint.scope]), (endpoint.method, path, name)

        play(scenario)

    @pytest.mark.parametrize(
        "host",
        ["evil.com", "127.0.0.1.evil.com", "127.0.0.1.", "localhost.", "2130706433", "0.0.0.0", "", "[::]", "a:b:c"],
    )
    def test_02_03_another_host_is_not_answered_for(self, host):
        """Whoever the peer is: a page that named this machine's address by a name of its own gets nothing."""

        async def scenario(server):
            for path in ("/", "/healthz", "/v1/runs"):
                answer = await server.get(path, headers={"Host": host})
                assert answer.status_code == 421

        play(scenario)

    def test_02_another_port_is_not_answered_for(self):
        """Where the server knows its own."""

        async def scenario(server):
            assert (await server.get("/healthz", headers={"Host": "127.0.0.1:9"})).status_code == 421
            assert (await server.get("/healthz", headers={"Host": "127.0.0.1:8420"})).status_code == 200

        play(scenario, port=8420)

    @pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
    def test_04_a_form_of_another_site_is_refused(self, kind):
        """By its origin; and even from here nothing but JSON is read."""

        async def scenario(server):
            client = await logged_in(server)
            body = json.dumps({"a": 1}).encode()
            foreign = {"Content-Type": kind, "Origin": "http://evil.com", "Sec-Fetch-Site": "cross-site"}
            answer = await client.post("/v1/agents/adder/runs", content=body, headers=foreign)
            assert answer.status_code == 403
            own = {"Content-Type": kind, **BROWSER, "X-Perdure-CSRF": "1"}
            answer = await client.post("/v1/agents/adder/runs", content=body, headers=own)
            assert answer.status_code == 415
            assert (await server.get("/v1/runs")).json()["items"] == []

        play(scenario)

    def test_04_a_cookie_alone_changes_nothing(self):
        """A script of ours says so with a header that forms cannot send."""

        async def scenario(server):
            client = await logged_in(server)
            answer = await client.post("/v1/agents/adder/runs", json={"a": 1}, headers=BROWSER)
            assert answer.status_code == 403
            answer = await client.post(
                "/v1/agents/adder/runs", json={"a": 1}, headers={**BROWSER, "X-Perdure-CSRF": "1"}
            )
            assert answer.status_code == 201

        play(scenario)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize(
        "sent", [{"Origin": "http://evil.com"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}]
    )
    def test_05_no_method_is_open_to_other_sites(self, method, sent):
        """Not even those that change nothing."""

        async def scenario(server):
            for path in ("/v1/runs", "/v1/runs/x/cancel", "/v1/keys/x"):
                answer = await server.client.request(method, path, headers={**sent, "X-Perdure-CSRF": "1"})
                assert answer.status_code == 403, (method, path)

        play(scenario)

    def test_05_a_header_does_not_override_the_method(self):
        """A GET stays a GET."""

        async def scenario(server):
            run = await server.start("listener")
            for name in ("X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"):
                answer = await server.get(f"/v1/runs/{run['id']}/cancel", headers={name: "POST"})
                assert answer.status_code == 405
            assert (await server.runtime.find(run["id"])).status != "cancelled"

        play(scenario)

    @pytest.mark.parametrize("origin", ["http://evil.com", "null", None, "http://127.0.0.1"])
    def test_06_no_websocket_is_accepted(self, origin):
        """None is offered: refused before it is accepted."""

        async def scenario(server):
            sent = []
            headers = [(b"host", b"127.0.0.1"), *([(b"origin", origin.encode())] if origin else [])]
            scope = {"type": "websocket", "path": "/v1/changes", "raw_path": b"/v1/changes", "headers": headers}

            async def receive():
                return {"type": "websocket.connect"}

            async def send(message):
                sent.append(message["type"])

            await server.gateway(scope, receive, send)
            assert sent == ["websocket.close"]

        play(scenario)

    @pytest.mark.parametrize(
        "origin", ["http://evil.com", "null", "http://127.0.0.1.evil.com", "http://localhost.evil.com"]
    )
    def test_07_no_origin_is_let_in(self, origin):
        """And none is named in an answer."""

        async def scenario(server):
            for method in ("GET", "OPTIONS"):
                answer = await server.client.request(method, "/v1/runs", headers={"Origin": origin})
                assert answer.status_code == 403
                assert not [name for name in answer.headers if name.startswith("access-control")]
            own = await server.get("/v1/runs", headers=BROWSER)
            assert not [name for name in own.headers if name.startswith("access-control")]

        play(scenario)

    def test_09_no_key_is_taken_from_a_url(self):
        """Nor is one written to a log; the cookie is out of reach of scripts and other sites."""

        async def scenario(server):
            bare = httpx2.AsyncClient(base_url=server.url, transport=httpx2.ASGITransport(app=server.gateway))
            for name in ("token", "key", "access_token", "authorization"):
                answer = await bare.get(f"/v1/runs?{name}={TOKEN}")
                assert answer.status_code == 401
                assert TOKEN not in answer.text
            answer = await bare.post("/v1/login", json={"code": TOKEN}, headers=BROWSER)
            cookie = answer.headers["set-cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
            assert TOKEN not in cookie

        play(scenario)

    def test_09_nothing_secret_is_logged(self, caplog):
        """Whatever goes wrong."""
        caplog.set_level(logging.DEBUG)

        async def scenario(server):
            key = await server.key("viewer")
            await server.get("/v1/runs", headers={"Authorization": f"Bearer {key}"})
            await server.get("/v1/nothing", headers={"Authorization": f"Bearer {key}x"})
            await server.post("/v1/login", {"code": key})

            async def broken(*_, **__):
                raise RuntimeError("an inner detail")

            server.runtime.runs = broken
            answer = await server.get("/v1/runs", headers={"Authorization": f"Bearer {key}"})
            assert answer.status_code == 500
            assert "inner detail" not in answer.text
            for record in caplog.records:
                assert key not in record.getMessage()
                assert TOKEN not in record.getMessage()

        play(scenario)

    def test_09_a_code_logs_in_once(self):
        """Used, expired and made-up ones do not."""

        async def scenario(server):
            code = (await server.post("/v1/login-codes")).json()
            assert code["code"] in code["url"]
            answers = await asyncio.gather(*(server.post("/v1/login", {"code": code["code"]}) for _ in range(5)))
            assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401, 401]
            assert (await server.post("/v1/login", {"code": "AAAAA-BBBBB-CCCCC"})).status_code == 401

        play(scenario)

    def test_09_nothing_is_told_of_the_store(self):
        """Its own words name hosts and files; strangers hear that it does not answer."""

        async def scenario(server):
            async def away(*_, **__):
                raise StoreBusy("postgresql://shop@db.internal:5432/shop refused")

            server.runtime.store.document = away
            for headers in ({"Authorization": "Bearer perdure_0123456789ab_x"}, {"Authorization": "Bearer x.y.z"}):
                answer = await server.get("/v1/runs", headers=headers)
                assert "db.internal" not in answer.text
            answer = await server.post("/v1/login", {"code": "AAAAA-BBBBB-CCCCC"})
            assert answer.status_code == 503
            assert "db.internal" not in answer.text

        play(scenario)

    @pytest.mark.parametrize(
        "path",
        [
            "/x/healthz", "//healthz", "/healthz/", "/v1/%72uns", "/v1/./runs", "/v1/../v1/runs", "/%76%31/runs",
            "/v1/runs;x=1", "/v1/runs/", "/V1/RUNS", "/v1/runs%2f", "/console/../v1/runs", "/v1/runs/healthz",
            "/healthz/../v1/runs", "/healthz%2f..%2fv1%2fruns",
        ],
    )  # fmt: skip
    def test_10_no_other_spelling_is_a_way_in(self, path):
        """Without a key 401; with one, 404: there is one spelling of each path."""

        async def scenario(server):
            for key, status in (("", 401), (f"Bearer {TOKEN}", 404)):
                headers = [(b"host", b"127.0.0.1"), (b"authorization", key.encode())]
                answer = await raw(server.gateway, path, [header for header in headers if header[1]])
                assert answer["status"] == status, (path, key)

        play(scenario)

    def test_11_what_runs_say_is_data(self):
        """Never a page: JSON that nobody guesses another type for, and a policy that runs no script but our files."""

        async def scenario(server):
            evil = "<script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m"
            run = await server.start("buyer", [evil], session=evil.replace("\x1b", ""))
            await server.idle()
            for path in ("", "/events", "/steps", "/asks"):
                answer = await server.get(f"/v1/runs/{run['id']}{path}")
                assert answer.headers["content-type"] == "application/json"
                assert answer.headers["x-content-type-options"] == "nosniff"
            page = await server.get("/")
            policy = page.headers["content-security-policy"]
            assert "default-src 'self'" in policy
            assert "unsafe" not in policy
            docs = await server.get("/docs")
            assert "<script" not in docs.text

        play(scenario)

    def test_12_nobody_frames_it(self):
        """Every answer says so."""

        async def scenario(server):
            for path in ("/", "/v1/runs", "/nothing"):
                answer = await server.get(path)
                assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
                assert answer.headers["x-frame-options"] == "DENY"

        play(scenario)

    def test_13_a_rotated_or_revoked_key_is_refused(self):
        """So is the login that came from it."""

        async def scenario(server):
            key, text = await server.gateway.access.keys.create("reader", ["viewer"])
            client = httpx2.AsyncClient(base_url=server.url, transport=httpx2.ASGITransport(app=server.gateway))
            await client.post("/v1/login", json={"code": text})
            assert (await client.get("/v1/runs")).status_code == 200
            rotated = (await server.post(f"/v1/keys/{key.id}/rotate")).json()["key"]
            server.gateway.access._believed.clear()
            assert (await server.get("/v1/runs", headers={"Authorization": f"Bearer {text}"})).status_code == 401
            assert (await server.get("/v1/runs", headers={"Authorization": f"Bearer {rotated}"})).status_code == 200
            assert (await server.client.delete(f"/v1/keys/{key.id}")).status_code == 204
            server.gateway.access._believed.clear()
            assert (await server.get("/v1/runs", headers={"Authorization": f"Bearer {rotated}"})).status_code == 401
            assert (await client.get("/v1/runs")).status_code == 401

        play(scenario)

    def test_13_a_login_ends_with_what_it_came_from(self):
        """A code of a key, and a code that was made by who had logged in with that: another text of the key ends both."""

        async def scenario(server):
            key, text = await server.gateway.access.keys.create("me", ["admin"])
            shown, clients = {"Authorization": f"Bearer {text}"}, []
            for _ in range(2):
                client = httpx2.AsyncClient(base_url=server.url, transport=httpx2.ASGITransport(app=server.gateway))
                code = (await client.post("/v1/login-codes", headers=shown)).json()["code"]
                answer = await client.post("/v1/login", json={"code": code})
                cookie = answer.headers["set-cookie"].partition(";")[0]
                shown = {"Cookie": cookie, "X-Perdure-CSRF": "1"}
                clients.append(client)
            for client in clients:
                assert (await client.get("/v1/runs")).status_code == 200
            await server.post(f"/v1/keys/{key.id}/rotate")
            server.gateway.access._believed.clear()
            for client in clients:
                assert (await client.get("/v1/runs")).status_code == 401

        play(scenario)

    def test_13_a_login_by_the_servers_token_ends_with_that(self):
        """Another token: another server."""

        async def scenario():
            store = MemoryStore()
            async with served(store=store) as server:
                client = httpx2.AsyncClient(base_url=server.url, transport=httpx2.ASGITransport(app=server.gateway))
                cookie = (await client.post("/v1/login", json={"code": TOKEN})).headers["set-cookie"].partition(";")[0]
                assert (await client.get("/v1/runs", headers={"Cookie": cookie})).status_code == 200
            async with served(store=store, token="quite-another-token") as server:
                client = httpx2.AsyncClient(base_url=server.url, transport=httpx2.ASGITransport(app=server.gateway))
                assert (await client.get("/v1/runs", headers={"Cookie": cookie})).status_code == 401

        asyncio.run(scenario())

    def test_14_guessing_is_slow(self):
        """An address that shows wrong keys is told to wait, and a right key is not held up by it for ever."""

        async def scenario(server):
            bare = httpx2.AsyncClient(base_url=server.url, transport=httpx2.ASGITransport(app=server.gateway))
            answers = [await bare.get("/v1/runs", headers={"Authorization": f"Bearer wrong{n}"}) for n in range(30)]
            statuses = [answer.status_code for answer in answers]
            assert statuses[:10] == [401] * 10
            assert statuses[-1] == 429
            assert int(answers[-1].headers["retry-after"]) >= 1
            assert (await bare.post("/v1/login", json={"code": "AAAAA-BBBBB-CCCCC"})).status_code == 429
            assert (await server.get("/v1/runs")).status_code == 200

        play(scenario, wrong_keys_at_once=20)

    def test_14_a_caller_has_a_rate(self):
        """With what is left in every answer."""

        async def scenario(server):
            answers = [await server.get("/v1/me") for _ in range(6)]
            assert [answer.status_code for answer in answers] == [200] * 5 + [429]
            assert answers[0].headers["ratelimit"] == '"default";r=4'
            assert answers[0].headers["ratelimit-policy"].startswith('"default";q=5;w=')
            assert int(answers[-1].headers["retry-after"]) >= 1

        play(scenario, requests_per_second=0.01, requests_at_once=5)

    def test_14_strangers_have_a_rate_too(self):
        """For what anybody may ask for, by their address."""

        async def scenario(server):
            access = server.gateway.access
            access._public = Rates(server.runtime.kernel.clock, 0.01, 3)
            answers = [await server.get("/healthz") for _ in range(4)]
            assert [answer.status_code for answer in answers] == [200] * 3 + [429]
            assert (await server.get("/v1/me")).status_code == 200

        play(scenario)

    def test_15_what_a_caller_says_of_itself_is_not_believed(self):
        """Scopes and users come from the key alone."""

        async def scenario(server):
            said = {
                "X-Forwarded-User": "admin", "X-Scopes": "admin", "X-Forwarded-Host": "evil.com", "X-Remote-User": "root",
                "X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1", "X-Original-URL": "/v1/keys",
            }  # fmt: skip
            key = await server.key("viewer")
            headers = {**said, "Authorization": f"Bearer {key}"}
            assert (await server.get("/v1/me", headers=headers)).json()["scopes"] == ["viewer"]
            assert (await server.get("/v1/keys", headers=headers)).status_code == 403
            bare = httpx2.AsyncClient(base_url=server.url, transport=httpx2.ASGITransport(app=server.gateway))
            assert (await bare.get("/v1/runs", headers=said)).status_code == 401

        play(scenario)


#: Public endpoints of triggers: what they are shown is a signature, or a token of their own.
TRIGGERED = {("POST", "/v1/hooks/{hook}"), ("GET", "/a/{token}"), ("POST", "/a/{token}"), ("GET", "/a/style.css")}


class TestState:
    def test_16_nothing_is_done_for_who_may_not(self):
        """Also not in a batch that names others' runs."""

        async def scenario(server):
            run = await server.start("listener")
            viewer = {"Authorization": f"Bearer {await server.key('viewer', 'approver')}"}
            body = {"action": "cancel", "ids": [run["id"]]}
            assert (await server.post("/v1/bulk/runs", body, headers=viewer)).status_code == 403
            assert (await server.post(f"/v1/runs/{run['id']}/cancel", headers=viewer)).status_code == 403
            await server.idle()
            assert (await server.runtime.find(run["id"])).status == "waiting"

        play(scenario)

    def test_16_an_operator_answers_nobodys_questions(self):
        """Not by a fork that says what the question brought, either."""

        async def scenario(server):
            run = await server.start("asker", "How many?")
            await server.idle()
            operator = {"Authorization": f"Bearer {await server.key('operator')}"}
            path = f"/v1/runs/{run['id']}"
            assert (await server.post(f"{path}/fork", {"at": 1, "result": 7}, headers=operator)).status_code == 403
            both = {"Authorization": f"Bearer {await server.key('operator', 'approver')}"}
            assert (await server.post(f"{path}/fork", {"at": 1, "result": 7}, headers=both)).status_code == 201

        play(scenario)

    def test_18_names_that_look_alike_are_others(self):
        """No prefix, suffix or case of a name is that name."""

        async def scenario(server):
            await server.start("adder", {"a": 1}, wait=5, session="acme")
            for agent in ("adde", "adder2", "ADDER", "adder ", "%", "adder%"):
                assert (await server.get("/v1/runs", params={"agent": agent})).json()["items"] == []
            for session in ("acm", "acme2", "ACME", "a%", "_cme"):
                assert (await server.get("/v1/runs", params={"session": session})).json()["items"] == []

        play(scenario)

    def test_19_no_filter_is_sql(self, tmp_path):
        """What people type is a value, wherever it is typed."""
        evil = ["'", '"', "' or 1=1 --", "%", "_", "\\", "x'; drop table perdure_runs; --", "$1", "{}", "\u202e"]

        async def scenario(server):
            await server.start("adder", {"a": 1}, wait=5)
            for word in evil:
                for name in ("agent", "session", "parent", "cursor"):
                    answer = await server.get("/v1/runs", params={name: word})
                    assert answer.status_code in (200, 400)
                    if name != "cursor":
                        assert answer.status_code == 400 or answer.json()["items"] == []
                assert (await server.get("/v1/asks", params={"to": word})).status_code in (200, 400)
                assert (await server.get("/v1/sessions", params={"agent": word})).status_code in (200, 400)
            assert len((await server.get("/v1/runs")).json()["items"]) == 1

        play(scenario, store=SqliteStore(str(tmp_path / "store.db")))


class TestInput:
    @pytest.mark.parametrize(
        "path",
        [
            "/console/../pages.py", "/console/%2e%2e/pages.py", "/console/..%2fpages.py", "/console//etc/passwd",
            "/console/%2fetc%2fpasswd", "/console/style/../../pages.py", "/console/index.html%00.js",
            "/console/....//pages.py", "/console/style", "/console/",
        ],
    )  # fmt: skip
    def test_25_no_file_is_reached_but_the_consoles(self, path):
        """A request names one of the known files or nothing."""

        async def scenario(server):
            headers = [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {TOKEN}".encode())]
            answer = await raw(server.gateway, path, headers)
            assert answer["status"] in (400, 404)

        play(scenario)

    def test_26_what_unpacks_to_too_much_is_refused(self):
        """By what it unpacks to, before that is in memory."""

        async def scenario(server):
            bomb = gzip.compress(b'"' + b"a" * (200 << 20) + b'"')
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            for _ in range(3):
                answer = await server.client.post("/v1/agents/asker/runs", content=bomb, headers=headers)
                assert answer.status_code == 413
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
            twice = gzip.compress(gzip.compress(b'"x"'))
            answer = await server.client.post("/v1/agents/asker/runs", content=twice, headers=headers)
            assert answer.status_code == 400
            for encoding in ("br", "zstd", "deflate", "gzip, gzip", "identity, gzip"):
                answer = await server.client.post(
                    "/v1/agents/asker/runs", content=bomb, headers={**headers, "Content-Encoding": encoding}
                )
                assert answer.status_code == 415

        play(scenario)

    def test_26_a_packed_body_is_read(self):
        """When it is of a decent size."""

        async def scenario(server):
            headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            answer = await server.client.post(
                "/v1/agents/adder/runs", content=gzip.compress(b'{"a": 1}'), headers=headers
            )
            assert answer.status_code == 201

        play(scenario)

    def test_26_a_body_without_end_is_refused(self):
        """As soon as it is too long, whatever length it says."""

        async def scenario(server):
            async def endless():
                while True:
                    yield b"a" * 65_536

            headers = {"Content-Type": "application/json"}
            answer = await server.client.post("/v1/agents/asker/runs", content=endless(), headers=headers)
            assert answer.status_code == 413

        play(scenario)

    @pytest.mark.parametrize(
        "body",
        [
            b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000, b"9" * 5_000, b"NaN", b"[Infinity]", b'{"a": 1, "a": 2}',
            b'"\\ud800"', b'{"\\udfff": 1}', b'"\xff"', b"", b"{", b"'a'", b'"a" "b"', b"\xef\xbb\xbf1", b"[1,]", b"01",
        ],
    )  # fmt: skip
    def test_27_json_that_readers_disagree_about_is_refused(self, body):
        """400, and nothing is recorded."""

        async def scenario(server):
            headers = {"Content-Type": "application/json"}
            answer = await server.client.post("/v1/runs/x/messages", content=body, headers=headers)
            assert answer.status_code == 400, answer.text
            assert answer.headers["content-type"] == "application/problem+json"

        play(scenario)

    def test_27_a_million_keys_are_bounded(self):
        """By the size of a body."""

        async def scenario(server):
            body = json.dumps({str(number): 0 for number in range(1_000_000)}).encode()
            headers = {"Content-Type": "application/json"}
            answer = await server.client.post("/v1/agents/asker/runs", content=body, headers=headers)
            assert answer.status_code == 413

        play(scenario)

    def test_28_what_looks_like_code_is_data(self):
        """It comes back as it was sent."""
        evil = {
            "lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {"command": "true"},
            "__reduce__": ["os.system", ["true"]], "py/object": "os.system", "!!python/object/apply:os.system": ["true"],
        }  # fmt: skip

        async def scenario(server):
            run = await server.start("listener")
            for word in (evil, "stop"):
                await server.post(f"/v1/runs/{run['id']}/messages", {"topic": "word", "value": word})
            answer = await server.get(f"/v1/runs/{run['id']}/result", params={"wait": 10})
            assert answer.json()["result"] == [evil]

        play(scenario)

    def test_28_nothing_in_the_product_makes_objects_of_bytes(self):
        """No pickle, marshal, yaml.load, eval or exec."""
        loaders = r"(pickle|cPickle|marshal|shelve|dill|cloudpickle)\.(load|loads|dump|dumps)"
        banned = re.compile(rf"\b{loaders}\b|\beval\(|\bexec\(|yaml\.load\(")
        root = Path(perdure.__file__).parent
        found = [
            f"{path.relative_to(root)}: {line.strip()}"
            for path in root.rglob("*.py")
            for line in path.read_text(encoding="utf-8").splitlines()
            if banned.search(line) and not line.lstrip().startswith("#")
        ]
        assert [line for line in found if "exec_module" not in line] == []

    def test_29_a_journal_that_was_tampered_with_runs_no_code(self, tmp_path):
        """What cannot be read back is told as damage, of that run alone."""
        import apsw  # noqa: PLC0415 - an attacker's own

        path = str(tmp_path / "store.db")

        async def scenario():
            async with served(store=SqliteStore(path)) as server:
                run, other = [await server.start("adder", {"a": n}, wait=5) for n in (1, 2)]
                attacker = apsw.Connection(path)
                attacker.execute(
                    "update perdure_events set data = '!!python/object' where run = "
                    "(select key from perdure_runs where id = ?) and seq = 3", (run["id"],),
                )  # fmt: skip
                attacker.close()
                answer = await server.get(f"/v1/runs/{run['id']}/events")
                assert answer.status_code == 500
                assert answer.json()["error"] == "JournalDamaged"
                assert (await server.get(f"/v1/runs/{other['id']}/events")).status_code == 200

        asyncio.run(scenario())


async def raw(gateway, path, headers):
    """The answer to a GET whose path is sent as it is."""
    answer = {"body": b""}
    scope = {
        "type": "http", "method": "GET", "path": path.partition("?")[0], "raw_path": path.encode(), "query_string": b"",
        "headers": headers, "client": ("127.0.0.1", 1), "scheme": "http", "http_version": "1.1",
    }  # fmt: skip

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        if message["type"] == "http.response.start":
            answer["status"] = message["status"]
        else:
            answer["body"] += message.get("body", b"")

    await gateway(scope, receive, send)
    return answer
