"""The sample catalog: its contents, and that it is written atomically."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat
from tools.sample_catalog import COLUMNS, write_sample
from tools.sample_catalog.__main__ import main
from tools.sample_catalog.catalog import products

COMMAND = """
import signal, sys
from tools.sample_catalog.__main__ import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores it
sys.exit(main([sys.argv[1], "--overwrite"]))
"""


def start_writer(folder: Path) -> subprocess.Popen[str]:
    """Start the command in another process, with another hash seed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "12345"}
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def read_rows(folder: Path) -> list[dict[str, str]]:
    """Return the catalog's rows, by column name."""
    with (folder / "catalog.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_bytes(folder: Path) -> dict[str, bytes]:
    """Return every file under a folder, by its path."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def written_twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Write two samples of the same seed in two processes: one to a new folder, one over an earlier sample."""
    home = tmp_path_factory.mktemp("samples")
    first, second = home / "first", home / "second"
    (second / "images").mkdir(parents=True)
    (second / "images" / "S9999.jpg").write_bytes(b"old")
    (second / "catalog.csv").write_text("old\n")
    with start_writer(second) as other:
        count = write_sample(first)
        assert count == len(list(products()))
        output, _ = other.communicate(timeout=120)
        assert (other.returncode, output) == (0, f"{count} products in {second / 'catalog.csv'}\n")
    return first, second


@pytest.fixture(scope="module")
def sample(written_twice: tuple[Path, Path]) -> Path:
    """Return a folder that holds the sample."""
    return written_twice[0]


def test_same_seed_gives_the_same_bytes(written_twice: tuple[Path, Path]) -> None:
    """Two processes given the same seed write the same CSV and the same images, byte for byte."""
    first, second = map(read_bytes, written_twice)
    assert first == second


def test_another_seed_gives_other_images() -> None:
    """The seed changes the drawing of a product."""
    product = next(iter(products()))
    assert product.draw(7).tobytes() != product.draw(8).tobytes()


@pytest.mark.parametrize(
    ("number", "color", "pattern", "price", "box"),
    [
        (1, "red", "horizontal stripes", "19.50", (33, 66, 210, 255)),
        (21, "gray", "plain", "21.90", (31, 65, 212, 258)),
        (49, "orange", "color-block", "37.90", (30, 47, 215, 271)),
    ],
)
def test_renaming_words_does_not_redraw(
    number: int, color: str, pattern: str, price: str, box: tuple[int, int, int, int]
) -> None:
    """Price and drawing are those of the first sample catalog, although some words of its looks were renamed since."""
    product = list(products())[number - 1]
    assert (product.color, product.pattern, product.price(7)) == (color, pattern, price)
    assert ImageChops.invert(product.draw(7)).getbbox() == box


def test_an_image_does_not_depend_on_the_products_before_it() -> None:
    """A product keeps its image and its price when a new look gives it another id."""
    product = list(products())[100]
    renumbered = replace(product, product_id="S9999")
    assert renumbered.draw(7).tobytes() == product.draw(7).tobytes()
    assert renumbered.price(7) == product.price(7)


def test_the_four_categories_have_a_mix_of_types(sample: Path) -> None:
    """There are 320 to 400 products: at least 80, of at least eight types, in each of the four categories."""
    rows = read_rows(sample)
    assert 320 <= len(rows) <= 400
    counts = Counter(row["gender"] for row in rows)
    assert set(counts) == {"Men", "Women", "Boys", "Girls"}
    assert min(counts.values()) >= 80
    for gender in counts:
        assert len({row["product_type"] for row in rows if row["gender"] == gender}) >= 8


def test_rows_are_complete_and_unique(sample: Path) -> None:
    """The columns have their documented order, no cell is empty, and ids and image paths are unique."""
    with (sample / "catalog.csv").open(encoding="utf-8", newline="") as file:
        assert tuple(next(csv.reader(file))) == COLUMNS
    rows = read_rows(sample)
    assert all(cell and cell == cell.strip() for row in rows for cell in row.values())
    assert len({row["product_id"] for row in rows}) == len({row["image"] for row in rows}) == len(rows)
    assert all(float(row["price"]) > 0 for row in rows)


def test_the_folder_holds_the_images_of_the_csv_and_no_others(sample: Path) -> None:
    """The image of each row is at its path relative to the CSV, and the folder holds no other file."""
    named = {row["image"] for row in read_rows(sample)}
    assert set(read_bytes(sample)) == named | {"catalog.csv"}


def test_every_image_is_a_portrait_on_white(sample: Path) -> None:
    """Every image decodes to 240 x 320 RGB, white in the corner, with something drawn on it."""
    for file in (sample / "images").iterdir():
        with Image.open(file) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (240, 320)), file.name
            assert image.getpixel((0, 0)) == (255, 255, 255), file.name
            assert ImageStat.Stat(image.convert("L")).extrema[0][0] < 200, file.name


def test_images_are_unique(sample: Path) -> None:
    """Variants of a look are similar, but not copies."""
    images = [file.read_bytes() for file in (sample / "images").iterdir()]
    assert len(set(images)) == len(images)


def test_every_look_has_variants(sample: Path) -> None:
    """Each look has three or more variants in its category; red striped T-shirts are in all four."""
    looks = Counter((row["gender"], row["product_type"], row["color"], row["pattern"]) for row in read_rows(sample))
    assert min(looks.values()) >= 3
    for gender in ("Men", "Women", "Boys", "Girls"):
        assert looks[gender, "T-shirt", "red", "horizontal stripes"] >= 3


def test_titles_describe_the_image(sample: Path) -> None:
    """A title names the color, the pattern and the type."""
    titles = {(row["color"], row["pattern"], row["product_type"]): row["title"] for row in read_rows(sample)}
    assert titles["red", "horizontal stripes", "T-shirt"] == "Red striped T-shirt"
    assert titles["navy", "plain", "Trousers"] == "Navy plain trousers"


def test_an_earlier_sample_is_kept_by_default(sample: Path) -> None:
    """A folder that holds a sample is rejected and unchanged."""
    before = read_bytes(sample)
    with pytest.raises(FileExistsError, match="overwrite"):
        write_sample(sample)
    assert read_bytes(sample) == before


def test_an_earlier_sample_is_replaced_with_overwrite(written_twice: tuple[Path, Path]) -> None:
    """With `overwrite`, nothing of an earlier sample remains, in the folder or beside it."""
    first, second = written_twice
    assert not (second / "images" / "S9999.jpg").exists()
    assert {entry.name for entry in second.parent.iterdir()} == {first.name, second.name}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path, overwrite: bool) -> None:
    """A folder that holds other files is rejected, even with `overwrite`."""
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="not a sample"):
        write_sample(tmp_path, overwrite=overwrite)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_command_reports_an_error_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that cannot be written is exit status 1 and one line on stderr."""
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main([str(tmp_path), "--overwrite"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"sample_catalog: {tmp_path} holds files")
    assert output.err.count("\n") == 1


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    """An interrupted write leaves neither half a catalog nor its scratch folder."""
    with start_writer(tmp_path / "sample") as writer:
        deadline = time.monotonic() + 60
        while not list(tmp_path.rglob("S0003.jpg")):
            assert writer.poll() is None
            assert time.monotonic() < deadline
        writer.send_signal(signal.SIGINT)
        assert writer.wait(timeout=60) != 0
    assert list(tmp_path.iterdir()) == []
