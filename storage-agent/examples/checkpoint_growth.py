"""The payloads of checkpoint_growth.rs through LangGraph's own savers.

`checkpoint_growth -- --python` starts it, in an environment with the versions of checkpoint_growth.txt:
`python checkpoint_growth.py FILE [POSTGRES_URL]`. Prints a line of JSON for each measurement.
"""

import json
import sqlite3
import sys
import time

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver

MESSAGE_BYTES = 1100
SQLITE_BYTES = """
SELECT (SELECT sum(length(thread_id) + length(checkpoint_id) + coalesce(length(parent_checkpoint_id), 0)
    + length(type) + length(checkpoint) + length(metadata)) FROM checkpoints WHERE thread_id = :thread)
    + coalesce((SELECT sum(length(thread_id) + length(checkpoint_id) + length(task_id) + length(channel)
    + length(type) + length(value)) FROM writes WHERE thread_id = :thread), 0)
"""
POSTGRES_BYTES = """
SELECT (SELECT sum(octet_length(thread_id) + octet_length(checkpoint_id)
    + coalesce(octet_length(parent_checkpoint_id), 0) + octet_length(checkpoint::text) + octet_length(metadata::text))
    FROM checkpoints WHERE thread_id = %(thread)s)
    + coalesce((SELECT sum(octet_length(thread_id) + octet_length(channel) + octet_length(version)
    + octet_length(type) + coalesce(octet_length(blob), 0)) FROM checkpoint_blobs WHERE thread_id = %(thread)s), 0)
    + coalesce((SELECT sum(octet_length(thread_id) + octet_length(checkpoint_id) + octet_length(task_id)
    + octet_length(channel) + octet_length(blob)) FROM checkpoint_writes WHERE thread_id = %(thread)s), 0)
"""


def message(number):
    """The same message as the Rust side makes."""
    state, text = number + 1, []
    for _ in range(MESSAGE_BYTES - 45):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        text.append(chr(ord("a") + (state >> 33) % 26))
    return {"id": number, "role": "user", "content": "".join(text)}


def identifier(number):
    return f"1f0d5c3a-{number:08}-6a3e-8001-0123456789ab"


def step(saver, thread, number, messages, write):
    version = f"{number:032}.0.{number * 7919:016}"
    versions = {channel: version for channel in ("__start__", "messages", "branch:to:agent")}
    checkpoint = {
        "v": 4,
        "ts": f"2026-01-01T00:00:{number:09}",
        "id": identifier(number),
        "channel_values": {"messages": messages},
        "channel_versions": versions,
        "versions_seen": {"agent": versions},
        "updated_channels": None,
    }
    config = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
    if number:
        config["configurable"]["checkpoint_id"] = identifier(number - 1)
        if write is not None:
            saver.put_writes(config, [("messages", write)], f"6a3e8001-{number:08}")
    metadata = {"source": "loop", "step": number, "parents": {}}
    saver.put(config, checkpoint, metadata, {"messages": version})


def growth(saver, store, steps, stored):
    thread, messages, times = f"{store}-{steps}", [], []
    for number in range(steps):
        added = message(number)
        messages.append(added)
        started = time.perf_counter()
        step(saver, thread, number, messages, added)
        times.append(time.perf_counter() - started)
    tenth = steps // 10
    micros = lambda times: round(1e6 * sum(times) / len(times))
    print(
        json.dumps(
            {
                "name": store,
                "steps": steps,
                "content_bytes": sum(len(json.dumps(message, separators=(",", ":"))) for message in messages),
                "stored_bytes": int(stored(thread)),
                "first_tenth_us": micros(times[:tenth]),
                "last_tenth_us": micros(times[-tenth:]),
            }
        ),
        flush=True,
    )


def reads(saver, store, checkpoints=10_000, rounds=200):
    thread = f"{store}-long"
    for number in range(checkpoints):
        step(saver, thread, number, [message(number)], None)
    config = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
    timed = {}
    for name, read in {
        "latest_us": lambda: saver.get_tuple(config),
        "list_10_us": lambda: list(saver.list(config, limit=10)),
    }.items():
        started = time.perf_counter()
        for _ in range(rounds):
            read()
        timed[name] = round(1e6 * (time.perf_counter() - started) / rounds)
    print(json.dumps({"name": store, "checkpoints": checkpoints, **timed}), flush=True)


def measure(saver, store, stored):
    saver.setup()
    for steps in (200, 1000):
        growth(saver, store, steps, stored)
    reads(saver, store)


def main(file, url=None):
    connection = sqlite3.connect(file, check_same_thread=False)
    bytes_of = lambda thread: connection.execute(SQLITE_BYTES, {"thread": thread}).fetchone()[0]
    measure(SqliteSaver(connection), "langgraph-checkpoint-sqlite", bytes_of)
    if url:
        with PostgresSaver.from_conn_string(url) as saver:
            bytes_of = lambda thread: list(saver.conn.execute(POSTGRES_BYTES, {"thread": thread}).fetchone().values())[0]
            measure(saver, "langgraph-checkpoint-postgres", bytes_of)


if __name__ == "__main__":
    main(*sys.argv[1:])
