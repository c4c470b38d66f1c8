# The interface of front.pyx.

from core cimport fs_counters
from aiofastsocket._native.access cimport Access
from aiofastsocket._native.exchange cimport Service


cdef class Front(Service):
    cdef fs_counters *counters  # NULL: nothing is counted
    cdef Access log
    cdef public Py_ssize_t most_connections  # 0: no limit
    cdef public long long most_waited  # ns in the queue; 0: no limit
    cdef public bytes health_path  # None: there are no health checks
    cdef public bint healthy
    cdef bint full(self) except -1
    cdef answer_health(self, exchange)
    cdef void count_refusal(self, int why) noexcept
