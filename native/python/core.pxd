# The parts of native/include/fastsocket that the transports use.

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "<stdbool.h>" nogil:
    ctypedef bint bool

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    enum:
        AF_INET
    ctypedef unsigned int socklen_t
    struct sockaddr:
        pass
    struct sockaddr_storage:
        pass
    ssize_t recv(int fd, void *data, size_t size, int flags)
    int getsockname(int fd, sockaddr *address, socklen_t *length)
    int getpeername(int fd, sockaddr *address, socklen_t *length)

cdef extern from "<fastsocket/pump.h>" nogil:
    enum:
        FS_PUMP_BATCH
        FS_PUMP_PEER
        FS_PUMP_PARTS

    struct fs_table:
        pass

    struct fs_part:
        pass

    struct fs_pulse:
        pass

    void fs_part_count(fs_part *part, int open)
    enum fs_refusal:
        FS_REFUSED_MALFORMED
        FS_REFUSED_TOO_LARGE
        FS_REFUSED_TIMEOUT
        FS_REFUSED_CONCURRENCY
        FS_REFUSED_QUEUE_TIME
        FS_REFUSED_NOT_TLS
        FS_REFUSED_NO_PROXY

    struct fs_histogram:
        pass

    struct fs_counters:
        uint64_t *bytes
        uint64_t *connections
        uint64_t *answered
        uint64_t *refused
        uint64_t *websockets
        uint64_t dropped
        fs_histogram took

    void fs_count(uint64_t *counter, uint64_t more)
    void fs_histogram_add(fs_histogram *histogram, uint64_t ns)
    void fs_part_waited(fs_part *part, uint64_t ns)
    ssize_t fs_receive_first(int fd, void *data, size_t size, int64_t *waited)
    void fs_pulse_waits(fs_pulse *pulse)
    void fs_pulse_runs(fs_pulse *pulse)

    struct fs_pump:
        pass

    enum fs_read:
        FS_READ_NOT
        FS_READ_RECEIVE
        FS_READ_REPORT

    struct fs_input:
        void *owner
        int fd
        bool readable
        bool writable
        bool received
        int result
        int64_t waited
        const char *data
        socklen_t peer_length
        unsigned char *peer

    struct fs_output:
        int fd
        void *owner
        const iovec *parts
        uint32_t count
        fs_read read
        bool unheard
        bool more
        bool end
        bool close
        bool keep
        bool full
        bool done
        ssize_t result

    int fs_pump_open(fs_pump **out)
    void fs_pump_free(fs_pump *pump)
    void fs_pump_count(fs_pump *pump, uint64_t *bytes)
    int fs_pump_fd(const fs_pump *pump)
    int fs_pump_renew(fs_pump *pump)
    int fs_pump_accept(fs_pump *pump, fs_table *table, int slot, int source, int most,
                       bool nodelay, int *error)
    int fs_pump_poll(fs_pump *pump, bool *more)
    const fs_input *fs_pump_inputs(const fs_pump *pump)
    void fs_pump_flush(fs_pump *pump, fs_output *outputs, int count)

cdef extern from "<fastsocket/http1.h>" nogil:
    enum fs_http_wrong:
        FS_HTTP_METHOD
        FS_HTTP_TARGET
        FS_HTTP_VERSION
        FS_HTTP_MAJOR
        FS_HTTP_NAME
        FS_HTTP_FOLD
        FS_HTTP_VALUE
        FS_HTTP_LINE
        FS_HTTP_CHUNK

    enum:
        FS_HTTP_MOST_METHOD

    struct fs_text:
        const char *at
        size_t length

    struct fs_request_line:
        fs_text method
        fs_text target
        int minor

    struct fs_field:
        fs_text name
        fs_text value

    ptrdiff_t fs_http_line(const char *data, size_t size, bool *clean)
    bool fs_http_may_begin(const char *data, size_t size)
    int fs_http_request_line(const char *line, size_t length, fs_request_line *out)
    int fs_http_field(const char *line, size_t length, fs_field *out)
    bool fs_http_is_host(fs_text text)
    int64_t fs_http_length(fs_text text)
    int64_t fs_http_chunk(const char *line, size_t length)
    size_t fs_http_value_end(const char *value, size_t length)
    bool fs_http_is_token(const char *name, size_t length)
