"""One call to a server, within an agent's span, by a client whose spans others make; prints the trace.

python other_clients.py openai|openinference|langchain http://localhost:8000/v1 tiny
"""

from __future__ import annotations

import sys

from opentelemetry import trace

import traceai_vllm

AGENT = {"openinference.span.kind": "AGENT", "agent.name": "researcher"}
QUESTION = "How long is the waiting period?"


def openai(base_url: str, model: str) -> None:
    """The OpenAI SDK, with OpenTelemetry's instrumentation of it, which is on by client=True."""
    from openai import OpenAI

    client = OpenAI(base_url=base_url, api_key="none")
    client.chat.completions.create(model=model, messages=[{"role": "user", "content": QUESTION}], max_tokens=4)


def openinference(base_url: str, model: str) -> None:
    """The OpenAI SDK, with OpenInference's instrumentation of it as well."""
    from openinference.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()
    openai(base_url, model)


def langchain(base_url: str, model: str) -> None:
    """A chain of LangChain's with a name, and an instrumentation that makes its spans current."""
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_openai import ChatOpenAI
    from opentelemetry.instrumentation.langchain import LangchainInstrumentor

    LangchainInstrumentor().instrument()
    chat = ChatOpenAI(base_url=base_url, api_key="none", model=model, max_tokens=4)
    chain = ChatPromptTemplate.from_template("{question}") | chat
    chain.with_config(run_name="researcher").invoke({"question": QUESTION})


if __name__ == "__main__":
    library, url, served = sys.argv[1:]
    traceai_vllm.instrument(client=True)
    with trace.get_tracer("agent").start_as_current_span("invoke_agent researcher", attributes=AGENT) as span:
        {"openai": openai, "openinference": openinference, "langchain": langchain}[library](url, served)
        print(f"trace {span.get_span_context().trace_id:032x}")
