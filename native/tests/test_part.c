/* SPDX-License-Identifier: MIT
 *
 * One thread's part in a table: the sources that it has polled, and when; the slots of owners that
 * end; tables from which no thread may claim any more.
 */
#include "check.h"

#include <sys/epoll.h>

/* A poller that only notes its calls. */
struct book {
    bool polled[64], edge[64];
    bool global, bell, neighbour;
    int adds;
};

static int note(struct book *book, int source, bool on)
{
    if (source == FS_BELL)
        book->bell = on;
    else if (source == FS_NEIGHBOUR)
        book->neighbour = on;
    else if (source == FS_GLOBAL)
        book->global = on;
    else
        book->polled[source] = on;
    book->adds += on;
    return 0;
}

static int add(void *context, int fd, int source, bool edge)
{
    CHECK(fd >= 0);
    if (source >= 0)
        ((struct book *)context)->edge[source] = edge;
    return note(context, source, true);
}

static void removed(void *context, int fd, int source)
{
    CHECK(fd >= 0);
    note(context, source, false);
}

static void arm(void *context, int fd, int source, bool on)
{
    (void)context, (void)fd, (void)source, (void)on;
}

static const struct fs_poller poller = {.add = add, .remove = removed, .arm = arm};

/* As a real poller does it: first the added descriptors are polled, and only then do connections
 * arrive. */
static void sync_and_activate(struct fs_part *part)
{
    int rc = fs_part_sync(part);
    CHECK(rc == 0 || rc == 1);
    if (rc == 1)
        CHECK_IS(fs_part_activate(part), 0);
}

static struct fs_part *part_of(struct fs_table *table, struct book *book)
{
    struct fs_part *part = NULL;
    *book = (struct book){0};
    CHECK_IS(fs_part_open(&part, table, FS_GLOBAL, false, &poller, book), 0);
    CHECK(book->bell);
    CHECK(fs_part_stale(part));
    sync_and_activate(part);
    return part;
}

static void end(struct fs_part *part, const struct book *book)
{
    fs_part_close(part);
    CHECK(!book->bell && !book->neighbour && !book->global);
    for (int i = 0; i < 64; i++)
        CHECK(!book->polled[i]);
    fs_part_free(part);
}

/* A child that claims a slot, says so, and waits to be killed. */
static pid_t owner_elsewhere(struct fs_table *table)
{
    int told[2];
    char byte;
    CHECK(pipe(told) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct book book;
        part_of(table, &book);
        CHECK(write(told[1], "x", 1) == 1);
        for (;;)
            pause();
    }
    CHECK(read(told[0], &byte, 1) == 1);
    close(told[0]);
    close(told[1]);
    return pid;
}

static void claims(void)
{
    int fd = bound("127.0.0.1");
    struct fs_table *table = make_table_on(fd, 3, FS_STEER_SPREAD);
    struct book mine, second;
    CHECK(!fs_table_claimed(table));
    pid_t pid = owner_elsewhere(table);
    CHECK(fs_table_claimed(table));
    struct fs_part *part = part_of(table, &mine);
    CHECK_IS(fs_part_slot(part), 1);
    CHECK(slot_info(table, 1).live);
    /* It polls its own slot and the sibling's, but no slot that was never claimed; and it watches
     * its neighbour. */
    CHECK(mine.polled[0] && mine.polled[1] && !mine.polled[2] && mine.neighbour);
    CHECK_IS(fs_part_sync(part), 0);
    CHECK(!fs_part_stale(part));
    int adds = mine.adds;
    CHECK_IS(fs_part_sync(part), 0);
    CHECK_IS(mine.adds, adds);

    /* The owner dies: no new connections go to its slot, which is an orphan. */
    CHECK(kill(pid, SIGKILL) == 0);
    reap_child(pid);
    fs_part_heed(part, FS_NEIGHBOUR);
    CHECK_IS(slot_info(table, 0).pid, 0);
    CHECK(!slot_info(table, 0).live);
    CHECK(fs_part_stale(part));
    CHECK_IS(fs_part_sync(part), 0);
    CHECK(mine.polled[0] && !mine.neighbour);

    /* A second part of this process, and one part too many: that one has no slot, and polls all
     * slots. */
    struct fs_part *other = part_of(table, &second);
    CHECK_IS(fs_part_slot(other), 0);
    struct fs_part *third = part_of(table, &(struct book){0});
    CHECK_IS(fs_part_slot(third), 2);
    struct book last;
    struct fs_part *fourth = part_of(table, &last);
    CHECK_IS(fs_part_slot(fourth), FS_GLOBAL);
    CHECK(last.polled[0] && last.polled[1] && last.polled[2]);
    /* A slot that was given up is looked after by the others, and free to claim. */
    end(other, &second);
    CHECK_IS(fs_part_sync(fourth), 1);
    CHECK(!slot_info(table, 0).live);
    CHECK_IS(fs_part_activate(fourth), 0);
    CHECK_IS(fs_part_slot(fourth), 0);
    end(fourth, &last);
    fs_part_close(third);
    fs_part_free(third);
    end(part, &mine);
    fs_table_free(table);
    close(fd);
}

/* The sources of a part: each row of the table at the head of core/part.c. */
static void sources(void)
{
    int fd = bound("127.0.0.1"), order[33];
    struct fs_table *table = make_table_on(fd, 32, FS_STEER_SPREAD);
    struct book book = {0}, others[20];
    struct fs_part *part = NULL, *siblings[20];
    for (int i = 0; i < 20; i++)
        siblings[i] = part_of(table, &others[i]);
    CHECK_IS(fs_part_open(&part, table, FS_GLOBAL, true, &poller, &book), 0);
    sync_and_activate(part);
    CHECK_IS(fs_part_slot(part), 20);
    CHECK(book.polled[20] && !book.edge[20] && book.global);
    CHECK(!book.polled[21]);
    for (int i = 0; i < 20; i++) { /* only the next FS_SIBLINGS siblings */
        CHECK(book.polled[i] == (i < FS_SIBLINGS));
        CHECK(book.edge[i] == book.polled[i]);
    }
    /* A slot whose owner does not wait there, and a slot that was given up: both are orphans. */
    CHECK_IS(fs_table_activate(table, 3, false), 0);
    fs_part_close(siblings[18]);
    sync_and_activate(part);
    CHECK(book.polled[3] && !book.edge[3] && book.polled[18] && !book.edge[18]);
    CHECK(book.polled[FS_SIBLINGS]); /* one more sibling instead of slot 3 */
    CHECK_IS(fs_part_may_take(part, 20, 7), 7);
    CHECK_IS(fs_part_may_take(part, 3, 7), 7);
    CHECK_IS(fs_part_may_take(part, 18, 7), 7);
    CHECK_IS(fs_part_may_take(part, FS_GLOBAL, 7), 7);
    CHECK_IS(fs_part_may_take(part, 4, 7), 0);  /* nothing waits at this sibling's slot */
    CHECK_IS(fs_part_may_take(part, 25, 7), 0); /* never claimed */
    CHECK_IS(fs_part_may_take(part, 99, 7), 0);
    uint32_t count = fs_part_sources(part, order);
    CHECK_IS(count, 1 + 2 + FS_SIBLINGS + 1);
    CHECK(order[0] == 20 && order[1] == 3 && order[2] == 18 && order[count - 1] == FS_GLOBAL);

    /* A resting part polls nothing except the bell. */
    fs_part_rest(part);
    CHECK_IS(fs_part_sync(part), 0);
    for (int i = 0; i < 32; i++)
        CHECK(!book.polled[i]);
    CHECK(!book.global && book.bell && !slot_info(table, 20).live);
    fs_part_resume(part);
    CHECK_IS(fs_part_sync(part), 1);
    CHECK_IS(fs_part_activate(part), 0);
    CHECK(book.polled[20] && slot_info(table, 20).live);
    for (int i = 0; i < 20; i++) {
        if (i != 18)
            fs_part_close(siblings[i]);
        fs_part_free(siblings[i]);
    }
    end(part, &book);
    fs_table_free(table);
    close(fd);
}

/* A slot that other code claims, activates and releases; slot 0 is the listener itself. */
static void given(void)
{
    int fd = bound("127.0.0.1");
    struct fs_table_options options = {.slots = 2,
                                       .backlog = 64,
                                       .steer = FS_STEER_SPREAD,
                                       .flags = FS_FIRST_IS_SLOT | FS_SUPERVISED};
    struct fs_table *table = NULL;
    struct fs_part *part = NULL;
    struct book book = {0};
    CHECK_IS(fs_table_create(&table, fd, &options), 0);
    CHECK_IS(fs_part_open(&part, table, 2, true, &poller, &book), -EINVAL);
    CHECK_IS(fs_part_open(&part, table, 0, true, &poller, &book), 0);
    CHECK_IS(fs_part_sync(part), 0);
    CHECK(book.polled[0] && !book.global && !book.polled[1]);
    CHECK_IS(slot_info(table, 0).pid, 0);
    CHECK_IS(fs_part_activate(part), 0);
    CHECK(!slot_info(table, 0).live);
    CHECK_IS(fs_table_claim(table, 0, -1), 0);
    CHECK_IS(fs_table_activate(table, 0, true), 0);
    CHECK_IS(fs_part_sync(part), 0);
    end(part, &book);
    CHECK_IS(slot_info(table, 0).pid, getpid());
    fs_table_free(table);
    close(fd);
}

/* A claim for counting only: nothing arrives, but the slot is polled for earlier connections. */
static void parked(void)
{
    int fd = bound("127.0.0.1");
    struct fs_table *table = make_table_on(fd, 2, FS_STEER_SPREAD);
    struct book book = {0};
    struct fs_part *part = NULL;
    CHECK_IS(fs_part_open(&part, table, FS_GLOBAL, false, &poller, &book), 0);
    fs_part_park(part);
    CHECK_IS(fs_part_sync(part), 0);
    CHECK_IS(fs_part_slot(part), 0);
    CHECK(!slot_info(table, 0).live && book.polled[0]);
    fs_part_rest(part);
    CHECK(!book.polled[0]);
    CHECK_IS(slot_info(table, 0).pid, getpid());
    CHECK(fs_part_stale(part));
    end(part, &book);
    fs_table_free(table);
    close(fd);
}

/* No thread may claim any more: because a process blocks in accept, or because another process
 * listens too. */
static void nobody_claims(void)
{
    int fd = bound("127.0.0.1");
    struct fs_table *table = make_table_on(fd, 2, FS_STEER_SPREAD);
    struct book book;
    CHECK_IS(fs_table_freeze(table), 0);
    struct fs_part *part = part_of(table, &book);
    CHECK_IS(fs_part_slot(part), FS_GLOBAL);
    CHECK(!fs_table_claimed(table));
    end(part, &book);
    fs_table_free(table);
    close(fd);

    int on = 1, first = bound("127.0.0.1"), second = bound("127.0.0.1"), served[2] = {0};
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    CHECK(setsockopt(first, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0);
    CHECK(getsockname(first, (struct sockaddr *)&address, &length) == 0);
    close(second);
    second = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(setsockopt(second, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0);
    CHECK(setsockopt(second, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    table = make_table_on(first, 4, FS_STEER_SPREAD);
    part = part_of(table, &book);
    CHECK_IS(fs_table_freeze(table), -EBUSY);
    CHECK(bind(second, (struct sockaddr *)&address, length) == 0);
    CHECK(listen(second, 512) == 0);
    CHECK_IS(fs_table_yield(fs_table_page_fd(table), second, true), 0);
    CHECK(table_info(table).frozen);
    CHECK_IS(fs_part_sync(part), 0);
    CHECK_IS(fs_part_slot(part), FS_GLOBAL);
    for (int i = 0; i < 4; i++)
        CHECK(book.polled[i]); /* connections may still be in a queue */
    /* Both get about half: the chance of fewer than 50 of 200 is one in 10^12. */
    int clients[200];
    for (int i = 0; i < 200; i++) {
        clients[i] = client_of(first);
        served[0] += accept_all(table, FS_GLOBAL, FS_GLOBAL);
        int fd2 = accept(second, NULL, NULL);
        served[1] += fd2 >= 0;
        close(fd2);
    }
    CHECK_IS(served[0] + served[1], 200);
    CHECK(served[0] >= 50 && served[1] >= 50);
    for (int i = 0; i < 200; i++)
        close(clients[i]);
    end(part, &book);
    fs_table_free(table);
    close(first);
    close(second);
}

/* Take the table of a socket that came without its slots, from the process that has them. */
static void taken(void)
{
    int fd = bound("127.0.0.1"), told[2], other = bound("127.0.0.1");
    char byte;
    CHECK(pipe(told) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct fs_table *table = make_table_on(fd, 2, FS_STEER_SPREAD);
        int page = fs_table_page_fd(table);
        CHECK(write(told[1], &page, sizeof page) == sizeof page);
        for (;;)
            pause();
    }
    int page;
    CHECK(read(told[0], &page, sizeof page) == sizeof page);
    struct fs_table *table = NULL;
    CHECK_IS(fs_table_take(&table, pid, page, other), -ENOENT); /* another listener's */
    CHECK(fs_table_take(&table, pid, fd, fd) < 0);              /* not a page */
    CHECK_IS(fs_table_take(&table, pid, page, fd), 0);
    CHECK(kill(pid, SIGKILL) == 0);
    reap_child(pid);
    CHECK_IS(fs_table_claim(table, 1, -1), 1);
    CHECK_IS(fs_table_activate(table, 1, true), 0);
    int client = client_of(fd);
    CHECK_IS(accept_all(table, 1, 1), 1);
    CHECK(read(client, &byte, 1) == 0);
    fs_table_free(table);
    CHECK_IS(fs_table_take(&table, pid, page, fd), -ESRCH);
    close(client);
    close(told[0]);
    close(told[1]);
    close(fd);
    close(other);
}

static void run(void)
{
    claims();
    sources();
    given();
    parked();
    nobody_claims();
    taken();
}
