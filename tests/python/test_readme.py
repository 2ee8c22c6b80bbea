"""The README's example does what it says."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_ten_lines_of_python_answer_line_by_line() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert "7777" in code and "await server.serve_forever()" in code
    code = code.replace("7777", "0").replace(
        "await server.serve_forever()",
        "print(server.sockets[0].getsockname()[1], flush=True); await server.serve_forever()",
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                answers = client.makefile("rb")
                client.sendall(b"one\ntwo\nthr")
                assert [answers.readline(), answers.readline()] == [b"ONE\n", b"TWO\n"]
                client.sendall(b"ee\n")
                assert answers.readline() == b"THREE\n"
        finally:
            server.kill()
