"""OpenAI's own Python client, unmodified, asking for Responses: they are waited for, streamed, left alone, resumed and cancelled."""

import asyncio
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

import openai
from gateway import Gateway

ROOT = Path(__file__).parents[2]
TEXT = 'One zwei\n三 🌊four "five" s\\ix.'


def asks(**options):
    """A request for these words of the mock's."""
    options.setdefault("delay", "0ms")
    return {"model": "mock/words", "input": "say it", "extra_body": {"backend_options": options}}


def fails(kind, after, **more):
    return asks(text="one two three", fault={"kind": kind, "after": after, **more})


def words(events):
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


class Responses(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gateway = cls.enterClassContext(Gateway())
        cls.client = cls.enterClassContext(openai.OpenAI(base_url=cls.gateway.url + "/v1", api_key="any", max_retries=0))
        cls.responses = cls.client.responses

    def test_plain(self):
        answer = self.responses.create(**asks(text=TEXT, reasoning="hm"), instructions="Be brief.", metadata={"chat": "7"})
        self.assertEqual((answer.output_text, answer.status, answer.model), (TEXT, "completed", "mock/words"))
        thought, message = answer.output
        self.assertEqual((thought.type, thought.content[0].text), ("reasoning", "hm"))
        self.assertEqual((message.role, message.status), ("assistant", "completed"))
        self.assertEqual((answer.instructions, answer.metadata), ("Be brief.", {"chat": "7"}))
        self.assertEqual(answer.usage.total_tokens, answer.usage.input_tokens + answer.usage.output_tokens)
        self.assertEqual(self.responses.retrieve(answer.id), answer)

    def test_stream(self):
        events = list(self.responses.create(**asks(text=TEXT), stream=True))
        self.assertEqual(words(events), TEXT)
        self.assertEqual([event.sequence_number for event in events], list(range(len(events))))
        self.assertEqual((events[0].type, events[-1].type), ("response.created", "response.completed"))
        self.assertEqual(events[-1].response.output_text, TEXT)

    def test_stream_added_up_by_the_client(self):
        tool = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}
        asked = asks(text=TEXT, reasoning="hm", tool_call={"name": "look", "arguments": {"the words": "a b"}})
        with self.responses.stream(**asked, tools=[tool]) as stream:
            snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
            answer = stream.get_final_response()
        self.assertEqual((snapshots[-1], answer.output_text), (TEXT, TEXT))
        call = answer.output[-1]
        self.assertEqual((call.type, call.call_id, call.name), ("function_call", "call_mock", "look"))
        self.assertEqual(call.arguments, '{"the words":"a b"}')
        self.assertEqual(self.responses.retrieve(answer.id).output[-1].arguments, call.arguments)

    def test_every_event_is_one_that_the_client_knows(self):
        asked = asks(text=TEXT, reasoning="hm", tool_call={"name": "look"})
        for event in self.responses.create(**asked, stream=True):
            with self.subTest(type=event.type):
                # What fits its type comes back from strict validation as it was.
                self.assertEqual(type(event).model_validate(event.to_dict()).to_dict(), event.to_dict())

    def test_resumed_behind_every_event(self):
        whole = list(self.responses.create(**asks(text=TEXT, reasoning="hm", tool_call={"name": "look"}), stream=True))
        name = whole[0].response.id
        for event in whole:
            number = event.sequence_number
            rest = list(self.responses.retrieve(name, stream=True, starting_after=number))
            self.assertEqual(rest, whole[number + 1 :])
            # The helper asks for all, adds up, and shows what is new.
            with self.responses.stream(response_id=name, starting_after=number) as stream:
                self.assertEqual([event.sequence_number for event in stream], [event.sequence_number for event in rest])
                self.assertEqual(stream.get_final_response().output_text, TEXT)
        self.assertEqual(list(self.responses.retrieve(name, stream=True)), whole)

    def test_cut_after_any_byte(self):
        """A relay in between cuts each connection after so many bytes; the client goes on behind the last event that it has."""
        began = self.responses.create(**asks(text=TEXT, repeat=3, delay="1ms"), background=True)
        whole, cuts = list(self.responses.retrieve(began.id, stream=True)), 0
        self.assertEqual(words(whole), TEXT * 3)
        for cut in range(1, 6000, 151):
            seen = []
            with Relay(self.gateway.url, cut) as relay:
                with openai.OpenAI(base_url=relay.url + "/v1", api_key="any", max_retries=0) as client:
                    try:
                        seen.extend(client.responses.retrieve(began.id, stream=True))
                    except openai.APIConnectionError:
                        cuts += 1
            after = {"starting_after": seen[-1].sequence_number} if seen else {}
            seen.extend(self.responses.retrieve(began.id, stream=True, **after))
            self.assertEqual(seen, whole, f"cut after {cut}")
        self.assertGreater(cuts, 20)

    def test_in_the_background(self):
        began = self.responses.create(**asks(text=TEXT, first="50ms"), background=True)
        self.assertIn(began.status, ["queued", "in_progress"])
        while (answer := self.responses.retrieve(began.id)).status in ["queued", "in_progress"]:
            time.sleep(0.01)
        self.assertEqual((answer.status, answer.output_text), ("completed", TEXT))

    def test_cancel(self):
        began = self.responses.create(**asks(text="one", repeat=100000, delay="10ms"), background=True)
        seen = iter(self.responses.retrieve(began.id, stream=True))
        for event in seen:
            if event.type == "response.output_text.delta":
                break
        cancelled = self.responses.cancel(began.id)
        self.assertEqual((cancelled.status, cancelled.error), ("cancelled", None))
        last = list(seen)[-1]
        self.assertEqual((last.type, last.response), ("response.incomplete", cancelled))

    def test_delete(self):
        answer = self.responses.create(**asks(text="one"))
        self.assertIsNone(self.responses.delete(answer.id))
        with self.assertRaises(openai.NotFoundError):
            self.responses.retrieve(answer.id)

    def test_a_conversation(self):
        first = self.responses.create(**asks(text="And so on."))
        second = self.responses.create(**asks(text="As I said."), previous_response_id=first.id)
        self.assertEqual(second.previous_response_id, first.id)
        items = list(self.responses.input_items.list(second.id, order="asc", limit=1))
        said = [(item.role, item.content[0].text) for item in items]
        self.assertEqual(said, [("user", "say it"), ("assistant", "And so on."), ("user", "say it")])
        with self.assertRaises(openai.BadRequestError) as raised:
            self.responses.create(**asks(), previous_response_id="resp_nobody")
        error = raised.exception
        self.assertEqual((error.code, error.param), ("previous_response_not_found", "previous_response_id"))

    def test_an_error_before_the_first_word_is_of_its_class(self):
        for status, kind in [(400, openai.BadRequestError), (429, openai.RateLimitError), (503, openai.InternalServerError)]:
            for stream in [False, True]:
                with self.subTest(status=status, stream=stream), self.assertRaises(kind) as raised:
                    self.responses.create(**fails("error", 0, status=status, code="their_word"), stream=stream)
                self.assertEqual((raised.exception.status_code, raised.exception.code), (status, "their_word"))

    def test_an_error_after_the_first_word_is_told(self):
        for kind in ["error", "close", "reset", "panic"]:
            with self.subTest(kind=kind):
                events = list(self.responses.create(**fails(kind, 2), stream=True))
                failed = events[-1]
                self.assertEqual((words(events), failed.type), ("one two", "response.failed"))
                self.assertEqual(failed.response.status, "failed")
                self.assertTrue(failed.response.error.code and failed.response.error.message)
                with self.assertRaises(openai.InternalServerError):
                    self.responses.create(**fails(kind, 2))

    def test_asynchronous(self):
        async def read():
            async with openai.AsyncOpenAI(base_url=self.gateway.url + "/v1", api_key="any") as client:
                async with client.responses.stream(**asks(text=TEXT)) as stream:
                    async for _ in stream:
                        pass
                    return (await stream.get_final_response()).output_text

        self.assertEqual(asyncio.run(read()), TEXT)


class Relay:
    """Passes on what an HTTP server says to one connection, and cuts that off after so many bytes."""

    def __init__(self, url, cut):
        host, port = url.removeprefix("http://").split(":")
        self.server, self.cut = (host, int(port)), cut

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        return self

    def run(self):
        near, _ = self.listener.accept()
        with near, socket.create_connection(self.server) as far:
            near.settimeout(10), far.settimeout(10)
            far.sendall(near.recv(65536))
            left = self.cut
            while left and (said := far.recv(min(left, 65536))):
                near.sendall(said)
                left -= len(said)
                if b"0\r\n\r\n" == said[-5:]:
                    break

    def __exit__(self, *_):
        self.thread.join(10)
        self.listener.close()


class Readme(unittest.TestCase):
    """The script in the README, killed in the middle and started again."""

    def test_killed_and_started_again(self):
        blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
        [script] = [block for block in blocks if "starting_after" in block]
        said = " ".join(str(n) for n in range(20))
        slow = {"KIND": "mock", "TEXT": said, "DELAY": "150ms"}
        gateway = self.enterContext(Gateway(**{f"LASTWORD_BACKENDS__SLOW__{name}": value for name, value in slow.items()}))
        for ours, theirs in [("http://127.0.0.1:8080", gateway.url), ("mock/words", "slow/words")]:
            self.assertIn(ours, script)
            script = script.replace(ours, theirs)
        folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="lastword-readme-")))

        def start():
            return subprocess.Popen([sys.executable, "-c", script], cwd=folder, stdout=subprocess.PIPE, text=True)

        with start() as first:
            # Behind the note of a word, and long before the next one.
            while (note := folder / "answer.json") and not (note.exists() and '"n": 9' in note.read_text()):
                time.sleep(0.001)
            first.kill()
            before = first.stdout.read()
        with start() as second:
            after, _ = second.communicate(timeout=30)
            self.assertEqual(second.returncode, 0)
        self.assertTrue(said.startswith(before) and before and after, (before, after))
        self.assertEqual(before + after.rstrip("\n"), said)
        self.assertFalse(note.exists())


if __name__ == "__main__":
    unittest.main()
