"""A small OpenAI-compatible server on a real model: plain completions with echo, and chat; what it is asked is noted."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Small:
    """The model, what the server can do, and what it was asked."""

    def __init__(self, folder: Path, **can: Any) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.can: dict[str, Any] = {"completions": True, "echo": True, "ids": True, "key": None} | can
        self.asked: list[tuple[str, dict[str, Any], str | None]] = []
        self.broken: list[Any] = []
        """Statuses, bodies or `cut` to answer with first, instead of what was asked."""
        self.lock = threading.Lock()
        self.at_once = self.most_at_once = 0

    def models(self) -> dict[str, Any]:
        entry = {"id": "tiny", "object": "model", "created": len(self.asked), "owned_by": "tests", "max_model_len": 512}
        return {"object": "list", "data": [entry]}

    def completion(self, asked: dict[str, Any]) -> dict[str, Any]:
        prompt = asked["prompt"]
        ids = prompt if isinstance(prompt, list) else self.tokenizer.encode(prompt)
        new = self._written(ids, asked)
        choice: dict[str, Any] = {"index": 0, "text": self._text(new, asked), "finish_reason": "stop", "logprobs": None}
        if asked.get("echo"):
            whole = [*ids, *new]
            choice["text"] = self.tokenizer.decode(whole)
            choice["logprobs"] = self._logprobs(whole)
        return {"id": "1", "choices": [choice], "usage": {"total_tokens": len(ids) + len(new)}}

    def chat(self, asked: dict[str, Any]) -> dict[str, Any]:
        text = "".join(f"<|im_start|>{it['role']}\n{it['content']}<|im_end|>\n" for it in asked["messages"])
        ids = self.tokenizer.encode(text + "<|im_start|>assistant\n")
        message = {"role": "assistant", "content": self._text(self._written(ids, asked), asked)}
        return {"id": "1", "choices": [{"index": 0, "message": message}], "usage": {"total_tokens": len(ids)}}

    def _text(self, new: list[int], asked: dict[str, Any]) -> str:
        text = self.tokenizer.decode(new, skip_special_tokens=True)
        return text[: min((text.find(stop) for stop in asked.get("stop") or () if stop in text), default=len(text))]

    def _written(self, ids: list[int], asked: dict[str, Any]) -> list[int]:
        out = self.model.generate(
            torch.tensor([ids]), do_sample=False, max_new_tokens=asked["max_tokens"], eos_token_id=0, pad_token_id=0
        )
        return out[0, len(ids) :].tolist()

    def _logprobs(self, ids: list[int]) -> dict[str, Any]:
        with torch.no_grad():
            logits_TV = self.model(torch.tensor([ids])).logits[0].float()
        logs_TV = logits_TV.log_softmax(-1)
        values = [None, *(float(logs_TV[at, token]) for at, token in enumerate(ids[1:]))]
        tokens = [self.tokenizer.decode([token]) for token in ids]
        starts = [len(self.tokenizer.decode(ids[:at])) for at in range(len(ids))]
        return {"token_logprobs": values, "tokens": tokens, "text_offset": starts}


@contextmanager
def serving(small: Small) -> Iterator[str]:
    """The URL of the server while it runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            small.asked.append((self.path, {}, self.headers.get("Authorization")))
            self._answer(*({"/v1/models": (200, small.models())}.get(self.path, (404, {}))))

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with small.lock:
                small.asked.append((self.path, asked, self.headers.get("Authorization")))
                small.at_once += 1
                small.most_at_once = max(small.most_at_once, small.at_once)
                broken = small.broken.pop(0) if small.broken else None
            try:
                self._answer(*self._found(asked, broken))
            finally:
                with small.lock:
                    small.at_once -= 1

        def _found(self, asked: dict[str, Any], broken: Any) -> tuple[int, Any]:
            if broken is not None:
                return (
                    (broken, {"error": f"broken, {self.headers.get('Authorization')}"})
                    if isinstance(broken, int)
                    else (200, broken)
                )
            if small.can["key"] and self.headers.get("Authorization") != f"Bearer {small.can['key']}":
                return 401, {"error": "no such key"}
            if self.path == "/v1/chat/completions":
                return 200, small.chat(asked)
            if self.path != "/v1/completions" or not small.can["completions"]:
                return 404, {"error": "not found"}
            if isinstance(asked["prompt"], list) and not small.can["ids"]:
                return 400, {"error": "prompt must be a string"}
            if asked.get("echo") and not small.can["echo"]:
                return 400, {"error": "echo is not supported"}
            return 200, small.completion(asked)

        def _answer(self, status: int, body: Any) -> None:
            if body == "cut":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
                self.close_connection = True
                return
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            if status in (301, 307):
                self.send_header("Location", "http://127.0.0.1:9/v1")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
