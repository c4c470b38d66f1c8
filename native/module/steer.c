// SPDX-License-Identifier: GPL-2.0
/*
 * A new connection goes to the local listener of the core that received it, if that listener is
 * live, else to the global one.
 *
 * Facts: all members of a reuseport group are in sk_reuseport_cb->socks[]; a classic BPF program
 * returns the index there (reuseport_select_sock, net/core/sock_reuseport.c). `ld #cpu` is the core
 * that handles the SYN. reuseport_attach_prog frees the program that it replaces.
 */
#include "listener.h"

#include <linux/cpumask.h>
#include <linux/filter.h>
#include <linux/slab.h>
#include <net/sock_reuseport.h>

static int member(const struct sock_reuseport *group, const struct sock *sk)
{
	for (int i = 0; i < READ_ONCE(group->num_socks); i++)
		if (READ_ONCE(group->socks[i]) == sk)
			return i;
	return -1;
}

/* Write the program for the live locals. Returns its length; 0 if there is no group, or the global
 * listener is not in it. */
static int write_program(struct fs_listener *listener, struct sock_filter *program)
{
	const struct sock_reuseport *group;
	struct local *local;
	int n = 0, global = -1, ours = 1;

	rcu_read_lock();
	group = rcu_dereference(listener->global->sk->sk_reuseport_cb);
	if (group)
		global = member(group, listener->global->sk);
	if (global >= 0) {
		program[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
							    SKF_AD_OFF + SKF_AD_CPU);
		list_for_each_entry(local, &listener->locals, node) {
			int index = member(group, local->sock->sk);

			ours += index >= 0;
			if (index < 0 || !local->live)
				continue;
			program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
								    local->cpu, 0, 1);
			program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, index);
		}
		/* If strangers have joined the group by SO_REUSEPORT, the kernel hashes over all
		 * members: it does so for a number that no member has. */
		listener->members = READ_ONCE(group->num_socks);
		if (listener->members > ours)
			global = -1;
		program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, global);
	}
	rcu_read_unlock();
	return n;
}

/* Whether a socket joined or left the group: our indices are then no longer valid. */
bool steer_stale(const struct fs_listener *listener)
{
	const struct sock_reuseport *group;
	bool stale;

	rcu_read_lock();
	group = rcu_dereference(listener->global->sk->sk_reuseport_cb);
	stale = group && listener->attached &&
		READ_ONCE(group->num_socks) != READ_ONCE(listener->members);
	rcu_read_unlock();
	return stale;
}

static const struct bpf_prog *program_of(struct fs_listener *listener)
{
	const struct sock_reuseport *group;
	const struct bpf_prog *program;

	rcu_read_lock();
	group = rcu_dereference(listener->global->sk->sk_reuseport_cb);
	program = group ? rcu_access_pointer(group->prog) : NULL;
	rcu_read_unlock();
	return program;
}

/* Whether this code is attached already. A new program must be compiled, and every core told of its
 * code. */
static bool is_attached(struct fs_listener *listener, const struct sock_fprog_kern *code)
{
	return listener->attached && program_of(listener) == listener->attached &&
	       code->len == listener->program_length &&
	       memcmp(code->filter, listener->program, code->len * sizeof(*code->filter)) == 0;
}

static int attach(struct fs_listener *listener)
{
	struct sock_fprog_kern code = {0};
	struct bpf_prog *program;
	struct local *local;
	int rc, room = 2;

	list_for_each_entry(local, &listener->locals, node)
		room += 2;
	code.filter = kcalloc(room, sizeof(*code.filter), GFP_KERNEL_ACCOUNT);
	if (!code.filter)
		return -ENOMEM;
	code.len = write_program(listener, code.filter);
	if (code.len == 0 || is_attached(listener, &code)) {
		kfree(code.filter);
		return 0;
	}
	rc = bpf_prog_create(&program, &code);
	if (!rc) {
		/* reuseport_attach_prog looks for the group before it takes the group's lock: the
		 * socket's own lock keeps SOCK_DESTROY from taking the socket out meanwhile. */
		lock_sock(listener->global->sk);
		rc = reuseport_attach_prog(listener->global->sk, program);
		release_sock(listener->global->sk);
		if (rc)
			bpf_prog_destroy(program);
	}
	if (rc) {
		kfree(code.filter);
		return rc;
	}
	kfree(listener->program);
	listener->program = code.filter;
	listener->program_length = code.len;
	listener->attached = program;
	return 0;
}

/* The listener leaves its group: the kernel then chooses among the strangers in it. */
void steer_end(struct fs_listener *listener)
{
	lock_sock(listener->global->sk);
	if (listener->attached && program_of(listener) == listener->attached)
		reuseport_detach_prog(listener->global->sk);
	release_sock(listener->global->sk);
	listener->attached = NULL;
	kfree(listener->program);
	listener->program = NULL;
}

static unsigned int count_owners(struct fs_listener *listener, const struct local *local,
				 bool active_only)
{
	struct owner *owner;
	unsigned int count = 0;

	list_for_each_entry(owner, &listener->owners, node)
		if (owner->local == local && (READ_ONCE(owner->active) || !active_only))
			count++;
	return count;
}

/* Wake as many waiters as there are connections; or all, if the woken ones leave connections for
 * long: one may be in an accept that began before the socket was ours, and knows no locals. */
static void wake(struct fs_listener *listener, int connections)
{
	struct sock *sk = listener->global->sk;
	bool for_long =
		listener->left_since && time_after_eq(jiffies, listener->left_since + LOOK_AGAIN);

	sk->sk_data_ready(sk); /* processes that wait for SIGIO, too */
	__wake_up(sk_sleep(sk), TASK_INTERRUPTIBLE, for_long ? 0 : connections,
		  poll_to_key(EPOLLIN | EPOLLRDNORM));
	listener_look(listener);
}

/* Bring every local's state, and the program, up to date. Wake processes that can take the
 * connections that are left. */
void steer_update(struct fs_listener *listener)
{
	struct local *local;
	bool any_open = false;
	int left = 0;

	lockdep_assert_held(&listener->lock);
	WRITE_ONCE(listener->any_open, false);
	smp_mb(); /* local_told() sets local->open first: one of us sees the other's write */
	list_for_each_entry(local, &listener->locals, node) {
		bool orphan = count_owners(listener, local, false) == 0;
		bool live = count_owners(listener, local, true) > 0 &&
			    READ_ONCE(local->deserted) < DESERTED_MAX;

		WRITE_ONCE(local->orphan, orphan);
		/* A local that goes back and forth is not worth a program each time; an orphan is
		 * worth one. */
		if (live != local->live && !orphan && local->changed &&
		    time_before(jiffies, local->changed + LOOK_AGAIN)) {
			live = local->live;
			listener_look(listener);
		}
		if ((live && !local->live) || options_stale(listener->global->sk, local->sock->sk))
			options_copy(listener, local);
		if (live != local->live) {
			WRITE_ONCE(local->live, live);
			local->changed = jiffies;
		}
		if (local_is_anybodys(local)) {
			any_open = true;
			left += READ_ONCE(local->sock->sk->sk_ack_backlog);
		}
	}
	if (any_open)
		WRITE_ONCE(listener->any_open, true);
	if (!list_empty(&listener->locals) && attach(listener))
		pr_warn_ratelimited("fastsocket: steering could not be changed\n");
	if (left)
		wake(listener, left);
	if (!left)
		listener->left_since = 0;
	else if (!listener->left_since)
		listener->left_since = jiffies | 1;
}

/* A core that the process may run on: the one with the fewest active owners, then the one with the
 * fewest owners, then the next one. */
int steer_choose_cpu(struct fs_listener *listener)
{
	unsigned int fewest = UINT_MAX, weight;
	int cpu = listener->last_cpu, best = -1;

	for (int i = 0; i < nr_cpu_ids; i++) {
		const struct local *local;

		cpu = cpu + 1 < nr_cpu_ids ? cpu + 1 : 0;
		if (!cpu_online(cpu) || !cpumask_test_cpu(cpu, current->cpus_ptr))
			continue;
		local = local_of_cpu(listener, cpu);
		weight = local ? (count_owners(listener, local, true) << 16) +
					 count_owners(listener, local, false)
			       : 0;
		if (weight < fewest) {
			fewest = weight;
			best = cpu;
		}
	}
	return best < 0 ? raw_smp_processor_id() : best;
}
