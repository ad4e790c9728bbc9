"""OpenAI's own Python client, unmodified, against a real lastword with its mock backend: only the base URL is another.

What the mock says and how it fails is told it with `extra_body`, which the client puts into the request.
"""

import asyncio
import json
import threading
import unittest
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import openai
from gateway import Gateway

HI = [{"role": "user", "content": "say it"}]


def asks(**options):
    """A request for these words of the mock's."""
    options.setdefault("delay", "0ms")
    return {"model": "mock/words", "messages": HI, "extra_body": {"backend_options": options}}


def fails(kind, after, **more):
    return asks(text="one two three", fault={"kind": kind, "after": after, **more})


class Chat(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gateway = cls.enterClassContext(Gateway())
        cls.client = cls.enterClassContext(openai.OpenAI(base_url=cls.gateway.url + "/v1", api_key="any", max_retries=0))

    def create(self, asked, **more):
        return self.client.chat.completions.create(**asked, **more)

    def streams(self):
        """How many answers there are."""
        with urllib.request.urlopen(f"{self.gateway.url}/v1/streams?limit=100") as listed:
            return len(json.load(listed)["streams"])

    def test_plain(self):
        answer = self.create(asks(text="one two three", reasoning="hm"))
        choice = answer.choices[0]
        self.assertEqual((choice.message.role, choice.message.content), ("assistant", "one two three"))
        self.assertEqual((choice.finish_reason, choice.message.reasoning_content), ("stop", "hm"))
        self.assertEqual((answer.object, answer.model, answer.usage.total_tokens), ("chat.completion", "mock/words", 6))

    def test_stream(self):
        chunks = list(self.create(asks(text="one two three"), stream=True, stream_options={"include_usage": True}))
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        self.assertEqual(said, "one two three")
        self.assertEqual(len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}), 1)
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual([chunk.usage.completion_tokens for chunk in chunks if chunk.usage], [3])

    def test_stream_added_up_by_the_client(self):
        tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
        asked = asks(text="Let me see.", tool_call={"name": "look", "arguments": {"the words": "a b"}})
        with self.client.chat.completions.stream(**asked, tools=[tool]) as stream:
            for _ in stream:
                pass
            message = stream.get_final_completion().choices[0].message
        self.assertEqual(message.content, "Let me see.")
        [call] = message.tool_calls
        self.assertEqual((call.id, call.type, call.function.name), ("call_mock", "function", "look"))
        self.assertEqual(json.loads(call.function.arguments), {"the words": "a b"})

    def test_tools_whole(self):
        answer = self.create(asks(text="", tool_call={"name": "look", "arguments": {}}))
        [call] = answer.choices[0].message.tool_calls
        self.assertEqual((call.function.name, call.function.arguments), ("look", "{}"))
        self.assertEqual((answer.choices[0].finish_reason, answer.choices[0].message.content), ("tool_calls", None))

    def test_an_error_before_the_first_word_is_of_its_class(self):
        for status, kind in [
            (400, openai.BadRequestError),
            (401, openai.AuthenticationError),
            (403, openai.PermissionDeniedError),
            (404, openai.NotFoundError),
            (429, openai.RateLimitError),
            (503, openai.InternalServerError),
        ]:
            for stream in [False, True]:
                with self.subTest(status=status, stream=stream), self.assertRaises(kind) as raised:
                    self.create(fails("error", 0, status=status, code="their_word", message="Later."), stream=stream)
                error = raised.exception
                self.assertEqual((error.status_code, error.code), (status, "their_word"))
                self.assertIn("Later.", error.message)
                self.assertTrue(error.request_id)

    def test_what_cannot_be_asked(self):
        with self.assertRaises(openai.NotFoundError) as raised:
            self.create({**asks(), "model": "nobody"})
        self.assertEqual((raised.exception.code, raised.exception.param), ("model_not_found", "model"))
        with self.assertRaises(openai.BadRequestError) as raised:
            self.create(asks(), n=2)
        self.assertEqual(raised.exception.param, "n")

    def test_an_error_after_the_first_word_raises(self):
        for kind in ["error", "close", "reset", "panic"]:
            said = ""
            with self.subTest(kind=kind), self.assertRaises(openai.APIError):
                for chunk in self.create(fails(kind, 2), stream=True):
                    said += chunk.choices[0].delta.content or ""
            self.assertEqual(said, "one two")
            with self.subTest(kind=kind, stream=False), self.assertRaises(openai.InternalServerError):
                self.create(fails(kind, 2))

    def test_a_refusal_is_tried_again_as_the_upstream_asks(self):
        patient = self.client.with_options(max_retries=1)
        before = self.streams()
        with self.assertRaises(openai.RateLimitError):
            patient.chat.completions.create(**fails("error", 0, status=429, retry_after="10ms"))
        with self.assertRaises(openai.BadRequestError):
            patient.chat.completions.create(**fails("error", 0, status=400))
        self.assertEqual(self.streams() - before, 3, "twice the first, once the second")

    def test_models(self):
        self.assertIn("mock/words", [model.id for model in self.client.models.list()])

    def test_asynchronous(self):
        async def read():
            async with openai.AsyncOpenAI(base_url=self.gateway.url + "/v1", api_key="any") as client:
                stream = await client.chat.completions.create(**asks(text="one two"), stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        self.assertEqual(asyncio.run(read()), "one two")


class Upstream(BaseHTTPRequestHandler):
    """Answers every question with the bytes that a real server said once."""

    said = b""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.write(self.said)

    def log_message(self, *_):
        pass


class Identity(unittest.TestCase):
    """What the client adds up through lastword is what it adds up from the upstream itself."""

    def test_captures(self):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        upstream = f"http://127.0.0.1:{server.server_port}/v1"
        variables = {"LASTWORD_BACKENDS__UP__KIND": "openai", "LASTWORD_BACKENDS__UP__BASE_URL": upstream}
        gateway = self.enterContext(Gateway(**variables))
        captures = sorted((Path(__file__).parents[1] / "captures").glob("*.chat.sse"))
        self.assertTrue(captures)
        for capture in captures:
            Upstream.said = capture.read_bytes()
            with self.subTest(capture=capture.name):
                try:
                    direct = self.added_up(upstream, "m")
                except IndexError:
                    continue  # the client itself cannot add up what begins with another choice than the first
                through = self.added_up(gateway.url + "/v1", "up/m")
                # A server may say the role in several chunks; the client adds that up too, to `assistantassistant`.
                for choice in direct["choices"]:
                    self.assertEqual(choice["message"]["role"].replace("assistant", ""), "")
                    choice["message"]["role"] = "assistant"
                for name in ["choices", "usage", "system_fingerprint", "service_tier"]:
                    self.assertEqual(through[name], direct[name])

    def added_up(self, url, model):
        with openai.OpenAI(base_url=url, api_key="any", max_retries=0) as client:
            asked = {"model": model, "messages": HI, "stream_options": {"include_usage": True}}
            with client.chat.completions.stream(**asked) as stream:
                for _ in stream:
                    pass
                try:
                    return stream.get_final_completion().model_dump()
                except openai.LengthFinishReasonError as cut:  # it was cut by its `max_tokens`
                    return cut.completion.model_dump()


if __name__ == "__main__":
    unittest.main()
