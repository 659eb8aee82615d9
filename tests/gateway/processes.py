"""A server as a process of its own, as users start it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import httpx2

TOKEN = "a-token-for-these-tests"


def free_port():
    """A port that nobody listens at just now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Process:
    """A server as a process."""

    def __init__(self, folder, *words, env=None):
        command = [sys.executable, "-m", "perdure", *words, "--json"]
        environment = {**os.environ, "PERDURE_TOKEN": TOKEN, **(env or {})}
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.output, self.errors = self.process.stdout, self.process.stderr
        self.said = json.loads(self.line())
        self.client = httpx2.Client(
            base_url=self.said["url"], headers={"Authorization": f"Bearer {self.said['token']}"}, timeout=20
        )

    def line(self):
        """The next line of stdout."""
        line = self.output.readline()
        assert line, self.errors.read()
        return line

    def end(self, number=signal.SIGTERM):
        """End it; gives its exit code."""
        self.client.close()
        self.process.send_signal(number)
        try:
            return self.process.wait(20)
        finally:
            self.output.close()
            self.errors.close()

    def start(self):
        """The id of a run that waits for names."""
        return self.client.post("/v1/agents/greeter/runs").raise_for_status().json()["id"]

    def tell(self, run, name):
        """Send the run a name."""
        self.client.post(f"/v1/runs/{run}/messages", json={"topic": "name", "value": name}).raise_for_status()


@contextmanager
def running(folder, *words, **options):
    """A server, while entered."""
    process = Process(folder, *words, **options)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.end()
