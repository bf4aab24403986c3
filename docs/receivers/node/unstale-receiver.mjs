// @ts-check
// Keeps a cache of this process fresh: follows the notices of an unstale sidecar and drops what they name. Needs nothing but Node 18.

const SILENCE = 15_000; // milliseconds without a word, after which the cache isn't trusted

/** Reads through a cache, such as `new LRUCache({ max: 10_000, ttl: 300_000 })`. Redis globs drop all of it.
 * @template {{}} V */
export class FreshCache {
  /** @type {Map<string, Set<object>>} fetches under way; a drop of their key takes them away */
  #fetching = new Map();
  #last = '';
  #vouched = -Infinity;

  /** @param {{ get(key: string): V | undefined, set(key: string, value: V): unknown, delete(key: string): unknown, clear(): void }} cache
   * @param {{ address?: string, caches?: string }} [options] */
  constructor(cache, { address = 'http://127.0.0.1:7863', caches = '' } = {}) {
    this.cache = cache;
    this.url = `${address}/v1/notices${caches && `?cache=${caches}`}`;
    this.#follow();
  }

  /** @param {string} key @param {() => Promise<V>} load @returns {Promise<V>} */
  async get(key, load) {
    const held = performance.now() - this.#vouched < SILENCE ? this.cache.get(key) : undefined;
    if (held !== undefined) return held;
    const fetch = {};
    this.#fetching.set(key, (this.#fetching.get(key) ?? new Set()).add(fetch));
    try {
      const value = await load();
      // A value whose key was dropped since may be old: it is answered, but not kept.
      if (this.#fetching.get(key)?.has(fetch)) this.cache.set(key, value);
      return value;
    } finally {
      const fetches = this.#fetching.get(key);
      if (fetches?.delete(fetch) && fetches.size === 0) this.#fetching.delete(key);
    }
  }

  async #follow() {
    for (;;) {
      await this.#listen().catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, 200).unref());
    }
  }

  async #listen() {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), SILENCE).unref();
    /** @type {Record<string, string>} */
    const headers = this.#last ? { 'Last-Event-ID': this.#last } : {};
    const { ok, body } = await fetch(this.url, { headers, signal: abort.signal });
    if (!ok || !body) return;
    let text = '';
    for await (const part of body.pipeThrough(new TextDecoderStream())) {
      timer.refresh();
      const events = (text + part).split('\n\n');
      text = events.pop() ?? '';
      for (const event of events) this.#apply(Object.fromEntries(event.split('\n').map((line) => line.split(/: (.*)/s))));
    }
  }

  /** @param {Record<string, string>} event */
  #apply({ event: kind, id, data: json }) {
    const data = JSON.parse(json);
    const drops = data.drop ?? [];
    const resumed = kind === 'hello' && data.resumed;
    const patterns = drops.some((/** @type {any} */ drop) => drop.patterns?.length);
    if (kind === 'beat' || resumed || (kind === 'drop' && data.v === 1 && !patterns)) {
      for (const key of drops.flatMap((/** @type {any} */ drop) => drop.keys)) {
        this.cache.delete(key);
        this.#fetching.delete(key);
      }
    } else { // a flush, a pattern, lost history, or something newer than this program
      this.cache.clear();
      this.#fetching.clear();
    }
    this.#last = id;
    if (!resumed) this.#vouched = performance.now(); // then what was missed comes first
  }
}
