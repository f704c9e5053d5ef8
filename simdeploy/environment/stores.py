"""What a datastore holds and the copies that protect it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from simdeploy.environment.base import Frozen
from simdeploy.environment.demand import TimeOfDay
from simdeploy.environment.names import Name
from simdeploy.units import Bytes, BytesPerSecond, PerSecond, Seconds


class Backup(Frozen):
    """A copy that is made every so often."""

    kind: Literal["backup"]
    """A copy that is made every so often."""
    every_s: Seconds = Field(alias="every", gt=0)
    """From one begin to the next."""
    takes_s: Seconds = Field(alias="takes")
    """From its begin to its end."""
    begins_at_s: TimeOfDay | None = Field(default=None, alias="begins_at")
    """When one of them begins on the day on which a plan starts; by default at a random moment of its period."""
    consistent_at: Literal["start", "end"] = "start"
    """The moment whose state it holds: of a dump its start, of a base backup its end."""
    on: Name | None = None
    """The machine on which it is kept, and with which it is lost; by default out of every disaster's reach."""
    zone: Name | None = None
    """The zone in which it is kept: it is lost when all machines of the zone are; by default out of every disaster's reach."""

    @property
    def newest_s(self) -> float:
        """How old what it holds is at least [s]."""
        return self.takes_s if self.consistent_at == "start" else 0.0


class LogArchive(Frozen):
    """Log segments that are shipped away."""

    kind: Literal["log_archive"]
    """Log segments that are shipped away."""
    closes_every_s: Seconds | None = Field(default=None, alias="closes_every")
    """The archive time-out. Without it a quiet store closes no segment, so its exposure has no bound."""
    ships_in_s: Seconds = Field(alias="ships_in")
    """From the end of a segment until it is away."""
    on: Name | None = None
    """The machine on which it is kept, and with which it is lost; by default out of every disaster's reach."""
    zone: Name | None = None
    """The zone in which it is kept: it is lost when all machines of the zone are; by default out of every disaster's reach."""

    @property
    def newest_s(self) -> float:
        """How old what it holds is at least [s]; without a time-out there is no such bound, and the least one is taken."""
        return self.ships_in_s


class Standby(Frozen):
    """The other instances of the store follow the primary."""

    kind: Literal["standby"]
    """The other instances follow the primary."""
    lag_s: Seconds = Field(default=0.0, alias="lag")
    """How far they are behind; 0 = synchronous."""
    delay_s: Seconds = Field(default=0.0, alias="delay")
    """How long after a write they apply it, on purpose: what is noticed to be wrong before then can be left out."""


Copy = Annotated[Backup | LogArchive | Standby, Field(discriminator="kind")]


class Store(Frozen):
    """What a datastore holds and how it is protected."""

    size_bytes: Bytes = Field(default=0.0, alias="size")
    """What it holds."""
    writes_per_s: PerSecond | None = Field(default=None, alias="writes")
    """Acknowledged writes; by default one for each request served."""
    restore_bytes_per_s: BytesPerSecond | None = Field(default=None, alias="restore_rate", gt=0)
    """How fast a copy of it is read back."""
    log_bytes_per_s: BytesPerSecond | None = Field(default=None, alias="log_rate")
    """How much log it writes, on average."""
    replay_bytes_per_s: BytesPerSecond | None = Field(default=None, alias="replay_rate", gt=0)
    """How fast its log is replayed."""
    copies: tuple[Copy, ...] = ()
    """How it is protected."""

    @property
    def replay_s_per_s(self) -> float:
        """How long a second of log is replayed [s]; 0 where the rates are not stated."""
        if self.log_bytes_per_s is None or self.replay_bytes_per_s is None:
            return 0.0
        return self.log_bytes_per_s / self.replay_bytes_per_s

    @property
    def mean_replay_s(self) -> float:
        """How long the log is replayed after a restore, in the mean over its copies' schedules [s]; 0 where the rates are not stated.

        An archive is replayed from the newest backup on, T/2 + d old (one that is consistent at its end T/2), up to its own
        exposure s + a/2. A delayed standby has its delay to replay. The longer of the two counts.
        """
        backups = [c.every_s / 2 + (c.takes_s if c.consistent_at == "start" else 0.0) for c in self.copies if isinstance(c, Backup)]
        archives = [c.ships_in_s + c.closes_every_s / 2 for c in self.copies if isinstance(c, LogArchive) and c.closes_every_s is not None]
        log_s = min(backups) - min(archives) if backups and archives else 0.0
        delays = [c.delay_s for c in self.copies if isinstance(c, Standby)]
        return max(log_s, *delays, 0.0) * self.replay_s_per_s
