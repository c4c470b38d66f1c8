/* SPDX-License-Identifier: MIT
 *
 * Lines of HTTP/1.1 (fastsocket/http1.h).
 */
#include <fastsocket/http1.h>

#include <string.h>

enum { TOKEN = 1, TARGET = 2, HOST = 4, HEX = 8, QUOTED = 16 };

#define T  TOKEN
#define G  TARGET
#define H  HOST
#define X  HEX
#define Q  QUOTED
#define AL (T | G | H | Q)

/* The kinds of each byte: RFC 9110, 5.6.2 (tokens) and 5.6.4 (quoted strings); RFC 3986, 3.2.2
 * (hosts, except for the comma of a list). A target is any visible ASCII: its path is
 * percent-decoded later. */
static const unsigned char KINDS[256] = {
    ['\t'] = Q,
    [' '] = Q,
    ['!'] = T | G | H | Q,
    ['"'] = G,
    ['#'] = T | G | Q,
    ['$'] = T | G | H | Q,
    ['%'] = T | G | H | Q,
    ['&'] = T | G | H | Q,
    ['\''] = T | G | H | Q,
    ['('] = G | H | Q,
    [')'] = G | H | Q,
    ['*'] = T | G | H | Q,
    ['+'] = T | G | H | Q,
    [','] = G | Q,
    ['-'] = T | G | H | Q,
    ['.'] = T | G | H | Q,
    ['/'] = G | Q,
    ['0'] = AL | X,
    ['1'] = AL | X,
    ['2'] = AL | X,
    ['3'] = AL | X,
    ['4'] = AL | X,
    ['5'] = AL | X,
    ['6'] = AL | X,
    ['7'] = AL | X,
    ['8'] = AL | X,
    ['9'] = AL | X,
    [':'] = G | Q,
    [';'] = G | H | Q,
    ['<'] = G | Q,
    ['='] = G | H | Q,
    ['>'] = G | Q,
    ['?'] = G | Q,
    ['@'] = G | Q,
    ['A'] = AL | X,
    ['B'] = AL | X,
    ['C'] = AL | X,
    ['D'] = AL | X,
    ['E'] = AL | X,
    ['F'] = AL | X,
    ['G'] = AL,
    ['H'] = AL,
    ['I'] = AL,
    ['J'] = AL,
    ['K'] = AL,
    ['L'] = AL,
    ['M'] = AL,
    ['N'] = AL,
    ['O'] = AL,
    ['P'] = AL,
    ['Q'] = AL,
    ['R'] = AL,
    ['S'] = AL,
    ['T'] = AL,
    ['U'] = AL,
    ['V'] = AL,
    ['W'] = AL,
    ['X'] = AL,
    ['Y'] = AL,
    ['Z'] = AL,
    ['['] = G | Q,
    ['\\'] = G,
    [']'] = G | Q,
    ['^'] = T | G | Q,
    ['_'] = T | G | H | Q,
    ['`'] = T | G | Q,
    ['a'] = AL | X,
    ['b'] = AL | X,
    ['c'] = AL | X,
    ['d'] = AL | X,
    ['e'] = AL | X,
    ['f'] = AL | X,
    ['g'] = AL,
    ['h'] = AL,
    ['i'] = AL,
    ['j'] = AL,
    ['k'] = AL,
    ['l'] = AL,
    ['m'] = AL,
    ['n'] = AL,
    ['o'] = AL,
    ['p'] = AL,
    ['q'] = AL,
    ['r'] = AL,
    ['s'] = AL,
    ['t'] = AL,
    ['u'] = AL,
    ['v'] = AL,
    ['w'] = AL,
    ['x'] = AL,
    ['y'] = AL,
    ['z'] = AL,
    ['{'] = G | Q,
    ['|'] = T | G | Q,
    ['}'] = G | Q,
    ['~'] = T | G | H | Q,
};

#undef T
#undef G
#undef H
#undef X
#undef Q

static size_t run_of(const char *at, size_t length, unsigned char kind)
{
    size_t i = 0;
    while (i < length && KINDS[(unsigned char)at[i]] & kind)
        i++;
    return i;
}

ptrdiff_t fs_http_line(const char *data, size_t size, bool *clean)
{
    const char *end = memchr(data, '\n', size);
    if (!end)
        return -1;
    *clean = end > data && end[-1] == '\r';
    return end - data - *clean;
}

bool fs_http_may_begin(const char *data, size_t size)
{
    size_t method =
        run_of(data, size < FS_HTTP_MOST_METHOD + 1 ? size : FS_HTTP_MOST_METHOD + 1, TOKEN);
    if (method == size)
        return method <= FS_HTTP_MOST_METHOD;
    return method > 0 && method <= FS_HTTP_MOST_METHOD && data[method] == ' ';
}

int fs_http_request_line(const char *line, size_t length, struct fs_request_line *out)
{
    size_t method = run_of(line, length, TOKEN);
    if (method == 0 || method > FS_HTTP_MOST_METHOD || method == length || line[method] != ' ')
        return FS_HTTP_METHOD;
    const char *target = line + method + 1;
    size_t rest = length - method - 1;
    size_t size = run_of(target, rest, TARGET);
    if (size == 0)
        return FS_HTTP_TARGET;
    if (size == rest)
        return FS_HTTP_MAJOR; /* HTTP/0.9 */
    if (target[size] != ' ')
        return FS_HTTP_TARGET;
    const char *version = target + size + 1;
    rest -= size + 1;
    if (rest != 8 || memcmp(version, "HTTP/", 5) != 0 || version[6] != '.' || version[5] < '0' ||
        version[5] > '9' || version[7] < '0' || version[7] > '9')
        return FS_HTTP_VERSION;
    if (version[5] != '1')
        return FS_HTTP_MAJOR;
    *out = (struct fs_request_line){
        .method = {line, method},
        .target = {target, size},
        .minor = version[7] - '0',
    };
    return 0;
}

/* Whether one of eight bytes is below 0x20, or is 0x7f. A borrow may cause a wrong yes, but never a
 * wrong no; after a yes the caller looks at the bytes one by one. */
static bool may_be_control(uint64_t word)
{
    const uint64_t ones = 0x0101010101010101, tops = ones << 7;
    uint64_t below = (word - ones * 0x20) & ~word;
    uint64_t del = word ^ ones * 0x7f;
    return ((below | ((del - ones) & ~del)) & tops) != 0;
}

size_t fs_http_value_end(const char *value, size_t length)
{
    size_t i = 0;
    for (; i < length; i++) {
        uint64_t word;
        while (length - i >= sizeof word) {
            memcpy(&word, value + i, sizeof word);
            if (may_be_control(word))
                break;
            i += sizeof word;
        }
        if (i == length)
            break;
        unsigned char c = (unsigned char)value[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            break;
    }
    return i;
}

bool fs_http_is_token(const char *name, size_t length)
{
    return length > 0 && run_of(name, length, TOKEN) == length;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

int fs_http_field(const char *line, size_t length, struct fs_field *out)
{
    size_t name = run_of(line, length, TOKEN);
    if (name == 0 && length > 0 && is_blank(line[0]))
        return FS_HTTP_FOLD;
    if (name == 0 || name == length || line[name] != ':')
        return FS_HTTP_NAME;
    const char *value = line + name + 1, *end = line + length;
    while (value < end && is_blank(*value))
        value++;
    while (value < end && is_blank(end[-1]))
        end--;
    size_t size = (size_t)(end - value);
    if (fs_http_value_end(value, size) != size)
        return FS_HTTP_VALUE;
    *out = (struct fs_field){.name = {line, name}, .value = {value, size}};
    return 0;
}

bool fs_http_is_host(struct fs_text text)
{
    const char *at = text.at, *end = text.at + text.length;
    size_t host;
    if (at < end && *at == '[') { /* an address of IPv6 or of a later version */
        for (host = 1; at + host < end && at[host] != ']'; host++)
            if (!(KINDS[(unsigned char)at[host]] & HOST) && at[host] != ':')
                return false;
        if (host == 1 || at + host == end)
            return false;
        host++;
    } else {
        host = run_of(at, text.length, HOST);
    }
    if (host == 0)
        return false;
    at += host;
    if (at == end)
        return true;
    if (*at++ != ':')
        return false;
    for (; at < end; at++)
        if (*at < '0' || *at > '9')
            return false;
    return true;
}

int64_t fs_http_length(struct fs_text text)
{
    int64_t value = 0;
    if (text.length == 0)
        return -1;
    for (size_t i = 0; i < text.length; i++) {
        int digit = text.at[i] - '0';
        if (digit < 0 || digit > 9 || value > (INT64_MAX - digit) / 10)
            return -1;
        value = value * 10 + digit;
    }
    return value;
}

/* RFC 9112, 7.1.1: ;name, ;name=token, ;name="quoted string", without white space. */
static bool are_extensions(const char *at, size_t length)
{
    while (length > 0) {
        if (*at != ';')
            return false;
        size_t name = run_of(at + 1, length - 1, TOKEN);
        if (name == 0)
            return false;
        at += name + 1;
        length -= name + 1;
        if (length == 0 || *at != '=')
            continue;
        at++;
        length--;
        size_t value = run_of(at, length, TOKEN);
        if (value == 0) {
            if (length < 2 || *at != '"')
                return false;
            for (value = 1; value < length && at[value] != '"'; value++) {
                if (at[value] == '\\' && ++value == length)
                    return false;
                unsigned char c = (unsigned char)at[value];
                if (!(KINDS[c] & QUOTED) && c < 0x80 && c != '"' && c != '\\')
                    return false;
            }
            if (value++ == length)
                return false;
        }
        at += value;
        length -= value;
    }
    return true;
}

int64_t fs_http_chunk(const char *line, size_t length)
{
    size_t digits = run_of(line, length, HEX);
    int64_t size = 0;
    if (digits == 0)
        return -1;
    for (size_t i = 0; i < digits; i++) {
        int c = line[i];
        if (size > INT64_MAX >> 4)
            return -1;
        size = size << 4 | (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return are_extensions(line + digits, length - digits) ? size : -1;
}
