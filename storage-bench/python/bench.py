"""The contenders `py-key-value` and `python-driver`: a worker program of storage-bench.

Reads one job (a line of JSON) from the standard input and writes what it measured to the standard output. The entries,
the loads and the figures are those of storage-bench-harness.
"""

import asyncio
import json
import os
import random
import sys
import time
import traceback

KEY_BASE = 10_000_000
NAMESPACE = "ad_buyer:"
POOL = 16
VALUES = 512
FILLER = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789"

SQLITE_GET = "SELECT value, expires_at FROM kv_store WHERE key = ?"
SQLITE_SET = """INSERT INTO kv_store (key, value, expires_at) VALUES (?, ?, NULL)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at"""
POSTGRES_GET = """SELECT value::text FROM kv_store WHERE key = $1
    AND (expires_at IS NULL OR expires_at > extract(epoch FROM statement_timestamp())::float8)"""
POSTGRES_SET = """INSERT INTO kv_store (key, value, expires_at) VALUES ($1, $2::text::jsonb, NULL)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at"""


def deal(position: int, value_bytes: int) -> dict:
    chosen = random.Random(position)
    value = {
        "deal_id": f"d-{KEY_BASE + position}",
        "status": chosen.choice(["active", "booked", "proposed", "closed"]),
        "deal_type": chosen.choice(["PMP", "PG", "PD"]),
        "seller": f"media-{chosen.randrange(1000):03}",
        "product_id": f"ctv-{chosen.randrange(10_000):04}",
        "cpm": chosen.randrange(100, 4000) / 100,
        "impressions": chosen.randrange(100_000, 10_000_000),
        "start": "2026-01-01",
        "notes": "",
    }
    missing = value_bytes - len(json.dumps(value, separators=(",", ":")))
    value["notes"] = "".join(chosen.choices(FILLER, k=max(missing, 0)))
    return value


class SqliteDriver:
    """aiosqlite on the table of the others, a commit for each operation."""

    @classmethod
    async def open(cls, target: str):
        import aiosqlite

        self = cls()
        # Without an isolation level each statement is committed by itself.
        self.db = await aiosqlite.connect(target, isolation_level=None)
        for pragma in ["journal_mode = WAL", "synchronous = FULL", "busy_timeout = 5000"]:
            await self.db.execute(f"PRAGMA {pragma}")
        return self

    async def get(self, key: str):
        async with self.db.execute(SQLITE_GET, (key,)) as cursor:
            return await cursor.fetchone()

    async def set(self, key: str, value: str):
        async with self.db.execute(SQLITE_SET, (key, value)):
            pass


class PostgresDriver:
    """asyncpg's pool, which prepares statements, on the table of the others."""

    @classmethod
    async def open(cls, target: str):
        import asyncpg

        self = cls()
        self.pool = await asyncpg.create_pool(target, min_size=POOL, max_size=POOL)
        return self

    async def get(self, key: str):
        return await self.pool.fetchval(POSTGRES_GET, key)

    async def set(self, key: str, value: str):
        await self.pool.execute(POSTGRES_SET, key, value)


class RedisDriver:
    """redis.asyncio's pool, on the keys of the others."""

    @classmethod
    async def open(cls, target: str):
        from redis.asyncio import BlockingConnectionPool, Redis

        self = cls()
        self.redis = Redis(connection_pool=BlockingConnectionPool.from_url(target, max_connections=POOL, timeout=None))
        return self

    async def get(self, key: str):
        return await self.redis.get(NAMESPACE + key)

    async def set(self, key: str, value: str):
        await self.redis.set(NAMESPACE + key, value)


class PyKeyValue:
    """A store of py-key-value, in a table, file or keys of its own."""

    def __init__(self, store, transaction=None):
        self.store, self.transaction = store, transaction

    @classmethod
    async def open(cls, store: str, target: str):
        if store == "sqlite":
            from diskcache import Cache
            from key_value.aio.stores.disk import DiskStore

            # Its store on SQLite; as durable as the others, and evicting nothing.
            cache = Cache(f"{target}-py", sqlite_synchronous=2, eviction_policy="none", size_limit=2**40)
            # An empty cache is falsy, and DiskStore takes it for none.
            cache["not empty"] = True
            return cls(DiskStore(disk_cache=cache), cache.transact)
        if store == "postgres":
            import asyncpg
            from key_value.aio.stores.postgresql import PostgreSQLStore

            pool = await asyncpg.create_pool(target, min_size=POOL, max_size=POOL)
            return cls(PostgreSQLStore(pool=pool, table_name="py_key_value"))
        from key_value.aio.stores.redis import RedisStore

        return cls(RedisStore(url=target))

    async def seed(self, key_of, keys: int, values: list):
        group = 1_000
        for start in range(0, keys, group):
            positions = range(start, min(start + group, keys))
            if self.transaction:
                with self.transaction():
                    for at in positions:
                        await self.store.put(key_of(at), values[at % len(values)])
            else:
                await self.store.put_many([key_of(at) for at in positions], [values[at % len(values)] for at in positions])

    async def get(self, key: str):
        return await self.store.get(key)

    async def set(self, key: str, value: dict):
        await self.store.put(key, value)


async def opened(job: dict):
    if job["contender"] == "py-key-value":
        return await PyKeyValue.open(job["store"], job["target"])
    drivers = {"sqlite": SqliteDriver, "postgres": PostgresDriver, "redis": RedisDriver}
    return await drivers[job["store"]].open(job["target"])


def memory_mib(name: str) -> float:
    with open("/proc/self/status") as status:
        found = [int(line.split()[1]) for line in status if line.startswith(name)]
    return found[0] / 1024 if found else 0.0


class Load:
    def __init__(self, contender, job: dict):
        self.contender, self.task, data = contender, job["task"], job["data"]
        self.prefix, self.keys = data["prefix"], data["keys"]
        values = [deal(position, data["value_bytes"]) for position in range(VALUES)]
        plain = job["contender"] == "python-driver"
        self.values = [json.dumps(value, separators=(",", ":")) if plain else value for value in values]
        self.latencies, self.operations, self.errors, self.first_error = [], 0, 0, None
        self.idle_mib = memory_mib("VmRSS:")
        self.start = time.perf_counter() + job["seconds"] / 4
        self.end = self.start + job["seconds"]

    def key(self, position: int) -> str:
        return f"{self.prefix}:{KEY_BASE + position}"

    async def operation(self, since: float):
        key = self.key(random.randrange(self.keys))
        try:
            if self.task == "get":
                if not await self.contender.get(key):
                    raise LookupError(f"{key} is empty")
            else:
                await self.contender.set(key, random.choice(self.values))
        except Exception as error:
            self.errors += 1
            self.first_error = self.first_error or repr(error)
            await asyncio.sleep(0.001)
            return
        now = time.perf_counter()
        # One that ended after the window adds its latency alone: what was slow enough to miss the end must not be missing.
        if now >= self.start:
            self.latencies.append(now - since)
            self.operations += now <= self.end

    async def caller(self):
        # Latency counts from when the caller was ready: where a store blocks the loop, all but one caller wait for their turn.
        ready = time.perf_counter()
        while ready < self.end:
            await self.operation(ready)
            ready = time.perf_counter()
            # A store that never waits would let nobody else run, nor the clock.
            await asyncio.sleep(0)

    async def closed(self, callers: int):
        return [asyncio.create_task(self.caller()) for _ in range(callers)]

    async def fixed_rate(self, callers: int, rate: float):
        """Latency counts from when an operation was due, whether or not earlier ones have ended."""
        turns = asyncio.Semaphore(callers)

        async def turn(due: float):
            async with turns:
                await self.operation(due)

        async def start_all():
            began, started, tasks = time.perf_counter(), 0, set()
            while (now := time.perf_counter()) < self.end:
                while (due := began + started / rate) <= now:
                    task = asyncio.create_task(turn(due))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                    started += 1
                await asyncio.sleep(0.0002)
            if tasks:
                await asyncio.wait(tasks, timeout=10)

        return [asyncio.create_task(start_all())]

    def measured(self, processor_time: float) -> dict:
        ordered = sorted(self.latencies)
        count = len(ordered)

        def quantile(share: float) -> float:
            return ordered[min(int(count * share), count - 1)] * 1e6 if ordered else 0.0

        return {
            "ops_per_s": self.operations / max(self.end - self.start, 1e-9),
            "p50_us": quantile(0.5),
            "p99_us": quantile(0.99),
            "p999_us": quantile(0.999),
            "cpu_us_per_op": processor_time * 1e6 / max(self.operations, 1),
            "peak_mib": memory_mib("VmHWM:"),
            "idle_mib": self.idle_mib,
            "errors": self.errors,
            "first_error": self.first_error,
        }


async def work(job: dict) -> dict:
    contender = await opened(job)
    load = Load(contender, job)
    if job["task"] == "seed":
        if isinstance(contender, PyKeyValue):
            await contender.seed(load.key, load.keys, load.values)
        return load.measured(0.0)
    if job["task"] not in ("get", "set"):
        raise NotImplementedError(job["task"])
    if job["rate"]:
        running = await load.fixed_rate(job["callers"], job["rate"])
    else:
        running = await load.closed(job["callers"])
    await asyncio.sleep(max(load.start - time.perf_counter(), 0))
    before = time.process_time()
    await asyncio.sleep(max(load.end - time.perf_counter(), 0))
    used = time.process_time() - before
    await asyncio.wait(running, timeout=11)
    return load.measured(used)


async def main():
    job = json.loads(sys.stdin.readline())
    status = 0
    try:
        print(json.dumps(await work(job)), flush=True)
    except Exception:
        traceback.print_exc()
        status = 1
    # Not waiting for threads and connections that a contender left open.
    sys.stderr.flush()
    os._exit(status)


asyncio.run(main())
