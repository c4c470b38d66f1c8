/* SPDX-License-Identifier: MIT
 *
 * What is on the wire of HTTP/1.1 (RFC 9112): lines of a request's head, and chunked bodies.
 *
 * Strict: what two recipients could read in two ways is refused, since that is how requests are
 * smuggled. A line ends with CRLF and nothing else, a field is on one line, its name touches its
 * colon, a length is digits. Nothing is copied, allocated or kept here.
 */
#ifndef FASTSOCKET_HTTP1_H
#define FASTSOCKET_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is wrong with a line; the functions below return it, or 0. */
enum fs_http_wrong {
    FS_HTTP_METHOD = 1,
    FS_HTTP_TARGET,
    FS_HTTP_VERSION, /* none, or none of HTTP's */
    FS_HTTP_MAJOR,   /* another HTTP than 1.x: 505 */
    FS_HTTP_NAME,
    FS_HTTP_FOLD, /* a line that goes on with the one before */
    FS_HTTP_VALUE,
    FS_HTTP_LINE, /* LF without CR, or the other way round */
    FS_HTTP_CHUNK,
};

#define FS_HTTP_MOST_METHOD 32 /* bytes */

struct fs_text {
    const char *at;
    size_t length;
};

struct fs_request_line {
    struct fs_text method, target;
    int minor; /* of HTTP/1.x */
};

struct fs_field {
    struct fs_text name, value; /* without the white space around it */
};

/* The next line in `data`: its length without its end, -1 if it is not complete. `clean`: it ends
 * with CRLF. */
ptrdiff_t fs_http_line(const char *data, size_t size, bool *clean);

/* Whether the beginning of a request line may become one: a client that speaks TLS or another
 * protocol is not waited for. */
bool fs_http_may_begin(const char *data, size_t size);

/* Lines, without their CRLF. */
int fs_http_request_line(const char *line, size_t length, struct fs_request_line *out);
int fs_http_field(const char *line, size_t length, struct fs_field *out);

/* RFC 9112, 3.2.3: host and port as a Host field or an authority has them; no user, no list. */
bool fs_http_is_host(struct fs_text text);

/* Digits that fit into 63 bits, or -1. */
int64_t fs_http_length(struct fs_text text);

/* The size of the chunk that a line begins, whose extensions are looked at and dropped; -1: it is
 * none. */
int64_t fs_http_chunk(const char *line, size_t length);

/* The first byte that a field's value must not have (RFC 9110, 5.5), or length. */
size_t fs_http_value_end(const char *value, size_t length);

bool fs_http_is_token(const char *name, size_t length);

#endif
