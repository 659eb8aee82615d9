"""What the command line refuses: one or two lines that say what, where and the remedy; a stable exit code."""

import pytest

NO_RUN = "run_000000000000000000"


@pytest.fixture
def store(typed):
    """A store with one waiting buyer and one succeeded adder; gives the buyer's id."""
    typed("run", "shop.py:adder", '{"a": 1}')
    return typed("run", "shop.py:buyer", '["pen"]', "--no-wait", "--json").json["id"]


@pytest.mark.parametrize(
    "words",
    [
        ("show", NO_RUN),
        ("events", NO_RUN),
        ("send", NO_RUN, "word", "1"),
        ("pause", NO_RUN),
        ("resume", NO_RUN),
        ("cancel", NO_RUN),
        ("retry", NO_RUN),
        ("resolve", NO_RUN, "1", "--fail"),
        ("replay", NO_RUN, "shop.py"),
        ("fork", NO_RUN, "--at", "1"),
        ("diff", NO_RUN, NO_RUN),
        ("export", NO_RUN),
        ("runs", "--parent", NO_RUN),
        ("answer", f"{NO_RUN}:1", "1"),
        ("approve", f"{NO_RUN}:1"),
        ("reject", f"{NO_RUN}:1"),
    ],
    ids=lambda words: words[0],
)
def test_what_is_not_there_is_named_with_the_command_that_lists_it(typed, store, words):
    """Unknown runs, questions and approvals: 1, for people and for programs."""
    plain, told = typed(*words), typed(*words, "--json")

    assert (plain.code, told.code) == (1, 1)
    assert NO_RUN in plain.err
    assert "perdure runs" in plain.err or "perdure inbox" in plain.err
    assert len(plain.err.splitlines()) <= 2
    assert told.json["error"]["type"] == "NotFound"


@pytest.mark.parametrize(
    "words",
    [
        ("run", "shop.py:buyer", "[pen]"),
        ("run", "shop.py:buyer", "@missing.json"),
        ("answer", "x", "{"),
        ("send", "x", "topic", "word"),
        ("approve", "x", "--edit", "[1"),
        ("approve", "x", "--edit", "[1]"),
        ("fork", "x", "--at", "1", "--input", "nope"),
        ("fork", "x", "--at", "1", "--result", "nope"),
        ("resolve", "x", "1", "--happened", "order-17"),
    ],
    ids=" ".join,
)
def test_what_is_not_json_is_refused_before_anything_happens(typed, store, words):
    """Exit code 2, as JSON too."""
    plain, told = typed(*words), typed(*words, "--json")

    assert (plain.code, told.code) == (2, 2)
    assert "JSON" in plain.err or "No such file" in plain.err
    assert told.json["error"]["type"] == "UsageError"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "shop.py:buyer", "5"), "items: Input should be a valid array"),
        (("run", "shop.py:buyer"), "'items'"),
        (("run", "shop.py:adder", '{"a": 1, "c": 2}'), "unknown parameter c"),
        (("run", "shop.py:adder", '{"a": "many"}'), "a: Input should be a valid integer"),
        (("run", "shop.py:adder", '{"a": 1}', "--session", ""), "must not be empty"),
        (("run", "shop.py:adder", '{"a": 1}', "--store", "mysql://x"), "is not a store"),
        (("runs", "--store", "sqlite://"), "is not a store"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_input_of_the_wrong_shape_is_refused_before_a_run_exists(typed, store, words, said):
    """Exit code 2; the message names the field; no run was recorded."""
    before = len(typed("runs", "--json").json)
    ended = typed(*words)

    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert len(typed("runs", "--json").json) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "nowhere.py:buyer"), "there is no file nowhere.py"),
        (("run", "shop.py:nobody"), "it defines: buyer, adder"),
        (("run", "shop.py"), "defines several agents"),
        (("run", "shop.py:adder", '{"a": 1}', "--detach", "--no-wait"), "--detach"),
        (("work", "nowhere.py"), "there is no file nowhere.py"),
        (("pause",), "name runs, or choose them"),
        (("cancel", "x", "--all"), "name runs, or choose them"),
        (("send", "word"), "RUN TOPIC"),
        (("send", "--agent", "listener", "word", "1"), "--session"),
        (("resolve", "x", "1"), "exactly one of"),
        (("resolve", "x", "1", "--run-again", "--fail"), "exactly one of"),
        (("runs", "--since", "yesterday"), "neither a time span"),
        (("runs", "--status", "asleep"), "asleep"),
        (("events", "x", "--after", "-1"), "--after"),
        (("import", "nowhere.jsonl"), "No such file"),
        (("demo", "--invoices", "shop.py"), "belong together"),
        (("nonsense",), "No such command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_commands_that_make_no_sense_end_with_2(typed, store, words, said):
    """The message says what is wrong; a second line names the help."""
    ended = typed(*words)

    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_of_this_name", "broken.py:1: ModuleNotFoundError"),
        ("x = 1\n1 / 0", "broken.py:2: ZeroDivisionError"),
        ("def f(:\n", "broken.py:1: SyntaxError"),
        ("from perdure import agent\n\n@agent\ndef f(ctx): ...", "must be an `async def`"),
        ("raise SystemExit(0)", "broken.py:1: SystemExit"),
        ("x = 1", "defines no agent"),
        (
            (
                "from perdure import agent\n@agent(name='a')\nasync def f(ctx): ...\n"
                "@agent(name='a')\nasync def g(ctx): ..."
            ),
            "given twice",
        ),
    ],
    ids=["import", "division", "syntax", "sync agent", "exit", "no agent", "twice"],
)
def test_a_file_that_cannot_be_used_is_named_with_its_line(typed, folder, text, said):
    """Exit code 2 for `run` and `work`."""
    (folder / "broken.py").write_text(text, encoding="utf-8")

    for words in (("run", "broken.py"), ("run", "broken.py:a"), ("work", "broken.py", "--until-idle")):
        ended = typed(*words)
        assert (ended.code, ended.out) == (2, "")
        assert said in ended.err


@pytest.mark.parametrize(
    "words",
    [("runs",), ("inbox",), ("show", "x"), ("cancel", "--all"), ("db", "check"), ("db", "backup", "copy.db")],
    ids=" ".join,
)
def test_looking_where_there_is_no_store_makes_none(typed, folder, words):
    """Most often the directory is the wrong one: the message names it, and nothing is left behind."""
    ended = typed(*words)

    assert ended.code == 1
    assert "there is no store at sqlite:///.perdure/perdure.db" in ended.err
    assert not (folder / ".perdure").exists()


@pytest.mark.parametrize(
    "words",
    [("runs",), ("run", "shop.py:adder", '{"a": 1}'), ("work", "shop.py"), ("db", "check"), ("db", "migrate")],
    ids=" ".join,
)
def test_a_file_that_is_no_store_is_refused_and_left_alone(typed, folder, words):
    """StoreCorrupt by name, with the remedy; the file is as it was."""
    (folder / "notes.db").write_text("not a database, but long enough to be mistaken for one" * 40, encoding="utf-8")
    before = (folder / "notes.db").read_bytes()

    ended = typed(*words, "--store", "sqlite:///notes.db", "--json")

    assert ended.code == 1
    assert ended.json["error"]["type"] == "StoreCorrupt"
    assert "perdure db" in ended.json["error"]["message"]
    assert (folder / "notes.db").read_bytes() == before


def test_a_place_that_cannot_be_written_is_refused_by_name(typed, folder):
    """Below a file there is no directory to make."""
    ended = typed("run", "shop.py:adder", '{"a": 1}', "--store", "sqlite:///shop.py/runs.db", "--json")

    assert ended.code == 1
    assert ended.json["error"]["type"] == "StoreReadOnly"


def test_what_has_ended_cannot_be_steered(typed, store):
    """AlreadySettled, with the command that makes sense instead."""
    ended = next(row["id"] for row in typed("runs", "--json").json if row["status"] == "succeeded")

    for words in (("pause", ended), ("resume", ended), ("cancel", ended), ("send", ended, "word"), ("retry", ended)):
        refused = typed(*words)
        assert refused.code == 1
        assert f"perdure fork {ended}" in refused.err


def test_an_answer_that_does_not_fit_is_refused_with_the_shape_that_does(typed, store):
    """The question stays open; answering an approval, or approving a question, names the right command."""
    wrong = typed("answer", f"{store}:3", '{"approved": "perhaps"}')
    mistaken = typed("approve", f"{store}:3")

    assert wrong.code == 2
    assert "approved: boolean" in wrong.err
    assert mistaken.code == 2
    assert f"perdure answer {store}:3" in mistaken.err
    assert len(typed("inbox", "--json").json) == 1


def test_an_answer_is_given_once(typed, store):
    """The same again changes nothing; another one is refused."""
    assert typed("answer", f"{store}:3", '{"approved": true}').code == 0
    assert typed("answer", f"{store}:3", '{"approved": true}').code == 0

    other = typed("answer", f"{store}:3", '{"approved": false}', "--json")
    assert other.code == 1
    assert other.json["error"]["type"] == "AlreadySettled"


def test_a_step_that_is_not_in_the_dark_cannot_be_resolved(typed, store):
    """NotFound, with what the run waits for."""
    ended = typed("resolve", store, "1", "--fail")

    assert ended.code == 1
    assert "not of unknown outcome" in ended.err


def test_an_end_of_an_id_that_several_runs_have_is_refused(typed, store, monkeypatch):
    """Short ids must be unique; too short ones are not looked up at all."""
    ended = typed("show", store[-3:])

    assert ended.code == 1
    assert "perdure runs" in ended.err


def test_an_unexpected_error_shows_no_traceback_unless_asked_for(typed, store, monkeypatch):
    """Exit code 1 and one line; PERDURE_DEBUG=1 lets it through."""

    def explode(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr("perdure.cli.look.print_json", explode)
    ended = typed("runs", "--json")
    assert ended.code == 1
    assert ended.json["error"] == {
        "type": "RuntimeError",
        "message": "RuntimeError: a bug (unexpected; PERDURE_DEBUG=1 shows where it comes from)",
    }

    monkeypatch.setenv("PERDURE_DEBUG", "1")
    with pytest.raises(RuntimeError, match="a bug"):
        typed("runs", "--json")
