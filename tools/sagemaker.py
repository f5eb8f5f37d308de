#!/usr/bin/env python3
"""The program of a SageMaker training container:

    sagemaker.py train [--mode scoring|training|both]

The service lays out /opt/ml (SUTOR_OPT_ML: another folder): channels in input/data, hyperparameters
and hosts in input/config. It gets the model folder back (model, which becomes model.tar.gz), a
reason when the job fails (output/failure), and folders that it copies while the job runs
(checkpoints, from which a job that was interrupted goes on, and TensorBoard's).

Exit codes are sutor's; 75: stopped by the service, everything saved. SUTOR names the program.
"""

import argparse
import os
import pathlib
import signal
import sys

from sutor_sagemaker.container import Container
from sutor_sagemaker.parameters import MODES, BadParameter
from sutor_sagemaker.plan import Plan
from sutor_sagemaker.ranks import Ranks
from sutor_sagemaker.results import TensorboardMirror, deliver

STOPPED = 75
USAGE = 2


def program():
    given = os.environ.get("SUTOR")
    if given:
        return given
    here = pathlib.Path(__file__).resolve().parent
    # Of a build, and of an installed tree (share/sutor/tools).
    places = [here.parent / name / "sutor" for name in ("build-cuda", "build")]
    places.append(here.parents[2] / "bin" / "sutor")
    found = next((str(path) for path in places if path.is_file()), None)
    if found is None:
        raise BadParameter(f"the program sutor is none of {', '.join(map(str, places))}; name it "
                           "by the environment variable SUTOR")
    return found


def run(container, mode):
    plan = Plan(container, mode)
    for note in plan.notes:
        print(note)
    recipe = plan.write_recipe()
    print(f"mode {plan.mode}, host {plan.host + 1} of {len(plan.hosts)}, "
          f"ranks {plan.ranks_here} a host, run folder {plan.output}", flush=True)
    ranks, mirror = Ranks(), TensorboardMirror(plan.output, plan.tensorboard)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ranks.note)
    sutor, code = program(), 0
    for verb, everywhere in plan.stages():
        if not everywhere and not plan.first_host:
            continue  # the others wait for its ranks at the next stage
        command = plan.command(sutor, verb, recipe)
        several = everywhere and plan.world_size > 1
        environments = [ranks.environment(plan, rank) for rank in range(plan.ranks_here)] \
            if several else [dict(os.environ)]
        code = ranks.run([(command, environment) for environment in environments],
                         mirror.tick if plan.first_host else lambda: None)
        if code != 0 or ranks.asked is not None:
            break
    if ranks.asked is not None and code == 0 and verb != plan.stages()[-1][0]:
        code = STOPPED  # between two stages
    if plan.first_host:
        mirror.tick(at_end=True)
        if code != STOPPED:
            print(f"{container.model}: {', '.join(deliver(plan.output, container.model))}")
    if code not in (0, STOPPED):
        container.fail(ranks.failure(code))
    return code


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("action", choices=["train"])
    parser.add_argument("--mode", choices=MODES, help="default: hyperparameter mode, or both")
    arguments = parser.parse_args()
    container = Container()
    container.clear_failure()
    try:
        return run(container, arguments.mode)
    except BadParameter as error:
        message = f"error: {error}"
        print(message, file=sys.stderr)
        container.fail(message)
        return USAGE
    except Exception as error:  # the service shows nothing else of it
        container.fail(f"error: {type(error).__name__}: {error}")
        raise


if __name__ == "__main__":
    sys.exit(main())
