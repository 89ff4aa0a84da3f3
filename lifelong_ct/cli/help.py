"""`--help`: in well under a second, because it reads file names and imports nothing heavy."""

from __future__ import annotations

import textwrap

from lifelong_ct.cli.conf import first_comment, options

VERBS = {
    "train": "run a stream with a strategy; goes on where it stopped",
    "plan": "what a run would hold, where, and whether it fits; reads no voxel",
    "verify": "check hospitals and list every problem with its fix",
    "ingest": "fill the volume store",
    "evaluate": "score a run's model on the hospitals of a stream",
    "predict": "NIfTI in, segmentation and organ volumes out",
    "compare": "is a new model no worse than an old one, per hospital and organ?",
    "report": "rebuild figures, pages and tables from run folders; --check computes their numbers again",
    "doctor": "what this machine can do, and what is missing",
}
EXAMPLES = """\
examples:
  lifelong-ct experiment=demo -m                       three drawn hospitals, four strategies, a report
  lifelong-ct stream=phantom strategy=replay seed=1
  lifelong-ct strategy=naive,replay seed=0,1,2 -m      a sweep; what is finished is skipped
  lifelong-ct verify stream=real_ct paths.data=/data   every problem, before anything is trained
  lifelong-ct debug=tiny strategy=ewc                  anything, in seconds
"""


def text() -> str:
    """The whole page."""
    lines = [
        "lifelong-ct [VERB] [group=choice | key=value ...] [-m] [--cfg] [--config-dir DIR]",
        "",
        "verbs:",
    ]
    lines += [f"  {verb:<9} {what}{' (default)' if verb == 'train' else ''}" for verb, what in VERBS.items()]
    lines += ["", "choices:"]
    for group, choices in options().items():
        lines += textwrap.wrap(
            f"{group:<11}{', '.join(choices)}", 100, initial_indent="  ", subsequent_indent=" " * 13
        )
    strategies = options().get("strategy", [])
    lines += ["", "strategies:"]
    width = max(map(len, strategies), default=0) + 2
    lines += [f"  {name:<{width}}{first_comment('strategy', name)}" for name in strategies]
    lines += [
        "",
        "keys that scripts can rely on: seed, paths.{data,runs,store,state,run}, debug=tiny,",
        "  memory.{ram,disk,gpu,exemplars}=512MiB, trainer.{steps,stop_after,device}",
        "  -m runs every combination of a,b,c; --cfg prints the configuration and ends;",
        "  --config-dir adds a folder of your own YAMLs; HYDRA_FULL_ERROR=1 shows tracebacks",
        "",
        EXAMPLES,
    ]
    return "\n".join(lines)
