/* Python's view of fs.h and uapi.h. The compiler checks each declaration against the header. */

#define FS_WHY_MAX ...
#define FS_SLOTS_MAX ...
#define FS_GLOBAL ...
#define FS_ANY_SLOT ...
#define FS_SIBLINGS ...
#define FS_NEIGHBOUR ...
#define FS_PULSE_BEFORE ...
#define FS_FIRST_IS_SLOT ...
#define FS_SUPERVISED ...
#define FS_HASH_WILL_DO ...
#define FS_TIMED ...
#define FS_BUCKETS ...
static char *const FS_RELEASE;

typedef int... pid_t;
typedef int... socklen_t;

enum fs_backend { FS_BACKEND_AUTO, FS_BACKEND_DEVICE, FS_BACKEND_REUSEPORT, FS_BACKEND_OFF, ... };
enum fs_steer { FS_STEER_AUTO, FS_STEER_CPU, FS_STEER_SPREAD, FS_STEER_HASH, ... };

struct sockaddr;
struct sockaddr_storage { ...; };

uint64_t fs_socket_cookie(int fd);
struct fs_queue { uint64_t cookie; uint32_t length; uint32_t limit; ...; };
int fs_queues(struct fs_queue *out, uint32_t room);

struct fs_table;
uint32_t fs_default_slots(void);
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
    uint64_t helped;
    int64_t open;
    uint64_t late;
    uint64_t worked;
    uint64_t lived;
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
int fs_poll_exclusive(int epfd, int fd, bool edge);
bool fs_table_refused(const struct fs_table *table);
void fs_table_read(const struct fs_table *table, struct fs_table_info *info);
int fs_table_read_slot(const struct fs_table *table, int slot, struct fs_slot_info *info);
struct fs_histogram { uint64_t sum; uint64_t count[...]; ...; };
uint64_t fs_bucket_end(uint32_t bucket);
void fs_histogram_read(const struct fs_histogram *histogram, struct fs_histogram *out);
int fs_table_read_waits(const struct fs_table *table, int slot, struct fs_histogram *waits);
int fs_table_core(const struct fs_table *table, int slot);
int fs_table_claim(struct fs_table *table, int slot, int cpu);
int fs_table_hand_over(struct fs_table *table, int slot, pid_t pid);
int fs_table_release(struct fs_table *table, int slot);
int fs_table_reap(struct fs_table *table);
int fs_table_activate(struct fs_table *table, int slot, bool live);
int fs_table_steer(struct fs_table *table, enum fs_steer wanted);
int fs_table_review(struct fs_table *table);
int fs_table_joined(struct fs_table *table);
struct fs_channel;
void fs_table_set_channel(struct fs_table *table, struct fs_channel *channel);
int fs_table_accept(struct fs_table *table, int slot, int source, struct sockaddr *address,
                    socklen_t *length, int flags);
int fs_table_copy_options(struct fs_table *table);
int fs_table_stop_arrivals(struct fs_table *table);
int fs_table_shutdown(struct fs_table *table);
int fs_table_queued(const struct fs_table *table, int slot);
int fs_table_half_open(const struct fs_table *table);

uint32_t fs_table_sources(const struct fs_table *table, int slot, uint32_t siblings, int *out);
int fs_table_accept_any(struct fs_table *table, int slot, struct sockaddr *address,
                        socklen_t *length, int flags);

struct fs_poller { ...; };
struct part_poll { void *handle; int epfd; };
extern struct fs_poller part_poller;
extern "Python" int part_add(void *handle, int fd, int source, bool edge);
extern "Python" void part_remove(void *handle, int fd, int source);

struct fs_part;
int fs_part_open(struct fs_part **out, struct fs_table *table, int slot, bool with_global,
                 const struct fs_poller *poller, void *context);
void fs_part_close(struct fs_part *part);
void fs_part_forget(struct fs_part *part);
void fs_part_free(struct fs_part *part);
int fs_part_sync(struct fs_part *part);
int fs_part_activate(struct fs_part *part);
void fs_part_heed(struct fs_part *part, int source);
void fs_part_rest(struct fs_part *part);
void fs_part_resume(struct fs_part *part);
int fs_part_slot(const struct fs_part *part);
int fs_part_may_take(struct fs_part *part, int source, int most);
int fs_part_look_due(const struct fs_part *part);
uint32_t fs_part_look(struct fs_part *part, int *out);
int fs_part_accept(struct fs_part *part, struct sockaddr *address, socklen_t *length, int flags);
uint32_t fs_part_sources(const struct fs_part *part, int *out);

struct fs_pulse;
int fs_pulse_open(struct fs_pulse **out);
void fs_pulse_free(struct fs_pulse *pulse);
int fs_pulse_join(struct fs_pulse *pulse, struct fs_part *part);
void fs_pulse_leave(struct fs_pulse *pulse, struct fs_part *part);
enum fs_refusal {
    FS_REFUSED_MALFORMED, FS_REFUSED_TOO_LARGE, FS_REFUSED_TIMEOUT, FS_REFUSED_CONCURRENCY,
    FS_REFUSED_QUEUE_TIME, FS_REFUSED_NOT_TLS, FS_REFUSED_NO_PROXY, ...
};
struct fs_counters {
    uint64_t worked;
    uint64_t bytes[2];
    uint64_t connections[2];
    uint64_t answered[6];
    uint64_t refused[...];
    uint64_t websockets[2];
    uint64_t dropped;
    struct fs_histogram took;
    ...;
};
struct fs_worker_page { struct fs_counters counters; ...; };
void fs_pulse_show(struct fs_pulse *pulse, struct fs_worker_page *page);
uint64_t fs_worker_busy(const struct fs_worker_page *page);
int fs_shared_map(void **out, size_t size, int fd, bool writable);
int fs_shared_keep(void *at, size_t size, size_t from, size_t length);
void fs_worker_pool(struct fs_worker_page *page, uint64_t since);
void fs_pulse_waits(struct fs_pulse *pulse);
void fs_pulse_runs(struct fs_pulse *pulse);
void fs_pulse_before_poll(void *handle);
void fs_pulse_after_poll(void *handle);

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

/* uapi.h: declared here so that a test can compare the layout with a C program's view of it. */
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
