"""`perdure dev` and `perdure serve` as processes: ready at once, killed and back, on new code, and shut to strangers."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.gateway.processes import TOKEN, free_port, running

pytestmark = pytest.mark.slow

SHOP = """
from perdure import Context, agent, tool

@tool(effect="keyed")
async def greet(name: str) -> str:
    with open("effects.txt", "a") as file:
        file.write(name + "\\n")
    return "GREETING " + name

@agent
async def greeter(ctx: Context) -> list[str]:
    said = []
    while (name := await ctx.receive("name")) != "stop":
        said.append(await greet(name))
    return said
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with an agent."""
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def follow(url, run, after):
    """The events of a run's stream until the server or the run ends."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "text/event-stream", "Last-Event-ID": str(after)}
    found = []
    try:
        with (
            httpx2.Client(base_url=url, timeout=20) as client,
            client.stream("GET", f"/v1/runs/{run}/events", headers=headers) as answer,
        ):
            found += [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]
    except httpx2.HTTPError:
        pass  # killed
    return found


def test_a_killed_server_goes_on_where_it_was(folder):
    """A reader that comes back has every event once; what was acknowledged is not done again."""
    words = ("dev", "shop.py", "--port", str(free_port()))
    with running(folder, *words) as server:
        run = server.start()
        first = []
        reader = threading.Thread(target=lambda: first.extend(follow(server.said["url"], run, 0)))
        reader.start()
        for number in range(20):
            server.tell(run, f"n{number}")
        server.end(signal.SIGKILL)
        reader.join(20)
    seen = [event["seq"] for event in first]
    assert seen == list(range(1, len(seen) + 1))
    with running(folder, *words) as server:
        server.tell(run, "stop")
        rest = follow(server.said["url"], run, len(seen))
        answer = server.client.get(f"/v1/runs/{run}/result", params={"wait": 20}).json()
    assert [event["seq"] for event in rest] == list(range(len(seen) + 1, rest[-1]["seq"] + 1))
    assert answer.get("result") == [f"GREETING n{number}" for number in range(20)], answer


def test_new_code_takes_over_running_runs(folder):
    """An edit starts the process again on the same address; the waiting run goes on with the new code."""
    with running(folder, "dev", "shop.py", "--port", str(free_port())) as server:
        run = server.start()
        server.tell(run, "ann")
        while "GREETING ann" not in server.client.get(f"/v1/runs/{run}/events").text:
            pass
        (folder / "shop.py").write_text(SHOP.replace("GREETING", "HELLO"))
        again = json.loads(server.line())
        assert again["url"] == server.said["url"]
        server.tell(run, "bob")
        server.tell(run, "stop")
        answer = server.client.get(f"/v1/runs/{run}/result", params={"wait": 20}).json()
        assert answer["result"] == ["GREETING ann", "HELLO bob"]


def test_code_that_does_not_load_changes_nothing(folder):
    """The old code goes on; once it loads again, it is taken."""
    with running(folder, "dev", "shop.py", "--port", str(free_port())) as server:
        (folder / "shop.py").write_text(SHOP + "\nthis is no Python\n")
        assert "does not load" in server.errors.readline()
        run = server.start()
        server.tell(run, "ann")
        (folder / "shop.py").write_text(SHOP + "\n")
        server.line()
        server.tell(run, "stop")
        assert server.client.get(f"/v1/runs/{run}/result", params={"wait": 20}).json()["result"] == ["GREETING ann"]


def test_dev_logs_a_browser_in_and_keeps_its_token(folder):
    """The page's address holds a code that is good once; the token is the same at the next start, and nobody else's."""
    with running(folder, "dev", "shop.py", "--port", "0", env={"PERDURE_TOKEN": ""}) as server:
        token, code = server.said["token"], server.said["page"].partition("code=")[2]
        assert httpx2.post(f"{server.said['url']}/v1/login", json={"code": code}).status_code == 200
        assert httpx2.post(f"{server.said['url']}/v1/login", json={"code": code}).status_code == 401
        assert (folder / ".perdure" / "dev-token").stat().st_mode & 0o077 == 0
    with running(folder, "dev", "shop.py", "--port", "0", env={"PERDURE_TOKEN": ""}) as server:
        assert server.said["token"] == token


def test_serve_ends_in_good_order(folder):
    """SIGTERM ends open streams, and the process with 0."""
    with running(folder, "serve", "shop.py", "--port", "0") as server:
        run = server.start()
        found = []
        reader = threading.Thread(target=lambda: found.extend(follow(server.said["url"], run, 0)))
        reader.start()
        while not found and reader.is_alive() and not server.client.get(f"/v1/runs/{run}").json()["wait"]:
            pass
        assert server.end() == 0
        reader.join(20)
        assert not reader.is_alive()


def refusal(folder, *words, env=None):
    """What a server that does not start says; its exit code must not be 0."""
    command = [sys.executable, "-m", "perdure", *words]
    environment = {name: value for name, value in {**os.environ, **(env or {})}.items() if value}
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode != 0
    return ended.stderr


def test_08_nothing_listens_beyond_this_machine_without_tls(folder):
    """Keys would travel in the clear."""
    for host in ("0.0.0.0", "::", "10.1.2.3"):
        assert "--tls-cert" in refusal(folder, "serve", "shop.py", "--host", host, env={"PERDURE_TOKEN": TOKEN})


def test_nobody_serves_what_nobody_may_call(folder):
    """Without any admin's key there is no server; nor with a key that anybody could guess."""
    assert "perdure key create" in refusal(folder, "serve", "shop.py", "--port", "0", env={"PERDURE_TOKEN": ""})
    assert "at least 16" in refusal(folder, "serve", "shop.py", "--port", "0", env={"PERDURE_TOKEN": "secret"})


def test_a_taken_port_is_told(folder):
    """`dev` takes the next one, unless it was told which."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert "--port" in refusal(folder, "serve", "shop.py", "--port", port, env={"PERDURE_TOKEN": TOKEN})


def certificate(folder):
    """A certificate for this machine, signed by itself; the files of it and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    files = folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


def test_it_speaks_tls(folder):
    """With its own certificate; the cookie then travels over TLS only."""
    cert, key = certificate(folder)
    port = free_port()
    words = ("--tls-cert", str(cert), "--tls-key", str(key), "--public-url", f"https://localhost:{port}")
    with running(folder, "serve", "shop.py", "--port", str(port), *words) as server:
        assert server.said["url"] == f"https://localhost:{port}"
        trusted = ssl.create_default_context(cafile=str(cert))
        with httpx2.Client(base_url=server.said["url"], verify=trusted, timeout=20) as client:
            assert client.get("/healthz").json() == {"status": "ok"}
            cookie = client.post("/v1/login", json={"code": TOKEN}).headers["set-cookie"]
        assert cookie.startswith("__Host-perdure=")
        assert "; Secure" in cookie
