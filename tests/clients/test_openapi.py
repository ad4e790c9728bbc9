"""The API's description of itself: each of its examples is run, and schemathesis asks what it likes by it. Nothing that it says may be
wrong, and nothing that is asked may be the server's fault."""

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
import urllib.request
from pathlib import Path

import jsonschema
from gateway import Gateway

ADDRESS = "127.0.0.1:8080"
CONFIG = """
default_model = "mock/words"
[backends.mock]
kind = "mock"
delay = "1ms"
text = "Hm"
"""
ENVIRONMENT = {**os.environ, "LASTWORD_API_KEY": "whatever, while nobody needs one"}
# Examples that this server cannot fulfil, and why.
REFUSED = {"count_message_tokens": 404, "append_events": 409}  # the mock counts nothing, and generates by itself
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
]


class Described(unittest.TestCase):
    def setUp(self):
        self.gateway = self.enterContext(Gateway(CONFIG))
        with urllib.request.urlopen(f"{self.gateway.url}/openapi.json") as response:
            self.description = json.load(response)

    def shell(self, line):
        """What curl shows, its head first."""
        line = line.replace(ADDRESS, self.gateway.url.removeprefix("http://"))
        self.assertIn("curl ", line)
        line = line.replace("curl ", "curl -si --max-time 20 ", 1)
        done = subprocess.run(["bash", "-eu", "-c", line], capture_output=True, text=True, timeout=30, env=ENVIRONMENT)
        self.assertEqual(done.returncode, 0, f"{line}\n{done.stdout}\n{done.stderr}")
        head, _, body = done.stdout.partition("\n\n")
        status, *headers = head.splitlines()
        headers = dict(re.split(r":\s*", header.lower(), maxsplit=1) for header in headers)
        return int(status.split()[1]), headers, body

    def ended(self):
        """A stream that has ended."""
        _, _, state = self.shell(f"""curl {ADDRESS}/v1/streams -d '{{"prompt":"x"}}'""")
        id = json.loads(state)["id"]
        self.shell(f"curl -N {ADDRESS}/v1/streams/{id}/events")
        return id

    def test_every_example_is_answered_as_described(self):
        for path, item in self.description["paths"].items():
            for method, operation in item.items():
                name = operation["operationId"]
                with self.subTest(name):
                    line = operation["x-codeSamples"][0]["source"]
                    # Nothing else may be left to fill in.
                    status, headers, body = self.shell(f"ID={self.ended()}\n{line}" if "$ID" in line else line)
                    self.assertEqual(status // 100, REFUSED.get(name, 200) // 100, body)
                    self.holds(operation, status, headers, body)

    def holds(self, operation, status, headers, body):
        responses = operation["responses"]
        response = responses.get(str(status)) or responses["default"]
        content = response.get("content", {})
        kind = headers.get("content-type", "").split(";")[0]
        self.assertTrue(kind in content or not content or not body, f"{kind} is not among {list(content)}")
        if kind.endswith("json") and body:
            schema = {**content[kind]["schema"], "components": self.description["components"]}
            jsonschema.validate(json.loads(body), schema)

    def test_schemathesis_finds_nothing(self):
        full = os.environ.get("LASTWORD_TEST") == "full"
        command = [
            Path(sys.executable).parent / "schemathesis", "--no-color", "run", f"{self.gateway.url}/openapi.json",
            "--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing,stateful", "--seed", "1",
            "--max-examples", "100" if full else "10", "--request-timeout", "60", "--continue-on-failure",
            "--generation-database", "none",
        ]
        with tempfile.TemporaryDirectory(prefix="lastword-openapi-") as home:
            done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=1500 if full else 300)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        print(re.search(r"^ *\d+ generated.*", done.stdout, re.MULTILINE)[0].strip(), file=sys.stderr)


if __name__ == "__main__":
    unittest.main()
