"""Keys of the DHT: runs and things never share one; adapters spread over the buckets."""

from __future__ import annotations

import hashlib
from collections import Counter

from seshu_swarm.records import uids

DIGEST = "ab" * 32


def test_runs_and_things_never_share_a_key() -> None:
    keys = [
        key
        for run_id in ("one", "two")
        for key in (
            uids.run_key(run_id),
            *uids.span_keys(run_id, 3),
            *uids.adapter_keys(run_id),
            uids.checkpoint_key(run_id, DIGEST),
            uids.round_key(run_id, 3),
            uids.provider_key(run_id, DIGEST),
        )
    ]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith(("one.", "two.")) for key in keys)


def test_a_span_is_found_under_the_keys_that_are_asked_for() -> None:
    assert uids.span_keys("run", 2) == [uids.span_key("run", 0), uids.span_key("run", 1)]


def test_adapters_spread_evenly_over_keys_that_are_asked_for() -> None:
    digests = [hashlib.sha256(bytes([n % 256, n // 256])).hexdigest() for n in range(6_400)]
    buckets = Counter(uids.adapter_key("run", digest) for digest in digests)
    assert set(buckets) == set(uids.adapter_keys("run"))
    # 100 expected per bucket; six standard deviations are 60.
    assert 40 < min(buckets.values()) <= max(buckets.values()) < 160
