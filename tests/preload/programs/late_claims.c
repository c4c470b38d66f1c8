/* Waits that began before any slot was claimed: by poll, select, and an accept that blocks. */
#include "call.h"

static pid_t claimer(int fd, int delay, int other, int other_delay)
{
    pid_t pid = MUST(fork());
    if (pid == 0) {
        int epfd = MUST(epoll_create1(0));
        struct epoll_event event;
        usleep((useconds_t)delay);
        MUST(fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK));
        MUST(watch(epfd, fd, EPOLLIN, 1));
        epoll_wait(epfd, &event, 1, 50);
        if (other >= 0) {
            usleep((useconds_t)other_delay);
            MUST(watch(epfd, other, EPOLLIN, 2));
            epoll_wait(epfd, &event, 1, 50);
        }
        pause(); /* it has the slots, and never looks again */
    }
    return pid;
}

static pid_t clients(int fd, int delay, pid_t victim)
{
    pid_t pid = MUST(fork());
    if (pid == 0) {
        usleep((useconds_t)delay);
        kill(victim, SIGKILL);
        for (int i = 0; i < 5; i++)
            if (strcmp(answer(client_of(fd)), "x") != 0)
                printf("not served\n");
        fflush(stdout);
        _exit(0);
    }
    return pid;
}

int main(void)
{
    for (int how = 0; how < 3; how++) {
        int fd = listener(how == 2 ? 0 : SOCK_NONBLOCK), served = 0;
        fflush(stdout);
        pid_t owner = claimer(fd, 100000, -1, 0), asks = clients(fd, 400000, owner);
        while (served < 5) {
            struct pollfd look = {.fd = fd, .events = POLLIN};
            fd_set read;
            FD_ZERO(&read);
            FD_SET(fd, &read);
            if (how == 0)
                MUST(poll(&look, 1, -1));
            if (how == 1)
                MUST(select(fd + 1, &read, NULL, NULL, NULL));
            int connection = accept(fd, NULL, NULL);
            if (connection >= 0) {
                serve(connection, "x");
                served++;
            }
        }
        printf("served %d\n", served);
        reap(owner);
        reap(asks);
        close(fd);
    }
    /* Two listeners, the second of which is claimed while a poll waits for both. */
    int one = listener(SOCK_NONBLOCK), two = listener(SOCK_NONBLOCK);
    struct pollfd both[2] = {{.fd = one, .events = POLLIN}, {.fd = two, .events = POLLIN}};
    fflush(stdout);
    pid_t owner = claimer(one, 100000, two, 1500000);
    printf("%d\n", poll(both, 2, 2800));
    kill(owner, SIGKILL);
    reap(owner);
}
