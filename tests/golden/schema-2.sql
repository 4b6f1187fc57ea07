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
        vector BLOB NOT NULL, picture TEXT REFERENCES pictures (sha256), region TEXT,
        UNIQUE (product_id, image_index)
    ) STRICT;
CREATE TABLE sqlite_sequence(name,seq);
CREATE TABLE pictures (
        sha256 TEXT PRIMARY KEY,
        media_type TEXT NOT NULL,
        data BLOB NOT NULL
    ) STRICT;
CREATE INDEX embeddings_by_picture ON embeddings (picture) WHERE picture IS NOT NULL;
CREATE TABLE requests (
        request_id TEXT NOT NULL,
        item TEXT NOT NULL,
        digest TEXT NOT NULL,
        done_at INTEGER NOT NULL,
        PRIMARY KEY (request_id, item)
    ) STRICT, WITHOUT ROWID;
CREATE INDEX requests_by_age ON requests (done_at);
