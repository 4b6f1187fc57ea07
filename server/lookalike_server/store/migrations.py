"""The store's schema as an ordered list of steps; a step that was released is never edited, only followed by another.

`PRAGMA user_version` counts the steps a file has taken.
"""

from __future__ import annotations

MIGRATIONS: tuple[str, ...] = (
    """
    -- One value a key: what the whole file was made with (the model's digest).
    CREATE TABLE meta (
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE products (
        id TEXT PRIMARY KEY,
        category TEXT NOT NULL,
        title TEXT NOT NULL,
        image_uri TEXT NOT NULL,
        attributes TEXT NOT NULL CHECK (json_valid(attributes))
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX products_by_category ON products (category, id);

    -- AUTOINCREMENT: a label is never given twice, also not after a delete, so it names one version of a product.
    CREATE TABLE embeddings (
        label INTEGER PRIMARY KEY AUTOINCREMENT,
        product_id TEXT NOT NULL REFERENCES products (id) ON DELETE CASCADE,
        image_index INTEGER NOT NULL,
        vector BLOB NOT NULL,
        UNIQUE (product_id, image_index)
    ) STRICT;
    """,
)
