# The interface of pump.pyx: the objects that it serves derive from Watched.

from libc.errno cimport EAGAIN
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from core cimport *

cdef enum:  # sizes of arrays, which Cython has to know; Pump.__cinit__ compares them with pump.h's
    BATCH = 64
    PARTS = 16
    PEER = 28


cdef inline long long now_ns() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return t.tv_sec * 1_000_000_000LL + t.tv_nsec


cdef inline void is_fatal(exception) except *:
    """Raise the two exceptions that end the loop, as in asyncio; all others are reported."""
    if isinstance(exception, (SystemExit, KeyboardInterrupt)):
        raise exception


cdef class Pump


cdef class Watched:
    cdef Pump pump
    cdef int fd  # -1: closed; another file may have the number
    cdef bint dirty  # it is on the pump's list
    cdef bint watched  # it was flushed since it was accepted
    cdef mark(self)
    cdef bint has_kept(self) noexcept
    cdef deliver_kept(self)
    cdef heard(self, const fs_input *what)
    cdef fill(self, fs_output *out, iovec *parts, list held)
    cdef settle(self, const fs_output *out)
    cdef flushed(self, const fs_output *out)


cdef class Pump:
    cdef object __weakref__
    cdef fs_pump *pump  # NULL: the pump does nothing any more
    cdef fs_pump *parents  # the parent's pump, from before a fork
    cdef int number
    cdef fs_counters *counters  # where bytes and connections are counted, or NULL
    cdef object loop
    cdef public object tls_buffers  # see tls.pyx
    cdef fs_pulse *pulse
    cdef bint pulse_is_ours  # the loop does not report itself when it waits
    cdef unsigned long thread  # the thread that runs the loop
    cdef bint duck
    cdef object parse
    cdef object call_soon
    cdef object flush_soon
    cdef object context
    cdef list dirty  # objects with work for the kernel, each once
    cdef list fresh  # accepted, but not used by their protocols so far
    cdef set serving  # keeps Connections with open transports alive: watches do not
    cdef list held  # bytes that the kernel reads
    cdef bint scheduled
    cdef bint turning
    cdef int pace
    cdef int fast
    cdef int handled  # since `began`
    cdef long long began
    cdef long long scheduled_at
    cdef object failure
    cdef fs_output outputs[BATCH]
    cdef iovec parts[BATCH * PARTS]
    cdef void begin(self)
    cdef end(self)
    cdef schedule(self)
    cdef bint runs_here(self) noexcept
    cdef tell(self, int count)
    cdef pause_for_breath(self)
    cdef void measure(self, long long since)
    cdef flush(self)
    cdef flushed(self, int count)
