/* Signals while it waits: a handler that restarts, one that does not. */
#include "call.h"

static volatile sig_atomic_t caught;
static int fd;
static char got[64];

static void handler(int number)
{
    (void)number;
    caught++;
}

static void *later(void *argument)
{
    usleep(200000);
    pthread_kill(*(pthread_t *)argument, SIGUSR1);
    usleep(200000);
    strcpy(got, answer(client_of(fd)));
    return NULL;
}

int main(void)
{
    pthread_t self = pthread_self(), thread;
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    fd = listener(0);
    pthread_create(&thread, NULL, later, &self);
    serve(MUST(accept(fd, NULL, NULL)), "restarted");
    pthread_join(thread, NULL);
    printf("%s\n", got);
    printf("caught %d\n", caught);
    action.sa_flags = 0;
    sigaction(SIGUSR1, &action, NULL);
    pthread_create(&thread, NULL, later, &self);
    printf("%d %d\n", accept(fd, NULL, NULL), errno == EINTR);
    serve(MUST(accept(fd, NULL, NULL)), "again");
    pthread_join(thread, NULL);
    printf("%s\n", got);
    printf("caught %d\n", caught);
}
