"""HTTP routes of the engine: the OpenAI API on loopback, for the gateway only."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from ...openai_format import ApiError
from .engine import Engine
from .openai_responses import GenerationStream
from .openai_schema import ChatRequest, CompletionRequest, LoadAdapter, UnloadAdapter
from .tokenization import chat_prompt, completion_prompts

_OPEN = {"/health"}
"""Paths that need no key: the probe's response holds no secrets."""


def build(engine: Engine, key: str) -> FastAPI:
    """Return the application; every path except ``/health`` requires ``Authorization: Bearer <key>``."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        engine.start()
        yield
        engine.stop()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    created = int(time.time())

    @app.middleware("http")
    async def check_key(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        given = request.headers.get("authorization", "")
        if request.url.path not in _OPEN and not secrets.compare_digest(
            given.encode(), f"Bearer {key}".encode()
        ):
            return ApiError("Invalid engine key.", status=401, kind="authentication_error").response()
        return await call_next(request)

    @app.exception_handler(ApiError)
    async def refuse(_: Request, error: ApiError) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def refuse_body(_: Request, error: RequestValidationError) -> Response:
        problems = error.errors()[:3]
        fields = [".".join(str(part) for part in problem["loc"] if part != "body") for problem in problems]
        pairs = zip(fields, problems, strict=True)
        message = "; ".join(f"{field or 'body'}: {problem['msg']}" for field, problem in pairs)
        return ApiError(message, param=fields[0] or None, code="invalid_value").response()

    @app.get("/health")
    async def health() -> Response:
        facts = engine.health()
        return JSONResponse(facts, status_code=200 if facts["phase"] == "ready" else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return PlainTextResponse(engine.metrics())

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        base = engine.config.base
        common = {"object": "model", "created": created, "owned_by": "nbtoolkit"}
        common["max_model_len"] = engine.loaded.max_length
        data = [{"id": base.name, **common, "root": str(base.path), "parent": None}]
        for name, folder in engine.served.items():
            data.append({"id": name, **common, "root": folder, "parent": base.name})
        return {"object": "list", "data": data}

    @app.post("/v1/load_lora_adapter")
    async def load_adapter(body: LoadAdapter) -> Response:
        await asyncio.to_thread(engine.load_adapter, body.lora_name, Path(body.lora_path))
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' added successfully.")

    @app.post("/v1/unload_lora_adapter")
    async def unload_adapter(body: UnloadAdapter) -> Response:
        await asyncio.to_thread(engine.unload_adapter, body.lora_name)
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")

    @app.post("/v1/chat/completions")
    async def chat(body: ChatRequest, request: Request) -> Response:
        loaded, adapter = engine.loaded, engine.adapter_of(body.model)
        prompts = [chat_prompt(loaded, body)]
        wanted = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
        logprobs = (body.top_logprobs or 0) if body.logprobs else None
        return await _respond(GenerationStream(engine, body, adapter, prompts, wanted, logprobs), request)

    @app.post("/v1/completions")
    async def complete(body: CompletionRequest, request: Request) -> Response:
        loaded, adapter = engine.loaded, engine.adapter_of(body.model)
        prompts = completion_prompts(loaded, body)
        generation = GenerationStream(engine, body, adapter, prompts, body.max_tokens, body.logprobs)
        return await _respond(generation, request)

    return app


async def _respond(generation: GenerationStream, request: Request) -> Response:
    """Stream, or wait for the complete response and cancel it if the client disconnects."""
    if generation.request.stream:
        return StreamingResponse(generation.chunks(), media_type="text/event-stream")
    response = asyncio.ensure_future(generation.response())
    disconnected = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({response, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if not response.done():
            return Response(status_code=499)  # the client has disconnected
        return JSONResponse(response.result())
    finally:
        disconnected.cancel()
        response.cancel()
        generation.close()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
