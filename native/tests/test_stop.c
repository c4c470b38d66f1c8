/* SPDX-License-Identifier: MIT
 *
 * A full stop: clients that connected before are served, including silent clients of a deferring
 * listener; no client gets in afterwards. For root, and for a user without privileges.
 */
#include "check.h"

#include <stdatomic.h>
#include <sys/mman.h>

static int connect_later(int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    CHECK(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    int client = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK(connect(client, (struct sockaddr *)&address, len) < 0 && errno == EINPROGRESS);
    return client;
}

static void stop(const char *host)
{
    enum { SILENT = 5 };
    int fd = bound(host), seconds = 10, clients[SILENT];
    CHECK(setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof seconds) == 0);
    struct fs_table *table = make_table_on(fd, 2, FS_STEER_SPREAD);
    CHECK_IS(fs_table_half_open(table), 0);
    CHECK_IS(fs_table_activate(table, 1, true), 0);
    for (int i = 0; i < SILENT; i++)
        clients[i] = client_of(fd);
    /* The client is connected, but the server has a half-open request only: accept has nothing. */
    CHECK_IS(fs_table_queued(table, 1), 0);
    CHECK_IS(fs_table_half_open(table), SILENT);

    CHECK_IS(fs_table_stop_arrivals(table), 0);
    CHECK(table_info(table).stopping);
    CHECK_IS(fs_table_stop_arrivals(table), 0); /* as workers do when their supervisor dies */
    int late = connect_later(fd);
    int taken = 0;
    for (int waited = 0; fs_table_half_open(table) > 0 || fs_table_queued(table, 1) > 0; waited++) {
        CHECK(waited < 400); /* the kernel's own timer sends SYN|ACK again after a second */
        struct pollfd ready = {.fd = fs_table_fd(table, 1), .events = POLLIN};
        poll(&ready, 1, 25);
        taken += accept_all(table, FS_GLOBAL, 1);
    }
    CHECK_IS(taken, SILENT);
    /* The late client still waits, or was refused where an ordinary user may set no filter. */
    int error = 0;
    socklen_t error_len = sizeof error;
    struct pollfd still = {.fd = late, .events = POLLOUT};
    if (poll(&still, 1, 0) > 0) {
        CHECK(geteuid() != 0);
        CHECK_IS(getsockopt(late, SOL_SOCKET, SO_ERROR, &error, &error_len), 0);
        CHECK_IS(error, ECONNREFUSED);
    }
    close(late);

    /* All are served: another server may have the address, while ours is still open. */
    CHECK_IS(fs_table_shutdown(table), 0);
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    int on = 1;
    CHECK(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    int next = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(next, (struct sockaddr *)&address, len) < 0 && errno == ECONNREFUSED);
    close(next);
    next = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(setsockopt(next, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    CHECK(bind(next, (struct sockaddr *)&address, len) == 0 && listen(next, 8) == 0);
    close(next);
    for (int i = 0; i < SILENT; i++)
        close(clients[i]);
    fs_table_free(table);
    close(fd);
}

/* Workers stop at the same time when their supervisor dies. */
static void stop_together(void)
{
    atomic_int *there =
        mmap(NULL, sizeof *there, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(there != MAP_FAILED);
    for (int round = 0; round < 100; round++) {
        int fd = bound("127.0.0.1");
        struct fs_table *table = make_table_on(fd, 8, FS_STEER_SPREAD);
        atomic_store(there, 0);
        pid_t pid = fork();
        atomic_fetch_add(there, 1);
        while (atomic_load(there) < 2)
            ;
        int done = fs_table_stop_arrivals(table);
        if (pid == 0)
            _exit(-done);
        int status;
        CHECK_IS(done, 0);
        CHECK_IS(waitpid(pid, &status, 0), pid);
        CHECK_IS(status, 0);
        fs_table_free(table);
        close(fd);
    }
    munmap(there, sizeof *there);
}

static void run(void)
{
    stop("127.0.0.1");
    stop("::1");
    if (geteuid() != 0)
        return;
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(setuid(65534) == 0);
        stop("127.0.0.1");
        stop("::1");
        stop_together();
        exit(0);
    }
    int status;
    CHECK_IS(waitpid(pid, &status, 0), pid);
    CHECK_IS(status, 0);
}
