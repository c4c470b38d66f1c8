/* A signal ends epoll_wait; a handler closes a listener, whatever the program was doing. */
#include "call.h"

#include <time.h>

static volatile sig_atomic_t caught, fd;

static void handler(int number)
{
    (void)number;
    caught++;
}

static void closes(int number)
{
    int open = fd;
    (void)number;
    fd = -1;
    close(open);
}

static void *kills(void *thread)
{
    usleep(200000);
    pthread_kill(*(pthread_t *)thread, SIGUSR1);
    return NULL;
}

int main(void)
{
    pthread_t self = pthread_self(), thread;
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    fd = listener(SOCK_NONBLOCK);
    int epfd = MUST(epoll_create1(0));
    MUST(watch(epfd, fd, EPOLLIN, 1));
    show_wait(epfd, 10);
    pthread_create(&thread, NULL, kills, &self);
    show_wait(epfd, 5000);
    printf("%d, caught %d\n", errno == EINTR, caught);
    pthread_join(thread, NULL);
    int client = client_of(fd);
    show_wait(epfd, 5000);
    printf("served %d\n", serve_all(fd, "after it"));
    printf("%s\n", answer(client));
    close(fd);

    /* A handler may call close(2), even in the middle of malloc(3). */
    action.sa_handler = closes;
    sigaction(SIGALRM, &action, NULL);
    for (int round = 0; round < 300; round++) {
        fd = listener(SOCK_NONBLOCK);
        if (round % 2) {
            MUST(watch(epfd, fd, EPOLLIN, 1));
            epoll_wait(epfd, &(struct epoll_event){0}, 1, 0);
        }
        ualarm(100 + (unsigned)round * 7919 % 300, 0);
        void *some[64] = {0};
        for (unsigned i = 0; fd >= 0; i++) {
            free(some[i % 64]);
            some[i % 64] = malloc(2000 + i * 977 % 60000);
        }
        for (int i = 0; i < 64; i++)
            free(some[i]);
    }
    printf("%d open\n", open_fds());
}
