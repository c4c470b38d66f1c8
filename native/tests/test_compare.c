/* SPDX-License-Identifier: MIT
 *
 * Whether a sibling's connection is taken: each row of the table in core/compare.c. Also that
 * nothing is steered to an owner that is late.
 */
#include "check.h"
#include "clock.h"
#include "part.h"

static int add(void *context, int fd, int source, bool edge)
{
    (void)context, (void)fd, (void)source, (void)edge;
    return 0;
}

static void removed(void *context, int fd, int source)
{
    (void)context, (void)fd, (void)source;
}

static bool armed = true;

static void arm(void *context, int fd, int source, bool on)
{
    (void)context, (void)fd;
    CHECK_IS(source, 1);
    armed = on;
}

static const struct fs_poller poller = {.add = add, .remove = removed, .arm = arm};

/* Two parts of one table: ours, and that of a sibling at whose slot connections wait. */
static struct pair {
    int fd;
    struct fs_table *table;
    struct fs_part *me, *other;
} pair;

static struct fs_part *part(void)
{
    struct fs_part *p = NULL;
    CHECK_IS(fs_part_open(&p, pair.table, FS_GLOBAL, false, &poller, NULL), 0);
    CHECK_IS(fs_part_sync(p), 1);
    CHECK_IS(fs_part_activate(p), 0);
    return p;
}

static void begin(void)
{
    pair.fd = bound("127.0.0.1");
    pair.table = make_table_on(pair.fd, 2, FS_STEER_SPREAD);
    pair.me = part();
    pair.other = part();
    CHECK_IS(fs_part_sync(pair.me), 0); /* the other is live by now */
    CHECK_IS(fs_part_slot(pair.other), 1);
    CHECK_IS(pair.me->watched[1].kind, SIBLING);
}

static void end(void)
{
    fs_part_close(pair.me);
    fs_part_free(pair.me);
    fs_part_close(pair.other);
    fs_part_free(pair.other);
    fs_table_free(pair.table);
    close(pair.fd);
}

/* Set our and the sibling's open connections, and for how long the sibling has been busy. */
static void are(int mine, int theirs, double busy_ms)
{
    fs_part_count(pair.me, mine);
    fs_part_count(pair.other, theirs);
    uint64_t since = busy_ms > 0 ? clock_ns() - (uint64_t)(busy_ms * 1e6) : 0;
    atomic_store(&pair.other->record->busy, since);
    pair.me->watched[1].since = 0;
    flag_write(&pair.table->page->slot[1].away, false);
    atomic_store(&pair.table->page->steered_away, clock_ns()); /* so nothing is steered away now */
}

static bool takes(void)
{
    return fs_part_may_take(pair.me, 1, 32) == 1;
}

static bool looks(void)
{
    int due = fs_part_look_due(pair.me), slot = -1;
    CHECK_IS(armed, due < 0 || pair.me->watched[1].took);
    CHECK(due <= 80);
    CHECK_IS(due > 1 ? fs_part_look(pair.me, &slot) : 0, 0); /* not due yet */
    return due >= 0;
}

/* One connection at the sibling's slot, wherever the others went. */
static int wait_at_the_sibling(void)
{
    CHECK_IS(fs_table_activate(pair.table, 0, false), 0);
    int client = client_of(pair.fd);
    CHECK_IS(fs_table_activate(pair.table, 0, true), 0);
    CHECK(fs_table_queued(pair.table, 1) > 0);
    CHECK_IS(fs_part_sync(pair.me), 0);
    return client;
}

static void rows(void)
{
    are(0, 100, 100);
    for (int i = 0; i < 2; i++) /* nothing waits there any more: look again, for a while */
        CHECK(!takes() && looks());
    CHECK(!takes() && !looks());
    int client = wait_at_the_sibling();

    are(0, 1, 0);              /* with the waiting one it has two */
    CHECK(takes() && looks()); /* the caller may take only one: look for the rest */
    are(0, 0, 0);
    CHECK(!takes() && looks());
    are(100, 110, 0); /* 12 % of ours are 12 */
    CHECK(!takes());
    are(100, 111, 0);
    CHECK(takes());

    are(5, 5, 3); /* late */
    CHECK(takes());
    are(5, 5, 1);
    CHECK(!takes());
    are(5, 4, 3);
    CHECK(!takes() && looks());
    are(5, 4, 60);
    CHECK(takes());

    /* The numbers of open connections are unknown: only lateness counts. */
    are(FS_UNCOUNTED, 100, 3);
    CHECK(!takes());
    are(0, FS_UNCOUNTED, 3);
    CHECK(!takes());
    are(FS_UNCOUNTED, FS_UNCOUNTED, 60);
    CHECK(takes());
    CHECK_IS(atomic_load(&pair.me->record->late), 3);
    close(client);
}

/* A handler that sleeps: the thread is busy, and does not run. */
static void asleep(void)
{
    int client = wait_at_the_sibling();
    pid_t sleeper = fork();
    if (sleeper == 0) {
        pause();
        _exit(0);
    }
    struct part_record *r = pair.other->record;
    atomic_store(&r->pid, sleeper);
    atomic_store(&r->tid, sleeper);
    while (!thread_sleeps(sleeper, sleeper))
        sched_yield();
    are(5, 0, 3);
    CHECK(takes());
    are(5, 0, 1);
    CHECK(!takes());
    are(5, 0, 0); /* it waits for events: that is not a handler */
    CHECK(!takes());
    atomic_store(&r->pid, getpid());
    atomic_store(&r->tid, fs_thread_id());
    CHECK(kill(sleeper, SIGKILL) == 0);
    reap_child(sleeper);
    close(client);
}

/* The owner is stopped, or without a core: its record says that it waits, but it does not turn. */
static void standing_still(void)
{
    int client = wait_at_the_sibling();
    are(5, 0, 0);
    CHECK(!takes());
    pair.me->watched[1].since -= 60 * 1000000;
    CHECK(takes());
    fs_part_runs(pair.other); /* now it turns */
    fs_part_waits(pair.other);
    CHECK(!takes());
    are(5, 0, 0);
    CHECK(!takes());
    CHECK_IS(accept_all(pair.table, 1, 1), 3);
    while (looks())
        CHECK(!takes());
    close(client);
}

/* An accept without a wake-up changes neither wake-ups nor looks. */
static void unasked(void)
{
    CHECK_IS(accept_all(pair.table, 1, 1), 0);
    are(5, 0, 0);
    CHECK(!looks());
    CHECK_IS(fs_part_accept(pair.me, NULL, NULL, 0), -EAGAIN);
    CHECK(!looks());
    int client = wait_at_the_sibling();
    CHECK(!looks());
    CHECK_IS(fs_part_accept(pair.me, NULL, NULL, 0), -EAGAIN);
    CHECK(!looks());
    are(0, 5, 0);
    int fd = fs_part_accept(pair.me, NULL, NULL, 0);
    CHECK(fd >= 0);
    close(fd);
    close(client);
}

/* Returns how many of `count` connections come to the slot. */
static int come_to(int slot, int count)
{
    int clients[64], came = 0;
    for (int i = 0; i < count; i++)
        clients[i] = client_of(pair.fd);
    for (int i = 0; i < 2; i++) {
        int there = accept_all(pair.table, i, i);
        came += i == slot ? there : 0;
    }
    for (int i = 0; i < count; i++)
        close(clients[i]);
    return came;
}

static void steered_away(void)
{
    int client = wait_at_the_sibling();
    are(0, 0, 60);
    atomic_store(&pair.table->page->steered_away, 0);
    CHECK(takes());
    CHECK_IS(accept_all(pair.table, 0, 1), 1);
    CHECK_IS(come_to(0, 20), 20);
    CHECK(slot_info(pair.table, 1).live);
    fs_part_waits(pair.other);
    fs_part_runs(pair.other); /* its next turn */
    CHECK(come_to(1, 40) > 0);
    close(client);

    /* An owner without a part is not steered away from: it would not come back. */
    client = wait_at_the_sibling();
    are(0, 0, 60);
    atomic_store(&pair.table->page->steered_away, 0);
    struct part_record *record = pair.other->record;
    atomic_store(&record->pid, 0);
    CHECK(!takes());
    pair.me->watched[1].since -= 60 * NS_A_MS;
    CHECK(takes());
    CHECK(!flag_read(&pair.table->page->slot[1].away));
    atomic_store(&record->pid, getpid());
    CHECK_IS(accept_all(pair.table, 0, 1), 1);
    close(client);

    /* The last live slot is never steered away from, and no slot more often than every 50 ms. */
    client = wait_at_the_sibling();
    are(0, 0, 60);
    CHECK(takes());
    CHECK(!flag_read(&pair.table->page->slot[1].away));
    CHECK_IS(fs_table_activate(pair.table, 0, false), 0);
    atomic_store(&pair.table->page->steered_away, 0);
    CHECK(takes());
    CHECK(!flag_read(&pair.table->page->slot[1].away));
    CHECK_IS(come_to(1, 20), 21);
    close(client);
}

static void run(void)
{
    void (*tests[])(void) = {rows, asleep, standing_still, unasked, steered_away};
    begin();
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tests[i]();
    end();
}
