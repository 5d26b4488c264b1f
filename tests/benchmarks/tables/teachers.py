"""What a teacher gives a net of at most 25,000 parameters, at equal steps and at equal time.

    OMP_NUM_THREADS=1 AUTOML_SR_DATA=... python tests/benchmarks/tables/teachers.py [--print]

The teacher, which has 158,692 parameters, is trained once for all, and its seconds are not counted.
A row "in the time of none" has so many steps as take as long as those of the student alone, by
the rates of the rows with equal steps. Nothing else may run beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ablation import changed
from in_time import measured_in_time, timed
from table import Row, arguments, main

PATH = Path(__file__).parent / "teachers.json"
COLUMNS = {"Set5": 3, "Set14": 3, "params": 0, "steps": 0, "steps_per_s": 1}
TEACHER = {"edsr": {"width": 32, "blocks": 8, "tail": "lite", "reparam": "none"}}
STUDENT = {"edsr": {"width": 16, "blocks": 4, "tail": "lite", "reparam": "none"}}
OF_TEACHER = {"architecture": TEACHER, "steps": 8000}
TEACHERS: dict[str, Any] = {
    "response": {"response": {**OF_TEACHER, "share": 0.5}},
    "affinity": {"features": {**OF_TEACHER, "form": "affinity", "pool": 4}},
    "attention": {"features": {**OF_TEACHER, "form": "attention"}},
    "projection": {"features": {**OF_TEACHER, "form": "projection"}},
}


def rows() -> list[Row]:
    """Return the student alone, and with each teacher at equal steps and at equal time."""
    alone = changed(architecture=STUDENT, recipe={"lr": 2e-3})
    found = [Row("none", alone)]
    for name, teacher in TEACHERS.items():
        taught = {**alone, "slots": {"teacher": teacher}}
        found.append(Row(name, taught))
        found.append(Row(f"{name}, in the time of none", timed(taught, alone)))
    return found


if __name__ == "__main__":
    main(rows(), arguments(__doc__ or "", 3), PATH, measured_in_time(PATH), COLUMNS, "none")
