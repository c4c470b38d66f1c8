/* SPDX-License-Identifier: MIT
 *
 * Attacks of one user on others with /dev/fastsocket: taking ports, or stopping calls.
 */
#include "device.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

enum { CONNECTIONS = 3000 };

static int listener;
static atomic_bool over;

static void *listens_again(void *unused)
{
    (void)unused;
    for (int i = 0; !over; i++)
        CHECK_IS(FS_LISTEN(listener, 256 + i % 2), 0);
    return NULL;
}

static void *connects(void *unused)
{
    (void)unused;
    on_core(1);
    for (int i = 0; i < CONNECTIONS / slow(); i++)
        close(client_of(listener));
    over = true;
    return NULL;
}

/* A local listener is bound with a force that a connection must not inherit: with SO_REUSEADDR at
 * 2, a disconnected one could be bound next to any user's listener. */
static void no_connection_may_bind_anywhere(void)
{
    pthread_t threads[2];
    listener = listening("127.0.0.1");
    over = false;
    CHECK_IS(FS_SPAWN(listener, 1), 0);
    CHECK_IS(readable(listener, 0), 0);
    UNTIL(row_of(listener, 1).live);
    CHECK_IS(pthread_create(&threads[0], NULL, listens_again, NULL), 0);
    CHECK_IS(pthread_create(&threads[1], NULL, connects, NULL), 0);
    on_core(0);
    int own = -1, value = -1;
    socklen_t length = sizeof own;
    CHECK_IS(getsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &own, &length), 0);
    while (!over || readable(listener, 100)) {
        int fd = FS_ACCEPT(listener, NULL, NULL, SOCK_NONBLOCK);
        if (fd < 0)
            continue;
        CHECK_IS(getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, &length), 0);
        CHECK_IS(value, own);
        close(fd);
    }
    for (int i = 0; i < 2; i++)
        CHECK_IS(pthread_join(threads[i], NULL), 0);
    on_any_core();
    close(listener);
}

static char *absent; /* a page that does not come: userfaultfd(2) */

static void *sets_an_option(void *unused)
{
    (void)unused;
    setsockopt(listener, IPPROTO_IP, IP_OPTIONS, absent, 4); /* copies it under the socket's lock */
    return NULL;
}

static void *spawns(void *unused)
{
    (void)unused;
    FS_SPAWN(listener, 0);
    return NULL;
}

static void a_listener_that_is_stuck_stops_no_other(void)
{
    long page = sysconf(_SC_PAGESIZE);
    pthread_t threads[2];
    int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    struct uffdio_api api = {.api = UFFD_API};
    CHECK(uffd >= 0);
    CHECK_IS(ioctl(uffd, UFFDIO_API, &api), 0);
    absent = mmap(NULL, (size_t)page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(absent != MAP_FAILED);
    struct uffdio_register where = {
        .range = {.start = (unsigned long)absent, .len = (unsigned long)page},
        .mode = UFFDIO_REGISTER_MODE_MISSING};
    CHECK_IS(ioctl(uffd, UFFDIO_REGISTER, &where), 0);

    listener = bound("127.0.0.1");
    CHECK_IS(listen(listener, 5), 0); /* the device has not seen it yet */
    CHECK_IS(pthread_create(&threads[0], NULL, sets_an_option, NULL), 0);
    struct uffd_msg fault;
    CHECK_IS(read(uffd, &fault, sizeof fault), sizeof fault); /* it waits, and has the lock */
    CHECK_IS(pthread_create(&threads[1], NULL, spawns, NULL), 0);
    usleep(200000);

    int other = listening("127.0.0.1"), another = listening("127.0.0.1");
    CHECK_IS(FS_SPAWN(other, 0), 0);
    CHECK_IS(FS_SPAWN(another, 0), 0);
    CHECK_IS(readable(other, 0), 0);
    close(client_on(0, other));
    close(taken(other, 0));
    CHECK_IS(FS_CLOSE(another), 0);
    close(other);

    struct uffdio_zeropage page_comes = {.range = where.range};
    CHECK_IS(ioctl(uffd, UFFDIO_ZEROPAGE, &page_comes), 0);
    for (int i = 0; i < 2; i++)
        CHECK_IS(pthread_join(threads[i], NULL), 0);
    CHECK_IS(munmap(absent, (size_t)page), 0);
    close(uffd);
    close(listener);
}

/* Not hostile, but another way to wait: a process that is notified by a signal. */
static void who_waits_for_sigio_is_told(void)
{
    sigset_t set;
    struct timespec limit = {.tv_sec = 60};
    sigemptyset(&set);
    sigaddset(&set, SIGIO);
    CHECK_IS(sigprocmask(SIG_BLOCK, &set, NULL), 0);
    int fd = listening("127.0.0.1");
    CHECK_IS(FS_SPAWN(fd, 1), 0);
    FAILS(FS_ACCEPT(fd, NULL, NULL, SOCK_NONBLOCK), EAGAIN);
    UNTIL(row_of(fd, 1).live);
    CHECK_IS(fcntl(fd, F_SETOWN, getpid()), 0);
    CHECK_IS(fcntl(fd, F_SETFL, O_NONBLOCK | O_ASYNC), 0);
    int client = client_on(1, fd);
    CHECK_IS(row_of(fd, 1).queue, 1);
    CHECK_IS(sigtimedwait(&set, NULL, &limit), SIGIO);
    close(taken(fd, 0));
    close(client);
    close(fd);
}

static void run(void)
{
    static const struct test tests[] = {
        TEST(no_connection_may_bind_anywhere),
        TEST(a_listener_that_is_stuck_stops_no_other),
        TEST(who_waits_for_sigio_is_told),
    };
    run_each(tests, sizeof tests / sizeof *tests);
}
