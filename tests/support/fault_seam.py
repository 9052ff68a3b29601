"""The seam: the few functions that hold the user's call, and so cannot fail without it. All others may.

``tests/unit/test_fault_seam.py`` holds these lists against the code.
"""

# What stands in for vLLM's functions.
HOOKS = frozenset(
    {
        "engine.beams.search",
        "engine.calls.add_request.<locals>.hook",
        "engine.calls.add_request_async.<locals>.hook",
        "engine.calls.generate",
        "engine.calls.step.<locals>.hook",
        "engine.first_engine.init.<locals>.hook",
        "engine.funnel.abort_requests.<locals>.hook",
        "engine.funnel.add_request.<locals>.hook",
        "engine.funnel.finished.<locals>.hook",
        "engine.funnel.process_outputs.<locals>.hook",
        "engine.funnel.propagate_error.<locals>.hook",
        "engine.funnel.update_scheduler_stats.<locals>.hook",
        "engine.offline.call.<locals>.hook",
        "engine.offline.enqueue.<locals>.hook",
        "engine.readings.worker_ready",
        "engine.serving.handle.<locals>.hook",
        "engine.serving.whole_response",
        "server.fastapi.build_middleware_stack",
        "server.fastapi.call",
        "server.fastapi.middleware_init",
    }
)
# What makes them, when vLLM is patched.
BUILDERS = frozenset(
    {
        "engine.calls.add_request",
        "engine.calls.add_request_async",
        "engine.calls.step",
        "engine.first_engine.init",
        "engine.funnel.abort_requests",
        "engine.funnel.add_request",
        "engine.funnel.finished",
        "engine.funnel.process_outputs",
        "engine.funnel.propagate_error",
        "engine.funnel.update_scheduler_stats",
        "engine.patches._wrapping.<locals>.<lambda>",
    }
)
# What hooks hand the user's call on to.
CARRIERS = frozenset(
    {
        "engine.beams._steps",
        "engine.live._first_update",
        "engine.serving._answer",
        "engine.serving._whole",
        "server.middleware.CallerMiddleware.__call__",
        "server.middleware.CallerMiddleware.__call__.<locals>.incoming",
        "server.middleware.CallerMiddleware.__call__.<locals>.outgoing",
        "server.middleware.CallerMiddleware.__init__",
    }
)
# What keeps errors from others, and what wrapt and OpenTelemetry call first.
GUARDS = frozenset(
    {
        "engine.patches._on_import",
        "guard.Guard.__enter__",
        "guard.Guard.__exit__",
        "guard.Guard.caught",
        "server.unquoted._record_class",
        "server.unquoted._set_status",
        "server.unquoted._start_span",
        "store.processor.StoreProcessor.on_end",
    }
)
SEAM = HOOKS | BUILDERS | CARRIERS | GUARDS

# Called by Python itself, which prints their exceptions and goes on.
FINALIZERS = frozenset({"engine.calls._keep_call.<locals>.forget", "engine.live.LiveRequest.__del__"})
