"""A proxy in front of the local AWS that counts its calls by operation, and hears which ranges are handed on."""

import asyncio
import contextlib
import json
import queue
import threading
from collections import Counter

CHECK_RANGE = "CheckRange"


class Ledger:
    """Counts calls by operation; events also by their type."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        # The detail of each CheckRange event.
        self.ranges: queue.Queue[dict] = queue.Queue()

    def take(self) -> Counter[str]:
        """The calls since the last time."""
        counts, self.counts = self.counts, Counter()
        return counts

    def note(self, target: str, body: bytes) -> None:
        operation = target.rpartition(".")[2]
        if operation == "Query" and b'"IndexName"' in body:
            operation = "Query of the index"
        if operation == "PutEvents":
            for entry in json.loads(body)["Entries"]:
                self.counts[f"event {entry['DetailType']}"] += 1
                if entry["DetailType"] == CHECK_RANGE:
                    self.ranges.put(json.loads(entry["Detail"]))
        self.counts[operation] += 1


class CountedAws(Ledger):
    """Listens on a port of its own and passes requests on unchanged, each connection to one of its own behind it."""

    def __init__(self, behind: int):
        super().__init__()
        self.behind = behind
        self.port = 0
        self.loop = asyncio.new_event_loop()
        listening = threading.Event()
        threading.Thread(target=self.run, args=(listening,), daemon=True).start()
        listening.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, listening: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=1024, limit=2**20))
        self.port = server.sockets[0].getsockname()[1]
        listening.set()
        self.loop.run_forever()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers = None
        # A caller that was killed, or a connection that was idle for too long.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.behind)
            answers = asyncio.ensure_future(self.pass_back(server_reader, writer))
            with contextlib.closing(server_writer):
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    headers = self.headers(head)
                    body = await reader.readexactly(int(headers.get("content-length", 0)))
                    self.note(headers.get("x-amz-target", "?"), body)
                    server_writer.write(head + body)
                    await server_writer.drain()
        if answers:
            answers.cancel()
        writer.close()

    @staticmethod
    async def pass_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    @staticmethod
    def headers(head: bytes) -> dict[str, str]:
        lines = head.decode("latin-1").split("\r\n")[1:]
        return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
