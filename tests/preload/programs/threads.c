/* Sixteen threads, each with an epoll set of its own; half of them end before their process. */
#include "call.h"

enum { THREADS = 16 };

static int fd, control[2], half[2];

static void *polls(void *argument)
{
    worker(fd, *(int *)argument, "epoll");
    return NULL;
}

static int ask(int times, const char *what)
{
    int good = 0;
    for (int i = 0; i < times; i++)
        good += strcmp(answer(client_of(fd)), what) == 0;
    return good;
}

int main(void)
{
    pthread_t threads[THREADS];
    fd = listener(SOCK_NONBLOCK);
    MUST(pipe(control));
    MUST(pipe(half));
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, polls, i % 2 ? &control[0] : &half[0]);
    printf("%d\n", ask(300, "epoll"));
    int clients[60], good = 0;
    for (int i = 0; i < 60; i++)
        clients[i] = client_of(fd);
    close(half[1]); /* they end; their process does not */
    for (int i = 0; i < 60; i++)
        good += strcmp(answer(clients[i]), "epoll") == 0;
    for (int i = 0; i < THREADS; i += 2)
        pthread_join(threads[i], NULL);
    printf("%d %d\n", good, ask(300, "epoll"));
    close(control[1]);
    for (int i = 1; i < THREADS; i += 2)
        pthread_join(threads[i], NULL);
    close(fd);
    close(control[0]);
    close(half[0]);
    printf("%d open\n", open_fds());
}
