"""The Server page: the model, its batch profiles, and the stats of the latest searches."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import streamlit as st

from lookalike_client import Cropped, LookalikeError, Model, Region
from lookalike_gallery.charts import show_batch_profiles, show_batches, show_latencies, show_stages
from lookalike_gallery.connection import Connection, connection
from lookalike_gallery.errors import show_errors

QUERIES = 20
_REFRESH_S = 2
_MAX_SHOWN = 200


def show() -> None:
    """Show the page."""
    model = connection().client.model()
    st.header("Server", anchor=False)
    _show_model(model)
    st.subheader("Batch profiles", anchor=False)
    st.caption("Measured at startup: a single image on an idle server, then the batches of a busy one.")
    if model.batch_profiles:
        show_batch_profiles(model.batch_profiles)
    st.subheader("Live", anchor=False)
    st.caption(
        "The searches of this gallery. The server returns stats to the caller alone, so the searches of other"
        " clients are not shown."
    )
    if st.button(f"Send {QUERIES} queries", icon=":material/bolt:"):
        with show_errors(), st.spinner(f"Searching {QUERIES} images at once"):
            _send_queries(connection())
    _live()


def _show_model(model: Model) -> None:
    facts = {
        "Model": model.name,
        "Network": model.backbone,
        "Weights": model.weights,
        "Embedding": f"{model.dim:,} dimensions, {model.metric}",
        "Input": f"{model.input_width} x {model.input_height}, {model.resize}",
        "Precision": model.precision,
        "Provider": model.provider,
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
    records = connection().stats.latest()[-_MAX_SHOWN:]
    if not records:
        st.info("No searches yet. Send some queries, or search.")
        return
    last = records[-1].stats
    left, right = st.columns(2)
    with left:
        st.markdown("**Latency**")
        show_latencies(records)
    with right:
        st.markdown("**Batch sizes**")
        show_batches(records)
    st.markdown("**Stages of the last search**")
    show_stages(last)
    inference = (
        f"a batch of {last.batch_size}, padded to {last.padded_size}"
        if last.batch_size
        else ("the embedding was cached" if last.cache_hit else "no image to embed")
    )
    exact = {True: "exact search", False: "approximate index", None: "no search"}[last.exact]
    st.caption(f"{last.total_us / 1000:.1f} ms in the server · {inference} · {exact}")


def _send_queries(server: Connection) -> None:
    # Crops at random, because the embeddings of whole images are cached and the model would not run.
    rng = random.Random()  # noqa: S311 - not a secret
    images = []
    for product in server.products("", 0, QUERIES):
        try:
            images.append(server.client.image(product.id).data)
        except LookalikeError as error:
            if error.code.name != "NOT_FOUND":
                raise
    if not images:
        st.info("The first products of the catalog have no images to search with.")
        return
    crops = []
    for number in range(QUERIES):
        edge = rng.uniform(0.01, 0.1)
        crops.append(Cropped(images[number % len(images)], Region(edge, edge, 1, 1)))
    with ThreadPoolExecutor(QUERIES) as pool:
        list(pool.map(lambda crop: server.search(image=crop, all_categories=True, k=1), crops))
