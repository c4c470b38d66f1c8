# cython: language_level=3
"""One request and its response, as the application has them (ASGI HTTP, 2.5). How they are framed
is the business of the wire that they came by.

Three machines, each with its states: `Out`, `In` and `Client` (exchange.pxd). SAID says what may come
when of the first; the others go one way: the body comes, is here, was taken; the client is there,
has sent all, is gone.
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
"""Bytes of a body that wait for the application before no more is read."""

# All of 2.5 is there. But applications that are told 2.4 (Starlette, FastAPI) wait for the error that
# send() raises then, and a stream without news would never hear that its client left.
cdef dict ASGI = {"version": "3.0", "spec_version": "2.3"}

cdef tuple TEXT = ((b"content-type", b"text/plain; charset=utf-8"),)

cdef enum:  # what the application says
    START
    MORE
    LAST
    FILE
    TRAILERS
    HINT

# In the order of the enum Out. -1: an error of the application's. Where there are trailers, the last
# part of the body leads to them.
cdef signed char[5][6] SAID = [
    # start, more, last, file, trailers, hint
    [OUT_HEAD, -1, -1, -1, -1, OUT_NOTHING],
    [-1, OUT_BODY, OUT_DONE, OUT_BODY, -1, -1],
    [-1, OUT_BODY, OUT_DONE, -1, -1, -1],
    [-1, -1, -1, -1, OUT_DONE, -1],
    [-1, -1, -1, -1, -1, -1],
]


cdef inline object get(message, key):
    """What a message says, or None."""
    cdef PyObject *found
    if type(message) is not dict:
        return message.get(key)
    found = PyDict_GetItemWithError(message, key)
    return None if found is NULL else <object>found


cdef class Service:
    """What the wires of a worker have in common. A subclass fills it in, and has `ended`."""

    def __init__(self, loop, app):
        self.loop = loop
        self.app = app
        self.thread = PyThread_get_thread_ident()
        self.state = {}
        self.mount = b""
        self.connections = set()
        self.tasks = set()

    def answered(self):
        """One request more is over."""

    def agree_on_deflate(self, offers):
        """What is answered to a WebSocket's offers of extensions, and what it is; or None, None."""
        return None, None

    def ended(self, Exchange exchange, error):
        """The application has ended too early, or with an error."""

    def send_file(self, Exchange exchange, path):
        """Returns what is to be awaited: see http.response.pathsend."""

    def send_rest_of_file(self, Exchange exchange, file):
        """Returns what is to be awaited: send it from where it stands; `file_is_sent` then."""

    cdef bint turns_away(self, Exchange exchange) except -1:
        """Whether the server has answered it by itself."""
        return False

    cdef note(self, Exchange exchange):
        """A response is over; or its client is gone, and there was none."""

    cpdef refused(self, client, int status):
        """What came was no request; this is what it was answered."""

    cdef void count_malformed(self) noexcept:
        """The server itself answers an exchange, because of what its request says."""

    cdef void count_websocket(self, bint is_over) noexcept:
        """One was opened, or is over."""

    cdef run(self, Exchange exchange, context):
        """The application, as a task of its own, whose name is the path."""
        task = task_for(exchange, self.loop, context, exchange.scope["path"])
        if task is not None:
            exchange.task = task
            self.tasks.add(exchange)


cdef class Wire(Link):
    """What exchanges come by: it frames them, and knows nothing of applications."""

    cdef respond(self, Exchange exchange, headers):
        """The response's head, which waits for the first part of the body. Raises RuntimeError
        if it is none; then nothing of it is kept."""

    cdef send_head(self, Exchange exchange, long long length):
        """Write it, for a body of that length."""

    cdef send_part(self, Exchange exchange, bytes data, bint more):
        """Write the head, if it waits, and one part more of the body."""

    cdef send_trailers(self, Exchange exchange, headers):
        """Write them, and the end of the response."""

    cdef send_hint(self, Exchange exchange, headers):
        """Write 103 Early Hints (RFC 8297)."""

    cdef answered(self, Exchange exchange):
        """Its response is complete."""

    cdef taken(self):
        """The body's last part was taken."""

    cdef wants_body(self, Exchange exchange):
        """The application asks for a body that the client may hold back until it is told."""

    cdef cut(self, Exchange exchange):
        """End it here: the response cannot be completed."""

    cdef bytes hand_over(self, Receiver to):
        """The connection is that protocol's now. Returns what has come that nobody looked at."""


cdef class Exchange(Served):
    """One request and its response."""

    # -- the wire's side --

    cdef prepare(self):
        """Its fields are filled in: make what the application is given."""
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
        """The fields of the head."""
        return self.fields

    cdef names_host(self, bytes authority):
        """An absolute target goes before what Host says; HTTP/1.0 may have had none."""
        cdef Py_ssize_t i
        for i in range(len(self.fields)):
            if self.fields[i][0] == b"host":
                self.fields[i] = (b"host", authority)
                return
        self.fields.insert(0, (b"host", authority))

    cdef dict extensions(self):
        """What is offered to the application for this request."""
        cdef dict offered = {"http.response.pathsend": {}}
        if self.version != "1.0":
            offered["http.response.early_hint"] = {}
        if self.offers_trailers:
            offered["http.response.trailers"] = {}
        self.tell_more(offered)
        return offered

    cdef tell_more(self, dict offered):
        """Of the connection: what WebSockets are told, too."""
        if self.service.tells_queue_time and self.waited >= 0:
            offered["aiofastsocket.queue_time"] = {"seconds": self.waited * 1e-9}
        if self.wire.scheme == "https":
            self.tell_tls(offered)

    cdef tell_tls(self, dict offered):
        """The extension `tls`: one for all requests of a connection."""
        cdef Wire wire = self.wire
        if wire.tls is None:
            if self.service.secure is None:
                return
            wire.tls = self.service.secure.about(wire.transport.get_extra_info("ssl_object"))
        offered["tls"] = wire.tls

    @property
    def raw_path(self):
        """The path as it was sent, below where the application is mounted."""
        return self.service.mount + self.path if self.service.mount else self.path

    cdef start(self, context):
        """Run the application."""
        if not self.service.turns_away(self):
            self.service.run(self, context)

    cdef part(self, bytes data):
        """One part more of the body; the wire wakes those who wait for it."""
        assert self.input == IN_COMES
        if self.out != OUT_DONE:
            if self.body is None:
                self.body = []
            self.body.append(data)
            self.buffered += PyBytes_GET_SIZE(data)

    cdef all_came(self):
        """The whole body has come; the wire wakes those who wait for it."""
        assert self.input == IN_COMES
        self.input = IN_HERE

    cdef hung_up(self):
        """The client sends no more."""
        self.keep_alive = False
        if self.client == CLIENT_THERE:
            self.client = CLIENT_SENT_ALL
        self.wake(False)

    cdef gone(self):
        """The connection is."""
        self.client = CLIENT_GONE
        if self.out in (OUT_BODY, OUT_TRAILERS):
            self.service.note(self)
        # Senders first: they end by an error, whose frames are let go of. Frameworks cancel
        # them when receive() tells, and circles of cancelled frames are the collector's.
        self.wire.wake_senders()
        self.wake(False)

    cdef bint is_full(self) noexcept:
        """Whether enough of the body waits here."""
        return self.buffered > MOST_BUFFERED

    cdef bint untouched(self) noexcept:
        """Nothing of the response was sent."""
        return self.out <= OUT_HEAD

    cdef bint streams_events(self):
        """In answer to a GET: EventSource connects again by itself, when such a stream ends."""
        return self.has_events and self.method == "GET" and self.out != OUT_DONE

    # -- the service's --

    is_websocket = False

    @property
    def is_event_stream(self):
        """See streams_events."""
        return self.streams_events()

    @property
    def state(self):
        """For a decision about its end: "untouched", "begun", "complete"."""
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
        """The server's own answer, after which the connection ends."""
        self.keep_alive = False
        self.answer(status, ())

    def cut_off(self):
        """The response cannot be completed."""
        self.wire.cut(self)

    def file_begins(self, long long size):
        """Write the head of a response whose body is a file of that size. Returns how much of it is
        to be sent. Raises RuntimeError if more was promised, or something else was sent since."""
        if self.client == CLIENT_GONE:
            raise ClientDisconnected("the client is gone")
        self.allow(FILE, "http.response.pathsend")
        if self.has_trailers:  # they would need chunks
            self.has_trailers, self.ignores_trailers = False, True
        if 0 <= self.left < size:
            size = self.left  # it may have grown
        elif self.left > size and not self.silent:
            raise RuntimeError(f"content-length is more than the file has: {size}")
        self.wire.send_head(self, size)
        self.out = OUT_BODY
        return 0 if self.silent else size

    def file_ended(self, long long sent):
        """It was sent."""
        self.sent = sent
        self.end()

    def lose(self, long long sent):
        """Its client is gone, and has been sent so much of a file."""
        self.sent = sent
        self.client = CLIENT_GONE

    @property
    def is_silent(self):
        """Whether what the body would be is not sent."""
        return self.silent

    # -- the application's --

    def receive(self):
        """As the application calls it: http.request until the body has come, and then, when the
        response is complete or the client gone, http.disconnect."""
        return receive_from(self)

    def send(self, message):
        """As the application calls it.

        Raises ClientDisconnected, which is an OSError, when the client is gone, RuntimeError when
        the message is not one that may come now: when it is awaited, as a coroutine would.
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
                        return self.take()  # a transport that delivers while it is written to
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
                data = bytes(memoryview(data))  # code of the application's may run: so before
            self.allow(MORE if more else LAST, kind)
            self.send_body(data, more)
            return self.after(more)
        if kind == "http.response.start":
            self.allow(START, kind)
            self.begin(message)
            return DONE
        return self.heed_rare(kind, message)

    cdef object heed_rare(self, str kind, message):
        """What is rare."""
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
        raise RuntimeError(f"{kind!r} is no message of a response")

    cdef int allow(self, int said, kind) except -1:
        """Raise RuntimeError if it may not come now."""
        if SAID[<int>self.out][said] < 0:
            self.wrong(kind)
        return 0

    def wrong(self, kind):
        """Raise RuntimeError: it may not come now."""
        if self.out == OUT_DONE:
            raise RuntimeError(f"{kind!r} was sent after the response was complete")
        if kind == "http.response.start":
            raise RuntimeError("'http.response.start' was sent twice")
        if kind == "http.response.early_hint":
            raise RuntimeError(f"{kind!r} comes before 'http.response.start'")
        if kind == "http.response.trailers":
            raise RuntimeError(f"{kind!r} comes after the last part of a body with trailers")
        if self.out == OUT_NOTHING:
            raise RuntimeError(f"{kind!r} was sent before 'http.response.start'")
        if self.out == OUT_TRAILERS:
            raise RuntimeError(f"{kind!r} was sent where 'http.response.trailers' comes")
        raise RuntimeError(f"{kind!r} comes once, after the start")

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
                raise RuntimeError(f"status {status!r} is none of a response: use 200 to 599")
        self.status = status
        self.left = -1
        self.has_events = False
        self.silent = self.is_head or self.status in (204, 304)
        self.out = OUT_HEAD  # first: headers may be a generator, and send what they like
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
        """What send() returns."""
        if more and (self.silent or self.wire.is_closing()):
            # Nothing would hold a stream without an end up, and so nobody hear of its end.
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
        """The server's own: the status in words. headers: beside the content's type."""
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
