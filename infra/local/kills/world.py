"""Some tenants, their true history, their ticks and the kills; and the comparison with what their apps stored."""

import json
import random
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from emulator import Emulator
from kills.backend import EVENTS, PERIOD_S, Backend, Targets
from kills.gate import Gate, Moment
from kills.invocation import KillableInvocation
from kills.plan import Figures, Plan
from lambda_process import FunctionFailed
from processes import Failed, Processes, free_port
from watch import tick_event

# A tick may be run from a minute before it begins until two minutes after; see shared/domain/src/tick.rs.
EARLY_S, LATE_S = 59, 120
# A run with confirmations (2 s + 5 s) and its surroundings; no kill is tried when less than two of them are left.
LONGEST_RUN_S = 15


@dataclass
class Change:
    """A change of a target: what the app must be told exactly once, at a tick of this range."""

    to: str
    first_tick: int
    last_tick: int | None = None


class Service:
    """One watched endpoint and its true history."""

    def __init__(self, service_id: str, path: str):
        self.id = service_id
        self.path = path
        self.status = "ALIVE"
        self.history: list[Change] = []


class Tenant:
    """One installation of the companion app, behind a gate."""

    def __init__(self, emulator: Emulator, gate: Gate):
        self.emulator = emulator
        self.gate = gate
        self.id = ""
        self.services: list[Service] = []
        # By tick, service and what it says: every transition that was ever in the app's store.
        self.stored: set[tuple[int, str, str, str]] = set()

    def look(self) -> dict:
        """What the app has stored now. Between two looks it must store fewer transitions than the 30 that it keeps."""
        overview = self.emulator.get("/log.json")
        self.stored |= {(t["tick"], t["serviceId"], t["from"], t["to"]) for t in overview["transitions"]}
        return overview


class World:
    """Some tenants in a table of their own, their ticks, and the kills."""

    # Set when the whole run ends early.
    stopped = threading.Event()

    def __init__(self, number: int, plan: Plan, processes: Processes, backend: Backend, targets: Targets, figures: Figures):
        self.number = number
        self.plan = plan
        self.backend = backend
        self.targets = targets
        self.figures = figures
        self.random = random.Random(f"{plan.seed} {number}")
        self.table = f"world-{number}"
        self.last_tick = 0
        # How long a run takes without confirmations, as last measured.
        self.quick_s = 1.0
        backend.aws.create_table(self.table)
        self.tenants = []
        for index in range(plan.tenants):
            port = free_port()
            gate = Gate(port)
            emulator = Emulator(processes, plan.folder / f"{self.table}-{index}", port, backend.url)
            origin = f"http://127.0.0.1:{gate.port}"
            emulator.environment["EMULATOR_ORIGIN"] = origin
            self.tenants.append(Tenant(emulator, gate))
        keys = [key for tenant in self.tenants for key in json.loads(tenant.emulator.public_keys())["keys"]]
        self.changes = {"TABLE_NAME": self.table, "FORGE_APP_PUBLIC_KEY": json.dumps({"keys": keys})}
        for tenant in self.tenants:
            tenant.emulator.start()
            tenant.emulator.url = f"http://127.0.0.1:{tenant.gate.port}"

    def register(self) -> None:
        """Adds every service, as a person would: a hand-off of the app, the real add-service, REGISTER into the app."""
        event = json.loads((EVENTS / "add-service" / "json.json").read_text())
        for index, tenant in enumerate(self.tenants):
            for number in range(self.plan.services):
                path = f"/{self.number}/{index}/{number}"
                tenant.emulator.registration_link()
                handoff = tenant.emulator.get("/handoff.json")
                wish = {"handoff": handoff["handoff"], "name": f"Service {path}", "url": f"{self.targets.url}{path}"}
                answer = self.backend.ask("add-service", event | {"body": json.dumps(wish)}, self.changes)
                document = json.loads(answer["body"])
                if answer["statusCode"] != 201 or document["service"]["status"] != "ALIVE":
                    raise Failed(f"a service could not be registered: {answer}")
                tenant.id = document["tenantId"]
                tenant.services.append(Service(document["service"]["id"], path))

    def run(self) -> None:
        """Ticks until enough is done, and one more that tells what is left."""
        self.register()
        ticks = 0
        is_told = True
        while not self.plan.enough(self.figures, ticks):
            if is_told:
                self.flip()
            is_told = self.tick(self.random.randint(*self.plan.kills_per_tick))
            ticks += 1
        if not self.tick(0):
            raise Failed("the last tick was not completed")
        self.compare()

    def next_tick(self) -> int:
        """The start of the next slot, in seconds since 1970; waits until it may be run."""
        now = time.time()
        slot = int(now) // PERIOD_S * PERIOD_S
        # The slot before still has time enough in the first seconds of the next one.
        earliest = slot - PERIOD_S if now - slot < PERIOD_S / 3 else slot
        self.last_tick = max(self.last_tick + PERIOD_S, earliest)
        if self.stopped.wait(max(0, self.last_tick - EARLY_S - now)):
            raise Failed("stopped")
        return self.last_tick

    def flip(self) -> None:
        """Some targets change, to be seen at the next tick."""
        for service in self.services():
            if self.random.random() < 0.4:
                service.status = "DOWN" if service.status == "ALIVE" else "ALIVE"
                change = self.targets.down.add if service.status == "DOWN" else self.targets.down.discard
                change(service.path)
                service.history.append(Change(service.status, self.last_tick + 1))

    def services(self) -> list[Service]:
        return [service for tenant in self.tenants for service in tenant.services]

    def tick(self, kills: int) -> bool:
        """One tick with so many attempts to kill it. Returns whether every tenant was checked at it."""
        tick = self.next_tick()
        self.figures.ticks += 1
        is_complete = False
        for _ in range(kills):
            if is_complete or time.time() > tick + LATE_S - 2 * LONGEST_RUN_S:
                break
            is_complete = self.run_with_kill(tick)
        # Lambda runs an event again; now and then that fails as well, and the next tick has to make up for it.
        if not is_complete and (kills == 0 or self.random.random() < 0.85):
            is_complete = self.run_to_the_end(tick)
        for tenant in self.tenants:
            tenant.look()
            committed = self.committed_tick(tenant)
            if is_complete and committed != tick:
                self.figures.problems.append(f"{self.table}: tick {tick} is complete, and {committed} committed")
        if is_complete:
            for service in self.services():
                if service.history and service.history[-1].last_tick is None:
                    service.history[-1].last_tick = tick
        return is_complete

    def committed_tick(self, tenant: Tenant) -> int:
        text = self.backend.state(self.table, tenant.id).get("lastTick")
        return int(datetime.fromisoformat(text).timestamp()) if text else 0

    def start(self, tick: int) -> KillableInvocation:
        self.figures.runs += 1
        return self.backend.start("check-services", tick_event(datetime.fromtimestamp(tick, UTC)), self.changes)

    def run_to_the_end(self, tick: int) -> bool:
        began = time.monotonic()
        needs_confirmation = self.has_news(tick)
        with self.start(tick) as invocation:
            try:
                invocation.answer()
            except FunctionFailed as error:
                self.figures.problems.append(f"{self.table}: a run failed: {error}")
                return False
        if not needs_confirmation:
            self.quick_s = time.monotonic() - began
        return True

    def has_news(self, tick: int) -> bool:
        """Whether some tenant still has to find out at this tick that a target is down, which takes confirmations."""
        waiting = [tenant for tenant in self.tenants if self.committed_tick(tenant) < tick]
        changes = [service.history[-1] for tenant in waiting for service in tenant.services if service.history]
        return any(change.to == "DOWN" and change.last_tick is None for change in changes)

    def run_with_kill(self, tick: int) -> bool:
        """One run that is to be killed; it may be over before. Returns whether it was."""
        kind = self.random.choices(["random", *Moment], [4, 4, 2])[0]
        duration = self.quick_s + (7.5 if self.has_news(tick) else 0)
        with self.start(tick) as invocation:
            if kind == "random":
                invocation.wait(self.random.uniform(0, duration))
                invocation.kill()
            else:
                tenant = self.random.choice(self.tenants)
                tenant.gate.set(kind, invocation.kill)
                is_over = invocation.wait(4 * LONGEST_RUN_S)
                tenant.gate.open()
                if not is_over:
                    raise Failed("a run neither ended nor was killed")
        if not invocation.killed.is_set():
            if invocation.error is not None:
                self.figures.problems.append(f"{self.table}: a run failed: {invocation.error}")
                return False
            return True
        self.figures.kills[self.name_of(kind, tick, tenant) if kind != "random" else kind] += 1
        return False

    def name_of(self, moment: Moment, tick: int, tenant: Tenant) -> str:
        """What a kill at this moment hit, as both sides say afterwards."""
        committed = self.committed_tick(tenant)
        told = tenant.look().get("tick", 0)
        if moment is Moment.BEFORE_REQUEST and committed == tick and told < tick:
            return "between commit and send"
        if moment is Moment.BEFORE_ANSWER and committed == tick and told == tick:
            return "between acceptance and acknowledgement"
        self.figures.problems.append(f"{self.table}: killed {moment.value} of tick {tick}: committed {committed}, told {told}")
        return "elsewhere"

    def compare(self) -> None:
        """The true history of each service with what its app stored."""
        for tenant in self.tenants:
            overview = tenant.look()
            statuses = {service["id"]: service["status"] for service in overview["services"]}
            for service in tenant.services:
                stored = sorted((tick, old, new) for tick, owner, old, new in tenant.stored if owner == service.id)
                self.figures.changes += len(service.history)
                self.figures.applied += len(stored)
                for change in service.history:
                    old = "DOWN" if change.to == "ALIVE" else "ALIVE"
                    right = [
                        entry
                        for entry in stored
                        if entry[1:] == (old, change.to) and change.first_tick <= entry[0] <= change.last_tick
                    ]
                    if right:
                        stored.remove(right[0])
                    else:
                        self.figures.lost.append(f"{self.table} {service.path}: {change}")
                self.figures.doubled += [f"{self.table} {service.path}: {entry}" for entry in stored]
                if statuses.get(service.id) != service.status:
                    problem = f"{self.table} {service.path}: shown as {statuses.get(service.id)}, is {service.status}"
                    self.figures.problems.append(problem)
            told = [
                (transition["tick"], transition["serviceId"])
                for callback in overview["callbacks"]
                if callback["action"] == "UPDATE" and callback["code"] == "ACCEPTED"
                for transition in callback["transitions"]
            ]
            self.figures.told_again += len(told) - len(set(told))
