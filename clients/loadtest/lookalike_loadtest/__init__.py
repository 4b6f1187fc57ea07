"""Load tests: calls sent by a schedule from processes of their own, what they took, and reports of it.

`supplies` asks the server what to ask it, `stock` writes the requests, `caller` sends them (in a process of its own),
`crew` looks after those processes, `tally` counts, `knee` looks for the highest rate that holds, `runs` puts them
together, and `report`, `page` and `images` say what came out. Needs the extra `load`.
"""
