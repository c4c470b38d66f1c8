# The interface of websocket.pyx.

from aiofastsocket._native.exchange cimport Exchange, Service
from aiofastsocket._native.link cimport Link

cdef enum:  # RFC 6455, 7.4.1
    NORMAL = 1000
    PROTOCOL_ERROR = 1002
    NO_STATUS = 1005
    ABNORMAL = 1006
    INVALID_DATA = 1007
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    RESTART = 1012

cdef enum State:
    OPEN
    CLOSE_SENT  # the client has not answered it yet
    CLOSED  # nothing more comes or goes
    LOST  # closed, and its connection is gone


cdef class WebSocket(Link):
    cdef readonly Service service
    cdef Exchange handshake  # the application's side
    cdef object deflate
    cdef State state
    cdef list waiting  # the received pieces of an incomplete frame
    cdef Py_ssize_t waiting_size
    cdef Py_ssize_t wanted  # bytes of the frame, before it can be complete; 0: any more
    cdef list messages  # for the application, each with its counted size
    cdef Py_ssize_t buffered
    cdef Py_ssize_t most  # the limit of bytes of a message
    cdef list parts  # of a message in fragments
    cdef Py_ssize_t parts_size
    cdef object decoder  # of a text message in fragments
    cdef bint is_text
    cdef bint is_deflated
    cdef bint in_fragments
    cdef bint reads
    cdef bint busy  # more frames came than one turn takes
    cdef bint ended  # only the disconnection is left for the application
    cdef object code  # the client's close code; None: no close came
    cdef str reason
    cdef object sent_code
    cdef str sent_reason
    cdef int happens(self, int event) except -1
    cdef opened(self, bytes rest)
    cdef look(self, bytes data)
    cdef Py_ssize_t take_frame(self, bytes data, Py_ssize_t at) except -1
    cdef control(self, int opcode, bytes data)
    cdef closed_by_client(self, bytes data)
    cdef data(self, int opcode, bint fin, bint deflated, bytes data)
    cdef deliver(self, bytes data)
    cdef put(self, dict message, Py_ssize_t size)
    cdef fail(self, int code, str reason)
    cdef send_close(self, int code, str reason)
    cdef write_close(self, int code, bytes reason)
    cdef send_frame(self, int opcode, const char *data, Py_ssize_t size, bytes whole, bint deflated)
    cdef nothing_more(self)
    cdef object take(self)
    cdef object heed(self, message)
    cdef send_message(self, message)
