"""Keys and tokens by their usual clients: OpenAI's and Anthropic's own, and tokens that PyJWT makes, by keys that are fetched."""

import datetime
import json
import subprocess
import threading
import unittest
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anthropic
import jwt
import openai
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from gateway import BINARY, Gateway

HI = [{"role": "user", "content": "say it"}]


def new_key(name):
    """By the command: the key, and the section."""
    said = subprocess.run([BINARY, "keys", "new", name, "--json"], capture_output=True, text=True, check=True)
    made = json.loads(said.stdout)
    return made["key"], f"[auth.keys.{made['name']}]\nhash = \"{made['hash']}\"\n"


class Keys(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.key, section = new_key("web")
        cls.other, more = new_key("job")
        cls.gateway = cls.enterClassContext(Gateway(section + more))

    def openai(self, key):
        return openai.OpenAI(base_url=f"{self.gateway.url}/v1", api_key=key, max_retries=0)

    def anthropic(self, key):
        return anthropic.Anthropic(base_url=self.gateway.url, api_key=key, max_retries=0)

    def test_openai(self):
        client = self.openai(self.key)
        chat = client.chat.completions.create(model="mock/echo", messages=HI)
        self.assertEqual(chat.choices[0].message.content, "say it")
        self.assertIn("mock/echo", [model.id for model in client.models.list()])
        answer = client.responses.create(model="mock/echo", input="say it")
        self.assertEqual(client.responses.retrieve(answer.id).output_text, "say it")
        with self.assertRaises(openai.NotFoundError):
            self.openai(self.other).responses.retrieve(answer.id)

    def test_anthropic(self):
        message = self.anthropic(self.key).messages.create(model="mock/echo", max_tokens=9, messages=HI)
        self.assertEqual(message.content[0].text, "say it")
        with anthropic.Anthropic(base_url=self.gateway.url, auth_token=self.key, api_key=None) as client:
            self.assertEqual(client.messages.create(model="mock/echo", max_tokens=9, messages=HI).content[0].text, "say it")

    def test_a_wrong_key_is_the_error_that_each_client_has_for_it(self):
        for key in ["wrong", self.key[:-1], self.key + "x"]:
            with self.assertRaises(openai.AuthenticationError) as refused:
                self.openai(key).chat.completions.create(model="mock/echo", messages=HI)
            self.assertIn("[auth.keys]", str(refused.exception))
            self.assertNotIn(key, str(refused.exception).replace("Bearer KEY", ""))
            with self.assertRaises(anthropic.AuthenticationError) as refused:
                self.anthropic(key).messages.create(model="mock/echo", max_tokens=9, messages=HI)
            self.assertEqual(refused.exception.body["error"]["type"], "authentication_error")

    def test_the_command_line(self):
        def chat(**variables):
            line = [BINARY, "chat", "say it", "--model", "mock/echo", "--url", self.gateway.url]
            return subprocess.run(line, env=variables, capture_output=True, text=True, timeout=30)

        good = chat(LASTWORD_API_KEY=self.key)
        self.assertEqual((good.returncode, good.stdout.strip()), (0, "say it"), good.stderr)
        bad = chat()
        self.assertNotEqual(bad.returncode, 0)
        self.assertIn("key", bad.stderr)


class KeySet:
    """Serves public keys, which can be exchanged."""

    def __enter__(self):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler):
                body = json.dumps({"keys": self.keys}).encode()
                handler.send_response(200)
                handler.send_header("content-length", str(len(body)))
                handler.end_headers()
                handler.wfile.write(body)

            def log_message(self, *_):
                pass

        self.keys = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/.well-known/jwks.json"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def token(key, algorithm, headers=None, **claims):
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=5)
    said = {"iss": "https://id.example", "aud": "lastword", "sub": "u-1", "exp": soon, **claims}
    return jwt.encode({name: value for name, value in said.items() if value is not None}, key, algorithm, headers)


class Tokens(unittest.TestCase):
    def status(self, gateway, bearer):
        request = urllib.request.Request(f"{gateway.url}/v1/streams", headers={"authorization": f"Bearer {bearer}"})
        try:
            with urllib.request.urlopen(request) as response:
                return response.status
        except urllib.error.HTTPError as error:
            return error.code

    def test_keys_that_are_fetched(self):
        rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        ec_key = ec.generate_private_key(ec.SECP256R1())
        ed_key = ed25519.Ed25519PrivateKey.generate()
        weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
        algorithms = {"RS256": rsa_key, "ES256": ec_key, "EdDSA": ed_key}
        with KeySet() as keys:
            config = f'[auth.jwt]\nissuer = "https://id.example"\naudience = "lastword"\njwks_url = "{keys.url}"\n'
            for algorithm, key in {**algorithms, "RS256 ": weak}.items():
                made = jwt.get_algorithm_by_name(algorithm.strip()).to_jwk(key.public_key(), as_dict=True)
                keys.keys.append({**made, "kid": algorithm, "use": "sig", "alg": algorithm.strip()})
            with Gateway(config) as gateway:
                for algorithm, key in algorithms.items():
                    with self.subTest(algorithm):
                        good = token(key, algorithm, {"kid": algorithm})
                        self.assertEqual(self.status(gateway, good), 200)
                        self.assertEqual(self.status(gateway, good[:-8] + "AAAAAAAA"), 401)
                        self.assertEqual(self.status(gateway, token(key, algorithm, {"kid": algorithm}, aud="x")), 401)
                        self.assertEqual(self.status(gateway, token(key, algorithm, {"kid": algorithm}, exp=None)), 401)
                self.assertEqual(self.status(gateway, token(rsa_key, "RS384", {"kid": "RS256"})), 401)
                self.assertEqual(self.status(gateway, token(rsa_key, "PS256", {"kid": "RS256"})), 401)
                self.assertEqual(self.status(gateway, token(weak, "RS256", {"kid": "RS256 "})), 401)
                # And it stands where a key does, in a client that knows nothing of it.
                client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=token(ed_key, "EdDSA", {"kid": "EdDSA"}))
                chat = client.chat.completions.create(model="mock/echo", messages=HI)
                self.assertEqual(chat.choices[0].message.content, "say it")

    def test_keys_of_a_file(self):
        for key, algorithm in [
            (rsa.generate_private_key(public_exponent=65537, key_size=2048), "RS256"),
            (ec.generate_private_key(ec.SECP256R1()), "ES256"),
            (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
        ]:
            with self.subTest(algorithm), Gateway() as plain:
                pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
                path = f"{plain.home.name}/token.pem"
                with open(path, "wb") as file:
                    file.write(pem)
                with Gateway(f'[auth.jwt]\naudience = "lastword"\nkey_file = "{path}"\n') as gateway:
                    self.assertEqual(self.status(gateway, token(key, algorithm)), 200)
                    self.assertEqual(self.status(gateway, token(key, algorithm, sub=None)), 401)
                    # The public key, which everybody has, as the secret (which PyJWT itself refuses to sign with).
                    head, body, _ = token("x" * 32, "HS256").split(".")
                    mac = jwt.get_algorithm_by_name("HS256")
                    forged = mac.sign(f"{head}.{body}".encode(), pem)
                    self.assertEqual(self.status(gateway, f"{head}.{body}.{jwt.utils.base64url_encode(forged).decode()}"), 401)

    def test_a_secret(self):
        secret = "0123456789abcdef0123456789abcdef"
        with Gateway('[auth.jwt]\nsecret = "${TOKEN_SECRET}"\nowner = "email"\n', TOKEN_SECRET=secret) as gateway:
            good = token(secret, "HS256", aud=None, email="ada@example.com")
            self.assertEqual(self.status(gateway, good), 200)
            self.assertEqual(self.status(gateway, token(secret, "HS256", email="ada@example.com")), 401)  # for another
            self.assertEqual(self.status(gateway, token(secret, "HS256", aud=None)), 401)  # nobody's
            self.assertEqual(self.status(gateway, token(None, "none", aud=None, email="ada@example.com")), 401)


if __name__ == "__main__":
    unittest.main()
