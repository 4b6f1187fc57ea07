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
CREATE TABLE embeddings (
        label INTEGER PRIMARY KEY AUTOINCREMENT,
        product_id TEXT NOT NULL REFERENCES products (id) ON DELETE CASCADE,
        image_index INTEGER NOT NULL,
        vector BLOB NOT NULL, image TEXT REFERENCES "images" (sha256), region TEXT, crc32 INTEGER,
        UNIQUE (product_id, image_index)
    ) STRICT;
CREATE TABLE sqlite_sequence(name,seq);
CREATE TABLE "images" (
        sha256 TEXT PRIMARY KEY,
        media_type TEXT NOT NULL,
        data BLOB NOT NULL
    ) STRICT;
CREATE TABLE "idempotency_keys" (
        key TEXT NOT NULL,
        item TEXT NOT NULL,
        digest TEXT NOT NULL,
        done_at INTEGER NOT NULL,
        PRIMARY KEY (key, item)
    ) STRICT, WITHOUT ROWID;
CREATE TABLE segments (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        category TEXT NOT NULL,
        file TEXT NOT NULL UNIQUE,
        size INTEGER NOT NULL,
        sha256 TEXT NOT NULL
    ) STRICT;
CREATE INDEX segments_by_category ON segments (category, id);
CREATE TABLE "reembedded" (
        image TEXT NOT NULL,
        region TEXT NOT NULL,
        vector BLOB NOT NULL, crc32 INTEGER,
        UNIQUE (image, region)
    ) STRICT;
CREATE INDEX embeddings_by_image ON embeddings (image) WHERE image IS NOT NULL;
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (done_at);
