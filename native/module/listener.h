/* SPDX-License-Identifier: GPL-2.0
 *
 * The module's state of a listening socket, and the rules for its use.
 *
 * The global listener is the program's own socket. The only thing of the kernel's that we replace
 * is its `ops`, by a table of ours that lives as long as the module. Behind it stand local
 * listeners, one per core, in kernel sockets without a file; a process that was given one is an
 * owner of it.
 *
 * Rules:
 * - a local lives as long as its listener: an epoll registration on its wait queue belongs to the
 *   global listener's file, and ends before that file's release();
 * - code that changes the locals, their owners or the steering holds listener->lock;
 * - poll and accept find their process's local under RCU, in the table of owners;
 * - listener->work does the work that softirqs and exiting processes find.
 */
#ifndef FASTSOCKET_LISTENER_H
#define FASTSOCKET_LISTENER_H

#include <linux/atomic.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/net.h>
#include <linux/refcount.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <net/inet_connection_sock.h>
#include <net/sock.h>

struct fs_listener {
	struct hlist_node hash; /* by `global` */
	const struct proto_ops *base;
	struct socket *global; /* NULL once it is released */
	refcount_t refs;
	struct rcu_head rcu;
	struct list_head node; /* in the list of all, for /proc */
	struct mutex lock;
	struct list_head locals; /* read under RCU; it only grows */
	struct list_head owners;
	struct delayed_work work;    /* steer_update(), now or soon */
	unsigned long next_look;     /* jiffies */
	int last_cpu;		     /* the core that was chosen last */
	struct sock_filter *program; /* the code that was attached last */
	unsigned int program_length;
	const struct bpf_prog *attached; /* the BPF program that it became */
	unsigned int members;		 /* of the reuseport group, when `program` was written */
	bool any_open;			 /* some local is open to any process */
	/* Since when, in jiffies, connections are left that any process may take; 0: none. */
	unsigned long left_since;
	/* Accepted by processes without a local: from the global listener, from locals. */
	atomic64_t taken, adopted;
};

struct local {
	struct fs_listener *listener;
	struct list_head node;
	struct socket *sock;
	int cpu;
	wait_queue_entry_t ear; /* ours, on the socket's wait queue */
	bool live;		/* connections are steered here */
	bool orphan;		/* it has no owner */
	bool open;		/* any process may take from it, because its owners do not */
	unsigned int deserted;	/* connections that came while it was an orphan, or open */
	bool was_left;		/* at the last look, connections waited */
	s64 own_then;		/* `own` at the last look */
	unsigned long changed;	/* jiffies when `live` changed */
	/* Accepted by its owners: from here, from the global listener, from other locals. */
	atomic64_t own, taken, adopted;
};

/* A process and its local listener. */
struct owner {
	struct hlist_node hash; /* in process->owners */
	struct list_head node;	/* in listener->owners */
	struct rcu_head rcu;
	struct process *process;
	struct fs_listener *listener;
	struct local *local;
	bool active;	     /* it polled or accepted: connections may be steered to it */
	bool registered;     /* it waits on its local's queue itself, so it looks at no other's */
	bool gone;	     /* the process has ended */
	unsigned int streak; /* connections accepted from its own in a row */
};

/* listener.c */
struct fs_listener *listener_of(const struct socket *sock);
const struct proto_ops *listener_base(const struct socket *sock);
int listener_hook(struct socket *sock, struct fs_listener **out);
void listener_put(struct fs_listener *listener);
void listener_kick(struct fs_listener *listener); /* have the work done now */
void listener_look(struct fs_listener *listener); /* have it done soon: a queue may be left */
int listener_spawn(struct fs_listener *listener, int cpu);
void listener_leave(struct fs_listener *listener);
int listener_each(const struct net *net, void (*see)(struct fs_listener *listener, void *context),
		  void *context);
int listener_init(void);
void listener_uninit(void);

/* wait.c: poll and accept */
__poll_t listener_poll(struct file *file, struct socket *sock, struct poll_table_struct *wait);
int listener_accept(struct socket *sock, struct socket *newsock, int flags);

/* local.c */
int local_create(struct fs_listener *listener, int cpu, struct local **out);
int local_listen(struct local *local);
void local_shutdown(struct local *local, int how);
void local_destroy(struct local *local);
struct local *local_of_cpu(struct fs_listener *listener, int cpu);
void local_attend(struct local *local);
void local_look(struct local *local);

static inline bool queue_empty(const struct sock *sk)
{
	return reqsk_queue_empty(&inet_csk(sk)->icsk_accept_queue);
}

static inline bool local_is_anybodys(const struct local *local)
{
	return READ_ONCE(local->orphan) || READ_ONCE(local->open);
}

/* owner.c */
struct owner *
owner_find(const struct fs_listener *listener); /* of the current process, under RCU */
int owner_set(struct fs_listener *listener, struct local *local);
struct pid *owner_tgid(const struct owner *owner);
void owner_drop(struct owner *owner);
int owner_init(void);
void owner_uninit(void);

/* steer.c */
enum { LOOK_AGAIN = HZ / 4 }; /* jiffies */
enum { DESERTED_MAX = 8 };    /* connections without a waiter, until the next go elsewhere */
void steer_update(struct fs_listener *listener);
void steer_end(struct fs_listener *listener);
bool steer_stale(const struct fs_listener *listener);
int steer_choose_cpu(struct fs_listener *listener);

/* options.c */
void options_before_bind(struct sock *from, struct sock *to);
void options_copy(struct fs_listener *listener, struct local *local);
bool options_copiable(const struct sock *sk);
bool options_refused(int level, int name);
bool options_stale(const struct sock *global, const struct sock *local);
void options_mend(struct sock *global, struct sock *connection);

/* device.c, proc.c */
int device_init(void);
void device_uninit(void);
int proc_init(void);
void proc_uninit(void);

#endif
