"""Keeps files at the server: sends, lists, reads, sends one in parts, deletes. usage: files.py FILE

Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY, as the SDK reads them. Prints what it met, as JSON.
"""

import hashlib
import json
import sys
from pathlib import Path

import openai

path = Path(sys.argv[1])
content = path.read_bytes()
client = openai.OpenAI()

with path.open("rb") as stream:
    first = client.files.create(file=stream, purpose="fine-tune")
for number in range(4):
    client.files.create(
        file=(f"note-{number}.txt", f"note {number}".encode()),
        purpose="user_data",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )

notes = [file.filename for file in client.files.list(purpose="user_data", limit=3, order="asc")]
retrieved = client.files.retrieve(first.id)
read = client.files.content(first.id).read()

upload = client.uploads.create(bytes=len(content), filename=path.name, mime_type="text/jsonl", purpose="fine-tune")
middle = len(content) // 2
last = client.uploads.parts.create(upload.id, data=content[middle:])
start = client.uploads.parts.create(upload.id, data=content[:middle])
done = client.uploads.complete(upload.id, part_ids=[start.id, last.id], md5=hashlib.md5(content).hexdigest())
joined = client.files.content(done.file.id).read()

given_up = client.uploads.create(bytes=10, filename="never.jsonl", mime_type="text/jsonl", purpose="fine-tune")
given_up = client.uploads.cancel(given_up.id)

for file in list(client.files.list()):
    client.files.delete(file.id)

print(
    json.dumps(
        {
            "first": [first.filename, first.bytes, first.purpose, first.status],
            "same": retrieved == first and read == content,
            "notes": notes,
            "upload": [upload.status, done.status, done.file.filename, joined == content],
            "given up": given_up.status,
            "left": len(client.files.list().data),
        }
    )
)
