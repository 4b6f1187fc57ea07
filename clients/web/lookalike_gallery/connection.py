"""The one connection to the server, shared by everybody who looks at this gallery, and what is kept of its answers."""

from __future__ import annotations

import itertools
import os
import time
from typing import Any

import streamlit as st

from lookalike_client import Category, Client, ItemStatus, Product, ProductInput, SearchResult
from lookalike_gallery.response_stats import ResponseStatsLog
from lookalike_gallery.thumbnails import Images

TIMEOUT_S = 10.0


class Connection:
    """The client, the images it fetched and the stats it got; safe to use from several threads."""

    def __init__(self, target: str, token: str | None) -> None:
        self.target = target
        self.client = Client(target, timeout=TIMEOUT_S, token=token)
        self.images = Images(self.client)
        self.stats = ResponseStatsLog()
        self.change = 0

    def search(self, **question: Any) -> SearchResult:
        """Ask as `Client.search`, and keep the stats."""
        asked = time.perf_counter()
        answer = self.client.search(**question)
        self.stats.add(answer.stats, (time.perf_counter() - asked) * 1000)
        return answer

    def store(self, product: ProductInput, request_id: str) -> ItemStatus:
        """Store or replace one product, and forget what is known of the one it replaces."""
        (status,) = self.client.upsert([product], idempotency_key=request_id)
        self._changed(product.id)
        return status

    def delete(self, product_id: str, request_id: str) -> ItemStatus:
        """Remove one product, and forget what is known of it."""
        (status,) = self.client.delete([product_id], idempotency_key=request_id)
        self._changed(product_id)
        return status

    def categories(self) -> list[Category]:
        """The categories with their attributes.

        The server reads every product to count values, so they are kept for a minute, or until a category grows or
        shrinks or this gallery changes a product.
        """
        counts = tuple((each.name, each.count) for each in self.client.categories())
        return _categories(self, self.target, self.change, counts)

    def products(self, category: str, first: int, count: int) -> list[Product]:
        """Products of a category (empty: of all) by id, from the one counted `first` from 0."""
        page = min(1000, first + count)
        return list(itertools.islice(self.client.products(category, page_size=page), first, first + count))

    def _changed(self, product_id: str) -> None:
        self.images.forget(product_id)
        self.change += 1


@st.cache_data(ttl=60, max_entries=8, show_spinner=False)
def _categories(_connection: Connection, *key: object) -> list[Category]:  # noqa: ARG001 - they are kept by it
    return _connection.client.categories(include_attributes=True)


def connection() -> Connection:
    """The connection to the server that the environment names, as it does for the `lookalike` command."""
    target = os.environ.get("LOOKALIKE_CLIENT_SERVER") or "127.0.0.1:50051"
    return _connect(target, os.environ.get("LOOKALIKE_CLIENT_TOKEN") or None)


@st.cache_resource(show_spinner=False)
def _connect(target: str, token: str | None) -> Connection:
    return Connection(target, token)
