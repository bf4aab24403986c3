"""Keeps a cache of this process fresh: follows the notices of an unstale sidecar and drops what they name. Needs nothing but Python 3.9."""

from __future__ import annotations

import json
import threading
import time
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from typing import Any, Callable, MutableMapping

SILENCE = 15.0  # seconds without a word, after which the cache isn't trusted
STRIPES = 1024  # keys share so many counts of drops


class FreshCache:
    """Reads through a cache, such as cachetools.TTLCache(10_000, ttl=300). Any thread may use it; Redis globs drop all of it."""

    def __init__(self, cache: MutableMapping[str, Any], host: str = "127.0.0.1", port: int = 7863, caches: str = "") -> None:
        self.cache, self.address, self.path = cache, (host, port), "/v1/notices" + (f"?cache={caches}" if caches else "")
        self.lock, self.drops, self.last, self.vouched = threading.Lock(), [0] * STRIPES, "", float("-inf")
        threading.Thread(target=self._follow, name="unstale", daemon=True).start()

    def get(self, key: str, load: Callable[[], Any]) -> Any:
        stripe = hash(key) % STRIPES
        with self.lock:
            if time.monotonic() - self.vouched < SILENCE:
                with suppress(KeyError):
                    return self.cache[key]
            drops = self.drops[stripe]
        value = load()
        with self.lock:
            if self.drops[stripe] == drops:  # else its key was dropped since, and it may be old: it is answered, but not kept
                self.cache[key] = value
        return value

    def _follow(self) -> None:
        while True:
            with suppress(OSError, HTTPException, ValueError, LookupError), closing(HTTPConnection(*self.address, timeout=SILENCE)) as http:
                http.request("GET", self.path, headers={"Last-Event-ID": self.last} if self.last else {})
                answer, event = http.getresponse(), {}
                for line in answer if answer.status == 200 else ():
                    name, _, event[name] = line.decode().rstrip("\n").partition(": ")
                    if not name:
                        self._apply(event["event"], event["id"], json.loads(event["data"]))
            time.sleep(0.2)

    def _apply(self, kind: str, position: str, data: dict[str, Any]) -> None:
        resumed = kind == "hello" and data["resumed"]
        drops = data["drop"] if kind == "drop" and data["v"] == 1 else []
        patterns = any(drop["patterns"] for drop in drops)
        with self.lock:
            for key in [key for drop in drops for key in drop["keys"]]:
                self.cache.pop(key, None)
                self.drops[hash(key) % STRIPES] += 1
            if patterns or not (drops or resumed or kind == "beat"):  # or a flush, lost history, or something newer than this program
                self.cache.clear()
                self.drops = [count + 1 for count in self.drops]
            self.last = position
            if not resumed:  # then what was missed comes first
                self.vouched = time.monotonic()
