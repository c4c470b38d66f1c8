# cython: language_level=3, nonecheck=True
"""Turns of the loop: input goes to the protocols and their output goes out, in batches
(fastsocket/pump.h). This is compiled, because all of it is done for each connection.

Rules:
- callbacks come only from a turn of the loop, never from inside a protocol's own call. The
  exception is pause_writing, which write() may call, as asyncio's does;
- no Python code runs between the moment an output is filled in and its result;
- a descriptor that the pump has closed is forgotten before any callback runs: another file may have
  its number by then.
"""

import os
from contextvars import Context

cimport cython
from cpython.pythread cimport PyThread_get_thread_ident
from libc.errno cimport EBADF

# Between two flushes handlers may take this long in total. If they take longer, fewer connections
# are accepted, and fewer answers are held back, at a time. So an answer does not wait for a slow
# handler of another connection, and an idle sibling may take the connections that are not accepted.
cdef long long SLOW_NS = 2_000_000
cdef int BURST = 32  # the most connections accepted, and answers held back, at a time
cdef int FAST_ENOUGH = 64  # this many in a row without a slow one double the pace


cdef class Watched:
    """A connection, as the pump sees it: its descriptor, and the callbacks of its turns."""

    cdef mark(self):
        """Have it flushed at the end of the turn."""
        if not self.dirty:
            self.dirty = True
            self.pump.dirty.append(self)
            self.pump.schedule()

    cdef bint has_kept(self) noexcept:
        """Whether received data must still be delivered."""

    cdef deliver_kept(self):
        """Deliver the received data that was kept."""

    cdef heard(self, const fs_input *what):
        """Handle an event from the kernel."""

    cdef fill(self, fs_output *out, iovec *parts, list held):
        """Fill in the kernel's next work; `held` keeps the bytes alive meanwhile."""

    cdef settle(self, const fs_output *out):
        """Apply the result of an output, before any callback may write more."""

    cdef flushed(self, const fs_output *out):
        """Tell the protocol the result of an output."""


@cython.final
cdef class Pump:
    """The pump of a loop. parse: makes a Python address of a struct sockaddr's bytes. duck: a
    protocol is buffered if it has get_buffer(), as in uvloop; else by its class, as in asyncio."""

    def __cinit__(self, loop, parse, bint duck):
        if FS_PUMP_BATCH > BATCH or FS_PUMP_PARTS > PARTS or FS_PUMP_PEER > PEER:
            raise AssertionError("the arrays in pump.pxd are too small for pump.h")
        rc = fs_pump_open(&self.pump)
        if rc < 0:
            raise OSError(-rc, f"pump: {os.strerror(-rc)}")
        self.number = fs_pump_fd(self.pump)
        self.loop = loop
        self.thread = PyThread_get_thread_ident()
        self.parse, self.duck = parse, duck
        self.call_soon = loop.call_soon
        self.flush_soon = self.flush_now
        self.context = Context()
        self.dirty = []
        self.fresh = []
        self.held = []
        self.serving = set()
        self.pace = BURST

    def __dealloc__(self):
        fs_pump_free(self.pump)
        fs_pump_free(self.parents)

    def show(self, size_t pulse, bint alone):
        """Tell a pulse (its struct fs_pulse; 0: none any more) when connections are served. alone:
        nothing else tells it when that is over."""
        self.pulse, self.pulse_is_ours = <fs_pulse *>pulse, alone

    def count(self, size_t counters):
        """Count bytes and connections at `counters` (a struct fs_counters) from now on."""
        self.counters = <fs_counters *>counters
        if self.pump is not NULL:
            fs_pump_count(self.pump, self.counters.bytes)

    def sent_past(self, uint64_t size):
        """Count bytes that were sent without the pump, by sendfile(2)."""
        if self.counters is not NULL:
            fs_count(&self.counters.bytes[1], size)

    def fileno(self):
        """The descriptor that is readable while connections have events: then call `turn`."""
        return self.number

    def close(self):
        """Close with the loop. Connections that are still open have no owner any more."""
        pump, self.pump = self.pump, NULL
        fs_pump_free(pump)
        self.dirty, self.fresh = [], []
        self.serving.clear()

    def renew(self):
        """In a forked child, make an own epoll set behind the same descriptor. If the parent's
        loop was running, the child's pump does nothing any more: it may be in the middle of a turn,
        whose answers and callbacks belong to the parent."""
        if self.pump is NULL:
            return
        if self.loop.is_running():
            self.parents, self.pump = self.pump, NULL
            self.dirty, self.fresh = [], []
            return
        self.scheduled = False
        rc = fs_pump_renew(self.pump)
        if rc == -EBADF:
            self.close()
        elif rc < 0:
            raise OSError(-rc, f"pump: {os.strerror(-rc)}")

    def turn(self):
        """Receive for each connection with an event, tell the protocols, and answer."""
        cdef bool more = True
        cdef int count
        if self.turning or self.pump is NULL:
            return
        self.begin()
        try:
            while more and self.pump is not NULL:
                with nogil:
                    count = fs_pump_poll(self.pump, &more)
                self.tell(count)
        finally:
            self.end()

    def flush_now(self):
        """Apply writes, closes, pauses and resumes from outside a turn."""
        cdef Watched one
        self.scheduled = False
        if self.turning or self.pump is NULL:
            return
        self.measure(self.scheduled_at)  # the time of tasks that the protocols have started
        self.begin()
        try:
            fresh, self.fresh = self.fresh, []
            for one in fresh:
                if not one.watched:
                    one.mark()
            self.flush()
        finally:
            self.end()

    cdef void begin(self):
        self.turning = True
        self.thread = PyThread_get_thread_ident()
        self.handled = 0
        self.began = now_ns()
        if self.pulse is not NULL:
            fs_pulse_runs(self.pulse)

    cdef end(self):
        try:
            if self.dirty:
                self.measure(self.began)
                self.flush()
        finally:
            self.turning = False
            if self.pulse_is_ours and self.pulse is not NULL:
                fs_pulse_waits(self.pulse)
            if self.dirty or self.fresh:
                self.schedule()
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    cdef schedule(self):
        if not self.scheduled and not self.turning and self.pump is not NULL:
            self.scheduled_at = now_ns()
            self.scheduled = True  # first: in another thread, the flush may run before this does
            if self.runs_here():
                self.call_soon(self.flush_soon, context=self.context)
            else:
                self.loop.call_soon_threadsafe(self.flush_soon, context=self.context)

    cdef bint runs_here(self) noexcept:
        """Whether this is the loop's thread. Transports are not made for other threads, but those
        of other loops accept a write from there. Only the loop's thread gives the kernel work."""
        return self.thread == PyThread_get_thread_ident()

    cdef tell(self, int count):
        cdef const fs_input *inputs = fs_pump_inputs(self.pump)
        cdef Watched one
        cdef int i
        # References are held: a callback of one may end another.
        cdef list batch = [<Watched>inputs[i].owner for i in range(count)]
        for i in range(count):
            if self.pump is NULL:
                return
            one = <Watched>batch[i]
            try:
                one.heard(&inputs[i])
            except BaseException as exc:
                self.failure = self.failure or exc
            self.pause_for_breath()

    cdef pause_for_breath(self):
        self.handled += 1
        if self.handled >= self.pace:
            self.measure(self.began)
            self.flush()
            self.handled = 0
            self.began = now_ns()

    cdef void measure(self, long long since):
        cdef long long took = now_ns() - since
        if took > SLOW_NS:
            self.pace = <int>max(1, self.pace * SLOW_NS // took)
            self.fast = 0
        elif self.pace < BURST:
            self.fast += self.handled
            if self.fast >= FAST_ENOUGH:
                self.pace *= 2
                self.fast = 0

    cdef flush(self):
        """Run one round. Work that callbacks request meanwhile belongs to the next round."""
        cdef Watched one
        cdef list dirty = self.dirty
        cdef int start, i, count
        self.dirty = []
        for one in dirty:
            if self.pump is NULL:
                return
            if one.has_kept():
                try:
                    one.deliver_kept()
                except BaseException as exc:
                    self.failure = self.failure or exc
            one.dirty = False  # output of that delivery belongs to this round
            if one.has_kept():  # delivery that was put off belongs to the next
                one.mark()
        for start in range(0, len(dirty), FS_PUMP_BATCH):
            if self.pump is NULL:
                return
            batch = dirty[start:start + FS_PUMP_BATCH]
            count = 0
            for one in batch:
                if one.fd >= 0:
                    one.fill(&self.outputs[count], &self.parts[count * PARTS], self.held)
                    count += 1
            with nogil:
                fs_pump_flush(self.pump, self.outputs, count)
            self.held.clear()
            for i in range(count):
                (<Watched>self.outputs[i].owner).settle(&self.outputs[i])
            self.flushed(count)

    cdef flushed(self, int count):
        cdef Watched one
        cdef int i
        cdef list batch = [<Watched>self.outputs[i].owner for i in range(count)]
        for i in range(count):
            if self.pump is NULL:
                return
            one = <Watched>batch[i]
            try:
                one.flushed(&self.outputs[i])
            except BaseException as exc:
                self.failure = self.failure or exc
