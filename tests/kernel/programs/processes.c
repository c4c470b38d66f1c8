/* SPDX-License-Identifier: MIT
 *
 * /dev/fastsocket among processes: which one serves a connection when they fork, hang, leave and
 * die.
 */
#include "device.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

enum { CLIENTS = 40 };

/* A child that has a local listener on `cpu` and waits on it by epoll; it accepts when told. */
struct worker {
    pid_t pid;
    int to, from;
};

static void tell(const struct worker *w, char what)
{
    CHECK_IS(write(w->to, &what, 1), 1);
}

static int answer(const struct worker *w)
{
    int value;
    CHECK_IS(read(w->from, &value, sizeof value), sizeof value);
    return value;
}

static void work(int fd, int cpu, int in, int out)
{
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(0), value = cpu == -2 ? FS_SPAWN_ALL() : FS_SPAWN(fd, cpu);
    CHECK_IS(value, 0);
    CHECK_IS(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), 0);
    CHECK_IS(write(out, &value, sizeof value), sizeof value);
    char what;
    while (read(in, &what, 1) == 1) {
        value = 0;
        if (what == 'a') { /* accept all waiting connections */
            int connection;
            while ((connection = accept(fd, NULL, NULL)) >= 0) {
                close(connection);
                value++;
            }
            CHECK_IS(errno, EAGAIN);
        } else if (what == 'w') { /* wait for a connection */
            value = epoll_wait(epoll, &event, 1, 5000);
        } else if (what == 'c') { /* close(2), which neither the module nor epoll notices */
            value = close(fd);
        } else if (what == 'd') {
            value = epoll_ctl(epoll, EPOLL_CTL_DEL, fd, &event);
        } else if (what == 'q') {
            return;
        } else if (what == 'C') {
            value = FS_CLOSE(fd);
        }
        CHECK_IS(write(out, &value, sizeof value), sizeof value);
    }
}

static struct worker worker(int fd, int cpu)
{
    int to[2], from[2];
    CHECK(pipe2(to, O_CLOEXEC) == 0 && pipe2(from, O_CLOEXEC) == 0);
    struct worker w = {.pid = forked(), .to = to[1], .from = from[0]};
    if (w.pid == 0) {
        close(to[1]);
        close(from[0]);
        work(fd, cpu, to[0], from[1]);
        _exit(0);
    }
    close(to[0]);
    close(from[1]);
    CHECK_IS(answer(&w), 0);
    return w;
}

static int ask(const struct worker *w, char what)
{
    tell(w, what);
    return answer(w);
}

/* Accept until there were `count`: the last handshakes may be in progress. */
static int ask_for(const struct worker *w, int count)
{
    int taken = 0;
    UNTIL((taken += ask(w, 'a')) >= count);
    return taken;
}

static void dismiss(struct worker *w)
{
    tell(w, 'q'); /* a sibling may hold its end of the pipe, too */
    close(w->to);
    close(w->from);
    ends_well(w->pid);
}

static void each_process_has_its_cores(void)
{
    int fd = listening("127.0.0.1");
    struct worker zero = worker(fd, 0), one = worker(fd, 1);
    UNTIL(row_of(fd, 0).live && row_of(fd, 1).live);
    for (int i = 0; i < CLIENTS / 2; i++) { /* at once: others may take one that waits long */
        close(client_on(0, fd));
        CHECK_IS(ask_for(&zero, 1), 1);
        close(client_on(1, fd));
        CHECK_IS(ask_for(&one, 1), 1);
    }
    CHECK_IS(row_of(fd, 0).own, CLIENTS / 2);
    CHECK_IS(row_of(fd, 1).own, CLIENTS / 2);
    dismiss(&zero);
    dismiss(&one);
    close(fd);
}

static void spawn_all_is_for_each_inherited(void)
{
    int first = listening("127.0.0.1"), second = listening("::1"), plain = bound("127.0.0.1");
    CHECK_IS(listen(plain, 5), 0);
    struct worker one = worker(first, -2), two = worker(first, -2);
    for (int cpu = 0; cpu < 2; cpu++) {
        CHECK_IS(row_of(first, cpu).found && row_of(second, cpu).found, 1);
        UNTIL(row_of(first, cpu).live);
        CHECK_IS(row_of(second, cpu).live, 0); /* they polled the first alone */
        CHECK_IS(row_of(plain, cpu).found, 0); /* not ours */
    }
    close(client_on(0, second));
    UNTIL(row_of(second, NO_CORE).queue == 1);
    close(client_on(0, first));
    close(client_on(1, first));
    int total = 0;
    UNTIL((total += ask(&one, 'a') + ask(&two, 'a')) == 2);
    CHECK_IS(row_of(first, 0).own + row_of(first, 1).own, 2);
    dismiss(&one);
    dismiss(&two);
    close(first);
    close(second);
    close(plain);
}

/* All connections at a killed process are served by a live one that was waiting. */
static void a_queue_survives_its_owner(void)
{
    int fd = listening("127.0.0.1"), clients[CLIENTS], count = CLIENTS / slow();
    struct worker victim = worker(fd, 1), heir = worker(fd, 0);
    UNTIL(row_of(fd, 0).live && row_of(fd, 1).live);
    for (int i = 0; i < count; i++)
        clients[i] = client_on(1, fd);
    UNTIL(row_of(fd, 1).queue == count);
    tell(&heir, 'w');
    killed(victim.pid);
    CHECK_IS(answer(&heir), 1);
    CHECK_IS(ask_for(&heir, count), count);
    CHECK_IS(row_of(fd, 0).adopted, count);
    UNTIL(!row_of(fd, 1).live);
    close(client_on(1, fd)); /* new connections go elsewhere */
    UNTIL(row_of(fd, NO_CORE).queue == 1);
    CHECK_IS(ask_for(&heir, 1), 1);
    for (int i = 0; i < count; i++)
        close(clients[i]);
    close(victim.to);
    close(victim.from);
    dismiss(&heir);
    close(fd);
}

static void the_cores_next_owner_takes_over(void)
{
    int fd = listening("127.0.0.1"), count = CLIENTS / slow();
    struct worker victim = worker(fd, 1);
    UNTIL(row_of(fd, 1).live);
    for (int i = 0; i < count; i++)
        close(client_on(1, fd));
    killed(victim.pid);
    close(victim.to);
    close(victim.from);
    UNTIL(!row_of(fd, 1).live);
    struct worker heir = worker(fd, 1);
    CHECK_IS(ask(&heir, 'w'), 1);
    CHECK_IS(ask_for(&heir, count), count);
    CHECK_IS(row_of(fd, 1).own, count);
    dismiss(&heir);
    close(fd);
}

/* An owner stops without notice: by close(2), by removal from epoll, or by the CLOSE ioctl. */
static void nothing_is_stranded(void)
{
    static const char ways[] = "cdC";
    for (int i = 0; i < 3; i++) {
        int fd = listening("127.0.0.1");
        struct worker leaver = worker(fd, 1), other = worker(fd, 0);
        UNTIL(row_of(fd, 0).live && row_of(fd, 1).live);
        close(client_on(1, fd)); /* this connection waits, and the leaver leaves it */
        tell(&other, 'w');
        CHECK_IS(ask(&leaver, ways[i]), 0);
        CHECK_IS(answer(&other), 1);
        int taken = ask_for(&other, 1);
        for (int n = 0; n < CLIENTS; n++) {
            close(client_on(1, fd));
            CHECK_IS(ask(&other, 'w'), 1);
            taken += ask_for(&other, 1);
        }
        CHECK_IS(taken, CLIENTS + 1);
        UNTIL(!row_of(fd, 1).live);
        dismiss(&leaver);
        dismiss(&other);
        close(fd);
    }
}

/* A process without a local listener takes from all: here, from one whose owner does not accept. */
static void who_has_none_serves_all(void)
{
    int fd = listening("127.0.0.1");
    struct worker idle = worker(fd, 1);
    UNTIL(row_of(fd, 1).live);
    close(client_on(1, fd));
    CHECK_IS(readable(fd, 1000), 1);
    close(taken(fd, 0));
    CHECK_IS(row_of(fd, NO_CORE).adopted, 1);
    CHECK_IS(readable(fd, 0), 0);
    dismiss(&idle);
    close(fd);
}

static void more_processes_than_cores(void)
{
    int fd = listening("127.0.0.1"), taken = 0;
    struct worker workers[6];
    for (int i = 0; i < 6; i++)
        workers[i] = worker(fd, -1);
    UNTIL(row_of(fd, 0).live && row_of(fd, 1).live);
    for (int cpu = 0; cpu < 2; cpu++) {
        int owners = 1;
        for (char *c = row_of(fd, cpu).owners; *c; c++)
            owners += *c == ',';
        CHECK_IS(owners, 3);
    }
    for (int i = 0; i < CLIENTS; i++) {
        int client = client_on(i % 2, fd);
        taken += ask(&workers[i % 6], 'a');
        close(client);
    }
    for (int i = 0; taken < CLIENTS; i++) {
        CHECK(i < 10000);
        taken += ask(&workers[i % 6], 'a');
    }
    CHECK_IS(taken, CLIENTS);
    killed(workers[0].pid); /* the others of its core go on */
    close(workers[0].to);
    close(workers[0].from);
    UNTIL(row_of(fd, 0).live && row_of(fd, 1).live);
    for (int i = 1; i < 6; i++)
        dismiss(&workers[i]);
    close(fd);
}

/* An owner hangs with its epoll set open, while others keep the module busy. */
static void a_hung_owner_is_helped(void)
{
    int fd = listening("127.0.0.1");
    struct worker hung = worker(fd, 1), other = worker(fd, 0);
    UNTIL(row_of(fd, 0).live && row_of(fd, 1).live);
    CHECK_IS(kill(hung.pid, SIGSTOP), 0);
    close(client_on(1, fd));
    UNTIL(row_of(fd, 1).queue == 1);
    tell(&other, 'w');
    for (int i = 0; i < 10; i++) { /* each one makes the work run before it is due */
        struct worker passing = worker(fd, 0);
        dismiss(&passing);
        usleep(20000);
    }
    CHECK_IS(answer(&other), 1);
    CHECK_IS(ask_for(&other, 1), 1);
    CHECK_IS(kill(hung.pid, SIGCONT), 0);
    dismiss(&hung);
    dismiss(&other);
    close(fd);
}

static void run(void)
{
    static const struct test tests[] = {
        TEST(each_process_has_its_cores), TEST(spawn_all_is_for_each_inherited),
        TEST(a_queue_survives_its_owner), TEST(the_cores_next_owner_takes_over),
        TEST(nothing_is_stranded),        TEST(who_has_none_serves_all),
        TEST(more_processes_than_cores),  TEST(a_hung_owner_is_helped),
    };
    run_each(tests, sizeof tests / sizeof *tests);
}
