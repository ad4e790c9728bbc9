"""OpenAI's own Python client where no answer is asked for: embeddings, files, moderations, audio. An upstream that keeps what it was
told stands behind a real lastword; and the models, with Anthropic's client too where it is installed.
"""

import base64
import io
import json
import struct
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
from gateway import Gateway

try:
    import anthropic
except ImportError:
    anthropic = None

SPEECH = bytes(range(256)) * 4000


class Upstream(BaseHTTPRequestHandler):
    """As much of OpenAI as these tests ask for."""

    protocol_version = "HTTP/1.1"
    seen = []
    files = {}

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.seen.append((self.path, self.headers, body))
        if self.path == "/v1/embeddings":
            asked = json.loads(body)
            numbers = struct.pack("<3f", 0.5, -1, 2)
            vector = base64.b64encode(numbers).decode() if asked.get("encoding_format") == "base64" else [0.5, -1, 2]
            data = [{"object": "embedding", "index": 0, "embedding": vector}]
            usage = {"prompt_tokens": 2, "total_tokens": 2}
            self.tell({"object": "list", "model": asked["model"], "data": data, "usage": usage})
        elif self.path == "/v1/files":
            self.files["file-1"] = body
            self.tell(self.file())
        elif self.path == "/v1/moderations":
            self.tell({"error": {"message": "Slow down.", "type": "requests", "code": "rate_limit_exceeded"}}, 429)
        elif self.path == "/v1/audio/speech":
            self.tell(SPEECH)

    def do_GET(self):
        self.seen.append((self.path, self.headers, b""))
        if self.path.endswith("/content"):
            self.tell(b"\x00\xffwords")
        elif self.path.startswith("/v1/files/"):
            self.tell(self.file())
        else:
            self.tell({"object": "list", "data": [self.file()], "has_more": False})

    def do_DELETE(self):
        self.seen.append((self.path, self.headers, b""))
        self.tell({"id": "file-1", "object": "file", "deleted": True})

    def file(self):
        return {"id": "file-1", "object": "file", "bytes": 3, "created_at": 1, "filename": "a.jsonl", "purpose": "batch", "status": "processed"}

    def tell(self, what, status=200):
        body = what if isinstance(what, bytes) else json.dumps(what).encode()
        self.send_response(status)
        self.send_header("content-type", "application/octet-stream" if isinstance(what, bytes) else "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("x-request-id", "req_up")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Pass(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
        cls.addClassCleanup(server.server_close)
        cls.addClassCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cls.gateway = cls.enterClassContext(
            Gateway(
                LASTWORD_BACKENDS__UP__KIND="openai",
                LASTWORD_BACKENDS__UP__BASE_URL=f"http://127.0.0.1:{server.server_port}/v1",
                LASTWORD_BACKENDS__UP__API_KEY="sk-operator",
                LASTWORD_BACKENDS__UP__MODELS='["e"]',
                LASTWORD_BACKENDS__UP__PASS_THROUGH='["embeddings", "files/*", "moderations", "audio/*"]',
            )
        )
        client = openai.OpenAI(
            base_url=cls.gateway.url + "/v1", api_key="mine", organization="org-mine", project="proj-mine", max_retries=0
        )
        cls.client = cls.enterClassContext(client)

    def asked(self):
        path, headers, body = Upstream.seen[-1]
        self.assertEqual(headers["authorization"], "Bearer sk-operator")
        self.assertNotIn("mine", str(headers))
        return path, body

    def test_embeddings(self):
        made = self.client.embeddings.create(model="up/e", input=["a", "b"])
        self.assertEqual(made.data[0].embedding, [0.5, -1, 2])
        path, body = self.asked()
        self.assertEqual((path, json.loads(body)["model"]), ("/v1/embeddings", "e"))

    def test_files(self):
        content = b'{"x":1}\n' * 300_000
        made = self.client.files.create(file=("a.jsonl", io.BytesIO(content)), purpose="batch")
        self.assertEqual(made.id, "file-1")
        self.assertIn(content, self.asked()[1])
        self.assertEqual([file.id for file in self.client.files.list(limit=5)], ["file-1"])
        self.assertEqual(self.asked()[0], "/v1/files?limit=5")
        self.assertEqual(self.client.files.retrieve("file-1").filename, "a.jsonl")
        self.assertEqual(self.client.files.content("file-1").read(), b"\x00\xffwords")
        self.assertTrue(self.client.files.delete("file-1").deleted)

    def test_an_error_is_of_its_class(self):
        with self.assertRaises(openai.RateLimitError) as raised:
            self.client.moderations.create(input="x")
        self.assertEqual((raised.exception.code, raised.exception.request_id), ("rate_limit_exceeded", "req_up"))
        with self.assertRaises(openai.NotFoundError) as raised:
            self.client.batches.list()
        self.assertIn("pass_through", raised.exception.message)

    def test_speech(self):
        with self.client.audio.speech.with_streaming_response.create(model="up/s", voice="v", input="x") as spoken:
            self.assertEqual(b"".join(spoken.iter_bytes()), SPEECH)
        self.assertEqual(json.loads(self.asked()[1])["model"], "s")

    def test_models(self):
        self.assertIn("up/e", [model.id for model in self.client.models.list()])
        self.assertEqual(self.client.models.retrieve("up/e").owned_by, "up")
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("nobody")

    @unittest.skipUnless(anthropic, "Anthropic's client is not installed")
    def test_models_as_anthropic_has_them(self):
        with anthropic.Anthropic(base_url=self.gateway.url, api_key="mine", max_retries=0) as client:
            models = list(client.models.list(limit=1))
            self.assertIn("up/e", [model.id for model in models])
            self.assertEqual(len(models), len({model.id for model in models}), "each page is another")
            model = client.models.retrieve("up/e")
            self.assertEqual((model.type, model.display_name, model.created_at.year), ("model", "up/e", 1970))
            with self.assertRaises(anthropic.NotFoundError):
                client.models.retrieve("nobody")


if __name__ == "__main__":
    unittest.main()
