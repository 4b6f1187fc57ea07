"""The catalog: `get`, `update`, `delete` and `categories`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from lookalike_client.cli.session import Session, pass_session, printable, table
from lookalike_client.types import Category, Product

_MAX_VALUES = 5


@click.command()
@click.argument("product_id", metavar="ID")
@pass_session
def get(session: Session, product_id: str) -> None:
    """Print a product."""
    with session.client() as client:
        stored = client.get(product_id)
    if session.as_json:
        session.print_json(stored)
    else:
        _print_product(session, stored.product, {"images": str(stored.image_count)})


def _print_product(session: Session, product: Product, extra: Mapping[str, str]) -> None:
    lines = {
        "id": product.id,
        "category": product.category,
        "title": product.title,
        "image": product.image_uri,
        **extra,
        **{f"  {name}": product.attributes[name] for name in sorted(product.attributes)},
    }
    rows = table("", "")
    rows.show_header = False
    for name, value in lines.items():
        rows.add_row(printable(name), printable(value))
    session.out.print(rows)


class _AssignmentType(click.ParamType[tuple[str, str]]):
    name = "KEY=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        key, separator, text = str(value).partition("=")
        if not (key and separator):
            self.fail(f"{value!r} must be KEY=VALUE", param, ctx)
        return key, text


@click.command()
@click.argument("product_id", metavar="ID")
@click.argument("assignments", metavar="[KEY=VALUE]...", nargs=-1, type=_AssignmentType())
@click.option("--clear", metavar="KEY", multiple=True, help="Remove this attribute; may be repeated.")
@pass_session
def update(session: Session, product_id: str, assignments: tuple[tuple[str, str], ...], clear: tuple[str, ...]) -> None:
    """Set or remove attributes of a product, and print it.

    Its other attributes and its images stay.
    """
    attributes = dict(assignments)
    keys = [*(key for key, _ in assignments), *clear]
    if not keys:
        raise click.UsageError("Give KEY=VALUE or --clear KEY.")
    repeated = sorted({key for key in keys if keys.count(key) > 1})
    if repeated:
        raise click.UsageError(f"Given more than once: {', '.join(repeated)}.")
    with session.client() as client:
        product = client.update_attributes(product_id, attributes, clear=clear)
    if session.as_json:
        session.print_json(product)
    else:
        _print_product(session, product, {})


@click.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@pass_session
def delete(session: Session, ids: tuple[str, ...]) -> None:
    """Delete products."""
    with session.client() as client:
        statuses = client.delete(ids)
    if session.as_json:
        session.print_json(statuses)
    else:
        for status in statuses:
            outcome = f"not deleted: {status.error}" if status.error else "deleted"
            session.out.print(f"{printable(status.id)}: {printable(outcome)}", soft_wrap=True)
    if not all(status.ok for status in statuses):
        click.get_current_context().exit(1)


@click.command()
@click.option("--attributes", is_flag=True, help="Also count the values of attributes, which reads every product.")
@pass_session
def categories(session: Session, attributes: bool) -> None:
    """List the categories."""
    with session.client() as client:
        listed = client.categories(include_attributes=attributes)
    if session.as_json:
        session.print_json(listed)
        return
    if not listed:
        session.out.print("the catalog is empty")
        return
    rows = table("category", "products", "index", "recall", right=("products", "recall"))
    for category in listed:
        recall = "" if category.recall is None else f"{category.recall:.3f}"
        rows.add_row(printable(category.name), f"{category.count:,}", category.index_kind, recall)
    session.out.print(rows)
    if attributes:
        _print_attributes(session, listed)


def _print_attributes(session: Session, listed: list[Category]) -> None:
    rows = table("category", "attribute", "values", "most frequent", right=("values",))
    for category in listed:
        for attribute in category.attributes:
            top = ", ".join(f"{each.value} ({each.count:,})" for each in attribute.top_values[:_MAX_VALUES])
            rows.add_row(
                printable(category.name),
                printable(attribute.name),
                f"{attribute.distinct_values:,}",
                printable(top),
            )
    session.out.print()
    session.out.print(rows)
