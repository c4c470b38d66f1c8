# The interface of tls.pyx.

from aiofastsocket._native.deadlines cimport Deadlines
from aiofastsocket._native.openssl cimport Buffers, Secured
from aiofastsocket._native.transport cimport Transport

cdef enum State:
    SILENT  # its first record is not complete
    SHAKING  # the handshake is in progress
    UP
    SHUT  # our close_notify is sent; the client's is awaited
    REFUSED  # the client does not use TLS, and was told so
    OVER


cdef class TlsTransport


cdef class Tls:
    cdef Buffers buffers
    cdef object loop
    cdef object context
    cdef object factory
    cdef object answer
    cdef set unready
    cdef Deadlines handshakes
    cdef Deadlines last_calls  # of handshakes when the service ends
    cdef Deadlines shutdowns


cdef class Layer(Secured):
    cdef Tls tls
    cdef Transport below
    cdef TlsTransport above  # from the end of the handshake to the end of the connection
    cdef object waiter  # start_tls: for the end of the handshake
    cdef object protocol  # start_tls: the protocol that already has the connection
    cdef object hostname  # start_tls as a client
    cdef bytes waiting  # received bytes that are not decrypted yet; they begin at `at`
    cdef Py_ssize_t at
    cdef size_t left_before
    cdef State state
    cdef bint is_client
    cdef bint looking
    cdef bint wants  # something was put off until the turn ends
    cdef bint has_eof
    cdef bint eof_waits  # the end of input waits until the bytes before it are read
    cdef int happens(self, int event) except -1
    cdef later(self)
    cdef look(self)
    cdef bint is_held(self) noexcept
    cdef bint step(self) except -1
    cdef bint not_tls(self, const char *data, Py_ssize_t size) except -1
    cdef shake(self, bytes records)
    cdef up(self)
    cdef ready(self)
    cdef decrypt(self, bytes record, Py_ssize_t size)
    cdef end_of_input(self)
    cdef go_on(self)
    cdef encrypt(self)
    cdef shut(self)
    cdef failed(self, str message)


cdef class TlsTransport(Transport):
    cdef Layer layer
    cdef Transport below
    cdef bint waits  # close() also waits for the client's close_notify
