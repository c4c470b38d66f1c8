# cython: language_level=3, nonecheck=True
"""Turns of the loop: what came in goes to the protocols, what they want goes out, in batches
(fastsocket/pump.h). Compiled, because everything in here is done for each connection.

Rules:
- callbacks come from a turn of the loop only, never from inside a call of the protocol's own; but
  for pause_writing, which write() may call, as asyncio's does;
- between the moment an output is filled in and its result no Python code runs;
- a descriptor that the pump has closed is forgotten before any callback runs: its number may be
  somebody else's by then.
"""

import os
from contextvars import Context

cimport cython
from cpython.pythread cimport PyThread_get_thread_ident
from libc.errno cimport EBADF

# Between two flushes handlers may take this long together. Where they take longer, fewer connections
# are accepted, and answers held back, at a time: nobody's answer is to wait for another's slow
# handler, and what is not accepted an idle sibling may take.
cdef long long SLOW_NS = 2_000_000
cdef int BURST = 32  # connections accepted, and answers held back, at most
cdef int FAST_ENOUGH = 64  # as many in a row without a slow one double the pace


cdef class Watched:
    """A connection, as the pump knows it: its descriptor, and what becomes of its turns."""

    cdef mark(self):
        """Have it flushed at the end of the turn."""
        if not self.dirty:
            self.dirty = True
            self.pump.dirty.append(self)
            self.pump.schedule()

    cdef bint has_kept(self) noexcept:
        """Whether something that came is still to be delivered."""

    cdef deliver_kept(self):
        """Deliver it."""

    cdef heard(self, const fs_input *what):
        """What the kernel has told."""

    cdef fill(self, fs_output *out, iovec *parts, list held):
        """What the kernel is to do now; `held` keeps the bytes alive meanwhile."""

    cdef settle(self, const fs_output *out):
        """What an output has become, before any callback may write more."""

    cdef flushed(self, const fs_output *out):
        """Tell the protocol what became of it."""


@cython.final
cdef class Pump:
    """One for each loop. parse: makes a Python address of a struct sockaddr's bytes. duck: a protocol
    is buffered by its get_buffer(), as uvloop has it; else by its class, as asyncio."""

    def __cinit__(self, loop, parse, bint duck):
        if FS_PUMP_BATCH > BATCH or FS_PUMP_PARTS > PARTS or FS_PUMP_PEER > PEER:
            raise AssertionError("what the pump fills in has grown (pump.pxd)")
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
        """Tell a pulse (its struct fs_pulse; 0: none any more) when connections are being served;
        alone: nobody else tells it when that is over."""
        self.pulse, self.pulse_is_ours = <fs_pulse *>pulse, alone

    def count(self, size_t counters):
        """Count bytes and connections at that address (struct fs_counters) from now on."""
        self.counters = <fs_counters *>counters
        if self.pump is not NULL:
            fs_pump_count(self.pump, self.counters.bytes)

    def sent_past(self, uint64_t size):
        """So many bytes were sent that did not go through here: by sendfile(2)."""
        if self.counters is not NULL:
            fs_count(&self.counters.bytes[1], size)

    def fileno(self):
        """Readable while connections have something to say: then call `turn`."""
        return self.number

    def close(self):
        """With the loop: connections that are still open are nobody's any more."""
        pump, self.pump = self.pump, NULL
        fs_pump_free(pump)
        self.dirty, self.fresh = [], []
        self.serving.clear()

    def renew(self):
        """In a forked child: an epoll set of its own, behind the same descriptor. If the loop was
        running, which is the parent's business, the child's pump does nothing any more: it may be
        in the middle of a turn, whose answers and callbacks are the parent's too."""
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
        """Receive for every connection that has something, tell the protocols, and answer."""
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
        """What was written, closed, paused or resumed outside a turn."""
        cdef Watched one
        self.scheduled = False
        if self.turning or self.pump is NULL:
            return
        self.measure(self.scheduled_at)  # tasks that the protocols have started
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
            self.scheduled = True  # first: from another thread, the flush may come before we go on
            if self.runs_here():
                self.call_soon(self.flush_soon, context=self.context)
            else:
                self.loop.call_soon_threadsafe(self.flush_soon, context=self.context)

    cdef bint runs_here(self) noexcept:
        """False in another thread than the loop's. No transport is made for those, but peers' take
        a write from there, and what the kernel is given is the loop's thread's business alone."""
        return self.thread == PyThread_get_thread_ident()

    cdef tell(self, int count):
        cdef const fs_input *inputs = fs_pump_inputs(self.pump)
        cdef Watched one
        cdef int i
        # Held: one's callback may end another's life.
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
        """One round: what callbacks ask for meanwhile is another round's."""
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
            one.dirty = False  # what that has left to be sent is this round's,
            if one.has_kept():  # ... what it has put off is not
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
