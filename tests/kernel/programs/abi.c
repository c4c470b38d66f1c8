/* SPDX-License-Identifier: MIT
 *
 * Every operation of /dev/fastsocket, its flags and its errors. The operations for BSD calls are
 * compared with the calls themselves.
 */
#include "device.h"

#include <linux/mptcp.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>
#include <sys/un.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static int same(int ours, int our_error, int theirs, int their_error)
{
    return ours < 0 ? theirs < 0 && our_error == their_error : theirs >= 0;
}

static void socket_is_socket(void)
{
    static const int table[][3] = {
        {AF_INET, SOCK_STREAM, 0},
        {AF_INET6, SOCK_STREAM, IPPROTO_TCP},
        {AF_INET, SOCK_DGRAM, 0},
        {AF_UNIX, SOCK_STREAM, 0},
        {AF_UNIX, SOCK_SEQPACKET, 0},
        {AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0},
        {AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0},
        {AF_INET, SOCK_STREAM | 0x10000, 0},
        {AF_INET, SOCK_STREAM, IPPROTO_UDP},
        {AF_INET, SOCK_SEQPACKET, 0},
        {AF_INET, 99, 0},
        {AF_INET, 0, 0},
        {65535, SOCK_STREAM, 0},
        {-1, SOCK_STREAM, 0},
        {AF_INET, -1, 0},
        {AF_INET, SOCK_STREAM, -1},
        {AF_INET, SOCK_STREAM, 1 << 20},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        errno = 0;
        int ours = FS_SOCKET(table[i][0], table[i][1], table[i][2]), our_error = errno;
        errno = 0;
        int theirs = socket(table[i][0], table[i][1], table[i][2]), their_error = errno;
        CHECK(same(ours, our_error, theirs, their_error));
        if (ours < 0)
            continue;
        CHECK_IS(fcntl(ours, F_GETFL), fcntl(theirs, F_GETFL));
        CHECK_IS(fcntl(ours, F_GETFD), fcntl(theirs, F_GETFD));
        close(ours);
        close(theirs);
    }
}

/* Kinds of descriptors, on which listen, accept and the rest differ. */
enum { NOTHING, A_PIPE, A_FILE, UDP, UNIX_STREAM, UNBOUND, BOUND, CONNECTED, KINDS };

static int made(int kind)
{
    int fds[2];
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    switch (kind) {
    case NOTHING:
        return 999;
    case A_PIPE:
        CHECK_IS(pipe(fds), 0);
        close(fds[1]);
        return fds[0];
    case A_FILE:
        return open("/dev/null", O_RDWR);
    case UDP:
        return socket(AF_INET, SOCK_DGRAM, 0);
    case UNIX_STREAM:
        fds[0] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        CHECK_IS(bind(fds[0], (struct sockaddr *)&name, sizeof(sa_family_t)), 0);
        return fds[0];
    case UNBOUND:
        return socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    case BOUND:
        return bound("127.0.0.1");
    default: {
        int listener = listening("127.0.0.1"), fd = client_of(listener);
        close(listener);
        return fd;
    }
    }
}

/* The ioctl on one such descriptor and the BSD call on another give the same result. */
#define COMPARE(kind, ioctl_on, call_on)                                                           \
    do {                                                                                           \
        int fd = made(kind), other = made(kind);                                                   \
        errno = 0;                                                                                 \
        int ours = (ioctl_on), our_error = errno;                                                  \
        fd = other, errno = 0;                                                                     \
        int theirs = (call_on), their_error = errno;                                               \
        if (!same(ours, our_error, theirs, their_error))                                           \
            fprintf(stderr, "kind %d: %d (errno %d), not %d (errno %d)\n", kind, ours, our_error,  \
                    theirs, their_error);                                                          \
        CHECK(same(ours, our_error, theirs, their_error));                                         \
    } while (0)

static void errors_are_those_of_the_calls(void)
{
    pid_t pid = forked(); /* its end closes the descriptors that it made */
    if (pid == 0) {
        for (int kind = 0; kind < KINDS; kind++) {
            COMPARE(kind, FS_LISTEN(fd, 8), listen(fd, 8));
            COMPARE(kind, FS_ACCEPT(fd, NULL, NULL, 0), accept4(fd, NULL, NULL, 0));
            COMPARE(kind, FS_ACCEPT(fd, NULL, NULL, 0x100), accept4(fd, NULL, NULL, 0x100));
            COMPARE(kind, FS_SHUTDOWN(fd, SHUT_RDWR), shutdown(fd, SHUT_RDWR));
            COMPARE(kind, FS_SHUTDOWN(fd, 17), shutdown(fd, 17));
            if (kind != NOTHING)
                COMPARE(kind, FS_CLOSE(fd), close(fd));
        }
        FAILS(FS_CLOSE(999), EBADF);
        FAILS(FS_CLOSE(-1), EBADF);
        _exit(0);
    }
    ends_well(pid);
    int fd = listening("127.0.0.1"), rival = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in name;
    socklen_t length = sizeof name;
    CHECK_IS(getsockname(fd, (struct sockaddr *)&name, &length), 0);
    CHECK_IS(FS_SPAWN(fd, -1), 0);
    FAILS(bind(rival, (struct sockaddr *)&name, length), EADDRINUSE);
    close(fd);
    close(rival);
}

static void spawn_is_for_tcp_listeners(void)
{
    pid_t pid = forked();
    if (pid == 0) {
        static const int errors[KINDS] = {EBADF,      ENOTSOCK, ENOTSOCK, EOPNOTSUPP,
                                          EOPNOTSUPP, EINVAL,   EINVAL,   EINVAL};
        for (int kind = 0; kind < KINDS; kind++)
            FAILS(FS_SPAWN(made(kind), -1), errors[kind]);
        int unix_listener = made(UNIX_STREAM);
        CHECK_IS(FS_LISTEN(unix_listener, 5), 0);
        FAILS(FS_SPAWN(unix_listener, 0), EOPNOTSUPP);
        int mptcp = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
        if (mptcp >= 0) {
            CHECK_IS(FS_LISTEN(mptcp, 5), 0);
            FAILS(FS_SPAWN(mptcp, 0), EOPNOTSUPP);
        }
        int fd = listening("127.0.0.1");
        FAILS(FS_SPAWN(fd, -2), EINVAL);
        FAILS(FS_SPAWN(fd, 100000), EINVAL);
        CHECK_IS(FS_SPAWN(fd, 0), 0);
        CHECK_IS(FS_SPAWN(fd, 0), 0);
        CHECK_IS(FS_SPAWN(fd, 1), 0);
        CHECK_IS(FS_SPAWN(fd, -1), 0);
        CHECK_IS(row_of(fd, 1).found, 1);
        CHECK_IS(atoi(row_of(fd, 1).owners), getpid()); /* it moved there, and stays */
        CHECK_IS(strcmp(row_of(fd, 0).owners, "-"), 0);
        /* A socket that listens by listen(2) is treated the same. */
        int plain = bound("127.0.0.1");
        CHECK_IS(listen(plain, 5), 0);
        CHECK_IS(FS_SPAWN(plain, -1), 0);
        _exit(0);
    }
    ends_well(pid);
}

static void what_is_no_operation(void)
{
    struct fsocket_ioctl_arg arg = {0};
    static const unsigned long unknown[] = {FSOCKET_IOC_EPOLL_CTL,
                                            _IO(FSOCKET_IOC_TYPE, 0),
                                            _IO(FSOCKET_IOC_TYPE, 9),
                                            _IO(FSOCKET_IOC_TYPE, 255),
                                            _IO('x', 2),
                                            _IOW(FSOCKET_IOC_TYPE, 2, int)};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        FAILS(ioctl(device, unknown[i], &arg), ENOTTY);
    for (int i = 1; i <= 7; i++)
        if (i != 5) {
            FAILS(ioctl(device, _IO(FSOCKET_IOC_TYPE, i), NULL), EFAULT);
            FAILS(ioctl(device, _IO(FSOCKET_IOC_TYPE, i), (void *)-4096L), EFAULT);
        }
    CHECK_IS(ioctl(device, FSOCKET_IOC_SPAWN_ALL_LISTEN, NULL), 0); /* it reads no argument */
    char byte;
    FAILS(read(device, &byte, 1), EINVAL);
    int writable = open(FSOCKET_DEVICE, O_RDWR);
    FAILS(write(writable, &byte, 1), EINVAL);
    close(writable);
}

static void accept_has_the_flags_of_accept4(void)
{
    static const int flags[] = {0, SOCK_NONBLOCK, SOCK_CLOEXEC, SOCK_NONBLOCK | SOCK_CLOEXEC};
    int fd = listening("127.0.0.1");
    for (int spawned = 0; spawned < 2; spawned++) {
        for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
            int client = client_of(fd), connection = taken(fd, flags[i]);
            CHECK(connection >= 0);
            CHECK_IS(!!(fcntl(connection, F_GETFL) & O_NONBLOCK), !!(flags[i] & SOCK_NONBLOCK));
            CHECK_IS(!!(fcntl(connection, F_GETFD) & FD_CLOEXEC), !!(flags[i] & SOCK_CLOEXEC));
            CHECK_IS(write(client, "hello", 5), 5);
            char got[8];
            UNTIL(recv(connection, got, sizeof got, MSG_DONTWAIT) == 5);
            close(client);
            close(connection);
        }
        FAILS(FS_ACCEPT(fd, NULL, NULL, 0), EAGAIN);
        CHECK_IS(FS_SPAWN(fd, -1), 0);
    }
    close(fd);
}

static void accept_tells_the_address(void)
{
    int fd = listening("::1");
    CHECK_IS(FS_SPAWN(fd, -1), 0);
    for (int room = 0; room <= 64; room += 8) {
        struct sockaddr_in6 name, peer = {0};
        int length = room, client = client_of(fd);
        socklen_t name_length = sizeof name;
        char copy[64] = {0};
        CHECK_IS(getsockname(client, (struct sockaddr *)&name, &name_length), 0);
        CHECK_IS(readable(fd, 5000), 1);
        int connection = FS_ACCEPT(fd, copy, &length, 0);
        CHECK(connection >= 0);
        CHECK_IS(length, sizeof name);
        memcpy(&peer, copy, sizeof peer);
        CHECK_IS(memcmp(copy, &name, room < length ? room : length), 0);
        close(connection);
        close(client);
    }
    struct {
        void *address;
        int *length;
        int value, error;
    } bad[] = {{(void *)8, NULL, 0, EFAULT}, {&bad, (int *)8, 0, EFAULT}, {&bad, NULL, -1, EINVAL}};
    for (int i = 0; i < 3; i++) {
        int client = client_of(fd), length = bad[i].value ? bad[i].value : 16;
        CHECK_IS(readable(fd, 5000), 1);
        FAILS(FS_ACCEPT(fd, bad[i].address, bad[i].length ? bad[i].length : &length, 0),
              bad[i].error);
        close(client);
    }
    close(fd);
}

static void shutdown_and_again(void)
{
    int fd = listening("127.0.0.1");
    CHECK_IS(FS_SPAWN(fd, 0), 0);
    CHECK_IS(readable(fd, 0), 0);
    UNTIL(row_of(fd, 0).live);
    CHECK_IS(FS_SHUTDOWN(fd, SHUT_WR), 0); /* no effect on a listener, as shutdown(2) */
    CHECK_IS(FS_SHUTDOWN(fd, SHUT_RDWR), 0);
    FAILS(FS_ACCEPT(fd, NULL, NULL, 0), EINVAL);
    FAILS(FS_SPAWN(fd, -1), EINVAL);
    CHECK_IS(FS_LISTEN(fd, 16), 0);
    for (int cpu = 0; cpu < 2; cpu++) {
        int client = client_on(cpu, fd), connection = taken(fd, 0);
        CHECK(connection >= 0);
        close(client);
        close(connection);
    }
    CHECK_IS(row_of(fd, 0).own, 1);
    CHECK_IS(shutdown(fd, SHUT_RD), 0);
    FAILS(accept(fd, NULL, NULL), EINVAL);
    close(fd);
}

static void a_core_has_its_own(void)
{
    for (int v6 = 0; v6 < 2; v6++) {
        int fd = listening(v6 ? "::1" : "127.0.0.1");
        CHECK_IS(FS_SPAWN(fd, 1), 0);
        for (int cpu = 0; cpu < 2; cpu++) /* no process has polled: all go to the global one */
            close(client_on(cpu, fd));
        UNTIL(row_of(fd, NO_CORE).queue == 2);
        for (int cpu = 0; cpu < 2; cpu++)
            close(taken(fd, 0));
        UNTIL(row_of(fd, 1).live);
        for (int i = 0; i < 10; i++)
            close(client_on(i % 2, fd));
        UNTIL(row_of(fd, 1).queue == 5 && row_of(fd, NO_CORE).queue == 5);
        for (int i = 0; i < 10; i++) {
            int connection = taken(fd, 0);
            CHECK(connection >= 0);
            close(connection);
        }
        CHECK_IS(row_of(fd, 1).own, 5);
        CHECK_IS(row_of(fd, 1).global, 5 + 2);
        CHECK_IS(row_of(fd, 1).queue + row_of(fd, NO_CORE).queue, 0);
        CHECK_IS(FS_CLOSE(fd), 0);
    }
}

static void plain_calls_work_on_it(void)
{
    int fd = listening("127.0.0.1");
    CHECK_IS(FS_SPAWN(fd, 0), 0);
    static const uint32_t modes[] = {EPOLLIN, EPOLLIN | EPOLLET, EPOLLIN | EPOLLEXCLUSIVE,
                                     EPOLLIN | EPOLLONESHOT};
    struct epoll_event event = {0};
    for (int m = 0; m < 4; m++)
        for (int cpu = 0; cpu < 2; cpu++) {
            int epoll = epoll_create1(EPOLL_CLOEXEC);
            event.events = modes[m];
            CHECK_IS(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), 0);
            UNTIL(row_of(fd, 0).live);
            CHECK_IS(epoll_wait(epoll, &event, 1, 0), 0);
            int client = client_on(cpu, fd);
            CHECK_IS(epoll_wait(epoll, &event, 1, 5000), 1);
            CHECK_IS(event.events, EPOLLIN);
            int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
            CHECK(connection >= 0);
            close(client);
            close(connection);
            close(epoll);
        }
    for (int cpu = 0; cpu < 2; cpu++) {
        int client = client_on(cpu, fd);
        fd_set set;
        FD_ZERO(&set);
        FD_SET(fd, &set);
        CHECK_IS(readable(fd, 0), 1);
        CHECK_IS(select(fd + 1, &set, NULL, NULL, NULL), 1);
        close(accept(fd, NULL, NULL));
        close(client);
        CHECK_IS(readable(fd, 0), 0);
    }
    CHECK_IS(row_of(fd, 0).own, 5);
    close(fd);
}

static void nothing(int signal)
{
    (void)signal;
}

static void *accepts_one(void *fd)
{
    return (void *)(long)accept(*(int *)fd, NULL, NULL);
}

static void a_blocking_accept_waits(void)
{
    int fd = listening("127.0.0.1"), connection;
    CHECK_IS(FS_SPAWN(fd, 0), 0);
    fcntl(fd, F_SETFL, 0);
    for (int cpu = 0; cpu < 2; cpu++) {
        pthread_t thread;
        CHECK_IS(pthread_create(&thread, NULL, accepts_one, &fd), 0);
        usleep(100000);
        int client = client_on(cpu, fd);
        void *accepted;
        CHECK_IS(pthread_join(thread, &accepted), 0);
        CHECK((long)accepted >= 0);
        close((int)(long)accepted);
        close(client);
    }
    struct timeval timeout = {.tv_usec = 50000}, none = {0};
    CHECK_IS(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout), 0);
    FAILS(FS_ACCEPT(fd, NULL, NULL, 0), EAGAIN);
    /* accept(2) restarts after a signal whose handler says so, except with a timeout: signal(7). */
    struct sigaction action = {.sa_handler = nothing}, before;
    struct itimerval soon = {.it_value = {.tv_usec = 50000}};
    CHECK_IS(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none), 0);
    sigaction(SIGALRM, &action, &before);
    setitimer(ITIMER_REAL, &soon, NULL);
    FAILS(FS_ACCEPT(fd, NULL, NULL, 0), EINTR);
    sigaction(SIGALRM, &before, NULL);
    connection = client_of(fd);
    CHECK(connection >= 0);
    close(taken(fd, 0));
    close(connection);
    close(fd);
}

static void run(void)
{
    static const struct test tests[] = {
        TEST(socket_is_socket),
        TEST(errors_are_those_of_the_calls),
        TEST(spawn_is_for_tcp_listeners),
        TEST(what_is_no_operation),
        TEST(accept_has_the_flags_of_accept4),
        TEST(accept_tells_the_address),
        TEST(shutdown_and_again),
        TEST(a_core_has_its_own),
        TEST(plain_calls_work_on_it),
        TEST(a_blocking_accept_waits),
    };
    run_each(tests, sizeof tests / sizeof *tests);
}
