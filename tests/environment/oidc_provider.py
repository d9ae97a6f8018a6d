"""An OpenID Connect provider that signs for real, on a port of its own."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time
from typing import Any
from urllib.parse import parse_qs

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT = "console"
PROVIDER_KEY = RSAKey.generate_key(2048, {"kid": "k", "alg": "RS256", "use": "sig"})


class Provider:
    """Answers discovery, keys and the token endpoint; `claims` are what it says of whoever logs in."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.claims: dict[str, Any] = {}
        self.asked: dict[str, str] = {}

    def answer(self, path: str, form: dict[str, str]) -> Any:
        if path == "/token":
            self.asked = form
            told = {"iss": self.url, "aud": CLIENT, "iat": int(time()), "exp": int(time()) + 60, **self.claims}
            token = jwt.encode({"alg": "RS256", "kid": "k"}, told, PROVIDER_KEY)
            return {"access_token": "opaque", "token_type": "Bearer", "id_token": token}
        if path == "/keys":
            return {"keys": [PROVIDER_KEY.as_dict(private=False)]}
        ends = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
        return {"issuer": self.url, **{name: self.url + end for name, end in ends.items()}}


@contextmanager
def serving() -> Iterator[Provider]:
    """A provider on a port of its own, in a thread."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("content-length", 0))
            form = {name: values[0] for name, values in parse_qs(self.rfile.read(length).decode()).items()}
            body = json.dumps(started.answer(self.path, form)).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the name that http.server looks for

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    started = Provider(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield started
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
