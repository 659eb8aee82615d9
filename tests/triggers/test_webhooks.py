"""Who is told of what happens: once, of all that was asked for, whatever dies in between."""

from __future__ import annotations

import asyncio

import pytest

from perdure import Runtime, Settings
from perdure.errors import InvalidInput, NotFound
from perdure.kernel.portable import import_run
from perdure.store.contract import Document, RunFilter, Transaction
from perdure.testing.clock import settle
from perdure.triggers.deliveries import AGENT
from perdure.triggers.egress import Reach
from perdure.triggers.signatures import Scheme, verify
from perdure.triggers.subscriptions import LOOK_SECONDS
from perdure.triggers.triggers import Triggers
from perdure.values.effects import Retries
from perdure.values.ids import notice_run_id
from perdure.values.json import encode
from perdure.values.runs import Run, RunStatus
from tests.triggers.worlds import AGENTS, Receiver, play


async def idle(runtime):
    """Return when nothing can move by itself; a delivery waits for its receiver."""
    async with asyncio.timeout(10):
        await runtime.idle()


def looks(runtime):
    """Whether commits are looked at."""
    return runtime.kernel.commits.outbox is not None


def told(receiver):
    """The types of the events that a receiver was told of, without what they all begin with."""
    return [event["type"].removeprefix("dev.perdure.") for event in receiver.events]


def test_an_event_comes_as_a_signed_cloud_event():
    """With all that the standards ask for, and the event as the API shows it."""

    async def scenario(site):
        async with Receiver().listening() as receiver, site.up() as (runtime, triggers):
            hook = await triggers.webhooks.add(receiver.url, ["run.succeeded"])
            await triggers.look()
            run = await runtime.start_json("noting", "tea")
            await receiver.got(1)
            await idle(runtime)
            [(headers, body)], [event] = receiver.requests, receiver.events
            raw = {name.encode(): value.encode() for name, value in headers.items()}
            assert verify(Scheme.STANDARD, hook.secret, raw, body, site.clock.now_us()).startswith("msg_")
            assert headers["content-type"].startswith("application/cloudevents+json")
            last = (await runtime.journal(run.id))[-1]
            assert event == {
                "specversion": "1.0", "id": f"{run.id}/{last.seq}", "source": "/agents/noting", "subject": run.id,
                "type": "dev.perdure.run.succeeded", "time": last.time, "datacontenttype": "application/json",
                "data": last.as_json(),
            }  # fmt: skip

    play(scenario)


def test_only_what_was_asked_for_is_told():
    """By type, with wildcards, and by agent; what deliveries themselves do is told to nobody."""

    async def scenario(site):
        async with Receiver().listening() as all, Receiver().listening() as some, site.up() as (runtime, triggers):
            await triggers.webhooks.add(all.url, ["*"])
            await triggers.webhooks.add(some.url, ["approval.*", "run.queued"], agent="payer")
            await triggers.look()
            await runtime.start_json("noting", "tea")
            await runtime.start_json("payer", {"account": "a", "euros": 1})
            await idle(runtime)
            assert sorted(told(some)) == ["approval.requested", "run.queued"]
            both = ["run.queued", "run.started"] * 2
            assert sorted(told(all)) == sorted([*both, "run.succeeded", "approval.requested"])
            assert {event["source"] for event in all.events} == {"/agents/noting", "/agents/payer"}

    play(scenario)


def test_without_webhooks_no_commit_is_looked_at():
    """And with the last one gone, none any more."""

    async def scenario(site):
        async with site.up() as (runtime, triggers):
            assert not looks(runtime)
            hook = await triggers.webhooks.add("http://127.0.0.1:1/", ["*"])
            await site.clock.advance(LOOK_SECONDS)
            assert looks(runtime)
            await triggers.webhooks.remove(hook.id)
            await site.clock.advance(LOOK_SECONDS)
            assert not looks(runtime)

    play(scenario)


def test_a_crash_between_event_and_delivery_loses_and_doubles_nothing():
    """The delivery is in the event's own commit: the next server finds it. One that was begun is told again, as the same."""

    async def scenario(site):
        async with Receiver().listening() as receiver:
            async with site.up() as (runtime, triggers):
                await triggers.webhooks.add(receiver.url, ["run.succeeded"])
                await triggers.look()
                commit, run = site.store.commit, []

                async def last_breath(batch):
                    outcomes = await commit(batch)
                    if any(event.type == "run.succeeded" for work in batch for event in work.events):
                        runtime.kernel.kill()  # written, and that was all
                    return outcomes

                site.store.commit = last_breath
                run.append(await runtime.start_json("noting", "tea"))
                await settle()
                assert receiver.requests == []
                site.store.commit = commit
                site.store.bury(runtime.kernel.node)
            async with site.up() as (again, _):
                await receiver.got(1)
                await idle(again)
                assert [event["subject"] for event in receiver.events] == [run[0].id]
                [delivery] = await site.store.runs(RunFilter(agent=AGENT))
                assert delivery.status == "succeeded"

    play(scenario)


def test_a_crash_after_the_receiver_got_it_is_recognised_by_its_id():
    """It cannot be known whether it was taken, so it is sent again: under the same webhook-id."""

    async def scenario(site):
        async with Receiver().listening() as receiver:
            async with site.up() as (runtime, triggers):
                await triggers.webhooks.add(receiver.url, ["run.succeeded"])
                await triggers.look()

                async def die():
                    receiver.before_answer = None
                    runtime.kernel.kill()

                receiver.before_answer = die
                await runtime.start_json("noting", "tea")
                await receiver.got(1)
                await settle()
                site.store.bury(runtime.kernel.node)
            async with site.up() as (again, _):
                await receiver.got(2)
                await idle(again)
            assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 1

    play(scenario)


def test_a_refused_commit_tells_nobody(caplog):
    """What did not happen is not told: a node that lost its shard writes nothing, and sends nothing."""

    async def scenario(site):
        async with Receiver().listening() as receiver, site.up() as (runtime, triggers):
            await triggers.webhooks.add(receiver.url, ["message.received"])
            await triggers.look()
            run = await runtime.start_json("listener", None)
            await settle()
            row = await runtime.find(run.id)
            await site.store.release(
                runtime.kernel.node, [lease for lease in [runtime.kernel.fence(row.shard)] if lease]
            )
            await site.store.claim("node_thief", [row.shard], 60)
            await runtime.send(run.id, "word", "tea")
            await settle()
            assert receiver.requests == []
            assert await site.store.runs(RunFilter(agent=AGENT)) == []
            assert runtime.kernel.dispatcher.moving == 0
            assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []

    play(scenario)


@pytest.mark.parametrize("status", [RunStatus.QUEUED, RunStatus.RUNNING])
def test_what_is_told_already_is_no_reason_to_refuse_the_event(status):
    """However a notice came to exist before its event: the run goes on, and its event is told once."""

    async def scenario(site):
        async with Receiver().listening() as receiver, site.up() as (runtime, triggers):
            hook = await triggers.webhooks.add(receiver.url, ["run.started"], agent="listener")
            await triggers.look()
            first = await runtime.start_json("listener", None, session="s")
            run = await runtime.start_json("listener", None, session="s", busy="queue")
            await receiver.got(1)
            about = encode({"webhook": hook.id, "run": run.id, "seq": 2})
            early = runtime.kernel.new_run(
                runtime.agents.latest(AGENT), about, id=notice_run_id(run.id, 2, hook.id), session=None,
                concurrency_key=hook.id, begin=False,
            )  # fmt: skip
            await runtime.kernel.commits.commit(Transaction(create=[early]))
            if status is RunStatus.RUNNING:
                runtime.kernel.run_written(early.run, early.events)
                await settle()
            await runtime.send(first.id, "word", "stop")
            await runtime.send(run.id, "word", "stop")
            assert await run.result(timeout=5) == []
            if status is RunStatus.QUEUED:
                runtime.kernel.run_written(early.run, early.events)
            await site.clock.advance(6)
            await receiver.got(2)
            await idle(runtime)
            assert [event["subject"] for event in receiver.events] == [first.id, run.id]
            assert runtime.kernel.dispatcher.moving == 0

    play(scenario)


def test_what_tells_of_a_beginning_is_never_born_running():
    """A store of several databases may have the run begin later and drop it: this node must not carry it out then."""

    async def scenario(site):
        async with Receiver().listening() as receiver, site.up() as (runtime, triggers):
            await triggers.webhooks.add(receiver.url, ["run.queued", "run.started"], agent="noting")
            await triggers.look()
            commit, created = site.store.commit, list[Run]()
            await runtime.start_json("noting", "tea")  # from now on this node has the shards of deliveries
            await receiver.got(2)
            await idle(runtime)

            async def seen(batch):
                created.extend(new.run for work in batch for new in work.create)
                return await commit(batch)

            site.store.commit = seen
            run = await runtime.start_json("noting", "tea")
            await receiver.got(4)
            await idle(runtime)
            born = {new.id.removeprefix(run.id)[:2]: new.status for new in created}
            assert born == {"": RunStatus.RUNNING, ".1": RunStatus.RUNNING, ".2": RunStatus.QUEUED}

    play(scenario)


def test_what_is_not_taken_is_tried_again_and_then_is_dead():
    """With a growing pause; the dead can be listed with their reason, and delivered again, once."""

    async def scenario(site):
        patience = Retries(retries=2, first_seconds=5, factor=4, most_seconds=3600)
        async with (
            Receiver(500, 302, 404, 200).listening() as receiver,
            site.up(patience=patience) as (runtime, triggers),
        ):
            hook = await triggers.webhooks.add(receiver.url, ["run.succeeded"])
            await triggers.look()
            run = await runtime.start_json("noting", "tea")
            for count, seconds in ((1, 5), (2, 20)):
                await receiver.got(count)
                await idle(runtime)
                await site.clock.advance(seconds - 2)  # its answer may have come a second ago
                assert len(receiver.requests) == count
                await site.clock.advance(3)
            await receiver.got(3)
            await idle(runtime)
            [dead] = await triggers.deliveries.list(hook.id, dead=True)
            assert (dead["status"], dead["run"]) == ("failed", run.id)
            assert "404" in dead["reason"]
            again = await triggers.deliveries.retry(hook.id, dead["id"])
            assert again == await triggers.deliveries.retry(hook.id, dead["id"])
            await receiver.got(4)
            await idle(runtime)
            assert await triggers.deliveries.list(hook.id, dead=True) == []
            assert [one["status"] for one in await triggers.deliveries.list(hook.id)] == ["succeeded", "failed"]
            assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 1
            with pytest.raises(InvalidInput, match="no dead delivery"):
                await triggers.deliveries.retry(hook.id, again)
            with pytest.raises(InvalidInput, match="no dead delivery"):
                await triggers.deliveries.retry(hook.id, run.id)

    play(scenario)


def test_no_more_deliveries_are_read_than_are_asked_for():
    """Of many, as few as fit the limit: the newest."""

    async def scenario(site):
        async with Receiver().listening() as receiver, site.up() as (runtime, triggers):
            hook = await triggers.webhooks.add(receiver.url, ["run.succeeded"])
            await triggers.look()
            newest = ""
            for count in range(1, 5):
                newest = (await runtime.start_json("noting", "tea")).id
                await receiver.got(count)
                await idle(runtime)
            journal, read = runtime.journal, []

            async def seen(run, *args):
                read.append(run)
                return await journal(run, *args)

            runtime.journal = seen
            [shown] = await triggers.deliveries.list(hook.id, limit=1)
            assert shown["run"] == newest
            assert len(read) == 1

    play(scenario)


def test_gone_is_gone():
    """410 ends it: nothing more is made for it, and what is under way is dropped."""

    async def scenario(site):
        async with Receiver(410).listening() as receiver, site.up() as (runtime, triggers):
            hook = await triggers.webhooks.add(receiver.url, ["run.succeeded"])
            await triggers.look()
            await runtime.start_json("noting", "tea")
            await receiver.got(1)
            await idle(runtime)
            assert "410" in (await triggers.webhooks.find(hook.id)).as_json()["disabled"]
            await runtime.start_json("noting", "more tea")
            await idle(runtime)
            await triggers.subscriptions.look()
            await runtime.start_json("noting", "still more")
            await idle(runtime)
            assert len(receiver.requests) == 1
            assert len(await site.store.runs(RunFilter(agent=AGENT))) == 2

    play(scenario)


def test_an_address_that_may_not_be_called_is_dead_at_once():
    """No try makes it better; a server that only reaches the public world calls nobody at home."""

    async def scenario(site):
        async with Receiver().listening() as receiver, site.up(reach=Reach()) as (runtime, triggers):
            hook = await triggers.webhooks.add(receiver.url, ["run.succeeded"])
            await triggers.look()
            await runtime.start_json("noting", "tea")
            await idle(runtime)
            [dead] = await triggers.deliveries.list(hook.id, dead=True)
            assert "not public" in dead["reason"]
            assert (await triggers.courier.test(hook.id))["ok"] is False
            assert receiver.requests == []

    play(scenario)


def test_no_journal_and_no_list_holds_the_secret():
    """Nor what an error says of a webhook."""

    async def scenario(site):
        async with Receiver(500).listening() as receiver, site.up(patience=Retries(0)) as (runtime, triggers):
            hook = await triggers.webhooks.add(receiver.url, ["*"])
            await triggers.look()
            await runtime.start_json("noting", "tea")
            await idle(runtime)
            journals = [await runtime.journal(run.id) for run in await site.store.runs(RunFilter())]
            seen = repr([hook, hook.as_json(), await triggers.deliveries.list(hook.id)])
            seen += "".join(event.raw for journal in journals for event in journal)
            assert len(journals) > 3
            assert hook.secret not in seen
            assert "of=me" not in "".join(event.raw for journal in journals for event in journal)

    play(scenario)


def test_a_node_that_only_works_tells_too():
    """Its runs' events become deliveries, which a server carries out; those of its recovery included."""

    async def scenario(site):
        async with Receiver().listening() as receiver, site.up(agents=()) as (server, triggers):
            await triggers.webhooks.add(receiver.url, ["run.started"])
            async with Runtime(site.store, AGENTS, clock=site.clock, settings=Settings(), work=False) as client:
                run = await client.start_json("noting", "tea")  # nobody begins it yet
            worker = Runtime(site.store, AGENTS, clock=site.clock, settings=Settings(), dice=lambda: 0.0)
            Triggers(worker).tell()
            async with worker:
                await receiver.got(1)
                await idle(worker)
                await idle(server)
            assert [event["subject"] for event in receiver.events] == [run.id]

    play(scenario)


@pytest.mark.parametrize("data", ["{}", "[]", '"no"', '{"url": 5, "types": 5}'])
def test_a_webhook_that_nobody_can_read_fails_no_node(data):
    """Others are told as before, also by a node that starts with it there."""

    async def scenario(site):
        await site.store.put_document(Document("webhook", "wh_bad", data))
        async with Receiver().listening() as receiver, site.up() as (runtime, triggers):
            await triggers.webhooks.add(receiver.url, ["run.succeeded"])
            await site.clock.advance(LOOK_SECONDS)
            await runtime.start_json("noting", "tea")
            await receiver.got(1)
            await idle(runtime)
            await triggers.webhooks.remove("wh_bad")

    play(scenario)


def test_an_imported_journal_is_no_news():
    """It happened elsewhere, and before."""

    async def scenario(site):
        async with Receiver().listening() as receiver, site.up() as (runtime, triggers):
            run = await runtime.start_json("noting", "tea")
            await idle(runtime)
            row, journal = await runtime.find(run.id), await runtime.journal(run.id)
            await triggers.webhooks.add(receiver.url, ["*"])
            await triggers.look()
            await import_run(runtime.kernel, row, journal)
            await idle(runtime)
            assert receiver.requests == []

    play(scenario)


def test_a_test_says_what_the_receiver_says():
    """At once, and once."""

    async def scenario(site):
        async with Receiver(204, 500).listening() as receiver, site.up() as (_, triggers):
            hook = await triggers.webhooks.add(receiver.url, ["*"])
            assert await triggers.courier.test(hook.id) == {"ok": True, "status": 204, "text": ""}
            assert (await triggers.courier.test(hook.id))["ok"] is False
            assert told(receiver) == ["webhook.test"] * 2
            with pytest.raises(NotFound):
                await triggers.courier.test("wh_none")

    play(scenario)


@pytest.mark.parametrize("types", [[], ["run.nothing"], ["run.failed", "x"], ["[a-z]*"], ["*"] * 51, ["custom.a b"]])
def test_types_that_are_none_are_refused(types):
    """A misspelt one would never be told."""

    async def scenario(site):
        async with site.up() as (_, triggers):
            with pytest.raises(InvalidInput):
                await triggers.webhooks.add("https://example.com/", types)
            with pytest.raises(InvalidInput, match="base64"):
                await triggers.webhooks.add("https://example.com/", ["custom.*"], secret="not a secret!")

    play(scenario)
