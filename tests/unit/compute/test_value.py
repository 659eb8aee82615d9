"""What a tool may ask for, and what is refused when it is declared."""

from __future__ import annotations

import functools

import pytest

from perdure import Compute, tool
from perdure.errors import InvalidSetting
from perdure.values.compute import memory_text


@pytest.mark.parametrize(
    ("given", "bytes"), [("8GiB", 8 * 2**30), ("1.5MiB", 3 * 2**19), ("2GB", 2 * 10**9), (2**20, 2**20), (None, None)]
)
def test_memory_is_text_with_a_unit_or_bytes(given, bytes):
    """Both kinds of units, fractions, plain numbers; None is no limit."""
    assert Compute(memory=given).memory_bytes == bytes


@pytest.mark.parametrize(
    "options",
    [
        {"cpus": 0}, {"cpus": -1}, {"cpus": True}, {"cpus": "2"}, {"cpus": float("nan")}, {"cpus": float("inf")},
        {"gpus": -0.5}, {"gpus": 1.5}, {"memory": "8"}, {"memory": "8gb"}, {"memory": "-1GiB"}, {"memory": 0},
        {"memory": "1KiB"}, {"memory": True}, {"memory": 8.5}, {"batch": 0}, {"batch": 2.0}, {"grow": 0.5},
        {"grow": 2.0}, {"grow": 2.0, "memory": "1GiB"}, {"max_memory": "1GiB", "memory": "1GiB"},
        {"grow": 2.0, "max_memory": "1GiB"}, {"grow": 2.0, "memory": "2GiB", "max_memory": "1GiB"},
    ],
    ids=str,
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options):
    """By the name of the option that is wrong."""
    with pytest.raises(InvalidSetting, match="|".join(options)):
        Compute(**options)


def test_memory_grows_by_its_factor_up_to_its_most():
    """And by no more than that, however often an attempt ran out."""
    compute = Compute(memory="512MiB", grow=2, max_memory="3GiB")

    sizes = [compute.grown(ooms).memory_bytes for ooms in (0, 1, 2, 3, 10**9)]

    assert sizes == [n * 2**20 for n in (512, 1024, 2048, 3072, 3072)]


def test_without_grow_it_stays_as_it_is():
    """However often."""
    compute = Compute(memory="1GiB")
    assert compute.grown(5) is compute


@pytest.mark.parametrize(("bytes", "text"), [(2**29, "512 MiB"), (3 * 2**29, "1.5 GiB"), (12, "12 B")])
def test_people_read_memory_in_units(bytes, text):
    """The largest unit that fits."""
    assert memory_text(bytes) == text


def test_another_process_must_find_the_function():
    """Local functions, lambdas and partials have no name to find them by."""

    def local() -> None: ...

    for function in (local, lambda: None, functools.partial(memory_text, 1)):
        with pytest.raises(InvalidSetting, match="top of a module"):
            tool(compute=Compute(), name="it")(function)


def at_the_top() -> None: ...


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"effect": "transaction", "compute": Compute()}, "transaction"),
        ({"effect": "once", "compute": Compute(batch=10)}, "batch"),
        ({"compute": {"cpus": 2}}, "Compute"),
    ],
    ids=["transaction", "once in batches", "no Compute"],
)
def test_what_compute_does_not_go_with_is_refused(options, why):
    """When the tool is declared, not when it runs."""
    with pytest.raises(InvalidSetting, match=why):
        tool(**options)(at_the_top)


def test_other_options_leave_compute_as_it_was():
    """`with_options` changes what it is given."""
    original = tool(effect="read", compute=Compute(cpus=2))(at_the_top)
    assert original.with_options(retries=5).compute == Compute(cpus=2)
    assert original.with_options(compute=None).compute is None
