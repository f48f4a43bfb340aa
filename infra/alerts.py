"""Automations of the Prefect server that PREFECT_API_URL names: dead runs end, and what is missing is told.

    prefect deploy --all && python infra/alerts.py --notify slack-webhook/alerts

| automation | what it does |
|---|---|
| genpipe: dead while submitted | a run Pending for 15 minutes becomes Crashed, and gives back its slot |
| genpipe: dead while running | a run without a heartbeat for 10 minutes becomes Crashed, the same |
| genpipe: FLOW/NAME is missing | a scheduled deployment completed no run in its period and two hours |
| genpipe: FLOW/NAME ended badly | a run of it failed, crashed, or was cancelled as another holds the slot |

Without these, a run whose worker was killed keeps its concurrency slot for 300 s, and for ever if the server
was started anew in between (it keeps leases in its memory, unless it is told to keep them in files, as in
compose.yaml): every later run of a CANCEL_NEW deployment is cancelled without a word. Of automations with the
same name the new ones stay. --notify names a notification block of yours by type and name; without one the
last two are seen in Prefect's event feed alone.
"""

from __future__ import annotations

import argparse
import asyncio
from datetime import timedelta
from itertools import pairwise
from typing import Any

from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.actions import ChangeFlowRunState, DoNothing, SendNotification
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.server.schemas.schedules import CronSchedule as Dates

SUBMITTED, SILENT, LATE = timedelta(minutes=15), timedelta(minutes=10), timedelta(hours=2)
ENDS = {
    f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Crashed", "Cancelled", "Cancelling")
}
BAD = {f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "Cancelled", "TimedOut")}
BODY = (
    "{{ automation.name }}: {{ automation.description }}\n{{ flow_run|ui_url }} {{ flow_run.state.message }}"
)


def dead(name: str, after: set[str], expect: set[str], within: timedelta, message: str) -> Automation:
    """Each run after whose event none of others comes in time becomes Crashed."""
    trigger = EventTrigger(
        match={"prefect.resource.id": "prefect.flow-run.*"},
        for_each={"prefect.resource.id"},
        after=after,
        expect=expect,
        posture=Posture.Proactive,
        threshold=1,
        within=within,
    )
    crash = ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=message, force=False)
    return Automation(
        name=f"genpipe: dead while {name}", description=message, trigger=trigger, actions=[crash]
    )


async def period(cron: str, zone: str | None) -> timedelta:
    """The longest time between two of the next runs."""
    dates = await Dates(cron=cron, timezone=zone).get_dates(8)
    return max(b - a for a, b in pairwise(dates))


def of_deployment(deployment: Any, **trigger: Any) -> EventTrigger:
    related: Any = {
        "prefect.resource.role": "deployment",
        "prefect.resource.id": f"prefect.deployment.{deployment.id}",
    }
    return EventTrigger(
        match={"prefect.resource.id": "prefect.flow-run.*"}, match_related=related, threshold=1, **trigger
    )


async def automations(notify: str, late: timedelta = LATE) -> list[Automation]:
    """notify: the type and name of a block, or nothing."""
    made = [
        dead(
            "submitted",
            {f"prefect.flow-run.{state}" for state in ("Pending", "Submitting", "InfrastructurePending")},
            ENDS | {"prefect.flow-run.Running", "prefect.flow-run.Scheduled", "prefect.flow-run.Late"},
            SUBMITTED,
            "nobody ran it after a worker took it: the worker was killed, or its machine is gone",
        ),
        dead(
            "running",
            {"prefect.flow-run.heartbeat", "prefect.flow-run.Running"},
            ENDS | {"prefect.flow-run.heartbeat", "prefect.flow-run.AwaitingRetry"},
            SILENT,
            "no heartbeat: the process that ran it was killed, or its machine is gone",
        ),
    ]
    async with get_client() as client:
        block = None
        if notify:
            slug, _, name = notify.partition("/")
            block = (await client.read_block_document_by_name(name, slug)).id
        for deployment in await client.read_deployments():
            flow = await client.read_flow(deployment.flow_id)
            own = f"{flow.name}/{deployment.name}"
            crons = [
                s.schedule for s in deployment.schedules if s.active and isinstance(s.schedule, CronSchedule)
            ]
            if not crons:
                continue
            subject = f"genpipe: {own}"
            tell: Any = (
                [SendNotification(block_document_id=block, subject=subject, body=BODY)]
                if block
                else [DoNothing()]
            )
            within = late + min([await period(cron.cron, cron.timezone) for cron in crons])
            missing = of_deployment(
                deployment, expect={"prefect.flow-run.Completed"}, posture=Posture.Proactive, within=within
            )
            bad = of_deployment(deployment, expect=BAD, posture=Posture.Reactive, within=timedelta(0))
            made += [
                Automation(
                    name=f"genpipe: {own} is missing",
                    description=f"no run completed within {within}; see that a worker runs",
                    trigger=missing,
                    actions=tell,
                ),
                Automation(
                    name=f"genpipe: {own} ended badly",
                    description="a run failed, crashed or was cancelled; see its log, and docs/operations.md",
                    trigger=bad,
                    actions=tell,
                ),
            ]
    return made


async def replace(made: list[Automation]) -> None:
    """New ones in the place of those of the same name."""
    async with get_client() as client:
        for automation in made:
            before = await client.read_automations_by_name(automation.name)
            await automation.acreate()
            for old in before:
                await client.delete_automation(old.id)
            print(automation.name)


async def main(notify: str) -> None:
    await replace(await automations(notify))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--notify", default="", metavar="TYPE/NAME", help="a notification block")
    asyncio.run(main(arguments.parse_args().notify))
