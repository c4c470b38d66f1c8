# The interface of exchange.pyx: a connection is a Wire of exchanges.

from aiofastsocket._native.deadlines cimport Deadlines
from aiofastsocket._native.link cimport Link
from aiofastsocket._native.task cimport Served
from aiofastsocket._native.transport cimport Receiver
from aiofastsocket._native.wire cimport Clock

cdef enum Out:  # the part of the response that the application has sent
    OUT_NOTHING
    OUT_HEAD  # the head; it waits for the first part of the body
    OUT_BODY
    OUT_TRAILERS
    OUT_DONE


cdef enum In:  # the part of the request that the client has sent
    IN_COMES  # the body, or the rest of it
    IN_HERE  # all of it; the application does not know yet
    IN_TOLD


cdef enum Client:
    CLIENT_THERE
    CLIENT_SENT_ALL  # it sends no more, but may still read
    CLIENT_GONE


cdef class Exchange
cdef class Wire


cdef class Service:
    cdef readonly object loop
    cdef readonly object app
    cdef unsigned long thread  # the loop's thread
    cdef public dict state
    cdef public set connections
    cdef public set tasks  # exchanges whose application runs
    cdef public bint draining
    cdef public bint closing
    cdef public Deadlines heads
    cdef public Deadlines bodies
    cdef public Deadlines idle
    cdef public Deadlines last_calls
    cdef public object proxies
    cdef public object wsgi  # the Caller of a WSGI application; None: it is an ASGI application
    cdef public Clock clock
    cdef public bytes server_line
    cdef public bytes fields_lines
    cdef public bytes hsts_line  # over TLS only
    cdef public object secure  # the TLS settings (Secure); None: no TLS
    cdef public str root_path
    cdef public bytes mount  # root_path as clients send it
    cdef public bint websockets
    cdef public Py_ssize_t most_line
    cdef public Py_ssize_t most_fields
    cdef public Py_ssize_t most_head
    cdef public Py_ssize_t most_message  # of a WebSocket
    cdef public Deadlines pings
    cdef public Deadlines pongs
    cdef public Deadlines closes
    cdef bint keeps_heads  # a response's head is kept until the response is over
    cdef bint timed  # the duration of requests is measured
    cdef public bint tells_queue_time
    cdef bint turns_away(self, Exchange exchange) except -1
    cdef note(self, Exchange exchange)
    cpdef refused(self, client, int status)
    cdef void count_malformed(self) noexcept
    cdef void count_websocket(self, bint is_over) noexcept
    cdef run(self, Exchange exchange, context)


cdef class Wire(Link):
    cdef readonly Service service
    cdef readonly str scheme  # "http", or "https" over TLS
    cdef readonly object client  # addresses, as scopes have them; None: unknown
    cdef readonly object server
    cdef dict template  # of environments
    cdef object tls  # the value of the extension `tls`
    # Called by exchanges:
    cdef respond(self, Exchange exchange, headers)
    cdef send_head(self, Exchange exchange, long long length)
    cdef send_part(self, Exchange exchange, bytes data, bint more)
    cdef send_trailers(self, Exchange exchange, headers)
    cdef send_hint(self, Exchange exchange, headers)
    cdef answered(self, Exchange exchange)
    cdef taken(self)
    cdef wants_body(self, Exchange exchange)
    cdef cut(self, Exchange exchange)
    cdef bytes hand_over(self, Receiver to)


cdef class Exchange(Served):
    cdef object __weakref__
    cdef readonly Wire wire
    cdef readonly Service service
    cdef public object task
    cdef public bint dismissed  # its task was cancelled by the service
    cdef readonly dict scope
    cdef Out out
    cdef In input
    cdef Client client
    cdef readonly str method
    cdef readonly str version
    # The scope belongs to the application, whose changes have no effect here.
    cdef bytes path
    cdef bytes query
    cdef list fields  # of the head: pairs of bytes, names in lower case
    cdef object address  # the client's; like the scheme, it may come from a proxy
    cdef str scheme
    cdef bint is_chunked  # the body; its length is unknown
    cdef list body  # parts that the application has not received yet
    cdef Py_ssize_t buffered  # bytes in `body`
    cdef bint keep_alive
    cdef bint expects  # it waits for 100 Continue, or for the end of the response
    cdef bint silent  # the body is not sent: HEAD, 204, 304
    cdef bint has_events
    cdef bint is_own  # a health check: it is not in the access log
    cdef bint is_head  # the method is HEAD
    cdef bint offers_trailers
    cdef bint has_trailers
    cdef bint ignores_trailers
    cdef list trailers
    cdef long long waited  # ns that it waited in the kernel; -1: unknown, or not the first request
    cdef long long began  # CLOCK_MONOTONIC, ns, if the service times them
    cdef bytes head  # the response's, before the framing is added; only if the service keeps heads
    cdef public int status
    cdef public long long left  # of the content-length; -1: there is none
    cdef public long long sent  # bytes of the body so far
    cdef prepare(self)
    cdef list pairs(self)
    cdef names_host(self, bytes authority)
    cdef dict extensions(self)
    cdef tell_more(self, dict offered)
    cdef tell_tls(self, dict offered)
    cdef start(self, context)
    cdef part(self, bytes data)
    cdef all_came(self)
    cdef hung_up(self)
    cdef gone(self)
    cdef bint is_full(self) noexcept
    cdef bint untouched(self) noexcept
    cdef bint streams_events(self)
    cdef answer(self, int status, tuple headers)
    cdef int allow(self, int said, kind) except -1
    cdef object heed_rare(self, str kind, message)
    cdef begin(self, message)
    cdef respond(self, status, headers)
    cdef send_body(self, bytes body, bint more)
    cdef end(self)
    cdef object after(self, bint more)
