/* Workers of one listener that wait by different means: epoll, poll and select. None of them
 * starves the others' connections when it stops. */
#include "call.h"

static void by_poll(int fd)
{
    struct pollfd look = {.fd = fd, .events = POLLIN};
    for (;;)
        if (poll(&look, 1, -1) == 1)
            serve_all(fd, "x");
}

static void by_select(int fd)
{
    for (;;) {
        fd_set read;
        FD_ZERO(&read);
        FD_SET(fd, &read);
        if (select(fd + 1, &read, NULL, NULL, NULL) == 1)
            serve_all(fd, "x");
    }
}

int main(void)
{
    int fd = listener(SOCK_NONBLOCK), control[2], good = 0;
    MUST(pipe(control));
    pid_t pids[3];
    for (int i = 0; i < 3; i++) {
        pids[i] = MUST(fork());
        if (pids[i] == 0 && i == 0)
            worker(fd, control[0], "x");
        if (pids[i] == 0 && i == 1)
            by_poll(fd);
        if (pids[i] == 0 && i == 2)
            by_select(fd);
    }
    usleep(200000); /* all workers wait, the first with a slot */
    for (int i = 0; i < 100; i++)
        good += strcmp(answer(client_of(fd)), "x") == 0;
    printf("%d\n", good);
    MUST(kill(pids[0], SIGSTOP));
    int clients[20];
    for (int i = 0; i < 20; i++)
        clients[i] = client_of(fd);
    MUST(kill(pids[0], SIGKILL)); /* the worker that had a slot */
    reap(pids[0]);
    good = 0;
    for (int i = 0; i < 20; i++)
        good += strcmp(answer(clients[i]), "x") == 0;
    for (int i = 0; i < 50; i++)
        good += strcmp(answer(client_of(fd)), "x") == 0;
    printf("%d\n", good);
    for (int i = 1; i < 3; i++) {
        MUST(kill(pids[i], SIGKILL));
        reap(pids[i]);
    }
}
