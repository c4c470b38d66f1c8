/* SPDX-License-Identifier: MIT
 *
 * One thread's part in a table: what it has polled, and when; what becomes of the slots of those
 * who end; tables that nobody may claim from any more.
 */
#include "check.h"

#include <sys/epoll.h>

/* A poller that only writes down what it is asked. */
struct book {
    bool polled[8];
    bool bell, neighbour;
    int adds;
};

static int note(struct book *book, int source, bool on)
{
    if (source == FS_BELL)
        book->bell = on;
    else if (source == FS_NEIGHBOUR)
        book->neighbour = on;
    else
        book->polled[source] = on;
    book->adds += on;
    return 0;
}

static int add(void *context, int fd, int source)
{
    CHECK(fd >= 0);
    return note(context, source, true);
}

static void removed(void *context, int fd, int source)
{
    CHECK(fd >= 0);
    note(context, source, false);
}

static const struct fs_poller poller = {.add = add, .remove = removed};

static struct fs_local *part_of(struct fs_table *table, struct book *book)
{
    struct fs_local *local = NULL;
    *book = (struct book){0};
    CHECK_IS(fs_local_open(&local, table, &poller, book), 0);
    CHECK(book->bell);
    CHECK(fs_local_stale(local));
    CHECK_IS(fs_local_sync(local), 0);
    return local;
}

static void end(struct fs_local *local, const struct book *book)
{
    fs_local_close(local);
    CHECK(!book->bell && !book->neighbour);
    for (int i = 0; i < 8; i++)
        CHECK(!book->polled[i]);
    fs_local_free(local);
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
    struct fs_local *local = part_of(table, &mine);
    CHECK_IS(fs_local_slot(local), 1);
    CHECK(slot_info(table, 1).live);
    /* Own slot, the sibling's, and nothing where nobody ever was; and the other is watched. */
    CHECK(mine.polled[0] && mine.polled[1] && !mine.polled[2] && mine.neighbour);
    CHECK_IS(fs_local_sync(local), 0);
    CHECK(!fs_local_stale(local));
    int adds = mine.adds;
    CHECK_IS(fs_local_sync(local), 0);
    CHECK_IS(mine.adds, adds);

    /* He dies, with a connection in his queue: new ones do not go there, and it is an orphan's. */
    CHECK(kill(pid, SIGKILL) == 0);
    reap_child(pid);
    fs_local_heed(local, FS_NEIGHBOUR);
    CHECK_IS(slot_info(table, 0).pid, 0);
    CHECK(!slot_info(table, 0).live);
    CHECK(fs_local_stale(local));
    CHECK_IS(fs_local_sync(local), 0);
    CHECK(mine.polled[0] && !mine.neighbour);

    /* A second part of this process, and one too many: it has no slot, and looks everywhere. */
    struct fs_local *other = part_of(table, &second);
    CHECK_IS(fs_local_slot(other), 0);
    struct fs_local *third = part_of(table, &(struct book){0});
    CHECK_IS(fs_local_slot(third), 2);
    struct book last;
    struct fs_local *fourth = part_of(table, &last);
    CHECK_IS(fs_local_slot(fourth), FS_GLOBAL);
    CHECK(last.polled[0] && last.polled[1] && last.polled[2]);
    /* Given up, a slot is looked after by the others, and free to be had. */
    end(other, &second);
    CHECK_IS(fs_local_sync(fourth), 0);
    CHECK_IS(fs_local_slot(fourth), 0);
    end(fourth, &last);
    fs_local_close(third);
    fs_local_free(third);
    end(local, &mine);
    fs_table_free(table);
    close(fd);
}

/* A claim for counting only: nothing arrives, but what is there already is polled. */
static void parked(void)
{
    int fd = bound("127.0.0.1");
    struct fs_table *table = make_table_on(fd, 2, FS_STEER_SPREAD);
    struct book book = {0};
    struct fs_local *local = NULL;
    CHECK_IS(fs_local_open(&local, table, &poller, &book), 0);
    fs_local_park(local);
    CHECK_IS(fs_local_sync(local), 0);
    CHECK_IS(fs_local_slot(local), 0);
    CHECK(!slot_info(table, 0).live && book.polled[0]);
    fs_local_rest(local);
    CHECK(!book.polled[0]);
    CHECK_IS(slot_info(table, 0).pid, getpid());
    CHECK(fs_local_stale(local));
    end(local, &book);
    fs_table_free(table);
    close(fd);
}

/* Nobody may claim any more: because somebody blocks, or because somebody else came. */
static void nobody_claims(void)
{
    int fd = bound("127.0.0.1");
    struct fs_table *table = make_table_on(fd, 2, FS_STEER_SPREAD);
    struct book book;
    CHECK_IS(fs_table_freeze(table), 0);
    struct fs_local *local = part_of(table, &book);
    CHECK_IS(fs_local_slot(local), FS_GLOBAL);
    CHECK(!fs_table_claimed(table));
    end(local, &book);
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
    local = part_of(table, &book);
    CHECK_IS(fs_table_freeze(table), -EBUSY);
    CHECK(bind(second, (struct sockaddr *)&address, length) == 0);
    CHECK(listen(second, 512) == 0);
    CHECK_IS(fs_table_retire(fs_table_page_fd(table), second, true), 0);
    CHECK(table_info(table).retired);
    CHECK_IS(fs_local_sync(local), 0);
    CHECK_IS(fs_local_slot(local), FS_GLOBAL);
    for (int i = 0; i < 4; i++)
        CHECK(book.polled[i]); /* whatever may still be in a queue */
    /* Both get about half: of 200, fewer than 50 has a chance of one in 10^12. */
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
    end(local, &book);
    fs_table_free(table);
    close(first);
    close(second);
}

/* The table of a socket that came without its slots, out of the process that has them. */
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
    parked();
    nobody_claims();
    taken();
}
