/* One thread adds the listener, another waits, a third accepts; the first takes it out again. */
#include "call.h"

static int fd, epfd, ready[2], done[2], back[2];

static void *waits(void *unused)
{
    (void)unused;
    struct epoll_event event;
    char byte;
    for (;;) {
        int count = epoll_wait(epfd, &event, 1, -1);
        if (count != 1 || event.data.u64 == 2)
            return NULL;
        MUST(write(ready[1], "x", 1));
        MUST(read(back[0], &byte, 1));
    }
}

static void *accepts(void *unused)
{
    (void)unused;
    char byte;
    while (read(ready[0], &byte, 1) == 1) {
        serve_all(fd, "three threads");
        MUST(write(back[1], "x", 1));
    }
    return NULL;
}

int main(void)
{
    pthread_t waiter, accepter;
    MUST(pipe(ready));
    MUST(pipe(done));
    MUST(pipe(back));
    fd = listener(SOCK_NONBLOCK);
    epfd = MUST(epoll_create1(0));
    MUST(watch(epfd, done[0], EPOLLIN, 2));
    pthread_create(&waiter, NULL, waits, NULL);
    pthread_create(&accepter, NULL, accepts, NULL);
    usleep(100000);
    for (int round = 0; round < 3; round++) {
        MUST(watch(epfd, fd, EPOLLIN, 1));
        for (int i = 0; i < 10; i++)
            printf("%s\n", answer(client_of(fd)));
        MUST(epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL));
        usleep(100000);             /* the other threads have finished */
        int client = client_of(fd); /* no thread looks at it now */
        struct pollfd look = {.fd = client, .events = POLLIN};
        printf("%d\n", poll(&look, 1, 50));
        MUST(watch(epfd, fd, EPOLLIN, 1));
        printf("%s\n", answer(client));
        MUST(epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL));
    }
    close(done[1]);
    pthread_join(waiter, NULL);
    close(ready[1]);
    pthread_join(accepter, NULL);
}
