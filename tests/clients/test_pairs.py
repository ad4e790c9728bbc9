"""The same prompt gives the same text through each pair of protocols, on a real model server that speaks all three.

Runs where LASTWORD_REAL_LLM names one, such as a llama.cpp server: `LASTWORD_REAL_LLM=http://127.0.0.1:18080`, and
LASTWORD_REAL_MODEL its model.
"""

import os
import unittest

import anthropic
import openai
from gateway import Gateway

SERVER = os.environ.get("LASTWORD_REAL_LLM")
MODEL = os.environ.get("LASTWORD_REAL_MODEL", "gemma-3-270m")
ASKED = "Say three words about rivers."
KINDS = ["openai", "responses", "anthropic"]


def chat(url, model):
    with openai.OpenAI(base_url=url + "/v1", api_key="any") as client:
        turn = [{"role": "user", "content": ASKED}]
        asked = {"model": model, "messages": turn, "temperature": 0, "max_tokens": 40}
        whole = client.chat.completions.create(**asked).choices[0].message.content
        chunks = client.chat.completions.create(**asked, stream=True)
        return whole, "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def responses(url, model):
    with openai.OpenAI(base_url=url + "/v1", api_key="any") as client:
        asked = {"model": model, "input": ASKED, "temperature": 0, "max_output_tokens": 40}
        whole = client.responses.create(**asked).output_text
        events = client.responses.create(**asked, stream=True)
        return whole, "".join(event.delta for event in events if event.type == "response.output_text.delta")


def messages(url, model):
    with anthropic.Anthropic(base_url=url, api_key="any") as client:
        turn = [{"role": "user", "content": ASKED}]
        # This client has no word for it any more, the protocol has.
        asked = {"model": model, "messages": turn, "max_tokens": 40, "extra_body": {"temperature": 0}}
        whole = client.messages.create(**asked).content[0].text
        with client.messages.stream(**asked) as stream:
            return whole, "".join(stream.text_stream)


@unittest.skipUnless(SERVER, "LASTWORD_REAL_LLM names no model server")
class Pairs(unittest.TestCase):
    def test_nine_pairs_say_the_same(self):
        backends = "".join(f'[backends.{kind}]\nkind = "{kind}"\nbase_url = "{SERVER}/v1"\n' for kind in KINDS)
        with Gateway(config=backends) as gateway:
            said = {}
            for ask in [chat, responses, messages]:
                for kind in KINDS:
                    whole, streamed = ask(gateway.url, f"{kind}/{MODEL}")
                    said[f"{ask.__name__} over {kind}, whole"] = whole
                    said[f"{ask.__name__} over {kind}, streamed"] = streamed
            for pair, text in said.items():
                print(f"{pair}: {text!r}")
            self.assertEqual(len(set(said.values())), 1, said)
            self.assertTrue(next(iter(said.values())))


if __name__ == "__main__":
    unittest.main()
