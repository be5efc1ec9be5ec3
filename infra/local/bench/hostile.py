"""Endpoints that misbehave: a program of its own, so that it takes no processor time from what is measured.

    python hostile.py PORT CONTROL_PORT ADDRESS...

Serves `/<kind>/<number>` on every ADDRESS:PORT, and `/tick/<index>` on 127.0.0.1:CONTROL_PORT, which says which tick the
flapping ones are at. Knows nothing of the project: the kinds are in `behaviour.py`.
"""

import asyncio
import contextlib
import socket
import sys

from behaviour import Kind, is_down, slow_seconds

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\nhealthy\n"
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
CHUNK = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
DRIP_SECONDS = 0.2


class Endpoints:
    def __init__(self) -> None:
        self.tick = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Whatever a caller does to the connection is its own business.
        with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            if path.startswith("/tick/"):
                self.tick = int(path.removeprefix("/tick/"))
                writer.write(OK)
            else:
                kind, number, *rest = path.strip("/").split("/")
                await self.behave(Kind(kind), int(number), rest, reader, writer)
            await writer.drain()
        writer.close()

    async def behave(self, kind: Kind, number: int, rest: list[str], reader, writer) -> None:
        match kind:
            case Kind.SLOW:
                await asyncio.sleep(slow_seconds(number))
                writer.write(OK)
            case Kind.HANGING | Kind.SHARED:
                # Until the caller gives up.
                await reader.read()
            case Kind.FLAPPING:
                writer.write(UNAVAILABLE if is_down(kind, number, self.tick) else OK)
            case Kind.DRIPPING:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while not reader.at_eof():
                    writer.write(b"x")
                    await writer.drain()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(reader.read(1), DRIP_SECONDS)
            case Kind.ENDLESS:
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                while True:
                    writer.write(CHUNK)
                    await writer.drain()
            case Kind.REDIRECTING:
                target = f"/{kind}/{number}" if rest else f"/{kind}/{number}/again"
                head = f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                writer.write(head.encode())


async def main(port: int, control_port: int, addresses: list[str]) -> None:
    endpoints = Endpoints()
    for address in addresses:
        listener = socket.create_server((address, port), backlog=512)
        await asyncio.start_server(endpoints.serve, sock=listener)
    control = await asyncio.start_server(endpoints.serve, "127.0.0.1", control_port)
    await control.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
