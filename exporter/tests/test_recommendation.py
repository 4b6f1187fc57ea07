"""Which folder and runtime are recommended, by figures of several machines."""

import pytest

from lookalike_exporter.evaluation.recommendation import MARGIN, RuntimeFigures, recommend


def row(
    variant: str, runtime: str, precision: str, rate: float, recall: float | None = 1.0, cosine: float | None = 1.0
) -> RuntimeFigures:
    """A variant in a runtime; of what the rule reads, nothing is left out."""
    return RuntimeFigures(variant, runtime, "1.0", precision, 1000 / rate, rate, recall, cosine)


ORT, OPENVINO = "onnxruntime", "openvino"
CASES = {
    "AMX: bf16 is nearly as fast as int8, at no loss": (
        [row("fp32", ORT, "fp32", 38), row("fp32", OPENVINO, "bf16", 250, 0.998, 0.9999),
         row("int8", ORT, "int8+fp32", 112, 0.95), row("int8", OPENVINO, "int8+bf16", 276, 0.95)],
        ("fp32", OPENVINO), "250.0 images/s in bf16; int8 gives 1.05 times",
    ),
    "neither bf16 nor VNNI: int8 gains too little": (
        [row("fp32", ORT, "fp32", 36), row("fp32", OPENVINO, "fp32", 38),
         row("int8", ORT, "int8+fp32", 34, 0.95), row("int8", OPENVINO, "int8+fp32", 46, 0.95)],
        ("fp32", OPENVINO), "int8 gives 1.15 times",
    ),
    "VNNI without bf16: int8 is twice as fast": (
        [row("fp32", ORT, "fp32", 40), row("fp32", OPENVINO, "fp32", 42),
         row("int8", ORT, "int8+fp32", 70, 0.97), row("int8", OPENVINO, "int8+fp32", 84, 0.97)],
        ("int8", OPENVINO), "84.0 images/s in int8+fp32: 1.94 times",
    ),
    "int8 is three times as fast and loses too much": (
        [row("fp32", ORT, "fp32", 40), row("int8", ORT, "int8+fp32", 120, 0.6)],
        ("fp32", ORT), "a recall@10 of 0.600, below its gate of 0.88",
    ),
    "int8 loses too much in one runtime only": (
        [row("fp32", ORT, "fp32", 40), row("int8", ORT, "int8+fp32", 90, 0.95),
         row("int8", OPENVINO, "int8+fp32", 120, 0.8)],
        ("int8", ORT), "90.0 images/s",
    ),
    "no OpenVINO": (
        [row("fp32", ORT, "fp32", 19), row("int8", ORT, "int8+fp32", 57, 0.95)],
        ("int8", ORT), "2.85 times",
    ),
    "exactly the margin is enough": (
        [row("fp32", ORT, "fp32", 100), row("int8", ORT, "int8+fp32", 100 * MARGIN)],
        ("int8", ORT), "1.25 times",
    ),
    "OpenVINO's fp32 embeddings may not share a catalog": (
        [row("fp32", ORT, "fp32", 40), row("fp32", OPENVINO, "bf16", 250, 0.9, 0.99),
         row("int8", ORT, "int8+fp32", 45, 0.95)],
        ("fp32", ORT), "40.0 images/s in fp32",
    ),
    "fp16 without real images": (
        [row("fp32", ORT, "fp32", 40, None), row("fp16", ORT, "fp32", 400, None)],
        ("fp32", ORT), "without real images fp16 was not judged",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_recommendation(case: str) -> None:
    """The fp32 folder in its fastest runtime, unless another one wins by more than it loses; and why."""
    rows, expected, reason = CASES[case]
    recommended = recommend(rows)
    assert (recommended.variant, recommended.runtime) == expected
    assert reason in recommended.reason
