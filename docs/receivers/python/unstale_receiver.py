"""Keeps a cache of this process fresh: follows the notices of an unstale sidecar and drops what they name. Needs nothing but Python 3.9."""

from __future__ import annotations

import json
import threading
import time
from http.client import HTTPConnection, HTTPException
from typing import Any, Callable, MutableMapping

SILENCE = 15.0  # seconds without a word, after which the cache isn't trusted


class FreshCache:
    """Reads through a cache, such as cachetools.TTLCache(10_000, ttl=300). Any thread may use it; Redis globs drop all of it."""

    def __init__(self, cache: MutableMapping[str, Any], host: str = "127.0.0.1", port: int = 7863, caches: str = "") -> None:
        self.cache, self.address, self.path = cache, (host, port), "/v1/notices" + (f"?cache={caches}" if caches else "")
        self.lock = threading.Lock()
        self.fetching: dict[str, set[object]] = {}  # fetches under way; a drop of their key takes them away
        self.last, self.vouched = "", float("-inf")
        threading.Thread(target=self._follow, name="unstale", daemon=True).start()

    def get(self, key: str, load: Callable[[], Any]) -> Any:
        fetch = object()
        with self.lock:
            if time.monotonic() - self.vouched < SILENCE and key in self.cache:
                return self.cache[key]
            self.fetching.setdefault(key, set()).add(fetch)
        try:
            value = load()
            with self.lock:  # a value whose key was dropped since may be old: it is answered, but not kept
                if fetch in self.fetching.get(key, ()):
                    self.cache[key] = value
            return value
        finally:
            with self.lock:
                fetches = self.fetching.get(key, set())
                fetches.discard(fetch)
                if not fetches:
                    self.fetching.pop(key, None)

    def _follow(self) -> None:
        while True:
            try:
                self._listen()
            except (OSError, HTTPException, ValueError):
                time.sleep(0.2)

    def _listen(self) -> None:
        connection = HTTPConnection(*self.address, timeout=SILENCE)
        try:
            connection.request("GET", self.path, headers={"Last-Event-ID": self.last} if self.last else {})
            stream = connection.getresponse()
            event: dict[str, str] = {}
            for line in stream if stream.status == 200 else ():
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    event[name] = value
                elif event:
                    self._apply(event.get("event", ""), json.loads(event["data"]), event["id"])
                    event = {}
            raise OSError("the stream ended")
        finally:
            connection.close()

    def _apply(self, kind: str, data: dict[str, Any], position: str) -> None:
        drops, resumed = data.get("drop", []), kind == "hello" and data["resumed"]
        known = kind == "beat" or resumed or (kind == "drop" and data["v"] == 1 and not any(drop.get("patterns") for drop in drops))
        with self.lock:
            if known:
                for key in (key for drop in drops for key in drop["keys"]):
                    self.cache.pop(key, None)
                    self.fetching.pop(key, None)
            else:  # a flush, a pattern, lost history, or something newer than this program
                self.cache.clear()
                self.fetching.clear()
            self.last = position
            if not resumed:  # then what was missed comes first
                self.vouched = time.monotonic()
