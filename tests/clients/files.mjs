// Keeps files at the server: sends, lists, reads, sends one in parts, deletes. usage: files.mjs FILE
// Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY, as the SDK reads them. Prints what it met, as JSON.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import OpenAI, { toFile } from "openai";

const path = process.argv[2];
const content = await readFile(path);
const client = new OpenAI();

const first = await client.files.create({ file: createReadStream(path), purpose: "fine-tune" });
for (let number = 0; number < 4; number++) {
  await client.files.create({
    file: await toFile(Buffer.from(`note ${number}`), `note-${number}.txt`),
    purpose: "user_data",
    expires_after: { anchor: "created_at", seconds: 3600 },
  });
}

const notes = [];
for await (const file of client.files.list({ purpose: "user_data", limit: 3, order: "asc" })) notes.push(file.filename);
const retrieved = await client.files.retrieve(first.id);
const read = Buffer.from(await (await client.files.content(first.id)).arrayBuffer());

const upload = await client.uploads.create({
  bytes: content.length,
  filename: basename(path),
  mime_type: "text/jsonl",
  purpose: "fine-tune",
});
const middle = Math.floor(content.length / 2);
const last = await client.uploads.parts.create(upload.id, { data: await toFile(content.subarray(middle), "last") });
const start = await client.uploads.parts.create(upload.id, { data: await toFile(content.subarray(0, middle), "start") });
const done = await client.uploads.complete(upload.id, {
  part_ids: [start.id, last.id],
  md5: createHash("md5").update(content).digest("hex"),
});
const joined = Buffer.from(await (await client.files.content(done.file.id)).arrayBuffer());

const announced = { bytes: 10, filename: "never.jsonl", mime_type: "text/jsonl", purpose: "fine-tune" };
const givenUp = await client.uploads.cancel((await client.uploads.create(announced)).id);

const everything = [];
for await (const file of client.files.list()) everything.push(file.id);
for (const id of everything) await client.files.delete(id);

console.log(
  JSON.stringify({
    first: [first.filename, first.bytes, first.purpose, first.status],
    same: retrieved.id === first.id && read.equals(content),
    notes,
    upload: [upload.status, done.status, done.file.filename, joined.equals(content)],
    "given up": givenUp.status,
    left: (await client.files.list()).data.length,
  }),
);
