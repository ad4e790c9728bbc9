"""A TCP relay between a client and lastword that cuts connections after so many bytes of the answer: as a tunnel does."""

import socket
import struct
import threading
from urllib.parse import urlsplit


class Relay:
    """Cuts the first connection after `cut` bytes towards the client; those that follow are let through."""

    def __init__(self, url, cut):
        parts = urlsplit(url)
        self.target, self.cut, self.connections = (parts.hostname, parts.port), cut, 0

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            left = self.cut if self.connections == 1 else None
            server = socket.create_connection(self.target)
            threading.Thread(target=self.pump, args=(client, server, None), daemon=True).start()
            threading.Thread(target=self.pump, args=(server, client, left), daemon=True).start()

    @staticmethod
    def pump(source, sink, left):
        """Carries bytes until one side has no more, or the cut."""
        try:
            while data := source.recv(65536):
                if left is not None:
                    data, left = data[:left], left - len(data)
                sink.sendall(data)
                if left is not None and left <= 0:
                    for side in [sink, source]:
                        side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        side.shutdown(socket.SHUT_RDWR)
                    break
        except OSError:
            pass
        finally:
            for side in [sink, source]:
                try:
                    side.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                side.close()
