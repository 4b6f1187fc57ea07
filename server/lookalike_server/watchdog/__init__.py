"""Finds what hangs: event loops that stall, runs of the model that do not end, and processes that are stopped.

`own_time` and `starvation` tell a hang from a process that merely got no processor, `silence` judges an event loop by
its beats, `loop_stalls`, `run_hangs` and `gpu_loss` look at one's own process, `thread` is the thread that does so, and
`beats` is how the processes of one server see each other. docs/adr/0032 and 0051 have the reasons.
"""
