"""What was learned: tables from the record of a run. Knows the record's schema and the store, nothing of training."""

from analysis.checks import findings
from analysis.comparison import Comparison, compare
from analysis.formats import FORMATS, render
from analysis.frames import Record, load
from analysis.results import VariantResult, summarise
from analysis.run_data import Evidence, read_evidence

__all__ = [
    "FORMATS",
    "Comparison",
    "Evidence",
    "Record",
    "VariantResult",
    "compare",
    "findings",
    "load",
    "read_evidence",
    "render",
    "summarise",
]
