# The interface of wire.pyx.

from core cimport *

cdef enum:
    LOCAL = 1024


cdef struct Lines:  # the lines of a response's head, one after the other
    char *at
    size_t used
    size_t room
    char own[LOCAL]


cdef enum Kind:  # kinds of fields; the server uses all except PLAIN
    PLAIN
    HOST
    LENGTH
    CONNECTION
    ENCODING
    EXPECT
    UPGRADE
    TE
    FORWARDED
    DATE
    SERVER
    TYPE


cdef void lines_begin(Lines *lines) noexcept
cdef void lines_free(Lines *lines) noexcept
cdef int lines_add(Lines *lines, const char *data, size_t size) except -1
cdef int lines_field(Lines *lines, const fs_text *name, const fs_text *value) except -1
cdef int as_text(object given, fs_text *out) except -1
cdef int add_field(Lines *lines, object name, object value) except -1
cdef bytes lines_take(Lines *lines)

cdef bytes status_line(int status)
cdef bytes name_of(const char *name, size_t length, int *kind)
cdef str method_of(const char *name, size_t length)
cdef bytes unquoted(bytes encoded)
cdef str text_of(bytes path)
cdef int kind_of(const fs_text *name) noexcept
cdef bint has_word(const char *value, size_t length, const char *word, size_t size) noexcept
cdef bint same_word(const char *value, size_t length, const char *word, size_t size) noexcept

cdef class Clock:
    cdef bint dated
    cdef readonly bytes rest  # the lines that follow `date` in each response
    cdef long long second
    cdef bytes date_line
    cdef bytes all_lines
    cdef bytes date(self)
    cdef bytes lines(self)
    cdef tick(self, long long second)
