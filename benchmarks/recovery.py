"""
Two instances, one Redis, and users who keep losing their links: what do they miss in the end?

Each user is a seed, by which chance cuts links, stops one direction of them and sends users away.
`resume`: users of switchboard.v1 come back with the last id they got, while instances are killed.
`classic`: users leave properly, or are sent away by an instance that stops. `classic-holes`: their
links break as well, so they may get something twice. `talk`: users of v1 say again what was not
acknowledged. All must arrive, in order, once. Exit code 1 if not, and the seeds are named.
"""

import argparse
import asyncio
import sys
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from signal import SIGKILL, SIGTERM, Signals
from typing import Any, Self

import aiohttp
from msgspec import json
from yarl import URL

from benchmarks.conversations import Heard, Said
from benchmarks.lines import AGAIN, GONE, V1, Line, opened, post
from benchmarks.verdict import Verdict
from tests.fakes import FakeConcierge, Incoming
from tests.fault_proxy import FaultProxy, Faults, Kind
from tests.redis_server import redis_server
from tests.switchboards import client_session, signed, switchboard_process, variables

PATIENCE = 60.0  # seconds without a frame that users bear whose links don't die
GRACE = 20.0  # seconds after the last postback in which links still break
WINDOW = 10  # messages of a user without an acknowledgement

HOLES = Faults(kinds=list(Kind), within=10_000, delay=0.05)
SHORT_HOLES = Faults(kinds=list(Kind), within=4000, delay=0.05)  # classic frames are shorter
NO_HOLES = Faults(kinds=[Kind.NONE], delay=0.05)
POSTING = Faults(kinds=[Kind.CUT, Kind.DEAF, Kind.MUTE], within=100_000)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much there is of everything; times are in seconds."""

    messages: int = 1000
    visit: int = 20  # messages from coming to leaving, on average
    away: float = 3.0  # at most
    silence: float = 1.5  # without a frame or an answer, after which a link is taken for dead
    pause: float = 0.07  # from one postback to the next, on average
    restart: float = 12.0  # from one restart of an instance to the next, on average


class Instance:
    """A switchboard process that is ended and started again."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Give it the variables in *environment*."""
        self.restarts = 0
        self.troubles: list[str] = []
        self._environment = environment
        self._process = AsyncExitStack()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Run within the context."""
        await self._start()
        try:
            yield self
        finally:
            await self._end(SIGTERM)

    def port(self) -> int:
        """Return the port of the process that runs, or ran last."""
        return URL(self._board.url).port or 0

    async def restart(self, how: Signals) -> None:
        """End it by a signal, and start it again."""
        await self._end(how)
        await self._start()
        self.restarts += 1

    async def _start(self) -> None:
        starting = switchboard_process(self._environment)
        self._board = await self._process.enter_async_context(starting)

    async def _end(self, how: Signals) -> None:
        process = self._board.process
        assert process is not None
        process.send_signal(how)
        code = await process.wait()
        await self._process.aclose()
        if code != (-SIGKILL if how is SIGKILL else 0):
            self.troubles.append(f"an instance ended with {code}")
        if any("Traceback" in line for line in self._board.output):
            self.troubles.append("\n".join(self._board.output))


class Way:
    """Somebody's way to the instances, now to one, now to the other, through a proxy for each."""

    def __init__(self, instances: Sequence[Instance], faults: Faults, chance: Random) -> None:
        """Let *faults* befall its links, as *chance* has it."""
        self.chance = chance
        self.proxies = [FaultProxy(instance.port, faults, chance) for instance in instances]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Be there within the context."""
        async with AsyncExitStack() as stack:
            for proxy in self.proxies:
                await stack.enter_async_context(proxy.serving())
            yield

    def calm(self) -> None:
        """Let nothing befall links that come from now on."""
        for proxy in self.proxies:
            proxy.calm()

    def port(self) -> int:
        """Return a port that leads to one of the instances."""
        return self.chance.choice(self.proxies).port


class Replies:
    """Posts a session's postbacks in order: each until it is answered, then the next."""

    def __init__(self, session: str, way: Way, scale: Scale) -> None:
        """Post to *session* by *way*."""
        self.session = session
        self.done_at: float | None = None  # the loop's time
        self.counts: Counter[str] = Counter()
        self.troubles: list[str] = []
        self._way = way
        self._scale = scale

    async def run(self) -> None:
        """Post all, a few at a time."""
        async with self._way.open(), client_session() as client:
            for number in range(self._scale.messages):
                await self._post(client, number)
                if self._way.chance.random() < 0.3:
                    await asyncio.sleep(self._way.chance.expovariate(0.3 / self._scale.pause))
        self.done_at = asyncio.get_running_loop().time()

    async def _post(self, client: aiohttp.ClientSession, number: int) -> None:
        body = json.encode({"to": self.session, "from": "bot", "n": number})
        headers = signed(body)
        while (status := await self._answer(client, body, headers)) is None:
            self.counts["POSTs repeated"] += 1
            await asyncio.sleep(AGAIN)
        if status == 202:
            self.counts["postbacks held"] += 1
        elif status != 204:
            self.troubles.append(f"postback {number} was answered {status}")

    async def _answer(
        self, client: aiohttp.ClientSession, body: bytes, headers: Mapping[str, str]
    ) -> int | None:
        return await post(client, self._way.port(), body, headers, self._scale.silence)


class Visitor(ABC):
    """A user who comes to either instance, stays for some messages, and is away for a while."""

    upgrade = ""  # headers
    links_die = True

    def __init__(self, session: str, way: Way, scale: Scale) -> None:
        """Come as *session* by *way*."""
        self.counts: Counter[str] = Counter()
        self.troubles: list[str] = []
        self._session = session
        self._way = way
        self._scale = scale

    @abstractmethod
    def done(self) -> bool:
        """Tell whether there is nothing more to come for."""

    @abstractmethod
    async def _stay(self, line: Line, messages: int) -> bool:
        """Do what the user came for; leave after so many *messages*, or True if none come."""

    async def come_and_go(self) -> None:
        """Come again and again until all is done."""
        while not self.done():
            messages = self._way.chance.randint(1, 2 * self._scale.visit)
            await self._visit(messages)
            await asyncio.sleep(self._way.chance.uniform(0, self._scale.away))

    async def _visit(self, messages: int) -> bool:
        """Come, stay for so many *messages*, and leave; return whether it ended in silence."""
        self.counts["visits"] += 1
        silence = self._scale.silence if self.links_die else PATIENCE
        try:
            async with (
                asyncio.timeout(silence) as deadline,
                opened(self._way.port(), self._session, self.upgrade) as socket,
            ):
                return await self._stay(Line(socket, deadline, silence), messages)
        except TimeoutError:
            return True
        except GONE:
            return False


class Listener(Visitor):
    """A user who listens; `came` has the numbers of all that came."""

    def __init__(self, replies: Replies, way: Way, scale: Scale) -> None:
        """Listen for *replies*, as a `Visitor`."""
        super().__init__(replies.session, way, scale)
        self.came: list[int] = []
        self._replies = replies

    def done(self) -> bool:
        """Tell whether all has come, or it has taken too long."""
        done_at, now = self._replies.done_at, asyncio.get_running_loop().time()
        complete = len(set(self.came)) == self._scale.messages
        return done_at is not None and (complete or now > done_at + GRACE)

    async def come_and_go(self) -> None:
        """Come again and again until all is done, and then until there is nothing more to hear."""
        await super().come_and_go()
        self._way.calm()
        while not await self._visit(10**6):  # noqa: ASYNC110 - it listens, then waits
            await asyncio.sleep(AGAIN)


class ClassicListener(Listener):
    """A user of an original client, whose links break, and who lets go of them without a word."""

    async def _stay(self, line: Line, messages: int) -> bool:
        # A Close frame would vouch for all that was sent before it, also for what a hole swallowed.
        # And who left as soon as the first messages are there would never prove to have them.
        with suppress(TimeoutError):
            async with asyncio.timeout(messages * self._scale.pause):
                while (text := await line.hear()) is not None:
                    self._take(text)
        return False

    def _take(self, text: bytes) -> None:
        self.came.append(json.decode(text)["n"])


class PoliteListener(ClassicListener):
    """A user of an original client, whose links don't break, and who closes them properly."""

    links_die = False

    async def _stay(self, line: Line, messages: int) -> bool:
        enough, quiet = len(self.came) + messages, False
        with suppress(TimeoutError):
            while len(self.came) < enough and not quiet:
                quiet = True
                async with asyncio.timeout(self._scale.silence):
                    if (text := await line.hear()) is None:
                        return False
                quiet = False
                self._take(text)
        for text in await line.close():
            self._take(text)
        return quiet


class V1Listener(Listener):
    """A user of switchboard.v1, who comes back with the last id."""

    upgrade = V1

    def __init__(self, replies: Replies, way: Way, scale: Scale) -> None:
        """Listen for *replies*, as a `Visitor`."""
        super().__init__(replies, way, scale)
        self._heard = Heard()
        self.came, self.troubles = self._heard.came, self._heard.troubles

    async def _stay(self, line: Line, messages: int) -> bool:
        line.say(self._heard.open)
        enough = len(self.came) + messages
        while len(self.came) < enough:
            if (text := await line.hear()) is None:
                return False
            self._heard.take(json.decode(text))
        await line.close()  # what still comes is not looked at, so it has to come again
        return False


class Talker(Visitor):
    """A user of switchboard.v1, who says in order what was not acknowledged until all is."""

    upgrade = V1

    def __init__(self, session: str, way: Way, scale: Scale) -> None:
        """Talk, as a `Visitor`."""
        super().__init__(session, way, scale)
        self._open = {"type": "open"}
        self._said = Said(self.counts)
        self.troubles = self._said.troubles

    @property
    def _acknowledged(self) -> int:
        return self._said.count - len(self._said.unacknowledged)

    def done(self) -> bool:
        """Tell whether all is said and acknowledged."""
        return self._acknowledged == self._scale.messages

    async def _stay(self, line: Line, messages: int) -> bool:
        line.say(self._open)
        enough = self._acknowledged + messages
        while self._acknowledged < enough and not self.done():
            if (text := await line.hear()) is None:
                return False
            await self._take(line, json.decode(text))
        await line.close()  # perhaps before other acknowledgements
        return False

    async def _take(self, line: Line, frame: dict[str, Any]) -> None:
        match frame:
            case {"type": "hello", "token": str(token)}:
                self._open["token"] = token
                self._said.say_again(line)
            case {"type": "ack"}:
                await self._said.take(line, frame)
            case {"type": "typing" | "heartbeat"}:
                pass
            case _:
                self.troubles.append(f"unexpected: {frame}")
        unacknowledged = self._said.unacknowledged
        while self._said.count < self._scale.messages and len(unacknowledged) < WINDOW:
            self._said.say(line)


class Bot:
    """Answers for the Concierge, slowly or refusing now and then; keeps what it accepted."""

    def __init__(self, chance: Random) -> None:
        """Have *chance* decide."""
        self.accepted: defaultdict[str, list[int]] = defaultdict(list)  # numbers, by session
        self._chance = chance

    async def answer(self, incoming: Incoming) -> int:
        """Take a user's message, or be busy."""
        session, _, cid = incoming.header("Idempotency-Key").rpartition(":")
        if self._chance.random() < 0.01:
            return 503
        self.accepted[session].append(int(cid))
        await asyncio.sleep(self._chance.choice((0,) * 18 + (0.02, 0.3)))
        return 204


@dataclass(frozen=True)
class Stage:
    """What all seeds of a run have in common."""

    instances: Sequence[Instance]
    bot: Bot
    scale: Scale

    def way(self, faults: Faults, who: str) -> Way:
        """Return a way for *who*, on whose name it depends what befalls them."""
        return Way(self.instances, faults, Random(who))


@dataclass(frozen=True)
class Trial:
    """One seed: a user, the way they come, what arrives, and the postbacks, if it is these."""

    visitor: Visitor
    way: Way
    came: Sequence[int]
    replies: Replies | None = None

    async def run(self) -> None:
        """Run until all is there, or it has taken too long."""
        async with self.way.open(), asyncio.TaskGroup() as parties:
            if self.replies is not None:
                parties.create_task(self.replies.run())
            await self.visitor.come_and_go()

    def verdict(self, sent: int) -> Verdict:
        """Judge what came of so many that were *sent*."""
        troubles = self.replies.troubles if self.replies is not None else []
        return Verdict.of(self.came, sent, [*self.visitor.troubles, *troubles])

    def counts(self) -> Counter[str]:
        """Return how often what has happened."""
        counts = Counter(self.visitor.counts)
        if self.replies is not None:
            counts.update(self.replies.counts)
        for proxy in self.way.proxies:
            counts.update({f"links {kind.value}": met for kind, met in proxy.met.items()})
        return counts


def listening(
    listener: Callable[[Replies, Way, Scale], Listener], faults: Faults, session: str, stage: Stage
) -> Trial:
    """Have a *listener* come as *session*, whose links *faults* befall."""
    replies = Replies(session, stage.way(POSTING, f"posting to {session}"), stage.scale)
    way = stage.way(faults, session)
    visitor = listener(replies, way, stage.scale)
    return Trial(visitor, way, visitor.came, replies)


def talking(session: str, stage: Stage) -> Trial:
    """Have a user talk as *session*, who comes back sooner than one who only listens."""
    way = stage.way(HOLES, session)
    scale = replace(stage.scale, away=stage.scale.away / 3)
    return Trial(Talker(session, way, scale), way, stage.bot.accepted[session])


@dataclass(frozen=True)
class Run:
    """What every seed does, how instances are ended meanwhile, and whether *doubles* may be."""

    trial: Callable[[str, Stage], Trial]
    ending: Signals | None = None
    doubles: bool = False


RUNS = {
    "resume": Run(partial(listening, V1Listener, HOLES), SIGKILL),
    "classic": Run(partial(listening, PoliteListener, NO_HOLES), SIGTERM),
    "classic-holes": Run(partial(listening, ClassicListener, SHORT_HOLES), doubles=True),
    "talk": Run(talking),
}


async def recovers(name: str, seeds: Iterable[int], scale: Scale) -> bool:
    """Do the run called *name*, all *seeds* at once; print what came; return if all is well."""
    bot = Bot(Random(name))
    async with redis_server() as redis, FakeConcierge().serving() as concierge:
        concierge.answer = bot.answer
        environment = variables(
            concierge.url, REDISCLOUD_URL=redis.url, RATE_LIMIT="0", MAILBOX_SIZE="2000"
        )
        instances = [Instance(environment), Instance(environment)]
        async with instances[0].running(), instances[1].running():
            stage = Stage(instances, bot, scale)
            trials = {seed: RUNS[name].trial(f"recovery-{name}-{seed:06}", stage) for seed in seeds}
            await _run_all(list(trials.values()), stage, RUNS[name].ending)
    return _report(name, trials, stage)


async def _run_all(trials: Sequence[Trial], stage: Stage, ending: Signals | None) -> None:
    over = asyncio.Event()
    restarting = asyncio.create_task(_restart(stage, ending, over))
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(60 + 0.3 * stage.scale.messages):
                await asyncio.gather(*(trial.run() for trial in trials))
    finally:
        over.set()
        await restarting


async def _restart(stage: Stage, ending: Signals | None, over: asyncio.Event) -> None:
    """Restart one instance after the other, now and then, until all is over."""
    chance = Random("restarts")
    while ending is not None:
        with suppress(TimeoutError):
            async with asyncio.timeout(chance.uniform(0.5, 1.5) * stage.scale.restart):
                await over.wait()
                return
        await chance.choice(stage.instances).restart(ending)


def _report(name: str, trials: Mapping[int, Trial], stage: Stage) -> bool:
    sent, doubles = stage.scale.messages, RUNS[name].doubles
    verdicts = {seed: trial.verdict(sent) for seed, trial in trials.items()}
    counts: Counter[str] = Counter()
    for seed, trial in trials.items():
        counts.update(trial.counts())
        counts["lost"] += len(verdicts[seed].lost)
        counts["doubled"] += len(verdicts[seed].doubled)
        counts["reordered"] += len(verdicts[seed].reordered)
    counts["restarts"] = sum(instance.restarts for instance in stage.instances)
    shown = ", ".join(f"{what} {count}" for what, count in counts.items())
    print(f"{name}: seeds {len(trials)}, messages of each {sent}, {shown}", flush=True)
    bad = {seed: each for seed, each in verdicts.items() if not each.good(doubles=doubles)}
    for seed, verdict in bad.items():
        print(f"  seed {seed}: {verdict}", flush=True)
    troubles = [trouble for instance in stage.instances for trouble in instance.troubles]
    print("\n".join(troubles), end="", flush=True)
    return not bad and not troubles


async def main() -> bool:
    """Run as told on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", action="append", choices=list(RUNS), help="all if none is named")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--messages", type=int, default=Scale.messages)
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    scale = Scale(messages=options.messages)
    return all([await recovers(name, seeds, scale) for name in options.run or RUNS])


if __name__ == "__main__":
    sys.exit(not asyncio.run(main()))
