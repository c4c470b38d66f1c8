/* SPDX-License-Identifier: MIT
 *
 * Lines of HTTP/1.1: the accepted ones and the refused ones. tests/asgi tests the answers.
 */
#include "check.h"

#include <fastsocket/http1.h>

#include <stdlib.h>

/* A copy in an allocation of its own size: AddressSanitizer sees each read beyond it. */
static char *tight(const char *text, size_t length)
{
    char *copy = malloc(length ? length : 1);
    CHECK(copy);
    memcpy(copy, text, length);
    return copy;
}

static bool is(struct fs_text text, const char *expected)
{
    return text.length == strlen(expected) && memcmp(text.at, expected, text.length) == 0;
}

static void request(const char *line, int wrong, const char *method, const char *target, int minor)
{
    struct fs_request_line out;
    char *copy = tight(line, strlen(line));
    CHECK_IS(fs_http_request_line(copy, strlen(line), &out), wrong);
    if (!wrong) {
        CHECK(is(out.method, method));
        CHECK(is(out.target, target));
        CHECK_IS(out.minor, minor);
    }
    free(copy);
}

static void test_request_lines(void)
{
    request("GET / HTTP/1.1", 0, "GET", "/", 1);
    request("M-SEARCH * HTTP/1.0", 0, "M-SEARCH", "*", 0);
    request("GET http://a/b?c#d HTTP/1.9", 0, "GET", "http://a/b?c#d", 9);
    request("", FS_HTTP_METHOD, 0, 0, 0);
    request(" GET / HTTP/1.1", FS_HTTP_METHOD, 0, 0, 0);
    request("GET", FS_HTTP_METHOD, 0, 0, 0);
    request("G(T / HTTP/1.1", FS_HTTP_METHOD, 0, 0, 0);
    request("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1", FS_HTTP_METHOD, 0, 0, 0);
    request("GET  / HTTP/1.1", FS_HTTP_TARGET, 0, 0, 0);
    request("GET ", FS_HTTP_TARGET, 0, 0, 0);
    request("GET /\t HTTP/1.1", FS_HTTP_TARGET, 0, 0, 0);
    request("GET /\xc3\xa4 HTTP/1.1", FS_HTTP_TARGET, 0, 0, 0);
    request("GET /\r HTTP/1.1", FS_HTTP_TARGET, 0, 0, 0);
    request("GET /", FS_HTTP_MAJOR, 0, 0, 0);
    request("GET / ", FS_HTTP_VERSION, 0, 0, 0);
    request("GET / HTTP/1.1 ", FS_HTTP_VERSION, 0, 0, 0);
    request("GET / http/1.1", FS_HTTP_VERSION, 0, 0, 0);
    request("GET / HTTP/11", FS_HTTP_VERSION, 0, 0, 0);
    request("GET / HTTP/1.x", FS_HTTP_VERSION, 0, 0, 0);
    request("PRI * HTTP/2.0", FS_HTTP_MAJOR, 0, 0, 0);
}

static void field(const char *line, int wrong, const char *name, const char *value)
{
    struct fs_field out;
    char *copy = tight(line, strlen(line));
    CHECK_IS(fs_http_field(copy, strlen(line), &out), wrong);
    if (!wrong) {
        CHECK(is(out.name, name));
        CHECK(is(out.value, value));
    }
    free(copy);
}

static void test_fields(void)
{
    field("Host:a", 0, "Host", "a");
    field("Host: \t a b \t", 0, "Host", "a b");
    field("x:", 0, "x", "");
    field("x: \t ", 0, "x", "");
    field("x: \xff\x80 and \t more than eight bytes", 0, "x",
          "\xff\x80 and \t more than eight bytes");
    field("", FS_HTTP_NAME, 0, 0);
    field("x", FS_HTTP_NAME, 0, 0);
    field("x : a", FS_HTTP_NAME, 0, 0);
    field(": a", FS_HTTP_NAME, 0, 0);
    field("\xc3\xa4: a", FS_HTTP_NAME, 0, 0);
    field(" x: a", FS_HTTP_FOLD, 0, 0);
    field("\tx: a", FS_HTTP_FOLD, 0, 0);
    for (int c = 0; c < 256; c++)
        for (int at = 0; at < 20; at++) {
            char line[24] = "x: 01234567890123456789";
            struct fs_field out;
            line[3 + at] = (char)c;
            bool bad = (c < 0x20 && c != '\t') || c == 0x7f;
            CHECK_IS(fs_http_field(line, 23, &out), bad ? FS_HTTP_VALUE : 0);
        }
}

static void test_line_ends(void)
{
    bool clean;
    CHECK_IS(fs_http_line("a\r\nb", 4, &clean), 1);
    CHECK(clean);
    CHECK_IS(fs_http_line("\r\n", 2, &clean), 0);
    CHECK(clean);
    CHECK_IS(fs_http_line("a\r", 2, &clean), -1);
    CHECK_IS(fs_http_line("", 0, &clean), -1);
    CHECK_IS(fs_http_line("a\n", 2, &clean), 1);
    CHECK(!clean);
    CHECK_IS(fs_http_line("\n", 1, &clean), 0);
    CHECK(!clean);
}

static void test_beginnings(void)
{
    const char *may[] = {"", "G", "GET", "GET ", "GET /", "any-token! x"};
    for (size_t i = 0; i < sizeof may / sizeof *may; i++)
        CHECK(fs_http_may_begin(may[i], strlen(may[i])));
    const char *not[] = {" ", "\x16\x03\x01", "GET\t", "(", "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG"};
    for (size_t i = 0; i < sizeof not / sizeof *not; i++)
        CHECK(!fs_http_may_begin(not[i], strlen(not[i])));
}

static void test_hosts(void)
{
    const char *good[] = {"a",       "a:80",     "a:",           "127.0.0.1:8000", "[::1]",
                          "[::1]:1", "[v1.x:y]", "ex%C3%A4mple", "under_score"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK(fs_http_is_host((struct fs_text){good[i], strlen(good[i])}));
    const char *bad[] = {"",   ":80",    "u@a",  "a/b",    "a,b",      "a b", "[::1",
                         "[]", "[::1]x", "a:8x", "a:80:1", "\xc3\xa4", "a?b", "a#b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(!fs_http_is_host((struct fs_text){bad[i], strlen(bad[i])}));
}

static int64_t length_of(const char *text)
{
    return fs_http_length((struct fs_text){text, strlen(text)});
}

static int64_t chunk_of(const char *line)
{
    char *copy = tight(line, strlen(line));
    int64_t size = fs_http_chunk(copy, strlen(line));
    free(copy);
    return size;
}

static void test_lengths(void)
{
    CHECK(length_of("0") == 0);
    CHECK(length_of("007") == 7);
    CHECK(length_of("9223372036854775807") == INT64_MAX);
    CHECK(length_of("9223372036854775808") == -1);
    CHECK(length_of("99999999999999999999") == -1);
    const char *bad[] = {"", "+1", "-1", "1 ", "0x1", "1,1", "1.0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(length_of(bad[i]) == -1);
    CHECK(chunk_of("0") == 0);
    CHECK(chunk_of("aF") == 0xaf);
    CHECK(chunk_of("7fffffffffffffff") == INT64_MAX);
    CHECK(chunk_of("8000000000000000") == -1);
    CHECK(chunk_of("10000000000000000") == -1);
    CHECK(chunk_of("1;a") == 1);
    CHECK(chunk_of("1;a=b;c=\"d \\\" e\";f") == 1);
    const char *none[] = {"",        "g",    "1 ",       " 1",         "-1",      "0x1",
                          "1;",      "1 ;a", "1;a=",     "1;a=\"",     "1;a=\"b", "1;a=\"b\"c",
                          "1;a=b c", "1;=b", "1;a=\"\\", "1;a=\"\r\"", "1,1"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        CHECK(chunk_of(none[i]) == -1);
}

static void run(void)
{
    test_request_lines();
    test_fields();
    test_line_ends();
    test_beginnings();
    test_hosts();
    test_lengths();
}
