# cython: language_level=3
"""Deadlines that are all equally far away: one timer for any number of connections."""

cimport cython

from aiofastsocket._native.pump cimport now_ns

cdef double LATE_SECONDS = 0.1  # a timer that comes so much later was held up
cdef double TURN_SECONDS = 0.05  # for the loop to read what lies there


cdef double now() noexcept:
    return now_ns() * 1e-9


cdef class Timed(Receiver):
    """What waits for one thing at a time, for so long and no longer."""

    cdef wait_until(self, Deadlines deadlines):
        """For the next thing that is to come, and no more for the one before; None: for nothing."""
        if self.due is not None:
            self.due.take_out(self)
        if deadlines is not None:
            deadlines.add(self)

    def wait_for(self, Deadlines deadlines):
        """The same from Python."""
        self.wait_until(deadlines)


@cython.final
cdef class Deadlines:
    """Calls `expired(who)` for each Timed that still waits here after `seconds`.

    When a handler has held the loop up, nobody has looked at what clients sent meanwhile: the loop
    gets a turn to read it before anything expires, one and no more.

    They stand in a row in the order in which they were added, which is that in which they are due.
    """

    def __init__(self, loop, double seconds, expired):
        self.loop = loop
        self.seconds = seconds
        self.expired = expired

    cdef add(self, Timed who):
        """From now on. It waits in one place at a time."""
        cdef double at = now()
        who.due_at = at + self.seconds
        who.due = self
        who.before = self.last
        if self.last is not None:
            self.last.after = who
        else:
            self.first = who
        self.last = who
        if self.timer is None:
            self.look_at(who.due_at, at)

    cdef take_out(self, Timed who):
        """No more."""
        if who.before is not None:
            who.before.after = who.after
        else:
            self.first = who.after
        if who.after is not None:
            who.after.before = who.before
        else:
            self.last = who.before
        who.before = who.after = None
        who.due = None

    def clear(self):
        """Forget all, and the timer."""
        while self.first is not None:
            self.take_out(self.first)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def look(self):
        """The timer's."""
        cdef Timed who
        cdef double time = now()
        self.timer = None
        if time - self.timer_at > LATE_SECONDS and not self.waited:
            self.waited = True
            self.timer = self.loop.call_later(TURN_SECONDS, self.look)
            return
        self.waited = False
        try:
            while self.first is not None and self.first.due_at <= time:
                who = self.first
                self.take_out(who)
                self.expired(who)
        finally:  # whatever one of them raises, the others are still waited for
            if self.first is not None and self.timer is None:
                self.look_at(self.first.due_at, now())

    cdef look_at(self, double due, double time):
        # libuv's timers may come a millisecond early: then it looks once more.
        self.timer_at = due
        self.timer = self.loop.call_later(max(0.0, due - time), self.look)
