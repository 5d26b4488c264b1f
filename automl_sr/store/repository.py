"""The writing half of the repository: every change is one short transaction, every result is
fenced.
"""

from __future__ import annotations

from automl_sr.store.studies import StudyWriter
from automl_sr.store.study_clock import StudyClock
from automl_sr.store.trial_queue import TrialQueue
from automl_sr.store.trial_writer import TrialWriter


class Store(StudyWriter, StudyClock, TrialQueue, TrialWriter):
    """A store to write to: studies and their clocks, the queue of trials, and what they report."""
