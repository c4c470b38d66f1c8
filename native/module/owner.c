// SPDX-License-Identifier: GPL-2.0
/*
 * Which process has which local listener. A process is its struct pid (of the thread group), which
 * is never another process's while we hold a reference.
 *
 * Facts: sched_process_exit is traced by each exiting thread, after the count of live threads was
 * taken down (do_exit, kernel/exit.c) and before the process's files are closed. The tracepoint is
 * not exported by name, but found by for_each_kernel_tracepoint.
 */
#include "listener.h"

#include <linux/hashtable.h>
#include <linux/pid.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/tracepoint.h>

static DEFINE_HASHTABLE(owners, 8);
static DEFINE_SPINLOCK(owners_lock);
static struct tracepoint *process_exit;

struct owner *owner_find(const struct listener *listener)
{
	struct pid *tgid = task_tgid(current);
	struct owner *owner;

	hash_for_each_possible_rcu(owners, owner, hash, (unsigned long)tgid)
		if (owner->tgid == tgid && owner->listener == listener && !READ_ONCE(owner->gone))
			return owner;
	return NULL;
}

int owner_set(struct listener *listener, struct local *local)
{
	struct owner *owner;

	lockdep_assert_held(&listener->lock);
	rcu_read_lock();
	owner = owner_find(listener); /* only listener->lock's holder removes it */
	rcu_read_unlock();
	if (owner) {
		if (owner->local != local) {
			WRITE_ONCE(owner->registered, false); /* it waits on another's queue */
			WRITE_ONCE(owner->active, false);
			WRITE_ONCE(owner->local, local);
		}
		return 0;
	}
	owner = kzalloc(sizeof(*owner), GFP_KERNEL_ACCOUNT);
	if (!owner)
		return -ENOMEM;
	owner->listener = listener;
	owner->local = local;
	owner->tgid = get_pid(task_tgid(current));
	list_add_tail(&owner->node, &listener->owners);
	spin_lock_bh(&owners_lock);
	hash_add_rcu(owners, &owner->hash, (unsigned long)owner->tgid);
	spin_unlock_bh(&owners_lock);
	return 0;
}

void owner_drop(struct owner *owner)
{
	spin_lock_bh(&owners_lock);
	hash_del_rcu(&owner->hash);
	spin_unlock_bh(&owners_lock);
	list_del(&owner->node);
	put_pid(owner->tgid); /* readers compare the pointer, and never look behind it */
	kfree_rcu(owner, rcu);
}

/* An owner's process has ended: the rest is done by the listener's work, which may sleep. */
static void on_exit(void *data, struct task_struct *task)
{
	struct pid *tgid;
	struct owner *owner;

	if (atomic_read(&task->signal->live) > 0) /* other threads go on */
		return;
	rcu_read_lock();
	tgid = task_tgid(task);
	hash_for_each_possible_rcu(owners, owner, hash, (unsigned long)tgid)
		if (owner->tgid == tgid) {
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
