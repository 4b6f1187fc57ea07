"""Frontend processes take calls and decode images; one engine process has the model, the index and the store.

`supervisor` forks and replaces them; `frontend_process` and `engine_process` are what they run, `ipc_client` and
`ipc_server` the two ends of a frontend's connection to the engine: images go through `shared_images`, everything else
as messages over a socket (`ipc`). docs/adr/0020 has the reasons.
"""
