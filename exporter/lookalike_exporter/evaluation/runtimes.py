"""Measure a graph and its variant in both CPU runtimes that a server may have: ONNX Runtime and OpenVINO."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lookalike_exporter.evaluation.eval_set import EvalSet
from lookalike_exporter.evaluation.quality import Quality
from lookalike_exporter.evaluation.recommendation import Recommendation, RuntimeFigures, recommend
from lookalike_exporter.evaluation.speed import count_cores, measure_rates
from lookalike_exporter.graph.openvino_runner import OpenVinoError, OpenVinoRunner, load_openvino
from lookalike_exporter.graph.projection import Embeddings
from lookalike_exporter.graph.runner import BATCH, GraphRunner, Runner
from lookalike_exporter.images import Pixels

ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"

# ONNX Runtime does not say what it computes in. Of fp16 it has no convolutions for x86-64: it casts to fp32.
_ONNXRUNTIME_PRECISIONS = {"fp32": "fp32", "fp16": "fp32", "int8": "int8+fp32"}

_Key = tuple[str, str]
"""Variant and runtime."""


@dataclass(frozen=True, slots=True)
class RuntimeComparison:
    """The figures of each variant in each runtime, on the machine of the export.

    Attributes:
        cores: That the export could use.
        rows: ONNX Runtime's, and OpenVINO's where it is installed and takes the graph.
        missing: Why rows of OpenVINO are missing.
        recommended: What to take on this machine.
    """

    cores: int
    rows: tuple[RuntimeFigures, ...]
    missing: tuple[str, ...]
    recommended: Recommendation


def compare_runtimes(
    graphs: Mapping[str, bytes], eval_set: EvalSet, reference: Embeddings, quality: Quality
) -> RuntimeComparison:
    """Measure the speed of graphs one image at a time and in concurrent batches, and what they keep of the results.

    Args:
        graphs: Serialized: `fp32`, and the variant that was made of it.
        eval_set: What to embed.
        reference: The fp32 graph's embeddings of `eval_set`, by ONNX Runtime.
        quality: What the variant's embeddings by ONNX Runtime keep of them.
    """
    images, cores, missing = eval_set.batch[:BATCH], count_cores(), list[str]()
    runtimes = [ONNXRUNTIME, OPENVINO]
    try:
        load_openvino()
    except OpenVinoError as error:
        runtimes.remove(OPENVINO)
        missing.append(f"OpenVINO was not measured: {error}")
    runners = _load(graphs, [(variant, runtime) for variant in graphs for runtime in runtimes], 1, images, missing)
    qualities = {(variant, ONNXRUNTIME): quality for variant in graphs}
    qualities["fp32", ONNXRUNTIME] = eval_set.compare(reference, reference)
    for key in [key for key in runners if key[1] == OPENVINO]:
        try:
            qualities[key] = eval_set.compare(reference, eval_set.embed(runners[key]))
        except OpenVinoError as error:
            missing.append(_reason(key[0], error))
            del runners[key]
    latencies = {key: 1000 / rate for key, rate in measure_rates(runners, images[:1]).items()}
    versions = {key: runner.version for key, runner in runners.items()}
    precisions = {key: _precision(key[0], runner) for key, runner in runners.items()}
    # Compiled graphs are large: those that use every core for one image go before those that share the cores come.
    runners.clear()
    runners = _load(graphs, list(latencies), cores, images, missing)
    rows = tuple(
        RuntimeFigures(
            variant=key[0],
            runtime=key[1],
            version=versions[key],
            precision=precisions[key],
            latency_ms=latencies[key],
            images_per_second=rate,
            recall_at_10=qualities[key].recall_at_10,
            cosine_p1=qualities[key].cosine_p1,
        )
        for key, rate in measure_rates(runners, images, cores).items()
    )
    return RuntimeComparison(cores, rows, tuple(missing), recommend(rows))


def _load(
    graphs: Mapping[str, bytes], keys: Iterable[_Key], concurrency: int, images: Pixels, missing: list[str]
) -> dict[_Key, GraphRunner]:
    """Load each for this many runs at once, and run it; add to `missing` why OpenVINO does not."""
    runners: dict[_Key, GraphRunner] = {}
    for variant, runtime in keys:
        graph = graphs[variant]
        try:
            if runtime == OPENVINO:
                runners[variant, runtime] = OpenVinoRunner(graph, concurrency)
            else:
                runners[variant, runtime] = Runner(graph, threads=0 if concurrency == 1 else 1)
            runners[variant, runtime].run(images)
        except OpenVinoError as error:
            runners.pop((variant, runtime), None)
            missing.append(_reason(variant, error))
    return runners


def _reason(variant: str, error: OpenVinoError) -> str:
    return f"{variant} in OpenVINO was not measured: {error}"


def _precision(variant: str, runner: GraphRunner) -> str:
    return runner.precision if isinstance(runner, OpenVinoRunner) else _ONNXRUNTIME_PRECISIONS[variant]
