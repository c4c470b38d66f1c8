/* SPDX-License-Identifier: MIT
 *
 * HTTP/1.1 on the wire (RFC 9112): lines of a request's head, and chunked bodies.
 *
 * Strict: input that two recipients could read in two ways is refused, because that is how requests
 * are smuggled. A line ends with CRLF and nothing else, a field is on one line, its name touches
 * its colon, a length is digits. Nothing is copied, allocated or kept here.
 */
#ifndef FASTSOCKET_HTTP1_H
#define FASTSOCKET_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The error in a line. fs_http_request_line and fs_http_field return it, or 0. */
enum fs_http_wrong {
    FS_HTTP_METHOD = 1,
    FS_HTTP_TARGET,
    FS_HTTP_VERSION, /* missing, or not an HTTP version */
    FS_HTTP_MAJOR,   /* not HTTP/1.x: 505 */
    FS_HTTP_NAME,
    FS_HTTP_FOLD, /* a line that continues the one before */
    FS_HTTP_VALUE,
    FS_HTTP_LINE, /* LF without CR, or CR without LF */
    FS_HTTP_CHUNK,
};

#define FS_HTTP_MOST_METHOD 32 /* bytes */

struct fs_text {
    const char *at;
    size_t length;
};

struct fs_request_line {
    struct fs_text method, target;
    int minor; /* x of HTTP/1.x */
};

struct fs_field {
    struct fs_text name, value; /* without the white space around it */
};

/* The next line in `data`: its length without its end, -1 if it is not complete. `clean`: it ends
 * with CRLF. */
ptrdiff_t fs_http_line(const char *data, size_t size, bool *clean);

/* Whether `data` may be the beginning of a request line: the server does not wait for a client that
 * speaks TLS or another protocol. */
bool fs_http_may_begin(const char *data, size_t size);

/* Both take a line without its CRLF. */
int fs_http_request_line(const char *line, size_t length, struct fs_request_line *out);
int fs_http_field(const char *line, size_t length, struct fs_field *out);

/* Whether `text` is a host and port as in a Host field or an authority (RFC 9112, 3.2.3): no user,
 * no list. */
bool fs_http_is_host(struct fs_text text);

/* The value of the digits in `text`, if it fits into 63 bits; else -1. */
int64_t fs_http_length(struct fs_text text);

/* The size of the chunk that `line` begins; its extensions are checked and dropped. -1: not a valid
 * chunk line. */
int64_t fs_http_chunk(const char *line, size_t length);

/* The index of the first byte that a field's value must not have (RFC 9110, 5.5), or `length`. */
size_t fs_http_value_end(const char *value, size_t length);

bool fs_http_is_token(const char *name, size_t length);

#endif
