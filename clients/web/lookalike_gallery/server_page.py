"""The page of the server: which model answers, how it is batched, and what the latest answers cost."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import streamlit as st

from lookalike_client import Cropped, LookalikeError, Model, Region
from lookalike_gallery.charts import show_batches, show_ladder, show_latencies, show_stages
from lookalike_gallery.connection import Connection, connection
from lookalike_gallery.errors import guarded
from lookalike_gallery.escape_markdown import plain

QUESTIONS = 20
_REFRESH_S = 2
_SHOWN = 200


def show() -> None:
    """The page."""
    model = connection().client.model()
    st.header("Server", anchor=False)
    _show_model(model)
    st.subheader("What a batch costs", anchor=False)
    st.caption("Measured when the server started: a single image on an idle server, then what a busy one runs.")
    if model.batch_profiles:
        show_ladder(model.batch_profiles)
    st.subheader("Live", anchor=False)
    st.caption(
        "The answers that this gallery got. The server tells what an answer cost to whoever asked, so the"
        " answers of other callers are not here."
    )
    if st.button(f"Ask {QUESTIONS} questions now", icon=":material/bolt:"):
        with guarded(), st.spinner(f"Asking {QUESTIONS} images at once"):
            _ask_many(connection())
    _live()


def _show_model(model: Model) -> None:
    if (model.backbone, model.weights) != ("resnet50", "imagenet"):
        st.warning(
            f"The model is not ResNet50 with ImageNet weights but {plain(model.backbone)} with weights"
            f" {plain(model.weights)}: its answers are its own.",
            icon=":material/info:",
        )
    facts = {
        "Model": model.name,
        "Network": model.backbone,
        "Weights": model.weights,
        "Embedding": f"{model.dim:,} numbers, {model.metric}",
        "Input": f"{model.input_width} x {model.input_height}, {model.resize}",
        "Precision": model.precision,
        "Runs on": model.provider,
        "Digest": model.digest[:16],
        "Address": connection().target,
    }
    with st.container(horizontal=True, gap="small", key="facts"):
        for name, value in facts.items():
            with st.container(width=155, gap="xxsmall"):
                st.caption(name)
                st.text(value)


@st.fragment(run_every=_REFRESH_S)
def _live() -> None:
    answers = connection().stats.latest()[-_SHOWN:]
    if not answers:
        st.info("No question was asked yet. Ask some, or search.")
        return
    last = answers[-1].stats
    left, right = st.columns(2)
    with left:
        st.markdown("**Latency**")
        show_latencies(answers)
    with right:
        st.markdown("**Batch sizes**")
        show_batches(answers)
    st.markdown("**ResponseStats of the last answer**")
    show_stages(last)
    embedded = (
        f"a batch of {last.batch_size}, padded to {last.padded_size}"
        if last.batch_size
        else ("the embedding was known" if last.cache_hit else "no image to embed")
    )
    exact = {True: "every row compared", False: "by approximate index", None: "nothing searched"}[last.exact]
    st.caption(f"{last.total_us / 1000:.1f} ms in the server · {embedded} · {exact}")


def _ask_many(shop: Connection) -> None:
    # Parts of images, each another one: the server knows whole ones already, and would not run its model.
    rng = random.Random()  # noqa: S311 - nobody guesses at it
    images = []
    for product in shop.products("", 0, QUESTIONS):
        try:
            images.append(shop.client.image(product.id).data)
        except LookalikeError as error:
            if error.code.name != "NOT_FOUND":
                raise
    if not images:
        st.info("The first products of the catalog have no images to ask with.")
        return
    parts = []
    for number in range(QUESTIONS):
        edge = rng.uniform(0.01, 0.1)
        parts.append(Cropped(images[number % len(images)], Region(edge, edge, 1, 1)))
    with ThreadPoolExecutor(QUESTIONS) as callers:
        list(callers.map(lambda part: shop.search(image=part, all_categories=True, k=1), parts))
