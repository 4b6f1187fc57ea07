"""The schema as an ordered list of migrations; one that was released is never edited, only followed by another.

`PRAGMA user_version` counts the migrations of a file. SQLite stores the text of every CREATE statement, comments and
all, so that text must not change either.
"""

from __future__ import annotations

MIGRATIONS: tuple[str, ...] = (
    """
    -- What holds for the whole file, such as the digest of the model that made the embeddings.
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

    -- AUTOINCREMENT: a label is never reused, not even after a delete, so it identifies one version of a product.
    CREATE TABLE embeddings (
        label INTEGER PRIMARY KEY AUTOINCREMENT,
        product_id TEXT NOT NULL REFERENCES products (id) ON DELETE CASCADE,
        image_index INTEGER NOT NULL,
        vector BLOB NOT NULL,
        UNIQUE (product_id, image_index)
    ) STRICT;
    """,
    """
    -- Images as they were sent, each once; `region` is the part that was embedded, as [left, top, right, bottom].
    CREATE TABLE pictures (
        sha256 TEXT PRIMARY KEY,
        media_type TEXT NOT NULL,
        data BLOB NOT NULL
    ) STRICT;
    ALTER TABLE embeddings ADD COLUMN picture TEXT REFERENCES pictures (sha256);
    ALTER TABLE embeddings ADD COLUMN region TEXT;
    CREATE INDEX embeddings_by_picture ON embeddings (picture) WHERE picture IS NOT NULL;

    -- Writes that were applied with an idempotency key, so that a repeat does nothing.
    CREATE TABLE requests (
        request_id TEXT NOT NULL,
        item TEXT NOT NULL,
        digest TEXT NOT NULL,
        done_at INTEGER NOT NULL,
        PRIMARY KEY (request_id, item)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX requests_by_age ON requests (done_at);
    """,
    """
    -- The trusted files of the index: graphs over rows of a category, oldest first. All other graphs are rebuilt.
    CREATE TABLE segments (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        category TEXT NOT NULL,
        file TEXT NOT NULL UNIQUE,
        size INTEGER NOT NULL,
        sha256 TEXT NOT NULL
    ) STRICT;
    CREATE INDEX segments_by_category ON segments (category, id);

    -- While the catalog is being reembedded: the new model's vectors so far.
    CREATE TABLE rebuilt (
        picture TEXT NOT NULL,
        region TEXT NOT NULL,
        vector BLOB NOT NULL,
        UNIQUE (picture, region)
    ) STRICT;
    """,
    """
    -- Standard terms for tables and columns; SQLite adapts the indexes, and an index gets a new name by being created.
    ALTER TABLE pictures RENAME TO images;
    ALTER TABLE embeddings RENAME COLUMN picture TO image;
    DROP INDEX embeddings_by_picture;
    CREATE INDEX embeddings_by_image ON embeddings (image) WHERE image IS NOT NULL;

    ALTER TABLE requests RENAME TO idempotency_keys;
    ALTER TABLE idempotency_keys RENAME COLUMN request_id TO key;
    DROP INDEX requests_by_age;
    CREATE INDEX idempotency_keys_by_age ON idempotency_keys (done_at);

    ALTER TABLE rebuilt RENAME TO reembedded;
    ALTER TABLE reembedded RENAME COLUMN picture TO image;
    UPDATE meta SET key = 'reembedding_digest' WHERE key = 'rebuilding_digest';
    """,
    """
    -- Of a vector; NULL where it was stored without one, until the catalog's check has computed it.
    ALTER TABLE embeddings ADD COLUMN crc32 INTEGER;
    ALTER TABLE reembedded ADD COLUMN crc32 INTEGER;
    """,
)
