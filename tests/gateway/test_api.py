"""What callers get from the HTTP API: runs, steering, asks, sessions, agents, the server; and problems."""

from __future__ import annotations

import pytest

from tests.gateway.servers import TOKEN, play


def problem(answer, status, error):
    """The details of a problem, which must be of that kind."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert (found["status"], found["error"]) == (status, error)
    assert found["type"].startswith("urn:perdure:problem:")
    assert found["detail"]
    return found["detail"]


class TestStarting:
    def test_a_run_is_durable_when_it_is_answered(self):
        """201, where it is to be found, and what it was given."""

        async def scenario(server):
            answer = await server.post("/v1/agents/adder/runs", {"a": 1})
            assert answer.status_code == 201
            run = answer.json()
            assert answer.headers["location"] == f"/v1/runs/{run['id']}"
            assert run["input"] == {"a": 1, "b": 2}
            assert (await server.runtime.find(run["id"])).agent == "adder"

        play(scenario)

    def test_waiting_gives_the_end(self):
        """With `wait` the answer holds the result."""

        async def scenario(server):
            run = await server.start("adder", {"a": 1}, wait=10)
            assert (run["status"], run["result"]) == ("succeeded", 3)
            failed = await server.start("failing", wait=10)
            assert failed["error"]["type"] == "ValueError"

        play(scenario)

    def test_the_same_idempotency_key_gives_the_same_run(self):
        """And refuses another input."""

        async def scenario(server):
            key = {"Idempotency-Key": "order-1"}
            first = await server.post("/v1/agents/adder/runs", {"a": 1}, headers=key)
            again = await server.post("/v1/agents/adder/runs", {"a": 1}, headers=key)
            assert first.json()["id"] == again.json()["id"]
            other = await server.post("/v1/agents/adder/runs", {"a": 2}, headers=key)
            assert "another input" in problem(other, 409, "IdempotencyMismatch")

        play(scenario)

    def test_an_input_that_does_not_fit_is_refused(self):
        """And nothing is recorded."""

        async def scenario(server):
            answer = await server.post("/v1/agents/adder/runs", {"a": "many"})
            assert "a: " in problem(answer, 422, "InvalidInput")
            assert (await server.get("/v1/runs")).json()["items"] == []

        play(scenario)

    def test_no_body_is_no_input(self):
        """An agent without parameters is started by an empty POST."""

        async def scenario(server):
            answer = await server.client.post("/v1/agents/listener/runs")
            assert answer.status_code == 201, answer.text
            assert answer.json()["input"] == {}

        play(scenario)

    def test_an_agent_that_is_not_there_is_told(self):
        """With those that are."""

        async def scenario(server):
            answer = await server.post("/v1/agents/nobody/runs", {})
            assert "adder" in problem(answer, 404, "NotFound")

        play(scenario)

    def test_a_busy_session_may_refuse(self):
        """With `busy=reject`."""

        async def scenario(server):
            await server.start("listener", session="s")
            answer = await server.post("/v1/agents/listener/runs", params={"session": "s", "busy": "reject"})
            assert "active run" in problem(answer, 409, "SessionBusy")

        play(scenario)


class TestLooking:
    def test_lists_come_in_pages(self):
        """Newest first, each run once."""

        async def scenario(server):
            ids = [(await server.start("adder", {"a": n}, wait=5))["id"] for n in range(5)]
            found, cursor = [], None
            while True:
                params = {"limit": 2, **({"cursor": cursor} if cursor else {})}
                page = (await server.get("/v1/runs", params=params)).json()
                found += [run["id"] for run in page["items"]]
                cursor = page["next"]
                if cursor is None:
                    break
            assert found == ids[::-1]

        play(scenario)

    def test_lists_are_filtered(self):
        """By agent, session and several statuses."""

        async def scenario(server):
            await server.start("adder", {"a": 1}, wait=5)
            await server.start("failing", wait=5)
            waiting = await server.start("listener", session="s")
            await server.idle()
            params = [("status", "failed"), ("status", "waiting")]
            found = (await server.get("/v1/runs", params=params)).json()["items"]
            assert [run["agent"] for run in found] == ["listener", "failing"]
            found = (await server.get("/v1/runs", params={"session": "s"})).json()["items"]
            assert [run["id"] for run in found] == [waiting["id"]]

        play(scenario)

    def test_a_run_says_why_it_is_not_moving(self):
        """In words and for programs."""

        async def scenario(server):
            run = await server.start("asker", "Spend it?")
            await server.idle()
            shown = (await server.get(f"/v1/runs/{run['id']}")).json()
            assert shown["reason"] == "waits for finance to answer: Spend it?"
            assert shown["wait"]["kind"] == "ask"

        play(scenario)

    def test_the_result_is_waited_for(self):
        """202 with the reason while there is none; then 200."""

        async def scenario(server):
            run = await server.start("asker", "How many?")
            await server.idle()
            answer = await server.get(f"/v1/runs/{run['id']}/result")
            assert (answer.status_code, answer.json()["status"]) == (202, "waiting")
            [ask] = (await server.get("/v1/asks")).json()["items"]
            await server.post(f"/v1/asks/{ask['id']}/answer", {"value": 7})
            answer = await server.get(f"/v1/runs/{run['id']}/result", params={"wait": 10})
            assert answer.json() == {"id": run["id"], "status": "succeeded", "result": 7}

        play(scenario)

    def test_the_journal_comes_in_pages_and_by_type(self):
        """`next` is where to read on."""

        async def scenario(server):
            run = await server.start("adder", {"a": 1}, wait=5)
            path = f"/v1/runs/{run['id']}/events"
            first = (await server.get(path, params={"limit": 2})).json()
            assert [event["seq"] for event in first["items"]] == [1, 2]
            rest = (await server.get(path, params={"after": first["next"]})).json()
            assert [event["type"] for event in rest["items"]] == ["run.succeeded"]
            ends = (await server.get(path, params={"type": "run.s*"})).json()
            assert [event["type"] for event in ends["items"]] == ["run.started", "run.succeeded"]

        play(scenario)

    def test_steps_and_journal_are_there(self):
        """Steps as `show` gives them; the journal as `import` reads it."""

        async def scenario(server):
            run = await server.start("buyer", ["pen"])
            await server.idle()
            steps = (await server.get(f"/v1/runs/{run['id']}/steps")).json()["items"]
            assert [(step["name"], step["status"]) for step in steps] == [("price", "done"), ("buy", "open")]
            journal = await server.get(f"/v1/runs/{run['id']}/journal")
            assert journal.headers["content-type"].startswith("application/jsonl")
            assert len(journal.text.splitlines()) == 1 + (await server.runtime.find(run["id"])).seq

        play(scenario)

    def test_two_runs_are_compared(self):
        """Step by step."""

        async def scenario(server):
            left, right = [await server.start("buyer", [item]) for item in ("pen", "ink")]
            await server.idle()
            diff = (await server.get("/v1/diff", params={"left": left["id"], "right": right["id"]})).json()
            assert [pair["differs"] for pair in diff["steps"]] == [["args"], ["args"]]

        play(scenario)

    def test_agents_tell_their_schemas(self):
        """And whether a worker has them."""

        async def scenario(server):
            agents = {found["name"]: found for found in (await server.get("/v1/agents")).json()["items"]}
            assert agents["adder"]["input_schema"]["properties"]["a"]["type"] == "integer"
            assert agents["adder"]["description"] == "Adds."
            assert agents["adder"]["working"]
            source = (await server.get("/v1/agents/adder/source")).json()
            line = source["text"].splitlines()[agents["adder"]["line"]]
            assert "async def adder" in line

        play(scenario)

    def test_sessions_are_listed_with_their_state(self):
        """By agent and key, whatever the key holds."""

        async def scenario(server):
            run = await server.start("listener", session="support/ticket 42")
            await server.post(f"/v1/runs/{run['id']}/messages", {"topic": "word", "value": "hello"})
            await server.idle()
            [session] = (await server.get("/v1/sessions")).json()["items"]
            assert (session["session"], session["active"]) == ("support/ticket 42", run["id"])
            found = (await server.get("/v1/sessions/listener/support%2Fticket%2042")).json()
            assert found["state"] == {"heard": 1}
            assert [row["id"] for row in found["runs"]] == [run["id"]]

        play(scenario)


class TestSteering:
    def test_a_run_is_paused_resumed_and_cancelled(self):
        """The journal keeps who said so."""

        async def scenario(server):
            run = await server.start("listener")
            path = f"/v1/runs/{run['id']}"
            assert (await server.post(f"{path}/pause", {"note": "lunch"})).status_code == 202
            await server.idle()
            assert (await server.get(path)).json()["status"] == "paused"
            await server.post(f"{path}/resume")
            await server.post(f"{path}/cancel", {"reason": "enough"})
            await server.idle()
            assert (await server.get(path)).json()["status"] == "cancelled"
            events = await server.runtime.journal(run["id"])
            said = {event.type: event.data.get("by") for event in events}
            assert said["run.paused"] == said["run.cancelled"] == "admin"
            again = await server.post(f"{path}/cancel")
            assert "perdure fork" in problem(again, 409, "AlreadySettled")

        play(scenario)

    def test_a_failed_run_goes_on_as_a_fork(self):
        """201 with the new run."""

        async def scenario(server):
            run = await server.start("buyer", ["pen"])
            await server.idle()
            fork = await server.post(f"/v1/runs/{run['id']}/fork", {"at": 1, "result": "1.00"})
            assert fork.status_code == 201
            await server.idle()
            steps = (await server.get(f"/v1/runs/{fork.json()['id']}/steps")).json()["items"]
            assert [step["result"] for step in steps] == ["1.00", None]
            assert fork.json()["forked_from"]["run"] == run["id"]

        play(scenario)

    def test_messages_reach_runs_and_sessions(self):
        """Also a session that has no run yet."""

        async def scenario(server):
            sent = await server.post("/v1/sessions/listener/s/messages", {"topic": "word", "value": 1})
            assert sent.status_code == 202
            run = await server.start("listener", session="s")
            await server.post(f"/v1/runs/{run['id']}/messages", {"topic": "word", "value": "stop"})
            answer = await server.get(f"/v1/runs/{run['id']}/result", params={"wait": 10})
            assert answer.json()["result"] == [1]

        play(scenario)

    def test_many_are_steered_at_once(self):
        """By id or by filter; each succeeds or fails by itself."""

        async def scenario(server):
            runs = [await server.start("listener", session=str(n)) for n in range(3)]
            done = await server.start("adder", {"a": 1}, wait=5)
            ids = [runs[0]["id"], done["id"], "run_nowhere"]
            answer = await server.post("/v1/bulk/runs", {"action": "pause", "ids": ids})
            items = answer.json()["items"]
            assert [item["ok"] for item in items] == [True, False, False]
            assert items[1]["problem"]["error"] == "AlreadySettled"
            answer = await server.post("/v1/bulk/runs", {"action": "cancel", "filter": {"agent": "listener"}})
            assert {item["id"] for item in answer.json()["items"]} == {run["id"] for run in runs}
            await server.idle()
            assert {(await server.runtime.find(run["id"])).status for run in runs} == {"cancelled"}
            both = await server.post("/v1/bulk/runs", {"action": "cancel", "ids": [], "filter": {}})
            problem(both, 422, "InvalidInput")

        play(scenario)


class TestAsks:
    def test_an_approval_is_edited_and_given(self):
        """The agent does what was approved."""

        async def scenario(server):
            run = await server.start("buyer", ["pen"])
            await server.idle()
            [ask] = (await server.get(f"/v1/runs/{run['id']}/asks")).json()["items"]
            assert (ask["action"], ask["args"]) == ("buy", {"item": "pen", "amount": "19.90"})
            path = f"/v1/asks/{ask['id']}"
            wrong = await server.post(f"{path}/approve", {"edit": {"amont": "1"}})
            assert "amount" in problem(wrong, 422, "InvalidInput")
            settled = (await server.post(f"{path}/approve", {"edit": {"amount": "9.00"}, "note": "less"})).json()
            assert (settled["status"], settled["by"], settled["note"]) == ("approved", "admin", "less")
            answer = await server.get(f"/v1/runs/{run['id']}/result", params={"wait": 10})
            assert answer.json()["result"] == {"pen": "bought pen for 9.00"}
            late = await server.post(f"{path}/reject")
            problem(late, 409, "AlreadySettled")

        play(scenario)

    def test_answers_must_fit(self):
        """A question's schema is kept."""

        async def scenario(server):
            await server.start("asker", "How many?")
            await server.idle()
            [ask] = (await server.get("/v1/asks", params={"to": "finance"})).json()["items"]
            assert ask["schema"]["type"] == "integer"
            problem(await server.post(f"/v1/asks/{ask['id']}/answer", {"value": "many"}), 422, "InvalidInput")
            problem(await server.post(f"/v1/asks/{ask['id']}/approve"), 422, "InvalidInput")

        play(scenario)

    def test_many_are_settled_at_once(self):
        """And told one by one; closed ones are listed with what became of them."""

        async def scenario(server):
            await server.start("buyer", ["pen"])
            await server.start("asker", "How many?")
            await server.idle()
            asks = (await server.get("/v1/asks")).json()["items"]
            kinds = {ask["kind"]: ask["id"] for ask in asks}
            items = [
                {"id": kinds["approval"], "action": "reject", "note": "no"},
                {"id": kinds["ask"], "action": "answer", "value": 3},
                {"id": "ask_nowhere", "action": "approve"},
            ]
            answer = await server.post("/v1/bulk/asks", {"items": items})
            assert [item["ok"] for item in answer.json()["items"]] == [True, True, False]
            closed = (await server.get("/v1/asks", params={"status": "closed"})).json()["items"]
            assert {ask["status"] for ask in closed} == {"rejected", "answered"}

        play(scenario)


class TestServer:
    def test_it_says_how_it_is(self):
        """Alive, ready, and its figures."""

        async def scenario(server):
            assert (await server.client.get("/healthz", headers={"Authorization": ""})).json() == {"status": "ok"}
            assert (await server.get("/readyz")).status_code == 200
            assert "\nperdure_nodes 1\n" in (await server.get("/metrics")).text
            system = (await server.get("/v1/system")).json()
            assert system["store"] == "memory"
            assert [node["alive"] for node in system["nodes"]] == [True]

        play(scenario)

    def test_the_overview_says_what_needs_somebody(self):
        """Open asks, failures, and what moves."""

        async def scenario(server):
            await server.start("asker", "Spend it?")
            await server.start("failing", wait=5)
            await server.idle()
            overview = (await server.get("/v1/overview")).json()
            assert [ask["title"] for ask in overview["needs_you"]["asks"]] == ["Spend it?"]
            assert [run["agent"] for run in overview["needs_you"]["failed"]] == ["failing"]
            assert overview["counts"]["waiting"] == overview["counts"]["failed"] == 1

        play(scenario)

    @pytest.mark.parametrize("path", ["/v1/nothing", "/v1/runs/", "/v1//runs", "/V1/runs", "/v1/runs/x/events/y"])
    def test_nothing_is_told_of_what_is_not_there(self, path):
        """Only the exact path is a path."""

        async def scenario(server):
            problem(await server.get(path), 404, "NotFound")

        play(scenario)

    def test_another_method_is_refused(self):
        """With those that are possible."""

        async def scenario(server):
            answer = await server.client.delete("/v1/runs")
            problem(answer, 405, "MethodNotAllowed")
            assert answer.headers["allow"] == "GET"

        play(scenario)

    @pytest.mark.parametrize(
        "query",
        ["limit=0", "limit=many", "status=lost", "since=yesterday", "colour=red", "agent=a&agent=b", "agent=%00"],
    )
    def test_a_query_that_makes_no_sense_is_refused(self, query):
        """Before anything is looked up."""

        async def scenario(server):
            assert (await server.get(f"/v1/runs?{query}")).status_code == 400

        play(scenario)

    def test_a_path_prefix_is_part_of_every_address(self):
        """Behind a proxy that passes it on, or takes it off."""

        async def scenario(server):
            for path in ("/perdure/healthz", "/healthz"):
                assert (await server.get(path)).status_code == 200
            folder = await server.get("/perdure")
            assert (folder.status_code, folder.headers["location"]) == (308, "/perdure/")
            assert "<title>Perdure</title>" in (await server.get("/perdure/")).text
            run = await server.post("/perdure/v1/agents/adder/runs", {"a": 1})
            assert run.headers["location"].startswith("/perdure/v1/runs/")
            login = await server.post("/perdure/v1/login", {"code": TOKEN})
            assert "Path=/perdure;" in login.headers["set-cookie"]

        play(scenario, prefix="/perdure")
