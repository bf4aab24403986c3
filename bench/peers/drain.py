"""A consumer written by hand in Python on redis-py with hiredis.

drain.py PORT batched SCRIPT   reads 500 events, deletes, logs and publishes in one script, acknowledges
drain.py PORT single           the same event by event, as it is written first
"""

import json
import sys
from pathlib import Path

import redis

STREAM, GROUP, CONSUMER = "unstale:events", "unstale", "peer"
LOG = CHANNEL = "unstale:notices"
NUMBERS = "unstale:notices:seq"


def key_of(fields):
    return "vkey:" + json.loads(fields[b"data"])["key_hash"]


def notice_of(keys):
    return json.dumps({"v": 1, "drop": [{"cache": "virtual_key", "keys": keys}]}, separators=(",", ":"))


def batched(client, script):
    run = client.register_script(Path(script).read_text(encoding="utf-8"))

    def handle(entries):
        keys = [key_of(fields) for _, fields in entries]
        run(keys=[LOG, NUMBERS, *keys], args=[notice_of(keys), CHANNEL])
        client.xack(STREAM, GROUP, *[entry for entry, _ in entries])

    return handle


def single(client):
    def handle(entries):
        for entry, fields in entries:
            key = key_of(fields)
            notice = notice_of([key])
            client.unlink(key)
            client.xadd(LOG, {"seq": client.incr(NUMBERS), "notice": notice}, maxlen=100_000, approximate=True)
            client.publish(CHANNEL, notice)
            client.xack(STREAM, GROUP, entry)

    return handle


def main():
    port, mode, *rest = sys.argv[1:]
    client = redis.Redis(port=int(port), protocol=2)
    handle = {"batched": batched, "single": single}[mode](client, *rest)
    while True:
        for _, entries in client.xreadgroup(GROUP, CONSUMER, {STREAM: ">"}, count=500, block=1000):
            handle(entries)


main()
