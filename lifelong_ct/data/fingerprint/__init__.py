"""Fingerprints of scans: about a kilobyte each that finds the same anatomy again, re-oriented, resampled, cropped,
clipped, noisy or of another type.

    prints = [fingerprint(voxels, affine) for ...]
    for pair in near_duplicates(prints): ...
"""

from lifelong_ct.data.fingerprint.compare import Match, compare
from lifelong_ct.data.fingerprint.extract import fingerprint, working_bytes
from lifelong_ct.data.fingerprint.search import Pair, near_duplicates
from lifelong_ct.data.fingerprint.types import Fingerprint

__all__ = ["Fingerprint", "Match", "Pair", "compare", "fingerprint", "near_duplicates", "working_bytes"]
