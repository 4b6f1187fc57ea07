"""The products of the sample catalog: their types, titles, prices and looks.

A category lists looks: a type in a color and a pattern. `VARIANTS` products share each look and differ in dye, size,
cut and pattern repeat, so that every product has evident neighbors.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import get_args

from PIL import Image
from tools.sample_catalog.accessories import backpack, cap, handbag
from tools.sample_catalog.bottoms import dress, shorts, skirt, trousers
from tools.sample_catalog.canvas import Canvas
from tools.sample_catalog.footwear import boot, pump, sneaker
from tools.sample_catalog.geometry import Placement, Point
from tools.sample_catalog.patterns import Fabric, Pattern, woven
from tools.sample_catalog.tops import hoodie, long_sleeve_top, shirt, t_shirt

VARIANTS = 4

SEED_WORDS = {"image": "picture", "gray": "grey", "color-block": "colour-block"}  # codespell:ignore
"""Words that seed a drawing as they were first spelled: renaming them would redraw every product."""


@dataclass(frozen=True)
class Kind:
    """A product type: its place in the catalog, its price and its drawing.

    Attributes:
        category: The department.
        sub_category: The section of the department.
        noun: The last word of a title.
        price: The middle of its price range.
        draw: Draws it on a canvas.
    """

    category: str
    sub_category: str
    noun: str
    price: float
    draw: Callable[[Canvas, Fabric, Random], None]


@dataclass(frozen=True)
class Product:
    """One row of the catalog, before it has an image; the fields are the columns' values."""

    product_id: str
    gender: str
    product_type: str
    color: str
    pattern: Pattern
    variant: int

    @property
    def kind(self) -> Kind:
        """The product type."""
        return KINDS[self.product_type]

    @property
    def title(self) -> str:
        """The title, such as "Red striped T-shirt"."""
        return f"{self.color.capitalize()} {ADJECTIVES[self.pattern]} {self.kind.noun}"

    @property
    def image(self) -> str:
        """The path of the image, relative to the CSV file."""
        return f"images/{self.product_id}.jpg"

    def price(self, seed: int) -> str:
        """Return the price, which ends in 90 or 50."""
        rng = self._rng(seed, "price")
        return f"{round(self.kind.price * rng.uniform(0.8, 1.25))}.{rng.choice(('90', '50'))}"

    def draw(self, seed: int) -> Image.Image:
        """Draw the image, 240 x 320 RGB on white."""
        rng = self._rng(seed, "image")
        wide, tall = STRETCH[self.gender] if self.kind.category == "Apparel" else (1.0, 1.0)
        size = rng.uniform(0.93, 1.02)
        placement = Placement(
            stretch=(wide * size, tall * size),
            degrees=rng.uniform(-3.5, 3.5),
            shift=(rng.uniform(-4, 4), 0.0),
        )
        canvas = Canvas(placement)
        self.kind.draw(canvas, woven(self.color, self.pattern, rng), rng)
        return canvas.centered(rng.uniform(-5, 5))

    def _rng(self, seed: int, purpose: str) -> Random:
        # without the id, so that a new look renumbers the products after it but redraws none
        look = (purpose, self.gender, self.product_type, self.color, self.pattern, str(self.variant))
        return Random("/".join((str(seed), *(SEED_WORDS.get(word, word) for word in look))))  # noqa: S311  (no secrets)


KINDS: dict[str, Kind] = {
    "T-shirt": Kind("Apparel", "Topwear", "T-shirt", 16, t_shirt),
    "Long-sleeve top": Kind("Apparel", "Topwear", "long-sleeve top", 22, long_sleeve_top),
    "Shirt": Kind("Apparel", "Topwear", "shirt", 34, shirt),
    "Hoodie": Kind("Apparel", "Topwear", "hoodie", 42, hoodie),
    "Dress": Kind("Apparel", "Dresses", "dress", 48, dress),
    "Skirt": Kind("Apparel", "Bottomwear", "skirt", 29, skirt),
    "Trousers": Kind("Apparel", "Bottomwear", "trousers", 44, trousers),
    "Shorts": Kind("Apparel", "Bottomwear", "shorts", 24, shorts),
    "Sneaker": Kind("Footwear", "Shoes", "sneaker", 64, sneaker),
    "Boot": Kind("Footwear", "Shoes", "boot", 98, boot),
    "Pump": Kind("Footwear", "Shoes", "pump", 72, pump),
    "Handbag": Kind("Accessories", "Bags", "handbag", 58, handbag),
    "Backpack": Kind("Accessories", "Bags", "backpack", 46, backpack),
    "Cap": Kind("Accessories", "Headwear", "cap", 18, cap),
}

ADJECTIVES: dict[Pattern, str] = {
    "plain": "plain",
    "horizontal stripes": "striped",
    "vertical stripes": "vertical-striped",
    "dots": "polka-dot",
    "checks": "checked",
    "color-block": "color-block",
}

STRETCH: dict[str, Point] = {
    "Men": (1.04, 1.03),
    "Women": (0.97, 1.0),
    "Boys": (1.0, 0.88),
    "Girls": (0.96, 0.86),
}
"""The cut of a category's clothes: children's are shorter for their width."""

RANGE: dict[str, dict[str, str]] = {
    "Men": {
        "T-shirt": "red horizontal stripes, navy horizontal stripes, white plain, black plain, green plain",
        "Long-sleeve top": "gray plain, teal horizontal stripes",
        "Shirt": "blue checks, red checks, white plain, navy vertical stripes",
        "Hoodie": "gray plain, orange color-block",
        "Trousers": "beige plain, navy plain, gray checks",
        "Shorts": "teal plain, beige vertical stripes",
        "Sneaker": "white plain, red plain, black color-block",
        "Boot": "brown plain, black plain",
        "Backpack": "navy color-block",
        "Cap": "blue plain",
    },
    "Women": {
        "T-shirt": "red horizontal stripes, white dots, yellow plain",
        "Long-sleeve top": "navy horizontal stripes, purple plain",
        "Shirt": "white vertical stripes, pink plain",
        "Dress": "red dots, navy plain, green plain, yellow vertical stripes, pink checks",
        "Skirt": "black plain, orange dots, teal color-block",
        "Trousers": "black vertical stripes, beige plain",
        "Sneaker": "pink plain",
        "Boot": "brown plain",
        "Pump": "red plain, black plain",
        "Handbag": "brown plain, red plain, beige checks",
    },
    "Boys": {
        "T-shirt": "red horizontal stripes, green horizontal stripes, yellow color-block, blue plain",
        "Long-sleeve top": "orange horizontal stripes, navy plain",
        "Shirt": "green checks, blue plain",
        "Hoodie": "red plain, teal color-block",
        "Trousers": "navy plain, brown checks",
        "Shorts": "gray plain, orange plain, blue checks",
        "Sneaker": "blue plain, green plain, red checks",
        "Boot": "beige plain",
        "Backpack": "orange plain, blue dots",
        "Cap": "red plain, yellow color-block",
    },
    "Girls": {
        "T-shirt": "red horizontal stripes, pink dots, teal plain",
        "Long-sleeve top": "purple horizontal stripes, yellow plain",
        "Hoodie": "pink plain, gray horizontal stripes",
        "Dress": "blue dots, red checks, yellow plain, purple color-block",
        "Skirt": "pink horizontal stripes, navy checks, green dots",
        "Trousers": "purple plain, pink checks",
        "Shorts": "white dots, teal plain",
        "Sneaker": "purple plain, yellow plain, pink dots",
        "Handbag": "teal plain",
        "Backpack": "pink plain, purple dots",
        "Cap": "orange dots",
    },
}


def products() -> Iterator[Product]:
    """Return every product of the sample, ordered by id."""
    known = {pattern: pattern for pattern in get_args(Pattern)}
    number = 0
    for gender, shelves in RANGE.items():
        for product_type, looks in shelves.items():
            for look in looks.split(", "):
                color, _, pattern = look.partition(" ")
                for variant in range(VARIANTS):
                    number += 1
                    yield Product(f"S{number:04}", gender, product_type, color, known[pattern], variant)
