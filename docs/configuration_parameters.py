"""Shows the fields of a configuration as its arguments in the API reference.

transformers writes the `__init__` of a configuration when its class is made, and each field declares its default and
help text with `_setting(default, help, ...)`. mkdocstrings reads only the source: this griffe extension gives it both.
"""

import ast

import griffe


class ConfigurationParameters(griffe.Extension):
    """Gives subclasses of `PreTrainedConfig` the signature they will have, and its arguments' documentation."""

    def on_class(self, *, cls: griffe.Class, **kwargs) -> None:
        if "PreTrainedConfig" not in map(str, cls.bases) or "__init__" in cls.members:
            return
        parameters, documented = [], []
        for name, attribute in cls.attributes.items():
            declared = ast.parse(str(attribute.value), mode="eval").body
            if isinstance(declared, ast.Call) and ast.unparse(declared.func) == "_setting":
                default, text = declared.args
                parameters.append(
                    griffe.Parameter(
                        name,
                        annotation=attribute.annotation,
                        default=ast.unparse(default),
                        kind=griffe.ParameterKind.keyword_only,
                    )
                )
                documented.append(f"    {name}: {ast.literal_eval(text)}")
        own = griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)
        cls.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(own, *parameters)))
        if cls.docstring is not None:
            summary, raises, errors = cls.docstring.value.partition("Raises:")
            cls.docstring.value = "\n".join([summary + "Args:", *documented, "", raises + errors])
