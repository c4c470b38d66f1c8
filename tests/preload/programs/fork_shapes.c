/* Forks of other shapes: before listen, twice, in a thread, sharing the parent's epoll set. */
#include "call.h"

static void *in_thread(void *argument)
{
    int fd = *(int *)argument, control[2];
    MUST(pipe(control));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        close(control[1]);
        worker(fd, control[0], "of a thread");
        _exit(0);
    }
    close(control[0]);
    for (int i = 0; i < 10; i++)
        printf("%s\n", answer(client_of(fd)));
    close(control[1]);
    reap(pid);
    return NULL;
}

int main(void)
{
    int ends[2], control[2];
    MUST(pipe(ends));
    MUST(pipe(control));
    pid_t pid = MUST(fork());
    if (pid == 0) { /* before listen, and the worker is a grandchild whose parent is gone */
        close(control[1]);
        int fd = listener(SOCK_NONBLOCK);
        if (MUST(fork()) != 0)
            _exit(0);
        if (MUST(fork()) != 0)
            _exit(0);
        socklen_t length;
        struct sockaddr_storage name = name_of(fd, &length);
        MUST(write(ends[1], &name, sizeof name));
        worker(fd, control[0], "daemon");
        _exit(0);
    }
    close(control[0]);
    reap(pid);
    struct sockaddr_storage name;
    MUST(read(ends[0], &name, sizeof name));
    for (int i = 0; i < 10; i++) {
        int client = MUST(socket(AF_INET, SOCK_STREAM, 0));
        MUST(connect(client, (struct sockaddr *)&name, sizeof(struct sockaddr_in)));
        printf("%s\n", answer(client));
    }
    close(control[1]);

    int fd = listener(SOCK_NONBLOCK);
    pthread_t thread;
    pthread_create(&thread, NULL, in_thread, &fd);
    pthread_join(thread, NULL);

    /* A set that exists before the fork is the same set in both processes. */
    int epfd = MUST(epoll_create1(0));
    MUST(watch(epfd, fd, EPOLLIN, 5));
    show_wait(epfd, 10);
    pid = MUST(fork());
    if (pid == 0) {
        struct epoll_event event;
        int count = epoll_wait(epfd, &event, 1, 5000);
        printf("child: %d %d\n", count, (int)event.data.u64);
        printf("served %d\n", serve_all(fd, "child"));
        fflush(stdout);
        _exit(0);
    }
    fflush(stdout);
    printf("%s\n", answer(client_of(fd)));
    reap(pid);
    int client = client_of(fd);
    show_wait(epfd, 5000);
    printf("served %d\n", serve_all(fd, "parent"));
    printf("%s\n", answer(client));
}
