// Two PouchDB databases in memory, driven by benches/bench_pouchdb.py: one JSON command a line on standard
// input, one JSON answer a line on standard output. Every answer says how many milliseconds the work took.

import { createHash } from "node:crypto";
import { createInterface } from "node:readline";

import memory from "pouchdb-adapter-memory";
import PouchDB from "pouchdb-core";
import replication from "pouchdb-replication";

PouchDB.plugin(memory).plugin(replication);

const BULK = 10_000;
let databases = {};
let made = 0;

const commands = {
  // Forget the old pair and make a new, empty one.
  async open() {
    await Promise.all(Object.values(databases).map((database) => database.destroy()));
    made += 1;
    databases = Object.fromEntries(
      ["a", "b"].map((side) => [side, new PouchDB(`${side}${made}`, { adapter: "memory" })]),
    );
    await Promise.all(Object.values(databases).map((database) => database.info()));
  },

  // Write [key, value] pairs to one side, over whatever is there.
  async write({ side, pairs }) {
    const database = databases[side];
    for (let at = 0; at < pairs.length; at += BULK) {
      const part = pairs.slice(at, at + BULK);
      const known = await database.allDocs({ keys: part.map(([key]) => key) });
      const documents = part.map(([key, value], i) => ({ _id: key, _rev: known.rows[i].value?.rev, value }));
      const results = await database.bulkDocs(documents);
      const failed = results.filter((result) => result.error);
      if (failed.length > 0) throw new Error(JSON.stringify(failed[0]));
    }
  },

  // Copy a to b, one way.
  async copy({ batch }) {
    const result = await databases.a.replicate.to(databases.b, { batch_size: batch });
    return { written: result.docs_written };
  },

  // Make both sides equal.
  async sync({ batch }) {
    const { push, pull } = await databases.a.sync(databases.b, { batch_size: batch });
    return { pushed: push.docs_written, pulled: pull.docs_written };
  },

  // Digest what one side holds, as bench_pouchdb.py does.
  async digest({ side }) {
    const hash = createHash("sha256");
    const { rows } = await databases[side].allDocs({ include_docs: true });
    const lines = rows.map(({ id, doc }) => `${id}\0${doc.value}\n`);
    for (const line of lines.sort()) hash.update(line);
    return { digest: hash.digest("hex") };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...options } = JSON.parse(line);
  const start = performance.now();
  const answer = await commands[command](options);
  const milliseconds = performance.now() - start;
  process.stdout.write(`${JSON.stringify({ milliseconds, ...answer })}\n`);
}
