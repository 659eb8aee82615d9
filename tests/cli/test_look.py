"""What `runs`, `show`, `events` and `inbox` tell, to people and to programs."""

import re

import pytest

from perdure.cli.progress import LiveDisplay
from perdure.values.events import Event
from perdure.values.json import encode
from perdure.values.runs import Run, RunStatus
from perdure.views.why import commands_for


@pytest.fixture
def waiting(typed):
    """A buyer of session acme that waits for its answer; its id."""
    words = ("run", "shop.py:buyer", '["pen"]', "--no-wait", "--json", "--session", "acme")
    return typed(*words).json["id"]


@pytest.fixture
def done(typed):
    """An adder that succeeded; its id."""
    return typed("run", "shop.py:adder", '{"a": 1}', "--json").json["id"]


def ids(ended):
    """The runs that a list shows."""
    return [row["id"] for row in ended.json]


def test_a_run_in_a_list_has_exactly_the_promised_fields(typed, waiting):
    """docs/contract.md names them; wait and reason say why it is not moving."""
    [row] = typed("runs", "--json").json

    assert list(row) == [
        "id", "agent", "version", "session", "status", "reason", "wait", "created", "updated", "parent", "attempt",
        "steps",
    ]  # fmt: skip
    assert row["reason"] == "waits for finance to answer: Spend it?"
    assert row["wait"]["kind"] == "ask"
    assert row["steps"] == 3
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", row["created"])


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ((), ["done", "waiting"]),
        (("--status", "waiting"), ["waiting"]),
        (("--status", "waiting", "--status", "succeeded"), ["done", "waiting"]),
        (("--agent", "adder"), ["done"]),
        (("--session", "acme"), ["waiting"]),
        (("--since", "1h"), ["done", "waiting"]),
        (("--since", "2999-01-01"), []),
        (("--limit", "1"), ["done"]),
    ],
    ids=lambda value: " ".join(value) or "none",
)
def test_filters_narrow_the_list(typed, waiting, done, filters, found):
    """Newest first."""
    names = {"waiting": waiting, "done": done}

    assert ids(typed("runs", "--json", *filters)) == [names[name] for name in found]


def test_children_are_listed_by_their_parent(typed):
    """Any unique end of the parent's id will do."""
    parent = typed("run", "shop.py:parent", "--no-wait", "--json").json
    everything = typed("runs", "--json").json
    root = next(row["id"] for row in everything if row["parent"] is None)

    [child] = typed("runs", "--parent", root[-8:], "--json").json
    assert child["parent"] == root
    assert parent["wait"]["id"].startswith(child["id"])


def test_a_table_is_plain_where_no_terminal_is(typed, waiting, done):
    """Columns, no colours, nothing shortened."""
    out = typed("runs").out

    assert "\x1b" not in out
    assert out.splitlines()[0].split() == ["RUN", "AGENT", "SESSION", "STATUS", "STEPS", "UPDATED", "WHY"]
    assert "waits for finance to answer: Spend it?" in out


def test_an_answer_that_nobody_has_taken_yet_changes_the_reason(typed, waiting):
    """Not the person is waited for any more, but a worker."""
    typed("answer", f"{waiting}:3", '{"approved": true}')

    [row] = typed("runs", "--json").json
    assert row["reason"] == "no worker has agent buyer; run: perdure work FILE.py"
    assert row["wait"] == {"kind": "worker", "agent": "buyer"}


def test_a_run_behind_another_of_its_session_says_so(typed, waiting):
    """While no worker is there, that comes first."""
    typed("run", "shop.py:buyer", '["ink"]', "--session", "acme", "--detach")
    ended = typed("run", "shop.py:buyer", '["dye"]', "--session", "acme", "--no-wait", "--json")

    assert ended.code == 3
    assert ended.json["status"] == "queued"


def test_show_begins_with_why_it_is_not_moving_and_ends_with_what_to_type(typed, waiting):
    """Then the steps, with arguments and results."""
    lines = typed("show", waiting[-10:]).out.splitlines()

    assert waiting in lines[0]
    assert "waits for finance to answer" in lines[1]
    assert any(re.match(r"1 +tool +price +\{\"item\": \"pen\"\}.*19\.90", line) for line in lines)
    following = lines[lines.index("next") + 1 :]
    assert following[0] == f"  perdure answer {waiting}:3 '{{\"approved\": true}}'"
    assert "  perdure work FILE.py" in following


def test_show_as_json_holds_the_run_its_steps_and_what_to_type(typed, waiting, done):
    """Steps name kind, name, arguments, result, duration and attempts."""
    told = typed("show", waiting, "--json").json
    ended = typed("show", done, "--json").json

    assert list(told) == ["run", "steps", "next"]
    assert told["run"]["input"] == {"items": ["pen"]}
    quoted, progress, ask = told["steps"]
    assert (quoted["kind"], quoted["name"], quoted["args"], quoted["result"]) == (
        "tool",
        "price",
        {"item": "pen"},
        "19.90",
    )
    assert quoted["status"] == "done"
    assert quoted["seconds"] >= 0
    assert (progress["kind"], progress["name"]) == ("emit", "progress")
    assert (ask["kind"], ask["status"], ask["refers"]) == ("ask", "open", f"{waiting}:3")
    assert (ended["run"]["result"], ended["run"]["error"], ended["steps"]) == (3, None, [])


def test_events_come_in_order_and_can_be_narrowed(typed, done, waiting):
    """--after and --type; for people one line each."""
    everything = typed("events", waiting, "--json").lines
    late = typed("events", waiting, "--after", "3", "--json").lines
    steps = typed("events", waiting, "--type", "step.*", "--type", "progress", "--json").lines

    assert list(everything[0]) == ["run", "seq", "type", "time", "step", "attempt", "data"]
    assert late == everything[3:]
    assert {event["type"] for event in steps} == {"step.started", "step.completed", "progress"}
    assert len(typed("events", waiting).out.splitlines()) == len(everything)


def test_the_inbox_tells_what_is_asked_and_how_to_settle_it(typed, waiting):
    """Questions with their schema, approvals with the exact arguments; only mine with --to."""
    payment = typed("run", "shop.py:payer", '"90.00"', "--no-wait", "--json").json["id"]

    ask, approval = typed("inbox", "--json").json
    assert ask["schema"]["required"] == ["approved"]
    assert (approval["kind"], approval["action"], approval["args"]) == ("approval", "pay", {"amount": "90.00"})
    assert [mine["id"] for mine in typed("inbox", "--to", "boss", "--json").json] == [f"{payment}:1"]
    text = typed("inbox").out
    assert f"perdure approve {payment}:1" in text
    assert 'pay {"amount": "90.00"}' in text


def test_control_characters_from_a_journal_do_not_reach_the_terminal(typed, folder):
    """What a stranger wrote must not steer the screen of whoever looks."""
    (folder / "rude.py").write_text(
        "from perdure import agent\n\n@agent\nasync def rude(ctx):\n    return await ctx.ask('\\x1b[2Jhello')\n",
        encoding="utf-8",
    )
    run = typed("run", "rude.py", "--no-wait", "--json").json["id"]

    for words in (("inbox",), ("runs",), ("show", run), ("events", run)):
        out = typed(*words).out
        assert "\x1b" not in out
        assert "hello" in out


def test_words_of_agents_are_no_markup(typed, capsys):
    """A progress message like "[/x]" is shown as it is, without its escape sequences; it used to end the command."""
    event = Event("run_x", 1, "progress", 0, None, None, encode({"done": 1, "total": 2, "message": "[/x] \x1b[2J"}))
    with LiveDisplay() as display:
        display.show(event)

    assert "\x1b[2J" not in capsys.readouterr().err


def test_commands_to_type_are_quoted_for_the_shell():
    """A topic is the agent's word: what is copied from the screen must not run something else."""
    run = Run("run_x", "a", "1", None, "s", RunStatus.WAITING, 0, 0, wait={"kind": "message", "topic": "go; rm x"})

    assert "perdure send run_x 'go; rm x' JSON" in commands_for(run, [], alive=True)
