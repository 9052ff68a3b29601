"""The examples of docs/evaluators.md run, in their order, and what they say in comments holds."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "evaluators.md"


def test_the_examples_run():
    """Those that need a server, a model from a hub or a package of others are marked `no-run`."""
    names: dict = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
        if "Okonkwo" in block:
            request = names["SlicedRequest"](text="Ask Dr Okonkwo for legal advice, please.", input_tokens=9_000)
            assert names["slices_of"](request, names["settings"]) == ("long_context", "regulated", "rare_entity")
    assert len(blocks) >= 6
    assert not names["result"].passed
    assert "90 days" in names["result"].explanation
    assert [(r.name, r.label) for r in names["results"] if not r.passed] == [
        ("RequiredWording", "lost"),
        ("IdentifierAgreement", "altered"),
    ]
