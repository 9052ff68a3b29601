"""Find tool calls in the raw text of models, by the marks that vLLM's tool parsers also look for."""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.json_text import MAX_CHARACTERS, MAX_DEPTH, read_json, too_deep
from traceai_vllm.evals.tool_calls import HOLDERS, ToolCall, call_from

if TYPE_CHECKING:
    from collections.abc import Iterator

_REFUSED = "the text is too long or too deeply nested to be read"
_TAGGED = re.compile(
    r"<(tool_calls?|function_calls?|toolcall|TOOLCALL|longcat_tool_call)>(.*?)(?:</\1>|(?=<\1>)|\Z)", re.S
)
# What repeats is bounded wherever what stands beside it may be the same: an answer may have megabytes, and Python tries
# every way to split them.
_FUNCTION = re.compile(r"<function=([^>\s]{1,200})>(.*?)(?:</function>|(?=<function=)|\Z)", re.S)
_PARAMETER = re.compile(r"<parameter=([^>\s]{1,200})>\n?(.*?)\n?(?:</parameter>|(?=<parameter=)|\Z)", re.S)
_KIMI = re.compile(
    r"<\|tool_call_begin\|>\s{0,20}(?:functions\.)?([^\s<|]{1,200}?)(?::\d{1,9})?\s{0,20}<\|tool_call_argument_begin\|>(.*?)"
    r"(?:<\|tool_call_end\|>|(?=<\|tool_call_begin\|>)|\Z)",
    re.S,
)
# DeepSeek: `function<sep>name` and a fence (V3), `name<sep>{json}` (V3.1).
_DEEPSEEK = re.compile(
    r"<｜tool▁call▁begin｜>(?:function<｜tool▁sep｜>)?\s{0,20}([\w.\-]{1,200})\s{0,20}(?:<｜tool▁sep｜>|```(?:json)?)(.*?)"
    r"(?:```\s{0,20})?(?:<｜tool▁call▁end｜>|(?=<｜tool▁call▁begin｜>)|\Z)",
    re.S,
)
# GPT-OSS' harmony.
_HARMONY = re.compile(r"\bto=functions\.([\w.\-]{1,200})[^{]{0,80}?<\|message\|>(.*?)(?:<\|call\|>|<\|end\|>|\Z)", re.S)
# MiniMax, DeepSeek V3.2 and others, each with a prefix of its own.
_INVOKED = re.compile(
    r"<[\w:｜]{0,20}invoke name=\"?([^\"<>]{1,200})(?:\"[^<>]{0,200})?>(.*?)"
    r"(?:</[\w:｜]{0,20}invoke>|(?=<[\w:｜]{0,20}invoke )|\Z)",
    re.S,
)
_INVOKED_WITH = re.compile(
    r"<[\w:｜]{0,20}parameter name=\"?([^\"<>]{1,200})(?:\"[^<>]{0,200})?>\n?(.*?)\n?(?:</[\w:｜]{0,20}parameter>|\Z)",
    re.S,
)
_GEMMA = re.compile(r"<start_function_call>\s{0,20}call:([\w.\-]{1,200})\{(.*?)(?:<end_function_call>|\Z)", re.S)
_GEMMA_ARGUMENT = re.compile(r"(?<!\w)(\w{1,200}):(?:<escape>(.*?)<escape>|([^,]*))", re.S)
_GEMMA_QUOTE = "<escape>"
# JSON but for its keys and quotation marks, as FunctionGemma's.
_GEMMA_4 = re.compile(
    r"<\|tool_call>\s{0,20}call:([\w.\-]{1,200})\{(.*?)(?:<tool_call\|>|<turn\|>|(?=<\|tool_call>)|\Z)", re.S
)
_GEMMA_4_QUOTE = '<|"|>'
_GEMMA_KEY = re.compile(r"(?<![\w.\-])([\w.\-]{1,200})\s{0,20}:")
_GLM = re.compile(r"\s*([\w.\-]+)\s*(?:(?=<arg_key>)|\Z)")
_GLM_ARGUMENT = re.compile(r"<arg_key>([^<]{1,200})</arg_key>\s{0,20}<arg_value>(.*?)(?:</arg_value>|\Z)", re.S)
_MISTRAL = re.compile(
    r"\[TOOL_CALLS\]\s{0,20}([\w.\-]{1,200})\s{0,20}(?:\[CALL_ID\][\w\-]{0,200}\s{0,20})?(?:\[ARGS\]\s{0,20})?(?=\{)"
)
_LISTED = re.compile(
    r"(?:\[TOOL_CALLS\]|<\|tool_call\|>|<tool_call>|<\|python_tag\|>|functools|<\|START_ACTION\|>|<\|tools_prefix\|>|"
    r"<\|action_start\|>\s*<\|plugin\|>)\s*(?=[\[{])"
)
# Llama 4 and LFM2 write calls in Python; LFM2 goes on behind them.
_MARKED_PYTHON = re.compile(
    r"<\|(?:python_start|tool_call_start)\|>(.*?)(?:<\|(?:python_end|tool_call_end|eom|eot)\|>|\Z)", re.S
)
_GIGACHAT = re.compile(
    r"(?:function call<\|role_sep\|>|<\|function_call\|>)\s{0,20}(.*?)(?:<\|(?:message_sep|function_call)\|>|</s>|\Z)",
    re.S,
)
_ROUND_PYTHON = re.compile(r"<\|(?:python_end|eom|eot)\|>")
_FENCE = re.compile(r"\A```(?:json|python|tool_code|tool_call)?[ \t]{0,20}\n(.*?)```\Z", re.S)
_PYTHONIC = re.compile(r"\[?\s*[A-Za-z_][\w.]*\s*\(.*\)\s*\]?", re.S)
_BETWEEN = re.compile(r"\s*[,;]?\s*")
_DECODER = json.JSONDecoder()
_JSON_NAMES = {"true": True, "false": False, "null": None}


def after_thought(text: str) -> str:
    """Return what follows a model's thoughts: vLLM parts them only with a reasoning parser, and offline never."""
    _, end, answer = text.rpartition("</think>")  # what opens it may be in the prompt
    return answer.lstrip() if end else text


def calls_in_text(text: str) -> list[ToolCall]:
    """Return the tool calls that a model wrote as text; none for an ordinary answer."""
    if len(text) > MAX_CHARACTERS or too_deep(text, MAX_DEPTH) is not None:
        return [ToolCall("", {}, _REFUSED)]
    text = after_thought(text).strip()
    for read in (
        _kimi,
        _deepseek,
        _harmony,
        _functions,
        _invoked,
        _gemma,
        _gigachat,
        _python,
        _listed,
        _mistral,
        _tagged,
    ):
        found = list(read(text))
        if found:
            return found
    fence = _FENCE.match(text)
    body = fence[1].strip() if fence else text
    python = _ROUND_PYTHON.sub("", body).strip()
    return _bare_json(body) or _pythonic(python, marked=python != body or python.startswith("["))


def _kimi(text: str) -> Iterator[ToolCall]:
    for match in _KIMI.finditer(text):
        yield _named(match[1], match[2])


def _deepseek(text: str) -> Iterator[ToolCall]:
    for match in _DEEPSEEK.finditer(text):
        yield _named(match[1], match[2])


def _harmony(text: str) -> Iterator[ToolCall]:
    for match in _HARMONY.finditer(text):
        yield _named(match[1], match[2])


def _invoked(text: str) -> Iterator[ToolCall]:
    """``<invoke name="…">`` with a ``<parameter name="…">`` for each argument."""
    for match in _INVOKED.finditer(text):
        yield ToolCall(match[1].strip(), dict(_INVOKED_WITH.findall(match[2])), untyped=True)


def _gemma(text: str) -> Iterator[ToolCall]:
    for match in _GEMMA.finditer(text):
        read = _named(match[1], _gemma_json(match[2], _GEMMA_QUOTE))
        if not read.problem:
            yield read
            continue
        found = _GEMMA_ARGUMENT.findall(match[2].rstrip().removesuffix("}"))  # strings without quotation marks
        yield ToolCall(match[1], {name: quoted or bare.strip() for name, quoted, bare in found}, untyped=True)
    for match in _GEMMA_4.finditer(text):
        yield _named(match[1], _gemma_json(match[2], _GEMMA_4_QUOTE))


def _gemma_json(body: str, quote: str) -> str:
    outside_and_inside = enumerate(body.rstrip().split(quote))
    pieces = [json.dumps(piece) if i % 2 else _GEMMA_KEY.sub(r'"\1":', piece) for i, piece in outside_and_inside]
    return "{" + "".join(pieces)


def _python(text: str) -> Iterator[ToolCall]:
    for match in _MARKED_PYTHON.finditer(text):
        yield from _bare_json(match[1].strip()) or _pythonic(match[1].strip(), marked=True)


def _gigachat(text: str) -> Iterator[ToolCall]:
    for match in _GIGACHAT.finditer(text):
        yield from _one_after_another(match[1].strip(), "no JSON")


def _functions(text: str) -> Iterator[ToolCall]:
    """``<function=name>{json}</function>`` of Llama, or parameters tag by tag of Qwen's coders."""
    for match in _FUNCTION.finditer(text):
        body = match[2].strip()
        if body.startswith("{"):
            yield _named(match[1], body)
        else:
            yield ToolCall(match[1], dict(_PARAMETER.findall(body)), untyped=True)


def _listed(text: str) -> Iterator[ToolCall]:
    """One mark, then a JSON list or object, or objects with ``;`` between them."""
    mark = _LISTED.search(text)
    if mark is None or (mark[0].startswith("<tool_call>") and "</tool_call>" in text):
        return
    at = mark.end()
    while text.startswith(("[", "{"), at):
        try:
            value, end = _DECODER.raw_decode(text, at)
        except ValueError as error:
            yield ToolCall("", {}, f"the call is not JSON: {error}")
            return
        yield from _calls_of(value)
        at = _skipped(text, end)


def _mistral(text: str) -> Iterator[ToolCall]:
    for match in _MISTRAL.finditer(text):
        try:
            value, _ = _DECODER.raw_decode(text, match.end())
        except ValueError as error:
            yield ToolCall(match[1], {}, f"its arguments are not JSON: {error}")
        else:
            yield ToolCall(match[1], value)


def _tagged(text: str) -> Iterator[ToolCall]:
    for match in _TAGGED.finditer(text):
        body = match[2].strip()
        named = _GLM.match(body)
        read = read_json(body)
        if named and read.problem:
            yield ToolCall(named[1], dict(_GLM_ARGUMENT.findall(body)), untyped=True)
        elif read.problem:
            yield from _pythonic(body, marked=True) or _one_after_another(body, read.message)
        else:
            yield from _calls_of(read.value)


def _one_after_another(body: str, problem: str) -> list[ToolCall]:
    """Calls as JSON, each on its own line or lines; or the one call that cannot be read."""
    values, end = _objects(body)
    found = [call for value in values for call in _calls_of(value)]
    # Of several calls the last may be cut.
    return found if found and end == len(body) else [*found, ToolCall("", {}, f"the call is not JSON: {problem}")]


def _objects(text: str) -> tuple[list[dict[str, Any]], int]:
    """Return the JSON objects with which a text begins, and where they end."""
    values, at = [], 0
    while text.startswith("{", at):
        try:
            value, end = _DECODER.raw_decode(text, at)
        except ValueError:
            break
        values.append(value)
        at = _skipped(text, end)
    return values, at


def _skipped(text: str, at: int) -> int:
    """Where the next of several calls begins: a comma or semicolon may stand between them."""
    found = _BETWEEN.match(text, at)
    return found.end() if found else at


def _bare_json(text: str) -> list[ToolCall]:
    """The whole answer is a call, or a list of calls; other JSON is an ordinary answer."""
    if not text.startswith(("{", "[")):
        return []
    read = read_json(text)
    if read.problem:
        values, end = _objects(text)
        if values and all(map(_has_call, values)) and (end == len(text) or text[end] == "{"):
            return _one_after_another(text, read.message)  # as Llama 3 writes several
        looks_like_call = re.match(r'\[?\s*\{\s*"(name|function|functionCall|function_call)"\s*:', text)
        problem = f"the call is {read.problem} JSON: {read.message}"
        return [ToolCall("", {}, problem)] if looks_like_call else []
    items = read.value if isinstance(read.value, list) else [read.value]
    calls = [call_from(item) if isinstance(item, dict) and _has_call(item) else None for item in items]
    return [call for call in calls if call] if calls and all(calls) else []


def _has_call(item: dict[str, Any]) -> bool:
    named = isinstance(item.get("name"), str) and any(key in item for key in ("arguments", "parameters", "args"))
    return named or any(isinstance(item.get(key), dict) for key in HOLDERS)


def _pythonic(text: str, *, marked: bool) -> list[ToolCall]:
    """``[f(a=1), g(b="x")]``, as Llama 4 and others write.

    Args:
        text: all that may be calls.
        marked: whether something says that it is: brackets, or a model's marks. Else `Paris (France)` is an answer.
    """
    if not _PYTHONIC.fullmatch(text):
        return []
    try:
        lines = ast.parse(text).body  # one, but for OLMo, which writes each call on a line
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    if not all(isinstance(line, ast.Expr) for line in lines) or (len(lines) > 1 and not marked):
        return []
    trees = [line.value for line in lines if isinstance(line, ast.Expr)]
    nodes = [node for tree in trees for node in (tree.elts if isinstance(tree, (ast.List, ast.Tuple)) else [tree])]
    if not nodes or not all(isinstance(node, ast.Call) for node in nodes):
        return []
    calls = [_from_node(node) for node in nodes if isinstance(node, ast.Call)]
    return calls if marked or not any(call.problem for call in calls) else []


def _from_node(node: ast.Call) -> ToolCall:
    name = ast.unparse(node.func)
    if node.args or any(keyword.arg is None for keyword in node.keywords):
        return ToolCall(name, {}, "its arguments have no names")
    try:
        arguments = {keyword.arg or "": _WITHOUT_NAMES.visit(keyword.value) for keyword in node.keywords}
        return ToolCall(name, {argument: ast.literal_eval(value) for argument, value in arguments.items()})
    except (ValueError, TypeError, RecursionError):
        return ToolCall(name, {}, "an argument is no plain value")


class _WithoutNames(ast.NodeTransformer):
    """Reads JSON's words as Python's, as vLLM's parsers do."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Return what a name of JSON says; other names stay, and are no plain values."""
        return ast.Constant(_JSON_NAMES[node.id]) if node.id in _JSON_NAMES else node


_WITHOUT_NAMES = _WithoutNames()


def _calls_of(value: Any) -> list[ToolCall]:
    items = value if isinstance(value, list) else [value]
    return [
        (call_from(item) if isinstance(item, dict) else None) or ToolCall("", {}, "a call without a name")
        for item in items
    ]


def _named(name: str, arguments: str) -> ToolCall:
    return call_from({"name": name.strip(), "arguments": arguments.strip()}) or ToolCall(name, {})
