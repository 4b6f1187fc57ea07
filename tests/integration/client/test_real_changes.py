"""Filters, groups, duplicates, changes and stored images against the real server, with a tiny real model."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc import StatusCode
from PIL import Image

from lookalike_client import (
    AnyOf,
    AsyncClient,
    Between,
    Equals,
    Filter,
    LookalikeError,
    NoneOf,
    ProductInput,
)
from support.serving import Served, noise
from support.threaded_server import address, command, png

FACTS: dict[str, dict[str, str]] = {
    "p0": {"color": "red", "price": "5"},
    "p1": {"color": "blue", "price": "20"},
    "p2": {"price": "n/a"},
    "p3": {"color": "red", "price": "12.5"},
}


async def stock(client: AsyncClient) -> None:
    """Store four products with attributes."""
    products = [
        ProductInput(product_id, "Men", attributes=facts, images=[png(seed)])
        for seed, (product_id, facts) in enumerate(FACTS.items())
    ]
    assert all(status.ok for status in await client.upsert(products))


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (Equals("color", "red"), {"p0", "p3"}),
        (AnyOf("color", ["red", "blue"]), {"p0", "p1", "p3"}),
        (NoneOf("color", ["red"]), {"p1", "p2"}),
        (Between("price", maximum=12.5), {"p0", "p3"}),
        (Between("price", 5.5, 20), {"p1", "p3"}),
    ],
)
async def test_filters_mean_what_they_say(served: Served, condition: Filter, found: set[str]) -> None:
    """Each kind of condition leaves the products that meet it."""
    async with AsyncClient(address(served)) as client:
        await stock(client)
        result = await client.search(image=noise(9), category="Men", filters=[condition])
    assert {each.product.id for each in result.neighbors} == found


async def test_changed_attributes_are_searched_by_at_once(served: Served) -> None:
    """The search after an update sees the new value and no longer the cleared one, and groups by what is there then."""
    async with AsyncClient(address(served)) as client:
        await stock(client)
        changed = await client.update_attributes("p1", {"stock": "3"}, clear=["color"])
        assert changed.attributes == {"price": "20", "stock": "3"}
        query: dict[str, Any] = {"image": noise(9), "category": "Men"}
        result = await client.search(**query, filters=[Equals("stock", "3")])
        assert [each.product.id for each in result.neighbors] == ["p1"]
        assert not (await client.search(**query, filters=[Equals("color", "blue")])).neighbors
        assert len((await client.search(**query, group_by="color")).neighbors) == 3
        assert len((await client.search(**query, group_by="color", group_limit=2)).neighbors) == 4
        with pytest.raises(LookalikeError) as caught:
            await client.update_attributes("nothing", {"stock": "3"})
    assert caught.value.code is StatusCode.NOT_FOUND


async def test_products_that_look_the_same_are_one_neighbor(served: Served) -> None:
    """The same image under three ids is one neighbor, and a table with two lines marked =."""
    async with AsyncClient(address(served)) as client:
        await stock(client)
        assert all(each.ok for each in await client.upsert([ProductInput(i, "Men", images=[png(0)]) for i in "xy"]))
        result = await client.search(image=png(0), category="Men", k=2, collapse_duplicates=True)
    first, second = result.neighbors
    assert {first.product.id, *(each.id for each in first.duplicates)} == {"p0", "x", "y"}
    assert second.duplicates == ()
    printed = await command(served, "search", "--id", "p1", "--where", "color!=green", "--collapse")
    assert sum(line.lstrip().startswith("=") for line in printed.stdout.splitlines()) == 2


async def test_an_image_is_given_back_byte_for_byte(served: Served, tmp_path: Path) -> None:
    """A file comes back as it was sent and pixels as a PNG of them; with vectors, or past the last, there is none."""
    async with AsyncClient(address(served)) as client:
        dim = (await client.model()).dim
        products = [
            ProductInput("a", "Men", images=[png(1), noise(2)]),
            ProductInput("b", "Men", vectors=[np.ones(dim)]),
        ]
        assert all(status.ok for status in await client.upsert(products))
        first = await client.image("a")
        assert (first.data, first.media_type) == (png(1), "image/png")
        assert first.sha256 == hashlib.sha256(png(1)).hexdigest()
        second = await client.image("a", 1)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(second.data))), noise(2))
        for product_id, index, code in (
            ("b", 0, StatusCode.NOT_FOUND),
            ("nothing", 0, StatusCode.NOT_FOUND),
            ("a", 2, StatusCode.INVALID_ARGUMENT),
        ):
            with pytest.raises(LookalikeError) as caught:
                await client.image(product_id, index)
            assert caught.value.code is code
    result = await command(served, "image", "a", "--out", tmp_path / "a.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a.png").read_bytes() == png(1)


async def test_a_late_repeat_undoes_nothing(served: Served) -> None:
    """A request with a known key is not run again, and another request with that key is rejected."""
    product = ProductInput("a", "Men", attributes={"price": "5"}, images=[png(1)])
    async with AsyncClient(address(served)) as client:
        assert (await client.upsert([product], idempotency_key="r1"))[0].ok
        await client.update_attributes("a", {"price": "7"}, idempotency_key="r2")
        assert (await client.upsert([product], idempotency_key="r1"))[0].ok
        assert (await client.get("a")).product.attributes == {"price": "7"}
        (status,) = await client.upsert([ProductInput("a", "Men", images=[png(2)])], idempotency_key="r1")
        assert status.code is StatusCode.INVALID_ARGUMENT
        assert "idempotency_key: " in str(status.error)
        assert (await client.delete(["a"], idempotency_key="r3"))[0].ok
        assert (await client.delete(["a"], idempotency_key="r3"))[0].ok


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--group-by", "x" * 300], "INVALID_ARGUMENT: --group-by: "),
        (["--max-distance", "nan"], "INVALID_ARGUMENT: --max-distance: "),
    ],
)
async def test_the_servers_rejection_reaches_the_user(served: Served, options: list[str], message: str) -> None:
    """The server's message is printed in one line, exit status 1."""
    async with AsyncClient(address(served)) as client:
        await stock(client)
    result = await command(served, "search", "--id", "p0", *options)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"lookalike: {message}")
    assert result.stderr.count("\n") == 1
