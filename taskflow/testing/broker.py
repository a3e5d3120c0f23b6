"""What every broker must do. Subclass `BrokerSuite` in a test and give it a `broker` fixture."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from taskflow.core.ids import new_id
from taskflow.core.job import Lane, LaneKey, RunsIn, Ticket
from taskflow.ports.broker import Broker, Delivery
from taskflow.testing.facts import steady, until


def lane_key(lane: Lane = Lane.NORMAL) -> LaneKey:
    """A lane of a queue that nobody else uses."""
    return LaneKey(f"test-{new_id()}", lane)


def tickets_of(lane: LaneKey, count: int) -> list[Ticket]:
    """New tickets of a lane."""
    return [Ticket(new_id(), lane, RunsIn.ASYNC, datetime.now(UTC)) for _ in range(count)]


class Landing:
    """A buffer for deliveries, as a worker has one."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []

    def __call__(self, delivery: Delivery) -> None:
        """Land one."""
        self.deliveries.append(delivery)

    @property
    def tickets(self) -> list[Ticket]:
        """Everything that landed, in order."""
        return [ticket for delivery in self.deliveries for ticket in delivery.tickets]

    async def ack(self) -> None:
        """Ack everything that landed."""
        for delivery in self.deliveries:
            await delivery.ack()


class BrokerSuite:
    """The contract of `taskflow.ports.broker.Broker`."""

    @pytest.fixture
    def broker(self) -> Any:
        """The broker under test, opened."""
        raise NotImplementedError("override this fixture, and yield an opened broker")

    async def test_a_ticket_arrives_as_it_was_sent(self, broker: Broker) -> None:
        """Every field of it."""
        landing, lane = Landing(), lane_key(Lane.HIGH)
        sent = [Ticket(new_id(), lane, runs_in, datetime.now(UTC)) for runs_in in RunsIn]
        async with broker.consume([lane], 10, landing):
            await broker.publish(sent)
            await until(lambda: len(landing.tickets) == len(sent))
        assert landing.tickets == sent

    async def test_tickets_wait_for_a_consumer(self, broker: Broker) -> None:
        """What was published before anybody listened is delivered once somebody does, if the lane was known."""
        lane = lane_key()
        async with broker.consume([lane], 1, Landing()):
            pass
        sent = tickets_of(lane, 3)
        await broker.publish(sent)
        landing = Landing()
        async with broker.consume([lane], 10, landing):
            await until(lambda: landing.tickets == sent)

    async def test_a_lane_is_first_in_first_out(self, broker: Broker) -> None:
        """Over many batches."""
        landing, lane = Landing(), lane_key()
        sent = tickets_of(lane, 200)
        async with broker.consume([lane], 500, landing):
            for start in range(0, len(sent), 20):
                await broker.publish(sent[start : start + 20])
            await until(lambda: len(landing.tickets) >= len(sent))
        assert landing.tickets == sent

    async def test_tickets_of_a_lane_share_a_message(self, broker: Broker) -> None:
        """As many as were allowed, never those of two lanes, each lane in its order."""
        landing, one, other = Landing(), lane_key(), lane_key()
        sent = tickets_of(one, 10), tickets_of(other, 3)
        async with broker.consume([one, other], 100, landing):
            await broker.publish([*sent[0][:5], *sent[1], *sent[0][5:]], share=4)
            await until(lambda: len(landing.tickets) == 13)
        assert sorted(len(delivery.tickets) for delivery in landing.deliveries) == [2, 3, 4, 4]
        assert all(len({ticket.lane for ticket in delivery.tickets}) == 1 for delivery in landing.deliveries)
        assert [ticket for ticket in landing.tickets if ticket.lane == one] == sent[0]
        assert [ticket for ticket in landing.tickets if ticket.lane == other] == sent[1]

    async def test_an_unacked_message_comes_back_whole(self, broker: Broker) -> None:
        """And an acked one is gone with all its tickets."""
        lane = lane_key()
        sent = tickets_of(lane, 6)
        first, second = Landing(), Landing()
        async with broker.consume([lane], 10, first):
            await broker.publish(sent, share=3)
            await until(lambda: len(first.tickets) == 6)
            await first.deliveries[0].ack()
        async with broker.consume([lane], 10, second):
            await until(lambda: second.tickets == sent[3:])

    async def test_a_slow_consumer_does_not_hoard(self, broker: Broker) -> None:
        """It gets as many tickets as its prefetch says, also where they share messages; the others get the rest."""
        slow, fast, lane = Landing(), Landing(), lane_key()
        sent = tickets_of(lane, 60)
        async with broker.consume([lane], 10, slow), broker.consume([lane], 10, fast):
            await broker.publish(sent, share=5)

            async def drained() -> bool:
                await fast.ack()
                return len(slow.tickets) + len(fast.tickets) == 60

            await until(drained)
            assert 1 <= len(slow.tickets) <= 10
            assert self._sorted([*slow.tickets, *fast.tickets]) == self._sorted(sent)

    async def test_prefetch_counts_unacked_tickets_over_all_lanes(self, broker: Broker) -> None:
        """No more land before some are acked; then as many more."""
        landing, lanes = Landing(), [lane_key(Lane.HIGH), lane_key(Lane.LOW)]
        async with broker.consume(lanes, 3, landing):
            for lane in lanes:
                await broker.publish(tickets_of(lane, 5))
            await until(lambda: landing.tickets)
            await steady(lambda: len(landing.tickets) <= 3)
            for _ in range(10):
                await landing.ack()
            await until(lambda: self._after_acks(landing, 10))
        assert len(set(landing.tickets)) == 10

    async def _after_acks(self, landing: Landing, count: int) -> bool:
        await landing.ack()
        return len(landing.tickets) == count

    async def test_unacked_tickets_come_back(self, broker: Broker) -> None:
        """A consumer that goes away loses nothing; what it acked stays away."""
        lane = lane_key()
        sent = tickets_of(lane, 4)
        first, second = Landing(), Landing()
        async with broker.consume([lane], 10, first):
            await broker.publish(sent)
            await until(lambda: len(first.tickets) == 4)
            acked = first.deliveries[0]
            await acked.ack()
        gone = set(acked.tickets)
        async with broker.consume([lane], 10, second):
            await until(lambda: set(second.tickets) == set(sent) - gone)
            assert second.tickets == [ticket for ticket in sent if ticket not in gone]

    async def test_ack_never_raises(self, broker: Broker) -> None:
        """Neither the second time nor after the consumption has ended."""
        landing, lane = Landing(), lane_key()
        async with broker.consume([lane], 10, landing):
            await broker.publish(tickets_of(lane, 2))
            await until(lambda: len(landing.tickets) == 2)
            await landing.deliveries[0].ack()
            await landing.deliveries[0].ack()
        await landing.ack()

    async def test_follow_changes_the_lanes(self, broker: Broker) -> None:
        """A lane that is left out delivers nothing more, keeps its tickets, and may come back."""
        landing, kept, left = Landing(), lane_key(), lane_key()
        async with broker.consume([kept, left], 10, landing) as consumption:
            await consumption.follow([kept])
            await broker.publish(tickets_of(left, 1))
            await broker.publish(tickets_of(kept, 1))
            await until(lambda: landing.tickets)
            await steady(lambda: [ticket.lane for ticket in landing.tickets] == [kept])
            await consumption.follow([kept, left])
            await until(lambda: {ticket.lane for ticket in landing.tickets} == {kept, left})

    async def test_consumers_share_a_lane(self, broker: Broker) -> None:
        """Each ticket lands at one of them."""
        one, other, lane = Landing(), Landing(), lane_key()
        sent = tickets_of(lane, 20)
        async with broker.consume([lane], 10, one), broker.consume([lane], 10, other):
            await broker.publish(sent)
            await until(lambda: len(one.tickets) + len(other.tickets) == 20)
            assert self._sorted([*one.tickets, *other.tickets]) == self._sorted(sent)
            assert one.tickets
            assert other.tickets

    @staticmethod
    def _sorted(tickets: Sequence[Ticket]) -> list[str]:
        return sorted(ticket.job_id for ticket in tickets)

    async def test_depth_counts_what_waits(self, broker: Broker) -> None:
        """Tickets that nobody has yet."""
        lane = lane_key()
        async with broker.consume([lane], 2, Landing()) as consumption:
            await broker.publish(tickets_of(lane, 5))

            async def three_wait() -> bool:
                return await broker.depth(lane) == 3

            await until(three_wait)
            assert consumption.live
        await until(lambda: not consumption.live)

    async def test_nothing_to_publish_is_no_error(self, broker: Broker) -> None:
        """Nor is a ping."""
        await broker.publish([])
        await broker.ping()
