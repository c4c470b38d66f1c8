# cython: language_level=3
"""WSGI on the loop's own thread (`--wsgi-threads 0`). An application that waits holds up all other
requests of its worker, and the worker's siblings help."""

from tempfile import TemporaryFile

cimport cython
from cpython.contextvars cimport PyContext_Enter, PyContext_Exit

from aiofastsocket._native.environ cimport Environs
from aiofastsocket._native.exchange cimport *
from aiofastsocket._native.wsgi cimport Call, Caller, MOST_UNTOLD

from aiofastsocket._native.wsgi import FileWrapper

cdef Py_ssize_t MOST_READ = 65536
cdef object END = object()


@cython.final
cdef class Inline(Caller):
    """Calls the application without threads. underscores: see Environs."""

    def __init__(self, Service service not None, bint underscores):
        self.environs = Environs(service, False, underscores, FileWrapper)
        self.threads = 1
        self.busy = set()

    cdef Call call(self):
        cdef InlineCall made = InlineCall.__new__(InlineCall)
        made.inline = self
        return made


@cython.final
cdef class InlineCall(Call):
    """A request that runs at once. It cannot wait for its client. So its whole body is received
    first, in a file if it is large, and its output is taken part by part."""

    cdef Inline inline
    cdef object spool  # a file with the body
    cdef Py_ssize_t spooled
    cdef object iterable  # the response
    cdef object iterator

    cdef await_body(self):
        if self.input != IN_COMES:
            self.submit()
        elif self.expects:
            self.wire.wants_body(self)

    cdef submit(self):
        Call.submit(self)
        if self.spool is not None:
            self.spool.seek(0)
        self.run()

    cdef Py_ssize_t length(self):
        return self.buffered + self.spooled

    cdef part(self, bytes data):
        Exchange.part(self, data)
        if self.buffered > MOST_UNTOLD and not self.submitted:
            self.to_file()

    cdef to_file(self):
        if self.spool is None:
            self.spool = TemporaryFile()
        for part in self.body:
            self.spool.write(part)
        self.spooled += self.buffered
        self.body = None
        self.buffered = 0

    cdef bint is_full(self) noexcept:
        return False

    cdef bint next_part(self) except -1:
        if self.spool is not None:
            self.reading = self.spool.read(MOST_READ)
            self.read_at = 0
            if self.reading:
                return True
            self.reading = None
            self.spool.close()
            self.spool = None
        if self.body is None and self.input == IN_COMES and self.out != OUT_DONE:
            self.left_early()
        return Call.next_part(self)

    cdef finished(self, error):
        if self.spool is not None:
            self.spool.close()
            self.spool = None
        Call.finished(self, error)

    cdef has_said(self):
        self.pass_on()

    cdef wait_for_room(self):
        self.wire.push()  # it cannot wait: see go_on

    cdef run(self):
        """Run until it has ended, or its client stops reading."""
        context = self.context
        self.inline.busy.add(self)
        PyContext_Enter(context)
        try:
            result = self.called()
            if not self.is_said(result):
                self.iterable = result
                self.iterator = iter(result)
        except BaseException as error:
            self.end_of_it(error)
        finally:
            PyContext_Exit(context)
            self.inline.busy.discard(self)
        if self.iterator is not None:
            self.go_on(None)
        else:
            self.finished(None)

    def go_on(self, waiter):
        """Take and send one part in each turn of the loop, if there is room."""
        if self.iterator is None:
            return
        context = self.context
        self.inline.busy.add(self)
        PyContext_Enter(context)
        try:
            if self.over or self.client == CLIENT_GONE:
                self.end_of_it(None)
            elif self.wire.room is not None:
                self.wire.room.park().add_done_callback(self.go_on)
            else:
                part = next(self.iterator, END)
                if part is END:
                    self.has_head()
                    self.say(b"", True)
                    self.end_of_it(None)
                else:
                    if part:
                        self.write(part)
                    self.loop.call_soon(self.go_on, None)
        except BaseException as error:
            self.end_of_it(error)
        finally:
            PyContext_Exit(context)
            self.inline.busy.discard(self)

    cdef end_of_it(self, error):
        iterable, self.iterable, self.iterator = self.iterable, None, None
        close = getattr(iterable, "close", None)
        if close is not None:
            try:
                close()
            except BaseException as caught:
                error = error or caught
        self.finished(error)
