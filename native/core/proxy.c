/* SPDX-License-Identifier: MIT */
#include <fastsocket/proxy.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
    V1_MOST = 107, /* with its CRLF */
    V2_HEAD = 16,
    LOCAL = 0,
    PROXY = 1,
    UNSPEC = 0x00,
    TCP4 = 0x11,
    TCP6 = 0x21,
    UNIX = 0x31,
};

static const char signature[12] = "\r\n\r\n\0\r\nQUIT\n";

static void set_v4(struct sockaddr_storage *client, socklen_t *length, const void *address,
                   uint16_t port)
{
    struct sockaddr_in *in = (struct sockaddr_in *)client;
    *in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = port};
    memcpy(&in->sin_addr, address, sizeof in->sin_addr);
    *length = sizeof *in;
}

static void set_v6(struct sockaddr_storage *client, socklen_t *length, const void *address,
                   uint16_t port)
{
    struct sockaddr_in6 *in = (struct sockaddr_in6 *)client;
    *in = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = port};
    memcpy(&in->sin6_addr, address, sizeof in->sin6_addr);
    *length = sizeof *in;
}

/* ---- version 2 ---- */

static ssize_t binary(const unsigned char *data, size_t size, struct sockaddr_storage *client,
                      socklen_t *length)
{
    if (size < V2_HEAD)
        return 0;
    size_t rest = (size_t)data[14] << 8 | data[15], whole = V2_HEAD + rest;
    unsigned version = data[12] >> 4, command = data[12] & 15u, family = data[13];
    if (version != 2 || command > PROXY || whole > FS_PROXY_MOST)
        return -EPROTO;
    size_t wanted = family == TCP4 ? 12 : family == TCP6 ? 36 : family == UNIX ? 216 : 0;
    if (command == PROXY && ((wanted == 0 && family != UNSPEC) || rest < wanted))
        return -EPROTO;
    if (size < whole)
        return 0;
    uint16_t port;
    if (command == PROXY && family == TCP4) {
        memcpy(&port, data + V2_HEAD + 8, sizeof port);
        set_v4(client, length, data + V2_HEAD, port);
    } else if (command == PROXY && family == TCP6) {
        memcpy(&port, data + V2_HEAD + 32, sizeof port);
        set_v6(client, length, data + V2_HEAD, port);
    }
    return (ssize_t)whole;
}

/* ---- version 1 ---- */

/* The next word of a line, which ends at a blank or at the line's end. False: there is none, or it
 * is too long. */
static bool next_word(const char **at, const char *end, char word[INET6_ADDRSTRLEN])
{
    const char *from = *at;
    while (*at < end && **at != ' ')
        ++*at;
    size_t length = (size_t)(*at - from);
    if (length == 0 || length >= INET6_ADDRSTRLEN)
        return false;
    memcpy(word, from, length);
    word[length] = '\0';
    if (*at < end)
        ++*at;
    return true;
}

static bool is_port(const char *word, uint16_t *port)
{
    unsigned value = 0;
    if (word[0] == '0' && word[1])
        return false;
    for (const char *c = word; *c; c++) {
        if (*c < '0' || *c > '9' || (value = value * 10 + (unsigned)(*c - '0')) > 65535)
            return false;
    }
    *port = htons((uint16_t)value);
    return true;
}

static bool line_says(const char *at, const char *end, struct sockaddr_storage *client,
                      socklen_t *length)
{
    char word[INET6_ADDRSTRLEN], from[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN];
    unsigned char address[16], other[16];
    uint16_t port, its;
    if (!next_word(&at, end, word))
        return false;
    if (strcmp(word, "UNKNOWN") == 0)
        return true;
    int family = strcmp(word, "TCP4") == 0 ? AF_INET : strcmp(word, "TCP6") == 0 ? AF_INET6 : 0;
    if (!family || !next_word(&at, end, from) || !next_word(&at, end, to) ||
        inet_pton(family, from, address) != 1 || inet_pton(family, to, other) != 1 ||
        !next_word(&at, end, word) || !is_port(word, &port) || !next_word(&at, end, word) ||
        !is_port(word, &its) || at != end || end[-1] == ' ')
        return false;
    if (family == AF_INET)
        set_v4(client, length, address, port);
    else
        set_v6(client, length, address, port);
    return true;
}

static ssize_t text(const char *data, size_t size, struct sockaddr_storage *client,
                    socklen_t *length)
{
    const char *end = memchr(data, '\n', size < V1_MOST ? size : V1_MOST);
    if (!end)
        return size < V1_MOST ? 0 : -EPROTO;
    if (end - data < 7 || end[-1] != '\r' || !line_says(data + 6, end - 1, client, length))
        return -EPROTO;
    return end - data + 1;
}

ssize_t fs_proxy_header(const char *data, size_t size, struct sockaddr_storage *client,
                        socklen_t *length)
{
    *length = 0;
    size_t first = size < sizeof signature ? size : sizeof signature;
    if (memcmp(data, signature, first) == 0)
        return first < sizeof signature ? 0
                                        : binary((const unsigned char *)data, size, client, length);
    first = size < 6 ? size : 6;
    if (memcmp(data, "PROXY ", first) != 0)
        return -EPROTO;
    return first < 6 ? 0 : text(data, size, client, length);
}
