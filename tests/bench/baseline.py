"""The baseline server, like a common template: one thread and one ``generate`` per request.

The adapter stays unmerged, as in that template. Tokens are streamed one by one, so its time to first
token is not made worse than it is. Run: ``python -m tests.bench.baseline BASE ADAPTER PORT DTYPE``.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections.abc import Iterator
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.generation.streamers import BaseStreamer


class TokenStream(BaseStreamer):
    """Queue every generated token; the first ``put`` has the prompt."""

    def __init__(self) -> None:
        self.tokens: queue.Queue[int | None] = queue.Queue()
        self.seen_prompt = False

    def put(self, value: torch.Tensor) -> None:
        if self.seen_prompt:
            self.tokens.put(int(value.reshape(-1)[0]))
        self.seen_prompt = True

    def end(self) -> None:
        self.tokens.put(None)


def app_for(base: str, adapter: str, dtype: str) -> FastAPI:
    """Load the model; return the app that serves it."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, dtype))
    model = PeftModel.from_pretrained(model, adapter, autocast_adapter_dtype=False).eval()
    app = FastAPI()

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"phase": "ready"}

    @app.post("/v1/chat/completions")
    def chat(body: dict[str, Any]) -> StreamingResponse:
        inputs = tokenizer.apply_chat_template(
            body["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        stream = TokenStream()
        arguments = {"max_new_tokens": body["max_tokens"], "do_sample": False, "streamer": stream}
        threading.Thread(target=model.generate, kwargs={**inputs, **arguments}, daemon=True).start()

        def events() -> Iterator[str]:
            while (token := stream.tokens.get()) is not None:
                piece = {"choices": [{"delta": {"content": tokenizer.decode([token])}}]}
                yield f"data: {json.dumps(piece)}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    return app


if __name__ == "__main__":
    uvicorn.run(app_for(sys.argv[1], sys.argv[2], sys.argv[4]), port=int(sys.argv[3]), log_level="warning")
