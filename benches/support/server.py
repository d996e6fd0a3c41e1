"""A cllm server for the benches in Python: on a free port, and ended with the block that it serves."""

import http.client
import signal
import subprocess
import sys
import threading


class Server:
    """`command`: the program and its flags, without a port. `ended_by`: the signal at the end of the block."""

    def __init__(self, command, ended_by=signal.SIGTERM):
        self.ended_by = ended_by
        command = [*command, "--port", "0", "--log-format", "json"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "listening on" in line:
                address = line.split("listening on http://")[1].split('"')[0]
                self.host, port = address.rsplit(":", 1)
                self.port = int(port)
                break
        else:
            sys.exit("the server didn't start")
        # The rest of the log is read and dropped, so that the server never blocks on writing it.
        threading.Thread(target=lambda: [None for _ in self.process.stderr], daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(self.ended_by)
        self.process.wait()

    def connect(self, seconds):
        """A new connection, on which no read takes longer than `seconds`."""
        return http.client.HTTPConnection(self.host, self.port, timeout=seconds)

    def get(self, path, headers=None):
        """The body of the answer, as text."""
        connection = self.connect(60)
        connection.request("GET", path, headers=headers or {})
        text = connection.getresponse().read().decode()
        connection.close()
        return text
