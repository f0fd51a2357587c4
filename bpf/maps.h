/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the programs keep: rules, filters, calls in flight, connections, counters, the ring. */
#ifndef TLSSCOPE_MAPS_H
#define TLSSCOPE_MAPS_H

#include "kernel.h"
#include "tlsscope.h"

/* A socket: the kernel's, and its file's inode number, which no two have one after the other. */
struct ts_socket {
	__u64 sk, inode;
};

#define MIXED (~0ull)

/* A call in flight. Free when rule is 0; with a sp then it was left, and did not return. */
struct call {
	struct ts_socket
		socket; /* of the TLS records sent or received in it; sk MIXED: of several */
	__u64 sp, conn, buf, len, nsecs, subs;
	union {
		__u64 out;   /* where its result will be */
		__u64 proof; /* of what a goroutine writes: proof_of; 0: there is none */
	};
	__u64 base; /* where the file is loaded */
	__u32 rule;
	__u32 proven; /* of its bytes */
	__u8 dir;
	__u8 on_stack : 1; /* buf is an offset from the upper end of the goroutine's stack */
	__u8 shakes : 1;   /* began in a handshake */
	__u8 joined : 1;   /* counted in its connection's calls */
	__u8 cheap : 1;	   /* seen where the kernel emulates, not at the symbol */
	__u8 symbol : 1;   /* seen at the symbol, which has such a site */
	__u8 watches : 1;  /* of TS_RULE_WATCH: all that it calls is its own work */
	__u8 ends : 1;	   /* of TS_RULE_ENDS: one of its rule's `pending` */
	__u8 ktls;	   /* the kernel made records of it */
};

/* A connection's addresses and ports; all 0: not known. */
struct ends {
	__u8 laddr[TS_FILTER_VALUE], raddr[TS_FILTER_VALUE]; /* of IPv4: ::ffff:a.b.c.d */
	__u16 lport, rport;
	__u32 family; /* AF_INET, AF_INET6 */
};

/* Which of a call's bytes are sent now: n of the `left` ones from `off` on. several: not all. */
struct sent_piece {
	__u64 off, n, left, several;
};

/* All that the records of one call have in common. */
struct sending {
	struct sent_piece piece;
	__u64 buf;
	__u64 want; /* bytes to capture */
	/* The first bytes, where filters ask for them: TS_PREFIX, and room for those behind. */
	__u64 begin[2 * TS_PREFIX / 8];
	__u32 begin_len;
	__u32 capture;	     /* the most bytes that any of head.subs asks for */
	struct ends ends;    /* of its connection, where aggregations ask for them */
	struct ts_data head; /* at the end: its payload is elsewhere */
};

/* What a call wrote (bpf/proof.h). is 0: there is none. */
struct proof {
	__u64 is, at, len;
};

/* What the symbol showed of a call, for the site that is compared with it. rule 0: nothing. */
struct shown {
	__u64 sp, conn, buf, len, out, base;
	__u32 rule, zero;
};

/* What a call's return tells the end that follows: bpf/ends.h. rule 0: nothing. */
struct told {
	__u64 sp, len;
	__u32 rule;
	__u32 taken; /* the return has taken it */
};

/* The calls in flight of one thread; kept until it ends. */
struct flow {
	struct call calls[TS_MAX_NEST];
	__u64 plain;  /* its last connection has a descriptor: no socket needs to be looked for */
	__u64 reason; /* of the library's first error since the last call began; 0: none */
	struct shown shown;
	struct told told;
	/* What a call that is over sends: there is no room for it on the stack. */
	__u64 off;    /* bytes sent so far */
	__u64 waited; /* and one more: those behind were waited for */
	__u64 g;      /* the goroutine that called; 0: the thread did */
	struct proof proof;
	struct sending sending;
};

/* A call of a goroutine: where its frame lies on the stack is as good as the call's name. */
struct goroutine_key {
	__u64 g;
	__u64 depth; /* sp, less the upper end of the stack */
	__u32 pid, rule;
};

/* A connection's descriptor: a number, or one of these. */
enum { FD_UNREAD = -1, FD_NONE = -2 };

enum { SHAKE_NONE, SHAKE_RUNS, SHAKE_TOLD };

struct conn {
	__u64 opened, pos[2];	 /* struct ts_progress */
	struct ts_socket socket; /* whose struct ts_conn_info was sent */
	struct ends ends;	 /* of that socket */
	__u64 bio;		 /* OpenSSL: where fd is from */
	__u64 closed;		 /* with calls in flight; else 0 */
	__u32 nth[2];		 /* calls that transferred something */
	__s32 fd;
	__u32 calls;   /* of goroutines, in flight */
	__u8 ktls;     /* bits by direction: the kernel makes the records */
	__u8 told;     /* what the kernel's TLS knows of it was sent */
	__u8 doubt;    /* its socket is another one than before, and nothing proved that yet */
	__u8 shake;    /* SHAKE_* */
	__u8 failed;   /* that its last call failed was told */
	__u8 how;      /* enum ts_how, as far as is known */
	__u8 sought;   /* calls in which its socket was looked for in vain */
	__u8 negative; /* its last call returned less than 0 */
	__u8 used;     /* a call of a goroutine on it has returned */
	__u8 begins;   /* how the next one at its address begins will be seen */
	__u8 unseen;   /* how a call of its handshake ended */
	__u64 began;   /* when its handshake did; 0: not known */
	__u64 subs;    /* subscriptions that want to know how its handshake ends */
};

_Static_assert(__builtin_offsetof(struct conn, pos) == __builtin_offsetof(struct ts_progress, pos),
	       "layout");
_Static_assert(sizeof(struct conn) <= TS_CONN_ROOM, "layout");

/*
 * mm tells a process from one that had its number before, execs from itself before an exec: its
 * second one may give it the first mm again.
 */
struct conn_key {
	__u64 mm, conn;
	__u32 pid, execs;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TS_MAX_RULES);
	__type(key, __u32);
	__type(value, struct ts_rule);
} rules SEC(".maps");

/*
 * What user space says and is told: it has these mapped. Variables, as the programs need no helper
 * to find one.
 */
struct ts_control control SEC(".bss.control");
struct ts_tested tested[TS_MAX_RULES] SEC(".bss.tested"); /* by rule: those with two enter sites */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct ts_filter_id);
	__type(value, struct ts_filter_subs);
} filters SEC(".maps");

/* By subscription. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TS_MAX_SUBS);
	__type(key, __u32);
	__type(value, struct ts_pick);
} picks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct ts_net_id);
	__type(value, struct ts_filter_subs);
} nets SEC(".maps");

/* What the filters say of a cgroup, by the two keys; good while its generation is the control's. */
struct cgroup_filter {
	__u64 generation;
	struct {
		__u64 accept, reject;
	} keys[2];
};

/* A cgroup never gets other ancestors. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct ts_cgroup);
	__type(value, struct cgroup_filter);
} cgroups SEC(".maps");

/* A process and which program it runs: the kernel uses the addresses of files and mms again. */
struct exe_key {
	__u64 started, file;
	__u32 pid, execs;
};

/* What the filters say of its program; good while its generation is the control's. */
struct exe_filter {
	__u64 generation, accept, reject;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct exe_key);
	__type(value, struct exe_filter);
} exes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TS_MAX_SUBS);
	__type(key, __u32);
	__type(value, struct ts_agg);
} aggs SEC(".maps");

struct agg_table {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); /* those that user space makes have more */
	__uint(key_size, sizeof(struct ts_agg_key));
	__uint(value_size, sizeof(struct ts_agg_cell));
};

/* Empty while there are no aggregations. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct agg_table);
} agg_tables SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64); /* as bpf_get_current_pid_tgid says it */
	__type(value, struct flow);
} flows SEC(".maps");

/* Those of processes that have ended are taken out by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, struct goroutine_key);
	__type(value, struct call);
} goroutines SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, TS_MAX_CONNS);
	__type(key, struct conn_key);
	__type(value, struct conn);
} conns SEC(".maps");

/* Those that were closed, of which what was decrypted before may still be read. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct conn_key);
	__type(value, struct conn);
} ended SEC(".maps");

/*
 * Connections of which a write failed that may have sent some of its records, as they were then:
 * one that is as it was has not repeated it. Those of processes that have ended are taken out by
 * user space.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct conn_key);
	__type(value, struct ts_progress);
} unfinished SEC(".maps");

/* Whose a socket is, where the connection has no descriptor. */
struct socket_owner {
	struct conn_key key;
	__u64 opened, inode;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* struct sock */
	__type(value, struct socket_owner);
} owners SEC(".maps");

/* The processes whose lives are told, where only these can ever be wanted. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); /* user space sets how many there are */
	__type(key, __u32);
	__type(value, __u32);
} watched SEC(".maps");

/* The beginning of a TLS record that a process' library wrote to a BIO. */
#define MARK 24
#define MARK_LEAST 21 /* the header, and 16 bytes that no other record has */
struct mark_key {
	__u32 pid, zero;
	__u8 bytes[MARK];
};

struct mark {
	__u64 conn, nsecs;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct mark_key);
	__type(value, struct mark);
} marks SEC(".maps");

/* The processes that have marks: nobody else's bytes are looked at. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u32);
} marked SEC(".maps");

/*
 * Mapped by user space: while a system call looks at a map, the kernel runs no kprobe program on
 * that processor.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* user space sets the number of processors */
	__type(key, __u32);
	__type(value, struct ts_counts);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 23); /* user space sets another */
} ring SEC(".maps");

/*
 * Where it is used, records go here first, and to the other one where this is full: what is written
 * again and again stays in the processors' caches. User space reads both, by their records' times.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, TS_SMALL_RING);
} small_ring SEC(".maps");
const volatile __u32 small_first SEC(".rodata.small") = 0;

struct larger_ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16); /* those that user space makes have more */
};

/*
 * The larger one that took its place. Not from the start: each update is waited for until no
 * program runs that was there before.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct larger_ring);
} rings SEC(".maps");

/* Of the probe that is running on this processor, where bpf/copy.bpf.c told: whose, and its rule.
 */
struct hit {
	__u64 thread;
	__u32 rule, zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hit);
} hits SEC(".maps");

static const struct flow no_calls;

/* n must not be a constant 0: clang makes that an atomic "or", which kernels before 5.12 refuse. */
static __always_inline void count(const enum ts_counter counter, __u64 n)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct ts_counts *c = bpf_map_lookup_elem(&counters, &cpu);

	/* Another task can run here on the same CPU before this one is done. */
	if (c)
		__sync_fetch_and_add(&c->n[counter], n);
}

static __always_inline void count_sent(__u64 events, __u64 bytes)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct ts_counts *c = bpf_map_lookup_elem(&counters, &cpu);

	if (!c)
		return;
	/* As above: no constants. */
	asm volatile("" : "+r"(events), "+r"(bytes));
	__sync_fetch_and_add(&c->n[TS_CNT_EVENTS], events);
	__sync_fetch_and_add(&c->n[TS_CNT_BYTES], bytes);
}

/* The ring that records go to. */
static __always_inline void *get_ring(void)
{
	__u32 zero = 0;
	void *larger = bpf_map_lookup_elem(&rings, &zero);

	return larger ? larger : &ring;
}

/*
 * Nobody reads past a record that is being written. So who writes one is not interrupted by other
 * threads, which might have the processor for long: where the kernel lets programs say so (since
 * 6.10; used since 6.12). Where it does not, user space puts nothing in the place of these calls.
 */
static void (*const keep_processor)(void) = (void *)TS_CALL_KEEP_PROCESSOR;
static void (*const leave_processor)(void) = (void *)TS_CALL_LEAVE_PROCESSOR;

static __always_inline void *begin_record(void *room)
{
	if (!room)
		leave_processor();
	return room;
}

/*
 * Room in a ring, of a constant size, to be submitted or discarded soon; NULL: there is none. A
 * record's time is asked for before: what has another ring's later time was not there yet.
 */
static __always_inline void *reserve(const __u64 size)
{
	void *room;

	keep_processor();
	room = small_first ? bpf_ringbuf_reserve(&small_ring, size, 0) : 0;
	return begin_record(room ? room : bpf_ringbuf_reserve(get_ring(), size, 0));
}

/* Of records that have one time, as a call's pieces: in one ring these stay in order. */
static __always_inline void *reserve_large(const __u64 size)
{
	keep_processor();
	return begin_record(bpf_ringbuf_reserve(get_ring(), size, 0));
}

static __always_inline void submit(void *room, __u64 flags)
{
	bpf_ringbuf_submit(room, flags);
	leave_processor();
}

static __always_inline void discard(void *room, __u64 flags)
{
	bpf_ringbuf_discard(room, flags);
	leave_processor();
}

/* The consumer is woken once: it says when it sleeps again. */
static __always_inline __u64 wake_flags(void)
{
	if (!control.armed)
		return BPF_RB_NO_WAKEUP;
	control.armed = 0;
	return BPF_RB_FORCE_WAKEUP;
}

/* The current thread's; NULL: it has none. */
static __always_inline struct flow *find_flow(void)
{
	__u64 thread = bpf_get_current_pid_tgid();

	return bpf_map_lookup_elem(&flows, &thread);
}

static __always_inline struct ts_tested *find_test(__u64 rule)
{
	/* As the verifier wants to see it. */
	asm volatile("%0 &= %1" : "+r"(rule) : "i"(TS_MAX_RULES - 1));
	return &tested[rule];
}

static __always_inline void end_test(struct ts_tested *test, __u32 result)
{
	if (test->test != TS_TEST_RUNS)
		return;
	test->test = result;
	__sync_fetch_and_add(&control.tested, 1);
}

#endif
