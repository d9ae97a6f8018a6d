"""`python -m tests.attacks.crowd HOST PORT PATH CLIENTS`: clients who ask for a path again and again, until stdin ends.

A process of its own, so that it is the service that is slow and not the bystanders. Prints how many got which status.
"""

import asyncio
import json
import sys
from collections import Counter


async def ask(host: str, port: int, path: str, statuses: Counter[str]) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection(host, port)
    while True:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = next(int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:"))
        await reader.readexactly(length)
        statuses[head.split()[1]] += 1


async def main(host: str, port: int, path: str, clients: int) -> None:
    statuses: Counter[str] = Counter()
    asking = [asyncio.create_task(ask(host, port, path, statuses)) for _ in range(clients)]
    watching = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    done, _ = await asyncio.wait([watching, *asking], return_when=asyncio.FIRST_COMPLETED)
    for task in asking:
        task.cancel()
    sys.stdout.write(json.dumps(statuses))
    if watching not in done:
        done.pop().result()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
