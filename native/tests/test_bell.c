/* SPDX-License-Identifier: MIT
 *
 * Communication between processes: the bell that rings when claims change, a table that is received
 * instead of inherited, and the one of several waiters that a connection wakes.
 */
#include "check.h"

#include <sys/epoll.h>

static int ear(int bell)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = bell};
    int ep = epoll_create1(EPOLL_CLOEXEC);
    CHECK(ep >= 0);
    CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, bell, &event) == 0);
    return ep;
}

static int heard(int ep)
{
    struct epoll_event event;
    return epoll_wait(ep, &event, 1, 0);
}

/* Every change of the claims rings once for all processes; a call that changes nothing does not
 * ring. */
static void rings(struct fs_table *table)
{
    int ears[2] = {ear(fs_table_bell(table)), ear(fs_table_bell(table))};
    CHECK_IS(heard(ears[0]) | heard(ears[1]), 0);
    for (int change = 0; change < 4; change++) {
        if (change == 0)
            CHECK_IS(fs_table_claim(table, 1, -1), 1);
        else if (change == 1)
            CHECK_IS(fs_table_activate(table, 1, true), 0);
        else if (change == 2)
            CHECK_IS(fs_table_hand_over(table, 1, getppid()), 0);
        else
            CHECK_IS(fs_table_hand_over(table, 1, getpid()), 0);
        for (int i = 0; i < 2; i++) {
            CHECK_IS(heard(ears[i]), 1);
            CHECK_IS(heard(ears[i]), 0);
        }
    }
    CHECK_IS(fs_table_claim(table, 1, -1), 1); /* this thread has the slot already */
    CHECK_IS(fs_table_activate(table, 1, true), 0);
    CHECK_IS(fs_table_reap(table), 0);
    CHECK_IS(heard(ears[0]) | heard(ears[1]), 0);
    CHECK_IS(fs_table_release(table, 1), 0);
    CHECK_IS(heard(ears[0]) & heard(ears[1]), 1);
    close(ears[0]);
    close(ears[1]);
}

/* The table a second time, from duplicates of its descriptors. */
static void adopted(struct fs_table *table, int fd, uint32_t count)
{
    int slots[8];
    for (uint32_t i = 0; i < count; i++) {
        int slot = fs_table_fd(table, (int)i);
        slots[i] = slot == fd ? fd : dup(slot);
    }
    int memfd = dup(fs_table_page_fd(table)), bell = dup(fs_table_bell(table));
    struct fs_table *other = NULL;
    CHECK_IS(fs_table_adopt(&other, memfd, bell, fd, slots, count + 1), -EINVAL);
    CHECK_IS(fs_table_adopt(&other, bell, bell, fd, slots, count), -EINVAL);
    CHECK_IS(fs_table_adopt(&other, memfd, bell, fd, slots, count), 0);
    CHECK_IS(fs_table_claim(other, 0, -1), 0);
    CHECK_IS(fs_table_activate(other, 0, true), 0);
    CHECK_IS(slot_info(table, 0).pid, getpid());
    int client = client_of(fd);
    CHECK_IS(accept_all(other, 0, 0), 1);
    CHECK_IS(slot_info(table, 0).own, 1);
    close(client);
    CHECK_IS(fs_table_release(other, 0), 0);
    fs_table_free(other);
    CHECK(fs_table_fd(table, 0) >= 0);
}

static int waiter(int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    int ep = epoll_create1(EPOLL_CLOEXEC);
    CHECK_IS(fs_poll_exclusive(ep, fd, false), -ENOENT);
    CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event) == 0);
    CHECK_IS(fs_poll_exclusive(ep, fd, false), 0);
    return ep;
}

/* Two processes wait on one listener: the first registered is woken, the second only when the first
 * is not waiting. */
static void first_in_line(void)
{
    int fd = bound("127.0.0.1"), told[2];
    CHECK(listen(fd, 16) == 0);
    CHECK(pipe(told) == 0);
    int first = waiter(fd), second = waiter(fd);
    pid_t pid = fork();
    if (pid == 0) {
        struct epoll_event event;
        CHECK(write(told[1], "r", 1) == 1);
        if (epoll_wait(first, &event, 1, 10000) == 1 && accept(fd, NULL, NULL) >= 0)
            CHECK(write(told[1], "w", 1) == 1);
        for (;;)
            pause(); /* a handler that does not return */
    }
    char byte;
    CHECK(read(told[0], &byte, 1) == 1);
    usleep(50000); /* now the child waits; if not, it finds the connection at once */
    struct epoll_event event;
    int client = client_of(fd);
    CHECK(read(told[0], &byte, 1) == 1 && byte == 'w');
    CHECK_IS(epoll_wait(second, &event, 1, 0), 0);
    int next = client_of(fd);
    CHECK_IS(epoll_wait(second, &event, 1, 10000), 1);
    CHECK(kill(pid, SIGKILL) == 0);
    reap_child(pid);
    int fds[] = {client, next, first, second, told[0], told[1], fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        close(fds[i]);
}

static void run(void)
{
    int fd = bound("127.0.0.1");
    struct fs_table *table = make_table_on(fd, 2, FS_STEER_SPREAD);
    rings(table);
    adopted(table, fd, 2);
    fs_table_free(table);
    close(fd);

    fd = bound("127.0.0.1");
    struct fs_table_options options = {
        .slots = 2, .backlog = 16, .steer = FS_STEER_SPREAD, .flags = FS_FIRST_IS_SLOT};
    CHECK_IS(fs_table_create(&table, fd, &options), 0);
    adopted(table, fd, 2);
    fs_table_free(table);
    close(fd);
    first_in_line();
}
