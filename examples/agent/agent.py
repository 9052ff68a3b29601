"""An agent in five steps on a running `vllm serve`: one trace, a span per step, the engine's spans beneath.

python examples/agent/agent.py --base-url http://localhost:8000/v1 --model tiny

The steps are a planner, a retriever, a tool selection, a synthesis and a verification. All choices are made within a
JSON schema, so that a very small model can make them too.
"""

from __future__ import annotations

import argparse
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from knowledge import DOCUMENTS, TOOLS, Document, run_tool, search
from openai import OpenAI
from opentelemetry import trace

import traceai_vllm

if TYPE_CHECKING:
    from collections.abc import Iterator

tracer = trace.get_tracer("example.agent")


@contextmanager
def step(name: str) -> Iterator[None]:
    """A span of the agent's, and the tag that puts the step on every engine request inside, here or in a server."""
    with tracer.start_as_current_span(name), traceai_vllm.tags(agent_step=name):
        yield


@contextmanager
def named_agent(name: str) -> Iterator[None]:
    """A span as agent frameworks make them. Its agent's name serves as the step where there is no tag."""
    with tracer.start_as_current_span(f"invoke_agent {name}", attributes={"gen_ai.agent.name": name}):
        yield


@dataclass
class Agent:
    """Answers questions on insurance policies.

    Attributes:
        client: an ``openai`` client of the server.
        model: the name of the model there.
    """

    client: OpenAI
    model: str

    def answer(self, question: str) -> tuple[str, bool]:
        """Return the answer, and whether the verification accepts it."""
        with tracer.start_as_current_span("answer a question"), traceai_vllm.tags(route="support", prompt_version="v1"):
            topic = self.plan(question)
            documents = self.retrieve(question, topic)
            result = self.use_tool(question, topic)
            answer = self.synthesize(question, documents, result)
            return answer, self.verify(answer, documents)

    @step("planner")
    def plan(self, question: str) -> str:
        """Choose the policy that the question is about."""
        topics = sorted({document.policy for document in DOCUMENTS})
        return self._choose(f"Which policy is this about?\n{question}", topics)

    @step("retriever")
    def retrieve(self, question: str, topic: str) -> list[Document]:
        """Let the model write a search query, and search for it."""
        query = self._ask(f"Write a short search query for the {topic} policy: {question}", max_tokens=12)
        return search(f"{topic} {question} {query}")

    @step("tool_selection")
    def use_tool(self, question: str, topic: str) -> str:
        """Let the model choose a tool, and run it."""
        completion = self.client.chat.completions.create(
            model=self.model,
            messages=[{"role": "user", "content": f"{question} (policy: {topic})"}],
            tools=TOOLS,
            tool_choice="required",
            max_tokens=64,
            temperature=0,
        )
        calls = completion.choices[0].message.tool_calls or []
        return run_tool(calls[0].function.name, calls[0].function.arguments) if calls else ""

    @step("synthesis")
    def synthesize(self, question: str, documents: list[Document], result: str) -> str:
        """Answer from what was found."""
        found = "\n".join([*(document.text for document in documents), result])
        return self._ask(f"Answer in one sentence.\n{found}\nQuestion: {question}", max_tokens=48)

    @named_agent("verification")
    def verify(self, answer: str, documents: list[Document]) -> bool:
        """Ask whether the documents support the answer."""
        found = "\n".join(document.text for document in documents)
        return self._choose(f"{found}\nDo these facts support: {answer}", ["yes", "no"]) == "yes"

    def _ask(self, prompt: str, **options: Any) -> str:
        completion = self.client.chat.completions.create(
            model=self.model, messages=[{"role": "user", "content": prompt}], temperature=0, **options
        )
        return completion.choices[0].message.content or ""

    def _choose(self, prompt: str, choices: list[str]) -> str:
        schema = {
            "type": "object",
            "properties": {"choice": {"enum": choices}},
            "required": ["choice"],
            "additionalProperties": False,
        }
        text = self._ask(
            prompt,
            max_tokens=48,
            response_format={"type": "json_schema", "json_schema": {"name": "choice", "schema": schema}},
        )
        try:
            return str(json.loads(text)["choice"])
        except (ValueError, KeyError):  # cut off at the limit
            return choices[0]


def main() -> None:
    """Answer one question, and print the trace to look for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", default="http://localhost:8000/v1")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--question", default="How long is the waiting period for dental claims?")
    options = parser.parse_args()

    os.environ.setdefault("OTEL_SERVICE_NAME", "example-agent")
    traceai_vllm.instrument(client=True)
    agent = Agent(OpenAI(base_url=options.base_url, api_key="none"), options.model)
    with tracer.start_as_current_span("agent") as span:
        answer, verified = agent.answer(options.question)
        print(answer)
        print("verified" if verified else "not verified")
        print(f"trace {span.get_span_context().trace_id:032x}")


if __name__ == "__main__":
    main()
