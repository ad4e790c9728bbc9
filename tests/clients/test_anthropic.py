"""Anthropic's own Python client, unmodified, against a real lastword with its mock backend: only the base URL is another.

What the mock says and how it fails is told it with `extra_body`, which the client puts into the request.
"""

import asyncio
import unittest

import anthropic
from gateway import Gateway

HI = [{"role": "user", "content": "say it"}]


def asks(**options):
    """A request for these words of the mock's."""
    options.setdefault("delay", "0ms")
    return {
        "model": "mock/words",
        "max_tokens": 1000,
        "messages": HI,
        "extra_body": {"backend_options": options},
    }


def fails(kind, after, **more):
    return asks(text="one two three", fault={"kind": kind, "after": after, **more})


class Messages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gateway = cls.enterClassContext(Gateway())
        cls.client = cls.enterClassContext(
            anthropic.Anthropic(base_url=cls.gateway.url, api_key="any", max_retries=0)
        )

    def test_plain(self):
        answer = self.client.messages.create(**asks(text="one two three"))
        self.assertEqual(answer.content[0].text, "one two three")
        self.assertEqual(answer.stop_reason, "end_turn")
        self.assertEqual(answer.usage.output_tokens, 3)
        self.assertTrue(answer._request_id)

    def test_stream(self):
        asked = asks(text="one two three", reasoning="hm hm", tool_call={"name": "look", "arguments": {"a": 'b " c'}})
        with self.client.messages.stream(**asked) as stream:
            said = "".join(stream.text_stream)
            answer = stream.get_final_message()
        self.assertEqual(said, "one two three")
        thinking, text, call = answer.content
        self.assertEqual((thinking.thinking, text.text), ("hm hm", said))
        self.assertEqual((call.name, call.input), ("look", {"a": 'b " c'}))
        self.assertEqual(answer.stop_reason, "tool_use")
        self.assertGreater(answer.usage.output_tokens, 3)

    def test_async_stream(self):
        async def read():
            async with anthropic.AsyncAnthropic(base_url=self.gateway.url, api_key="any") as client:
                async with client.messages.stream(**asks(text="one two three")) as stream:
                    return [text async for text in stream.text_stream]

        self.assertEqual("".join(asyncio.run(read())), "one two three")

    def test_a_refusal_is_the_exception_that_it_always_was(self):
        for status, error in [
            (400, anthropic.BadRequestError),
            (401, anthropic.AuthenticationError),
            (429, anthropic.RateLimitError),
            (503, anthropic.InternalServerError),
            (529, anthropic.InternalServerError),
        ]:
            for streaming in True, False:
                with self.subTest(status=status, stream=streaming), self.assertRaises(error) as raised:
                    self.client.messages.create(**fails("error", 0, status=status), stream=streaming)
                self.assertEqual(raised.exception.status_code, status)
        with self.assertRaises(anthropic.NotFoundError):
            self.client.messages.create(**asks() | {"model": "nobody"})

    def test_a_failure_in_mid_answer_is_raised(self):
        for kind in "error", "reset", "close":
            said = ""
            with self.subTest(kind=kind), self.assertRaises(anthropic.APIError):
                with self.client.messages.stream(**fails(kind, 2)) as stream:
                    for text in stream.text_stream:
                        said += text
            self.assertEqual(said, "one two")

    def test_an_upstream_without_a_count_of_tokens_is_a_404(self):
        with self.assertRaises(anthropic.NotFoundError):
            self.client.messages.count_tokens(model="mock/words", messages=HI)


if __name__ == "__main__":
    unittest.main()
