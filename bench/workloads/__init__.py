"""The workloads, in the order of the table."""

from workloads.churn import Churn
from workloads.cold import Cold
from workloads.density import Density
from workloads.hot import Hot
from workloads.noop import Large, Middle, Small
from workloads.pipeline import Pipeline
from workloads.workload import Workload

ALL: list[type[Workload]] = [Hot, Churn, Cold, Density, Small, Middle, Large, Pipeline]
