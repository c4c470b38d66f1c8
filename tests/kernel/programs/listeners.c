/* SPDX-License-Identifier: MIT
 *
 * A listener on /dev/fastsocket keeps its port, user, namespace, options and neighbours. Calls are
 * refused if a local listener could not follow them as the global one does.
 */
#include "device.h"

#include <pthread.h>

enum { CLIENTS = 40 };

static void a_port_that_needed_root(void)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(80), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK_IS(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_IS(FS_LISTEN(fd, 64), 0);
    pid_t pid = forked();
    if (pid == 0) {
        CHECK(setgid(65534) == 0 && setuid(65534) == 0);
        int other = FS_SOCKET(AF_INET, SOCK_STREAM, 0);
        address.sin_port = htons(81);
        FAILS(bind(other, (struct sockaddr *)&address, sizeof address), EACCES);
        CHECK_IS(FS_SPAWN(fd, 1), 0);
        CHECK_IS(readable(fd, 0), 0);
        UNTIL(row_of(fd, 1).live);
        /* Another user's address is in use, with the option or without. */
        int on = 1;
        address.sin_port = htons(80);
        CHECK_IS(setsockopt(other, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on), 0);
        errno = 0;
        CHECK(bind(other, (struct sockaddr *)&address, sizeof address) == -1);
        FAILS(FS_SPAWN(777, -1), EBADF); /* a listener that it does not hold */
        close(client_on(1, fd));
        close(taken(fd, 0));
        CHECK_IS(row_of(fd, 1).own, 1);
        _exit(0);
    }
    ends_well(pid);
    close(fd);
}

static void a_port_of_another_user(void)
{
    int fd = -1, fds[2];
    struct sockaddr_in name;
    socklen_t length = sizeof name;
    CHECK_IS(pipe(fds), 0);
    pid_t pid = forked();
    if (pid == 0) {
        CHECK_IS(setuid(65534), 0);
        fd = listening("127.0.0.1");
        CHECK_IS(FS_SPAWN(fd, 0), 0);
        CHECK_IS(getsockname(fd, (struct sockaddr *)&name, &length), 0);
        CHECK_IS(write(fds[1], &name, sizeof name), sizeof name);
        pause();
    }
    CHECK_IS(read(fds[0], &name, sizeof name), sizeof name);
    int on = 1;
    fd = FS_SOCKET(AF_INET, SOCK_STREAM, 0);
    CHECK_IS(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on), 0);
    FAILS(bind(fd, (struct sockaddr *)&name, sizeof name), EADDRINUSE);
    killed(pid);
    close(fd);
    close(fds[0]);
    close(fds[1]);
}

/* A local listener is in its listener's namespace, wherever its owner is. */
static void a_listener_keeps_its_namespace(void)
{
    int fd = listening("127.0.0.1"), ready[2], go[2];
    char byte = 0;
    CHECK(pipe(ready) == 0 && pipe(go) == 0);
    pid_t pid = forked();
    if (pid == 0) {
        CHECK_IS(unshare(CLONE_NEWNET), 0);
        CHECK_IS(FS_SPAWN(fd, 0), 0);
        CHECK_IS(readable(fd, 0), 0);
        CHECK_IS(write(ready[1], &byte, 1), 1);
        CHECK_IS(readable(fd, 10000), 1);
        int connection = taken(fd, 0);
        CHECK(connection >= 0);
        CHECK_IS(row_of(fd, 0).found, 0); /* our /proc/net is another namespace's */
        CHECK_IS(write(connection, "x", 1), 1);
        CHECK_IS(read(go[0], &byte, 1), 1);
        _exit(0);
    }
    CHECK_IS(read(ready[0], &byte, 1), 1);
    UNTIL(row_of(fd, 0).live);
    int client = client_on(0, fd);
    CHECK_IS(read(client, &byte, 1), 1);
    CHECK_IS(row_of(fd, 0).own, 1);
    CHECK_IS(write(go[1], &byte, 1), 1);
    ends_well(pid);
    close(client);
    close(fd);
    for (int i = 0; i < 2; i++) {
        close(ready[i]);
        close(go[i]);
    }
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t length = sizeof value;
    CHECK_IS(getsockopt(fd, level, name, &value, &length), 0);
    return value;
}

static void set(int fd, int level, int name, int value)
{
    CHECK_IS(setsockopt(fd, level, name, &value, sizeof value), 0);
}

static void options_are_copied(void)
{
    static const int options[][3] = {
        {SOL_SOCKET, SO_KEEPALIVE, 1},    {SOL_SOCKET, SO_RCVBUF, 65536},
        {SOL_SOCKET, SO_SNDBUF, 131072},  {SOL_SOCKET, SO_PRIORITY, 5},
        {SOL_SOCKET, SO_MARK, 7},         {SOL_SOCKET, SO_OOBINLINE, 1},
        {IPPROTO_TCP, TCP_NODELAY, 1},    {IPPROTO_TCP, TCP_KEEPIDLE, 77},
        {IPPROTO_TCP, TCP_KEEPINTVL, 11}, {IPPROTO_TCP, TCP_KEEPCNT, 3},
        {IPPROTO_TCP, TCP_MAXSEG, 1000},  {IPPROTO_TCP, TCP_USER_TIMEOUT, 4321},
        {IPPROTO_TCP, TCP_LINGER2, 9},    {IPPROTO_TCP, TCP_NOTSENT_LOWAT, 4096},
        {IPPROTO_IP, IP_TOS, 0x10},       {IPPROTO_IP, IP_TTL, 33},
    };
    enum { N = sizeof options / sizeof *options };
    for (int late = 0; late < 2; late++) {
        int fd = listening("127.0.0.1"), plain = bound("127.0.0.1");
        CHECK_IS(listen(plain, 8), 0);
        if (late) {
            CHECK_IS(FS_SPAWN(fd, 0), 0);
            CHECK_IS(readable(fd, 0), 0);
            UNTIL(row_of(fd, 0).live);
        }
        for (int i = 0; i < N; i++) {
            set(fd, options[i][0], options[i][1], options[i][2]);
            set(plain, options[i][0], options[i][1], options[i][2]);
        }
        CHECK_IS(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4), 0);
        CHECK_IS(FS_SPAWN(fd, 0), 0);
        CHECK_IS(readable(fd, 0), 0);
        UNTIL(row_of(fd, 0).live);
        int one = client_on(0, fd), connection = taken(fd, 0);
        int two = client_of(plain), expected = accept(plain, NULL, NULL);
        CHECK_IS(row_of(fd, 0).own, 1);
        for (int i = 0; i < N; i++) {
            int want = option(expected, options[i][0], options[i][1]);
            int have = option(connection, options[i][0], options[i][1]);
            if (want != have)
                fprintf(stderr, "late %d: option %d of level %d\n", late, options[i][1],
                        options[i][0]);
            CHECK_IS(have, want);
        }
        char name[16] = "";
        socklen_t length = sizeof name;
        CHECK_IS(getsockopt(connection, IPPROTO_TCP, TCP_CONGESTION, name, &length), 0);
        CHECK_IS(strcmp(name, "reno"), 0);
        close(one);
        close(two);
        close(connection);
        close(expected);
        close(fd);
        close(plain);
    }
    /* Deferred accept, set when the local listener exists: silent clients are not reported. */
    int fd = listening("127.0.0.1");
    CHECK_IS(FS_SPAWN(fd, 0), 0);
    CHECK_IS(readable(fd, 0), 0);
    UNTIL(row_of(fd, 0).live);
    set(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5);
    int client = client_on(0, fd);
    CHECK_IS(readable(fd, 300), 0);
    CHECK_IS(write(client, "x", 1), 1);
    CHECK_IS(readable(fd, 5000), 1);
    close(taken(fd, 0));
    CHECK_IS(row_of(fd, 0).own, 1);
    close(client);
    close(fd);
}

struct acceptor {
    int fd, count;
};

static void *accepts(void *context)
{
    struct acceptor *a = context;
    for (;;) {
        char byte;
        int connection = FS_ACCEPT(a->fd, NULL, NULL, 0);
        CHECK(connection >= 0);
        long got = read(connection, &byte, 1);
        close(connection);
        if (got == 0)
            return NULL;
        a->count++;
    }
}

static void threads_share_the_process_s(void)
{
    enum { THREADS = 8, EACH = 200 };
    int fd = listening("127.0.0.1");
    fcntl(fd, F_SETFL, 0);
    CHECK_IS(FS_SPAWN(fd, -1), 0);
    pthread_t threads[THREADS];
    struct acceptor acceptors[THREADS] = {0};
    for (int i = 0; i < THREADS; i++) {
        acceptors[i].fd = fd;
        CHECK_IS(pthread_create(&threads[i], NULL, accepts, &acceptors[i]), 0);
    }
    for (int i = 0; i < EACH; i++) {
        int client = client_on(i % 2, fd);
        CHECK_IS(write(client, "x", 1), 1);
        close(client);
    }
    int total = 0;
    for (int i = 0; i < THREADS; i++)
        close(client_of(fd)); /* a client that sends nothing ends a thread */
    for (int i = 0; i < THREADS; i++) {
        CHECK_IS(pthread_join(threads[i], NULL), 0);
        total += acceptors[i].count;
    }
    CHECK_IS(total, EACH);
    close(fd);
}

/* The parameter `pin`: a thread that spawns is bound to the core, but its mask is never widened. */
static void pinned_if_asked(void)
{
    int file = open("/sys/module/fastsocket/parameters/pin", O_RDWR);
    CHECK_IS(write(file, "Y", 1), 1);
    pid_t pid = forked();
    if (pid == 0) {
        cpu_set_t set;
        int fd = listening("127.0.0.1");
        CHECK_IS(FS_SPAWN(fd, 1), 0);
        CHECK_IS(sched_getaffinity(0, sizeof set, &set), 0);
        CHECK(CPU_COUNT(&set) == 1 && CPU_ISSET(1, &set));
        CHECK_IS(FS_SPAWN(fd, 0), 0);
        CHECK_IS(sched_getaffinity(0, sizeof set, &set), 0);
        CHECK(CPU_COUNT(&set) == 1 && CPU_ISSET(1, &set));
        int other = listening("127.0.0.1");
        CHECK_IS(FS_SPAWN(other, -1), 0); /* the next core that it may run on: its own */
        CHECK_IS(row_of(other, 1).found, 1);
        CHECK_IS(row_of(other, 0).found, 0);
        _exit(0);
    }
    int status;
    CHECK_IS(waitpid(pid, &status, 0), pid);
    CHECK_IS(pwrite(file, "N", 1, 0), 1);
    close(file);
    CHECK_IS(status, 0);
}

/* accept(2) fails after the new socket was given the listener's operations, before we are called.
 */
static void an_accept_that_fails_early(void)
{
    char limit[32] = "";
    int fd = listening("127.0.0.1"), file = open("/proc/sys/fs/file-max", O_RDWR);
    CHECK_IS(FS_SPAWN(fd, -1), 0);
    CHECK(read(file, limit, sizeof limit - 1) > 0);
    int client = client_of(fd);
    CHECK_IS(readable(fd, 5000), 1);
    CHECK_IS(pwrite(file, "1", 1, 0), 1);
    pid_t pid = forked();
    int status, refused = 0;
    if (pid == 0) { /* root has no such limit */
        CHECK_IS(setuid(65534), 0);
        for (int i = 0; i < 20; i++)
            refused += accept4(fd, NULL, NULL, 0) < 0 && errno == ENFILE;
        for (int i = 0; i < 20; i++)
            refused += FS_ACCEPT(fd, NULL, NULL, 0) < 0 && errno == ENFILE;
        _exit(refused == 40 ? 0 : 1);
    }
    CHECK_IS(waitpid(pid, &status, 0), pid);
    CHECK(pwrite(file, limit, strlen(limit), 0) > 0);
    CHECK_IS(status, 0);
    close(taken(fd, 0));
    CHECK_IS(row_of(fd, NO_CORE).found, 1);
    close(client);
    close(file);
    close(fd);
}

static int key_for(int fd, const char *key)
{
    struct tcp_md5sig md5 = {.tcpm_keylen = (uint16_t)strlen(key)};
    struct sockaddr_in *peer = (struct sockaddr_in *)&md5.tcpm_addr;
    *peer = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0a000001)};
    memcpy(md5.tcpm_key, key, strlen(key));
    return setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &md5, sizeof md5);
}

/* Calls that a local listener could not follow as the global one does. */
static void what_cannot_be_copied_is_refused(void)
{
    int family = AF_INET, fd = listening("127.0.0.1"), keyed = bound("127.0.0.1");
    CHECK_IS(FS_SPAWN(fd, -1), 0);
    FAILS(setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 3), EOPNOTSUPP);
    FAILS(setsockopt(fd, IPPROTO_IPV6, IPV6_ADDRFORM, &family, sizeof family), EOPNOTSUPP);
    FAILS(key_for(fd, "secret"), EOPNOTSUPP);
    if (key_for(keyed, "secret") == 0) {
        CHECK_IS(FS_LISTEN(keyed, 5), 0);
        FAILS(FS_SPAWN(keyed, -1), EOPNOTSUPP);
    }
    close(fd);
    close(keyed);
}

static void a_dissolved_listener_serves_nobody(void)
{
    int fd = listening("127.0.0.1");
    struct sockaddr_in name, none = {.sin_family = AF_UNSPEC};
    socklen_t length = sizeof name;
    CHECK_IS(getsockname(fd, (struct sockaddr *)&name, &length), 0);
    CHECK_IS(FS_SPAWN(fd, 0), 0);
    CHECK_IS(readable(fd, 0), 0);
    UNTIL(row_of(fd, 0).live);
    FAILS(connect(fd, (struct sockaddr *)&name, length), EISCONN);
    CHECK_IS(connect(fd, (struct sockaddr *)&none, sizeof none), 0);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    FAILS(connect(client, (struct sockaddr *)&name, length), ECONNREFUSED);
    close(client);
    close(fd);
}

/* Another server of the same user that sets SO_REUSEPORT gets its share, and all after our end. */
static void strangers_beside_us(void)
{
    int on = 1, fd = listening("127.0.0.1"), ours = 0, theirs = 0;
    struct sockaddr_in name;
    socklen_t length = sizeof name;
    CHECK_IS(getsockname(fd, (struct sockaddr *)&name, &length), 0);
    CHECK_IS(FS_SPAWN(fd, 0), 0);
    CHECK_IS(readable(fd, 0), 0);
    UNTIL(row_of(fd, 0).live);
    int stranger = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK_IS(setsockopt(stranger, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on), 0);
    CHECK_IS(bind(stranger, (struct sockaddr *)&name, length), 0);
    CHECK_IS(listen(stranger, 512), 0);
    for (int i = 0; i < 2 * CLIENTS; i++) { /* arrivals at a local listener reveal the stranger */
        int client = client_on(i % 2, fd);
        UNTIL(readable(fd, 0) || readable(stranger, 0));
        int mine = readable(fd, 0);
        close(mine ? taken(fd, 0) : accept(stranger, NULL, NULL));
        ours += mine;
        theirs += !mine;
        close(client);
    }
    CHECK(ours > 0 && theirs > 0);
    close(fd);
    for (int cpu = 0; cpu < 2; cpu++) {
        int client = client_on(cpu, stranger);
        CHECK_IS(readable(stranger, 5000), 1);
        close(accept(stranger, NULL, NULL));
        close(client);
    }
    close(stranger);
}

/* After a shutdown, the remaining servers share new connections, by the kernel's choice. */
static void strangers_after_us(void)
{
    int on = 1, fd = listening("127.0.0.1"), strangers[2], counts[2] = {0};
    struct sockaddr_in name;
    socklen_t length = sizeof name;
    CHECK_IS(getsockname(fd, (struct sockaddr *)&name, &length), 0);
    CHECK_IS(FS_SPAWN(fd, 0), 0);
    CHECK_IS(FS_SPAWN(fd, 1), 0);
    CHECK_IS(readable(fd, 0), 0);
    UNTIL(row_of(fd, 1).live);
    for (int i = 0; i < 2; i++) {
        strangers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        CHECK_IS(setsockopt(strangers[i], SOL_SOCKET, SO_REUSEPORT, &on, sizeof on), 0);
        CHECK_IS(bind(strangers[i], (struct sockaddr *)&name, length), 0);
        CHECK_IS(listen(strangers[i], 512), 0);
    }
    CHECK_IS(FS_SHUTDOWN(fd, SHUT_RD), 0);
    for (int i = 0; i < 2 * CLIENTS; i++) {
        int client = client_on(1, strangers[0]);
        UNTIL(readable(strangers[0], 0) || readable(strangers[1], 0));
        int which = !readable(strangers[0], 0);
        counts[which]++;
        close(accept(strangers[which], NULL, NULL));
        close(client);
    }
    CHECK(counts[0] > 0 && counts[1] > 0);
    close(fd);
    close(strangers[0]);
    close(strangers[1]);
}

static void run(void)
{
    static const struct test tests[] = {
        TEST(a_port_that_needed_root),
        TEST(a_port_of_another_user),
        TEST(a_listener_keeps_its_namespace),
        TEST(options_are_copied),
        TEST(threads_share_the_process_s),
        TEST(pinned_if_asked),
        TEST(an_accept_that_fails_early),
        TEST(what_cannot_be_copied_is_refused),
        TEST(a_dissolved_listener_serves_nobody),
        TEST(strangers_beside_us),
        TEST(strangers_after_us),
    };
    run_each(tests, sizeof tests / sizeof *tests);
}
