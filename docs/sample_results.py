"""Draws docs/sample-answer.png: a product of the sample catalog and its nearest, as `make run` answers."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lookalike_client import Client

SAMPLE = Path("data/sample")
ASKED = "S0001"
WIDTH, HEIGHT, MARGIN, CAPTION = 120, 160, 12, 34


def main() -> None:
    """Ask, and paste the images side by side with their similarities."""
    with Client() as client:
        question = client.get(ASKED).product
        neighbors = client.search(product_id=ASKED, k=5).neighbors
    cells = [(question, "asked"), *((found.product, f"{found.similarity:.3f}") for found in neighbors)]
    step = WIDTH + MARGIN
    sheet = Image.new("RGB", (len(cells) * step + 2 * MARGIN, HEIGHT + CAPTION + 2 * MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for column, (product, caption) in enumerate(cells):
        left = MARGIN + column * step + (MARGIN if column else 0)
        with Image.open(SAMPLE / product.image_uri) as image:
            sheet.paste(image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS), (left, MARGIN))
        frame = (left, MARGIN, left + WIDTH, MARGIN + HEIGHT)
        draw.rectangle(frame, outline="#c0392b" if column == 0 else "#dddddd", width=2 if column == 0 else 1)
        draw.text((left + WIDTH / 2, MARGIN + HEIGHT + 10), caption, fill="#333333", font=font, anchor="mt")
    sheet.quantize(128).save("docs/sample-answer.png", optimize=True)


if __name__ == "__main__":
    main()
