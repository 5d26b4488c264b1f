"""Find plugins, check what they register, and keep a list of what is unavailable and why."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pluggy

from automl_sr.errors import PluginError, nearest
from automl_sr.plugin import hookspecs
from automl_sr.plugin.blueprint import Edit
from automl_sr.plugin.declaration import problems_of
from automl_sr.plugin.foreign import CtrlC, Mishap, contained, one_line, text_of
from automl_sr.plugin.metric import BUILTIN_METRICS, NEEDS, Metric
from automl_sr.plugin.process_state import ProcessState
from automl_sr.plugin.task import Task
from automl_sr.plugin.technique import NAME, Pick, Slot, Technique, search_fields

if TYPE_CHECKING:
    import typer

T = TypeVar("T")

GROUP = "automl_sr"


class EntryPoint(Protocol):
    """The part of `importlib.metadata.EntryPoint` that is used here."""

    @property
    def name(self) -> str:
        """The plugin's name."""

    @property
    def value(self) -> str:
        """The module that it names."""

    def load(self) -> Any:
        """Import it."""


@dataclass(frozen=True)
class Source:
    """Where a registered thing comes from.

    `plugin` is the plugin's name.
    """

    plugin: str
    distribution: str = ""
    version: str = ""


@dataclass(frozen=True)
class Unavailable:
    """Something that was found but cannot be used, with the reason."""

    plugin: str
    what: str
    reason: str


@dataclass
class Registry:
    """Everything that the installed plugins provide."""

    techniques: dict[Slot, dict[str, type[Technique]]] = field(
        default_factory=lambda: {slot: {} for slot in Slot}
    )
    tasks: dict[str, type[Task]] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=dict)
    factories: dict[str, str | Callable[..., Any]] = field(default_factory=dict)
    edits: dict[str, Edit] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    unavailable: list[Unavailable] = field(default_factory=list)
    manager: pluggy.PluginManager = field(default_factory=lambda: pluggy.PluginManager(GROUP))

    def technique(self, slot: Slot | str, name: str) -> type[Technique]:
        """Find a technique.

        Raises PluginError with the reason where it is known but unavailable.
        """
        known = self.techniques[Slot(slot)]
        if name in known:
            return known[name]
        for item in self.unavailable:
            if item.what in (name, f"{slot}.{name}") or item.plugin == name:
                raise PluginError(
                    f"The {slot} technique {name!r} is unavailable: {item.reason}",
                    "See `automl-sr plugins`.",
                )
        hint = nearest(name, known) or f"Installed: {', '.join(sorted(known)) or 'none'}."
        raise PluginError(f"No installed plugin provides the {slot} technique {name!r}.", hint)

    def with_technique(self, cls: type[Technique]) -> Registry:
        """Return the same with this technique in the place of the one of its slot and name."""
        techniques = {slot: dict(known) for slot, known in self.techniques.items()}
        techniques[cls.slot][cls.name] = cls
        return dataclasses.replace(self, techniques=techniques)

    def metric(self, name: str) -> Metric:
        """Find a metric. Raises PluginError with the nearest name."""
        if name in self.metrics:
            return self.metrics[name]
        hint = nearest(name, self.metrics) or f"Known: {', '.join(sorted(self.metrics))}."
        raise PluginError(f"Unknown metric {name!r}.", hint)

    def metrics_of(self, task: type[Task]) -> list[Metric]:
        """List the metrics that a task can be measured by."""
        found: list[Metric] = []
        for metric in self.metrics.values():
            if self.why_not(metric, task) is None:
                found.append(metric)
        return found

    def why_not(self, metric: Metric, task: type[Task]) -> str | None:
        """Say why a task cannot be measured by a metric, if so."""
        if "reference_net" in metric.needs and not task.has_reference_net():
            return (
                f"the task {task.kind!r} has no reference net, with which {metric.name!r} compares"
            )
        if metric.level == "quality" and not self._fits(metric, task):
            return f"the task {task.kind!r} does not measure {metric.name!r}"
        return None

    def _fits(self, metric: Metric, task: type[Task]) -> bool:
        """Whether a quality metric is called with what a task gives."""
        if _brings(task, metric):
            return True
        # A metric of another task is called with that task's outputs, whatever its `tasks` says.
        for other in self.tasks.values():
            if _brings(other, metric):
                return False
        return bool({"*", task.kind} & metric.tasks)

    def task(self, kind: str) -> type[Task]:
        """Find a task. Raises PluginError with the nearest name."""
        if kind in self.tasks:
            return self.tasks[kind]
        hint = nearest(kind, self.tasks) or f"Known: {', '.join(sorted(self.tasks))}."
        raise PluginError(f"Unknown task kind {kind!r}.", hint)

    def baseline(self, slot: Slot) -> type[Technique] | None:
        """Return the technique that trial 0 uses in a slot.

        It is the one marked so, else the first by name of those that need not be asked for.
        """
        known: list[type[Technique]] = []
        for cls in self.techniques[slot].values():
            if not cls.asked_only:
                known.append(cls)
        return min(
            known,
            key=lambda cls: (not cls.baseline, cls.name),
            default=None,
        )

    def source(self, technique: type[Technique]) -> Source:
        """Say which plugin registered a technique."""
        return self.sources[f"{technique.slot}.{technique.name}"]

    def add_technique(self, cls: type[Technique], source: Source) -> None:
        """Check a technique and take it in.

        Raises PluginError with everything that is wrong with it.
        """
        if not isinstance(cls, type) or not issubclass(cls, Technique):
            raise PluginError(f"register_techniques gave {cls!r}, which is not a Technique class.")
        problems = problems_of(cls)
        if problems:
            raise PluginError("; ".join(problems))
        # Everything is checked before anything is noted: what is refused must leave no trace.
        self._check_place(cls)
        self._check_blueprint_names(cls)
        key = f"{cls.slot}.{cls.name}"
        self.techniques[cls.slot][cls.name] = cls
        self.factories.update(cls.factories)
        self.edits.update(cls.edits)
        self.sources[key] = source

    def _check_place(self, cls: type[Technique]) -> None:
        """Raise PluginError where a technique's place in its slot is taken."""
        key = f"{cls.slot}.{cls.name}"
        others = self.techniques[cls.slot]
        if cls.slot.single and others:
            raise PluginError(f"The slot {cls.slot!r} has one technique, which cannot be replaced.")
        if key in self.sources:
            raise PluginError(
                f"The name {key!r} is already taken by the plugin {self.sources[key].plugin!r}."
            )
        if cls.baseline and any(other.baseline for other in others.values()):
            raise PluginError(
                f"{key} is marked as baseline, but the slot {cls.slot!r} already has one."
            )

    def _check_blueprint_names(self, cls: type[Technique]) -> None:
        """Raise PluginError where a factory or an edit has a name that means something else."""
        taken = set(cls.factories) & set(self.factories)
        taken |= set(cls.edits) & set(self.edits)
        for name in sorted(taken):
            # The same thing under the same name is no clash: a family may share its factories.
            same_factory = self.factories.get(name) == cls.factories.get(name)
            same_edit = self.edits.get(name) == cls.edits.get(name)
            if not same_factory or not same_edit:
                raise PluginError(
                    f"The blueprint name {name!r} of {cls.slot}.{cls.name} is already taken."
                )

    def add_task(self, cls: type[Task]) -> None:
        """Take in a task. Raises PluginError where it is no task or its kind is taken."""
        is_task = isinstance(cls, type) and issubclass(cls, Task)
        if not is_task or not isinstance(getattr(cls, "kind", None), str):
            raise PluginError(
                f"register_tasks gave {cls!r}, which is not a Task class with a kind."
            )
        if cls.kind in self.tasks:
            raise PluginError(f"The task kind {cls.kind!r} is already taken.")
        self.tasks[cls.kind] = cls
        for metric in cls.metrics:
            # Two tasks may share a metric, as long as it is the same.
            if self.metrics.get(metric.name) != metric:
                self.add_metric(metric)

    def add_metric(self, metric: Metric) -> None:
        """Take in a metric. Raises PluginError where it is no metric or its name is taken."""
        if not isinstance(metric, Metric) or not NAME.fullmatch(metric.name):
            raise PluginError(
                f"register_metrics gave {metric!r}, which is not a Metric with a lower-case name."
            )
        known = NEEDS.get(metric.level, ())
        for need in metric.needs:
            if need not in known:
                raise PluginError(
                    f"The metric {metric.name!r} needs {need!r}, which nothing gives to"
                    f" {metric.level}."
                )
        if metric.name in self.metrics:
            raise PluginError(f"The metric name {metric.name!r} is already taken.")
        self.metrics[metric.name] = metric

    def add_plugin(self, plugin: object, source: Source) -> None:
        """Register a plugin.

        What is wrong with it is listed as unavailable, and stops nothing else.
        """
        name = source.plugin
        if not self._works(name, name, lambda: self.manager.register(plugin, name=name)):
            return
        # Metrics and tasks first: what a technique is checked against is then there.
        for hook, add in (
            ("register_metrics", self.add_metric),
            ("register_tasks", self.add_task),
            ("register_techniques", functools.partial(self.add_technique, source=source)),
        ):
            for item in self._ask(plugin, hook, source):
                self._works(
                    name,
                    _name_of(item),
                    functools.partial(add, item),
                )

    def add_commands(self, app: typer.Typer) -> None:
        """Let every plugin add its commands; one that fails is listed as unavailable."""
        for implementation in self.manager.hook.register_commands.get_hookimpls():
            self._works(
                implementation.plugin_name,
                "register_commands",
                functools.partial(implementation.function, app),
            )

    def _ask(self, plugin: object, hook: str, source: Source) -> list[Any]:
        """Call one hook of one plugin, so that an error in it is laid at the right door."""
        found: list[Any] = []
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            if implementation.plugin is plugin:
                collect = functools.partial(
                    _collect,
                    implementation.function,
                    found,
                )
                self._works(source.plugin, hook, collect)
        return found

    def _works(
        self,
        plugin: str,
        what: str,
        work: Callable[[], object],
    ) -> bool:
        """Return whether code of a plugin ran through; what does not is listed."""
        found = _tried(work)
        if not isinstance(found, Mishap):
            return True
        self.unavailable.append(Unavailable(plugin, what, found.reason))
        return False


def _collect(hook: Callable[[], Iterable[Any]], found: list[Any]) -> None:
    # Inside of what is tried: a hook may be a generator, which runs only now.
    found += list(hook())


def _brings(task: type[Task], metric: Metric) -> bool:
    return any(own.name == metric.name for own in task.metrics)


def _tried(work: Callable[[], T]) -> T | Mishap:
    """Return what code of a plugin gives, or what it raised; only Ctrl-C gets through.

    It may change nothing that belongs to the whole process, and standard output is not its own.
    """
    state = ProcessState()
    # Standard output may be JSON that another program reads.
    with CtrlC() as ctrl_c, contextlib.redirect_stdout(sys.stderr):
        found = contained(work, words=_reason_of)
    state.restore_after_import()
    # Raised again only here, since a plugin may have swallowed it.
    if ctrl_c.came:
        raise KeyboardInterrupt
    return found


def _reason_of(error: BaseException) -> str:
    if isinstance(error, PluginError):
        return text_of(error)
    return one_line(error)


def _name_of(item: object) -> str:
    found = contained(lambda: str(getattr(item, "name", getattr(item, "kind", item))))
    if isinstance(found, str):
        return found
    return object.__repr__(item)


def discover(
    entry_points: Iterable[EntryPoint] | None = None, plugins: Iterable[object] = ()
) -> Registry:
    """Load every installed plugin, each in its own try.

    A broken one is listed with its reason and stops nothing. `entry_points` replaces the installed
    ones, `plugins` are modules or objects to register first, both for tests. What core brings along
    (the recipe, image super-resolution) is registered by entry points too.
    """
    registry = Registry()
    registry.manager.add_hookspecs(hookspecs)
    for metric in BUILTIN_METRICS:
        registry.add_metric(metric)
    for plugin in plugins:
        name = getattr(plugin, "__name__", type(plugin).__name__)
        registry.add_plugin(plugin, Source(name))

    points = entry_points
    if points is None:
        points = _installed_points()
    for point in points:
        distribution = getattr(getattr(point, "dist", None), "name", "") or ""
        source = Source(point.name, distribution, _version(distribution))
        plugin = _tried(point.load)
        if isinstance(plugin, Mishap):
            registry.unavailable.append(Unavailable(point.name, point.name, plugin.reason))
            continue
        registry.add_plugin(plugin, source)
    return registry


def _installed_points() -> list[importlib.metadata.EntryPoint]:
    # By name: of two plugins that want the same name, the same one gets it on every machine.
    points = importlib.metadata.entry_points(group=GROUP)
    return sorted(points, key=lambda point: point.name)


@functools.cache
def installed() -> Registry:
    """Return the registry of this process, discovered once."""
    return discover()


def _version(distribution: str) -> str:
    if not distribution:
        return ""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def instantiate(
    registry: Registry,
    slot: Slot | str,
    data: Mapping[str, Any] | str,
) -> Technique:
    """Make a technique from its name, or from its fields.

    Fields are what `Technique.dump` gave, with the name under `technique`.
    """
    if isinstance(data, str):
        return registry.technique(slot, data)()
    fields = dict(data)
    cls = registry.technique(slot, fields.pop("technique"))
    for spec in search_fields(cls):
        value = fields.get(spec.name)
        if isinstance(spec.marker, Pick) and isinstance(value, Mapping):
            fields[spec.name] = instantiate(
                registry,
                spec.marker.slot,
                value,
            )
    return cls(**fields)
