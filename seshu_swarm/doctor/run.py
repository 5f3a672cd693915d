"""`python -m seshu_swarm doctor`: every check in order, then the answer."""

from __future__ import annotations

import logging

from rich.console import Console

from seshu_swarm.doctor import entrances, hub, machine, showing, software, swarm
from seshu_swarm.doctor.config import DoctorConfig
from seshu_swarm.doctor.findings import Finding, Grade, exit_code, failed, warned
from seshu_swarm.errors import LinkError
from seshu_swarm.network import link
from seshu_swarm.network.daemon import DAEMON_START_SECONDS, Listen
from seshu_swarm.network.dht import RUN_RECORD_SECONDS
from seshu_swarm.network.link import Link
from seshu_swarm.program import log, running
from seshu_swarm.program.running import Stop

logger = logging.getLogger(__name__)

NO_LINK = "no join link was given: peers, clock and NAT were not looked at"
NO_WAY_IN = "none: no peer can be reached, so none can say how others reach this machine"
# What joining and each question to a peer may take together.
INSIDE_SECONDS = DAEMON_START_SECONDS + RUN_RECORD_SECONDS + 30


def run(settings: DoctorConfig) -> int:
    findings = examine_machine(settings)

    async def look(stop: Stop) -> int:
        findings.extend(await examine_swarm(settings))
        return 0

    # Anything but 0 is an interruption: then there is no answer to give.
    if code := running.run(look):
        return code
    tell(findings, settings)
    return exit_code(findings)


def tell(findings: list[Finding], settings: DoctorConfig) -> None:
    if settings.json:
        print(showing.to_json(findings), flush=True)
    elif log.is_text():
        showing.show(findings, Console())
    for one in findings:
        log.fact("finding", check=one.name, grade=one.grade, what=one.what, way_out=one.way_out)


def examine_machine(settings: DoctorConfig) -> list[Finding]:
    logger.info("looking at torch, kernels and the p2p daemon: a few seconds")
    findings = software.check()
    findings += machine.check(settings.state_path, settings.host, settings.port)
    if settings.hub:
        logger.info("asking the Hub about the token, for at most %g s", hub.ASK_SECONDS)
    return [*findings, hub.check(settings.hub)]


async def examine_swarm(settings: DoctorConfig) -> list[Finding]:
    """What is wrong becomes a finding, and stops nothing but what depends on it."""
    if not settings.join:
        return [warned("swarm", NO_LINK, "give --join LINK")]
    try:
        wanted = link.parse(settings.join)
    except LinkError as error:
        return [failed("join link", f"{error.what}; {error.rule}", error.way_out)]
    return await _swarm(wanted, settings)


async def _swarm(wanted: Link, settings: DoctorConfig) -> list[Finding]:
    number, seconds = len(wanted.peers), entrances.DIAL_SECONDS
    logger.info("dialling the %d address(es) of the link, each for at most %g s", number, seconds)
    findings = await entrances.check(wanted.peers)
    if all(finding.grade is Grade.FAIL for finding in findings):
        return [*findings, failed("nat", NO_WAY_IN, "first reach one of the peers above")]
    logger.info("entering run %s and asking its peers: %g s at most", wanted.run_id, INSIDE_SECONDS)
    is_free = machine.bind_error(settings.host, settings.port) == 0
    listen = Listen(settings.host, settings.port if is_free else 0, settings.announce)
    return findings + await swarm.check(wanted, listen)
