"""What JSON the journal takes: nothing that it could not give back."""

import pytest

from perdure.errors import NotJsonError
from perdure.values.json import decode, encode_given


def nested(levels):
    """A list within lists."""
    value: list[object] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_what_is_taken_can_be_given_back_with_an_event_around_it():
    """Whatever depth is accepted stays readable inside twenty more levels."""
    text = encode_given(nested(170))

    assert decode('{"result":' * 20 + text + "}" * 20)


@pytest.mark.parametrize("levels", [195, 220, 300])
def test_what_nests_too_deep_is_refused_when_it_is_written(levels):
    """Not when somebody needs it back: a worker that cannot read its own journal would stop."""
    with pytest.raises(NotJsonError):
        encode_given(nested(levels))


def test_many_brackets_side_by_side_are_fine():
    """Width is not depth."""
    assert decode(encode_given([[] for _ in range(1000)])) == [[] for _ in range(1000)]
