"""Quotas: the file, and what a caller may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from lookalike_server.domain.calls import Caller
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.rpc.quotas import Quota, Quotas, QuotaTable, read_quotas


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the file."""
    return tmp_path / "quotas.toml"


def over(quotas: Quotas, caller: str) -> LookalikeError:
    """Return why this caller's next call is rejected."""
    with pytest.raises(LookalikeError) as caught:
        quotas.enter(caller)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert caught.value.retry_after
    return caught.value


def test_the_file(path: Path) -> None:
    """A caller has its own table's quota and weight, and everybody else the default."""
    path.write_text(
        "[default]\nrequests_per_second = 2.5\nmax_in_flight = 3\n[callers.shop]\nweight = 4\n"
        '[callers."ipv4:192.0.2.1"]\nimage_bytes_per_second = 1000\n',
        encoding="utf-8",
    )
    table = read_quotas(path)
    assert table.of("anybody") == Quota(requests_per_second=2.5, max_in_flight=3)
    assert table.of("shop") == Quota(weight=4)
    assert table.of("ipv4:192.0.2.1") == Quota(image_bytes_per_second=1000)
    assert Quotas(table).enter("shop").caller == Caller("shop", 4)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[default", "cannot read the quotas"),
        ("[defaults]", "defaults is not known"),
        ("default = 3", "default must be a table"),
        ("callers = 3", "callers must be tables"),
        ("[callers]\nshop = 3", "callers.shop must be a table"),
        ("[default]\nrequests = 3", "default.requests is not known"),
        ("[default]\nmax_in_flight = 0", "default.max_in_flight is 0; it must be a number above 0"),
        ("[default]\nmax_in_flight = 1.5", "it must be a whole number"),
        ("[callers.shop]\nweight = inf", "callers.shop.weight is inf"),
        ("[callers.shop]\nweight = nan", "callers.shop.weight is nan"),
        ("[callers.shop]\nweight = true", "callers.shop.weight is True"),
        ('[callers.shop]\nweight = "2"', "callers.shop.weight is '2'"),
    ],
)
def test_an_invalid_file(path: Path, text: str, complaint: str) -> None:
    """A file with anything else in it is an error that names the place."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(LookalikeError) as caught:
        read_quotas(path)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert complaint in caught.value.message


def test_a_missing_file(path: Path) -> None:
    """A file that is not there is an error that names it."""
    with pytest.raises(LookalikeError, match=str(path)):
        read_quotas(path)


def test_requests_a_second() -> None:
    """After a pause as many calls pass as a second allows, and then one whenever there is room again."""
    now = 0.0
    quotas = Quotas(QuotaTable(Quota(requests_per_second=2), {}), clock=lambda: now)
    for _ in range(2):
        quotas.enter("noisy")
    error = over(quotas, "noisy")
    assert "2 requests a second" in error.message
    quotas.enter("another")
    assert error.retry_after is not None
    now += error.retry_after
    quotas.enter("noisy")
    over(quotas, "noisy")
    now += 100
    for _ in range(2):
        quotas.enter("noisy")
    over(quotas, "noisy")


def test_image_bytes_a_second() -> None:
    """A request may exceed what is left, because its size is known only afterwards; the next ones wait for that."""
    now = 0.0
    quotas = Quotas(QuotaTable(Quota(image_bytes_per_second=1000), {}), clock=lambda: now)
    quotas.enter("noisy")
    assert quotas.take_image_bytes(Caller("noisy"), 500) == 0.0
    assert quotas.take_image_bytes(Caller("noisy"), 4500) == pytest.approx(4.0, abs=0.01)
    now = 3.9
    over(quotas, "noisy")
    now = 4.1
    quotas.enter("noisy")


def test_calls_in_flight() -> None:
    """No more calls at once than the quota says; one that ends makes room."""
    quotas = Quotas(QuotaTable(Quota(), {"noisy": Quota(max_in_flight=2)}))
    quotas.enter("noisy")
    usage = quotas.enter("noisy")
    assert "2 calls at once" in over(quotas, "noisy").message
    usage.leave()
    quotas.enter("noisy")
    for _ in range(100):
        quotas.enter("anybody")


def test_callers_are_forgotten() -> None:
    """However many callers there are, only some are remembered, and those with calls in flight always."""
    quotas = Quotas(QuotaTable(Quota(max_in_flight=1), {}))
    quotas.enter("busy")
    for number in range(30_000):
        quotas.enter(f"address{number}").leave()
    assert quotas.remembered <= 10_001
    over(quotas, "busy")
