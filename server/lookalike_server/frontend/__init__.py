"""Front-end processes: N that take calls and decode, one that has the model, the batcher, the index and the store.

`supervisor` forks and replaces them; `worker` and `backend` are what they do, `remote` and `host` the two ends of a
worker's connection: `rows` of shared memory for images, messages over a socket (`wire`) for the rest.
docs/adr/0020 has the reasons.
"""
