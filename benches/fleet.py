#!/usr/bin/env python3
"""How a router's choice of server shows in a fleet of cllm servers: a simulation of a made-up day of conversations.

python3 benches/fleet.py [--machines 10 100 1000] [--requests 300000] [--seed 1] ...; --help has the rest. Needs Python alone.

A conversation begins with one of some system prompts, a few of which are frequent (Zipf), and has turns with pauses between
them; a turn's prompt is all that was said before and some new words. Conversations arrive twice as often at the day's peak as in
its mean, and hardly at night. A server holds the last sequences that it served, as cllm does, reads the tokens of a prompt that
no sequence of its own begins with, and then writes the answer. Its time is one queue: reading and writing take turns in it. Work
given to it is a share of the time; above 100 % its queue grows. So the figures say how choices compare, not what a machine
does; cllm's own figures are those of `cllm bench`. In the course of the simulated time each server restarts once, one after the
other, with an empty cache.
"""

import argparse
import bisect
import collections
import heapq
import math
import random
import time

DAY_S = 86_400.0
# Points of one server on the ring of the consistent hash.
POINTS = 64
# Seconds that a restarting server takes no request.
RESTART_S = 60.0
# Bytes of one event of a stream, which carries one token.
EVENT_BYTES = 250


class Server:
    """`sequences`: conversation -> (tokens, system prompt), the one used last at the end."""

    __slots__ = ("sequences", "beginnings", "free_at", "down_until", "busy")

    def __init__(self):
        self.restart(0.0)
        self.free_at = self.busy = self.down_until = 0.0

    def restart(self, until):
        self.sequences = collections.OrderedDict()
        self.beginnings = collections.Counter()
        self.down_until = until

    def serve(self, now, conversation, system, system_tokens, prompt, answer, args):
        """Returns tokens found in the cache and seconds to the first token."""
        held = self.sequences.pop(conversation, None)
        if held is not None:
            cached = held[0]
            self.beginnings[held[1]] -= 1
        else:
            cached = system_tokens if self.beginnings[system] > 0 else 0
            if len(self.sequences) == args.sequences:
                gone = self.sequences.popitem(last=False)[1]
                self.beginnings[gone[1]] -= 1
        read_s = (prompt - cached) / args.read
        start = max(now, self.free_at)
        work_s = read_s + answer / args.write
        self.free_at = start + work_s
        self.busy += work_s
        self.sequences[conversation] = (prompt + answer, system)
        self.beginnings[system] += 1
        return cached, start + read_s - now


class InTurn:
    name = "in turn"

    def __init__(self, servers, dice):
        self.servers, self.next = servers, 0

    def choose(self, now, conversation, system):
        for _ in self.servers:
            self.next = (self.next + 1) % len(self.servers)
            if self.servers[self.next].down_until <= now:
                return self.next


class LessBusy:
    name = "less busy of two"

    def __init__(self, servers, dice):
        self.servers, self.dice = servers, dice

    def choose(self, now, conversation, system):
        up = [one for one in (self.dice.randrange(len(self.servers)) for _ in range(8)) if self.servers[one].down_until <= now]
        return min(up[:2], key=lambda one: self.servers[one].free_at)


class Hash:
    """A consistent hash: HAProxy with docs/fleet/haproxy.cfg."""

    name = "hash of the conversation"

    def __init__(self, servers, dice):
        self.servers = servers
        ring = sorted((dice.random(), server) for server in range(len(servers)) for _ in range(POINTS))
        self.places, self.owners = [place for place, _ in ring], [owner for _, owner in ring]

    def key(self, conversation, system):
        return conversation

    def choose(self, now, conversation, system):
        # The fraction of a multiple of the golden ratio spreads keys evenly.
        at = bisect.bisect(self.places, self.key(conversation, system) * 0.6180339887498949 % 1.0)
        for step in range(len(self.owners)):
            owner = self.owners[(at + step) % len(self.owners)]
            if self.servers[owner].down_until <= now:
                return owner


class HashOfSystem(Hash):
    name = "hash of the system prompt"

    def key(self, conversation, system):
        return system + 1


class CacheAware(LessBusy):
    """The server that served the conversation last, unless it is far behind; a new one goes to the less busy of two: smg's
    `cache_aware`."""

    name = "cache-aware"
    # Seconds behind the less busy of two servers at which a conversation moves.
    BEHIND_S = 10.0

    def __init__(self, servers, dice):
        super().__init__(servers, dice)
        self.homes = {}

    def choose(self, now, conversation, system):
        other = super().choose(now, conversation, system)
        home = self.homes.get(conversation)
        if home is not None:
            server = self.servers[home]
            if server.down_until <= now and server.free_at - max(now, self.servers[other].free_at) < self.BEHIND_S:
                return home
        self.homes[conversation] = other
        return other


def requests(args, machines, seconds, dice):
    """Yields (time, conversation, system prompt, its tokens, prompt tokens, answer tokens) in order of time."""
    weights = [1 / (rank + 1) for rank in range(args.systems)]
    system_tokens = [dice.randint(100, 1500) for _ in weights]
    begin = (DAY_S - seconds) / 2
    peak = 2 * args.rate * machines / args.turns
    coming, now, conversation = [], begin, 0
    while True:
        now += dice.expovariate(peak)
        if now >= begin + seconds:
            break
        # From 0 at midnight to 1 at noon.
        if dice.random() > 0.5 - 0.5 * math.cos(2 * math.pi * now / DAY_S):
            continue
        conversation += 1
        system = dice.choices(range(args.systems), weights)[0]
        turns = 1 + int(dice.expovariate(1 / (args.turns - 0.5)))
        heapq.heappush(coming, (now, conversation, system, turns, system_tokens[system]))
        while coming and coming[0][0] <= now:
            yield from turn(args, coming, system_tokens, dice)
    while coming and coming[0][0] < begin + seconds:
        yield from turn(args, coming, system_tokens, dice)


def turn(args, coming, system_tokens, dice):
    now, conversation, system, turns, said = heapq.heappop(coming)
    prompt = min(said + dice.randint(20, 200), args.context - args.answer)
    answer = min(1 + int(dice.expovariate(1 / args.answer)), args.context - prompt)
    yield now, conversation, system, system_tokens[system], prompt, answer
    if turns > 1 and prompt + answer < args.context - args.answer - 200:
        pause = dice.lognormvariate(math.log(args.pause), 1.0)
        heapq.heappush(coming, (now + pause, conversation, system, turns - 1, prompt + answer))


def simulate(policy, args, machines, seconds):
    dice = random.Random(args.seed)
    servers = [Server() for _ in range(machines)]
    router = policy(servers, random.Random(args.seed + 1))
    begin = (DAY_S - seconds) / 2
    restarts = collections.deque(begin + seconds * (one + 0.5) / machines for one in range(machines))
    waits, prompt_tokens, cached_tokens, answers, later, met = [], 0, 0, 0, 0, 0
    for now, conversation, system, system_tokens, prompt, answer in requests(args, machines, seconds, dice):
        while restarts and restarts[0] <= now:
            servers[machines - len(restarts)].restart(restarts.popleft() + RESTART_S)
        server = servers[router.choose(now, conversation, system)]
        held = conversation in server.sequences
        cached, wait = server.serve(now, conversation, system, system_tokens, prompt, answer, args)
        waits.append(wait)
        prompt_tokens += prompt
        cached_tokens += cached
        answers += answer
        # A first turn's prompt is its system prompt and at most 200 tokens.
        if prompt > system_tokens + 200:
            later += 1
            met += held
    waits.sort()
    busy = [server.busy / seconds for server in servers]
    return {
        "requests": len(waits), "prompt": prompt_tokens, "cached": cached_tokens / prompt_tokens, "met": met / max(later, 1),
        "p50": waits[len(waits) // 2], "p95": waits[len(waits) * 95 // 100], "answers": answers,
        "busy": sum(busy) / machines, "busiest": max(busy),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--requests", type=int, default=300_000,
                        help="at most about so many each: of a day that has more, the hours around its peak")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.1, help="requests a second and machine, mean of the day")
    parser.add_argument("--turns", type=float, default=6, help="mean of a conversation")
    parser.add_argument("--pause", type=float, default=40, help="seconds between turns, median")
    parser.add_argument("--answer", type=int, default=150, help="tokens of an answer, mean")
    parser.add_argument("--systems", type=int, default=50, help="system prompts, of 100 to 1,500 tokens")
    parser.add_argument("--context", type=int, default=4096, help="tokens of the longest conversation")
    parser.add_argument("--sequences", type=int, default=16, help="sequences that a server holds (-np)")
    parser.add_argument("--read", type=float, default=600, help="prompt tokens a second that a server reads")
    parser.add_argument("--write", type=float, default=120, help="tokens a second that it writes, all requests together")
    args = parser.parse_args()
    for machines in args.machines:
        seconds = min(DAY_S, args.requests / (machines * args.rate))
        began = time.monotonic()
        print(f"{machines} machines, {seconds / 3600:.1f} h, seed {args.seed}")
        print("  choice                     conversation met  tokens cached  first token p50       p95  work given: mean     most")
        for policy in (InTurn, LessBusy, HashOfSystem, Hash, CacheAware):
            was = simulate(policy, args, machines, seconds)
            print(f"  {policy.name:<26} {was['met']:>15.1%} {was['cached']:>14.1%} {was['p50']:>14.2f} s {was['p95']:>7.2f} s"
                  f" {was['busy']:>17.0%} {was['busiest']:>8.0%}")
        peak = 2 * args.rate * machines
        tokens = peak * was["answers"] / was["requests"]
        body = 4 * was["prompt"] / was["requests"]
        print(f"  the router at the peak: {peak:,.0f} requests/s of {body / 1024:.0f} KiB, {tokens:,.0f} events/s,"
              f" {(tokens * EVENT_BYTES + peak * body) / 1e6:,.2f} MB/s; {was['requests']:,} requests simulated in"
              f" {time.monotonic() - began:.0f} s\n")


main()
