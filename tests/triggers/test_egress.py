"""Which addresses may be called? Public ones; and what was checked is what is connected to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from threading import Event, current_thread

import pytest

from perdure.errors import InvalidInput
from perdure.triggers.egress import AddressRefused, NoAnswer, Reach, check_url, post
from tests.triggers.worlds import Receiver

LOCAL = ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"]
PRIVATE = ["10.1.2.3", "172.16.0.1", "192.168.1.1", "fd00::1", "::ffff:10.0.0.1"]
NEVER = [
    "169.254.169.254", "fe80::1", "fd00:ec2::254", "100.100.100.200", "192.0.0.192", "0.0.0.0", "::", "224.0.0.1",
    "255.255.255.255", "240.0.0.1", "ff02::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::",
    "168.63.129.16", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:ec2::23", "fec0::1", "::ffff:168.63.129.16",
]  # fmt: skip
PUBLIC = ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34"]


@pytest.mark.parametrize("address", [*LOCAL, *PRIVATE, *NEVER, "100.64.0.1", "::7f00:1"])
def test_only_public_addresses_may_be_called(address):
    """However the others are written."""
    assert not Reach().allows(ip_address(address))


def test_more_may_be_allowed_but_never_what_gives_secrets_away():
    """Loopback and private addresses by a word of whoever starts the server; metadata of clouds by nobody's."""
    everything = Reach(loopback=True, private=True)
    assert all(everything.allows(ip_address(address)) for address in [*LOCAL, *PRIVATE, *PUBLIC])
    assert not any(everything.allows(ip_address(address)) for address in NEVER)
    assert not any(Reach(loopback=True).allows(ip_address(address)) for address in PRIVATE)
    assert all(Reach().allows(ip_address(address)) for address in PUBLIC)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:7f00:1]", "localhost", "0"],
)
def test_other_spellings_lead_to_the_same_refusal(host):
    """What counts is where the name leads."""
    with pytest.raises(AddressRefused, match="not public"):
        asyncio.run(post(f"http://{host}:1/", {}, b"", reach=Reach(), seconds=5))


def test_one_bad_address_of_a_name_is_enough():
    """Whoever owns a name may give it as many addresses as he likes."""

    async def resolve(host, port):
        return ["93.184.216.34", "10.0.0.1"]

    with pytest.raises(AddressRefused, match=r"10\.0\.0\.1"):
        asyncio.run(post("http://example.com/", {}, b"", reach=Reach(), seconds=5, resolve=resolve))


def test_slow_names_hold_up_no_other_lookups(monkeypatch):
    """They are looked up in a few threads of their own: those of the loop, which all else shares, stay free."""
    release, stuck = Event(), list[Callable[[], object]]()
    look_up = socket.getaddrinfo

    def slow(host, *args, **options):
        if not host.endswith(".slow.example"):
            return look_up(host, *args, **options)
        assert current_thread().daemon  # the process does not wait for them at its end
        stuck[0]()
        release.wait(20)
        raise OSError("no such name")

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        begun = asyncio.Event()
        stuck.append(lambda: loop.call_soon_threadsafe(begun.set))
        posts = [
            asyncio.create_task(post(f"http://{number}.slow.example/", {}, b"", reach=Reach(), seconds=20))
            for number in range(8)
        ]
        try:
            async with asyncio.timeout(10):
                await begun.wait()
                assert await loop.getaddrinfo("127.0.0.1", 1)
        finally:
            release.set()
            ends = await asyncio.gather(*posts, return_exceptions=True)
        assert [type(end) for end in ends] == [NoAnswer] * 8

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    asyncio.run(main())


def test_the_connection_goes_to_the_checked_address():
    """A name is resolved once: a second answer, of another address, would never be asked for. Host stays the name."""
    asked = []

    async def resolve(host, port):
        asked.append((host, port))
        return ["127.0.0.1"]

    async def main():
        async with Receiver().listening() as receiver:
            port = receiver.url.split(":")[2].split("/")[0]
            url = f"http://rebinding.test:{port}/x"
            reply = await post(url, {"a": "b"}, b"{}", reach=Reach(loopback=True), seconds=5, resolve=resolve)
            assert (reply.status, reply.text) == (200, "ok")
            headers, body = receiver.requests[0]
            assert (headers["request"], headers["host"], headers["a"], body) == (
                "POST /x HTTP/1.1", f"rebinding.test:{port}", "b", b"{}",
            )  # fmt: skip
            assert asked == [("rebinding.test", int(port))]

    asyncio.run(main())


def test_no_redirect_is_followed():
    """It may lead anywhere."""

    async def main():
        async with Receiver(302, 200).listening() as receiver:
            reply = await post(receiver.url, {}, b"", reach=Reach(loopback=True), seconds=5)
            assert reply.status == 302
            assert len(receiver.requests) == 1

    asyncio.run(main())


def test_a_proxy_of_the_environment_is_not_used(monkeypatch):
    """It would connect wherever it likes."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

    async def main():
        async with Receiver().listening() as receiver:
            assert (await post(receiver.url, {}, b"", reach=Reach(loopback=True), seconds=5)).status == 200

    asyncio.run(main())


def test_an_answer_without_end_is_not_read_to_its_end():
    """Two thousand bytes are enough to see what is wrong; and whoever says nothing is not waited for."""

    async def endless(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 500 X\r\nContent-Type: text/plain\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65_536)
                await writer.drain()
        except ConnectionError:
            writer.close()
            broken.set()

    async def silent(reader, writer):
        await reader.read()
        writer.close()
        over.set()

    over, broken = asyncio.Event(), asyncio.Event()

    async def main():
        for talk in (endless, silent):
            server = await asyncio.start_server(talk, "127.0.0.1", 0)
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            async with server:
                if talk is endless:
                    reply = await post(url, {}, b"", reach=Reach(loopback=True), seconds=5)
                    assert (reply.status, len(reply.text)) == (500, 2000)
                    await broken.wait()
                else:
                    with pytest.raises(NoAnswer, match="within"):
                        await post(url, {}, b"", reach=Reach(loopback=True), seconds=0.1)
                    await over.wait()

    asyncio.run(main())


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "gopher://x/", "ftp://x/", "//x/", "x", "", "http://", "http://user:secret@x/", "http://x/#f",
     "http://x/" + "y" * 2000, "http://[::1/", "unix:///x", "http://0177.0.0.1/"],
)  # fmt: skip
def test_what_is_no_web_address_is_refused(url):
    """And a password in it is not repeated."""
    with pytest.raises(InvalidInput) as refusal:
        check_url(url)
    assert "secret" not in str(refusal.value)
