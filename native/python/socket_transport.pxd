# The interface of socket_transport.pyx: Connections are a Server.

from core cimport *
from aiofastsocket._native.pump cimport *
from aiofastsocket._native.transport cimport Transport

cdef class SocketTransport


cdef class Server:
    cdef object factory  # of protocols
    cdef object kind  # family, type, protocol
    cdef object name  # the connections' own address, if they all have the same one
    cdef left(self, SocketTransport transport)
    cdef void waited(self, long long ns) noexcept


cdef class SocketTransport(Transport):
    cdef Server server
    cdef object sock  # set once the user asked for it; then it owns the descriptor
    cdef int kept_error  # follows the kept bytes: recv(2) reports an error only once
    cdef object failure
    cdef socklen_t peer_length
    cdef unsigned char peer[PEER]
    cdef bint unheard  # no bytes were received yet
    cdef bint blocked  # the kernel takes no more for now
    cdef bint eof_read
    cdef bint eof_written
    cdef bint eof_sent
    cdef bint backlog  # closed while the kernel took no more: until it does, write() still works

    cdef object name_of(self, bint peer)
    cdef object parsed(self, const unsigned char *raw, socklen_t length)
    cdef object own_socket(self)
    cdef object closed_socket(self)
    cdef close_descriptor(self)
    cdef void hear(self, long long waited) noexcept
    cdef start(self, const fs_input *first)
    cdef lost(self)
    cdef received(self, const fs_input *what)
    cdef read_error(self, int number)
    cdef receive(self)
    cdef deliver_kept_first(self)
    cdef end_of_input(self)
    cdef bint may_write(self) except -1
    cdef int send_now(self) except -1
    cdef write_error(self, int number)
