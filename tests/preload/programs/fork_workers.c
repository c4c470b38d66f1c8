/* Workers forked after listen(2), each with its own epoll set. One is killed with connections in
 * the queue, one leaves; no connection is lost. */
#include "call.h"

enum { WORKERS = 4 };

int main(void)
{
    int fd = listener(SOCK_NONBLOCK), control[WORKERS][2], good = 0;
    pid_t pids[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        MUST(pipe2(control[i], O_CLOEXEC));
        pids[i] = MUST(fork());
        if (pids[i] == 0) {
            for (int j = 0; j <= i; j++)
                close(control[j][1]);
            worker(fd, control[i][0], "worker");
            _exit(0);
        }
    }
    for (int i = 0; i < 200; i++)
        good += strcmp(answer(client_of(fd)), "worker") == 0;
    printf("%d\n", good);
    int clients[40];
    MUST(kill(pids[0], SIGSTOP));
    for (int i = 0; i < 40; i++)
        clients[i] = client_of(fd);
    MUST(kill(pids[0], SIGKILL));
    close(control[1][1]);
    good = 0;
    for (int i = 0; i < 40; i++)
        good += strcmp(answer(clients[i]), "worker") == 0;
    for (int i = 0; i < 100; i++)
        good += strcmp(answer(client_of(fd)), "worker") == 0;
    printf("%d\n", good);
    reap(pids[0]);
    reap(pids[1]);
    close(control[2][1]);
    close(control[3][1]);
    reap(pids[2]);
    reap(pids[3]);
    /* No worker is left: the connection waits until a process accepts. */
    int client = client_of(fd);
    int epfd = MUST(epoll_create1(0));
    MUST(watch(epfd, fd, EPOLLIN, 1));
    show_wait(epfd, 5000);
    printf("served %d\n", serve_all(fd, "parent"));
    printf("%s\n", answer(client));
}
