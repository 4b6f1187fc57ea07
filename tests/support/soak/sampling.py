"""What a soak reads of a server: its process in /proc, and its metrics as Prometheus gets them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from support.http_requests import get
from support.soak.judge import Sample


@dataclass(frozen=True)
class Scraped:
    """The values of a scrape by name, all series of a name together; 0 for a name that is not there."""

    totals: dict[str, float]

    def __getitem__(self, name: str) -> float:
        """Return the sum of all series of a name."""
        return self.totals.get(name, 0.0)


async def scrape(port: int) -> Scraped:
    """Ask for the metrics."""
    reply = await get(port, "/metrics")
    assert reply.status == 200, reply
    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(reply.body.decode()):
        for each in family.samples:
            totals[each.name] = totals.get(each.name, 0.0) + each.value
    return Scraped(totals)


def sample(pid: int, seconds: float, metrics: Scraped) -> Sample:
    """Read a process."""
    proc = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    return Sample(
        seconds=seconds,
        rss=int(status["VmRSS"].split()[0]) * 1024,
        anonymous=int(status["RssAnon"].split()[0]) * 1024,
        descriptors=sum(1 for _ in (proc / "fd").iterdir()),
        threads=int(status["Threads"]),
        wal=metrics["lookalike_wal_bytes"],
        database=metrics["lookalike_database_bytes"],
    )
