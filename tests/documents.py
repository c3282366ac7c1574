"""The protocol's documents, read so that each of their examples can be tried."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import jsonschema
import yaml

from tests.switchboards import ROOT

ASYNCAPI = yaml.safe_load((ROOT / "docs/asyncapi.yaml").read_text())
OPENAPI = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())
PROTOCOL = (ROOT / "docs/protocol.md").read_text()

# Values under these keys are of one switchboard at one time; a document can show only their kind.
VARIES = {"session", "token", "id", "last", "cursor", "question", "switchboard"}
ANYWHERE = "soon"  # the name of a header's example that goes with each of a response's bodies


@dataclass(frozen=True)
class Frame:
    """An example in asyncapi.yaml; `outcome` is what comes of a client's, None if it is ours."""

    name: str
    message: str
    payload: Any
    schema: Any
    outcome: Any

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Operation:
    """Something that can be asked by HTTP; `path` is filled in with the documented parameters."""

    name: str
    method: str
    path: str


@dataclass(frozen=True)
class Response:
    """
    An answer in openapi.yaml, and an example of it; `name` is "-" if there is nothing to show.

    `body` is None if the example has none, `headers` are schemas and examples.
    """

    operation: Operation
    status: int
    name: str
    schema: Any
    body: Any
    headers: Mapping[str, tuple[Any, str]]

    def __str__(self) -> str:
        return f"{self.operation.name} {self.status} {self.name}"


def valid(schema: Any, value: Any) -> None:
    """Check *value* against *schema*."""
    jsonschema.validate(value, schema, cls=jsonschema.Draft202012Validator)


def outline(value: Any) -> str:
    """Show *value* as far as any switchboard at any time would have it: keys, types, order."""
    return json.dumps(_shape(value), indent=1, ensure_ascii=False)


def _shape(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _shape(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_shape(item) for item in value]
    return f"any {type(value).__name__}" if key in VARIES and value else value


def inlined(document: Any, node: Any) -> Any:
    """Return *node* with what its references point at in their place."""
    if isinstance(node, list):
        return [inlined(document, item) for item in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("$ref"), str):
        beside = {key: value for key, value in node.items() if key != "$ref"}
        return {**inlined(document, pointed_at(document, node["$ref"])), **beside}
    return {key: inlined(document, value) for key, value in node.items()}


def pointed_at(document: Any, reference: str) -> Any:
    """Return what a reference points at; raises LookupError if that is nothing."""
    assert reference.startswith("#/"), reference
    for step in reference[2:].split("/"):
        document = document[step.replace("~1", "/").replace("~0", "~")]
    return document


def references(node: Any) -> Iterator[str]:
    """Go through all references under *node*."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from references(item)


def frames_of(*channels: str) -> list[Frame]:
    """Return the examples of all messages of some channels."""
    found = []
    for channel in channels:
        for name, message in inlined(ASYNCAPI, ASYNCAPI["channels"][channel])["messages"].items():
            schema, outcomes = message["payload"], message.get("x-outcomes", {})
            for each in message["examples"]:
                outcome = outcomes.get(each["name"])
                found.append(Frame(each["name"], name, each["payload"], schema, outcome))
    return found


def operations() -> Iterator[tuple[Operation, Any]]:
    """Go through the operations that we serve, each with its part of the document."""
    for template, item in inlined(OPENAPI, OPENAPI["paths"]).items():
        shared = item.pop("parameters", [])
        for method, described in item.items():
            path = template
            for parameter in [*shared, *described.get("parameters", [])]:
                [example] = parameter["examples"].values()
                path = path.replace(f"{{{parameter['name']}}}", quote(example["value"]))
            yield Operation(described["operationId"], method.upper(), path), described


def parameters() -> Iterator[Any]:
    """Go through the parameters of all operations, ours and the Concierge's."""
    for part in ("paths", "webhooks"):
        for item in inlined(OPENAPI, OPENAPI[part]).values():
            yield from item.pop("parameters", [])
            for described in item.values():
                yield from described.get("parameters", [])


def responses() -> Iterator[Response]:
    """Go through all examples of responses."""
    for operation, described in operations():
        for status, response in described["responses"].items():
            yield from _examples(operation, int(status), response)
    elsewhere = inlined(OPENAPI, OPENAPI["components"]["responses"]["MethodNotAllowed"])
    yield from _examples(Operation("anything", "PUT", "/"), 405, elsewhere)


def _examples(operation: Operation, status: int, response: Any) -> Iterator[Response]:
    """Go through the examples of a response: those of one name belong together."""
    [content] = response.get("content", {"none": {}}).values()
    headers = response.get("headers", {})
    bodies = {name: example["value"] for name, example in content.get("examples", {}).items()}
    names = {**bodies, **{name: None for header in headers.values() for name in header["examples"]}}
    names.pop(ANYWHERE, None)
    for name in names or ["-"]:
        shown = {
            key: (header["schema"], example["value"])
            for key, header in headers.items()
            for given, example in header["examples"].items()
            if given in {name, ANYWHERE}
        }
        yield Response(operation, status, name, content.get("schema"), bodies.get(name), shown)


def json_lines() -> list[Any]:
    """Return what stands in the blocks of JSON in protocol.md, a value in each line."""
    blocks = re.findall(r"^```json\n(.*?)^```", PROTOCOL, re.MULTILINE | re.DOTALL)
    return [json.loads(line) for block in blocks for line in block.splitlines()]


def python_block() -> str:
    """Return the client in protocol.md."""
    [block] = re.findall(r"^```python\n(class Client:.*?)^```", PROTOCOL, re.MULTILINE | re.DOTALL)
    return str(block)
