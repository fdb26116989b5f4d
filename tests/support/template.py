"""The deployed template, read as it stands, so that tests follow it.

template = Template.load()
template.properties("ConversationTable", known)["BillingMode"]   # "PAY_PER_REQUEST"
"""

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
    """What `!Sub` holds: a text with `${...}` in it."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """What `!If`, `!Not` and `!Equals` hold: what comes out, CloudFormation tells."""

    function: str
    arguments: list[Any]


type Known = Mapping[Reference, str]

_PLACEHOLDER = re.compile(r"\$\{([\w:.]+)\}")


class _Loader(yaml.SafeLoader):
    """YAML with the functions of CloudFormation that the template uses."""


def _reference(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Reference:
    return Reference(loader.construct_scalar(node))


def _attribute(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Reference:
    name, _, attribute = loader.construct_scalar(node).partition(".")
    return Reference(name, attribute)


def _text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Text:
    return Text(loader.construct_scalar(node))


def _call(function: str, loader: yaml.SafeLoader, node: yaml.Node) -> Call:
    assert isinstance(node, yaml.SequenceNode)
    return Call(function, loader.construct_sequence(node, deep=True))


_Loader.add_constructor("!Ref", _reference)
_Loader.add_constructor("!GetAtt", _attribute)
_Loader.add_constructor("!Sub", _text)
_Loader.add_constructor("!If", partial(_call, "If"))
_Loader.add_constructor("!Not", partial(_call, "Not"))
_Loader.add_constructor("!Equals", partial(_call, "Equals"))


@dataclass(frozen=True)
class Template:
    """template.yaml, its intrinsic functions as Reference and Text until they are resolved."""

    document: Mapping[str, Any]

    @classmethod
    @cache
    def load(cls) -> Self:
        """The template, read once: a tenth of a second of YAML for each test adds up."""
        with (REPOSITORY / "template.yaml").open() as file:
            return cls(yaml.load(file, _Loader))  # noqa: S506 - a SafeLoader with more tags

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
        resolved: dict[str, Any] = resolve(self.document["Resources"][name]["Properties"], known)
        return resolved

    def environment(self, function: str, known: Known) -> dict[str, str]:
        """A function's environment variables, those of Globals included."""
        everyone = self.document["Globals"]["Function"]["Environment"]["Variables"]
        own = self.document["Resources"][function]["Properties"]["Environment"]["Variables"]
        return {name: str(resolve(value, known)) for name, value in {**everyone, **own}.items()}

    def state_machine_definition(self, name: str, known: Known) -> str:
        """A state machine's definition with its DefinitionSubstitutions filled in."""
        properties = self.document["Resources"][name]["Properties"]
        text = (REPOSITORY / properties["DefinitionUri"]).read_text()
        return _fill(text, resolve(properties["DefinitionSubstitutions"], known))


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
