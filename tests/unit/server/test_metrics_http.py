"""The HTTP server of the metrics: its formats, and what strangers can do to it."""

from __future__ import annotations

import asyncio
import errno
import gzip
import http.client
import select
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from lookalike_server.domain.errors import LookalikeError
from lookalike_server.monitoring.exchange import MAX_HEAD_BYTES, Exchange, Request, Response
from lookalike_server.monitoring.http_server import HttpServer
from lookalike_server.monitoring.listening import listen_sockets, parse_metrics_listen
from lookalike_server.monitoring.metrics_page import MetricsPage
from lookalike_server.monitoring.pages import Pages
from lookalike_server.rpc.readiness import Readiness
from support.http_requests import Reply, get, reply_to

CATEGORIES = 100


class Monitored:
    """A server of metrics on a free port."""

    def __init__(self, port: int, registry: CollectorRegistry) -> None:
        self.port = port
        self.registry = registry
        self.readiness = Readiness.STARTING
        self.collections = 0

    async def get(self, path: str, **headers: str) -> Reply:
        """Send a GET request."""
        return await get(self.port, path, **headers)


@asynccontextmanager
async def monitored(**limits: float) -> AsyncIterator[Monitored]:
    """Serve a registry of its own."""
    registry = CollectorRegistry()
    sockets = listen_sockets(parse_metrics_listen("0"))
    served = Monitored(sockets[0].getsockname()[1], registry)

    async def source() -> Collector:
        served.collections += 1
        return registry

    page = MetricsPage(source, limits.pop("min_seconds", 0.0))
    server = HttpServer(Pages(page, lambda: served.readiness), **limits)  # type: ignore[arg-type]
    await server.start(sockets)
    try:
        yield served
    finally:
        server.close()
        page.close()


@pytest.fixture
async def server() -> AsyncIterator[Monitored]:
    """Serve with the usual limits."""
    async with monitored() as served:
        yield served


async def test_metrics_in_each_format(server: Monitored) -> None:
    """A scrape gets Prometheus' text or, where it prefers it, OpenMetrics; each parses to the same values."""
    Counter("calls", "Calls.", ["code"], registry=server.registry).labels('a"b\n').inc(3)
    prefers = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    for accept, content_type, parse in (
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", text_string_to_metric_families),
        ("", "text/plain; version=0.0.4; charset=utf-8", text_string_to_metric_families),
        ("text/html;q=nonsense", "text/plain; version=0.0.4; charset=utf-8", text_string_to_metric_families),
        ("application/openmetrics-text;q=0.1, text/plain", "text/plain; version=0.0.4; charset=utf-8", None),
        (prefers, "application/openmetrics-text; version=1.0.0; charset=utf-8", parse_openmetrics),
    ):
        reply = await server.get("/metrics", accept=accept)
        assert (reply.status, reply.headers["content-type"]) == (200, content_type)
        if parse is not None:
            samples = [each for family in parse(reply.body.decode()) for each in family.samples]
            assert next(each.value for each in samples if each.labels == {"code": 'a"b\n'}) == 3.0


async def test_metrics_are_compressed_where_that_is_accepted(server: Monitored) -> None:
    """With `Accept-Encoding: gzip` the same text comes as gzip, and with `gzip;q=0` it does not."""
    Gauge("rows", "Rows.", registry=server.registry).set(5)
    plain = await server.get("/metrics")
    compressed = await server.get("/metrics", accept_encoding="deflate, gzip")
    rejected = await server.get("/metrics", accept_encoding="gzip;q=0")
    assert compressed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(compressed.body) == plain.body == rejected.body
    assert "content-encoding" not in {*plain.headers, *rejected.headers}


async def test_event_loop_runs_while_metrics_are_collected(server: Monitored) -> None:
    """Metrics are collected and written beside the event loop: it can end a wait that a collection is in."""
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Collector):
        def collect(self) -> Iterator[Metric]:
            begun.set()
            assert go_on.wait(60)
            family = Metric("rows", "Rows.", "gauge")
            for number in range(CATEGORIES):
                family.add_sample("rows", {"category": str(number)}, number)
            yield family

    go_on.set()
    server.registry.register(Slow())  # which collects once, for the names
    begun.clear()
    go_on.clear()
    scrape = asyncio.create_task(server.get("/metrics"))
    await asyncio.to_thread(begun.wait, 60)
    assert (await server.get("/healthz")).status == 200
    go_on.set()
    assert (await scrape).body.count(b"rows{") == CATEGORIES


async def test_many_scrapes_share_few_collections() -> None:
    """What is asked for while metrics are collected is answered by one collection that begins after it."""
    async with monitored(min_seconds=0.05, max_connections=200) as server:
        replies = await asyncio.gather(*(server.get("/metrics") for _ in range(100)))
        assert {reply.status for reply in replies} == {200}
        assert server.collections < 50


async def test_a_failing_collector_fails_its_scrape_alone(
    server: Monitored, capsys: pytest.CaptureFixture[str]
) -> None:
    """A collector that raises makes the scrape a 500 without its text, and the next one works."""

    class Failing(Collector):
        fails = False

        def collect(self) -> Iterator[Metric]:
            if self.fails:
                raise RuntimeError("a secret")
            yield Metric("fine", "Fine.", "gauge")

    failing = Failing()
    server.registry.register(failing)
    failing.fails = True
    reply = await server.get("/metrics")
    assert (reply.status, b"secret" in reply.body) == (500, False)
    failing.fails = False
    assert (await server.get("/metrics")).status == 200
    assert capsys.readouterr().out.count("http_request_failed") == 1


@pytest.mark.parametrize("readiness", list(Readiness))
async def test_readyz_says_why_not(server: Monitored, readiness: Readiness) -> None:
    """`/readyz` is 200 where health says SERVING, and otherwise 503 with the reason; `/healthz` is 200 always."""
    server.readiness = readiness
    reply = await server.get("/readyz")
    assert reply.status == (200 if readiness is Readiness.SERVING else 503)
    assert reply.body.decode() == f"{readiness.sentence}\n"
    assert (await server.get("/healthz?verbose=1")).status == 200


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /metric HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET /metrics/../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"DELETE /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
        (b"GET http://a:1/healthz?x=/readyz HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64), 505),  # a gRPC client
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(512), 400),  # a TLS client
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 10_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 10_000, 431),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", 200),
    ],
)
async def test_requests_that_are_wrong(server: Monitored, request_bytes: bytes, status: int) -> None:
    """Each wrong request gets a status that says what is wrong, and its connection is closed; others are served."""
    reply = await reply_to(server.port, request_bytes)
    assert (reply.status, reply.headers["connection"]) == (status, "close")
    assert (await server.get("/healthz")).status == 200


async def test_head_is_a_get_without_the_body(server: Monitored) -> None:
    """HEAD has the status, the length and the type of GET, and no body."""
    Gauge("rows", "Rows.", registry=server.registry).set(5)
    reply = await reply_to(server.port, b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
    got = await server.get("/metrics")
    assert (reply.status, reply.body) == (200, b"")
    for name in ("content-length", "content-type"):
        assert reply.headers[name] == got.headers[name]


async def test_a_client_that_sends_no_request_is_cut_off() -> None:
    """A client that sends nothing, or a byte now and then, gets 408 when its time is over, and is disconnected."""
    async with monitored(head_seconds=0.2) as server:
        assert (await reply_to(server.port, b"")).status == 408

        async def drip() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            reading = asyncio.create_task(reader.read())
            while not reading.done():
                writer.write(b"G")
                await asyncio.wait((reading,), timeout=0.01)
            writer.close()
            return reading.result()

        assert (await drip()).startswith(b"HTTP/1.1 408 ")


async def test_a_client_that_does_not_take_its_response_is_cut_off() -> None:
    """A client that reads nothing of a large response is disconnected when its time is over."""

    async def answer(request: Request) -> Response:
        return Response(HTTPStatus.OK, bytes(16 << 20))  # more than the buffers of a connection

    (listening,) = listen_sockets(parse_metrics_listen("0"))
    server = HttpServer(answer, take_seconds=0.2)
    await server.start((listening,))
    with socket.create_connection(listening.getsockname()) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        cut_off = select.poll()
        cut_off.register(client, 0)  # errors and the end only: what may be read stays where it is
        assert await asyncio.to_thread(cut_off.poll, 60_000)
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET
    server.close()


async def test_slow_clients_do_not_keep_others_out() -> None:
    """Where clients that send nothing hold every connection, the oldest of them makes room for one that asks."""
    async with monitored(max_connections=4, head_seconds=3600) as server:
        slow = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(4)]
        assert (await server.get("/healthz")).status == 200
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await slow[0][0].readexactly(1)
        slow[3][1].write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await slow[3][0].read()).startswith(b"HTTP/1.1 200 ")
        for _, writer in slow:
            writer.close()


async def test_standard_clients_are_served(server: Monitored) -> None:
    """Python's own HTTP client gets its responses, one connection each."""

    def ask() -> list[int]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        statuses = []
        for path in ("/healthz", "/readyz", "/metrics", "/"):
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
        return statuses

    assert await asyncio.to_thread(ask) == [200, 503, 200, 404]


def test_a_head_in_pieces() -> None:
    """A request is complete with the empty line after its headers, however its bytes arrive."""
    exchange = Exchange()
    for byte in b"GET /metrics?a=b HTTP/1.1\r\nHost: a\r\nAccept: x\r\nAccept: y\r\n\r":
        assert exchange.receive(bytes([byte])) is None
    assert exchange.receive(b"\n") == Request("/metrics", {"host": "a", "accept": "x, y"})
    sent = exchange.respond(Response(HTTPStatus.OK, "ä\n"))
    assert sent.startswith(b"HTTP/1.1 200 OK\r\n")
    assert sent.endswith("\r\n\r\nä\n".encode())


def test_the_largest_head() -> None:
    """A head is rejected above its limit, not at it."""
    start = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
    for size, served in ((MAX_HEAD_BYTES, Request), (MAX_HEAD_BYTES + 1, Response)):
        head = start + b"x" * (size - len(start) - 4) + b"\r\n\r\n"
        assert isinstance(Exchange().receive(head + b"the body"), served)
        in_pieces = Exchange()
        assert isinstance(in_pieces.receive(head[:-3]) or in_pieces.receive(head[-3:]), served)


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("9464", "127.0.0.1:9464"),
        ("0", "127.0.0.1:0"),
        ("0.0.0.0:9464", "0.0.0.0:9464"),
        ("[::1]:9464", "[::1]:9464"),
        ("localhost:9464", "localhost:9464"),
    ],
)
def test_addresses(listen: str, address: str) -> None:
    """A port alone is one of the loopback interface; otherwise it is HOST:PORT or [IPV6]:PORT."""
    assert str(parse_metrics_listen(listen)) == address


@pytest.mark.parametrize(
    ("listen", "why"),
    [
        ("65536", "65536 is not a port"),
        ("-1", "it has no port"),
        ("somewhere", "it has no port"),
        (":9464", "it has no host; write 9464 for this machine alone, or 0.0.0.0:9464"),
        (":", "it has no host"),
        ("::1:9464", "it has no host"),
        ("unix:/tmp/metrics", "served over TCP only"),
        ("no.such.host.invalid:9464", "no name that this machine can resolve"),
    ],
)
def test_wrong_addresses(listen: str, why: str) -> None:
    """A wrong address gets an error that names the setting and what is wrong with its value."""
    with pytest.raises(LookalikeError, match=f"^metrics_listen: cannot listen on .*{why}"):
        parse_metrics_listen(listen)


def test_a_taken_port() -> None:
    """A port that another program has, and an address of another machine, are errors that say so."""
    (bound,) = listen_sockets(parse_metrics_listen("0"))
    with bound:
        port = bound.getsockname()[1]
        with pytest.raises(LookalikeError, match=f"metrics_listen: cannot listen on 127.0.0.1:{port}: the port is in"):
            listen_sockets(parse_metrics_listen(str(port)))
    with pytest.raises(LookalikeError, match="not an address of this machine"):
        listen_sockets(parse_metrics_listen("192.0.2.1:0"))
