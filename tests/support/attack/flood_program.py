"""`python -m support.attack.flood_program FLOOD HOST:PORT CONNECTIONS [SOURCE]`: flood until standard input ends."""

from __future__ import annotations

import json
import sys
import threading

from support.attack.floods import FLOODS
from support.attack.peer import ConnectionClosedError, Peer


def main() -> None:
    """Flood, then print how many pieces were sent over how many connections, as JSON."""
    name, address, connections, *source = sys.argv[1:]
    flood = FLOODS[name]
    over = threading.Event()
    counts = {"sent": 0, "connections": 0, "rejected": 0}
    lock = threading.Lock()

    def attack() -> None:
        while not over.is_set():
            sent = 0
            try:
                peer = Peer(address, source=source[0] if source else "127.0.0.1")
            except ConnectionClosedError:
                with lock:
                    counts["rejected"] += 1
                over.wait(0.01)
                continue
            try:
                while not over.is_set() and peer.next_stream < 1 << 30:
                    peer.write(flood(peer))
                    sent += 1
                    peer.receive()
            except ConnectionClosedError:
                pass
            finally:
                peer.close()
            with lock:
                counts["connections"] += 1
                counts["sent"] += sent

    threads = [threading.Thread(target=attack, daemon=True) for _ in range(int(connections))]
    for thread in threads:
        thread.start()
    print("flooding", flush=True)
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
