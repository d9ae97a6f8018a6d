"""A member of a group in a process of its own, and the reins to it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from recsys.settings import StoreSettings, TopicSettings


class MemberProcess:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def order(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line.encode() + b"\n")
        await self.process.stdin.drain()

    async def answer(self) -> list[str]:
        assert self.process.stdout
        return msgspec.json.decode(await asyncio.wait_for(self.process.stdout.readline(), 10), type=list[str])

    async def ask(self, line: str) -> list[str]:
        await self.order(line)
        return await self.answer()

    async def poll(self, count: int) -> list[str]:
        values: list[str] = []
        while len(values) < count:
            values += await self.ask(f"poll {count - len(values)}")
        return values


@asynccontextmanager
async def member_process(topic: TopicSettings, store: StoreSettings) -> AsyncIterator[MemberProcess]:
    program = Path(__file__).with_name("member_process.py")
    settings = [topic.model_dump_json(), store.url.get_secret_value(), store.prefix, "features"]
    pipe = asyncio.subprocess.PIPE
    root = Path(__file__).parents[3]
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), *settings, stdin=pipe, stdout=pipe, cwd=root, env={"PYTHONPATH": str(root)}
    )
    try:
        yield MemberProcess(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        assert process.stdin
        process.stdin.close()
