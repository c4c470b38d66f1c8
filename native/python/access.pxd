# The interface of access.pyx.

from aiofastsocket._native.wire cimport Lines


cdef class Access:
    cdef object loop
    cdef Lines lines
    cdef long long second
    cdef bytes stamp  # what stands between the client and its request, in that second
    cdef note(self, client, str method, bytes mount, bytes path, bytes query, str version, int status,
              long long sent)
    cpdef refused(self, client, int status)
    cdef begin(self, client)
    cdef end(self, int status, long long sent)
    cdef add(self, str text)
    cdef add_target(self, bytes part)
