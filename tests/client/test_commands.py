"""Commands with --server: what they print of a server is what they print of its store."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cli.conftest import AGENTS, COMMAND, Ended, Typed, environment


class Both(NamedTuple):
    """A server in a process of its own, and the store that it serves."""

    url: str
    token: str
    store: str
    typed: Typed

    def there(self, *words: str, **options: Any) -> Ended:
        """Type a command that asks the server."""
        return self.typed(*words, "--server", self.url, **options)

    def here(self, *words: str) -> Ended:
        """Type a command that opens the store."""
        return self.typed(*words, "--store", self.store)

    def alike(self, *words: str) -> Ended:
        """What a command prints in both places, which must be the same, but for how long things took."""
        there, here = self.there(*words), self.here(*words)
        assert there.code == here.code, (there, here)
        assert _timeless(there.out) == _timeless(here.out)
        assert there.err == here.err
        return there

    def begun(self, agent: str, *input: str) -> str:
        """A run that has come as far as it comes by itself."""
        ended = self.there("run", agent, *input, "--no-wait", "--json")
        assert ended.code == 3, ended
        return str(ended.json["id"])


def _timeless(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"\d+(\.\d+)? (ms|s|min)( ago|…)?", "", text))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """`perdure dev` on the agents of the command line's tests."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copy(AGENTS, folder / "shop.py")
    words = ["dev", "shop.py", "--port", "0", "--no-reload", "--no-open", "--json", "--store", "sqlite:///shop.db"]
    process = subprocess.Popen(
        [*COMMAND, *words], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    yield Both(ready["url"], ready["token"], f"sqlite:///{folder}/shop.db", Typed())
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)


@pytest.fixture
def shop(server, tmp_path, monkeypatch):
    """The server, for one test in a folder that has no store."""
    monkeypatch.chdir(tmp_path)
    for name in ("PERDURE_STORE", "PERDURE_SERVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PERDURE_TOKEN", server.token)
    return server


def test_an_agent_of_the_server_is_run_and_followed(shop):
    """Its result, its failure, its waiting: with the exit codes of `run FILE.py:AGENT`."""
    ended = shop.there("run", "adder", '{"a": 1}')
    assert (ended.code, ended.out) == (0, "3\n")
    assert "adder" in ended.err

    ended = shop.there("run", "failing", "--json")
    assert (ended.code, ended.json["error"]["type"]) == (1, "ValueError")

    ended = shop.there("run", "listener", "--no-wait", "--json")
    assert (ended.code, ended.json["status"]) == (3, "waiting")
    assert f"perdure send {ended.json['id']} word JSON" in ended.err
    assert "perdure work" not in ended.err

    ended = shop.there("run", "adder", '{"a": 2}', "--detach", "--key", "once")
    again = shop.there("run", "adder", '{"a": 2}', "--detach", "--key", "once")
    assert ended.out == again.out != ""


def test_runs_look_as_in_the_store(shop):
    """Lists, one run, journals, an export, a comparison: for people and for programs."""
    asked, other = shop.begun("buyer", '["pen"]'), shop.begun("buyer", '["ink"]')
    for form in ([], ["--json"]):
        shop.alike("runs", "--status", "waiting", *form)
        shop.alike("show", asked[-8:], *form)
        shop.alike("events", asked, *form)
        shop.alike("events", asked, "--type", "ask.*", *form)
        shop.alike("diff", asked, other, *form)
        shop.alike("inbox", "--to", "finance", *form)
    assert shop.alike("export", asked).lines[0]["run"]["id"] == asked
    ended = shop.there("runs", "--agent", "buyer", "--json")
    assert ended.json[0]["wait"]["kind"] == "ask"


def test_a_parent_shows_what_its_child_asks(shop):
    """The questions of children come with the commands that answer them."""
    parent = shop.begun("parent")
    ended = shop.alike("show", parent, "--json")
    assert any(command.startswith("perdure answer") for command in ended.json["next"])


def test_people_settle_what_waits_for_them(shop):
    """answer, approve, reject: carried out at once, by the name of the key."""
    asked = shop.begun("buyer", '["pen"]')
    [ask] = [ask for ask in shop.there("inbox", "--json").json if ask["run"] == asked]
    ended = shop.there("answer", ask["id"], '{"approved": "perhaps"}')
    assert (ended.code, ended.err) == shop.here("answer", ask["id"], '{"approved": "perhaps"}')[::2]
    ended = shop.there("answer", ask["id"], '{"approved": true}', "--json")
    assert (ended.code, ended.json["settled"], ended.json["carried_out"]) == (0, "answered", True)
    last = shop.there("events", asked, "--follow", "--json").lines[-1]
    assert (last["type"], last["data"]["result"]) == ("run.succeeded", {"pen": "order-pen-1"})
    shop.alike("show", asked)

    for words, status in (
        (("approve", "--edit", '{"amount": "1"}'), "approved"),
        (("reject", "--note", "no"), "rejected"),
    ):
        paying = shop.begun("payer", '"90"')
        [ask] = [ask for ask in shop.there("inbox", "--json").json if ask["run"] == paying]
        ended = shop.there(words[0], ask["id"], *words[1:], "--json")
        assert (ended.json["settled"], ended.json["carried_out"]) == (status, True)


def test_runs_are_steered(shop):
    """send, pause, resume, cancel, retry, fork, resolve: each says what became of it."""
    run = shop.begun("listener")
    ended = shop.there("send", run, "word", '"hello"')
    assert (ended.code, ended.out) == (0, f"sent word; {run} is waiting\n")
    assert shop.there("pause", run, "--note", "lunch").out == f"{run} is paused\n"
    assert shop.there("pause", run).err == shop.here("pause", run).err == f"{run} is paused already\n"
    shop.alike("show", run)
    assert shop.there("resume", "--agent", "listener", "--status", "paused", "--json").json[0]["run"] == run
    assert shop.there("cancel", run, "--reason", "enough", "--json").json == [
        {"run": run, "status": "cancelled", "carried_out": True}
    ]
    assert shop.there("cancel", run).err == shop.here("cancel", run).err != ""
    ended = shop.there("fork", run, "--at", "2", "--json")
    assert ended.json.get("forked_from") == run, ended
    assert shop.there("retry", run, "--from", "1").code == 0
    ended = shop.there("resolve", run, "1", "--run-again")
    assert (ended.code, ended.err) == shop.here("resolve", run, "1", "--run-again")[::2]
    assert shop.there("cancel", "--agent", "listener").code == 0

    assert "has it" in shop.there("send", "--agent", "listener", "--session", "s/1", "word", "1").out
    assert "no worker" in shop.there("send", "--agent", "nobody", "--session", "s", "word", "1").out


def test_a_run_of_the_server_is_replayed_with_local_code(shop, tmp_path):
    """The journal comes from there, the code from here."""
    shutil.copy(AGENTS, tmp_path / "shop.py")
    run = shop.begun("buyer", '["pen"]')
    assert shop.there("replay", run, "shop.py", "--json").json["matches"] is True


def test_what_is_typed_counts_before_the_environment(shop, monkeypatch):
    """Both typed is a mistake; either beats a variable; two variables mean the server."""
    run = shop.begun("listener")
    ended = shop.typed("runs", "--server", shop.url, "--store", shop.store)
    assert (ended.code, "two places" in ended.err) == (2, True)
    monkeypatch.setenv("PERDURE_SERVER", "http://127.0.0.1:1")
    assert run in shop.here("runs").out
    assert run in shop.there("runs").out
    monkeypatch.setenv("PERDURE_STORE", "sqlite:///nothing.db")
    monkeypatch.setenv("PERDURE_SERVER", shop.url)
    assert run in shop.typed("runs").out


def test_the_program_of_the_guide_runs(shop):
    """The one about clients, as it stands there."""
    page = (Path(__file__).parent.parent.parent / "docs/guide.md").read_text(encoding="utf-8")
    [program] = re.findall(
        r"^```python fragment\n(import asyncio\nfrom perdure import Client\n.*?)^```$", page, re.MULTILINE | re.DOTALL
    )
    variables = {**environment(), "PERDURE_SERVER": shop.url, "PERDURE_TOKEN": shop.token}
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30, env=variables
    )
    assert (ended.returncode, ended.stdout) == (0, "{'pen': 'order-pen-1'}\n"), ended.stderr


def test_a_file_is_not_run_on_a_server(shop):
    """Its code is not there."""
    ended = shop.there("run", "shop.py:buyer", '["pen"]')
    assert (ended.code, "name one of them" in ended.err) == (2, True)
    ended = shop.there("run", "buyer", '["pen"]', "--ray", "local")
    assert (ended.code, "--ray" in ended.err) == (2, True)
    ended = shop.there("run", "nobody")
    assert (ended.code, "buyer" in ended.err) == (1, True)


def test_trouble_with_the_server_is_one_line_with_the_remedy(shop, monkeypatch):
    """No server, no key: never a traceback."""
    ended = shop.typed("runs", "--server", "http://127.0.0.1:1")
    assert (ended.code, "perdure dev" in ended.err, len(ended.err.splitlines())) == (1, True, 1)
    monkeypatch.delenv("PERDURE_TOKEN")
    ended = shop.there("runs", "--json")
    assert (ended.code, "PERDURE_TOKEN" in ended.json["error"]["message"]) == (1, True)
