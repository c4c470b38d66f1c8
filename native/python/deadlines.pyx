# cython: language_level=3
"""Deadlines with the same timeout: one timer serves any number of connections."""

cimport cython

from aiofastsocket._native.pump cimport now_ns

cdef double LATE_SECONDS = 0.1  # a timer that is this late was held up
cdef double TURN_SECONDS = 0.05  # time for the loop to read the waiting input


cdef double now() noexcept:
    return now_ns() * 1e-9


cdef class Timed(Receiver):
    """The base of objects that wait for one thing at a time, with a timeout."""

    cdef wait_until(self, Deadlines deadlines):
        """Wait in `deadlines`, and no longer in the previous ones. None: wait for nothing."""
        if self.due is not None:
            self.due.take_out(self)
        if deadlines is not None:
            deadlines.add(self)

    def wait_for(self, Deadlines deadlines):
        """Call wait_until from Python."""
        self.wait_until(deadlines)


@cython.final
cdef class Deadlines:
    """Calls `expired(who)` for each Timed that still waits here after `seconds`.

    When a handler has held up the loop, the bytes that clients sent meanwhile are unread. The loop
    then gets exactly one turn to read them before anything expires.

    The waiting objects are linked in the order in which they were added. They expire in this order.
    """

    def __init__(self, loop, double seconds, expired):
        self.loop = loop
        self.seconds = seconds
        self.expired = expired

    cdef add(self, Timed who):
        """Start its time now. It must not wait anywhere else."""
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
        """Remove it: it waits no longer."""
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
        """Remove all waiting objects, and cancel the timer."""
        while self.first is not None:
            self.take_out(self.first)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def look(self):
        """Handle the timer: expire the objects that are due."""
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
        finally:  # even after an error, the others need the timer
            if self.first is not None and self.timer is None:
                self.look_at(self.first.due_at, now())

    cdef look_at(self, double due, double time):
        # libuv's timers may fire a millisecond early. Then `look` sets the timer again.
        self.timer_at = due
        self.timer = self.loop.call_later(max(0.0, due - time), self.look)
