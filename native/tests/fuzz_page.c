/* SPDX-License-Identifier: MIT
 *
 * A table on a page with arbitrary bytes: everything that reads the page, and everything that a
 * worker does with it. It runs with libFuzzer (make fuzz-page), or with a main of its own and bytes
 * from a fixed seed (CTest).
 */
#include "check.h"
#include "part.h"

#include <fcntl.h>
#include <sys/mman.h>

enum { SLOTS = 3 };

static int add(void *context, int fd, int source, bool edge)
{
    (void)context, (void)source, (void)edge;
    CHECK(fd >= 0);
    return 0;
}

static void removed(void *context, int fd, int source)
{
    (void)context, (void)fd, (void)source;
}

static void arm(void *context, int fd, int source, bool on)
{
    (void)context, (void)on;
    CHECK(fd >= 0 && source >= 0 && source < SLOTS);
}

static const struct fs_poller poller = {.add = add, .remove = removed, .arm = arm};

/* The tables and their listeners, which last as long as the process. */
static struct fs_table *supervised, *shared;
static int fds[2];

static struct fs_table *make(int *fd, uint32_t flags)
{
    struct fs_table_options options = {
        .slots = SLOTS, .backlog = 64, .steer = FS_STEER_SPREAD, .flags = flags};
    struct fs_table *table = NULL;
    *fd = bound("127.0.0.1");
    CHECK_IS(fs_table_create(&table, *fd, &options), 0);
    return table;
}

static void begin(void)
{
    if (supervised)
        return;
    supervised = make(&fds[0], FS_FIRST_IS_SLOT | FS_SUPERVISED);
    shared = make(&fds[1], 0);
}

/* Fill the whole page with the bytes, again and again. */
static void scribble(struct fs_table *table, const uint8_t *data, size_t size)
{
    uint8_t *page = (uint8_t *)table->page;
    for (size_t i = 0; size > 0 && i < table->map.size; i++)
        page[i] = data[i % size];
}

/* Release the lock: a thread waits for a lock whose holder lives, and thousands of rounds must not
 * wait. */
static void unlock(struct fs_table *table)
{
    atomic_store(&table->page->holder, 0);
}

static void look(const struct fs_table *table)
{
    struct fs_table_info info;
    struct fs_slot_info slot;
    fs_table_read(table, &info);
    CHECK(memchr(info.why, '\0', sizeof info.why));
    CHECK(info.slots == SLOTS && info.address_len <= sizeof info.address);
    CHECK((unsigned)info.steer <= FS_STEER_SPREAD && (unsigned)info.wanted <= FS_STEER_SPREAD);
    for (int i = -2; i < SLOTS + 2; i++)
        CHECK_IS(fs_table_read_slot(table, i, &slot), i < 0 || i >= SLOTS ? -EINVAL : 0);
}

static void attach(const struct fs_table *table)
{
    struct fs_table *view = NULL;
    if (fs_table_attach(&view, fs_table_page_fd(table)) == 0) {
        look(view);
        fs_table_free(view);
    }
}

static void work(struct fs_table *table, int given, const uint8_t *data, size_t size)
{
    struct fs_part *part = NULL;
    int slots[SLOTS + 1];
    CHECK_IS(fs_part_open(&part, table, given, true, &poller, NULL), 0);
    for (int turn = 0; turn < 2; turn++) {
        unlock(table);
        int rc = fs_part_sync(part);
        unlock(table);
        if (rc == 1)
            fs_part_activate(part);
        for (int source = FS_GLOBAL; source <= SLOTS; source++)
            fs_part_may_take(part, source, 8);
        fs_part_look_due(part);
        CHECK(fs_part_look(part, slots) <= SLOTS);
        CHECK(fs_part_sources(part, slots) <= SLOTS + 1);
        CHECK(fs_part_accept(part, NULL, NULL, 0) < 0);
        fs_part_runs(part);
        fs_part_waits(part);
        unlock(table);
        fs_part_heed(part, FS_NEIGHBOUR);
        if (turn == 0)
            scribble(table, data, size);
    }
    unlock(table);
    fs_part_close(part);
    fs_part_free(part);
}

static void decide(struct fs_table *table, int hint)
{
    unlock(table);
    fs_table_claim(table, hint % SLOTS, -1);
    unlock(table);
    CHECK(fs_table_reap(table) >= 0);
    unlock(table);
    fs_table_activate(table, hint % SLOTS, true);
    unlock(table);
    CHECK_IS(fs_table_steer(table, FS_STEER_CPU), 0);
    unlock(table);
    CHECK(fs_table_review(table) >= 0);
    fs_table_joined(table);
    unlock(table);
    fs_table_hand_over(table, hint % SLOTS, getpid());
    unlock(table);
    fs_table_release(table, hint % SLOTS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    begin();
    struct fs_table *table = data[0] & 1 ? supervised : shared;
    int given = data[0] & 2 ? 0 : FS_GLOBAL;
    scribble(table, data + 1, size - 1);
    look(table);
    attach(table);
    work(table, given, data + 1, size - 1);
    scribble(table, data + 1, size - 1);
    decide(table, data[0]);
    scribble(table, data + 1, size - 1);
    unlock(table);
    fs_table_yield(fs_table_page_fd(table), fds[table == shared], data[0] & 4);
    return 0;
}

#ifndef FS_FUZZER
/* A page that a supervisor restores is whole again, and as it was. */
static void restored(void)
{
    const uint8_t nonsense[] = {0xa5, 0x5a, 0x01, 0xff, 0x77};
    begin();
    CHECK_IS(fs_table_claim(supervised, 1, -1), 1);
    CHECK_IS(fs_table_activate(supervised, 1, true), 0);
    CHECK_IS(fs_table_steer(supervised, FS_STEER_SPREAD), 0);
    int client = client_of(fds[0]);
    CHECK_IS(accept_all(supervised, 1, 1), 1);
    CHECK_IS(fs_table_reap(supervised), 0); /* this reads the counters too */
    struct fs_slot_info before = slot_info(supervised, 1);
    uint32_t times = table_info(supervised).restored;
    scribble(supervised, nonsense, sizeof nonsense);
    CHECK_IS(fs_table_reap(supervised), 0);
    CHECK_IS(table_info(supervised).restored, times + 1);
    struct fs_slot_info after = slot_info(supervised, 1);
    CHECK(after.live && after.pid == before.pid && after.own == before.own);
    CHECK_IS(after.cookie, before.cookie);
    CHECK_IS(fs_table_reap(supervised), 0);
    CHECK_IS(table_info(supervised).restored, times + 1);
    struct fs_table *view = NULL;
    CHECK_IS(fs_table_attach(&view, fs_table_page_fd(supervised)), 0);
    CHECK_IS(slot_info(view, 1).own, before.own);
    fs_table_free(view);
    close(client);

    /* The supervisor does not read its own decisions from the page: a core, the wanted steering. */
    int core = fs_table_core(supervised, 0);
    atomic_store(&supervised->page->slot[0].cpu, 900);
    atomic_store(&supervised->page->wanted, FS_STEER_CPU);
    CHECK_IS(fs_table_reap(supervised), 0);
    CHECK_IS(fs_table_core(supervised, 0), core);
    CHECK_IS(slot_info(supervised, 0).cpu, core);
    CHECK_IS(table_info(supervised).wanted, FS_STEER_SPREAD);
    CHECK_IS(table_info(supervised).restored, times + 2);
    client = client_of(fds[0]);
    CHECK_IS(accept_all(supervised, 1, 1), 1);
    close(client);
    CHECK_IS(fs_table_release(supervised, 1), 0);
}

/* A living process has the lock, and keeps it: others wait, but not forever. */
static void held(void)
{
    begin();
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    atomic_store(&shared->page->holder, (uint32_t)pid);
    CHECK_IS(fs_table_claim(shared, 2, -1), 2);
    CHECK_IS(fs_table_release(shared, 2), 0);
    /* A dead process's lock is taken at once. */
    atomic_store(&shared->page->holder, (uint32_t)pid);
    kill(pid, SIGKILL);
    reap_child(pid);
    CHECK_IS(fs_table_claim(shared, 2, -1), 2);
    CHECK_IS(fs_table_release(shared, 2), 0);
}

/* A page that can still be truncated is invalid: truncating it may end a process that maps it. */
static void unsealed(void)
{
    struct fs_table *view = NULL;
    int fd = memfd_create("fastsocket-table", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    size_t size = shared->map.size;
    CHECK(ftruncate(fd, (off_t)size) == 0);
    uint8_t *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    memcpy(copy, shared->page, size);
    CHECK_IS(fs_table_attach(&view, fd), -EINVAL);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
    CHECK_IS(fs_table_attach(&view, fd), 0);
    fs_table_free(view);
    CHECK(ftruncate(fs_table_page_fd(shared), 0) < 0 && errno == EPERM);
    CHECK(fcntl(fs_table_page_fd(shared), F_ADD_SEALS, F_SEAL_WRITE) < 0 && errno == EPERM);
    munmap(copy, size);
    close(fd);
}

static void random_pages(void)
{
    static uint8_t data[8192];
    unsigned seed = 20261128;
    for (int round = 0; round < 400; round++) {
        size_t size = 2 + (size_t)rand_r(&seed) % (sizeof data - 2);
        for (size_t i = 0; i < size; i++)
            data[i] = rand_r(&seed) % 4 ? (uint8_t)rand_r(&seed) : 0;
        LLVMFuzzerTestOneInput(data, size);
    }
}

static void run(void)
{
    restored();
    held();
    unsealed();
    random_pages();
    for (int i = 0; i < 2; i++) {
        fs_table_free(i ? shared : supervised);
        close(fds[i]);
    }
}
#endif
