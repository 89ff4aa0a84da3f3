"""The only importer of avalanche. Everybody else takes its names from here."""

from __future__ import annotations

from avalanche.benchmarks import CLScenario, DatasetExperience, benchmark_from_datasets
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from avalanche.training.plugins.clock import Clock
from avalanche.training.templates import SupervisedTemplate

__all__ = [
    "AvalancheDataset",
    "CLScenario",
    "Clock",
    "DatasetExperience",
    "EvaluationPlugin",
    "SupervisedPlugin",
    "SupervisedTemplate",
    "benchmark_from_datasets",
]
