"""Which patch comes next: a schedule chooses the case, a policy the place in it."""

from lifelong_ct.data.sampling.organ_balanced import OrganBalanced
from lifelong_ct.data.sampling.policy import At, Centre, Corner, Sampled, SamplingPolicy, corner, resolve
from lifelong_ct.data.sampling.sampler import Draw, PatchSampler
from lifelong_ct.data.sampling.schedules import Epochs, OnePass, Schedule, WithReplacement, make_schedule

__all__ = [
    "At",
    "Centre",
    "Corner",
    "Draw",
    "Epochs",
    "OnePass",
    "OrganBalanced",
    "PatchSampler",
    "Sampled",
    "SamplingPolicy",
    "Schedule",
    "WithReplacement",
    "corner",
    "make_schedule",
    "resolve",
]
