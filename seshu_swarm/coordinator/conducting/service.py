"""The conductor's end of STEPS: one stream for each member, for as long as it lives.

What a member says goes to the course; what it is told is put into its outbox by `driving`. A stream that
breaks is no loss yet: the member dials again, and what it holds still counts.
"""

from __future__ import annotations

from seshu_swarm.coordinator.conducting.course import Course
from seshu_swarm.coordinator.conducting.roster import Member
from seshu_swarm.pipeline.protocol.fields import of_version
from seshu_swarm.pipeline.protocol.steps import FROM_MEMBER, Enlist, Enlisted
from seshu_swarm.program import running
from seshu_swarm.streams.channel import Channel, refusal
from seshu_swarm.streams.outbox import Outbox
from seshu_swarm.streams.protocol import Refusal

ENLIST_SECONDS = 10.0


class StepsService:
    """`course` is the plan that is open, or None."""

    def __init__(self) -> None:
        self.course: Course | None = None

    def close(self) -> None:
        """No plan is open any more. Who enlisted while that was told dials again, and is told."""
        course, self.course = self.course, None
        for member in course.roster if course is not None else ():
            if member.outbox is not None:
                member.outbox.close()

    async def serve(self, channel: Channel) -> None:
        """Handler of STEPS."""
        asked = await channel.receive(Enlist, seconds=ENLIST_SECONDS, what="its enlisting")
        course = self.course
        if course is None:
            raise refusal(Refusal.NOT_TRAINING, "no plan is open")
        member = course.enlist(asked, channel.peer_id)
        outbox = _take_over(member, channel)
        version = course.conductor.groups[member.group].version
        outbox.put(Enlisted(group=member.group, version=of_version(version)))
        try:
            await running.first_to_end(outbox.run(), _listen(course, member, channel))
        finally:
            member.broke(outbox, course.clock())
            course.news.set()


def _take_over(member: Member, channel: Channel) -> Outbox:
    """The member's new stream; the older one, if there still is one, ends."""
    if member.outbox is not None:
        member.outbox.close()
    member.outbox = outbox = Outbox(channel)
    member.told = None
    return outbox


async def _listen(course: Course, member: Member, channel: Channel) -> None:
    while True:
        message = await channel.receive_one_of(
            FROM_MEMBER, seconds=member.patience_seconds, what=f"a word of {member.name}"
        )
        if message is None:
            return
        course.hear(member, message)
