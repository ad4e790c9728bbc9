"""A lastword of its own for a test: on a free port, in memory where nothing else is said, in an empty folder, gone with the test."""

import os
import re
import subprocess
import tempfile
import threading
from pathlib import Path

BINARY = os.environ.get("LASTWORD_BIN") or Path(__file__).parents[2] / "target/debug/lastword"


class Gateway:
    def __init__(self, config="", **variables):
        self.config, self.variables = config, variables

    def __enter__(self):
        self.home = tempfile.TemporaryDirectory(prefix="lastword-clients-")
        if self.config:
            (Path(self.home.name) / "lastword.toml").write_text(self.config)
        self.start()
        return self

    def start(self):
        self.child = subprocess.Popen(
            [str(BINARY), "serve", "--listen", "127.0.0.1:0"],
            cwd=self.home.name,
            env={"LASTWORD_STORE__ENGINE": "memory", **self.variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        # So that it can go on to log, once it listens.
        self.log = threading.Thread(target=self.child.stderr.read, daemon=True)
        said = []
        for line in self.child.stderr:
            said.append(line)
            if found := re.search(r"listening on (http:\S+)", line):
                self.url = found[1]
                self.log.start()
                return
        self.__exit__()
        raise RuntimeError(f"{BINARY} did not start; `cargo build` makes it. It said: {''.join(said)}")

    def restart(self):
        """Killed with SIGKILL, and another in its place, at another address."""
        self.kill()
        self.start()

    def kill(self):
        self.child.kill()
        self.child.wait()
        if self.log.is_alive():
            self.log.join()
        self.child.stderr.close()

    def __exit__(self, *_):
        self.kill()
        self.home.cleanup()
