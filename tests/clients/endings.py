"""How each way in which an answer can end reaches each protocol: on the wire, and in its makers' own clients.

`python endings.py` writes the table (docs/endings.md); the test beside it, test_endings.py, compares.
"""

import http.client
import json
import os
import signal
import subprocess
import threading
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import anthropic
import openai
from gateway import Gateway

HERE = Path(__file__).parent
TABLE = HERE.parents[1] / "docs/endings.md"
WORDS = "one two three"

# The clocks are short where a test waits for them, and a drain does not wait.
CONFIG = """
[server]
drain = "0s"
[backends.mock]
kind = "mock"
[backends.silent]
kind = "mock"
timeouts = { silence = "100ms" }
[backends.late]
kind = "mock"
timeouts = { total = "150ms" }
"""


def fault(kind, after=2, **more):
    return {"fault": {"kind": kind, "after": after, **more}}


def refused(status, **more):
    return fault("error", 0, status=status, code="their_word", message="No.", **more)


# Name, what the mock is told, which backend it is, what is done when it has said two words.
ENDINGS = [
    ("stop", {}, "mock", None),
    ("length", {"finish": "length"}, "mock", None),
    ("tool calls", {"text": "", "tool_call": {"name": "look", "arguments": {"a": 1}}}, "mock", None),
    ("content filter", {"finish": "content_filter"}, "mock", None),
    ("refused with 400", refused(400), "mock", None),
    ("refused with 401", refused(401), "mock", None),
    ("refused with 429", refused(429, retry_after="7s"), "mock", None),
    ("refused with 503", refused(503), "mock", None),
    ("error in mid-answer", fault("error", code="their_word", message="No."), "mock", None),
    ("truncated", fault("close"), "mock", None),
    ("upstream connection broken", fault("reset"), "mock", None),
    ("stalled", fault("stall"), "silent", None),
    ("cancelled", fault("stall"), "mock", "cancel"),
    ("deadline", fault("stall"), "late", None),
    ("drain", fault("stall"), "mock", "drain"),
]


def body(surface, backend, options):
    asked = {"model": f"{backend}/words", "backend_options": {"text": WORDS, "delay": "0s", **options}}
    turn = [{"role": "user", "content": "say it"}]
    match surface:
        case "chat":
            return asked | {"messages": turn}
        case "responses":
            return asked | {"input": "say it"}
        case "messages":
            return asked | {"messages": turn, "max_tokens": 100}


PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}


# ---- on the wire ----


def on_the_wire(url, surface, asked, stream):
    """The head, and what follows the answer's last words."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    headers = {"content-type": "application/json"}
    connection.request("POST", PATHS[surface], json.dumps(asked | {"stream": stream}), headers)
    response = connection.getresponse()
    said = str(response.status)
    if wait := response.headers["retry-after"]:
        said += f", `retry-after: {wait}`"
    data, broken = b"", ""
    try:
        while piece := response.read1(65536):
            data += piece
    except (ConnectionResetError, http.client.IncompleteRead):
        broken = ", reset"
    connection.close()
    if response.headers["content-type"].startswith("application/json"):
        return f"{said}, {whole(surface, json.loads(data))}{broken}"
    frames = [frame(block) for block in data.decode().split("\n\n") if "data:" in block]
    return f"{said}, …, {', '.join(filter(None, (ending(surface, *f) for f in frames)))}{broken}"


def frame(block):
    name, data = "", ""
    for line in block.split("\n"):
        field, _, value = line.partition(": ")
        name = value if field == "event" else name
        data = value if field == "data" else data
    return name, data


def ending(surface, name, data):
    """What a frame says of the end; nothing if it does not."""
    if data == "[DONE]":
        return "`[DONE]`"
    data = json.loads(data)
    match surface:
        case "chat":
            if "error" in data:
                return whole(surface, data)
            [choice] = data["choices"]
            return choice["finish_reason"] and f"`finish_reason: {choice['finish_reason']}`"
        case "responses":
            response = data.get("response", {})
            if name in ["response.created", "response.in_progress"] or not response:
                return None
            return f"`{name}` ({whole(surface, response)})"
        case "messages":
            if name == "message_delta":
                return f"`message_delta` (`stop_reason: {data['delta']['stop_reason']}`)"
            if name == "error":
                return f"`error` ({whole(surface, data)})"
            return f"`{name}`" if name == "message_stop" else None


def whole(surface, data):
    """What a body of JSON says."""
    if "error" in data and data["error"]:
        error = data["error"]
        return f"`error: {error['code'] if 'code' in error else error['type']}`"
    match surface:
        case "chat":
            return f"`finish_reason: {data['choices'][0]['finish_reason']}`"
        case "responses":
            why = (data["incomplete_details"] or {}).get("reason")
            return f"`status: {data['status']}`" + (f", `reason: {why}`" if why else "")
        case "messages":
            return f"`stop_reason: {data['stop_reason']}`"


# ---- the clients ----


def python(url, surface, asked, stream):
    """What a Python program sees: how it ended, or what is raised."""
    own = {"backend_options": asked.pop("backend_options")}
    try:
        match surface:
            case "chat":
                client = openai.OpenAI(base_url=url + "/v1", api_key="any", max_retries=0)
                answer = client.chat.completions.create(**asked, stream=stream, extra_body=own)
                if not stream:
                    return f"`{answer.choices[0].finish_reason}`"
                return f"`{[chunk.choices[0].finish_reason for chunk in answer][-1]}`"
            case "responses":
                client = openai.OpenAI(base_url=url + "/v1", api_key="any", max_retries=0)
                answer = client.responses.create(**asked, stream=stream, extra_body=own)
                if not stream:
                    return f"`{answer.status}`"
                last = list(answer)[-1]
                return f"`{last.type}`, `{last.response.status}`"
            case "messages":
                client = anthropic.Anthropic(base_url=url, api_key="any", max_retries=0)
                answer = client.messages.create(**asked, stream=stream, extra_body=own)
                if not stream:
                    return f"`{answer.stop_reason}`"
                return f"`{[event.delta.stop_reason for event in answer if event.type == 'message_delta'][-1]}`"
    except (openai.APIError, anthropic.APIError) as error:
        return f"raises `{type(error).__name__}`"


class Node:
    """The same in Node: one process, a line of JSON for each question."""

    def __enter__(self):
        self.child = subprocess.Popen(
            ["node", str(HERE / "endings.mjs")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_):
        self.child.stdin.close()
        self.child.wait()
        self.child.stdout.close()

    def __call__(self, url, surface, asked, stream):
        print(json.dumps([url, surface, asked, stream]), file=self.child.stdin, flush=True)
        return json.loads(self.child.stdout.readline())


# ---- each cell ----


def seen(gateway, see, surface, ending, stream):
    """What `see` sees of an answer that ends so."""
    _, options, backend, act = ending
    asked = body(surface, backend, options)
    if not act:
        return see(gateway.url, surface, asked, stream)
    actor = threading.Thread(target=when_it_has_said_two_words, args=(gateway, act), daemon=True)
    actor.start()
    outcome = see(gateway.url, surface, asked, stream)
    actor.join()
    return outcome


def when_it_has_said_two_words(gateway, act):
    stream = None
    while not stream:
        with urllib.request.urlopen(gateway.url + "/v1/streams?limit=1") as listed:
            stream = next(iter(s for s in json.load(listed)["streams"] if s["status"] == "running"), None)
    with urllib.request.urlopen(gateway.url + stream["events_url"]) as events:
        for line in events:
            if b"two" in line:
                break
    match act:
        case "cancel":
            urllib.request.urlopen(urllib.request.Request(f"{gateway.url}/v1/streams/{stream['id']}/cancel", method="POST")).close()
        case "drain":
            os.kill(gateway.child.pid, signal.SIGTERM)


def rows(surface):
    """The table's rows, cell by cell."""
    with Node() as node, Gateway(config=CONFIG) as shared:
        for ending in ENDINGS:
            cells = [ending[0]]
            for stream in [True, False]:
                for see in [on_the_wire, python, node]:
                    if ending[3] == "drain":  # which ends it: each needs one of its own
                        with Gateway(config=CONFIG) as own:
                            cells.append(seen(own, see, surface, ending, stream))
                    else:
                        cells.append(seen(shared, see, surface, ending, stream))
            yield cells


TITLES = {
    "chat": "Chat Completions (openai-python, openai-node)",
    "responses": "Responses (openai-python, openai-node)",
    "messages": "Messages (anthropic-python, anthropic-node)",
}

STORY = """# How answers end

What goes over the wire for each way in which an answer can end, and what the makers' own clients do with it. Written by
`tests/clients/endings.py`, which asks a real lastword with its mock backend, and compared with it by the tests. Where Python and Node
do the same it is said once. "Streamed" shows the head and what follows the answer's last words; the mock has said two words where an
answer breaks off. A refusal comes before the first word.

No cell shows success for an answer that is not whole.
"""


def table():
    text = STORY
    for surface in PATHS:
        text += f"\n## {TITLES[surface]}\n\n"
        text += "| ending | streamed | its clients | whole | its clients |\n| --- | --- | --- | --- | --- |\n"
        for name, wire, python, node, whole_wire, whole_python, whole_node in rows(surface):
            cells = [name, wire, both(python, node), whole_wire, both(whole_python, whole_node)]
            text += f"| {' | '.join(cells)} |\n"
    return text


def both(python, node):
    return python if python == node else f"Python: {python}; Node: {node}"


if __name__ == "__main__":
    TABLE.write_text(table())
