/* SPDX-License-Identifier: MIT
 *
 * stress SEED ROUNDS: 32 processes fork, spawn, wait, accept, close, exit and are killed, with one
 * set of listeners and clients on both cores. Each connection is answered or, if the process that
 * had accepted it was killed, reset; none waits for ever.
 */
#include "device.h"

#include <sys/epoll.h>
#include <sys/mman.h>

enum { PROCESSES = 32, LISTENERS = 3 };

static int listeners[LISTENERS];
static unsigned seed;
static struct shared {
    volatile int stop;
} *shared;

static unsigned draw(unsigned below)
{
    seed = seed * 1103515245 + 12345;
    return (seed >> 8) % below;
}

static void serve_some(int rounds)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event;
    for (int i = 0; i < LISTENERS; i++) {
        event = (struct epoll_event){.events = EPOLLIN | (draw(3) ? 0 : EPOLLEXCLUSIVE),
                                     .data.fd = listeners[i]};
        CHECK_IS(epoll_ctl(epoll, EPOLL_CTL_ADD, listeners[i], &event), 0);
    }
    while (rounds-- > 0 && !shared->stop) {
        if (epoll_wait(epoll, &event, 1, 20) != 1)
            continue;
        int fd = draw(2) ? accept4(event.data.fd, NULL, NULL, SOCK_NONBLOCK)
                         : FS_ACCEPT(event.data.fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            (void)!write(fd, "x", 1);
            draw(2) ? close(fd) : FS_CLOSE(fd);
        }
    }
    close(epoll);
}

static void live(int number, int rounds)
{
    seed += (unsigned)number * 7919;
    open_device();
    for (int i = 0; i < LISTENERS; i++)
        if (draw(4))
            CHECK_IS(FS_SPAWN(listeners[i], (int)draw(3) - 1), 0);
    if (draw(2))
        CHECK_IS(FS_SPAWN_ALL(), 0);
    serve_some(rounds);
    if (draw(3) == 0)
        FS_CLOSE(listeners[draw(LISTENERS)]);
    if (draw(3) == 0) {
        pid_t child = fork(); /* with our descriptors, not our claim */
        if (child == 0) {
            FS_SPAWN_ALL();
            _exit(0);
        }
        if (child > 0)
            waitpid(child, NULL, 0);
    }
    _exit(0);
}

static void replace(pid_t *pids, int number, int rounds)
{
    pids[number] = fork();
    CHECK(pids[number] >= 0);
    if (pids[number] == 0)
        live(number, rounds);
}

/* One connection; how it ended. */
static int ask(int listener)
{
    char byte;
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    int fd = client_on((int)draw(2), listener);
    struct timeval limit = {.tv_sec = slow() > 1 ? 300 : 30};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    errno = 0;
    long got = read(fd, &byte, 1);
    int result = got == 1 ? 0 : got == 0 ? ECONNRESET : errno; /* killed between accept and write */
    clock_gettime(CLOCK_MONOTONIC, &ended);
    if (ended.tv_sec - began.tv_sec > 2)
        printf("waited %ld s\n", (long)(ended.tv_sec - began.tv_sec));
    close(fd);
    return result;
}

static void run(void)
{
    pid_t pids[PROCESSES];
    int rounds = atoi(getenv("ROUNDS")), kills = 0, lost = 0;
    seed = (unsigned)atoi(getenv("SEED"));
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    open_device();
    for (int i = 0; i < LISTENERS; i++)
        listeners[i] = listening(i == 2 ? "::1" : "127.0.0.1");
    for (int i = 0; i < PROCESSES; i++)
        replace(pids, i, 20);
    for (int round = 0; round < rounds; round++) {
        int result = ask(listeners[draw(LISTENERS)]);
        CHECK(result == 0 || result == ECONNRESET);
        lost += result != 0;
        int victim = (int)draw(PROCESSES);
        if (draw(4) == 0) {
            kill(pids[victim], SIGKILL);
            kills++;
        }
        for (int i = 0; i < PROCESSES; i++) {
            int status;
            if (waitpid(pids[i], &status, WNOHANG) == pids[i]) {
                CHECK(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : status == 0);
                replace(pids, i, 20);
            }
        }
    }
    shared->stop = 1;
    for (int i = 0; i < PROCESSES; i++)
        waitpid(pids[i], NULL, 0);
    for (int i = 0; i < LISTENERS; i++)
        close(listeners[i]);
    close(device);
    munmap((void *)shared, sizeof *shared);
    printf("%d rounds, %d kills, %d reset with the process that had accepted them\n", rounds, kills,
           lost);
    CHECK(lost <= kills);
}
