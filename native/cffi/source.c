#include <fastsocket/fs.h>
#include <fastsocket/uapi.h>

/* Python's poller. `arm` is called often, for Python too, so it is done here. */
struct part_poll {
    void *handle; /* of the object whose methods are part_add and part_remove (cdef.h) */
    int epfd;     /* the epoll set that it polls; -1: unknown */
};

static int part_add(void *handle, int fd, int source, bool edge);
static void part_remove(void *handle, int fd, int source);

static int poll_add(void *context, int fd, int source, bool edge)
{
    return part_add(((struct part_poll *)context)->handle, fd, source, edge);
}

static void poll_remove(void *context, int fd, int source)
{
    part_remove(((struct part_poll *)context)->handle, fd, source);
}

static void poll_arm(void *context, int fd, int source, bool on)
{
    const struct part_poll *poll = context;
    (void)source;
    if (poll->epfd >= 0)
        fs_poll_arm(poll->epfd, fd, on);
}

static struct fs_poller part_poller = {
    .add = poll_add, .remove = poll_remove, .arm = poll_arm};
