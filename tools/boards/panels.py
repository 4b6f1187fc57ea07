"""What the boards show: "serving" is for whoever is on call, "catalog" for the index and the disk."""

from __future__ import annotations

from tools.boards.json_model import Board, Panel, Target

_RATE = "[$__rate_interval]"
_UNARY = 'grpc_method=~"Search|Embed|ModelInfer|GetProduct|GetImage"'


def _quantile(quantile: float, histogram: str, by: str = "", labels: str = "") -> str:
    """Return the query of a quantile of a histogram, by these labels beside `le`."""
    selector = f"{{$servers{',' if labels else ''}{labels}}}"
    of = f"sum by (le{', ' if by else ''}{by}) (rate({histogram}_bucket{selector}{_RATE}))"
    return f"histogram_quantile({quantile}, {of})"


def _rate(counter: str, by: str = "instance", labels: str = "") -> str:
    """Return the query of a counter's rate, by these labels."""
    return f"sum by ({by}) (rate({counter}{{$servers{',' if labels else ''}{labels}}}{_RATE}))"


def _ratio(part: str, whole: str) -> str:
    return f"{part} / {whole}"


def _gauge(name: str) -> str:
    return f"{name}{{$servers}}"


_OBJECTIVES = (
    Panel(
        "Servers",
        "How many Prometheus reaches.",
        [Target('sum(up{job="$job"})', "up"), Target('count(up{job="$job"})', "all")],
        kind="stat",
        columns=4,
    ),
    Panel(
        "Alerts",
        "How many fire now; docs/operations.md says what to do.",
        [Target('sum(ALERTS{alertname=~"Lookalike.*",alertstate="firing",job="$job"}) or vector(0)', "firing")],
        kind="stat",
        columns=4,
        thresholds=((0, "green"), (1, "red")),
    ),
    Panel(
        "Faults: burn rate",
        "How many times faster than allowed the budget of 0.1 % of the calls burns. At 1 it lasts 30 days; above 14.4"
        " over both an hour and five minutes somebody is paged. Needs deploy/prometheus/rules.yaml.",
        [
            Target(f'job:lookalike_errors:ratio_rate{window}{{job="$job"}} / 0.001', window)
            for window in ("5m", "1h", "6h", "3d")
        ],
        thresholds=((0, "green"), (14.4, "red")),
    ),
    Panel(
        "Slow calls: burn rate",
        "The same of the budget of 1 % of the calls that may take more than 0.25 s.",
        [
            Target(f'job:lookalike_slow_calls:ratio_rate{window}{{job="$job"}} / 0.01', window)
            for window in ("5m", "1h", "6h", "3d")
        ],
        thresholds=((0, "green"), (14.4, "red")),
    ),
)

_CALLS = (
    Panel(
        "Calls",
        "Calls a second by method.",
        [Target(_rate("grpc_server_started_total", "grpc_method"), "{{grpc_method}}")],
        "reqps",
    ),
    Panel(
        "Latency of single calls",
        "Of the methods of the latency objective, all servers together.",
        [
            Target(_quantile(q, "grpc_server_handling_seconds", labels=_UNARY), f"p{q * 100:g}")
            for q in (0.5, 0.95, 0.99)
        ],
        "s",
        thresholds=((0, "green"), (0.25, "red")),
    ),
    Panel(
        "Codes other than OK",
        "INVALID_ARGUMENT, NOT_FOUND and the like are the callers' affair; RESOURCE_EXHAUSTED is a rejection.",
        [Target(_rate("grpc_server_handled_total", "grpc_code", 'grpc_code!="OK"'), "{{grpc_code}}")],
        "reqps",
    ),
    Panel("Rejected", "By the reason.", [Target(_rate("lookalike_rejected_total", "reason"), "{{reason}}")], "reqps"),
    Panel(
        "Dropped images",
        "Callers that gave up, and deadlines that passed while images waited.",
        [Target(_rate("lookalike_images_dropped_total", "reason"), "{{reason}}")],
        "reqps",
    ),
    Panel(
        "Faults",
        "Of the server, by what failed. The log has each of them.",
        [Target(_rate("lookalike_faults_total", "kind"), "{{kind}}")],
        "reqps",
    ),
)

_SATURATION = (
    Panel(
        "Oldest in a queue",
        "What waits longest. Below half a second for single calls.",
        [Target("max by (queue, class) (lookalike_queue_oldest_seconds{$servers})", "{{queue}} {{class}}")],
        "s",
        thresholds=((0, "green"), (0.5, "red")),
    ),
    Panel(
        "Waiting",
        "How many wait in each queue.",
        [Target("sum by (queue, class) (lookalike_queue_depth{$servers})", "{{queue}} {{class}}")],
    ),
    Panel(
        "Where the time goes",
        "p95 of each stage.",
        [Target(_quantile(0.95, "lookalike_stage_seconds", "stage"), "{{stage}}")],
        "s",
    ),
    Panel(
        "Predicted finish",
        "By how much later than predicted a call finished; admission relies on the prediction.",
        [Target(_quantile(q, "lookalike_finish_prediction_error_seconds"), f"p{q * 100:g}") for q in (0.5, 0.95)],
        "s",
        minimum=None,
    ),
    Panel(
        "Event loop",
        "By how much timers are late (p99). Above 0.1 s everything is late.",
        [Target(_quantile(0.99, "lookalike_event_loop_lag_seconds", "instance"))],
        "s",
        thresholds=((0, "green"), (0.1, "red")),
    ),
    Panel("Processors", "Cores in use.", [Target(_rate("process_cpu_seconds_total"))]),
)

_MODEL = (
    Panel(
        "Images a batch",
        "Larger under load; 1 on an idle server.",
        [Target(_ratio(_rate("lookalike_batch_size_sum"), _rate("lookalike_batch_size_count")))],
    ),
    Panel(
        "Padding",
        "Share of what the model computes that is nobody's image.",
        [
            Target(
                f"{_rate('lookalike_batch_padding_total')} / "
                f"({_rate('lookalike_batch_padding_total')} + {_rate('lookalike_batch_size_sum')})"
            )
        ],
        "percentunit",
        maximum=1,
    ),
    Panel(
        "Embedding cache",
        "Images looked up: in the cache, being embedded for another caller, or new.",
        [Target(_rate("lookalike_embedding_cache_lookups_total", "result"), "{{result}}")],
        "reqps",
    ),
    Panel(
        "GPU memory",
        "Used and present; empty where there is no GPU.",
        [
            Target(_gauge("lookalike_gpu_memory_used_bytes"), "{{instance}} {{gpu}} used"),
            Target(_gauge("lookalike_gpu_memory_total_bytes"), "{{instance}} {{gpu}} present"),
        ],
        "bytes",
    ),
    Panel(
        "GPU use",
        "Share of the time in which it computed; empty where there is no GPU.",
        [Target(_gauge("lookalike_gpu_utilization_ratio"), "{{instance}} {{gpu}}")],
        "percentunit",
        maximum=1,
    ),
    Panel(
        "What runs",
        "Version, model and what computes it, of each server.",
        [Target(_gauge("lookalike_build_info"))],
        kind="table",
    ),
)

_INDEX = (
    Panel(
        "Rows",
        "By category, the largest ten.",
        [Target("topk(10, sum by (category) (lookalike_index_rows{$servers}))", "{{category}}")],
    ),
    Panel(
        "Rows that wait for a graph",
        "Each search compares them one by one.",
        [Target("topk(10, sum by (category) (lookalike_index_waiting_rows{$servers}))", "{{category}}")],
    ),
    Panel(
        "Deleted rows in memory",
        "Compacted at a third of a category.",
        [Target("topk(10, sum by (category) (lookalike_index_dead_rows{$servers}))", "{{category}}")],
    ),
    Panel(
        "Recall",
        "Of searches by graph, measured on a sample; the lowest ten.",
        [Target("bottomk(10, lookalike_recall{$servers})", "{{category}} {{instance}}")],
        "percentunit",
        thresholds=((0, "red"), (0.9, "green")),
        maximum=1,
    ),
    Panel(
        "Searches that compare every row after all",
        "Because a graph found too few.",
        [Target(_rate("lookalike_search_fallbacks_total"))],
        "reqps",
    ),
    Panel("Graphs built", "Built, extended or compacted.", [Target(_rate("lookalike_graph_builds_total"))], "ops"),
)

_STORE = (
    Panel(
        "Commits",
        "Seconds of a transaction with its flush to the disk.",
        [Target(_quantile(q, "lookalike_commit_seconds"), f"p{q * 100:g}") for q in (0.5, 0.99)],
        "s",
    ),
    Panel(
        "Writes a commit",
        "Writes that wait together share a flush.",
        [Target(_ratio(_rate("lookalike_commit_operations_sum"), _rate("lookalike_commit_operations_count")))],
    ),
    Panel("Free disk", "Of the catalog's file system.", [Target(_gauge("lookalike_disk_free_bytes"))], "bytes"),
    Panel(
        "Catalog on disk",
        "The file, and its write-ahead log.",
        [
            Target(_gauge("lookalike_database_bytes"), "{{instance}} file"),
            Target(_gauge("lookalike_wal_bytes"), "{{instance}} log"),
        ],
        "bytes",
    ),
    Panel(
        "Damaged catalogs",
        "Above 0: stop that server, and see docs/operations.md.",
        [Target("sum(lookalike_catalog_damaged{$servers})", "damaged")],
        kind="stat",
        columns=4,
        thresholds=((0, "green"), (1, "red")),
    ),
    Panel(
        "Certificate",
        "How long it is valid; empty without TLS.",
        [Target("min(lookalike_certificate_expiry_timestamp_seconds{$servers}) - time()", "left")],
        "s",
        kind="stat",
        columns=4,
        thresholds=((0, "red"), (1_209_600, "green")),
    ),
)

_MEMORY = (
    Panel(
        "Memory", "Of the process; mapped rows included.", [Target(_gauge("process_resident_memory_bytes"))], "bytes"
    ),
    Panel(
        "Images being decoded", "Bounded by max_decoding_bytes.", [Target(_gauge("lookalike_decoding_bytes"))], "bytes"
    ),
    Panel(
        "Messages in memory",
        "Bounded by max_inflight_message_bytes.",
        [Target(_gauge("lookalike_message_bytes"))],
        "bytes",
    ),
    Panel("Open files", "Connections and files of the index.", [Target(_gauge("process_open_fds"))]),
)

BOARDS = (
    Board(
        "lookalike-serving",
        "Lookalike: serving",
        "Objectives, calls, what waits, and the model.",
        (("Objectives", _OBJECTIVES), ("Calls", _CALLS), ("Saturation", _SATURATION), ("Model", _MODEL)),
    ),
    Board(
        "lookalike-catalog",
        "Lookalike: catalog",
        "The index, the disk and the memory.",
        (("Index", _INDEX), ("Store", _STORE), ("Memory", _MEMORY)),
    ),
)
