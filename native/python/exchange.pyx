# cython: language_level=3
"""One request and its response, as the application sees them (ASGI HTTP, 2.5). The wire that
carries them does the framing.

There are three state machines: `Out`, `In` and `Client` (exchange.pxd). SAID defines the valid
messages in each state of `Out`. The others move in one direction: the body is received, is
complete, was taken; the client is connected, has sent all, is gone.
"""

from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Copy, PyDict_GetItemWithError
from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident

from aiofastsocket._native.awaitable cimport *
from aiofastsocket._native.task cimport Served, later, task_for
from aiofastsocket._native.wire cimport status_line, text_of

from ..errors import ClientDisconnected

cdef Py_ssize_t MOST_BUFFERED = 65536
"""Bytes of a body that may wait for the application; beyond this, reading pauses."""

# All of 2.5 is supported. But applications that see 2.4 (Starlette, FastAPI) rely on the error that
# send() raises then, and an idle stream would never notice that its client is gone.
cdef dict ASGI = {"version": "3.0", "spec_version": "2.3"}

cdef tuple TEXT = ((b"content-type", b"text/plain; charset=utf-8"),)

cdef enum:  # messages of the application
    START
    MORE
    LAST
    FILE
    TRAILERS
    HINT

# The rows are in the order of the enum Out. -1: an error of the application. With trailers, the
# last part of the body leads to OUT_TRAILERS instead.
cdef signed char[5][6] SAID = [
    # columns: start, more, last, file, trailers, hint
    [OUT_HEAD, -1, -1, -1, -1, OUT_NOTHING],
    [-1, OUT_BODY, OUT_DONE, OUT_BODY, -1, -1],
    [-1, OUT_BODY, OUT_DONE, -1, -1, -1],
    [-1, -1, -1, -1, OUT_DONE, -1],
    [-1, -1, -1, -1, -1, -1],
]


cdef inline object get(message, key):
    """The value of a key in a message, or None."""
    cdef PyObject *found
    if type(message) is not dict:
        return message.get(key)
    found = PyDict_GetItemWithError(message, key)
    return None if found is NULL else <object>found


cdef class Service:
    """The state that the wires of a worker share. A subclass fills it in, and defines `ended`."""

    def __init__(self, loop, app):
        self.loop = loop
        self.app = app
        self.thread = PyThread_get_thread_ident()
        self.state = {}
        self.mount = b""
        self.connections = set()
        self.tasks = set()

    def answered(self):
        """Another request is complete."""

    def agree_on_deflate(self, offers):
        """The answer to a WebSocket's offered extensions, and the agreed codec; or None, None."""
        return None, None

    def ended(self, Exchange exchange, error):
        """The application has ended too early, or with an error."""

    def send_file(self, Exchange exchange, path):
        """Send a file: see http.response.pathsend. Returns an awaitable."""

    def send_rest_of_file(self, Exchange exchange, file):
        """Send a file from its position, then call `file_is_sent`. Returns an awaitable."""

    cdef bint turns_away(self, Exchange exchange) except -1:
        """Answer an exchange that is not for the application. False: it is for the application."""
        return False

    cdef note(self, Exchange exchange):
        """Record an exchange: its response is over, or its client is gone."""

    cpdef refused(self, client, int status):
        """Record an invalid request and the status that it was answered with."""

    cdef void count_malformed(self) noexcept:
        """Count an exchange whose request is malformed: the server itself answers it."""

    cdef void count_websocket(self, bint is_over) noexcept:
        """Count a WebSocket that was opened or is over."""

    cdef run(self, Exchange exchange, context):
        """Run the application in its own task, whose name is the path."""
        task = task_for(exchange, self.loop, context, exchange.scope["path"])
        if task is not None:
            exchange.task = task
            self.tasks.add(exchange)


cdef class Wire(Link):
    """The base of connections that carry exchanges. It frames them, and knows no applications."""

    cdef respond(self, Exchange exchange, headers):
        """Keep the response's head until the first part of the body. Raises RuntimeError if the
        head is invalid; then nothing of it is kept."""

    cdef send_head(self, Exchange exchange, long long length):
        """Write the head for a body of that length."""

    cdef send_part(self, Exchange exchange, bytes data, bint more):
        """Write the head, if it waits, and the next part of the body."""

    cdef send_trailers(self, Exchange exchange, headers):
        """Write the trailers and the end of the response."""

    cdef send_hint(self, Exchange exchange, headers):
        """Write 103 Early Hints (RFC 8297)."""

    cdef answered(self, Exchange exchange):
        """The response of an exchange is complete."""

    cdef taken(self):
        """The application took the waiting parts of the body."""

    cdef wants_body(self, Exchange exchange):
        """The application wants a body that the client may hold back until 100 Continue."""

    cdef cut(self, Exchange exchange):
        """Cut the connection: the response cannot be completed."""

    cdef bytes hand_over(self, Receiver to):
        """Hand the connection over to another protocol. Returns the bytes that are not parsed."""


cdef class Exchange(Served):
    """One request and its response."""

    # -- the wire's side --

    cdef prepare(self):
        """Make the scope for the application. All fields of the exchange are filled in."""
        cdef Service service = self.service
        text = text_of(self.path)
        if service.root_path:
            text = service.root_path + text
        self.scope = {
            "type": "http",
            "asgi": PyDict_Copy(ASGI),
            "http_version": self.version,
            "method": self.method,
            "scheme": self.scheme,
            "path": text,
            "raw_path": self.raw_path,
            "query_string": self.query,
            "root_path": service.root_path,
            "headers": self.fields,
            "client": self.address,
            "server": self.wire.server,
            "state": PyDict_Copy(service.state),
            "extensions": self.extensions(),
        }

    cdef list pairs(self):
        """The header fields as pairs."""
        return self.fields

    cdef names_host(self, bytes authority):
        """Set the host of an absolute target. It overrides Host, which HTTP/1.0 may lack."""
        cdef Py_ssize_t i
        for i in range(len(self.fields)):
            if self.fields[i][0] == b"host":
                self.fields[i] = (b"host", authority)
                return
        self.fields.insert(0, (b"host", authority))

    cdef dict extensions(self):
        """The extensions that are offered to the application for this request."""
        cdef dict offered = {"http.response.pathsend": {}}
        if self.version != "1.0":
            offered["http.response.early_hint"] = {}
        if self.offers_trailers:
            offered["http.response.trailers"] = {}
        self.tell_more(offered)
        return offered

    cdef tell_more(self, dict offered):
        """Add the extensions of the connection, which WebSockets have, too."""
        if self.service.tells_queue_time and self.waited >= 0:
            offered["aiofastsocket.queue_time"] = {"seconds": self.waited * 1e-9}
        if self.wire.scheme == "https":
            self.tell_tls(offered)

    cdef tell_tls(self, dict offered):
        """Add the extension `tls`: all requests of a connection share its value."""
        cdef Wire wire = self.wire
        if wire.tls is None:
            if self.service.secure is None:
                return
            wire.tls = self.service.secure.about(wire.transport.get_extra_info("ssl_object"))
        offered["tls"] = wire.tls

    @property
    def raw_path(self):
        """The path as it was sent, with the application's mount point in front."""
        return self.service.mount + self.path if self.service.mount else self.path

    cdef start(self, context):
        """Run the application."""
        if not self.service.turns_away(self):
            self.service.run(self, context)

    cdef part(self, bytes data):
        """Add a part of the body. The wire wakes the tasks that wait for it."""
        assert self.input == IN_COMES
        if self.out != OUT_DONE:
            if self.body is None:
                self.body = []
            self.body.append(data)
            self.buffered += PyBytes_GET_SIZE(data)

    cdef all_came(self):
        """The whole body was received. The wire wakes the tasks that wait for it."""
        assert self.input == IN_COMES
        self.input = IN_HERE

    cdef hung_up(self):
        """The client sends no more."""
        self.keep_alive = False
        if self.client == CLIENT_THERE:
            self.client = CLIENT_SENT_ALL
        self.wake(False)

    cdef gone(self):
        """The connection is gone."""
        self.client = CLIENT_GONE
        if self.out in (OUT_BODY, OUT_TRAILERS):
            self.service.note(self)
        # Senders first: they end with an error, whose frames are freed at once. Frameworks cancel
        # senders when receive() returns, and only the collector frees cycles of cancelled frames.
        self.wire.wake_senders()
        self.wake(False)

    cdef bint is_full(self) noexcept:
        """Whether so much of the body waits here that reading must pause."""
        return self.buffered > MOST_BUFFERED

    cdef bint untouched(self) noexcept:
        """Whether nothing of the response was sent."""
        return self.out <= OUT_HEAD

    cdef bint streams_events(self):
        """Whether this is an event stream for a GET. EventSource reconnects when it ends."""
        return self.has_events and self.method == "GET" and self.out != OUT_DONE

    # -- the service's side --

    is_websocket = False

    @property
    def is_event_stream(self):
        """See streams_events."""
        return self.streams_events()

    @property
    def state(self):
        """The progress of the response: "untouched", "begun" or "complete"."""
        if self.out == OUT_DONE:
            return "complete"
        return "untouched" if self.untouched() else "begun"

    @property
    def has_left(self):
        """Whether its client is gone."""
        return self.client == CLIENT_GONE

    @property
    def has_hung_up(self):
        """Whether its client sends no more."""
        return self.client != CLIENT_THERE

    def hang_up(self):
        """Tell the application that the client is gone."""
        self.hung_up()

    def refuse(self, int status):
        """Send an answer of the server's own, after which the connection ends."""
        self.keep_alive = False
        self.answer(status, ())

    def cut_off(self):
        """Cut the connection: the response cannot be completed."""
        self.wire.cut(self)

    def file_begins(self, long long size):
        """Write the head of a response whose body is a file of that size. Returns the number of
        bytes to send. Raises RuntimeError if content-length is larger than the file, or if another
        message was sent since."""
        if self.client == CLIENT_GONE:
            raise ClientDisconnected("the client is gone")
        self.allow(FILE, "http.response.pathsend")
        if self.has_trailers:  # they would need chunks
            self.has_trailers, self.ignores_trailers = False, True
        if 0 <= self.left < size:
            size = self.left  # the file may have grown
        elif self.left > size and not self.silent:
            raise RuntimeError(f"content-length is larger than the file: {size}")
        self.wire.send_head(self, size)
        self.out = OUT_BODY
        return 0 if self.silent else size

    def file_ended(self, long long sent):
        """The file was sent."""
        self.sent = sent
        self.end()

    def lose(self, long long sent):
        """The client is gone, after `sent` bytes of a file."""
        self.sent = sent
        self.client = CLIENT_GONE

    @property
    def is_silent(self):
        """Whether the body is not sent: HEAD, 204, 304."""
        return self.silent

    # -- the application's side --

    def receive(self):
        """The application's receive(): http.request until the body is complete, then
        http.disconnect once the response is complete or the client is gone."""
        return receive_from(self)

    def send(self, message):
        """The application's send(). Its errors are raised when the result is awaited.

        Raises ClientDisconnected, which is an OSError, if the client is gone, and RuntimeError if
        the message is not valid now.
        """
        if PyThread_get_thread_ident() != self.service.thread:
            return later(self, message)
        try:
            return self.heed(message)
        except BaseException as error:
            return failed(error)

    cdef object take(self):
        cdef list parts
        cdef bint more
        if self.out != OUT_DONE:
            parts = self.body
            if parts is not None or self.input == IN_HERE:
                if parts is None:
                    body = b""
                else:
                    body = parts[0] if len(parts) == 1 else b"".join(parts)
                self.body = None
                self.buffered = 0
                more = self.input == IN_COMES
                if more:
                    self.wire.taken()
                else:
                    assert self.input == IN_HERE
                    self.input = IN_TOLD
                return {"type": "http.request", "body": body, "more_body": more}
            if self.client == CLIENT_THERE:
                if self.input == IN_COMES and self.expects:
                    self.wire.wants_body(self)
                    if self.body is not None or self.input == IN_HERE:
                        return self.take()  # the transport delivered bytes during a write
                return None
        return {"type": "http.disconnect"}

    cdef object heed(self, message):
        cdef bint more
        kind = message["type"]
        if self.client == CLIENT_GONE:
            raise ClientDisconnected("the client is gone")
        if kind == "http.response.body":
            data, more_body = get(message, "body"), get(message, "more_body")
            more = more_body is not None and more_body
            if data is None:
                data = b""
            elif type(data) is not bytes:
                data = bytes(memoryview(data))  # first: it may run application code
            self.allow(MORE if more else LAST, kind)
            self.send_body(data, more)
            return self.after(more)
        if kind == "http.response.start":
            self.allow(START, kind)
            self.begin(message)
            return DONE
        return self.heed_rare(kind, message)

    cdef object heed_rare(self, str kind, message):
        """Handle a rare message."""
        if kind == "http.response.pathsend":
            self.allow(FILE, kind)
            return self.service.send_file(self, message["path"])
        if kind == "http.response.trailers":
            if self.ignores_trailers:
                return DONE
            self.allow(TRAILERS, kind)
            if self.trailers is None:
                self.trailers = []
            self.trailers += message.get("headers") or ()
            if not message.get("more_trailers"):
                self.wire.send_trailers(self, self.trailers)
                self.end()
            return self.after(True)
        if kind == "http.response.early_hint":
            self.allow(HINT, kind)
            self.wire.send_hint(self, [(b"link", link) for link in message.get("links") or ()])
            return self.after(True)
        raise RuntimeError(f"{kind!r} is not a message of a response")

    cdef int allow(self, int said, kind) except -1:
        """Raise RuntimeError if the message is not valid now."""
        if SAID[<int>self.out][said] < 0:
            self.wrong(kind)
        return 0

    def wrong(self, kind):
        """Raise RuntimeError: the message is not valid now."""
        if self.out == OUT_DONE:
            raise RuntimeError(f"{kind!r} was sent after the response was complete")
        if kind == "http.response.start":
            raise RuntimeError("'http.response.start' was sent twice")
        if kind == "http.response.early_hint":
            raise RuntimeError(f"{kind!r} must come before 'http.response.start'")
        if kind == "http.response.trailers":
            raise RuntimeError(f"{kind!r} must come after the last part of a body with trailers")
        if self.out == OUT_NOTHING:
            raise RuntimeError(f"{kind!r} was sent before 'http.response.start'")
        if self.out == OUT_TRAILERS:
            raise RuntimeError(f"{kind!r} was sent where 'http.response.trailers' is expected")
        raise RuntimeError(f"{kind!r} must come once, directly after 'http.response.start'")

    cdef begin(self, message):
        headers, trailers = get(message, "headers"), get(message, "trailers")
        self.respond(message["status"], () if headers is None else headers)
        if trailers:
            self.has_trailers = self.offers_trailers and self.left < 0 and not self.silent
            self.ignores_trailers = not self.has_trailers

    cdef respond(self, status, headers):
        if type(status) is not int or not 200 <= status <= 599:
            # http.HTTPStatus is an int, too
            if not isinstance(status, int) or not 200 <= status <= 599:
                raise RuntimeError(f"status {status!r} is not valid in a response: use 200 to 599")
        self.status = status
        self.left = -1
        self.has_events = False
        self.silent = self.is_head or self.status in (204, 304)
        self.out = OUT_HEAD  # first: headers may be a generator that sends messages
        try:
            self.wire.respond(self, headers)
        except BaseException:
            self.out = OUT_NOTHING
            raise

    cdef send_body(self, bytes body, bint more):
        cdef Py_ssize_t size = 0 if self.silent else PyBytes_GET_SIZE(body)
        if self.left >= 0 and not self.silent:
            if size > self.left:
                raise RuntimeError("the response's body is longer than its content-length")
            if size < self.left and not more:
                raise RuntimeError("the response's body is shorter than its content-length")
        self.wire.send_part(self, body, more)
        self.sent += size
        if self.left >= 0:
            self.left -= size
        if more:
            self.out = OUT_BODY
        elif self.has_trailers:
            self.out = OUT_TRAILERS
        else:
            self.end()

    cdef object after(self, bint more):
        """The awaitable that send() returns."""
        if more and (self.silent or self.wire.is_closing()):
            # Otherwise an endless stream would block the loop, and never notice that it must end.
            return one_turn()
        return self.wire.room_for_more()

    cdef end(self):
        """The response is complete."""
        assert self.out != OUT_DONE
        self.out = OUT_DONE
        self.body = None
        self.buffered = 0
        self.service.note(self)
        self.wire.answered(self)
        self.wake(False)

    cdef answer(self, int status, tuple headers):
        """Send an answer of the server's own: status in words. headers: further ones."""
        self.sent = 0
        self.has_trailers = False
        self.respond(status, TEXT + headers)
        self.send_body(status_line(status)[13:-2] + b"\n", False)

    cdef object called(self):
        return self.service.app(self.scope, self.receive, self.send)

    cdef abandoned(self):
        self.service.tasks.discard(self)

    cdef finished(self, error):
        """The application has ended."""
        self.service.tasks.discard(self)
        self.task = None
        if error is not None or (self.out != OUT_DONE and self.client != CLIENT_GONE):
            self.service.ended(self, error)
