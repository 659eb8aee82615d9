"""Shards: leases say who may try, epochs say who may write."""

from __future__ import annotations

from pathlib import Path

from perdure.errors import Fenced
from perdure.store.contract import Fence, Lease, Transaction
from perdure.testing.store_conformance.bench import LEASE_SECONDS, SHARD, Bench, StoreTests


class ShardTests(StoreTests):
    """What holds for leases."""

    def test_a_shard_in_use_cannot_be_claimed(self, tmp_path: Path) -> None:
        """Neither by another node nor again by its owner, until the lease has run out."""

        async def scenario(bench: Bench) -> None:
            store = bench.store
            assert await store.claim("node_b", [SHARD, "buyer/2"], 10) == [Lease("buyer/2", 1)]
            assert await store.claim("node_a", [SHARD], 10) == []
            await bench.clock.advance(LEASE_SECONDS - 0.001)
            assert await store.claim("node_b", [SHARD], 10) == []
            await bench.clock.advance(0.001)
            assert await store.claim("node_b", [SHARD], 10) == [Lease(SHARD, bench.fence.epoch + 1)]

        self.play(tmp_path, scenario)

    def test_renewal_keeps_a_lease_alive(self, tmp_path: Path) -> None:
        """Also one that ran out, as long as nobody took the shard; what was lost is not returned."""

        async def scenario(bench: Bench) -> None:
            store, lease = bench.store, Lease(*bench.fence)
            await bench.clock.advance(LEASE_SECONDS / 2)
            assert await store.renew("node_a", [lease], LEASE_SECONDS) == [lease]
            await bench.clock.advance(LEASE_SECONDS * 0.75)
            assert await store.claim("node_b", [SHARD], 10) == []
            await bench.clock.advance(LEASE_SECONDS)
            assert await store.renew("node_a", [lease, Lease("buyer/2", 1)], LEASE_SECONDS) == [lease]
            await bench.clock.advance(LEASE_SECONDS)
            [theirs] = await store.claim("node_b", [SHARD], 10)
            assert await store.renew("node_a", [lease], LEASE_SECONDS) == []
            assert await store.renew("node_a", [theirs], LEASE_SECONDS) == []

        self.play(tmp_path, scenario)

    def test_release_frees_a_shard_and_ends_its_epoch(self, tmp_path: Path) -> None:
        """Anybody may claim it at once, and what its owner still writes is refused even before that."""

        async def scenario(bench: Bench) -> None:
            await bench.begin()
            await bench.store.release("node_a", [Lease(*bench.fence), Lease("buyer/2", 4)])
            assert isinstance(await bench.commit_one(events=[bench.event("run_1", 3)]), Fenced)
            [lease] = await bench.store.claim("node_b", [SHARD], 10)
            assert lease.epoch > bench.fence.epoch
            await bench.store.release("node_a", [Lease(*bench.fence)])
            [outcome] = await bench.commit(Transaction(fence=Fence(*lease), events=[bench.event("run_1", 3)]))
            assert outcome is None

        self.play(tmp_path, scenario)

    def test_shards_are_listed_with_their_owners(self, tmp_path: Path) -> None:
        """Every shard that was ever claimed, by name, and whether its owner may still write."""

        async def scenario(bench: Bench) -> None:
            await bench.store.claim("node_b", ["buyer/0"], 2 * LEASE_SECONDS)
            await bench.clock.advance(LEASE_SECONDS)
            shards = await bench.store.shards()
            assert [(shard.name, shard.owner, shard.epoch, shard.alive) for shard in shards] == [
                ("buyer/0", "node_b", 1, True),
                (SHARD, "node_a", 1, False),
            ]
            assert shards[1].expires == bench.clock.now_us()

        self.play(tmp_path, scenario)

    def test_slots_stay_what_they_were(self, tmp_path: Path) -> None:
        """Sessions must fall into the same shards for ever."""

        async def scenario(bench: Bench) -> None:
            other = bench.beside()
            await other.open()
            assert await other.slots() == await bench.store.slots() >= 1
            if other is not bench.store:
                await other.close()

        self.play(tmp_path, scenario)
