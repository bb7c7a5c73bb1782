"""users.acl on real servers: each user can do what it is for, and nothing else."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
import redis
from django.conf import settings
from django_redis.cache import RedisCache
from redis.backoff import NoBackoff
from redis.retry import Retry

from apps.ratelimits.clean_up import _why
from apps.ratelimits.policy.identity import DIGEST_CHARS
from apps.ratelimits.policy.kept import is_counted
from apps.ratelimits.policy.rules import Algorithm, FailurePolicy, Ruleset
from apps.ratelimits.storage.cardinality import IdentityBudgets
from apps.ratelimits.storage.counted import sample
from apps.ratelimits.storage.denied import Batch, Denial, DeniedStore
from apps.ratelimits.storage.errors import Unavailable
from apps.ratelimits.storage.failures import Kind
from apps.ratelimits.storage.heartbeat import Heartbeat
from apps.ratelimits.storage.keys import Keys
from apps.ratelimits.storage.limiter import Target
from apps.ratelimits.storage.living import Known
from apps.ratelimits.storage.processes import Processes
from apps.ratelimits.storage.ruleset_store import FIRST_LOOK, RulesetStore
from apps.ratelimits.storage.server_facts import Scripts, read_servers
from apps.ratelimits.storage.sweep import Sweeper
from apps.ratelimits.storage.sweep_page import Swept
from apps.ratelimits.storage.tally import Tally
from apps.ratelimits.storage.traffic import TrafficStore
from apps.ratelimits.storage.usage import UsageStore
from apps.ratelimits.tests.limiters import by_status, make_limiter, rule
from apps.ratelimits.tests.test_traffic import batch

from . import redis_files
from .redis_files import SINGLE
from .servers import RedisProcess, flavours, free_port
from .test_redis_files import started, wait_for

A, B = "a" * DIGEST_CHARS, "b" * DIGEST_CHARS
# Redis 7.0 does not know it, so that the file cannot name it: redis-py sends it and does without.
MISSED = {"client|setinfo"}


@pytest.fixture(scope="module", params=flavours())
def server(request):
    made = redis_files.with_users(request.param)
    yield made.start()
    made.stop()


@pytest.fixture
def refused(server):
    """What the server refused to anyone since the test began."""
    with server.client() as admin:
        admin.flushall()
        admin.acl_log_reset()
        yield lambda: {entry["object"] for entry in admin.acl_log()} - MISSED


def of(server: RedisProcess, name: str = "iota", database: int = 0) -> str:
    return redis_files.url(name, f"127.0.0.1:{server.port}/{database}")


@pytest.fixture
def limiter(server):
    made = make_limiter(of(server), redis_timeout_ms=5_000)
    yield made
    made.close()


def limits(algorithm: Algorithm, number: int) -> list[Target]:
    """A limit that is used up by the second request, and one that charges its denials."""
    plain = rule(algorithm, 2, number=number, on_failure=FailurePolicy.DENY)
    if algorithm is Algorithm.CONCURRENCY:
        return [Target(plain, A)]
    charged = rule(algorithm, 2, number=number + 1, charge_denied=True, block_us=1_000_000)
    return [Target(plain, A), Target(replace(charged, on_failure=FailurePolicy.DENY), B)]


def test_the_site_can_check_and_give_back_by_every_algorithm(limiter, refused):
    for number, algorithm in enumerate(Algorithm):
        targets = limits(algorithm, 10 * number + 1)
        decisions = [limiter.check(targets) for _ in range(4)]
        assert [decision.allowed for decision in decisions] == [True, True, False, False]
        assert limiter.peek(targets).allowed is False
        limiter.release(decisions[0].held)
        if algorithm is not Algorithm.CONCURRENCY:
            counted = limiter.check([Target(by_status(rule(algorithm, number=10 * number + 3)), A)])
            assert limiter.refund(counted.charges) == 1
        assert limiter.reset([A, B], [target.rule for target in targets]) > 0
    leased = rule(Algorithm.FIXED_WINDOW, 1_000, number=90, lease=100)
    assert all(limiter.check([Target(leased, A)]).allowed for _ in range(300))
    assert (limiter.failures.total, refused()) == (0, set())


def test_the_site_can_do_so_on_an_event_loop(limiter, refused):
    async def all_of_it():
        for number, algorithm in enumerate(Algorithm):
            decision = await limiter.acheck(limits(algorithm, 10 * number + 1))
            assert decision.allowed
            await limiter.arelease(decision.held)
            await limiter.arefund(decision.charges)
        await limiter.aclose()

    asyncio.run(all_of_it())
    assert (limiter.failures.total, refused()) == (0, set())


def test_the_site_can_publish_look_and_tell(limiter, refused):
    store = RulesetStore(limiter.client, limiter.keys)
    assert store.try_lock()
    assert store.publish(Ruleset(1, (rule(),)))
    assert store.version() == 1
    assert store.fetch().rules == (rule(),)
    first = store.look(FIRST_LOOK)
    store.tell_reset([A])
    assert store.look(first).reset == {A}
    assert refused() == set()


def test_the_site_can_use_its_cache(server, refused):
    use_cache(of(server))
    assert refused() == set()


def use_cache(url: str) -> None:
    """All that Django's cache and django-redis' own can do without looking through the keys."""
    own = settings.CACHES["default"]
    cache = RedisCache([url], {"KEY_PREFIX": own["KEY_PREFIX"], "OPTIONS": own["OPTIONS"]})
    cache.set("a", {"b": 1})
    assert cache.add("a", 2) is False
    assert cache.get_many(["a", "none"]) == {"a": {"b": 1}}
    cache.set_many({"n": 1, "m": 2}, timeout=60)
    assert (cache.incr("n", 4), cache.decr("m")) == (5, 1)
    assert cache.touch("n", 100)
    assert cache.has_key("n")
    assert 0 < cache.ttl("n") <= 100
    assert cache.get_or_set("new", "value") == "value"
    cache.persist("n")
    cache.expire("n", 10)
    assert cache.delete("n")
    cache.delete_many(["a", "m", "new"])
    assert cache.get_many(["a", "m", "new"]) == {}
    cache.close()


def test_the_site_can_beat_probe_and_count_identities(limiter, refused):
    beat_probe_and_count(limiter)
    assert (limiter.failures.total, refused()) == (0, set())


def beat_probe_and_count(limiter) -> None:
    """What an engine does in the background."""
    processes = Processes(limiter.client, limiter.keys)
    heart = Heartbeat(processes, limiter, lambda: 1, host_key=b"h")
    heart.beat()
    assert len(processes.alive()) == 1
    heart.leave()
    assert processes.alive() == []
    for node in limiter.redis.nodes:
        assert node.breaker.probe_once()
    usage = UsageStore(limiter.client, limiter.keys)
    tally = Tally()
    tally.ended(False)
    assert tally.flush(usage)
    assert usage.read().requests == 1
    assert usage.forget([1]) == 0
    denied = DeniedStore(limiter.client, limiter.keys)
    denial = Denial(1, "GET", "/", A, ((1, A),), (1,))
    denied.add(Batch([denial], {(1, 1): {A: (1, 0, ())}}))
    assert denied.recent(1)[0].digest(1) == A
    assert denied.top(1, 3_600, 3_600, 1)[0].digest == A
    traffic = TrafficStore(limiter.client, limiter.keys, 150, 60)
    for _ in range(3):
        traffic.add(batch(100))
    assert len(traffic.read()) == 100
    few = rule(number=70, identities=2)
    budgets = IdentityBudgets(limiter.client, limiter.keys, limiter.digests.of, 0)
    budgets.install([few])
    for name in "abcd":
        budgets.admit([few], [0], [limiter.digests.of(("name", name))])
    now_s = time.time()
    budgets.flush(now_s)
    assert budgets.count(few, now_s).came >= 3
    _, (counted,) = budgets.admit([few], [0], [limiter.digests.of(("name", "z"))])
    assert counted == limiter.digests.of(("overflow", "70"))


def test_the_site_can_do_so_on_a_cluster(server, request):
    options = ["--cluster-port", str(free_port())]
    node = redis_files.with_users(server.flavour, *options, conf=redis_files.CLUSTER)
    started(node, request)
    url = of(node).replace("redis://", "redis+cluster://")
    with node.client() as admin:
        admin.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16_383)
        wait_for(lambda: admin.cluster("INFO")["cluster_state"] == "ok")
        admin.acl_log_reset()
        made = make_limiter(url, redis_timeout_ms=5_000)
        request.addfinalizer(made.close)
        targets = [Target(rule(number=1), A), Target(rule(number=2, quota=9), B)]
        assert [made.check(targets).allowed for _ in range(4)] == [True] * 3 + [False]
        assert made.reset([A, B]) == 2
        beat_probe_and_count(made)
        use_cache(url)
        with redis.Redis.from_url(of(node)) as one:
            for words in ("CLUSTER SHARDS", "CLUSTER NODES", "ASKING", "READONLY", "READWRITE"):
                one.execute_command(*words.split())
        assert made.failures.total == 0
        assert {entry["object"] for entry in admin.acl_log()} - MISSED == set()


def test_a_right_that_a_script_lacks_is_decided_by_policy_and_no_error_of_the_site(server):
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "poor", "on", ">secret-of-poor", "~iota:*")
        admin.execute_command("ACL", "SETUSER", "poor", "+hello", "+eval", "+evalsha", "+get")
        limiter = make_limiter(of(server, "poor"), redis_timeout_ms=5_000)
        try:
            denied = limiter.check(limits(Algorithm.FIXED_WINDOW, 1))
            assert (denied.allowed, denied.unavailable) == (False, True)
            assert limiter.failures.by_kind == {Kind.AUTH: 1}
            assert read_servers(limiter.client)[0].scripts is Scripts.REFUSED
        finally:
            limiter.close()
            admin.execute_command("ACL", "DELUSER", "poor")


FORBIDDEN = [
    "FLUSHALL",
    "FLUSHDB",
    "SWAPDB 0 1",
    "CONFIG GET *",
    "CONFIG SET maxmemory 1",
    "CONFIG REWRITE",
    "CONFIG RESETSTAT",
    "KEYS *",
    "SCAN 0",
    "RANDOMKEY",
    "DBSIZE",
    "INFO",
    "GET foreign",
    "SET foreign 1",
    "UNLINK foreign",
    "GET iot",
    "MGET iota:a foreign",
    "PFMERGE iota:h:1 foreign",
    "COPY iota:a foreign",
    "RENAME iota:a iota:b",
    "DUMP iota:a",
    "RESTORE iota:a 0 x",
    "MIGRATE 127.0.0.1 1 iota:a 0 1",
    "SORT iota:a",
    "OBJECT ENCODING iota:a",
    "SCRIPT FLUSH",
    "SCRIPT KILL",
    "SCRIPT LOAD return",
    "FUNCTION FLUSH",
    "FUNCTION LOAD x",
    "FCALL x 0",
    "DEBUG SLEEP 0",
    "SHUTDOWN NOSAVE",
    "ACL LIST",
    "ACL WHOAMI",
    "ACL SETUSER iota +@all",
    "MONITOR",
    "CLIENT LIST",
    "CLIENT KILL ID 1",
    "CLIENT PAUSE 1",
    "SAVE",
    "BGSAVE",
    "BGREWRITEAOF",
    "SLOWLOG GET",
    "SLOWLOG RESET",
    "LATENCY RESET",
    "MEMORY PURGE",
    "REPLICAOF NO ONE",
    "FAILOVER",
    "SYNC",
    "PSYNC ? -1",
    "MODULE LIST",
    "CLUSTER FAILOVER",
    "CLUSTER RESET",
    "CLUSTER FORGET x",
    "SUBSCRIBE x",
    "PUBLISH x y",
    "PUBSUB CHANNELS",
]


def accepted(url: str, commands: list[str]) -> list[str]:
    """Those of the commands that a server does not refuse."""
    found = []
    for words in commands:
        # A connection each: one that was led to another protocol would say nothing of the next.
        with redis.Redis.from_url(url, protocol=2) as client:
            try:
                client.execute_command(*words.split())
            except redis.exceptions.NoPermissionError:
                continue
            except redis.RedisError as error:
                if "DEBUG command not allowed" in str(error):
                    continue
            found.append(words)
    return found


def test_the_site_can_do_nothing_else(server):
    assert accepted(of(server), FORBIDDEN) == []


def test_a_script_of_the_sites_can_do_no_more_than_the_site(server):
    with redis.Redis.from_url(of(server)) as site:
        for body in ("redis.call('GET', 'foreign')", "redis.call('FLUSHALL')"):
            with pytest.raises(
                redis.RedisError, match=r"(?i)permission|ACL failure|user executing"
            ):
                site.eval(f"return {body}", 0)


READ_ONLY = [
    "INFO",
    "CONFIG GET maxmemory-policy",
    "SLOWLOG GET",
    "SLOWLOG LEN",
    "LATENCY LATEST",
    "LATENCY HISTORY command",
    "LATENCY HISTOGRAM evalsha",
    "CLIENT LIST",
    "MEMORY STATS",
    "MEMORY USAGE iota:a",
    "SCAN 0",
    "ROLE",
    "DBSIZE",
    "PING",
    "TIME",
]
FOR_READERS = {"INFO", "DBSIZE", "CONFIG GET *", "SLOWLOG GET", "CLIENT LIST", "SCAN 0"}
NOT_FOR_READERS = [
    *(words for words in FORBIDDEN if words not in FOR_READERS),
    "GET iota:a",
    "SET iota:a 1",
    "EVAL return 0",
    "EVALSHA x 0",
    "HGET iota:ruleset version",
    "MEMORY USAGE foreign",
]


def test_the_operator_reads(server, refused):
    with redis.Redis.from_url(of(server, "iota-operator")) as operator:
        for words in READ_ONLY:
            operator.execute_command(*words.split())
    assert refused() == set()


def test_the_operator_changes_nothing_and_reads_no_key(server):
    assert accepted(of(server, "iota-operator"), NOT_FOR_READERS) == []


def test_without_a_password_nobody_comes_in(server, request):
    """users.acl as it is shipped, and one more user, by whom the server is seen to have started."""
    closed = redis_files.with_file(
        server.flavour,
        SINGLE,
        *("--aclfile", "{folder}/users.acl"),
        url="redis://tests:x@127.0.0.1:{port}/0",
    )
    text = redis_files.USERS.read_text() + "\nuser tests on nopass -@all +info\n"
    (closed.folder / "users.acl").write_text(text)
    started(closed, request)
    for name in ("default", *redis_files.NAMES):
        for password in ("", redis_files.secret(name)):
            with (
                redis.Redis.from_url(f"redis://127.0.0.1:{closed.port}", protocol=2) as anybody,
                pytest.raises(redis.AuthenticationError),
            ):
                anybody.execute_command("AUTH", name, password)
    with (
        redis.Redis.from_url(f"redis://127.0.0.1:{closed.port}", protocol=2) as anybody,
        pytest.raises(redis.AuthenticationError),
    ):
        anybody.ping()


def test_sentinel_and_replicas_have_users_of_their_own(server, request):
    login = ["--masteruser", "iota-replica", "--masterauth", redis_files.secret("iota-replica")]
    primary = started(redis_files.with_users(server.flavour, *login), request)
    of_primary = ["--replicaof", f"127.0.0.1 {primary.port}"]
    replica = started(redis_files.with_users(server.flavour, *login, *of_primary), request)
    with replica.client() as admin:
        wait_for(lambda: admin.info("replication")["master_link_status"] == "up")
    watcher = redis_files.with_file(server.flavour, redis_files.SENTINEL, "--sentinel")
    conf = redis_files.SENTINEL.read_text()
    for before, after in (
        ("iota 127.0.0.1 6379 2", f"iota 127.0.0.1 {primary.port} 1"),
        ("#sentinel auth-user", "sentinel auth-user"),
        ("#sentinel auth-pass", "sentinel auth-pass"),
        ("the password of iota-sentinel", redis_files.secret("iota-sentinel")),
    ):
        assert before in conf
        conf = conf.replace(before, after)
    (watcher.folder / "sentinel.conf").write_text(conf)
    started(watcher, request)
    with watcher.client() as sentinel, replica.client() as admin:
        wait_for(lambda: len(sentinel.sentinel_slaves("iota")) == 1)
        admin.acl_log_reset()
        primary.kill()
        wait_for(lambda: admin.info("replication")["role"] == "master")
        assert {entry["object"] for entry in admin.acl_log()} - MISSED == set()


def test_the_sweeper_sweeps(server, limiter, refused):
    limits_of_all = [
        rule(algorithm, number=number, window_us=60_000_000)
        for number, algorithm in enumerate(Algorithm, 1)
    ]
    gone, *others = limits_of_all
    log, slots = limits_of_all[3:]
    for who in (A, B):
        limiter.check([Target(each, who) for each in limits_of_all])
    with server.client() as admin:
        admin.persist(limiter.keys.sidecar(slots, B))
        admin.zadd(limiter.keys.sidecar(slots, A), {"x": 1})
        admin.lpush(limiter.keys.sidecar(log, A), "1:1")
    RulesetStore(limiter.client, limiter.keys).publish(Ruleset(1, tuple(others)))
    with redis.Redis.from_url(of(server, "iota-sweeper"), retry=Retry(NoBackoff(), 0)) as client:

        def swept() -> Swept:
            made = Sweeper(client, limiter.keys, lambda last: last or Known(1, highest=9))
            assert made.run()
            assert made.is_done
            assert made.places[0].run_id
            assert made.places[0].keys > 0
            return made.tally

        first = swept()
        assert (first.entries, first.abandoned, first.bounded) == (1, 1, 1)
        # Where the log was first, its bucket was written between reading and cutting.
        assert first.records + first.left == 2
        limiter.client.unlink(limiter.keys.ruleset)
        assert swept().removed == {"bucket": 2, "log": 2, "slots": 2}
    assert limiter.peek([Target(gone, A)]).remaining == 3
    assert refused() == set()


def test_the_sweeper_can_count_clients(server, limiter, refused):
    """For the form of a limit; the site's own user may not look through the keys."""
    with redis.Redis.from_url(of(server, "iota-sweeper"), retry=Retry(NoBackoff(), 0)) as client:
        for number, algorithm in enumerate(Algorithm, 1):
            one = rule(algorithm, number=number, window_us=60_000_000)
            limiter.check([Target(one, A)])
            found = sample(client, limiter.keys, one)
            assert found.number(lambda kept, now_us, one=one: is_counted(one.rate, kept, now_us))
    assert refused() == set()
    with pytest.raises(Unavailable):
        sample(limiter.client, limiter.keys, one)


def test_the_sweeper_can_do_nothing_else(server):
    more = {"SCAN 0", "DBSIZE", "INFO"}
    assert accepted(of(server, "iota-sweeper"), [w for w in FORBIDDEN if w not in more]) == []


def test_who_may_not_scan_is_told_what_to_name(server):
    with redis.Redis.from_url(of(server), retry=Retry(NoBackoff(), 0)) as client:
        made = Sweeper(client, Keys("iota:"), lambda last: Known(1))
        assert made.run()
    assert not made.is_done
    assert "NoPermissionError" in made.places[0].error
    assert "IOTA_REDIS_SWEEPER_URL" in _why(made.places[0].error)
