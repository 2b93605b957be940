"""The Gradio chat UI: chat with a served model, optionally next to the base model."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from html import escape
from typing import Any

import gradio as gr
from fastapi import FastAPI
from gradio.themes import Default

from .engine_proxy import EngineProxy
from .ui_chat import AnswerStreams, ChatFailed, ChatMessages, as_markdown, stream_text
from .ui_golden import golden_line, line_problem

FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
STYLE = """
.gradio-container{max-width:1280px!important;margin:0 auto!important}
#top{align-items:center;flex-wrap:nowrap}
#top h1{margin:0;font-size:1.3rem}
#top p{margin:.1rem 0 0;color:var(--body-text-color-subdued);font-size:.9rem}
#leave{text-align:right}
#leave button{padding:.45rem .9rem;border:1px solid var(--border-color-primary);border-radius:8px;
background:transparent;color:inherit;font:inherit;cursor:pointer}
#leave button:hover{background:var(--background-fill-secondary)}
footer{display:none!important}
@media(max-width:700px){.gradio-container .main{padding:.75rem!important}}
"""
GOLDEN_HELP = (
    "Edit the check: contains, not_contains, exact, regex, json_schema or number. Then save the line, and "
    "append it to golden.jsonl next to the adapter: nbtoolkit.add_golden(folder, line)."
)
_DOWNLOAD = """(line, problem) => {
  if (problem) return;
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([line + '\\n'], {type: 'application/json'}));
  link.download = 'golden.jsonl';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}"""
REDRAW_INTERVAL = 0.05
"""Seconds between two redraws of a streaming answer."""


def build_gradio_app(proxy: EngineProxy, is_key: Callable[[str], bool]) -> FastAPI:
    """Return an application with the UI mounted at its root, not started yet.

    ``is_key`` returns whether a word is the server's key, which is kept out of golden prompts.
    """
    application = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    theme = Default(primary_hue="blue", neutral_hue="slate", radius_size="lg", font=FONTS, font_mono=MONO)
    return gr.mount_gradio_app(
        application,
        _blocks(proxy, is_key),
        path="/",
        theme=theme,
        css=STYLE,
        footer_links=[],
        show_error=True,
        ssr_mode=False,
        mcp_server=False,
        run_history=False,
        enable_monitoring=False,
    )


def _blocks(proxy: EngineProxy, is_key: Callable[[str], bool]) -> gr.Blocks:
    events = _ChatEvents(proxy)
    with gr.Blocks(title="Chat · nbtoolkit", analytics_enabled=False, fill_height=True) as blocks:
        histories = gr.State([[], []])
        with gr.Row(elem_id="top"):
            headline = gr.HTML("<h1>Chat</h1>")
            gr.HTML('<form method="post" action="logout"><button>Log out</button></form>', elem_id="leave")
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=320):
                with gr.Row():
                    chat = _chatbot("Answers")
                    base_chat = _chatbot("Base model", visible=False)
                with gr.Row():
                    text = gr.Textbox(
                        placeholder="Write a message",
                        show_label=False, container=False, lines=1, max_lines=8, scale=8, autofocus=True,
                    )  # fmt: skip
                    send = gr.Button("Send", variant="primary", scale=1, min_width=90)
                    stop = gr.Button("Stop", variant="stop", scale=1, min_width=90, visible=False)
                with gr.Group(visible=False) as panel:
                    line = gr.Textbox(
                        label="Golden prompt", info=GOLDEN_HELP, lines=3, max_lines=12, interactive=True
                    )  # fmt: skip
                    problem = gr.HTML()
                    with gr.Row():
                        save = gr.Button("Save as a file", variant="primary")
                        cancel = gr.Button("Cancel")
            with gr.Column(scale=1, min_width=260):
                model = gr.Dropdown([], label="Model", allow_custom_value=False)
                compare = gr.Checkbox(False, label="Compare with base")
                with gr.Group():
                    max_tokens = gr.Slider(1, 2048, 256, step=1, label="Max tokens")
                    temperature = gr.Slider(0, 2, 0.7, step=0.05, label="Temperature")
                    top_p = gr.Slider(0.05, 1, 0.95, step=0.05, label="Top p")
                system = gr.Textbox(label="System message", lines=2, max_lines=6, placeholder="None")
                clear = gr.Button("New chat", variant="secondary")
                golden = gr.Button("Golden prompt…", variant="secondary")

        inputs = [text, model, compare, system, max_tokens, temperature, top_p, histories]
        outputs = [text, chat, base_chat, histories, send, stop]
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        for submitted in (text.submit, send.click):
            submitted(events.answer, inputs, outputs, **quiet)
        # Not Gradio's own ``cancels``: it sometimes shows an error when a stream is cancelled.
        stop.click(events.stop, None, None, queue=False, **quiet)
        for emptied in (clear.click, chat.clear, base_chat.clear, model.input):
            emptied(events.clear, None, outputs, queue=False, **quiet)
        model.input(events.label, model, chat, queue=False, **quiet)
        compare.change(events.show_base, compare, base_chat, queue=False, **quiet)
        asked = [system, max_tokens, histories]
        golden.click(_golden_line, asked, [panel, line, problem], queue=False, **quiet)
        cancel.click(lambda: gr.Group(visible=False), None, panel, queue=False, **quiet)
        checked = save.click(partial(_check_line, is_key), line, problem, queue=False, **quiet)
        checked.then(None, [line, problem], None, js=_DOWNLOAD, **quiet)
        # Refreshed when the list is opened: a timer's requests would keep the app from scaling to zero.
        shown = [model, headline, chat, base_chat]
        model.focus(events.models, model, shown, queue=False, **quiet)
        blocks.load(events.models, model, shown, queue=False, **quiet)
    blocks.queue(default_concurrency_limit=64, api_open=False)
    return blocks


def _chatbot(label: str, visible: bool = True) -> gr.Chatbot:
    return gr.Chatbot(
        label=label, visible=visible, height="calc(100vh - 190px)", min_height=320, buttons=[],
        sanitize_html=True, allow_tags=False, latex_delimiters=[], layout="bubble", feedback_options=[],
        placeholder="No messages yet.", min_width=260,
    )  # fmt: skip


def _golden_line(system: str, max_tokens: float, histories: list[ChatMessages]) -> tuple[Any, str, str]:
    """Show the panel with the last answer of the selected model."""
    line = golden_line(system, int(max_tokens), histories[0])
    return gr.Group(visible=True), line, "" if line else "There is no answer yet."


def _check_line(is_key: Callable[[str], bool], line: str) -> str:
    """Return why a line must not be saved, as HTML; an empty text lets the browser save it."""
    return escape(line_problem(line, is_key))


class _ChatEvents:
    """Event handlers of the UI."""

    def __init__(self, proxy: EngineProxy) -> None:
        self._proxy = proxy
        self._replica = proxy.replica
        self._running: dict[str, AnswerStreams] = {}
        """Running answers by session."""

    def models(self, chosen: str | None) -> tuple[Any, ...]:
        names = list(self._replica.routes)
        value = chosen or self._default_model()
        if value is not None and value not in names:
            names.append(
                value
            )  # not served any more: a request then shows this error instead of another model's answer
        base = next((name for name in names if self._is_base(name)), "The base model")
        labels = self.label(value), gr.Chatbot(label=f"{base} (base)")
        return gr.Dropdown(choices=names, value=value), self._headline(), *labels

    def _default_model(self) -> str | None:
        """Return the default model: an adapter if one is served."""
        return min(self._replica.routes, key=self._is_base, default=None)

    def label(self, model: str | None) -> Any:
        return gr.Chatbot(label=model or "Answers")

    def _is_base(self, name: str) -> bool:
        model = self._replica.routes.get(name)
        return model is not None and model.is_base

    def _headline(self) -> str:
        replica = self._replica
        release = replica.release.id if replica.release else "no release"
        state = "" if replica.phase == "ready" else f" · {replica.phase}"
        return f"<h1>Chat</h1><p>Release {release}{state}</p>"

    def show_base(self, wanted: bool) -> Any:
        return gr.Chatbot(visible=wanted)

    def idle(self) -> tuple[Any, Any]:
        return gr.Button(visible=True), gr.Button(visible=False)

    async def stop(self, request: gr.Request) -> None:
        if running := self._running.get(request.session_hash or ""):
            running.stop()

    async def clear(self, request: gr.Request) -> tuple[Any, ...]:
        if running := self._running.get(request.session_hash or ""):
            running.stop(discard=True)
        return gr.skip(), [], [], [[], []], *self.idle()

    async def answer(
        self, text: str, model: str | None, compare: bool, system: str, max_tokens: float,
        temperature: float, top_p: float, histories: list[ChatMessages], request: gr.Request,
    ) -> AsyncIterator[tuple[Any, ...]]:  # fmt: skip
        """Stream one answer, or two next to each other; an error is shown in place of its answer."""
        session = request.session_hash or ""
        if not text.strip() or session in self._running:
            yield gr.skip(), gr.skip(), gr.skip(), histories, gr.skip(), gr.skip()
            return
        sampling = {"max_tokens": int(max_tokens), "temperature": temperature, "top_p": top_p}
        model = model or self._default_model()  # submitted before the list was filled
        names = [model or ""]
        base = next((name for name in self._replica.routes if self._is_base(name)), None)
        if compare and base and base != model:
            names.append(base)
        question = {"role": "user", "content": text}
        histories = [
            [*_without_unanswered(history), question] if i < len(names) else history
            for i, history in enumerate(histories)
        ]
        start: ChatMessages = [{"role": "system", "content": system}] if system.strip() else []
        streams = [
            stream_text(self._proxy, name, [*start, *histories[i]], sampling) for i, name in enumerate(names)
        ]
        answers, errors = [""] * len(histories), [""] * len(histories)
        busy = gr.Button(visible=False), gr.Button(visible=True)

        def redraw() -> tuple[Any, ...]:
            kept = [_with_answer(history, answer) for history, answer in zip(histories, answers, strict=True)]
            shown = [_shown(history, error) for history, error in zip(kept, errors, strict=True)]
            return "", *shown, kept

        running = self._running[session] = AnswerStreams(streams)
        last = 0.0
        try:
            yield *redraw(), *busy
            async with aclosing(running.pieces()) as pieces:
                async for index, piece in pieces:
                    if isinstance(piece, ChatFailed):
                        errors[index] = str(piece)
                    else:
                        answers[index] += piece
                    if time.monotonic() - last > REDRAW_INTERVAL:
                        last = time.monotonic()
                        yield *redraw(), *busy
        finally:
            del self._running[session]
        if running.discarded:
            yield gr.skip(), [], [], [[], []], *self.idle()
        else:
            yield *redraw(), *self.idle()


def _without_unanswered(history: ChatMessages) -> ChatMessages:
    """Drop a last user message without an answer: chat templates reject two in a row."""
    return history[:-1] if history and history[-1]["role"] == "user" else history


def _with_answer(history: ChatMessages, answer: str) -> ChatMessages:
    return [*history, {"role": "assistant", "content": answer}] if answer else history


def _shown(history: ChatMessages, error: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [
        {"role": message["role"], "content": as_markdown(message["content"])} for message in history
    ]
    if error:
        title = {"title": "No answer"}
        messages.append({"role": "assistant", "content": as_markdown(error), "metadata": title})
    return messages
