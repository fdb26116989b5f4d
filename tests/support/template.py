"""The deployed template, read as it stands, so that tests follow it.

template = Template.load()
template.properties("ConversationTable", known)["BillingMode"]   # "PAY_PER_REQUEST"

`python -m tests.support.template` prints it without its loops, for linters that do not look into them.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Self

import yaml

REPOSITORY = Path(__file__).parent.parent.parent


@dataclass(frozen=True, slots=True)
class Reference:
    """What `!Ref` and `!GetAtt` point at; `!Ref` has the attribute `Ref`."""

    name: str
    attribute: str = "Ref"


@dataclass(frozen=True, slots=True)
class Text:
    """What `!Sub` holds: a string with `${...}` in it."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """What other functions hold. Those that need no deployment are gone once the loops are expanded."""

    function: str
    arguments: list[Any]


type Known = Mapping[Reference, str]

_PLACEHOLDER = re.compile(r"\$\{([\w:.]+)\}")


class _Loader(yaml.SafeLoader):
    """YAML with the functions of CloudFormation that the template uses."""


def _reference(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Reference:
    return Reference(loader.construct_scalar(node))


def _attribute(loader: yaml.SafeLoader, node: yaml.Node) -> Reference | Call:
    if isinstance(node, yaml.SequenceNode):
        return _call("GetAtt", loader, node)
    assert isinstance(node, yaml.ScalarNode)
    name, _, attribute = loader.construct_scalar(node).partition(".")
    return Reference(name, attribute)


def _text(loader: yaml.SafeLoader, node: yaml.Node) -> Text | Call:
    if isinstance(node, yaml.SequenceNode):
        return _call("Sub", loader, node)
    assert isinstance(node, yaml.ScalarNode)
    return Text(loader.construct_scalar(node))


def _condition(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> dict[str, Any]:
    return {"Condition": loader.construct_scalar(node)}


def _call(function: str, loader: yaml.SafeLoader, node: yaml.Node) -> Call:
    assert isinstance(node, yaml.SequenceNode)
    return Call(function, loader.construct_sequence(node, deep=True))


_Loader.add_constructor("!Ref", _reference)
_Loader.add_constructor("!GetAtt", _attribute)
_Loader.add_constructor("!Sub", _text)
_Loader.add_constructor("!Condition", _condition)
for _function in ("FindInMap", "If", "Not", "Equals", "And", "Split"):
    _Loader.add_constructor(f"!{_function}", partial(_call, _function))


@dataclass(frozen=True)
class _Loops:
    """What AWS::LanguageExtensions makes of a template: no Fn::ForEach is left, and no loop's variable."""

    mappings: Mapping[str, Any]
    parameters: Mapping[str, str]

    def expand(self, value: Any, variables: Mapping[str, str]) -> Any:
        match value:
            case dict() if value.keys() == {"Ref"}:
                expanded: Any = Reference(self.expand(value["Ref"], variables))
            case dict():
                expanded = self._members(value, variables)
            case list():
                expanded = [self.expand(inner, variables) for inner in value]
            case Call(function, arguments):
                expanded = self._call(function, [self.expand(argument, variables) for argument in arguments])
            case Text(text):
                expanded = _text_or_string(_replace(text, variables))
            case Reference(name, "Ref"):
                expanded = variables.get(name, value)
            case str():
                expanded = _replace(value, variables)
            case _:
                expanded = value
        return expanded

    def _members(self, members: Mapping[Any, Any], variables: Mapping[str, str]) -> dict[str, Any]:
        expanded: dict[str, Any] = {}
        for key, inner in members.items():
            if not isinstance(key, str) or not key.startswith("Fn::ForEach::"):
                name = _replace(key, variables) if isinstance(key, str) else key
                expanded[name] = self.expand(inner, variables)
                continue
            variable, collection, body = inner
            # CloudFormation's own shorthand: a nested loop stands where the members would.
            for one in collection:
                again = self._members(body, {**variables, variable: one})
                assert not again.keys() & expanded.keys(), f"{key} makes something twice"
                expanded |= again
        return expanded

    def _call(self, function: str, arguments: list[Any]) -> Any:
        match function, arguments:
            case "FindInMap", [str(name), key, inner, *default]:
                found = self.mappings[name][self._literal(key)]
                inner = self._literal(inner)
                return found[inner] if inner in found else default[0]["DefaultValue"]
            case "GetAtt", [str(name), str(attribute)]:
                return Reference(name, attribute)
            case "Sub", [str(text), dict(values)]:
                return _text_or_string(_replace(text, {name: _inline(one) for name, one in values.items()}))
            case _:
                return Call(function, arguments)

    def _literal(self, key: str | Reference) -> str:
        """A mapping's key, which may be a parameter's value: the transform knows it before SAM's begins."""
        return self.parameters[key.name] if isinstance(key, Reference) else key


def _replace(text: str, variables: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: str(variables.get(match[1], match[0])), text)


def _inline(value: str | Reference) -> str:
    return f"${{{_name(value)}}}" if isinstance(value, Reference) else value


def _text_or_string(text: str) -> Text | str:
    return Text(text) if _PLACEHOLDER.search(text) else text


_NO_VALUE = Reference("AWS::NoValue")


@dataclass(frozen=True)
class Template:
    """template.yaml with its loops expanded, and other functions as Reference, Text and Call."""

    document: Mapping[str, Any]

    @classmethod
    @cache
    def load(cls) -> Self:
        """The template, read once: a tenth of a second of YAML for each test adds up."""
        return cls.read(REPOSITORY / "template.yaml")

    @classmethod
    def read(cls, path: Path, parameters: Mapping[str, str] | None = None) -> Self:
        """Any template, such as that of another release; `parameters` choose what mappings say."""
        with path.open() as file:
            document = yaml.load(file, _Loader)  # noqa: S506 - a SafeLoader with more tags
        declared = document.get("Parameters", {})
        values = {name: str(one.get("Default", "")) for name, one in declared.items()}
        values |= parameters or {}
        return cls(_Loops(document.get("Mappings", {}), values).expand(document, {}))

    def as_json(self) -> str:
        """The template without loops, for tools that look into none."""
        return json.dumps({**self.document, "Transform": "AWS::Serverless-2016-10-31"}, default=_long_form)

    def parameters(self, given: Mapping[str, str]) -> dict[Reference, str]:
        """The parameters' values: those given, and the defaults of the others."""
        declared: Mapping[str, Any] = self.document["Parameters"]
        assert given.keys() <= declared.keys(), "a test gives a parameter that the template does not have"
        return {
            Reference(name): given.get(name, str(declaration.get("Default", "")))
            for name, declaration in declared.items()
        }

    def resources(self, kind: str) -> list[str]:
        """The logical names of all resources of one type."""
        return [name for name, one in self.document["Resources"].items() if one["Type"] == kind]

    def properties(self, name: str, known: Known) -> dict[str, Any]:
        """One resource's properties with every reference resolved. KeyError names what is not known."""
        properties = self._decided(self.document["Resources"][name]["Properties"], known)
        resolved: dict[str, Any] = resolve(properties, known)
        return resolved

    def _decided(self, value: Any, known: Known) -> Any:
        """The value with the branches that conditions choose, and without what has no value."""
        match value:
            case Call("If", [condition, yes, no]):
                return self._decided(yes if self.holds(condition, known) else no, known)
            case dict():
                decided = {key: self._decided(inner, known) for key, inner in value.items()}
                return {key: inner for key, inner in decided.items() if inner != _NO_VALUE}
            case list():
                inner = [self._decided(one, known) for one in value]
                return [one for one in inner if one != _NO_VALUE]
            case _:
                return value

    def holds(self, condition: str, known: Known) -> bool:
        """Whether one of the template's conditions is true for these parameters."""
        return bool(self._truth(self.document["Conditions"][condition], known))

    def _truth(self, value: Any, known: Known) -> Any:
        match value:
            case {"Condition": str(name)}:
                truth: Any = self.holds(name, known)
            case Call("Not", [inner]):
                truth = not self._truth(inner, known)
            case Call("And", inner):
                truth = all(self._truth(one, known) for one in inner)
            case Call("Equals", [one, other]):
                truth = str(self._truth(one, known)) == str(self._truth(other, known))
            case Reference():
                truth = known[value]
            case _:
                truth = value
        return truth

    def environment(self, function: str, known: Known) -> dict[str, str]:
        """A function's environment variables, those of Globals included."""
        everyone = self.document["Globals"]["Function"]["Environment"]["Variables"]
        own = self.document["Resources"][function]["Properties"]["Environment"]["Variables"]
        decided = self._decided({**everyone, **own}, known)
        return {name: str(resolve(value, known)) for name, value in decided.items()}

    def state_machine_definition(self, name: str, known: Known) -> str:
        """A state machine's definition with its DefinitionSubstitutions filled in."""
        properties = self.document["Resources"][name]["Properties"]
        text = (REPOSITORY / properties["DefinitionUri"]).read_text()
        return _fill(text, resolve(properties["DefinitionSubstitutions"], known))


def _long_form(value: Reference | Text | Call) -> dict[str, Any]:
    match value:
        case Reference(name, "Ref"):
            return {"Ref": name}
        case Reference(name, attribute):
            return {"Fn::GetAtt": [name, attribute]}
        case Text(text):
            return {"Fn::Sub": text}
        case Call(function, arguments):
            return {f"Fn::{function}": arguments}


def resolve(value: Any, known: Known) -> Any:
    """The value with every Reference and Text in it replaced by what is known of it."""
    match value:
        case Reference():
            return known[value]
        case Text(text):
            return _fill(text, {_name(reference): replacement for reference, replacement in known.items()})
        case Call():
            raise KeyError(value)
        case dict():
            return {key: resolve(inner, known) for key, inner in value.items()}
        case list():
            return [resolve(inner, known) for inner in value]
        case _:
            return value


def _fill(text: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)


def _name(reference: Reference) -> str:
    return f"{reference.name}.{reference.attribute}".removesuffix(".Ref")


if __name__ == "__main__":
    print(Template.load().as_json())
