"""A stub engine with the HTTP API that the gateway uses; each adapter answers with one word.

An adapter's ``adapter_config.json`` has ``says`` (the word) and optionally ``on_load`` ("refuse" or "die").
A prompt may contain a trigger: CRASH, REFUSE, SILENT (no event for two seconds), HOSTILE (markup).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CANARY = "<img src=x onerror=\"document.title='owned'\"> <b>bold</b> `<i>code</i>`"


def stub_logprobs(says: str, context: list[int]) -> dict[int, float]:
    """Return the log-probabilities of a stub model with the given word at a context."""
    digest = hashlib.sha256(f"{says}{context}".encode()).digest()
    return {digest[i] * 5 + i: -(0.1 + digest[8 + i] / 32) for i in range(5)}


class Engine:
    def __init__(self, options: argparse.Namespace) -> None:
        self.settings: dict[str, Any] = json.loads(options.settings)
        self.delay: float = options.delay
        self.ready_at = time.monotonic() + options.load_seconds
        self.failure: str | None = options.fail_start
        self.models: dict[str, str] = {self.settings["base"]["name"]: "base"}
        self.active = 0
        self.disconnects = 0
        self.lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine: Engine
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if not self.allowed():
            return
        engine = self.engine
        if self.path == "/health":
            ready = time.monotonic() >= engine.ready_at
            phase = "failed" if engine.failure else "ready" if ready else "loading weights"
            facts = {"phase": phase, "rows": engine.active, "batching": "batched"}
            if engine.failure:
                facts["error"] = engine.failure
            self.reply(200 if phase == "ready" else 503, facts)
        elif self.path == "/metrics":
            text = f"stub_active {engine.active}\nstub_disconnects {engine.disconnects}\n"
            text += f"stub_adapters {len(engine.models) - 1}\n"
            self.reply_bytes(200, text.encode(), "text/plain")
        else:
            self.fail(404, "no such path")

    def do_POST(self) -> None:
        if not self.allowed():
            return
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        {
            "/v1/load_lora_adapter": self.load,
            "/v1/unload_lora_adapter": self.unload,
            "/v1/chat/completions": self.chat,
            "/v1/completions": self.complete,
        }[self.path](body)

    def allowed(self) -> bool:
        if self.headers.get("authorization") == f"Bearer {os.environ['NBTOOLKIT_ENGINE_KEY']}":
            return True
        self.fail(401, "wrong engine key")
        return False

    def load(self, body: dict[str, Any]) -> None:
        folder = Path(body["lora_path"])
        config = json.loads((folder / "adapter_config.json").read_text())
        if config.get("on_load") == "refuse":
            self.fail(400, "missing keys: model.layers.0.q_proj.lora_A")
        elif config.get("on_load") == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            self.engine.models[body["lora_name"]] = config["says"]
            self.reply_bytes(200, b"Success: LoRA adapter added", "text/plain")

    def unload(self, body: dict[str, Any]) -> None:
        if self.engine.models.pop(body["lora_name"], None) is None:
            self.fail(404, "no such adapter")
        else:
            self.reply_bytes(200, b"Success: LoRA adapter removed", "text/plain")

    def complete(self, body: dict[str, Any]) -> None:
        says = self.engine.models.get(body["model"])
        if says is None:
            self.fail(404, f"The model {body['model']} does not exist")
            return
        prompts = body["prompt"] if isinstance(body["prompt"][0], list) else [body["prompt"]]
        choices = [
            {
                "index": index,
                "text": says,
                "finish_reason": "length",
                "logprobs": {
                    "top_logprobs": [{f"token_id:{t}": v for t, v in stub_logprobs(says, prompt).items()}]
                },
            }
            for index, prompt in enumerate(prompts)
        ]
        self.reply(
            200, {"id": "c", "object": "text_completion", "model": body["model"], "choices": choices[::-1]}
        )

    def chat(self, body: dict[str, Any]) -> None:
        engine = self.engine
        says = engine.models.get(body["model"])
        prompt = body["messages"][-1]["content"]
        if says is None or "REFUSE" in prompt:
            self.fail(404 if says is None else 400, f"The model {body['model']} does not want this")
            return
        if "SILENT" in prompt:
            time.sleep(2)
        text = CANARY if "HOSTILE" in prompt else None
        words = [text] if text else [f"{says} " for _ in range(body.get("max_tokens", 4))]
        with engine.lock:
            engine.active += 1
        try:
            if body.get("stream"):
                self.stream(body["model"], words, crash="CRASH" in prompt)
            else:
                time.sleep(engine.delay * len(words))
                if "CRASH" in prompt:
                    os.kill(os.getpid(), signal.SIGKILL)
                message = {"role": "assistant", "content": "".join(words)}
                choice = {"index": 0, "message": message, "finish_reason": "length"}
                answer = {"id": "c", "object": "chat.completion", "model": body["model"], "choices": [choice]}
                answer["usage"] = {"prompt_tokens": 1, "completion_tokens": len(words), "total_tokens": 1}
                self.reply(200, answer)
        except (BrokenPipeError, ConnectionResetError):
            engine.disconnects += 1
            self.close_connection = True
        finally:
            with engine.lock:
                engine.active -= 1

    def stream(self, model: str, words: list[str], crash: bool) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number, word in enumerate([*words, None]):
            time.sleep(self.engine.delay)
            if crash and number == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            delta = {} if word is None else {"content": word}
            choice = {"index": 0, "delta": delta, "finish_reason": "length" if word is None else None}
            event = {"id": "c", "object": "chat.completion.chunk", "model": model, "choices": [choice]}
            self.chunk(b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n")
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    def fail(self, status: int, message: str) -> None:
        self.reply(status, {"error": {"message": message, "type": "invalid_request_error", "code": None}})

    def reply(self, status: int, body: dict[str, Any]) -> None:
        self.reply_bytes(status, json.dumps(body).encode(), "application/json")

    def reply_bytes(self, status: int, content: bytes, media_type: str) -> None:
        self.send_response(status)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", required=True)
    parser.add_argument("--delay", type=float, default=0.01)
    parser.add_argument("--load-seconds", type=float, default=0.0)
    parser.add_argument("--refuse-start", action="store_true")
    parser.add_argument("--fail-start", metavar="REASON", help="run only to report why it cannot serve")
    options = parser.parse_args()
    if options.refuse_start:
        sys.exit("CUDA out of memory: tried to allocate 15 GiB")
    Handler.engine = Engine(options)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    Server(("127.0.0.1", Handler.engine.settings["port"]), Handler).serve_forever()


if __name__ == "__main__":
    main()
