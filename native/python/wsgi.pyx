# cython: language_level=3
"""WSGI (PEP 3333): requests for a WSGI application, and its call: environ, start_response,
wsgi.input, the body. A Caller chooses the thread: pool.pyx, inline.pyx.
"""

cimport cython
from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.unicode cimport (
    PyUnicode_1BYTE_KIND, PyUnicode_DATA, PyUnicode_GET_LENGTH, PyUnicode_KIND)

from aiofastsocket._native.environ cimport Environs
from aiofastsocket._native.exchange cimport *

from ..errors import ClientDisconnected


class FileWrapper:
    """`wsgi.file_wrapper`: a file as a body, which is sent by sendfile(2) if possible."""

    def __init__(self, filelike, block_size=65536):
        self.filelike = filelike
        self.block_size = block_size
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self):
        return self

    def __next__(self):
        data = self.filelike.read(self.block_size)
        if not data:
            raise StopIteration
        return data


cdef class Caller:
    """The base of objects that call the application. A subclass makes the calls."""

    cdef Call call(self):
        """Make a new call."""

    def doing(self):
        """Return the paths of the running calls if no thread is free. Any thread may call this."""
        calls = list(self.busy)
        if len(calls) < self.threads:
            return []
        return [call.raw_path.decode("latin-1") for call in calls]

    def close(self):
        """Close: no further calls will come."""


@cython.final
cdef class Input:
    """`wsgi.input`: a request's body. Reading waits for the client, and ends where the body ends.
    If the client disconnects earlier, reading raises ClientDisconnected, which is an OSError."""

    cdef Call call

    def read(self, size=-1):
        """Read `size` bytes, or all; fewer only at the end of the body."""
        cdef Py_ssize_t left = -1 if size is None else size
        cdef list parts = []
        while left != 0:
            part = self.call.read_some(left)
            if not part:
                break
            parts.append(part)
            if left > 0:
                left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readline(self, size=-1):
        """Read one line with its end; at most `size` bytes."""
        cdef Py_ssize_t left = -1 if size is None else size
        cdef list parts = []
        while left != 0:
            part = self.call.read_some(left, True)
            if not part:
                break
            parts.append(part)
            if part.endswith(b"\n"):
                break
            if left > 0:
                left -= len(part)
        return b"".join(parts)

    def readlines(self, hint=-1):
        """Read all lines; stop after `hint` bytes."""
        cdef list lines = []
        cdef Py_ssize_t size = 0
        for line in self:
            lines.append(line)
            size += len(line)
            if hint is not None and 0 < hint <= size:
                break
        return lines

    def __iter__(self):
        return self

    def __next__(self):
        line = self.readline()
        if not line:
            raise StopIteration
        return line


cdef class Call(Exchange):
    """A request for a WSGI application."""

    # -- the wire's side --

    cdef prepare(self):
        """Do nothing yet: `called` makes the environ."""

    # In its fields, names and values alternate. So the garbage collector visits fewer objects in
    # the many requests that wait for a thread.

    cdef list pairs(self):
        return list(zip(self.fields[::2], self.fields[1::2]))

    cdef names_host(self, bytes authority):
        cdef Py_ssize_t i
        for i in range(0, len(self.fields), 2):
            if self.fields[i] == b"host":
                self.fields[i + 1] = authority
                return
        self.fields += (b"host", authority)

    cdef start(self, context):
        if self.service.turns_away(self):
            return
        self.context = context
        self.service.tasks.add(self)
        self.await_body()

    cdef await_body(self):
        """Submit the call if enough of its body was received."""

    cdef submit(self):
        """Mark it as submitted. A subclass then has the application called."""
        self.submitted = True

    cdef Py_ssize_t length(self):
        """The size of its body in bytes."""
        return self.buffered

    cdef wake(self, bint at_once):
        """More of the body was received, or the client is gone."""
        if not self.submitted and self.context is not None and self.client != CLIENT_GONE:
            if self.input != IN_COMES or self.ready or self.client != CLIENT_THERE:
                self.submit()

    cdef gone(self):
        Exchange.gone(self)
        if not self.submitted:
            self.finished(None)

    def hang_up(self):
        """End a response that still streams: the grace time is over."""
        self.hung_up()
        self.over = True

    cdef finished(self, error):
        self.over = True
        if not self.is_finished:
            self.is_finished = True
            self.headers = self.said = None
            Exchange.finished(self, error)

    # -- the application's side --

    cdef object called(self):
        # The environ is made only now: calls that wait for a thread keep just the fields.
        cdef Input body = Input.__new__(Input)
        cdef Caller caller = self.service.wsgi
        cdef dict environ
        body.call = self
        environ = caller.environs.make(self, body)
        if self.is_chunked:
            del environ["HTTP_TRANSFER_ENCODING"]  # already decoded: RFC 9112, 7.1.3
            if self.input != IN_COMES:
                environ["CONTENT_LENGTH"] = str(self.length())
        return self.service.app(environ, self.start_response)

    cdef bint is_said(self, result) except -1:
        """Send a list or tuple at once, if it is short enough. True: sent; it needs no close()."""
        cdef Py_ssize_t size = 0
        if type(result) is not list and type(result) is not tuple:
            return False
        if len(result) > 1:
            for part in result:
                size += len(part)
            if size > MOST_UNTOLD:  # part by part, then: one object may be in it often
                return False
        self.has_head()
        self.say(result[0] if len(result) == 1 else b"".join(result), True)
        return True

    def start_response(self, status, headers, exc_info=None):
        """See PEP 3333."""
        if exc_info is not None:
            try:
                if self.began:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # to avoid a reference cycle
        elif self.headers is not None:
            raise AssertionError("start_response was called twice, without exc_info")
        self.code = code_of(status)
        self.headers = headers
        return self.write

    def write(self, data):
        """See PEP 3333. Returns when there is room for more. Raises ClientDisconnected, which is an
        OSError, if nothing is sent any more."""
        self.has_head()
        if self.over:
            raise ClientDisconnected("the response is over")
        self.say(data, False)
        self.wait_for_room()

    cdef wait_for_room(self):
        """Wait until the application may make the next part."""

    cdef has_head(self):
        if self.headers is None:
            raise AssertionError("the application sent a body before it called start_response")
        self.began = True

    cdef say(self, data, bint last):
        """Hand a part of the body to the loop."""
        if not isinstance(data, bytes):
            raise TypeError(f"a WSGI application sent {type(data).__name__!r}: use bytes")
        self.said_size += PyBytes_GET_SIZE(data)
        if self.said is None and last:
            self.said = data
        elif self.said is None:
            self.said = [data]
        else:
            self.said.append(data)
        self.has_last = last
        self.has_said()

    cdef has_said(self):
        """Have the loop take the output: see pass_on."""

    def read_some(self, Py_ssize_t most, bint line=False):
        """Read a part of the body: at most `most` bytes (-1: any), or up to the end of a line."""
        cdef Py_ssize_t end
        cdef bytes part
        while self.reading is None:
            if not self.next_part():
                return b""
        end = len(self.reading)
        if most >= 0:
            end = min(end, self.read_at + most)
        if line:
            found = self.reading.find(b"\n", self.read_at, end)
            if found >= 0:
                end = found + 1
        part = self.reading if end - self.read_at == len(self.reading) else (
            self.reading[self.read_at:end])
        self.read_at = end
        if end == len(self.reading):
            self.reading = None
        return part

    cdef bint next_part(self) except -1:
        """Take the next part of the body for `reading`, or wait for it. False: there is none."""
        if self.body is None:
            return False
        self.reading = self.body[self.body_at]
        self.read_at = 0
        self.body[self.body_at] = None
        self.body_at += 1
        if self.body_at == len(self.body):
            self.body, self.body_at = None, 0
        self.buffered -= len(self.reading)
        return True

    cdef left_early(self):
        raise ClientDisconnected("the client disconnected before its whole body was received")

    # -- in the loop --

    cdef pass_on(self):
        """Send the output. More may come meanwhile: a large part is sent without the GIL."""
        cdef bint last = self.has_last
        said, self.said = self.said, None
        self.said_size = 0
        self.has_last = False
        if self.client == CLIENT_GONE:
            self.over = True
        try:
            if not self.over and self.began:
                self.send_said(said, last)
        except BaseException as error:
            self.finished(error)

    cdef send_said(self, said, bint last):
        cdef Py_ssize_t i, count
        self.send_head()
        if type(said) is bytes:
            self.send_body(said, False)
        elif said is not None:
            count = len(<list>said)
            for i in range(count):
                self.send_body((<list>said)[i], not last or i < count - 1)

    cdef send_head(self):
        if self.out == OUT_NOTHING:
            self.respond(self.code, self.headers)


cdef int code_of(status) except -1:
    """The code of a status such as "200 OK"."""
    cdef const char *at
    if isinstance(status, str) and PyUnicode_KIND(status) == PyUnicode_1BYTE_KIND:
        at = <const char *>PyUnicode_DATA(status)  # it ends with a NUL
        if (c"0" <= at[0] <= c"9" and c"0" <= at[1] <= c"9" and c"0" <= at[2] <= c"9"
                and (at[3] == c" " or PyUnicode_GET_LENGTH(status) == 3)):
            return (at[0] - c"0") * 100 + (at[1] - c"0") * 10 + at[2] - c"0"
    raise AssertionError(f"status {status!r}: write it as '200 OK'")
