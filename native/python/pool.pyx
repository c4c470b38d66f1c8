# cython: language_level=3
"""WSGI in a pool of threads.

A thread never touches a connection. Its output (a head, parts of a body, the end) waits in its
call until the loop takes it. The loop is told once for all waiting output. A thread that must wait
for its client waits at a lock. All of this is under the GIL.

The number of running threads: one thread takes call after call as long as there are any, because a
second one would only contend for the GIL. It tells the loop when there are no more. Another thread,
the follower, checks every millisecond, without the GIL, whether the first one makes progress. If it
does not, because it waits for a database or a client, the follower tells the loop about the output
so far and takes calls too, and the next thread follows.
"""

import logging
import os
import stat
import threading
from _thread import allocate_lock
from collections import deque
from contextlib import suppress
from io import BufferedRandom, BufferedReader, FileIO

cimport cython
from cpython.contextvars cimport PyContext_Enter, PyContext_Exit
from cpython.pythread cimport PyThread_get_thread_ident
from posix.time cimport nanosleep, timespec
from posix.unistd cimport write

from aiofastsocket._native.environ cimport Environs
from aiofastsocket._native.exchange cimport *
from aiofastsocket._native.pump cimport is_fatal, now_ns

from aiofastsocket._native.wsgi import FileWrapper

from ..errors import ClientDisconnected

cdef extern from "<semaphore.h>" nogil:
    int sem_init(sem_t *semaphore, int shared, unsigned value)
    int sem_post(sem_t *semaphore)
    int sem_wait(sem_t *semaphore)
    int sem_destroy(sem_t *semaphore)

logger = logging.getLogger("aiofastsocket")

cdef Py_ssize_t MOST_SAID = 65536
"""Bytes that a thread may output before it waits for the loop. Also bytes of a request's body that
are awaited before its application is called."""

cdef double AGAIN_SECONDS = 0.05
"""Seconds before the next attempt to start a thread, if the system refused one."""

cdef enum:  # the conditions that a thread waits for
    ROOM  # room to send more
    BODY  # another part of the body
    FILE  # the end of a file's transfer

cdef long FOLLOW_NS = 1_000_000
cdef int QUIET = 100
"""Checks without an event after which a follower sleeps."""


@cython.final
cdef class Pool(Caller):
    """The threads of a worker. page: a WorkerPage, which is told when no thread is free.
    underscores: see Environs."""

    def __cinit__(self):
        sem_init(&self.wanted, 0, 0)

    def __dealloc__(self):
        sem_destroy(&self.wanted)

    def __init__(self, Service service not None, int threads, page, bint underscores):
        self.service = service
        self.threads = threads
        self.page = page
        self.environs = Environs(service, threads > 1, underscores, FileWrapper)
        self.waiting = deque()
        self.busy = set()
        self.told = []
        self.bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.bell_in = self.bell[1]
        service.loop.add_reader(self.bell[0], self.heard)

    # -- the loop's side --

    cdef Call call(self):
        cdef PooledCall made = PooledCall.__new__(PooledCall)
        made.pool = self
        return made

    cdef submit(self, PooledCall call):
        """Have a thread run the call."""
        self.waiting.append(call)
        self.queued += 1
        if self.active == 0:
            # Wake a thread in the loop's next round: now it would only wait for the GIL.
            self.active = 1
            self.service.loop.call_soon(self.begin)
        else:
            self.have_followed()

    def begin(self):
        """Wake the first thread. It may complete all calls before we have the GIL again: on one
        core it does."""
        self.loop_is_here = True
        if not self.wake():
            self.active -= 1  # all threads are busy, or wait for their clients
            if self.active == 0 and self.waiting:
                self.service.loop.call_later(AGAIN_SECONDS, self.begin_again)
        self.loop_is_here = False
        if self.rings:
            self.rings = 0
            self.collect()

    def begin_again(self):
        """Try again: no thread could be started."""
        if self.active == 0 and self.waiting:
            self.active = 1
            self.begin()

    def heard(self):
        """Handle the bell: look at `told`."""
        with suppress(BlockingIOError):
            os.read(self.bell[0], 4096)
        self.collect()

    cdef collect(self):
        """Take the output of the threads."""
        cdef PooledCall call
        told, self.told = self.told, []
        for call in told:
            call.is_told = False
            try:
                call.proceed()
            except BaseException as error:
                is_fatal(error)
                call.finished(error)

    def close(self):
        """Close the pool. Its threads end once they have no more work."""
        self.ending = True
        self.bell_in = -1
        for _ in range(self.begun):
            sem_post(&self.wanted)
        self.service.loop.remove_reader(self.bell[0])
        for fd in self.bell:
            os.close(fd)

    # -- the threads' side --

    cdef bint wake(self) except -1:
        """Wake an idle thread, or start a new one. False: there is none."""
        if self.idle > 0:
            self.idle -= 1
            with nogil:  # the thread wants the GIL at once
                sem_post(&self.wanted)
        elif self.begun < self.threads:
            self.begun += 1
            try:
                threading.Thread(target=self.work, name=f"wsgi-{self.begun}", daemon=True).start()
            except RuntimeError as error:  # the system refuses more threads
                self.begun -= 1
                if not self.is_short:
                    self.is_short = True
                    logger.warning("cannot start a thread for the WSGI application: %s", error)
                return False
        else:
            return False
        return True

    def work(self):
        """Run a thread."""
        while not self.ending:
            if self.follower_wanted:
                self.follower_wanted = False
                if self.follow():
                    self.active += 1
                    self.take_calls()
            else:
                self.take_calls()
            self.idle += 1
            with nogil:
                while sem_wait(&self.wanted) != 0:  # EINTR
                    pass

    cdef take_calls(self):
        cdef PooledCall call
        while self.waiting:
            call = self.waiting.popleft()
            self.taken += 1
            if self.waiting:
                self.have_followed()
            call.run()
            if not self.is_followed:
                self.ring()
        self.active -= 1
        self.ring()

    cdef have_followed(self):
        """Have another thread check whether this one makes progress."""
        if not self.is_followed and self.threads > 1:
            self.is_followed = self.follower_wanted = True  # first: it may run at once
            if not self.wake():
                self.is_followed = self.follower_wanted = False

    cdef bint follow(self) except -1:
        """Watch the progress of the threads. True: calls wait, and no thread makes progress."""
        cdef timespec pause
        cdef long taken = self.taken
        cdef int quiet = 0
        pause.tv_sec, pause.tv_nsec = 0, FOLLOW_NS
        with nogil:
            while quiet < QUIET:
                nanosleep(&pause, NULL)
                if self.taken != taken:
                    taken = self.taken
                    quiet = 0
                    continue
                quiet += 1
                if self.rings > 0:
                    self.ring()
                if self.queued != taken:
                    break
        self.is_followed = False
        return quiet < QUIET

    cdef tell(self, PooledCall call):
        """Have the loop take the output of a call."""
        if not call.is_told:
            call.is_told = True
            self.told.append(call)
            self.rings = 1

    cdef void ring(self) noexcept nogil:
        """Ring the bell: the loop looks at `told`."""
        if self.rings > 0 and not self.loop_is_here and self.bell_in >= 0:
            self.rings = 0
            write(self.bell_in, b"!", 1)  # a full pipe was rung already

    cdef stands(self, bint waits):
        """A thread starts or stops waiting for its client. It takes no calls meanwhile."""
        if not waits:
            self.active += 1
            return
        self.active -= 1
        if self.active == 0 and self.waiting:
            self.active = 1
            if not self.wake():
                self.active = 0

    cdef enter(self, PooledCall call):
        """The thread of a call enters the application."""
        call.since = now_ns()
        self.busy.add(call)
        if len(self.busy) == self.threads:
            self.page.pool_busy(max([one.busy_since for one in self.busy]))

    cdef leave(self, PooledCall call):
        """The thread of a call left the application, or waits for its client."""
        if len(self.busy) == self.threads:
            self.page.pool_busy(0)
        self.busy.discard(call)


@cython.final
cdef class PooledCall(Call):
    """A request that one of the threads runs."""

    # -- the wire's side --

    cdef await_body(self):
        # A thread that waits for its client cannot serve the others, so a short body is awaited
        # here. But a client that waits for 100 Continue would wait for us.
        if self.input != IN_COMES or self.expects:
            self.submit()

    cdef submit(self):
        Call.submit(self)
        self.pool.submit(self)

    cdef part(self, bytes data):
        Exchange.part(self, data)
        if not self.submitted and self.buffered > self.most_before():
            self.ready = True

    cdef Py_ssize_t most_before(self) noexcept:
        """Bytes of the body that are awaited before the application is called."""
        return MOST_UNTOLD if self.is_chunked else MOST_SAID

    cdef bint is_full(self) noexcept:
        return self.buffered > (MOST_SAID if self.submitted else self.most_before())

    cdef wake(self, bint at_once):
        Call.wake(self, at_once)
        self.wake_thread()

    cdef gone(self):
        Call.gone(self)
        if self.file_task is not None:
            self.file_task.cancel()

    def hang_up(self):
        """See Call."""
        Call.hang_up(self)
        self.wake_thread()

    cdef finished(self, error):
        self.error = None  # frees its frames, too
        self.over = True
        self.wake_thread()  # first: even after an error, no thread waits for ever
        Call.finished(self, error)

    # -- the thread's side --

    @property
    def busy_since(self):
        """When the thread entered the application: CLOCK_MONOTONIC, in ns. See Pool.enter."""
        return self.since

    cdef run(self):
        """Run the whole call in a thread of the pool."""
        context = self.context
        self.thread = PyThread_get_thread_ident()
        if self.client != CLIENT_GONE and context is not None:
            try:
                self.pool.enter(self)
                PyContext_Enter(context)
                try:
                    self.call()
                finally:
                    PyContext_Exit(context)
            except BaseException as error:
                self.error = error
            self.pool.leave(self)
        self.has_ended = True
        self.pool.tell(self)

    cdef call(self):
        result = self.called()
        if self.is_said(result):
            return
        try:
            if isinstance(result, FileWrapper) and not self.began and is_sendable(result.filelike):
                self.has_head()
                self.file = result.filelike
                self.pool.tell(self)
                while self.file is not None and not self.over:
                    self.wait(FILE)
                return
            for part in result:
                if part:
                    self.write(part)
                if self.over:
                    break
            self.has_head()
            self.say(b"", True)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    cdef has_said(self):
        if not self.has_last:  # the last part is told with the end of the call
            self.pool.tell(self)
            self.pool.ring()

    cdef wait_for_room(self):
        while not self.over and (self.said_size > MOST_SAID or self.wire.room is not None):
            self.wait(ROOM)
        if self.client == CLIENT_GONE:
            raise ClientDisconnected("the client is gone")

    cdef wait(self, int wanted):
        """Wait until the loop wakes us. The caller must then check its condition again."""
        cdef bint is_ours = PyThread_get_thread_ident() == self.thread  # not one of the application
        signal = allocate_lock()
        signal.acquire()
        if self.waiting is None:
            self.waiting = []
        self.waiting.append((wanted, signal))
        if is_ours:
            self.pool.leave(self)
            self.pool.stands(True)
        self.pool.tell(self)
        self.pool.ring()
        signal.acquire()
        if is_ours:
            self.pool.stands(False)
            self.pool.enter(self)

    cdef bint next_part(self) except -1:
        if self.body is None and self.input == IN_COMES and self.out != OUT_DONE:
            if self.over or self.client != CLIENT_THERE:
                self.left_early()
            self.wants = True
            self.pool.tell(self)
            self.wait(BODY)
            return True
        if not Call.next_part(self):
            return False
        if self.input == IN_COMES:
            self.wants = True
            self.pool.tell(self)
        return True

    # -- the loop's side --

    cdef wake_thread(self):
        """Wake the waiting threads that can continue, also those of the application."""
        cdef bint for_room = False
        if self.waiting is None:
            return
        waiting, self.waiting = self.waiting, None
        for wanted, signal in waiting:
            if self.gets_on(wanted):
                signal.release()
                continue
            for_room |= wanted == ROOM
            if self.waiting is None:
                self.waiting = []
            self.waiting.append((wanted, signal))
        if for_room and not self.is_parked and self.wire.room is not None:
            self.is_parked = True
            self.wire.room.park().add_done_callback(self.has_room)

    cdef bint gets_on(self, int wanted) noexcept:
        if self.over or self.client == CLIENT_GONE:
            return True
        if wanted == ROOM:
            return self.wire.room is None
        if wanted == FILE:
            return self.file is None
        return (self.body is not None or self.input != IN_COMES or self.out == OUT_DONE
                or self.client != CLIENT_THERE)

    cdef proceed(self):
        """Take the output of the thread, and read on if it wants more."""
        cdef bint ended
        if self.wants:
            self.wants = False
            if self.input == IN_COMES and self.client == CLIENT_THERE and self.out != OUT_DONE:
                self.wire.wants_body(self)
                self.wire.taken()
        ended = self.has_ended  # first: the thread may output more and end while a part is sent
        self.pass_on()
        if ended:
            self.finished(self.error)
        else:
            self.wake_thread()

    cdef send_said(self, said, bint last):
        if self.file is None:
            Call.send_said(self, said, last)
        elif self.file_task is None:
            self.send_head()
            self.file_task = self.loop.create_task(
                self.service.send_rest_of_file(self, self.file))

    def has_room(self, waiter):
        """There is room: the client takes more."""
        self.is_parked = False
        self.wake_thread()

    def file_is_sent(self, error):
        """The file was sent: its thread continues."""
        self.file = self.file_task = None
        if error is not None:
            self.finished(error)
        else:
            self.wake_thread()


cdef bint is_sendable(file) except -1:
    """Whether sendfile(2) sends the bytes that read() would return: the file is regular, its size
    is known, and it is not decoded."""
    if isinstance(file, (BufferedReader, BufferedRandom)):
        raw = file.raw
    else:
        raw = file
    if not isinstance(raw, FileIO):
        return False
    about = os.fstat(raw.fileno())
    return stat.S_ISREG(about.st_mode) and about.st_size > 0  # 0: unknown, as in /proc
