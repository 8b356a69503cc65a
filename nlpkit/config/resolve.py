"""Phase 2 of a config: every component exists, its options are valid, and nothing is left open."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from nlpkit.config.explain import explain, guessed, unknown_key
from nlpkit.config.schema import Component, ComponentConfig, Config, Origin, Secret, TrainConfig
from nlpkit.contracts import Exporter, Task
from nlpkit.errors import ConfigError, InputError, NlpkitError, PluginError, Problem, closest
from nlpkit.plugin.host import load
from nlpkit.plugin.imports import quietly

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from nlpkit.config.schema import KeyPath
    from nlpkit.contracts import Codec, Objective, Resolution
    from nlpkit.plugin.host import Host
    from nlpkit.plugin.records import ExporterRecord, ModelRecord, StrategyRecord, TaskRecord

C = TypeVar("C", bound=Component)

_SHAPES = {
    "task": (Task, "it has texts, fit and codec, which gives the Codec that does the rest"),
    "exporter": (Exporter, "it has export(graphs, out), and open(path) gives functions by graph"),
}
"""What components are, where those of version 0.1 were not, and what changed."""
_MOVED = ("encode", "collate", "decode")
"""What a task had in version 0.1, and its codec has now."""

KINDS = {
    "task": "task",
    "data": "source",
    "tokenizer": "tokenizer",
    "model": "model",
    "strategy": "strategy",
    "export": "exporter",
    "observers": "observer",
    "launch": "launcher",
}
"""The kind of the components that each section of a config names."""

IMPLIED = ("strategy", "launch")
"""The sections in which options without a name imply one."""

FP16_ON_CPU = ("fp16 is for CUDA devices, not for a CPU", "set precision: auto, or bf16")
"""What is wrong with it, and the remedy."""

_LEARNING_RATE = 5e-4


def resolve(config: Config, host: Host, *, found: Sequence[Problem] = ()) -> Config:
    """The config with all options of its components checked and completed, as plain values.

    Fills in what depends on other components: the tokenizer's name and folder, the learning rate,
    the longest text that the model can take. A resolved config resolves to itself.

    Args:
        config: From `load_config`.
        host: Has the components; the config's plugins are added to it.
        found: What was wrong before; it is raised with the rest, and no model is looked for then.

    Raises:
        ConfigError: With every problem found.
    """
    return _Resolver(config, host, list(found)).run()


def implied(section: str, options: Iterable[str], host: Host) -> str:
    """Whose options these are where none is named: the default's, or who has more of them.

    Misspelt ones count where that alone decides.
    """

    def known(name: str) -> tuple[int, int]:
        try:
            options_class = _options_class(KINDS[section], name, host)
        except PluginError:  # `nlpkit plugins` names it
            return 0, 0
        fields = set(options_class.model_fields) if options_class else set()
        return len(fields & set(options)), sum(bool(guessed(key, fields)) for key in options)

    default: str = Config.model_fields[section].default.name
    return max([default, *(each.record.name for each in host.entries(KINDS[section]))], key=known)


def chosen(config: Config) -> Iterator[tuple[KeyPath, str, Component]]:
    """Every component that a config names, with its place and its kind."""
    for section, kind in KINDS.items():
        found = getattr(config, section)
        if isinstance(found, tuple):
            yield from (((section, at), kind, each) for at, each in enumerate(found))
        else:
            yield (section,), kind, found


def secrets_of(config: Config, host: Host) -> Iterator[tuple[KeyPath, Secret]]:
    """Every secret of a resolved config, with its place."""
    yield from _secrets(config, ())
    for path, kind, component in chosen(config):
        yield from _secrets(options_of(component, kind, host), path)


def _secrets(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Secret]]:
    if isinstance(value, Secret):
        yield path, value
    if isinstance(value, BaseModel):
        value = {key: getattr(value, key) for key in type(value).model_fields}
    elif isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _secrets(each, (*path, key))


def options_of(component: Component, kind: str, host: Host) -> ComponentConfig | None:
    """The typed options of a resolved component; None where it has none.

    Raises:
        PluginError: The component is unknown.
        ConfigError: The options do not fit.
    """
    options_class = _options_class(kind, component.name, host)
    if options_class is None:
        return None
    try:
        return _checked(options_class, kind, component)
    except ValidationError as error:
        origin = Origin(f"{kind} {component.name}")
        complaints = explain(error, options_class, component.options)
        raise ConfigError(
            origin.problem(each.path, each.message, each.remedy) for each in complaints
        ) from None


def build(component: Component, kind: str, host: Host, *args: Any, **kwargs: Any) -> Any:
    """The object that a resolved component's record builds from its options and the arguments."""
    built = called("target", component, kind, host, *args, **kwargs)
    shape, change = _SHAPES.get(kind, (object, ""))
    moved = [name for name in _MOVED if isinstance(built, Task) and hasattr(built, name)]
    if moved or not isinstance(built, shape):
        why = f", for it has {' and '.join(moved)} itself" if moved else ""
        raise PluginError(
            f'{kind} "{component.name}": {type(built).__name__} is no nlpkit.contracts.'
            f'{shape.__name__}{why}. Since nlpkit 0.2 each {kind} is one: {change}; "From 0.1 to '
            '0.2" in docs/plugins.md says how to port it, and nlpkit-sdk==0.1.* takes it as it is'
        )
    return built


def build_objective(task: Component, host: Host, schema: Mapping[str, Any]) -> Objective:
    """The objective that belongs to a task."""
    objective: Objective = called("objective", task, "task", host, schema)
    return objective


def called(
    field: str, component: Component, kind: str, host: Host, *args: Any, **kwargs: Any
) -> Any:
    """What a function that a component's record names gives for its options and the arguments."""
    record = host.entry(kind, component.name).record
    function, options = load(record, getattr(record, field)), options_of(component, kind, host)
    with quietly(f'{kind} "{component.name}"', NlpkitError):
        return function(options, *args, **kwargs)


def _options_class(kind: str, name: str, host: Host) -> type[ComponentConfig] | None:
    record = host.entry(kind, name).record
    if not record.config:
        return None
    return cast("type[ComponentConfig]", load(record, record.config))


def _checked(
    options_class: type[ComponentConfig], kind: str, component: Component, base: Path | None = None
) -> ComponentConfig:
    """The options of a component as its class has them. Raises ValidationError, PluginError."""
    written, context = json.dumps(component.options), base and {"base": base}
    with quietly(f'{kind} "{component.name}"', ValidationError):
        return options_class.model_validate_json(written, context=context)


class _Resolver:
    def __init__(self, config: Config, host: Host, problems: list[Problem]) -> None:
        self.config, self.host, self.problems = config, host, problems

    def run(self) -> Config:
        config = self.config
        try:
            self.host.bring(config.plugins, config.origin.base)
        except InputError as error:
            self._complain(("plugins",), str(error))
            raise ConfigError(self.problems) from error
        model, resolution = self._model()
        update: dict[str, Any] = {
            "task": self._component(("task",), config.task),
            "data": self._component(("data",), config.data),
            "model": model,
            "tokenizer": self._tokenizer(model, resolution),
            "train": self._train(resolution),
            "strategy": self._component(("strategy",), config.strategy),
            "launch": self._component(("launch",), config.launch),
        }
        for key in ("export", "observers"):
            components = enumerate(getattr(config, key))
            update[key] = tuple(self._component((key, at), item) for at, item in components)
        self._check_exports()
        self._check_precision()
        if self.problems:
            raise ConfigError(self.problems)
        return config.model_copy(update=update)

    def _complain(self, path: KeyPath, message: str, remedy: str = "") -> None:
        self.problems.append(self.config.origin.problem(path, message, remedy))

    def _component(self, path: KeyPath, component: C) -> C:
        options = self._options(path, component)
        return component if options is None else _with_options(component, options)

    def _options(self, path: KeyPath, component: Component) -> ComponentConfig | None:
        """The checked options of a component; None where there are none, or none that fit."""
        written, kind = component.options, KINDS[str(path[0])]
        try:
            options_class = _options_class(kind, component.name, self.host)
        except PluginError as error:
            self._complain((*path, "name"), str(error))
            return None
        if options_class is None:
            self._refuse_unknown(path, component, written, ())
            return None
        try:
            return _checked(options_class, kind, component, self.config.origin.base)
        except PluginError as error:
            self._complain(path, str(error))
            return None
        except ValidationError as error:
            unknown = []
            for complaint in explain(error, options_class, written):
                if complaint.kind == "extra_forbidden" and len(complaint.path) == 1:
                    unknown.append(str(complaint.path[0]))
                else:
                    self._complain((*path, *complaint.path), complaint.message, complaint.remedy)
            self._refuse_unknown(path, component, unknown, options_class.model_fields)
            return None

    def _refuse_unknown(
        self, path: KeyPath, component: Component, unknown: Iterable[str], known: Iterable[str]
    ) -> None:
        choices = [*known, *(key for key in type(component).model_fields if key != "name")]
        kind = KINDS[str(path[0])]
        others = [each.record for each in self.host.entries(kind) if path[0] in IMPLIED]
        named = ", ".join(record.name for record in others if record.config)
        for key in unknown:
            complaint = unknown_key((*path, key), choices)
            message, remedy = f'"{component.name}" has no such option', complaint.remedy
            if named and not choices:
                remedy += f"; name a {kind} that does ({named})"
            self._complain(complaint.path, message, remedy)

    def _model(self) -> tuple[Component, Resolution | None]:
        component = self.config.model
        options = self._options(("model",), component)
        try:
            record = cast("ModelRecord", self.host.entry("model", component.name).record)
            if self.problems or not record.resolve:
                return component if options is None else _with_options(component, options), None
            resolve_model = load(record, record.resolve)
            with quietly(f'model "{component.name}"', ValueError):
                resolution: Resolution = resolve_model(options)
        except ConfigError as error:
            self.problems += map(self.config.origin.placed, error.problems)
            return component, None
        except ValueError as error:
            if not self.problems:  # else it is named already
                self._complain(("model",), str(error))
            return component, None
        if isinstance(resolution.options, BaseModel):
            component = _with_options(component, resolution.options)
        return component, resolution

    def _tokenizer(self, model: Component, resolution: Resolution | None) -> Any:
        tokenizer = self.config.tokenizer
        pretrained, writes = model.options.get("pretrained"), self._writes()
        if not tokenizer.name:
            name = "pretrained" if pretrained else "bpe" if writes else "wordpiece"
            tokenizer = tokenizer.model_copy(update={"name": name})
        implied = {"pretrained": pretrained} if pretrained else {}
        implied |= {"lowercase": False} if writes else {}
        missing = {key for key in implied if tokenizer.options.get(key) is None}
        if missing:
            try:
                options_class = _options_class("tokenizer", tokenizer.name, self.host)
            except PluginError:
                options_class = None  # `_component` names it
            known = missing & (options_class.model_fields.keys() if options_class else set())
            tokenizer = tokenizer.model_copy(update={key: implied[key] for key in known})
        limit = resolution.max_length if resolution else None
        if limit is not None and tokenizer.max_length > limit:
            if "max_length" in self.config.tokenizer.model_fields_set:
                message = f"the model takes at most {limit} tokens, not {tokenizer.max_length}"
                self._complain(("tokenizer", "max_length"), message, f"set it to {limit} or less")
            tokenizer = tokenizer.model_copy(update={"max_length": limit})
        return self._component(("tokenizer",), tokenizer)

    def _writes(self) -> bool:
        try:
            record = cast("TaskRecord", self.host.entry("task", self.config.task.name).record)
        except PluginError:
            return False  # `_component` names it
        return record.writes

    def _train(self, resolution: Resolution | None) -> TrainConfig:
        if self.config.train.learning_rate is not None:
            return self.config.train
        rate = resolution.learning_rate if resolution else _LEARNING_RATE
        return self.config.train.model_copy(update={"learning_rate": rate})

    def _check_exports(self) -> None:
        names = [each.name for each in self.config.export]
        for at, name in enumerate(names):
            if name in names[:at]:
                message = f'"{name}" is there twice, and both would be written to bundle/{name}'
                self._complain(("export", at), message, "keep one; export the other with out=DIR")

    def _check_precision(self) -> None:
        config = self.config
        try:
            entry = self.host.entry("strategy", config.strategy.name)
        except PluginError:
            return  # named already
        accepted = cast("StrategyRecord", entry.record).precisions
        if config.precision not in ("auto", *accepted):
            message = f'strategy "{config.strategy.name}" does not take {config.precision}'
            self._complain(("precision",), message, f"it takes {', '.join(accepted)}")
        elif (config.precision, config.device) == ("fp16", "cpu"):
            self._complain(("precision",), *FP16_ON_CPU)


def _with_options(component: C, options: BaseModel) -> C:
    """The component with the options that were completed; its frame keys stay."""
    frame = {key: getattr(component, key) for key in type(component).model_fields}
    return component.model_copy(update={**options.model_dump(mode="json"), **frame})


def monitor_of(config: Config, codec: Codec) -> tuple[str, str]:
    """The value that selects the best model, and which way is better.

    Raises:
        ConfigError: `eval.monitor` names no value of the task.
    """
    better = {name: way for metric in codec.metrics() for name, way in metric.better.items()}
    name = config.eval.monitor or next(iter(better), "loss")
    better["loss"] = "lower"
    if name not in better:
        meant = closest(name, better)
        remedy = f'did you mean "{meant}"?' if meant else f"choose one of {', '.join(better)}"
        message = f'"{name}" is no value of task "{config.task.name}"'
        raise ConfigError([Problem(key="eval.monitor", message=message, remedy=remedy)])
    return name, better[name]


def _check_exports(config: Config, host: Host, level: str) -> None:
    """Raises ConfigError for the first format that could not hold what a run trains."""
    records = [cast("ExporterRecord", each.record) for each in host.entries("exporter")]
    able = ", ".join(each.name for each in records if not each.one_graph)
    for place, component in enumerate(config.export if level == "target" else ()):
        record = cast("ExporterRecord", host.entry("exporter", component.name).record)
        if record.one_graph:
            message = f"{component.name} takes no models of several graphs, which this task has"
            problem = Problem(
                key=f"export[{place}]", message=message, remedy=f"take one of: {able}"
            )
            raise ConfigError([problem])


def check_model(config: Config, host: Host, codec: Codec) -> None:
    """Raises ConfigError where a resolved config's model cannot do what the task wants of it."""
    name, level = config.model.name, codec.head.level
    record = cast("ModelRecord", host.entry("model", name).record)
    models = [cast("ModelRecord", each.record) for each in host.entries("model")]
    if level not in record.levels:
        able = [each.name for each in models if level in each.levels]
        message = f'"{name}" gives no outputs of the level "{level}", which task '
        message += f'"{config.task.name}" wants'
        key, remedy = "model", "take one that does"
    elif codec.pack and not record.documents:
        able = [each.name for each in models if level in each.levels and each.documents]
        message = f'"{name}" does not keep the texts that share a row apart'
        key, remedy = "task.pack", "set it to false, or take a model that does"
    else:
        _check_exports(config, host, level)
        return
    remedy += f": {', '.join(able) or 'none that is installed'}"
    raise ConfigError([Problem(key=key, message=message, remedy=remedy)])
