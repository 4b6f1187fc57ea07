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
        vector BLOB NOT NULL,
        UNIQUE (product_id, image_index)
    ) STRICT;
CREATE TABLE sqlite_sequence(name,seq);
