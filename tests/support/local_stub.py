"""A stub of the server on a share: only the standard library, ready in a tenth of a second.

It writes a heartbeat, answers ``/health``, prints lines and exits on request. The releases
of this module have it as their code, so a :class:`LocalTarget` runs it like the real server.
"""

from __future__ import annotations

import hashlib
import textwrap
from pathlib import Path

from nbtoolkit import LocalTarget
from nbtoolkit.serving import share_layout
from nbtoolkit.serving.release import Release, ServedCode

PROGRAM = textwrap.dedent("""
    import json, os, signal, sys, threading, time
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from pathlib import Path

    mount, port = Path(sys.argv[2]), int(sys.argv[4])
    if os.environ.get("DOUBLE_FAILS"):
        key = Path(os.environ["NBTOOLKIT_API_KEY_FILE"]).read_text()
        print("Traceback: no such model; key", key, flush=True)
        sys.exit(7)
    time.sleep(float(os.environ.get("DOUBLE_WAITS", "0")))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/die":
                print("about to die", flush=True)
                os._exit(9)
            if self.path.startswith("/print/"):
                for number in range(int(self.path.split("/")[2])):
                    print(f"line {number:07d} " + "x" * 80, flush=True)
            content = json.dumps({"phase": "ready", "pid": os.getpid(), "env": dict(os.environ),
                                  "path": sys.path, "cwd": os.getcwd()}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    signal.signal(signal.SIGTERM, lambda *_: (print("asked to end", flush=True), os._exit(0)))
    if os.environ.get("DOUBLE_STUBBORN"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print("double listens on", port, flush=True)
    server.serve_forever()
""")


def release(target: LocalTarget, variant: str = "") -> Release:
    """Write the stub to the target's share and return a release with it; a variant is new code."""
    program = PROGRAM + f"# {variant}\n"
    sha256 = hashlib.sha256(program.encode()).hexdigest()
    package = target.mount / share_layout.code_path(sha256) / share_layout.CODE_PACKAGE
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(program)
    return Release(base=None, code=ServedCode(sha256=sha256))


def workspace_of(folder: Path) -> Path:
    """Create a workspace and return its folder."""
    (folder / "infra").mkdir(parents=True, exist_ok=True)
    return folder
