// SPDX-License-Identifier: GPL-2.0
/*
 * The processes and their local listeners. A process is its struct pid (of the thread group), which
 * is never another process's while we hold a reference.
 *
 * Facts: sched_process_exit is traced by each exiting thread, after the count of live threads was
 * taken down (do_exit, kernel/exit.c) and before the process's files are closed. The tracepoint is
 * not exported by name, but found by for_each_kernel_tracepoint.
 */
#include "compat/compat.h"
#include "listener.h"

#include <linux/hashtable.h>
#include <linux/pid.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/tracepoint.h>

/* A process that has local listeners, of any number of global ones. */
struct process {
	struct hlist_node hash;
	struct hlist_head owners; /* read under RCU, changed under processes_lock */
	struct pid *tgid;
	struct rcu_head rcu;
};

static DEFINE_HASHTABLE(processes, 8);
static DEFINE_SPINLOCK(processes_lock);
static struct tracepoint *process_exit;

/* Called under RCU, or with processes_lock. */
static struct process *process_of(const struct pid *tgid)
{
	struct process *process;

	hash_for_each_possible_rcu(processes, process, hash, (unsigned long)tgid,
				   lockdep_is_held(&processes_lock))
		if (process->tgid == tgid)
			return process;
	return NULL;
}

struct owner *owner_find(const struct fs_listener *listener)
{
	struct process *process = process_of(task_tgid(current));
	struct owner *owner;

	if (process)
		hlist_for_each_entry_rcu(owner, &process->owners,
					 hash) if (owner->listener == listener &&
						   !READ_ONCE(owner->gone)) return owner;
	return NULL;
}

struct pid *owner_tgid(const struct owner *owner)
{
	return owner->process->tgid;
}

static int add(struct fs_listener *listener, struct local *local)
{
	struct owner *owner = kzalloc(sizeof(*owner), GFP_KERNEL_ACCOUNT);
	struct process *process, *made = kzalloc(sizeof(*made), GFP_KERNEL_ACCOUNT);

	if (!owner || !made) {
		kfree(owner);
		kfree(made);
		return -ENOMEM;
	}
	owner->listener = listener;
	owner->local = local;
	list_add_tail(&owner->node, &listener->owners);
	spin_lock_bh(&processes_lock);
	process = process_of(task_tgid(current));
	if (!process) {
		process = made;
		made = NULL;
		process->tgid = get_pid(task_tgid(current));
		hash_add_rcu(processes, &process->hash, (unsigned long)process->tgid);
	}
	owner->process = process;
	hlist_add_head_rcu(&owner->hash, &process->owners);
	spin_unlock_bh(&processes_lock);
	kfree(made);
	return 0;
}

int owner_set(struct fs_listener *listener, struct local *local)
{
	struct owner *owner;

	lockdep_assert_held(&listener->lock);
	rcu_read_lock();
	owner = owner_find(listener); /* only listener->lock's holder removes it */
	rcu_read_unlock();
	if (!owner)
		return add(listener, local);
	if (owner->local != local) {
		WRITE_ONCE(owner->registered, false); /* it waits on another local's queue */
		WRITE_ONCE(owner->active, false);
		WRITE_ONCE(owner->local, local);
	}
	return 0;
}

void owner_drop(struct owner *owner)
{
	struct process *process = owner->process;

	list_del(&owner->node);
	spin_lock_bh(&processes_lock);
	hlist_del_rcu(&owner->hash);
	if (hlist_empty(&process->owners)) {
		hash_del_rcu(&process->hash);
		put_pid(process->tgid); /* readers compare the pointer, and never follow it */
		kfree_rcu(process, rcu);
	}
	spin_unlock_bh(&processes_lock);
	kfree_rcu(owner, rcu);
}

/* An owner's process has ended: the rest is done by the listener's work, which may sleep. */
static void on_exit(COMPAT_EXIT_ARGUMENTS)
{
	struct process *process;
	struct owner *owner;

	if (atomic_read(&task->signal->live) > 0) /* other threads go on */
		return;
	rcu_read_lock();
	process = process_of(task_tgid(task));
	if (process)
		hlist_for_each_entry_rcu(owner, &process->owners, hash)
		{
			WRITE_ONCE(owner->gone, true);
			listener_kick(owner->listener);
		}
	rcu_read_unlock();
}

static void is_process_exit(struct tracepoint *tracepoint, void *found)
{
	if (strcmp(tracepoint->name, "sched_process_exit") == 0)
		*(struct tracepoint **)found = tracepoint;
}

int owner_init(void)
{
	for_each_kernel_tracepoint(is_process_exit, &process_exit);
	if (!process_exit) {
		pr_err("fastsocket: this kernel has no tracepoint sched_process_exit\n");
		return -ENOENT;
	}
	return tracepoint_probe_register(process_exit, on_exit, NULL);
}

void owner_uninit(void)
{
	tracepoint_probe_unregister(process_exit, on_exit, NULL);
	tracepoint_synchronize_unregister();
}
