"""The connection to the server, shared by all visitors with the same token, and what is cached of its responses."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from typing import Any

import streamlit as st

from lookalike_client import Category, Client, ItemStatus, Product, ProductInput, SearchResult
from lookalike_client.connection_options import ConnectionOptions, connection_options
from lookalike_gallery.response_stats import StatsHistory
from lookalike_gallery.thumbnails import ThumbnailCache

TIMEOUT_S = 10.0
_TOKEN = "token"  # noqa: S105 - session state: the visitor's own token, where there was a login with one
_MAX_CONNECTIONS = 64
MAX_SCANNED = 20_000
"""The most products that are read to find a title."""


class Connection:
    """The client, its thumbnails and the stats of its searches; thread-safe."""

    def __init__(self, options: ConnectionOptions) -> None:
        self.target = options.server
        self.token = options.token
        self.client = Client(options.server, timeout=TIMEOUT_S, token=options.token, tls=options.tls)
        self.thumbnails = ThumbnailCache(self.client)
        self.stats = StatsHistory()
        self.revision = 0

    def search(self, **query: Any) -> SearchResult:
        """Call `Client.search`, and record the stats."""
        started = time.perf_counter()
        result = self.client.search(**query)
        self.stats.add(result.stats, (time.perf_counter() - started) * 1000)
        return result

    def store(self, product: ProductInput, idempotency_key: str) -> ItemStatus:
        """Store or replace one product, and drop what is cached of the one it replaces."""
        (status,) = self.client.upsert([product], idempotency_key=idempotency_key)
        self._changed(product.id)
        return status

    def delete(self, product_id: str, idempotency_key: str) -> ItemStatus:
        """Delete one product, and drop what is cached of it."""
        (status,) = self.client.delete([product_id], idempotency_key=idempotency_key)
        self._changed(product_id)
        return status

    def categories(self) -> list[Category]:
        """Return the categories with their attributes.

        The server reads every product to count values, so the result is cached for a minute, or until the size of a
        category changes or this gallery edits a product.
        """
        counts = tuple((each.name, each.count) for each in self.client.categories())
        return _categories(self, self.target, self.token, self.revision, counts)

    def products(self, category: str, first: int, count: int) -> list[Product]:
        """Return `count` products of a category (empty: all), ordered by id, from offset `first`."""
        page = min(1000, first + count)
        return list(itertools.islice(self.client.products(category, page_size=page), first, first + count))

    def find(self, category: str, text: str, count: int) -> tuple[list[Product], bool]:
        """Find products of a category (empty: all) by a part of their title or id, in any case.

        The server has no index of titles, so at most MAX_SCANNED products are read; the result is cached for a minute.

        Returns:
            The first `count` by id, and whether there are no others.
        """
        return _find(self, self.target, self.token, self.revision, category, text.casefold(), count)

    def _changed(self, product_id: str) -> None:
        self.thumbnails.forget(product_id)
        self.revision += 1


@st.cache_data(ttl=60, max_entries=8, show_spinner=False)
def _categories(_connection: Connection, *key: object) -> list[Category]:  # noqa: ARG001 - the cache key
    return _connection.client.categories(include_attributes=True)


@st.cache_data(ttl=60, max_entries=64, show_spinner="Searching titles")
def _find(
    _connection: Connection, target: str, token: str | None, revision: int, category: str, text: str, count: int
) -> tuple[list[Product], bool]:
    del target, token, revision  # the cache's key
    found: list[Product] = []
    for read, product in enumerate(_connection.client.products(category, page_size=1000)):
        if read == MAX_SCANNED:
            return found, False
        if text in product.title.casefold() or text in product.id.casefold():
            if len(found) == count:
                return found, False
            found.append(product)
    return found, True


def connection() -> Connection:
    """Return the connection to the server of the variables LOOKALIKE_CLIENT_..., as the `lookalike` command does.

    Raises:
        OptionError: A variable cannot be used.
        TlsError: A file of certificates or of a key cannot be used.
    """
    options = connection_options()
    return _connect(replace(options, token=st.session_state.get(_TOKEN, options.token)))


def use_token(token: str) -> None:
    """Call the server with the visitor's own token from now on."""
    st.session_state[_TOKEN] = token


@st.cache_resource(show_spinner=False, max_entries=_MAX_CONNECTIONS)
def _connect(options: ConnectionOptions) -> Connection:
    return Connection(options)
