"""Draw docs/sample-results.png: a product of the sample catalog and its neighbors, as `make run` returns them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lookalike_client import Client

SAMPLE = Path("data/sample")
QUERY = "S0001"
WIDTH, HEIGHT, MARGIN, CAPTION = 120, 160, 12, 34


def main() -> None:
    """Search, and draw the images side by side with their similarities."""
    with Client() as client:
        query = client.get(QUERY).product
        neighbors = client.search(product_id=QUERY, k=5).neighbors
    cells = [(query, "query"), *((each.product, f"{each.similarity:.3f}") for each in neighbors)]
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
    sheet.quantize(128).save("docs/sample-results.png", optimize=True)


if __name__ == "__main__":
    main()
