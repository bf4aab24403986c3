// @ts-check
// Keeps a cache of this process fresh: follows the notices of an unstale sidecar and drops what they name. Needs nothing but Node 18.

const SILENCE = 15_000; // milliseconds without a word, after which the cache isn't trusted

/** Reads through a cache, such as `new LRUCache({ max: 10_000, ttl: 300_000 })`. Redis globs drop all of it.
 * @template {{}} V */
export class FreshCache {
  /** @type {Map<string, object>} the last fetch of each key that is under way; a drop of the key takes it away */
  #fetches = new Map();
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
    this.#fetches.set(key, fetch);
    const isLast = () => this.#fetches.get(key) === fetch;
    try {
      const value = await load();
      if (isLast()) this.cache.set(key, value); // else its key was dropped since, and it may be old: it is answered, but not kept
      return value;
    } finally {
      if (isLast()) this.#fetches.delete(key);
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
    const { ok, body } = await fetch(this.url, { headers: this.#last ? { 'Last-Event-ID': this.#last } : {}, signal: abort.signal });
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
    const { v, drop, resumed = false } = JSON.parse(json);
    /** @type {{ keys: string[], patterns: string[] }[]} */
    const drops = kind === 'drop' && v === 1 ? drop : [];
    for (const key of drops.flatMap(({ keys }) => keys)) [this.cache, this.#fetches].forEach((map) => map.delete(key));
    const patterns = drops.some(({ patterns }) => patterns.length);
    // or a flush, lost history, or something newer than this program
    if (patterns || !(drops.length || resumed || kind === 'beat')) [this.cache, this.#fetches].forEach((map) => map.clear());
    this.#last = id;
    if (!resumed) this.#vouched = performance.now(); // after a resume what was missed comes first
  }
}
