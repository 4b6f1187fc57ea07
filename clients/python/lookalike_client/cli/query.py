"""Queries: `embed` and `search`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from lookalike_client.cli.filter_option import WHERE
from lookalike_client.cli.hints import attribute_hints, category_hints
from lookalike_client.cli.session import CommandFailed, Session, pass_session, printable, table
from lookalike_client.errors import LookalikeError
from lookalike_client.filters import Filter
from lookalike_client.inputs import Cropped, ImageSource, Region
from lookalike_client.types import Embedding, Product, ResponseStats, SearchResult

IMAGE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


class _RegionType(click.ParamType[Region]):
    name = "LEFT,TOP,RIGHT,BOTTOM"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Region:
        try:
            left, top, right, bottom = map(float, str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} must be four numbers LEFT,TOP,RIGHT,BOTTOM from 0 to 1", param, ctx)
        return Region(left, top, right, bottom)


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=IMAGE)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE.npy",
    help="Save all embeddings as one NumPy array, float32 of shape [images, dim].",
)
@pass_session
def embed(session: Session, images: tuple[Path, ...], out: Path | None) -> None:
    """Print the embeddings of images."""
    embeddings: list[Embedding] = []
    with session.client() as client:
        for image in images:
            try:
                embeddings.append(client.embed(image))
            except LookalikeError as error:
                raise CommandFailed(f"{image}: {session.explain(error, fields=False)}") from error
    if out is not None:
        _save(out, embeddings)
    if session.as_json:
        session.print_json(
            [
                {"image": str(image), "values": embedding.values, "stats": embedding.stats}
                for image, embedding in zip(images, embeddings, strict=True)
            ]
        )
        return
    rows = table("image", "dim", "norm", "first values", right=("dim", "norm"))
    for image, embedding in zip(images, embeddings, strict=True):
        first = " ".join(f"{value:+.4f}" for value in embedding.values[:6])
        norm = float(np.linalg.norm(embedding.values))
        rows.add_row(printable(str(image)), str(embedding.values.size), f"{norm:.4f}", first)
    session.out.print(rows)


def _save(out: Path, embeddings: list[Embedding]) -> None:
    try:
        # not by name: NumPy would append ".npy"
        with out.open("wb") as file:
            np.save(file, np.stack([embedding.values for embedding in embeddings]))
    except OSError as error:
        raise CommandFailed(f"{out}: {error.strerror}") from error


@click.command()
@click.option("--image", type=IMAGE, metavar="FILE", help="The query: an image.")
@click.option("--id", "product_id", metavar="ID", help="The query: a product of the catalog.")
@click.option("--vector", type=IMAGE, metavar="FILE.npy", help="The query: an embedding, as `embed --out` saves it.")
@click.option("--category", metavar="NAME", default="", help="The category to search; with --id, its own by default.")
@click.option("--all-categories", is_flag=True, help="Search every category.")
@click.option("-k", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many products.")
@click.option(
    "--where",
    type=WHERE,
    multiple=True,
    help="Only products that match; may be repeated: color=red, 'color=red|blue' (one of them), "
    "'color!=red|blue' (none of them, or no color), 'price<=20', 'price>=5', price=5..20. Quote it for the shell.",
)
@click.option("--group-by", metavar="NAME", default="", help="Limit the products per value of this attribute.")
@click.option(
    "--group-limit",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="The most products per value; needs --group-by.  [default: the server's 1]",
)
@click.option(
    "--collapse", is_flag=True, help="List products with the same embedding under the first of them, marked =."
)
@click.option("--max-distance", type=click.FloatRange(min=0), metavar="D", help="Only products within this distance.")
@click.option("--exact", is_flag=True, help="Compare every product instead of searching the index.")
@click.option("--region", type=_RegionType(), help="A region of the image, in fractions of its size.")
@pass_session
def search(
    session: Session,
    image: Path | None,
    product_id: str | None,
    vector: Path | None,
    category: str,
    all_categories: bool,
    k: int,
    where: tuple[Filter, ...],
    group_by: str,
    group_limit: int | None,
    collapse: bool,
    max_distance: float | None,
    exact: bool,
    region: Region | None,
) -> None:
    """Find the products most similar to an image, a product or a vector."""
    problems = {
        "Give exactly one of --image, --id and --vector.": [image, product_id, vector].count(None) != 2,
        "Give --category or --all-categories, not both.": bool(category and all_categories),
        "Give --category NAME or --all-categories: only a product (--id) has a category of its own.": not (
            category or all_categories or product_id is not None
        ),
        "--region needs --image.": region is not None and image is None,
        "--group-limit needs --group-by.": group_limit is not None and not group_by,
    }
    if any(problems.values()):
        raise click.UsageError("\n".join(problem for problem, found in problems.items() if found))
    source: ImageSource | None = Cropped(image, region) if image and region else image
    with session.client() as client, category_hints(session, category):
        result = client.search(
            image=source,
            vector=None if vector is None else _load_vector(vector),
            product_id=product_id,
            category=category,
            all_categories=all_categories,
            k=k,
            filters=where,
            group_by=group_by,
            group_limit=group_limit,
            collapse_duplicates=collapse,
            max_distance=max_distance,
            exact=exact,
        )
    if session.as_json:
        session.print_json(result)
    else:
        print_result(session, result)
        products = [each.product for each in result.neighbors]
        with session.client() as client:
            for hint in attribute_hints(client, products, where, group_by, category):
                session.err.print(printable(f"hint: {hint}"), soft_wrap=True)


def _load_vector(path: Path) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise click.BadParameter(f"{path} is not a NumPy array file.", param_hint="--vector") from error
    if not isinstance(loaded, np.ndarray) or loaded.dtype.kind not in "fiu":
        raise click.BadParameter(f"{path} must be one array of numbers.", param_hint="--vector")
    # `embed --out` saves one embedding as an array of one row
    vector = loaded.reshape(-1) if loaded.ndim == 2 and loaded.shape[0] == 1 else loaded
    if vector.ndim != 1:
        raise click.BadParameter(
            f"{path} has shape {list(vector.shape)}; it must be one vector of shape [dim].", param_hint="--vector"
        )
    return vector


def print_result(session: Session, result: SearchResult) -> None:
    """Print the neighbors as a table, nearest first, and the stats."""
    if result.neighbors:
        numbers = ("rank", "similarity", "distance")
        rows = table("rank", "id", "title", "category", "similarity", "distance", right=numbers)
        for rank, neighbor in enumerate(result.neighbors, start=1):
            cells = (f"{neighbor.similarity:.4f}", f"{neighbor.distance:.4f}")
            rows.add_row(str(rank), *_product_cells(neighbor.product), *cells)
            for duplicate in neighbor.duplicates:
                rows.add_row("=", *_product_cells(duplicate), "", "")
        session.out.print(rows)
    else:
        session.out.print("no products found")
    session.out.print(stats_line(result.stats), style="dim")


def _product_cells(product: Product) -> tuple[str, str, str]:
    return printable(product.id), printable(product.title), printable(product.category)


def stats_line(stats: ResponseStats) -> str:
    """Return the stats in one line."""
    parts = [f"{stats.total_us / 1000:.1f} ms"]
    if stats.cache_hit:
        parts.append("cached embedding")
    elif stats.batch_size:
        parts.append(f"batch of {stats.batch_size}")
    if stats.exact is not None:
        parts.append("exact" if stats.exact else "approximate")
    return ", ".join(parts)
