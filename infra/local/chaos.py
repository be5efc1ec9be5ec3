"""`make chaos`: kills check-services hundreds of times, and counts what the companion app was told of each change.

The real binary against the local AWS and the companion app's own code. Targets go up and down at known ticks, so the true
sequence of changes is known; SIGKILL comes at random moments, and at the two that matter most: when the state is
committed and nothing is sent yet, and when the app has accepted and the backend does not know. What counts is what the app
*stored*. Each killed tick is run again, as Lambda does, or left to the next tick.

Real time and real waits: a tick is a minute here, so many worlds run beside each other, each with a table of its own.
"""

import os
import random
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

import settings
from emulator import Emulator
from kills.backend import Backend, Targets
from kills.plan import Figures, Plan
from kills.world import World
from processes import Failed, Processes, free_port


def run(plan: Plan) -> Figures:
    """Carries a plan out. Raises Failed when it could not be."""
    shutil.rmtree(plan.folder, ignore_errors=True)
    plan.folder.mkdir(parents=True)
    figures = Figures()
    with Processes() as processes:
        backend = Backend(processes, plan.folder)
        targets = Targets()
        Emulator(processes, plan.folder, free_port(), backend.url).build()
        worlds = [World(number, plan, processes, backend, targets, figures) for number in range(plan.worlds)]
        with ThreadPoolExecutor(len(worlds)) as executor:
            try:
                for finished in as_completed([executor.submit(world.run) for world in worlds]):
                    finished.result()
            except BaseException:
                World.stopped.set()
                raise
    return figures


def main() -> None:
    wanted = int(os.environ.get("KILLS", "400"))
    seed = int(os.environ.get("SEED", str(random.randrange(10**6))))
    print(f"==> Killing check-services {wanted} times, in about {wanted / 17:.0f} minutes (SEED={seed})", flush=True)

    def enough(figures: Figures, ticks: int) -> bool:
        print(f"    {sum(figures.kills.values())} kills, {figures.ticks} ticks", flush=True)
        return sum(figures.kills.values()) >= wanted

    began = time.monotonic()
    figures = run(Plan(settings.STATE / "chaos", worlds=10, seed=seed, kills_per_tick=(2, 5), enough=enough))
    figures.print()
    print(f"{'minutes':<45} {(time.monotonic() - began) / 60:>6.1f}")
    if figures.lost or figures.doubled or figures.problems:
        sys.exit("FAILED")
    print("PASSED")


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"make chaos: {error}")
    except KeyboardInterrupt:
        sys.exit("make chaos: interrupted")
