"""Anthropic's own Python client, unmodified, against a real lastword with its mock backend: only the base URL is another.

What the mock says and how it fails is told it with `extra_body`, which the client puts into the request.
"""

import asyncio
import json
import unittest
import urllib.request

import anthropic
from gateway import Gateway
from relay import Relay

HI = [{"role": "user", "content": "say it"}]


def asks(**options):
    """A request for these words of the mock's."""
    options.setdefault("delay", "0ms")
    return {"model": "mock/words", "max_tokens": 1000, "messages": HI, "extra_body": {"backend_options": options}}


def fails(kind, after, **more):
    return asks(text="one two three", fault={"kind": kind, "after": after, **more})


class Messages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gateway = cls.enterClassContext(Gateway())
        cls.client = cls.enterClassContext(anthropic.Anthropic(base_url=cls.gateway.url, api_key="any", max_retries=0))

    def create(self, asked, **more):
        return self.client.messages.create(**asked, **more)

    def states(self):
        """What there is, newest first."""
        with urllib.request.urlopen(f"{self.gateway.url}/v1/streams?limit=100") as listed:
            return json.load(listed)["streams"]

    def test_plain(self):
        answer = self.create(asks(text="one two three"))
        self.assertEqual((answer.type, answer.role, answer.model), ("message", "assistant", "mock/words"))
        self.assertEqual([(block.type, block.text) for block in answer.content], [("text", "one two three")])
        self.assertEqual((answer.stop_reason, answer.stop_sequence), ("end_turn", None))
        self.assertEqual((answer.usage.input_tokens, answer.usage.output_tokens), (2, 3))

    def test_stream(self):
        events = list(self.create(asks(text="one two three"), stream=True))
        kinds = [event.type for event in events]
        self.assertEqual((kinds[0], kinds[-2:]), ("message_start", ["message_delta", "message_stop"]))
        said = "".join(event.delta.text for event in events if event.type == "content_block_delta")
        self.assertEqual((said, events[-2].delta.stop_reason, events[-2].usage.output_tokens), ("one two three", "end_turn", 3))

    def test_stream_added_up_by_the_client(self):
        tool = {"name": "look", "input_schema": {"type": "object"}}
        asked = asks(text="Let me see.", reasoning="hm hm", tool_call={"name": "look", "arguments": {"the words": "a b"}})
        with self.client.messages.stream(**asked, tools=[tool]) as stream:
            said = "".join(stream.text_stream)
            message = stream.get_final_message()
        thinking, text, call = message.content
        self.assertEqual((said, text.text, thinking.thinking), ("Let me see.", "Let me see.", "hm hm"))
        self.assertEqual((call.type, call.id, call.name, call.input), ("tool_use", "call_mock", "look", {"the words": "a b"}))
        self.assertEqual(message.stop_reason, "tool_use")

    def test_tools_whole(self):
        [call] = self.create(asks(text="", tool_call={"name": "look", "arguments": {}})).content
        self.assertEqual((call.type, call.name, call.input), ("tool_use", "look", {}))

    def test_an_error_before_the_first_word_is_of_its_class(self):
        for status, kind in [
            (400, anthropic.BadRequestError),
            (401, anthropic.AuthenticationError),
            (403, anthropic.PermissionDeniedError),
            (404, anthropic.NotFoundError),
            (429, anthropic.RateLimitError),
            (503, anthropic.InternalServerError),
        ]:
            for stream in [False, True]:
                with self.subTest(status=status, stream=stream), self.assertRaises(kind) as raised:
                    self.create(fails("error", 0, status=status, message="Later."), stream=stream)
                error = raised.exception
                self.assertEqual((error.status_code, error.body["type"]), (status, "error"))
                self.assertIn("Later.", error.body["error"]["message"])
                self.assertTrue(error.request_id)

    def test_what_cannot_be_asked(self):
        with self.assertRaises(anthropic.NotFoundError):
            self.create({**asks(), "model": "nobody"})

    def test_an_error_after_the_first_word_raises(self):
        for kind in ["error", "close", "reset", "panic"]:
            said = ""
            with self.subTest(kind=kind), self.assertRaises(anthropic.APIStatusError):
                for event in self.create(fails(kind, 2), stream=True):
                    said += event.delta.text if event.type == "content_block_delta" else ""
            self.assertEqual(said, "one two")
            with self.subTest(kind=kind, stream=False), self.assertRaises(anthropic.InternalServerError):
                self.create(fails(kind, 2))

    def test_a_refusal_is_tried_again_as_the_upstream_asks(self):
        patient = self.client.with_options(max_retries=2)
        before = len(self.states())
        with self.assertRaises(anthropic.RateLimitError):
            patient.messages.create(**fails("error", 0, status=429, retry_after="10ms"))
        with self.assertRaises(anthropic.BadRequestError):
            patient.messages.create(**fails("error", 0, status=400))
        self.assertEqual(len(self.states()) - before, 4, "thrice the first, once the second")

    def test_a_cut_raises_and_the_same_key_finds_the_answer(self):
        words = " ".join(f"w{n}" for n in range(200))
        key = {"extra_headers": {"Idempotency-Key": "cut-1"}}
        before = len(self.states())
        with Relay(self.gateway.url, 5000) as relay:
            client = self.client.with_options(base_url=relay.url)
            with self.assertRaises(Exception) as raised:
                list(client.messages.create(**asks(text=words, delay="1ms"), stream=True, **key))
            self.assertNotIsInstance(raised.exception, AssertionError)
            with client.messages.stream(**asks(text=words, delay="1ms"), **key) as stream:
                said = "".join(stream.text_stream)
        self.assertEqual((said, len(self.states()) - before), (words, 1), "the upstream is asked once")

    def test_hanging_up_is_leaving_and_cancel_stops(self):
        with self.client.messages.stream(**asks(text="one two three", fault={"kind": "stall", "after": 2})) as stream:
            said = ""
            with self.assertRaises(anthropic.APIStatusError):
                for text in stream.text_stream:
                    said += text
                    if said == "one two":
                        id = stream.response.headers["x-stream-id"]
                        urllib.request.urlopen(urllib.request.Request(f"{self.gateway.url}/v1/streams/{id}/cancel", method="POST")).close()
        self.assertEqual((said, self.states()[0]["status"]), ("one two", "cancelled"))

    def test_twenty_at_once(self):
        words = " ".join(f"w{n}" for n in range(50))

        async def read(client):
            async with client.messages.stream(**asks(text=words, delay="1ms")) as stream:
                return "".join([text async for text in stream.text_stream])

        async def all_of_them():
            async with anthropic.AsyncAnthropic(base_url=self.gateway.url, api_key="any") as client:
                return await asyncio.gather(*[read(client) for _ in range(20)])

        self.assertEqual(asyncio.run(all_of_them()), [words] * 20)

    def test_an_upstream_without_a_count_of_tokens_is_a_404(self):
        with self.assertRaises(anthropic.NotFoundError):
            self.client.messages.count_tokens(model="mock/words", messages=HI)

    def test_models(self):
        models = list(self.client.models.list())
        self.assertIn("mock/words", [model.id for model in models])
        self.assertEqual(self.client.models.retrieve("mock/words").id, "mock/words")


if __name__ == "__main__":
    unittest.main()
