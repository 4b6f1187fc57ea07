"""Load tests of a Lookalike server, from worker processes of their own.

`workload` prepares the requests from the server's catalog, out of the templates of `requests`; `cache_busting` makes
every image another one. `worker_pool` starts the processes and reaches them with `worker_messages`; each of them is a
`load_worker`, which runs phases (`plan`) with `phase_run`, by the schedule of `arrivals`, over one of the `transports`.
`stats` counts what they report in histograms (`histogram`), with the stats of some answers (`response_stats`). `runs`
puts these together to one measurement, or to a search for the capacity (`capacity_search`). `report`, `summary`,
`html_report` and `charts` present the outcome; `cli` is the `lookalike load` command.

The benchmarks use the worker pool by itself, with requests, transports and judges of their own.
"""
