/* One thread takes a listener out of the set while the waiting thread is busy, and adds it again:
 * connections that queued up meanwhile are served. */
#include "call.h"

static int fd, epfd;
static volatile int busy, end;

static void *waits(void *unused)
{
    (void)unused;
    while (!end) {
        struct epoll_event event;
        if (epoll_wait(epfd, &event, 1, 20) == 1)
            serve_all(fd, "served");
        while (busy)
            usleep(1000);
    }
    return NULL;
}

int main(void)
{
    pthread_t thread;
    fd = listener(SOCK_NONBLOCK);
    epfd = MUST(epoll_create1(0));
    MUST(watch(epfd, fd, EPOLLIN, 1));
    pthread_create(&thread, NULL, waits, NULL);
    printf("%s\n", answer(client_of(fd)));
    for (int round = 0; round < 6; round++) {
        int clients[4];
        busy = 1;
        usleep(50000);
        for (int i = 0; i < 4; i++)
            clients[i] = client_of(fd);
        MUST(epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL));
        busy = 0;
        usleep(50000);
        MUST(watch(epfd, fd, EPOLLIN, 1));
        for (int i = 0; i < 4; i++)
            printf("%s\n", answer(clients[i]));
    }
    end = 1;
    pthread_join(thread, NULL);
}
