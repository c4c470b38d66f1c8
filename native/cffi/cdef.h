/* What Python sees of fs.h and uapi.h. The compiler checks each declaration against the header. */

#define FS_WHY_MAX ...
#define FS_SLOTS_MAX ...
#define FS_GLOBAL ...
#define FS_ANY_SLOT ...
#define FS_FIRST_IS_SLOT ...
#define FS_SUPERVISED ...
static char *const FS_RELEASE;

typedef int... pid_t;
typedef int... socklen_t;

enum fs_backend { FS_BACKEND_AUTO, FS_BACKEND_DEVICE, FS_BACKEND_REUSEPORT, FS_BACKEND_OFF, ... };
enum fs_steer { FS_STEER_AUTO, FS_STEER_CPU, FS_STEER_SPREAD, ... };

struct sockaddr;
struct sockaddr_storage { ...; };

struct fs_table;
struct fs_table_options {
    uint32_t slots;
    uint32_t records;
    int backlog;
    enum fs_steer steer;
    uint32_t flags;
    ...;
};
struct fs_table_info {
    uint32_t slots;
    bool shared;
    bool stopping;
    enum fs_steer wanted;
    enum fs_steer steer;
    uint64_t generation;
    uint64_t others;
    uint32_t restored;
    uint64_t cookie;
    char why[...];
    struct sockaddr_storage address;
    socklen_t address_len;
    ...;
};
struct fs_slot_info {
    pid_t pid;
    pid_t tid;
    uint64_t start;
    int cpu;
    bool live;
    bool alive;
    bool used;
    uint64_t claims;
    uint64_t epoch;
    uint64_t own;
    uint64_t stolen;
    uint64_t orphan;
    uint64_t global;
    uint64_t cookie;
    uint64_t arrived;
    ...;
};

int fs_table_create(struct fs_table **out, int fd, const struct fs_table_options *options);
int fs_table_attach(struct fs_table **out, int memfd);
void fs_table_free(struct fs_table *table);
int fs_table_fd(const struct fs_table *table, int slot);
int fs_table_page_fd(const struct fs_table *table);
int fs_table_bell(const struct fs_table *table);
int fs_table_adopt(struct fs_table **out, int memfd, int bell, int global, const int *slots,
                   uint32_t count);
int fs_poll_exclusive(int epfd, int fd);
void fs_table_read(const struct fs_table *table, struct fs_table_info *info);
int fs_table_read_slot(const struct fs_table *table, int slot, struct fs_slot_info *info);
int fs_table_core(const struct fs_table *table, int slot);
int fs_table_claim(struct fs_table *table, int slot, int cpu);
int fs_table_hand_over(struct fs_table *table, int slot, pid_t pid);
int fs_table_release(struct fs_table *table, int slot);
int fs_table_reap(struct fs_table *table);
int fs_table_activate(struct fs_table *table, int slot, bool live);
int fs_table_steer(struct fs_table *table, enum fs_steer wanted);
int fs_table_review(struct fs_table *table);
struct fs_channel;
void fs_table_set_channel(struct fs_table *table, struct fs_channel *channel);
int fs_table_accept(struct fs_table *table, int slot, int source, struct sockaddr *address,
                    socklen_t *length, int flags);
int fs_table_copy_options(struct fs_table *table);
int fs_table_stop_arrivals(struct fs_table *table);
int fs_table_shutdown(struct fs_table *table);
int fs_table_queued(const struct fs_table *table, int slot);
int fs_table_half_open(const struct fs_table *table);

struct fs_channel_options {
    const char *device;
    uint32_t slots;
    enum fs_steer steer;
    ...;
};
int fs_channel_open(struct fs_channel **out, enum fs_backend wanted,
                    const struct fs_channel_options *options, char *why);
void fs_channel_free(struct fs_channel *channel);
enum fs_backend fs_channel_backend(const struct fs_channel *channel);
int fs_channel_socket(struct fs_channel *channel, int family, int type, int protocol);
int fs_channel_listen(struct fs_channel *channel, int fd, int backlog);
int fs_channel_spawn_listen(struct fs_channel *channel, int fd, int cpu);
int fs_channel_spawn_all_listen(struct fs_channel *channel);
int fs_channel_accept(struct fs_channel *channel, int fd, struct sockaddr *address,
                      socklen_t *length, int flags);
int fs_channel_shutdown_listen(struct fs_channel *channel, int fd, int how);
int fs_channel_close(struct fs_channel *channel, int fd);

int fs_parent_death_signal(int signal, pid_t parent);

/* uapi.h: seen here so that a test can compare the layout with what a C program sees. */
#define FSOCKET_IOC_SOCKET ...
#define FSOCKET_IOC_LISTEN ...
#define FSOCKET_IOC_ACCEPT ...
#define FSOCKET_IOC_CLOSE ...
#define FSOCKET_IOC_EPOLL_CTL ...
#define FSOCKET_IOC_SPAWN_LISTEN ...
#define FSOCKET_IOC_SHUTDOWN_LISTEN ...
#define FSOCKET_IOC_SPAWN_ALL_LISTEN ...
struct epoll_event;
struct fsocket_ioctl_arg {
    uint32_t fd;
    uint32_t backlog;
    union {
        struct { void *sockaddr; int *sockaddr_len; int flags; } accept;
        struct { int cpu; } spawn;
        struct { char *buf; uint32_t buf_len; } io;
        struct { uint32_t family; uint32_t type; uint32_t protocol; } socket;
        struct { int how; } shutdown;
        struct {
            uint32_t epoll_fd;
            uint32_t size;
            uint32_t ep_ctl_cmd;
            uint32_t time_out;
            struct epoll_event *ev;
        } epoll;
    } op;
};
