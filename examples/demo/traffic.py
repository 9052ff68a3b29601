"""The demo's users: they send the prompts through the gateway with the ``openai`` client, and say what they think."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import prompt_files
from openai import OpenAI
from settings import ANSWER_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from openai.types.chat import ChatCompletionChunk
    from rich.console import Console

USERS = 10


@dataclass(frozen=True)
class Answer:
    """What a user got.

    Attributes:
        prompt: what was asked.
        text: the answer; of a tool call its name and arguments.
        trace_id: where it can be looked up.
    """

    prompt: dict[str, Any]
    text: str
    trace_id: str

    @property
    def is_right(self) -> bool:
        """Whether it holds what a right answer does."""
        return prompt_files.has_expected(self.prompt, self.text)


def send_all(url: str, routes: dict[str, list[dict[str, Any]]], console: Console) -> list[Answer]:
    """Send every prompt, a route after the other, and return the answers."""
    client = OpenAI(base_url=f"{url}/v1", api_key="none", timeout=ANSWER_SECONDS, max_retries=0)
    answers: list[Answer] = []
    with ThreadPoolExecutor(USERS) as users:
        for route, prompts in routes.items():
            started = time.monotonic()
            answers += users.map(lambda prompt: send(client, prompt), prompts)
            console.print(f"  {route:<16} {len(prompts):>3} requests  {time.monotonic() - started:6.1f} s")
    return answers


def send(client: OpenAI, prompt: dict[str, Any]) -> Answer:
    """Send one prompt, tagged by headers; the answer is streamed, as users get theirs."""
    asked: dict[str, Any] = {name: prompt[name] for name in ("response_format", "tools") if name in prompt}
    if "tools" in asked:
        asked |= {"tool_choice": "required", "parallel_tool_calls": False}  # so small a model would call for ever
    raw = client.chat.completions.with_raw_response.create(
        model="assistant",
        messages=prompt_files.marked(prompt),
        max_tokens=prompt["max_tokens"],
        temperature=0,
        seed=0,
        stream=True,
        stream_options={"include_usage": True},
        extra_headers={
            "x-route": prompt["route"],
            "x-prompt-version": prompt["prompt_version"],
            "x-traffic-cohort": "demo",
            "x-agent-step": prompt["agent_step"],
        },
        **asked,
    )
    return Answer(prompt, "".join(pieces(raw.parse())), raw.headers["x-trace-id"])


def pieces(stream: Iterable[ChatCompletionChunk]) -> Iterator[str]:
    """The text of a streamed answer, piece by piece; of tool calls their names and arguments."""
    for chunk in stream:
        for choice in chunk.choices:
            yield choice.delta.content or ""
            for call in choice.delta.tool_calls or ():
                if call.function is not None:
                    yield f"{call.function.name} " if call.function.name else ""
                    yield call.function.arguments or ""


def give_feedback(url: str, answers: list[Answer]) -> int:
    """Say of each answer whether it was right, as users would; return how many were not."""
    wrong = 0
    with httpx.Client(base_url=url, timeout=10) as client:
        for answer in answers:
            kind = "thumbs_up" if answer.is_right else "thumbs_down"
            client.post("/v1/feedback", json={"trace_id": answer.trace_id, "kind": kind}).raise_for_status()
            wrong += not answer.is_right
    return wrong
