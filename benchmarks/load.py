"""How many requests per second a server answers: load.py BASE_URL SECONDS, 32 in flight."""

import asyncio
import sys
import time
from urllib.parse import urlsplit

import uvloop

base_url, seconds = sys.argv[1], float(sys.argv[2])
REQUEST = (
    f"GET {urlsplit(base_url).path}/contacts?page=1&size=1 HTTP/1.1\r\nhost: x\r\n\r\n".encode()
)


async def ask(until: float) -> int:
    reader, writer = await asyncio.open_connection(
        urlsplit(base_url).hostname, urlsplit(base_url).port
    )
    answers = 0
    while time.monotonic() < until:
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(x for x in head.split(b"\r\n") if x.startswith(b"content-length"))
        await reader.readexactly(int(length.split(b":")[1]))
        answers += 1
    writer.close()
    return answers


async def main() -> None:
    until = time.monotonic() + seconds
    print(sum(await asyncio.gather(*(ask(until) for _ in range(32)))) / seconds)


uvloop.run(main())
