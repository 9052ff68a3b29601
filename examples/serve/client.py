"""Ask a running `vllm serve` with the `openai` client: a span of the client's own, its trace context, and tags.

python examples/serve/client.py --base-url http://localhost:8000/v1 --model tiny
"""

from __future__ import annotations

import argparse

from openai import OpenAI
from opentelemetry import propagate, trace

from traceai_vllm.telemetry import providers


def main() -> None:
    """Ask one question, streamed, and print the answer and the trace to look for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", default="http://localhost:8000/v1")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--question", default="How long is the waiting period for dental claims?")
    options = parser.parse_args()

    providers.configure(service_name_fallback="example-client")
    client = OpenAI(base_url=options.base_url, api_key="none")
    with trace.get_tracer("example").start_as_current_span("answer a customer") as span:
        headers = {"x-agent-step": "synthesis"}
        propagate.inject(headers)  # instrumented clients do this by themselves
        stream = client.chat.completions.create(
            model=options.model,
            messages=[{"role": "user", "content": options.question}],
            max_tokens=64,
            stream=True,
            metadata={"route": "support", "prompt_version": "v3"},
            extra_headers=headers,
        )
        for chunk in stream:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
        print(f"\ntrace {span.get_span_context().trace_id:032x}")


if __name__ == "__main__":
    main()
