"""Every call is counted once, and where it belongs; histograms, response stats and requests are exact."""

from __future__ import annotations

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from lookalike.v1 import embedding_service_pb2, product_pb2, response_stats_pb2, search_service_pb2
from lookalike_loadtest.cache_busting import NUMBER_BYTES, split_image
from lookalike_loadtest.histogram import HIGHEST_US, Histogram
from lookalike_loadtest.plan import NOT_SENT, UNFINISHED, Kind
from lookalike_loadtest.requests import SearchScope, by_id, by_vector, with_image
from lookalike_loadtest.response_stats import ResponseDetails, read_details
from lookalike_loadtest.stats import Stats
from lookalike_loadtest.transports import channel_options_without_retries
from lookalike_loadtest.worker_messages import Call
from support.loads import answered, update

FULL = 8
SECOND = 1_000_000


@given(st.lists(st.integers(1, HIGHEST_US), min_size=1, max_size=300))
def test_histograms_keep_three_digits(values: list[int]) -> None:
    """Each percentile is the value of the nearest rank, at most a thousandth above it."""
    histogram = Histogram()
    histogram.add(np.array(values, dtype=np.int64))
    ranked = sorted(values)
    for point in histogram.points():
        rank = max(1, int(point.percentile / 100 * len(values) + 0.5))
        exact = ranked[rank - 1] / 1000
        assert exact <= point.ms <= exact * 1.001 + 0.001
    assert histogram.count == len(values)
    assert histogram.mean_ms == pytest.approx(sum(values) / len(values) / 1000)
    assert histogram.max_ms == max(values) / 1000


@pytest.mark.slow
@given(st.lists(st.lists(st.integers(1, HIGHEST_US), max_size=50), min_size=1, max_size=4))
def test_histograms_of_tests_merge(parts: list[list[int]]) -> None:
    """What `encoded` gives can be read and added by the library alone, and is then what one test had counted."""
    whole = Histogram()
    merged = HdrHistogram(1, HIGHEST_US, 3)
    for part in parts:
        alone = Histogram()
        alone.add(np.array(part, dtype=np.int64))
        whole.add(np.array(part, dtype=np.int64))
        merged.decode_and_add(alone.encoded())
    assert merged.get_total_count() == whole.count == sum(map(len, parts))
    again = Histogram(whole.encoded())
    for point, same in zip(whole.points(), again.points(), strict=True):
        assert merged.get_value_at_percentile(point.percentile) / 1000 == same.ms == pytest.approx(point.ms, rel=0.001)
    assert (again.mean_ms is None) == (whole.mean_ms is None)


def test_times_out_of_range_count_at_its_end() -> None:
    """A call that took longer than the histogram knows is not lost."""
    histogram = Histogram()
    histogram.add(np.array([0, HIGHEST_US * 3], dtype=np.int64))
    assert histogram.count == 2
    assert histogram.at(100) == pytest.approx(HIGHEST_US / 1000, rel=0.001)


def test_an_empty_histogram_has_no_figures() -> None:
    """Where nothing was counted there is no percentile, rather than one of 0."""
    histogram = Histogram()
    assert histogram.points() == []
    assert (histogram.mean_ms, histogram.max_ms, histogram.at(99)) == (None, None, None)


def test_the_curve_ends_at_the_slowest_call() -> None:
    """The percentile curve rises from the fastest to the slowest call, with different points."""
    histogram = Histogram()
    histogram.add(np.arange(1000, 101_000, 100))
    shares, ms = histogram.curve()
    assert len(set(ms)) > 20
    assert shares == sorted(shares)
    assert ms == sorted(ms)
    assert shares[-1] == 100
    assert ms[-1] == pytest.approx(100.9, rel=0.001)


def test_calls_are_counted_where_they_belong() -> None:
    """Answers, failures, kinds, codes and lateness each have their own figures, and the warm-up has none."""
    stats = Stats([Kind.EMBED, Kind.SEARCH_ID])
    stats.add(
        1,
        update(
            [
                answered(-1, 900_000),
                answered(0, 10_000, kind=0, lag=1_000),
                answered(1, 20_000, kind=1),
                Call(1, FULL, 2, 5_000, 4_000, 1_000),
                Call(1, NOT_SENT, 3, 500_000, -1, 500_000),
                Call(0, UNFINISHED, 4, 70_000, 70_000, 0),
            ],
            messages={FULL: "first"},
        ),
    )
    stats.add(2, update([answered(5, 30_000, kind=1)], messages={FULL: "second"}))
    assert (stats.warmup_calls, stats.calls, stats.answered, stats.failed, stats.not_sent) == (1, 6, 3, 3, 1)
    assert stats.failed_share == 0.5
    assert stats.code_counts() == {"OK": 3, "RESOURCE_EXHAUSTED": 1, "NOT_SENT": 1, "UNFINISHED": 1}
    assert stats.messages == {FULL: "first"}
    assert (stats.latency.count, stats.service.count, stats.failures.count, stats.lag.count) == (3, 3, 3, 5)
    assert stats.latency.max_ms == 30
    assert stats.service.min_ms == 9
    assert stats.failures.max_ms == 500
    assert [(stats.kinds[kind].latency.count, stats.kinds[kind].failed) for kind in stats.kinds] == [(1, 1), (2, 2)]
    assert [use.share for use in stats.cpu.values()] == [0.25, 0.25]


def test_seconds_hold_what_was_due_and_what_came_in_them() -> None:
    """A slow call is due in one second and answered in another; percentiles go with when it was due."""
    stats = Stats([Kind.EMBED])
    stats.add(1, update([answered(0, 100_000), answered(1, 2 * SECOND), Call(0, FULL, SECOND, SECOND, SECOND, 0)]))
    stats.add(2, update([answered(2, 300_000)]))
    first, second, third = stats.series()
    assert (first.due, first.answered, first.failed) == (3, 2, 0)
    assert (first.p50_ms, first.p99_ms) == (300, 2000)
    assert (second.due, second.answered, second.failed, second.p50_ms) == (1, 0, 0, None)
    assert (third.due, third.answered, third.failed, third.p99_ms) == (0, 1, 1, None)


def test_slow_answers_are_counted_against_the_limit() -> None:
    """In a capacity search the answers over the limit are known while a rate is tried; those at it do not count."""
    stats = Stats([Kind.EMBED], limit_ms=50)
    stats.add(1, update([answered(0, 50_000), answered(1, 50_001), Call(0, FULL, 2, 90_000, 90_000, 0)]))
    assert stats.slow == 1


def test_response_stats_show_where_the_time_went() -> None:
    """Stages of 0 did not take place, cache hits are of images, and answers without products of searches."""
    stats = Stats([Kind.EMBED, Kind.SEARCH_IMAGE, Kind.SEARCH_ID])
    ran = ResponseDetails(
        decode=100, queue=10, inference=5_000, search=0, total=6_000, batch_size=4, cache_hit=0, entries=1
    )
    known = ResponseDetails(decode=0, queue=0, inference=0, search=300, total=400, batch_size=0, cache_hit=1, entries=0)
    by_name = known._replace(cache_hit=0, entries=10)
    stats.add(1, update([], [(0, ran), (1, known), (2, by_name)]))
    assert (stats.details_read, stats.images_read, stats.cache_hits, stats.empty_answers) == (3, 2, 1, 1)
    assert stats.batches == {4: 1}
    assert {name: stage.count for name, stage in stats.stages.items()} == {
        "decode": 1, "queue": 1, "inference": 1, "search": 2, "total": 3,
    }  # fmt: skip


RESPONSE_STATS = response_stats_pb2.ResponseStats(
    decode_us=1, queue_us=2, inference_us=300, search_us=4, total_us=70_000, batch_size=6, cache_hit=True, exact=True
)


def test_response_stats_are_read_past_the_answer() -> None:
    """The stats after an embedding or neighbors are found without parsing those, and the neighbors are counted."""
    details = ResponseDetails(1, 2, 300, 4, 70_000, 6, 1, 1)
    embedding = embedding_service_pb2.EmbedResponse(embedding=[0.5] * 2048, stats=RESPONSE_STATS)
    assert read_details(embedding.SerializeToString()) == details
    product = product_pb2.Product(id="p", title="t" * 300)
    found = search_service_pb2.SearchResponse(
        neighbors=[search_service_pb2.Neighbor(product=product, distance=0.5)] * 12, stats=RESPONSE_STATS
    )
    assert read_details(found.SerializeToString()) == details._replace(entries=12)
    assert read_details(
        search_service_pb2.SearchResponse(stats=RESPONSE_STATS).SerializeToString()
    ) == details._replace(entries=0)


@given(st.binary(max_size=60))
def test_answers_of_another_form_have_no_details(data: bytes) -> None:
    """Whatever the bytes are, reading them gives details or None, and never an error."""
    details = read_details(data)
    assert details is None or len(details) == len(ResponseDetails._fields)


def test_images_differ_where_decoders_do_not_look() -> None:
    """A JPEG carries its number in a comment after its first marker, another file after its end."""
    before, after = split_image(b"\xff\xd8\xff\xe0rest")
    assert (before, after) == (b"\xff\xd8\xff\xfe\x00\x0a", b"\xff\xe0rest")
    assert int.from_bytes(before[-2:], "big") == 2 + NUMBER_BYTES
    assert split_image(b"\x89PNG...") == (b"\x89PNG...", b"")


def test_requests_are_messages_of_the_api() -> None:
    """A rendered request is the API's message; numbered ones differ in the number alone, others not at all."""
    scope = SearchScope(k=7, category="Men")
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    template = with_image(pixels, scope, bust_cache=True)
    one, two = (search_service_pb2.SearchRequest.FromString(template.render(number)) for number in (1, 2))
    assert (one.category, one.k, one.image.rgb.width, one.image.rgb.height) == ("Men", 7, 5, 4)
    assert one.image.rgb.data != two.image.rgb.data
    assert one.image.rgb.data[NUMBER_BYTES:] == two.image.rgb.data[NUMBER_BYTES:] == pixels.tobytes()[NUMBER_BYTES:]
    repeated = with_image(b"file", None, bust_cache=False)
    assert repeated.render(1) == repeated.render(2)
    assert embedding_service_pb2.EmbedRequest.FromString(repeated.render(1)).image.encoded == b"file"
    by_name = search_service_pb2.SearchRequest.FromString(by_id("p1", SearchScope(k=3, all_categories=True)).render(1))
    assert (by_name.product_id, by_name.all_categories, by_name.category) == ("p1", True, "")
    by_values = search_service_pb2.SearchRequest.FromString(by_vector(np.ones(8, np.float32), scope).render(1))
    assert list(by_values.vector.values) == [1] * 8


def test_channels_have_the_clients_limits_and_proxy_rule_but_no_retries() -> None:
    """Message sizes and the rule for proxies are the client's, and gRPC retries nothing."""
    local, remote = (dict(channel_options_without_retries(target)) for target in ("127.0.0.1:1", "shop.example:1"))
    assert local["grpc.enable_retries"] == remote["grpc.enable_retries"] == 0
    assert "grpc.service_config" not in local
    assert local["grpc.max_receive_message_length"] == 64 * 1024 * 1024
    assert local["grpc.enable_http_proxy"] == 0
    assert "grpc.enable_http_proxy" not in remote
