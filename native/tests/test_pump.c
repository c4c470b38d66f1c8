/* SPDX-License-Identifier: MIT
 *
 * The pump: the input and output of one call, and the connections that are polled afterwards.
 */
#include "check.h"

#include <fastsocket/pump.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

static struct fs_pump *pump;

static int polled(void)
{
    bool more = false;
    int count = fs_pump_poll(pump, &more);
    CHECK(!more);
    return count;
}

static bool pump_is_ready(int timeout)
{
    struct pollfd p = {.fd = fs_pump_fd(pump), .events = POLLIN};
    return poll(&p, 1, timeout) == 1;
}

static struct fs_output output(int fd, const char *text, enum fs_read read)
{
    static struct iovec parts[8];
    static int next;
    struct iovec *part = &parts[next++ % 8];
    *part = (struct iovec){.iov_base = (void *)text, .iov_len = strlen(text)};
    return (struct fs_output){
        .fd = fd, .owner = part, .parts = part, .count = *text != '\0', .read = read};
}

static void flush_one(struct fs_output *out)
{
    fs_pump_flush(pump, out, 1);
}

static void says(int fd, const char *text)
{
    CHECK_IS(send(fd, text, strlen(text), 0), strlen(text));
}

static void hears(int fd, const char *text, bool end)
{
    char got[256] = "";
    size_t length = 0;
    ssize_t n;
    while (length < strlen(text) && (n = recv(fd, got + length, sizeof got - length, 0)) > 0)
        length += (size_t)n;
    CHECK_IS(length, strlen(text));
    CHECK(memcmp(got, text, length) == 0);
    if (end)
        CHECK_IS(recv(fd, got, sizeof got, 0), 0);
}

/* A connection and its client. */
static int accepted(struct fs_table *table, int client[1], const char *first)
{
    int error;
    client[0] = client_of(fs_table_fd(table, FS_GLOBAL));
    if (*first)
        says(client[0], first);
    CHECK_IS(fs_pump_accept(pump, table, 0, 0, 8, false, &error), 1);
    CHECK_IS(error, -EAGAIN);
    return fs_pump_inputs(pump)[0].fd;
}

static void test_one_turn(struct fs_table *table)
{
    int clients[3], error;
    for (int i = 0; i < 3; i++) {
        clients[i] = client_of(fs_table_fd(table, FS_GLOBAL));
        if (i < 2)
            says(clients[i], i ? "one" : "zero");
    }
    CHECK_IS(fs_pump_accept(pump, table, 0, 0, 2, true, &error), 2);
    CHECK_IS(error, 0); /* two were the most */
    const struct fs_input *in = fs_pump_inputs(pump);
    struct fs_output out[3];
    for (int i = 0; i < 2; i++) {
        const char *text = i ? "one" : "zero";
        int on = 0;
        socklen_t size = sizeof on;
        struct sockaddr_in peer;
        CHECK(!in[i].owner && in[i].received);
        CHECK_IS(in[i].result, strlen(text));
        CHECK(memcmp(in[i].data, text, strlen(text)) == 0);
        CHECK_IS(in[i].peer_length, sizeof peer);
        memcpy(&peer, in[i].peer, sizeof peer);
        CHECK_IS(ntohl(peer.sin_addr.s_addr), INADDR_LOOPBACK);
        CHECK(getsockopt(in[i].fd, IPPROTO_TCP, TCP_NODELAY, &on, &size) == 0 && on);
        out[i] = output(in[i].fd, text, FS_READ_RECEIVE);
        out[i].close = true;
    }
    CHECK_IS(slot_info(table, 0).own, 2);
    CHECK_IS(fs_pump_accept(pump, table, 0, 0, 8, false, &error), 1);
    CHECK_IS(error, -EAGAIN);
    CHECK_IS(in[0].result, -EAGAIN); /* the client has sent nothing yet */
    out[2] = output(in[0].fd, "two", FS_READ_RECEIVE);
    out[2].close = true;
    fs_pump_flush(pump, out, 3);
    for (int i = 0; i < 3; i++) {
        CHECK(out[i].done);
        hears(clients[i], i == 0 ? "zero" : i == 1 ? "one" : "two", true);
        close(clients[i]);
    }
    CHECK(!pump_is_ready(0));
}

/* If clients never send anything so soon, recv(2) is tried for few of them, and no bytes are
 * lost. */
static void test_silent_ones(struct fs_table *table)
{
    int asked = 0;
    for (int i = 0; i < 64; i++) {
        int client, fd = accepted(table, &client, i < 32 ? "" : "said");
        const struct fs_input *in = fs_pump_inputs(pump);
        CHECK_IS(in->result, i < 32 || !in->received ? -EAGAIN : 4);
        asked += in->received;
        struct fs_output out = output(fd, "", FS_READ_RECEIVE);
        if (!in->received) {
            flush_one(&out);
            if (i >= 32) {
                CHECK_IS(polled(), 1);
                CHECK_IS(fs_pump_inputs(pump)->result, 4);
            }
        }
        out.close = true;
        flush_one(&out);
        close(client);
    }
    CHECK_IS(asked, 16 + 1 + 32);
}

/* The answer comes first, although the client has sent more than was read. */
static void test_unread_bytes(struct fs_table *table)
{
    int client, fd = accepted(table, &client, "request");
    says(client, " and more");
    struct fs_output out = output(fd, "answer", FS_READ_NOT);
    out.close = true;
    flush_one(&out);
    CHECK(out.done);
    hears(client, "answer", false);
    close(client);
}

static void test_kept_open(struct fs_table *table)
{
    int client, fd = accepted(table, &client, "");
    struct fs_output out = output(fd, "", FS_READ_RECEIVE);
    flush_one(&out);
    CHECK(out.done && !pump_is_ready(0));
    says(client, "ping");
    CHECK(pump_is_ready(5000));
    CHECK_IS(polled(), 1);
    const struct fs_input *in = fs_pump_inputs(pump);
    CHECK(in->owner == out.owner && in->fd == fd && in->received && !in->writable);
    CHECK_IS(in->result, 4);

    out.read = FS_READ_NOT; /* paused: nothing is polled */
    flush_one(&out);
    says(client, "pong");
    CHECK(!pump_is_ready(50));
    out.read = FS_READ_REPORT;
    flush_one(&out);
    CHECK(pump_is_ready(5000));
    CHECK_IS(polled(), 1);
    CHECK(in->readable && !in->received);
    char bytes[8];
    CHECK_IS(recv(fd, bytes, sizeof bytes, 0), 4);

    out = output(fd, "last", FS_READ_RECEIVE);
    out.end = true;
    flush_one(&out);
    CHECK(out.done);
    hears(client, "last", true);
    says(client, "still"); /* only our direction has ended */
    CHECK(pump_is_ready(5000));
    CHECK_IS(polled(), 1);
    CHECK_IS(in->result, 5);
    close(client);
    CHECK(pump_is_ready(5000));
    CHECK_IS(polled(), 1);
    CHECK_IS(in->result, 0);

    out = output(fd, "", FS_READ_RECEIVE);
    out.close = out.keep = true;
    flush_one(&out);
    CHECK(out.done && !pump_is_ready(0));
    CHECK_IS(close(fd), 0); /* it was kept open */
}

static void test_a_slow_reader(struct fs_table *table)
{
    enum { SIZE = 8 << 20 };
    int client, fd = accepted(table, &client, "");
    char *bytes = malloc(SIZE), *got = malloc(SIZE);
    CHECK(bytes && got);
    for (int i = 0; i < SIZE; i++)
        bytes[i] = (char)(i * 7 + i / 251);
    struct iovec part = {.iov_base = bytes, .iov_len = SIZE};
    struct fs_output out = {.fd = fd, .owner = bytes, .parts = &part, .count = 1, .close = true};
    flush_one(&out);
    CHECK(!out.done && out.result > 0 && out.result < SIZE);
    size_t received = 0;
    while (!out.done) {
        part.iov_base = (char *)part.iov_base + out.result;
        part.iov_len -= (size_t)out.result;
        ssize_t n = recv(client, got + received, SIZE - received, 0);
        CHECK(n > 0);
        received += (size_t)n;
        if (pump_is_ready(0)) {
            CHECK_IS(polled(), 1);
            CHECK(fs_pump_inputs(pump)->writable);
        }
        flush_one(&out);
        CHECK(out.result >= 0);
    }
    while (received < SIZE) {
        ssize_t n = recv(client, got + received, SIZE - received, 0);
        CHECK(n > 0);
        received += (size_t)n;
    }
    CHECK(memcmp(bytes, got, SIZE) == 0);
    CHECK_IS(recv(client, got, 1, 0), 0);
    close(client);
    free(bytes);
    free(got);
}

static void test_many_parts(struct fs_table *table)
{
    int client, fd = accepted(table, &client, "");
    struct iovec parts[2 * FS_PUMP_PARTS + 1];
    char text[2 * FS_PUMP_PARTS + 2] = "";
    for (int i = 0; i < 2 * FS_PUMP_PARTS + 1; i++) {
        text[i] = (char)('a' + i % 26);
        parts[i] = (struct iovec){.iov_base = &text[i], .iov_len = 1};
    }
    struct fs_output out = {.fd = fd, .owner = text, .parts = parts, .count = 33, .close = true};
    for (int sent = 0; sent < 2; sent++) {
        flush_one(&out);
        CHECK(!out.done);
        CHECK_IS(out.result, FS_PUMP_PARTS);
        out.parts += FS_PUMP_PARTS;
        out.count -= FS_PUMP_PARTS;
    }
    CHECK(pump_is_ready(0)); /* it is watched for the rest */
    flush_one(&out);
    CHECK(out.done);
    hears(client, text, true);
    close(client);
}

static void test_a_client_that_resets(struct fs_table *table)
{
    int client, fd = accepted(table, &client, "");
    struct fs_output out = output(fd, "", FS_READ_RECEIVE);
    flush_one(&out);
    struct linger now = {.l_onoff = 1};
    CHECK(setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0);
    close(client);
    CHECK(pump_is_ready(5000));
    CHECK_IS(polled(), 1);
    CHECK_IS(fs_pump_inputs(pump)->result, -ECONNRESET);
    out = output(fd, "too late", FS_READ_RECEIVE);
    flush_one(&out);
    CHECK_IS(out.result, -EPIPE);
    CHECK(!out.done && !pump_is_ready(0));
    CHECK_IS(close(fd), 0);
}

/* Events of a descriptor that was closed in the same batch, and whose number is another
 * connection's now. */
static void test_a_number_used_again(struct fs_table *table)
{
    int clients[2], fds[2];
    for (int i = 0; i < 2; i++) {
        fds[i] = accepted(table, &clients[i], "");
        struct fs_output out = output(fds[i], "", FS_READ_RECEIVE);
        flush_one(&out);
    }
    /* More bytes than fit: the first call ends before it reports the second connection. */
    char *bytes = calloc(1, 250 << 10);
    CHECK(bytes);
    for (int i = 0; i < 2; i++) {
        int size = 4 << 20;
        CHECK(setsockopt(fds[i], SOL_SOCKET, SO_RCVBUF, &size, sizeof size) == 0);
        struct timeval soon = {.tv_sec = 5};
        CHECK(setsockopt(clients[i], SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof soon) == 0);
        CHECK_IS(send(clients[i], bytes, 250 << 10, 0), 250 << 10);
    }
    CHECK(pump_is_ready(5000));
    usleep(50000); /* until all bytes of both have come */
    bool more = false;
    CHECK_IS(fs_pump_poll(pump, &more), 1);
    if (more) { /* only if the receive buffer holds that much */
        int told = fs_pump_inputs(pump)->fd, untold = told == fds[0] ? fds[1] : fds[0];
        struct fs_output gone = output(untold, "", FS_READ_NOT);
        gone.close = true;
        flush_one(&gone);
        int client, other = accepted(table, &client, ""), fd = untold;
        CHECK_IS(dup2(other, fd), fd);
        close(other);
        struct fs_output out = output(fd, "", FS_READ_RECEIVE);
        flush_one(&out);
        CHECK_IS(fs_pump_poll(pump, &more), 0);
        CHECK(!more);
        struct fs_output end = output(fd, "", FS_READ_NOT);
        end.close = true;
        flush_one(&end);
        close(client);
        fds[untold == fds[1]] = -1;
    }
    for (int i = 0; i < 2; i++) {
        struct fs_output out = output(fds[i], "", FS_READ_NOT);
        out.close = true;
        if (fds[i] >= 0)
            flush_one(&out);
        close(clients[i]);
    }
    free(bytes);
}

static void test_a_forked_child(struct fs_table *table)
{
    int client, fd = accepted(table, &client, "");
    struct fs_output out = output(fd, "", FS_READ_RECEIVE);
    flush_one(&out);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK_IS(fs_pump_renew(pump), 0);
        struct fs_output gone = output(fd, "", FS_READ_NOT);
        gone.close = gone.keep = true;
        flush_one(&gone); /* this leaves the parent's registration alone */
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) { /* it closed its inherited descriptors; the number is its log's */
        int null = open("/dev/null", O_RDONLY), log = fs_pump_fd(pump);
        CHECK_IS(dup2(null, log), log);
        CHECK_IS(fs_pump_renew(pump), -EBADF);
        struct stat one, other;
        CHECK(fstat(null, &one) == 0 && fstat(log, &other) == 0);
        CHECK(one.st_ino == other.st_ino && one.st_dev == other.st_dev);
        fs_pump_free(pump);
        CHECK(fcntl(log, F_GETFD) >= 0);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    says(client, "x");
    CHECK(pump_is_ready(5000));
    CHECK_IS(polled(), 1);
    out = output(fd, "", FS_READ_NOT);
    out.close = true;
    flush_one(&out);
    close(client);
}

static void run(void)
{
    int listener = bound("127.0.0.1");
    struct fs_table *table = make_table_on(listener, 1, FS_STEER_SPREAD);
    CHECK_IS(fs_table_claim(table, 0, -1), 0);
    CHECK_IS(fs_table_activate(table, 0, true), 0);
    CHECK_IS(fs_pump_open(&pump), 0);
    test_one_turn(table);
    test_unread_bytes(table);
    test_silent_ones(table);
    test_kept_open(table);
    test_a_slow_reader(table);
    test_many_parts(table);
    test_a_client_that_resets(table);
    test_a_number_used_again(table);
    test_a_forked_child(table);
    fs_pump_free(pump);
    fs_table_free(table);
    close(listener);
}
