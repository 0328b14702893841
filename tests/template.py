"""The CloudFormation template, read and resolved as far as tests need it."""

import functools
import re
from collections.abc import Mapping
from typing import Any

import yaml
from harness.process import REPOSITORY

STACK = REPOSITORY / "k8s" / "aws" / "stack.yaml"


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms as their long ones."""


def _long_form(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt":
        value = value.split(".", 1)
    return {"Ref": value} if suffix == "Ref" else {f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _long_form)


@functools.cache
def loaded() -> Any:
    """The template."""
    return yaml.load(STACK.read_text(), _Loader)


def resolved(value: Any, names: Mapping[str, str]) -> Any:
    """The value with references, attributes and substitutions replaced by what they name."""
    if isinstance(value, list):
        return [resolved(one, names) for one in value]
    if not isinstance(value, dict):
        return value
    if "Ref" in value:
        return names[value["Ref"]]
    if "Fn::GetAtt" in value:
        return names[".".join(value["Fn::GetAtt"])]
    if "Fn::Sub" in value:
        return re.sub(r"\$\{([\w.:]+)\}", lambda found: names[found[1]], value["Fn::Sub"])
    return {key: resolved(inner, names) for key, inner in value.items()}
