"""Every example that lastword prints is run as it stands there: of the README, of `docs/`, of each `--help`.

What is changed is the address, what only the reader can know (ids, the names of files), and how long it takes: `swapped` fails where
what it changes is not there. A block that is no example is named in `SHAPES`, with the reason; whatever is not known is a failure.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import unittest
from pathlib import Path

from gateway import BINARY, Gateway

ROOT = Path(__file__).parents[2]
ADDRESS = "127.0.0.1:8080"
CONFIG = """
default_model = "fast"
[server]
cors = ["https://app.example.com"]
[store]
engine = "disk"
[backends.mock]
kind = "mock"
delay = "1ms"
text = "Rivers carry water, and now and then a story."
[models.fast]
route = ["mock/words"]
"""
TEXT = tomllib.loads(CONFIG)["backends"]["mock"]["text"]

# Blocks that show a shape, by how they begin.
SHAPES = {
    "   clients ": "a drawing",
    "src/": "a drawing",
    "BACKEND  REACHABLE": "what a command printed",
}


def blocks(path):
    """The language and the text of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / path).read_text(), re.DOTALL | re.MULTILINE)


def of(path, language):
    return [text for name, text in blocks(path) if name == language]


def swapped(text, **pairs):
    """With each `old=(was, is)` put in; it must be there."""
    for was, new in pairs.values():
        if was not in text:
            raise AssertionError(f"{was!r} is not in {text!r}")
        text = text.replace(was, new)
    return text


class Examples(unittest.TestCase):
    def setUp(self):
        self.gateway = self.enterContext(Gateway(CONFIG, LASTWORD_STORE__ENGINE="disk"))
        self.home = Path(self.gateway.home.name)
        self.address = self.gateway.url.removeprefix("http://")
        tools = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="lastword-tools-")))
        (tools / "lastword").symlink_to(Path(BINARY).resolve())
        (tools / "systemctl").symlink_to(shutil.which("true"))
        self.environment = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "LASTWORD_URL": self.gateway.url,
            "LASTWORD_API_KEY": "a key of thirty-two characters or more",
            "LOCAL_KEY": "a key",
        }

    def shell(self, line):
        """What a command prints. It must succeed, each part of it."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line.replace(ADDRESS, self.address)],
            cwd=self.home, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        )
        self.assertEqual(done.returncode, 0, f"{line}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def python(self, script):
        self.assertIn(f"http://{ADDRESS}", script)
        done = subprocess.run(
            [sys.executable, "-c", script.replace(f"http://{ADDRESS}", self.gateway.url)],
            cwd=self.home, capture_output=True, text=True, timeout=60,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def ask(self, **prompt):
        """A stream's id."""
        body = json.dumps({"prompt": "x", **prompt})
        return json.loads(self.shell(f"curl -sf {ADDRESS}/v1/streams -d '{body}'"))["id"]

    def test_readme_python(self):
        scripts = of("README.md", "python")
        self.assertEqual(len(scripts), 4)
        for script in scripts:
            with self.subTest(script):
                self.assertEqual(self.python(script).rstrip("\n"), TEXT)

    def test_readme_shell(self):
        [run, use] = of("README.md", "sh")
        # It builds and serves; the build is what these tests run on.
        self.assertEqual(run, "cargo run --release -- serve\n")
        chat, text, created, events = (self.shell(line) for line in use.splitlines())
        self.assertEqual((chat.rstrip("\n"), text), (TEXT, TEXT))
        self.assertRegex(json.loads(created)["id"], "^[0-9a-f]{32}$")
        self.assertTrue(events.startswith("event: start\n"))
        self.assertIn('"status":"completed"', events)

    def test_readme_proof(self):
        """Asked, cut off, resumed; then killed and started again. On the mock, said as slowly as a model would."""
        [proof, killed] = of("README.md", "console")
        [serve, post, name, cut, resume, joined] = [line[2:] for line in proof.splitlines() if line.startswith("$ ")]
        self.assertTrue(serve.startswith("lastword serve --backend") and serve.endswith("&"))
        printed = re.search(r'"id":"([0-9a-f]{32})"', proof)[1]
        words = " ".join(str(n) for n in range(40))
        body = {"model": "mock/words", "backend_options": {"text": words, "delay": "20ms"}}
        asked = re.search(r"-d '(.*)'", post)[1]
        self.assertEqual(list(json.loads(asked)), ["prompt", "temperature", "max_tokens"])
        told = json.dumps({"prompt": json.loads(asked)["prompt"], **body})
        id = json.loads(self.shell(swapped(post, body=(asked, told))))["id"]
        name = swapped(name, id=(printed, id))
        self.shell(swapped(f"{name}\n{cut}", time=("timeout 1.2", "! timeout 0.3")))
        first = (self.home / "first").read_text()
        seen = re.findall(r"^id: (\d+)\n\n", first, re.MULTILINE)[-1]
        first = first[: first.rindex("\n\n") + 2]  # as every client does: an event is whole or was not there
        (self.home / "first").write_text(first)
        resume = swapped(resume, wait=("sleep 8", "true"), id=("Last-Event-ID: 13", f"Last-Event-ID: {seen}"))
        both = self.shell(f"{name}\n{resume} >/dev/null\n{joined}")
        self.assertEqual(both, words)
        self.assertNotEqual(first.count("data:"), 0)

        [again] = [line[2:] for line in killed.splitlines() if line.startswith("$ ")]
        body["backend_options"]["delay"] = "50ms"
        id = self.ask(**body)
        events = f"{name.split('=')[0]}={ADDRESS}/v1/streams/{id}/events"
        self.shell(f"{events}\n! timeout 0.3 curl -sN $EVENTS >third")
        seen = re.findall(r"^id: (\d+)\n\n", (self.home / "third").read_text(), re.MULTILINE)[-1]
        self.gateway.restart()
        self.address = self.gateway.url.removeprefix("http://")
        events = f"{name.split('=')[0]}={ADDRESS}/v1/streams/{id}/events"
        rest = self.shell(f"{events}\n{swapped(again, id=('Last-Event-ID: 26', f'Last-Event-ID: {seen}'))}")
        self.assertIn('event: end\ndata: {"status":"interrupted","error":{"code":"interrupted"', rest)

    def test_configurations(self):
        for path in ["README.md", *(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md"))]:
            for text in of(path, "toml"):
                with self.subTest(text):
                    secret = self.home / "webhook"
                    secret.write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
                    (self.home / "other.toml").write_text(text.replace("/run/secrets/webhook", str(secret)))
                    self.shell("lastword check --config other.toml")

    def test_api(self):
        [body] = of("docs/api.md", "json")
        self.assertEqual(json.loads(self.shell(f"curl -sf {ADDRESS}/v1/streams -d '{body}'"))["model"], "fast")
        [template] = of("docs/api.md", "markdown")
        (self.home / "prompts").mkdir()
        (self.home / "prompts/say.md").write_text(template)
        self.assertIn("say", self.shell("lastword prompts"))
        [text, ndjson] = [self.shell(line) for line in of("docs/api.md", "sh")[0].splitlines()]
        self.assertEqual((text, ndjson), (TEXT, TEXT))
        shapes = [text for language, text in blocks("docs/api.md") if language == ""]
        for data in re.findall(r"^data: (.*)$", "\n".join(shapes), re.MULTILINE):
            json.loads(data)
        ticket = json.loads(self.shell(f"ID={self.ask()}\n{of('docs/api.md', 'sh')[1]}"))
        self.assertEqual(list(ticket), ["events_url"])  # where nobody needs one

    def test_operations(self):
        [check, keys, remove, admin] = of("docs/operations.md", "sh")
        self.shell(swapped(keys, path=("lastword.toml", "keys.toml")))
        self.assertIn("keys.toml", self.shell("lastword check --config keys.toml"))
        self.shell(swapped(check, path=("/etc/lastword.toml", "lastword.toml")))
        running = self.ask(model="mock/words", backend_options={"first": "1m"})
        self.assertIn(running, self.shell("lastword store ls --running"))
        self.shell(remove)
        self.assertNotIn(running, self.shell("lastword store ls"))
        self.assertEqual(json.loads(self.shell(swapped(admin, quiet=("curl", "curl -sf"))))["engine"], "disk")

    def test_every_block_is_known(self):
        for file in [ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")]:
            path = str(file.relative_to(ROOT))
            for language, text in blocks(path):
                shape = any(text.startswith(begin) for begin in SHAPES)
                elsewhere = path in ("docs/proxies.md", "docs/applications.md")  # tests/proxies, tests/library and tests/ai-sdk
                tested = elsewhere or path in ("README.md", "docs/api.md", "docs/operations.md") and (language or path == "docs/api.md")
                self.assertTrue(shape or tested or language == "toml", f"{path}: a block that nobody runs:\n{text}")

    def test_help(self):
        """Each line of the examples in each command's help."""
        commands = [[], ["serve"], ["check"], ["prompts"], ["chat"], ["tail"], ["bench"], ["doctor"], ["completions"], ["store"], ["keys"]]
        listed = re.findall(r"^  (\w+) ", self.shell("lastword --help").split("Options:")[0], re.MULTILINE)
        self.assertEqual({*listed} - {"help"}, {name for [name] in commands[1:]})
        (self.home / "repository").mkdir()
        self.shell("git init -q repository && cd repository && echo a >a && git add a && echo b >a")
        for folder in [".local/share/bash-completion/completions", ".zfunc", ".config/fish/completions"]:
            (self.home / folder).mkdir(parents=True)
        for command in commands:
            text = self.shell(f"lastword {' '.join(command)} --help").split("Example", 1)[1]
            lines = [re.split(r" {3,}", line.strip())[0] for line in text.splitlines()[1:] if line.startswith("  ")]
            self.assertNotEqual(lines, [])
            for line in lines:
                with self.subTest(line):
                    self.example(line)

    def example(self, line):
        if "--running" in line:
            self.ask(model="mock/words", backend_options={"first": "1m"})
        # What only the reader knows.
        if "01a202f9e96a73189eefcb6605ecdbc2" in line:
            slow = self.ask(model="mock/words", backend_options={"delay": "50ms"})  # of which there is something to come
            line = swapped(line, id=("01a202f9e96a73189eefcb6605ecdbc2", slow))
        if line.startswith("lastword store") and " ID" in line:
            line = swapped(line, id=(" ID", f" {self.ask()}"))
        for was, new in {
            "/var/lib/lastword/data": "data",
            "/etc/lastword.toml": "lastword.toml",
            "https://answers.example.com": self.gateway.url,
            "git diff": "cd repository; git diff",
        }.items():
            line = line.replace(was, new)
        if line.startswith("lastword serve"):
            return self.serves(line)
        if line.startswith("lastword bench"):
            head, pipe, tail = line.replace("--duration 1m", "--duration 1s").partition(" |")
            line = f"{head}{'' if '--duration' in head else ' --duration 1s'}{pipe}{tail}"
        if line.startswith("lastword doctor"):
            line = f"{line} --patience 1s" if "--patience" not in line else line.replace("5m", "1s")
        said = self.shell(line)
        if " > " in line:
            said = (self.home / line.split("~/")[1]).read_text()
            self.assertIn("lastword", said)
        elif "chat" in line:
            self.assertEqual(said.rstrip("\n"), TEXT)
        elif " --from 13" not in line and "store rm" not in line:  # behind it may be nothing; it says nothing
            self.assertNotEqual(said, "", line)

    def serves(self, line):
        """It listens, and is ended."""
        line = line.replace("127.0.0.1:9000", "127.0.0.1:0") if "--listen" in line else f"{line} --listen 127.0.0.1:0"
        other = self.home / "other"
        other.mkdir(exist_ok=True)
        environment = {**self.environment, "GROQ_API_KEY": "a key", "LASTWORD_STORE__ENGINE": "memory"}
        with subprocess.Popen(
            ["bash", "-c", f"exec {line}"], cwd=other, env=environment, stderr=subprocess.PIPE, text=True
        ) as child:
            said = ""
            for text in child.stderr:
                said += text
                if "listening on http" in text:
                    break
            child.kill()
            self.assertIn("listening on http", said)


if __name__ == "__main__":
    unittest.main()
