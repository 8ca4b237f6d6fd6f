"""Configurations in the API reference take their annotated attributes as arguments, as a data class does.

mkdocstrings loads this file: transformers writes the `__init__` of a configuration when its class is made, and reading
the source does not show that.
"""

import griffe


class ConfigurationParameters(griffe.Extension):
    """Gives classes under `PreTrainedConfig` the `__init__` that they will have."""

    def on_class(self, *, cls: griffe.Class, **kwargs) -> None:
        if "PreTrainedConfig" not in map(str, cls.bases) or "__init__" in cls.members:
            return
        parameters = [
            griffe.Parameter(name, annotation=a.annotation, default=a.value, kind=griffe.ParameterKind.keyword_only)
            for name, a in cls.attributes.items()
            if a.annotation is not None and str(a.annotation) != "ClassVar" and "property" not in a.labels
        ]
        own = griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)
        cls.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(own, *parameters)))
