/* SPDX-License-Identifier: MIT
 *
 * Headers of the PROXY protocol: good ones, in pieces of every size; and bad ones.
 */
#include "check.h"

#include <fastsocket/proxy.h>
#include <string.h>

static const char MAGIC[] = "\r\n\r\n\0\r\nQUIT\n";

/* Check a header's length, and its client as text; every shorter piece may still become a
 * header. */
static void good(const char *data, size_t size, const char *who, int port)
{
    struct sockaddr_storage client;
    socklen_t length;
    char name[INET6_ADDRSTRLEN] = "", more[5000];
    for (size_t cut = 1; cut < size; cut++)
        CHECK_IS(fs_proxy_header(data, cut, &client, &length), 0);
    memcpy(more, data, size);
    memcpy(more + size, "GET /", 5);
    CHECK_IS(fs_proxy_header(more, size + 5, &client, &length), size);
    if (!who) {
        CHECK_IS(length, 0);
        return;
    }
    if (client.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&client;
        CHECK_IS(length, sizeof *in);
        CHECK(inet_ntop(AF_INET, &in->sin_addr, name, sizeof name));
        CHECK_IS(ntohs(in->sin_port), port);
    } else {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)&client;
        CHECK_IS(length, sizeof *in);
        CHECK(inet_ntop(AF_INET6, &in->sin6_addr, name, sizeof name));
        CHECK_IS(ntohs(in->sin6_port), port);
    }
    CHECK(strcmp(name, who) == 0);
}

static void bad(const char *data, size_t size)
{
    struct sockaddr_storage client;
    socklen_t length;
    CHECK_IS(fs_proxy_header(data, size, &client, &length), -EPROTO);
}

static size_t binary(char *out, int command, int family, const char *rest, size_t size)
{
    memcpy(out, MAGIC, 12);
    out[12] = (char)command;
    out[13] = (char)family;
    out[14] = (char)(size >> 8);
    out[15] = (char)size;
    memcpy(out + 16, rest, size);
    return 16 + size;
}

static void lines(void)
{
    static const char *const wrong[] = {
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
        "PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n",
        "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY \r\n",
        "proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "GET / HTTP/1.1\r\n",
        "\r\n\r\nGET",
    };
    static const char v4[] = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";
    static const char v6[] = "PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n";
    static const char none[] = "PROXY UNKNOWN\r\n", more[] = "PROXY UNKNOWN ffff::1 a b c d\r\n";
    char endless[200];
    good(v4, sizeof v4 - 1, "192.0.2.7", 56324);
    good(v6, sizeof v6 - 1, "2001:db8::7", 1);
    good(none, sizeof none - 1, NULL, 0);
    good(more, sizeof more - 1, NULL, 0);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        bad(wrong[i], strlen(wrong[i]));
    memset(endless, 'x', sizeof endless);
    memcpy(endless, "PROXY UNKNOWN ", 14);
    bad(endless, sizeof endless);
}

static void binaries(void)
{
    static const char v4[] = "\xc0\0\2\7\xc6\x33\x64\1\xdc\4\1\xbb";
    char v6[36] = {0x20, 1, 0xd, 0xb8}, unix_[216] = {'/'}, tlv[512], out[5000] = {0};
    v6[15] = 9;
    v6[33] = 80;
    memset(tlv, 4, sizeof tlv);
    memcpy(tlv, v4, 12);
    good(out, binary(out, 0x21, 0x11, v4, 12), "192.0.2.7", 56324);
    good(out, binary(out, 0x21, 0x11, tlv, sizeof tlv), "192.0.2.7", 56324);
    good(out, binary(out, 0x21, 0x21, v6, 36), "2001:db8::9", 80);
    good(out, binary(out, 0x21, 0x31, unix_, 216), NULL, 0);
    good(out, binary(out, 0x21, 0x00, "", 0), NULL, 0);
    good(out, binary(out, 0x20, 0x11, v4, 12), NULL, 0);
    good(out, binary(out, 0x20, 0xff, "", 0), NULL, 0);
    bad(out, binary(out, 0x11, 0x11, v4, 12));
    bad(out, binary(out, 0x22, 0x11, v4, 12));
    bad(out, binary(out, 0x21, 0x11, v4, 11));
    bad(out, binary(out, 0x21, 0x21, v6, 35));
    bad(out, binary(out, 0x21, 0x12, v4, 12));
    memset(out, 0, sizeof out);
    binary(out, 0x21, 0x11, v4, 12);
    out[14] = 0x10; /* 4 KiB and more */
    bad(out, 100);
}

static void run(void)
{
    lines();
    binaries();
}
