// A consumer written by hand for Node on ioredis: reads 500 events, deletes, logs and publishes in one script, acknowledges.
//
//   drain.mjs PORT SCRIPT
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// Where a module finds packages depends on where it runs: they are in the working directory.
const Redis = createRequire(`${process.cwd()}/`)("ioredis");

const STREAM = "unstale:events", GROUP = "unstale", CONSUMER = "peer";
const LOG = "unstale:notices", CHANNEL = "unstale:notices", NUMBERS = "unstale:notices:seq";
const [port, script] = process.argv.slice(2);
const redis = new Redis({ port: Number(port) });
redis.defineCommand("deliver", { lua: readFileSync(script, "utf8") });

function keyOf([, fields]) {
  const data = fields[fields.indexOf("data") + 1];
  return `vkey:${JSON.parse(data).key_hash}`;
}

for (;;) {
  const read = await redis.xreadgroup("GROUP", GROUP, CONSUMER, "COUNT", 500, "BLOCK", 1000, "STREAMS", STREAM, ">");
  for (const [, entries] of read ?? []) {
    const keys = entries.map(keyOf);
    const notice = JSON.stringify({ v: 1, drop: [{ cache: "virtual_key", keys }] });
    await redis.deliver(keys.length + 2, LOG, NUMBERS, ...keys, notice, CHANNEL);
    await redis.xack(STREAM, GROUP, ...entries.map(([id]) => id));
  }
}
