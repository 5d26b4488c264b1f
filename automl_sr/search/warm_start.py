"""What a new study can import from one that is there: trials whose plans mean the same in its
space.

Each old plan is asked for again, parameter by parameter, by the new space. It is imported if that
gives a plan with the same fingerprint; otherwise the reason is counted. Optuna then gets it with
the distributions of the new space, so that samplers learn from it as if it had been drawn there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from optuna.samplers import NSGAIISampler

from automl_sr.errors import TrialError, UseError
from automl_sr.plugin.technique import Float, Int, Slot, Technique, as_json, search_fields
from automl_sr.search.decide.gate import NOISE
from automl_sr.search.optuna import sync
from automl_sr.search.results import ORIGIN
from automl_sr.space.domains import Nested, TechniqueSpace, same, snap
from automl_sr.space.plan import TrialPlan, fingerprint
from automl_sr.space.search_space import flat, prefix_of
from automl_sr.store.database import creating, explained
from automl_sr.store.imports import Import
from automl_sr.store.records import UNFINISHED, Claim, Result
from automl_sr.study.limits import broken
from automl_sr.study.spec import StudySpec

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry
    from automl_sr.search.open_study import OpenStudy
    from automl_sr.space.search_space import SearchSpace
    from automl_sr.store.reading import Reader
    from automl_sr.store.records import RungRecord, StudyRecord, TrialRecord

FREE_OF_TASK = ("test",)
"""What of a task a search does not see: test sets."""
STAGES = (
    "select_data",
    "blueprint",
    "phases",
    "wrap_step",
    "compress",
    "export",
    "evaluate",
    "predict",
)


class LeftOutError(Exception):
    """A trial cannot be imported; the text goes on after "4 trials ..."."""


@dataclass(frozen=True)
class WarmStart:
    """What a new study imports, and what the first trial of its own is asked."""

    source: str
    imports: tuple[Import, ...]
    left_out: Mapping[str, int]
    baseline: Mapping[str, Any] | None
    """Nothing where the baseline is among the trials that are imported."""

    def to_json(self) -> dict[str, Any]:
        """Return what the study's environment keeps of it."""
        states = Counter(item.state for item in self.imports)
        return {
            "study": self.source,
            "imported": len(self.imports),
            "states": dict(states),
            "left_out": dict(self.left_out),
        }


def sentence(origin: Mapping[str, Any]) -> str:
    """Say what was imported and what was not, from what the environment keeps."""
    imported = origin["imported"]
    left = origin["left_out"]
    there = imported + sum(left.values())
    said = f"imported {imported} of {there} trials of {origin['study']}"
    if left:
        said += f"; left out: {_counted(left)}"
    return said


def _counted(reasons: Mapping[str, int]) -> str:
    """Write reasons with how many trials each one is about."""
    return "; ".join(f"{count} {reason}" for reason, count in reasons.items())


def plan_warm_start(reader: Reader, old: StudyRecord, importer: TrialImporter) -> WarmStart:
    """Look what a study can import.

    Raises UseError where results do not compare, or where nothing fits.
    """
    importer.check(old)
    rungs: dict[int, list[RungRecord]] = {}
    for row in reader.rungs(old):
        rungs.setdefault(row.number, []).append(row)
    shift = importer.rung_shift(old)

    imports = []
    left_out = Counter[str]()
    for trial in reader.trials(old):
        own = rungs.get(trial.number, [])
        try:
            imports.append(importer.take(old, trial, own, shift))
        except LeftOutError as reason:
            left_out[str(reason)] += 1
    counted = dict(left_out.most_common())  # the most frequent reason first
    if not imports:
        reasons = _counted(counted) or "it has no trials"
        raise UseError(
            f"Nothing of {old.name!r} can be imported into {importer.spec.name!r} ({reasons}).",
            "Begin the new study without it.",
        )
    return WarmStart(old.name, tuple(imports), counted, importer.baseline(imports))


def project_imports(study: OpenStudy) -> None:
    """Let Optuna know the trials that a study imported, those which it does not know yet; safe to
    be killed in.

    Each process that opens the study looks, before it lets the sampler draw.
    """
    if ORIGIN not in study.record.environment:
        return
    # One process at a time: two would both find a trial unknown, and tell it twice.
    with creating(study.store.engine):
        with explained(study.store.url):
            trials = study.optuna.get_trials(deepcopy=False)
        known = {trial.user_attrs.get(sync.KEY_ATTRIBUTE) for trial in trials}
        for row in study.store.trials(study.record):
            if row.origin is None or row.key in known:
                continue
            claim = Claim(row.id, row.study_id, row.key, "", row.fence, row.number)
            trial = sync.project(study, claim, row.asked or {})
            result = Result(row.state, values=row.values, violations=row.violations)
            sync.tell(study, trial, row.number, result)
        # One that a killed process had made known, but not yet how it had ended.
        sync.reconcile(study)


@dataclass(frozen=True)
class TrialImporter:
    """A study that is about to be created, as far as old trials have to fit it."""

    spec: StudySpec
    space: SearchSpace
    environment: Mapping[str, Any]
    """Its versions, and the fingerprint of its images under "data"."""
    neutral: Mapping[str, Any] = field(init=False)
    """By slot, the technique that changes nothing, and by field that came `Later` its default: what
    plans did that were made before the slot could be filled, or the technique had the field.
    """

    def __post_init__(self) -> None:
        found: dict[str, Any] = {}
        for slot in self.space.slots:
            for option in slot.options:
                if changes_nothing(option.technique):
                    found[slot.slot.value] = option.name
                found.update(_later_defaults(option, prefix_of(slot.slot, option.name)))
        object.__setattr__(self, "neutral", found)  # the class is frozen

    @property
    def registry(self) -> Registry:
        """What is installed."""
        return self.space.registry

    # Whether results compare

    def check(self, old: StudyRecord) -> None:
        """Raise UseError with everything that keeps results of the old study from comparing with
        those of the new.
        """
        found = self.differences(old)
        if found:
            raise UseError(
                f"The trials of {old.name!r} do not compare with those of {self.spec.name!r}"
                f" ({'; '.join(found)}).",
                "Make these equal, or begin the new study without them.",
            )

    def differences(self, old: StudyRecord) -> list[str]:
        """Say in what respects results were obtained otherwise."""
        # Read anew, so that a key which an older version did not know has its default.
        before = StudySpec.from_json(old.spec, self.registry)
        there = before.to_json()
        here = self.spec.to_json()
        found = _unequal("task", there["task"], here["task"], FREE_OF_TASK)
        found += _unequal(
            "budget", {"steps": before.budget.steps}, {"steps": self.spec.budget.steps}
        )
        missing = _lacking_of(self.spec.metrics(), before.metrics())
        if missing:
            found.append(f"{', '.join(missing)}: not measured there")
        # Where nothing is timed, on which device it would run makes no difference.
        if self._measures_a_device():
            found += _unequal("device", there["device"], here["device"])
        if old.environment.get("data") != self.environment["data"]:
            found.append(f"other images{self._seeds(before)}")
        return found + self._software(old)

    def _measures_a_device(self) -> bool:
        metrics = map(self.registry.metric, self.spec.metrics())
        return any(metric.level == "device" for metric in metrics)

    def _seeds(self, before: StudySpec) -> str:
        """Say that other seeds may be why images differ: a task may draw its samples by them."""
        then = before.search.seed
        now = self.spec.search.seed
        if then == now:
            return ""
        return f" (search.seed {then} there, {now} here, may draw them)"

    def _software(self, old: StudyRecord) -> list[str]:
        """Compare the versions of what both studies use."""
        sources = self.registry.sources
        used = set()
        for name in _techniques(old.space) & _techniques(self.space.to_json()):
            if name in sources:
                used.add(sources[name].plugin)

        there = old.environment
        here = self.environment
        versions = [("automl-sr", there["automl-sr"], here["automl-sr"])]
        for name in sorted(used):
            versions.append((name, there["plugins"].get(name), here["plugins"].get(name)))
        found: list[str] = []
        for name, then, now in versions:
            if then != now:
                found.append(f"{name}: {then or 'none'} there, {now or 'none'} here")
        return found

    # Single trials

    def rung_shift(self, old: StudyRecord) -> int | None:
        """Return by how much a rung's number differs in the new study, or nothing where its rungs
        lie elsewhere.
        """
        there = StudySpec.from_json(old.spec, self.registry).search.scheduler
        here = self.spec.search.scheduler
        if "none" in (there.kind, here.kind) or there.reduction != here.reduction:
            return None
        # The last rung is at the end of training, and each one before it at a fixed share of the
        # next: from the end they are the same ones.
        return here.rungs - there.rungs

    def take(
        self, old: StudyRecord, trial: TrialRecord, rungs: Sequence[RungRecord], shift: int | None
    ) -> Import:
        """Make a trial of the new study from one of the old one. Raises LeftOutError."""
        plan, params = self._recreated(trial)
        values = self._asked_of(trial.values)
        violations, reason = self._judged(plan, trial, values)
        kept: tuple[RungRecord, ...] = ()
        if shift is not None:
            kept = tuple(self._rungs(rungs, shift))
        if trial.state == "pruned" and not kept:
            raise LeftOutError("stopped at a rung that the new study lacks")
        return Import(
            source=trial.id,
            origin={"study": old.name, "number": trial.number},
            state=trial.state,
            plan=plan.to_json(),
            asked={"params": params, "notes": self._notes()},
            fingerprint=plan.fingerprint,
            values=values,
            costs=trial.costs,
            violations=violations,
            reason=reason,
            seconds=trial.seconds,
            stage_seconds=trial.stage_seconds,
            rungs=kept,
        )

    def baseline(self, imports: Sequence[Import]) -> dict[str, Any] | None:
        """Return what the baseline is asked, unless it is among the trials that are imported."""
        try:
            start = self.space.default_params()
            params = {}
            for name, value in start.items():
                # A stored name goes on with what may be chosen: `quantization[none|int8]`.
                params[name.partition("[")[0]] = value
            plan = self.space.suggest(Recall(params))
        except TrialError:
            return None  # a technique refuses its defaults in these ranges
        for item in imports:
            if item.fingerprint == plan.fingerprint:
                return None
        return {"params": start, "notes": {}}

    def _asked_of(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the values of the metrics that the new study measures."""
        found = {}
        for name in self.spec.metrics():
            if name in values:
                found[name] = values[name]
        return found

    def _recreated(self, trial: TrialRecord) -> tuple[TrialPlan, dict[str, Any]]:
        """Ask for an old plan in the new space; gives it, and its parameters by stored name.

        Raises LeftOutError.
        """
        if trial.state in UNFINISHED:
            raise LeftOutError("not ended")
        if trial.state == "failed":
            raise LeftOutError("failed")
        if trial.state == "duplicate":
            raise LeftOutError("that repeat another one")
        if trial.plan is None:
            raise LeftOutError("refused by a technique")
        recall = Recall(trial.params, self.neutral)
        try:
            plan = self.space.suggest(recall)
        except TrialError:
            raise LeftOutError("refused by a technique") from None

        # Slots that could not be filled then do not count, where the new plan leaves them neutral:
        # the fingerprint of then knows nothing of them.
        before = trial.plan["techniques"]
        meant = {}
        for slot, item in plan.techniques.items():
            if slot.value in before or not changes_nothing(type(item)):
                meant[slot] = item
        if fingerprint(meant) != trial.fingerprint:
            raise LeftOutError(_difference(before, trial.params, plan))
        return plan, recall.asked

    def _judged(
        self, plan: TrialPlan, trial: TrialRecord, values: Mapping[str, float]
    ) -> tuple[dict[str, float], str | None]:
        """Hold a trial against the new limits: the violations of one that was rejected, and what to
        say of it.
        """
        limits = self.spec.constraints
        if trial.state != "infeasible":
            missing = _lacking_of(self.spec.metrics(), values)
            if missing:
                raise LeftOutError(f"without a value of {missing[0]}")
            return {}, broken(limits, values)
        lower, upper = self._bounds(plan, trial.costs)
        violations = {}
        rejected = False
        for name, limit in limits.items():
            if name in lower:
                amount = limit.violation(lower[name], upper[name])
                violations[name] = amount
                rejected = rejected or amount > 0
        if not rejected:
            raise LeftOutError("rejected for reasons that the new study does not have")
        return violations, broken(limits, lower) or trial.reason

    def _bounds(
        self, plan: TrialPlan, costs: Mapping[str, float]
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Bound the costs of a shipped model, as the gate does, from what it had measured."""
        lower = dict(costs)
        upper = dict(costs)
        for name in costs:
            if self.registry.metric(name).level == "device":
                lower[name] *= NOISE
                upper[name] /= NOISE
        for technique in plan.techniques.values():
            lower, _ = technique.predict(lower, self.spec.task)
            _, upper = technique.predict(upper, self.spec.task)
        return lower, upper

    def _rungs(self, rungs: Sequence[RungRecord], shift: int) -> Iterator[RungRecord]:
        """Go through the rungs that the new study has too, under its numbers."""
        for row in rungs:
            number = row.rung + shift
            if number >= 0:
                yield replace(row, rung=number, values=self._asked_of(row.values))

    def _notes(self) -> dict[str, Any]:
        """Return what the sampler would have noted on a trial."""
        if self.spec.search.sampler != "nsga2":
            return {}
        # The first generation: NSGA-II breeds from no trial that has none.
        return {NSGAIISampler._get_generation_key(): 0}


class Recall:
    """Answers what a space asks of a trial with the parameters of a plan; `asked` notes it by
    stored name.
    """

    def __init__(self, params: Mapping[str, Any], neutral: Mapping[str, Any] | None = None) -> None:
        self.asked: dict[str, Any] = {}
        self._params = params
        self._neutral = neutral or {}

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return the old choice. Raises LeftOutError where it is not offered."""
        shown = name.partition("[")[0]
        value = self._value(shown)
        for choice in choices:
            if same(choice, value):
                return self._note(name, choice)
        raise LeftOutError(_lacking(shown, value))

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """Return the old number. Raises LeftOutError where it is out of range."""
        return int(self._number(name, Int(low, high, step, log)))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return the old number. Raises LeftOutError where it is out of range."""
        return float(self._number(name, Float(low, high, step, log)))

    def _number(self, name: str, domain: Int | Float) -> float:
        value = self._value(name)
        outside = LeftOutError(f"with {name} outside the new range")
        # A bool is an int for Python, but no number that was drawn.
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise outside
        found = snap(domain, value)
        if found != value:
            raise outside
        self._note(name, found)
        return found

    def _value(self, name: str) -> Any:
        if name in self._params:
            return self._params[name]
        if name in self._neutral:
            return self._neutral[name]
        # The plan may have another technique in one of the places that lead to the field.
        parts = name.split(".")
        for count in range(1, len(parts)):
            place = ".".join(parts[:count])
            wanted = parts[count]
            had = self._params.get(place, wanted)
            if had != wanted:
                raise LeftOutError(_lacking(place, had))
        raise LeftOutError(f"without {name}")

    def _note(self, name: str, value: Any) -> Any:
        self.asked[name] = value
        return value


def _later_defaults(option: TechniqueSpace, prefix: str) -> dict[str, Any]:
    """Return, by parameter, the defaults of fields that came `Later`, of nested techniques too."""
    found: dict[str, Any] = {}
    for spec in search_fields(option.technique):
        if spec.later:
            found.update(flat(f"{prefix}.{spec.name}", as_json(spec.default)))
    for item in option.fields:
        if isinstance(item.domain, Nested):
            for inner in item.domain.options:
                found.update(_later_defaults(inner, f"{prefix}.{item.name}.{inner.name}"))
    return found


def changes_nothing(technique: type[Technique]) -> bool:
    """Whether a technique is as good as none: without fields, and the identity at every stage."""
    if technique.model_fields:
        return False
    return all(getattr(technique, stage) is getattr(Technique, stage) for stage in STAGES)


def _difference(before: Mapping[str, Any], params: Mapping[str, Any], plan: TrialPlan) -> str:
    """Say why a plan that could be asked for does not mean the same."""
    slots = set(Slot)
    for slot, item in plan.techniques.items():
        old = before.get(slot.value)
        if old and old["technique"] == item.name and old["version"] != item.version:
            return f"made by another version of {slot.value} {item.name!r}"
    for name, value in plan.params.items():
        if name not in params:
            return f"without {name}"
        if not same(params[name], value):
            if name in slots:
                return _lacking(name, params[name])
            return f"with another {name} than the new study's"
    gone = _lacking_of(params, plan.params)
    if gone:
        return f"with {gone[0]}, which is gone"
    return "that mean something else now"


def _lacking_of(names: Iterable[str], there: Container[str]) -> list[str]:
    """Return the names that are not there."""
    found: list[str] = []
    for name in names:
        if name not in there:
            found.append(name)
    return found


def _lacking(name: str, value: Any) -> str:
    return f"with {name} {value!r}, which the new space lacks"


def _unequal(
    part: str, there: Mapping[str, Any], here: Mapping[str, Any], free: Sequence[str] = ()
) -> list[str]:
    found: list[str] = []
    for name in {**there, **here}:
        if name not in free and there.get(name) != here.get(name):
            found.append(f"{part}.{name}: {there.get(name)} there, {here.get(name)} here")
    return found


def _techniques(space: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    for slot in space["slots"]:
        for option in slot["options"]:
            found.add(f"{slot['slot']}.{option['technique']}")
    return found
