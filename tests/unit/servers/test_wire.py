"""Which of a client's messages commit, and what of their replies gets through? Bytes in, bytes out."""

from __future__ import annotations

import pytest

from perdure.testing.servers.wire import Armed, Conversation

STARTUP = (8).to_bytes(4) + (196608).to_bytes(4)
SSL_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)


def message(letter, body=b""):
    return letter + (len(body) + 4).to_bytes(4) + body


def parse(name, query):
    return message(b"P", name + b"\0" + query + b"\0\0\0")


def bind(name):
    return message(b"B", b"\0" + name + b"\0" + bytes(6))


SYNC, READY, ROW = message(b"S"), message(b"Z", b"I"), message(b"D", b"row")
COMMIT = parse(b"", b"select perdure_commit($1)") + bind(b"") + SYNC
READ = parse(b"", b"select 1") + bind(b"") + SYNC


@pytest.fixture
def armed():
    return Armed()


@pytest.fixture
def conversation(armed):
    """After the login."""
    conversation = Conversation(b"perdure_commit", armed)
    assert conversation.to_server(STARTUP).onward == STARTUP
    assert conversation.to_client(READY).onward == READY
    return conversation


def test_what_was_asked_before_is_still_answered(conversation, armed):
    """Of three requests under way the middle one commits: the first reply arrives, and nothing after it."""
    armed.replies = 1
    asked = READ + COMMIT + READ
    assert conversation.to_server(asked).onward == asked
    assert conversation.to_client(ROW + READY).onward == ROW + READY
    passage = conversation.to_client(ROW + READY + ROW + READY)
    assert (passage.onward, passage.swallowed) == (b"", "reply")


def test_a_reply_is_swallowed_when_all_of_it_is_there(conversation, armed):
    """The server has ended the transaction only when it is ready for the next."""
    armed.replies = 1
    conversation.to_server(COMMIT)
    assert conversation.to_client(ROW).swallowed is None
    assert conversation.to_client(READY[:-1]).swallowed is None
    assert conversation.to_client(READY[-1:]).swallowed == "reply"


def test_messages_are_recognised_however_they_are_cut(conversation, armed):
    """Byte by byte, as a network may deliver them."""
    armed.replies = 1
    onward = b"".join(conversation.to_server(COMMIT[place : place + 1]).onward for place in range(len(COMMIT)))
    assert onward == COMMIT
    assert armed.replies == 0


def test_of_a_swallowed_commit_the_statement_arrives_but_no_order_to_run_it(conversation, armed):
    """What was asked before it does go on."""
    armed.commits = 1
    passage = conversation.to_server(READ + COMMIT)
    assert (passage.onward, passage.swallowed) == (READ + parse(b"", b"select perdure_commit($1)"), "commit")


def test_preparing_a_commit_is_none(conversation, armed):
    """A driver may prepare a statement in a round trip of its own."""
    armed.commits = armed.replies = 1
    prepare = parse(b"one", b"select perdure_commit($1)") + SYNC
    assert conversation.to_server(prepare).onward == prepare
    assert conversation.to_client(READY).onward == READY
    assert conversation.to_server(bind(b"one") + SYNC).swallowed == "commit"


def test_a_prepared_commit_is_known_by_its_name(conversation, armed):
    """Until another statement takes the name."""
    conversation.to_server(parse(b"one", b"select perdure_commit($1)") + SYNC)
    armed.commits = 1
    assert conversation.to_server(bind(b"two") + SYNC).swallowed is None
    assert conversation.to_server(bind(b"one") + SYNC).swallowed == "commit"
    armed.commits = 1
    conversation.to_server(parse(b"one", b"select 1") + SYNC)
    assert conversation.to_server(bind(b"one") + SYNC).swallowed is None


def test_a_simple_query_may_commit(conversation, armed):
    """It needs no Sync."""
    armed.replies = 1
    conversation.to_server(message(b"Q", b"select perdure_commit()\0"))
    assert conversation.to_client(READY).swallowed == "reply"


def test_a_marker_among_the_parameters_is_no_commit(conversation, armed):
    """Only SQL says what a statement does."""
    armed.commits = 1
    assert conversation.to_server(READ[:-5] + message(b"B", b"\0\0perdure_commit") + SYNC).swallowed is None


def test_encryption_is_declined(armed):
    """What is encrypted could not be read along; the login follows in the clear."""
    conversation = Conversation(b"perdure_commit", armed)
    passage = conversation.to_server(SSL_REQUEST)
    assert (passage.onward, passage.back) == (b"", b"N")
    assert conversation.to_server(STARTUP).onward == STARTUP
