"""Search by image, vector and product, over real gRPC, a real model and a real store."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from lookalike.v1 import catalog_service_pb2, embedding_service_pb2, image_pb2
from lookalike.v1 import search_service_pb2 as pb
from support.paths import MODELS
from support.serving import Serve, Served, noise, product, raw


async def fill(served: Served, count: int = 12, category: str = "Shoes", first: int = 0) -> None:
    """Store products p00, p01 ... of this category, each with the image of its number."""
    products = [product(f"p{i:02}", i, category) for i in range(first, first + count)]
    response = await served.catalog.UpsertProducts(catalog_service_pb2.UpsertProductsRequest(products=products))
    assert [result.status.code for result in response.results] == [0] * count


async def embedding(served: Served, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Embed an image."""
    response = await served.embedding.Embed(embedding_service_pb2.EmbedRequest(image=raw(noise(seed))))
    return np.array(response.embedding, dtype=np.float32)


def ids(response: pb.SearchResponse) -> list[str]:
    """Return the ids of a response, in order."""
    return [neighbor.product.id for neighbor in response.neighbors]


async def brute(served: Served, query: int, seeds: Sequence[int]) -> list[tuple[float, str]]:
    """Distances from one image to others by NumPy, nearest first."""
    query_vector = await embedding(served, query)
    found = [(1.0 - float(np.dot(query_vector, await embedding(served, seed))), f"p{seed:02}") for seed in seeds]
    return sorted(found)


async def test_by_product(served: Served) -> None:
    """A product's neighbors are those a brute-force search finds, without itself, from its own category."""
    await fill(served)
    await fill(served, category="Shirts", first=12)
    response = await served.search.Search(pb.SearchRequest(product_id="p03", k=5))
    expected = await brute(served, 3, [seed for seed in range(12) if seed != 3])
    assert ids(response) == [name for _, name in expected[:5]]
    for neighbor, (distance, _) in zip(response.neighbors, expected, strict=False):
        assert neighbor.distance == pytest.approx(distance, abs=1e-6)
        assert neighbor.similarity == pytest.approx(1 - distance, abs=1e-6)
        assert neighbor.product.category == "Shoes"
        assert neighbor.product.title == f"Title {neighbor.product.id}"
    assert response.stats.exact
    assert response.stats.batch_size == 0


async def test_by_image_and_by_vector_agree(served: Served) -> None:
    """An image and its embedding are the same query; the product with that image comes first, at distance 0."""
    await fill(served)
    by_image = await served.search.Search(pb.SearchRequest(image=raw(noise(5)), category="Shoes", k=4))
    vector = image_pb2.Vector(values=await embedding(served, 5))
    by_vector = await served.search.Search(pb.SearchRequest(vector=vector, category="Shoes", k=4))
    assert ids(by_image) == ids(by_vector)
    assert ids(by_image)[0] == "p05"
    assert by_image.neighbors[0].distance == pytest.approx(0, abs=1e-6)
    assert by_image.stats.batch_size == 1
    assert by_image.stats.search_us > 0


async def test_length_of_a_vector_does_not_count_under_cosine(served: Served) -> None:
    """A vector scaled by any factor is the same query."""
    await fill(served)
    query_vector = await embedding(served, 5)
    for factor in (1e-30, 1e30):
        vector = image_pb2.Vector(values=query_vector * np.float32(factor))
        response = await served.search.Search(pb.SearchRequest(vector=vector, category="Shoes", k=3))
        assert ids(response)[0] == "p05"
        assert response.neighbors[0].distance == pytest.approx(0, abs=1e-6)


async def test_euclidean_distances(serve: Serve) -> None:
    """Under the euclidean metric the distance is the L2 distance and the similarity 1 / (1 + distance)."""
    async with serve(model=MODELS / "tiny-euclidean") as served:
        await fill(served)
        response = await served.search.Search(pb.SearchRequest(product_id="p00", k=11))
        query_vector = await embedding(served, 0)
        for neighbor in response.neighbors:
            expected = np.linalg.norm(query_vector - await embedding(served, int(neighbor.product.id[1:])))
            assert neighbor.distance == pytest.approx(expected, rel=1e-5)
            assert neighbor.similarity == pytest.approx(1 / (1 + expected), rel=1e-5)
        distances = [neighbor.distance for neighbor in response.neighbors]
        assert distances == sorted(distances)


async def test_k_defaults_to_ten_and_may_exceed_the_category(served: Served) -> None:
    """Without k ten come back; with a k larger than the category, all of it, and that is no error."""
    await fill(served, count=15)
    default = await served.search.Search(pb.SearchRequest(product_id="p00"))
    assert len(default.neighbors) == 10
    everything = await served.search.Search(pb.SearchRequest(product_id="p00", k=1000))
    assert len(everything.neighbors) == 14


async def test_equally_near_products_come_by_id(served: Served) -> None:
    """Products with the same image are ordered by id, whatever k is."""
    products = [product(f"twin{i:02}", 1) for i in (7, 3, 9, 1, 5, 0, 8, 2, 6, 4)]
    await served.catalog.UpsertProducts(catalog_service_pb2.UpsertProductsRequest(products=products))
    for k in (1, 4, 10):
        response = await served.search.Search(pb.SearchRequest(image=raw(noise(1)), category="Shoes", k=k))
        assert ids(response) == [f"twin{i:02}" for i in range(k)]


async def test_max_distance_cuts(served: Served) -> None:
    """Only products within max_distance come back."""
    await fill(served)
    expected = await brute(served, 0, range(1, 12))
    middle = (expected[4][0] + expected[5][0]) / 2
    response = await served.search.Search(pb.SearchRequest(product_id="p00", k=11, max_distance=middle))
    assert ids(response) == [name for _, name in expected[:5]]


async def test_all_categories_are_merged(served: Served) -> None:
    """With all_categories the result is that of one search over everything."""
    await fill(served, 8, "Shoes")
    await fill(served, 8, "Shirts", first=8)
    response = await served.search.Search(pb.SearchRequest(product_id="p00", all_categories=True, k=15))
    assert ids(response) == [name for _, name in await brute(served, 0, range(1, 16))]
    assert {neighbor.product.category for neighbor in response.neighbors} == {"Shoes", "Shirts"}


async def test_another_category_than_the_products_own(served: Served) -> None:
    """With product_id and a category, that category is searched."""
    await fill(served, 4, "Shoes")
    await fill(served, 4, "Shirts", first=4)
    response = await served.search.Search(pb.SearchRequest(product_id="p00", category="Shirts"))
    assert sorted(ids(response)) == ["p04", "p05", "p06", "p07"]


async def test_product_with_several_images_comes_once_by_its_best(served: Served) -> None:
    """A product of three images comes once, at the distance of the nearest, which image_index names."""
    many = product("many", 1)
    many.images.extend([raw(noise(2)), raw(noise(3))])
    await served.catalog.UpsertProducts(catalog_service_pb2.UpsertProductsRequest(products=[many, product("other", 9)]))
    response = await served.search.Search(pb.SearchRequest(image=raw(noise(3)), category="Shoes", k=10))
    assert ids(response) == ["many", "other"]
    assert response.neighbors[0].image_index == 2
    assert response.neighbors[0].distance == pytest.approx(0, abs=1e-6)
    reverse = await served.search.Search(pb.SearchRequest(product_id="many"))
    assert ids(reverse) == ["other"]
    nearest = min([await brute(served, seed, [9]) for seed in (1, 2, 3)])
    assert reverse.neighbors[0].distance == pytest.approx(nearest[0][0], abs=1e-6)


async def test_large_category_is_searched_by_a_graph(serve: Serve) -> None:
    """Above full_scan_threshold a category is searched through HNSW and says so; `exact` still compares every row."""
    async with serve(full_scan_threshold=20) as served:
        await fill(served, count=60)
        served.app.index.wait_until_idle()
        listed = await served.catalog.ListCategories(catalog_service_pb2.ListCategoriesRequest())
        assert listed.categories[0].index_kind == catalog_service_pb2.INDEX_KIND_HNSW
        fast = await served.search.Search(pb.SearchRequest(product_id="p00", k=5))
        slow = await served.search.Search(pb.SearchRequest(product_id="p00", k=5, exact=True))
        assert not fast.stats.exact
        assert slow.stats.exact
        # With so few rows ef_search covers the whole graph, so both must give the brute-force result.
        assert ids(fast) == ids(slow) == [name for _, name in (await brute(served, 0, range(1, 60)))[:5]]
