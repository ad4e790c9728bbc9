"""What lastword tells of answers that have ended, by those who check such things: Standard Webhooks' own library, and OpenAI's."""

import base64
import json
import queue
import secrets
import threading
import unittest
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
from gateway import Gateway
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

SECRET = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


class Application(ThreadingHTTPServer):
    """Takes what it is told, but for the first of each message."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Told)
        self.told, self.refused = queue.Queue(), set()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Told(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        name = self.headers["webhook-id"]
        self.send_response(200 if name in self.server.refused else 500)
        self.send_header("content-length", "0")
        self.end_headers()
        self.server.refused.add(name)
        self.server.told.put((dict(self.headers), body))

    def log_message(self, *_):
        pass


class Webhooks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.application = cls.enterClassContext(Application())
        port = cls.application.server_address[1]
        section = f'[webhooks]\nurl = "http://127.0.0.1:{port}/hooks"\nsecret = "{SECRET}"\nbackoff = ["10ms"]\n'
        cls.gateway = cls.enterClassContext(Gateway(section))

    @classmethod
    def tearDownClass(cls):
        cls.application.shutdown()

    def test_each_try_is_signed_and_tells_the_state(self):
        asked = {"prompt": "Grüße, \"你好\"", "model": "mock/echo", "metadata": {"chat": "7"}}
        request = urllib.request.Request(f"{self.gateway.url}/v1/streams", json.dumps(asked).encode())
        with urllib.request.urlopen(request) as response:
            stream = json.load(response)["id"]
        for _ in range(2):
            headers, body = self.application.told.get(timeout=20)
            self.assertEqual(headers["webhook-id"], f"msg_{stream}")
            told = Webhook(SECRET).verify(body, headers)
            self.assertEqual((told["type"], told["data"]["metadata"]), ("stream.completed", {"chat": "7"}))
            with urllib.request.urlopen(f"{self.gateway.url}/v1/streams/{stream}") as response:
                self.assertEqual(told["data"], json.load(response))
            self.assertEqual(told["data"]["text"], asked["prompt"])
            client = openai.OpenAI(api_key="none", webhook_secret=SECRET)
            client.webhooks.verify_signature(body, headers)
            for changed in [body + b" ", body.replace(b"completed", b"cancelled")]:
                with self.assertRaises(WebhookVerificationError):
                    Webhook(SECRET).verify(changed, headers)


if __name__ == "__main__":
    unittest.main()
