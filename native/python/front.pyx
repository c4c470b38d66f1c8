# cython: language_level=3
"""The work of a service around its application: it answers some requests by itself, and records
each completed request in counters (struct fs_counters) and the access log."""

from aiofastsocket._native.exchange cimport *
from aiofastsocket._native.pump cimport now_ns

from core cimport *

cdef tuple LATER = ((b"retry-after", b"1"),)


cdef class Front(Service):
    """See Service. A subclass fills it in."""

    def count(self, size_t counters):
        """From now on, count at the address `counters` (struct fs_counters)."""
        self.counters = <fs_counters *>counters
        self.timed = True

    @property
    def access(self):
        """The access log; None: there is none."""
        return self.log

    @access.setter
    def access(self, Access log):
        self.log = log
        if log is not None:
            self.timed = self.timed or log.times
            self.keeps_heads = log.keeps_heads

    def count_dropped(self, int lines):
        """Count lines of the access log that were dropped."""
        if self.counters is not NULL:
            fs_count(&self.counters.dropped, lines)

    # -- requests that the server answers itself --

    cdef bint full(self) except -1:
        """Whether limit_concurrency is reached."""
        cdef Py_ssize_t most = self.most_connections
        return most > 0 and (len(self.connections) > most or len(self.tasks) >= most)

    cdef bint turns_away(self, Exchange exchange) except -1:
        cdef bytes host = None
        if self.health_path is not None and exchange.path == self.health_path:
            self.answer_health(exchange)
            return True
        if self.most_waited > 0 and exchange.waited > self.most_waited:
            self.count_refusal(FS_REFUSED_QUEUE_TIME)
            exchange.keep_alive = False
            exchange.answer(503, LATER)
            return True
        if self.full():
            self.count_refusal(FS_REFUSED_CONCURRENCY)
            exchange.keep_alive = False
            exchange.answer(503, ())
            return True
        if self.secure is None or exchange.wire.scheme != "http":
            return False
        for name, value in exchange.pairs():
            if name == b"host":
                host = value
        where = self.secure.redirect(host, exchange.path, exchange.query)
        if where is None:
            return False
        exchange.keep_alive = False
        if where:
            exchange.answer(308, ((b"location", where),))
        else:
            self.count_malformed()
            exchange.answer(400, ())
        return True

    cdef answer_health(self, exchange):
        """Answer a health check: whether this worker should be sent requests."""
        cdef Exchange asked = exchange
        asked.is_own = True
        if self.healthy and not self.draining:
            asked.answer(200, ())
        else:
            asked.keep_alive = False
            asked.answer(503, ())

    # -- completed requests --

    cdef note(self, Exchange exchange):
        cdef int status = exchange.status
        if exchange.untouched() and status != 101:  # 101 is a WebSocket's: nothing else was sent
            status = 0
        if self.counters is not NULL:
            fs_count(&self.counters.answered[status // 100], 1)
            fs_histogram_add(&self.counters.took, now_ns() - exchange.began)
        if self.log is not None and status and not exchange.is_own:
            self.log.note(exchange)

    cpdef refused(self, client, int status):
        if status == 408:
            self.count_refusal(FS_REFUSED_TIMEOUT)
        elif status == 414 or status == 431:
            self.count_refusal(FS_REFUSED_TOO_LARGE)
        else:
            self.count_refusal(FS_REFUSED_MALFORMED)
        if self.counters is not NULL:
            fs_count(&self.counters.answered[status // 100], 1)
        if self.log is not None:
            self.log.refused(client, status)

    def not_tls(self, client):
        """Record a client that sent plain HTTP to a TLS port, and was answered 400."""
        self.count_refusal(FS_REFUSED_NOT_TLS)
        if self.counters is not NULL:
            fs_count(&self.counters.answered[4], 1)
        if self.log is not None:
            self.log.refused(client, 400)

    def no_proxy(self):
        """Count a trusted proxy that sent no valid PROXY header, and was disconnected."""
        self.count_refusal(FS_REFUSED_NO_PROXY)

    cdef void count_refusal(self, int why) noexcept:
        if self.counters is not NULL:
            fs_count(&self.counters.refused[why], 1)

    cdef void count_malformed(self) noexcept:
        self.count_refusal(FS_REFUSED_MALFORMED)

    cdef void count_websocket(self, bint is_over) noexcept:
        if self.counters is not NULL:
            fs_count(&self.counters.websockets[is_over], 1)
