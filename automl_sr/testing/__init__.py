"""Contract suites for plugin authors.

Subclass one in a test module, name your technique, run pytest.

from automl_sr.testing import ArchitectureContract
from my_plugin import MyNet

class TestMyNet(ArchitectureContract):
    technique = MyNet
"""

from automl_sr.testing.architectures import ArchitectureContract
from automl_sr.testing.metrics import MetricContract
from automl_sr.testing.store import StoreContract
from automl_sr.testing.tasks import TaskContract
from automl_sr.testing.techniques import TechniqueContract

__all__ = [
    "ArchitectureContract",
    "MetricContract",
    "StoreContract",
    "TaskContract",
    "TechniqueContract",
]
