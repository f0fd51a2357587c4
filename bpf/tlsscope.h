/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The only header that the BPF programs and the C host share: what user space tells the kernel
 * (rules, filters, control) and what comes back (records, counters). Both sides include their own
 * integer types first (linux/types.h or kernel.h). All structs have the same layout on every
 * 64-bit architecture; the static asserts at the end hold that.
 */
#ifndef TLSSCOPE_SHARED_H
#define TLSSCOPE_SHARED_H

#define TS_MAX_SUBS 64	      /* subscriptions: one bit each in a mask */
#define TS_MAX_RULES 4096     /* functions attached, over all files; 0 is never a rule */
#define TS_MAX_NEST 4	      /* hooked calls in flight in one flow of control */
#define TS_CHUNK 16384	      /* payload bytes in one record at most */
#define TS_CAPTURE_ALL (~0u)  /* a capture limit that is none */
#define TS_MAX_CONNS 16384    /* that the kernel remembers: those in use, and not closed yet */
#define TS_COMM_LEN 16	      /* TASK_COMM_LEN */
#define TS_SMALL_RING 1048576 /* bytes; any record is smaller */
#define TS_FILTER_VALUE 16    /* bytes in a filter's value: a comm, or a number in the first 8 */
#define TS_NET_BITS 128	      /* of an address; IPv4's are IPv6's that begin with ::ffff */

enum ts_dir { TS_IN, TS_OUT }; /* as the traced program sees it: read, written */

/* How a value is found in the registers of a probe hit. */
enum ts_value_kind {
	TS_VAL_NONE, /* there is none */
	TS_VAL_REG,  /* the register, plus disp */
	TS_VAL_MEM,  /* the memory that register + disp points to */
	TS_VAL_TLS,  /* the memory that the thread pointer + disp points to */
};

/* Invariant: reg is the byte offset of a register in struct pt_regs, made by core/arch_*.c. */
struct ts_value {
	__u16 reg;
	__u8 kind; /* enum ts_value_kind */
	__u8 size; /* bytes: 4 (sign-extended to 8) or 8 */
	__s32 disp;
};

/* What a hooked function does. */
enum ts_role {
	TS_ROLE_CALL,	/* transfers plaintext: an enter site and leave sites */
	TS_ROLE_CLOSE,	/* ends a connection: an enter site only */
	TS_ROLE_BEGIN,	/* does a connection's first handshake: an enter site only */
	TS_ROLE_BIO,	/* gives TLS records to a BIO: an enter site only */
	TS_ROLE_SHAKE,	/* does handshakes: sites as of a call */
	TS_ROLE_RESULT, /* tells how the call before it on the connection went: as SSL_get_error */
	TS_ROLE_REASON, /* notes an error: `conn` is its library, `len` its number; an enter site */
	TS_ROLE_LOADER, /* says that libraries were loaded: an enter site only */
	TS_ROLE_END,	/* returns what that of its `source` transferred: an end site */
};

/* How a connection ended; what is not known for certain is NONE. */
enum ts_how {
	TS_HOW_NONE,
	TS_HOW_FREED,	 /* its program gave its memory back */
	TS_HOW_CLEARED,	 /* its memory serves another connection from now on */
	TS_HOW_CLOSED,	 /* its program, or the kernel, closed it */
	TS_HOW_EXITED,	 /* its process ended, or is another program now */
	TS_HOW_NOTIFIED, /* its other end closed it: close_notify */
	TS_HOW_ERROR,	 /* a call on it failed */
	TS_HOW_COUNT
};

/* How a return tells how many bytes were transferred. */
enum ts_ret_mode {
	TS_RET_LEN,   /* the return value, when above 0 */
	TS_RET_OUT,   /* *out (a size_t), when the return value is above 0 */
	TS_RET_FAILS, /* none; another value than 0 says that it failed for good */
};

enum ts_flow_mode {
	TS_FLOW_THREAD, /* calls belong to threads; the stack pointer pairs enter and leave */
	/*
	 * Calls belong to goroutines; `flow` is the runtime's g, which begins with the bounds of
	 * the goroutine's stack (runtime/runtime2.go: g.stack.lo, g.stack.hi). The stack may move
	 * while a call runs, and everything on it keeps its distance from hi: so hi - sp pairs
	 * enter and leave.
	 */
	TS_FLOW_GO,
};

/* From an address to another: each step adds an offset and loads the address that is there. */
#define TS_WALK_STEPS 4
struct ts_walk {
	__u32 steps;
	__s32 offsets[TS_WALK_STEPS];
};

/*
 * Where a connection's descriptor is found. `number` walks to it (the last step's load is of 4
 * bytes), if what `type` walks to is the address of one of `types`: code of the file, 0 is none.
 * `closed` walks to 8 bytes whose lowest bit is set before the program closes the descriptor.
 */
#define TS_FD_TYPES 2
struct ts_fd {
	__u64 types[TS_FD_TYPES];
	struct ts_walk type, number, closed;
};

/*
 * The same for OpenSSL: a connection has BIOs, to read from and to write to, and these a type, its
 * name (no steps: not known), a number that for some types is a descriptor, and another BIO behind
 * them. All is so only where the 4 bytes that `zero` walks to are 0.
 */
struct ts_bio {
	struct ts_walk zero, read, write, type, name;
	__s32 number, next; /* offsets in a BIO; number 0: not known */
	__u32 unused;
};

/* A number: where the walk leads, `size` bytes (at most 8); 0: not known. */
struct ts_member {
	struct ts_walk walk;
	__u32 size;
};

enum ts_shake_flags {
	TS_SHAKE_DONE = 1 << 0,	  /* `busy` is 0 while there is a handshake, not afterwards */
	TS_SHAKE_CLIENT = 1 << 1, /* `server` is 0 in a server */
};

/* openssl/ssl.h: TLS_ST_BEFORE and TLS_ST_OK */
enum { TS_STATE_BEFORE, TS_STATE_OK };

/* Where a connection tells of its handshake. Texts without a length end with NUL. */
struct ts_shake {
	struct ts_member type;	/* where it is not 0, the connection is of another kind */
	struct ts_member busy;	/* not 0: a handshake is going on */
	struct ts_member state; /* TS_STATE_*, or one in between; size 0: `busy` says it all */
	struct ts_member version, cipher, server, resumed, verify;
	struct ts_member alpn, alpn_len, sni, sni_len;
	struct ts_member kept_sni; /* of the session; where an earlier one goes on */
	__u32 flags;		   /* enum ts_shake_flags */
	__u32 zero;
};

enum ts_rule_flags {
	TS_RULE_PEEK = 1 << 0,	 /* what it reads will be read again */
	TS_RULE_NODATA = 1 << 1, /* transfers bytes that never are in the caller's memory */
	TS_RULE_EARLY = 1 << 2,	 /* TLS 1.3 early data */
	TS_RULE_BEGINS = 1 << 3, /* how its connections begin is seen: TS_ROLE_BEGIN */
	TS_RULE_WATCH = 1 << 4,	 /* that it is called is told: struct ts_tested */
	TS_RULE_ENDS = 1 << 5,	 /* those that call it have probes too: enum ts_counts_at */
};

/*
 * One hooked function of one file. conn, buf, len, out, flow and sp are read at the enter site, ret
 * and sp_leave at the leave sites. sp_leave must give what sp gave for the same call: that pairs
 * the two under TS_FLOW_THREAD.
 */
struct ts_rule {
	__u64 subs;	/* subscriptions that want this function of this file */
	__u64 calls;	/* those of them that want its calls, not only handshakes or errors */
	__u64 largest;	/* those of `calls` that ask for as much as `capture` */
	__u32 source;	/* user space's number for {file, function}: a rule's; in every record */
	__u32 capture;	/* payload bytes a call at most: the largest that any of subs asks for */
	__u8 role;	/* enum ts_role */
	__u8 dir;	/* enum ts_dir */
	__u8 ret_mode;	/* enum ts_ret_mode */
	__u8 flow_mode; /* enum ts_flow_mode */
	__u32 flags;	/* enum ts_rule_flags */
	struct ts_value conn, buf, len, out, flow, sp;
	struct ts_value ret, sp_leave;
	struct ts_value refs; /* TS_ROLE_CLOSE: with more than one reference it goes on */
	struct ts_value ip; /* at the enter site; less `entry` it tells where the file is loaded */
	__u64 entry;	    /* the enter site's address in the file */
	/*
	 * TS_SITE_CHEAP: what to add there to ip and sp for those at the enter site. The other
	 * values are the same.
	 */
	__s32 ip_back, sp_back;
	struct ts_fd fd;   /* number.steps 0: not known */
	struct ts_bio bio; /* number 0: not known */
	/*
	 * TS_FLOW_GO: where in g the goroutine's number is; 0: not known. Before it lies g's status
	 * (a __u32 and another), by which the offset is checked at each use.
	 */
	__u32 goid;
	__u32 how; /* TS_ROLE_CLOSE: enum ts_how */
	struct ts_shake shake;
};

/*
 * A site's attach cookie: the rule's number, and one of these where the function has two enter
 * sites. Its symbol costs much to probe; the other one is at an instruction that the kernel
 * emulates, and what it shows is compared at its first hits with what the symbol shows.
 */
#define TS_SITE_RULE 0xffff
#define TS_SITE_SYMBOL (1u << 16)
#define TS_SITE_CHEAP (1u << 17)

enum ts_test { TS_TEST_RUNS, TS_TEST_PASSED, TS_TEST_FAILED };

#define TS_TEST_HITS 8	 /* that are alike: passed */
#define TS_TEST_MISSES 8 /* hits of the symbol alone, and none alike: failed */
struct ts_tested {
	__u32 test; /* enum ts_test: what the programs found */
	/*
	 * User space: hits of the cheap site count. Those of the symbol always do, so that while it
	 * is still probed a call may be kept twice, and no call is kept by neither.
	 */
	__u32 cheap;
	__u32 same, missed;
	/*
	 * User space's. Of a function with TS_RULE_ENDS: enum ts_counts_at; of TS_RULE_WATCH: not 0
	 * when it is watched no more.
	 */
	__u32 counts_at;
	/* Its calls that did not come to an end yet; of TS_RULE_WATCH: those in flight. */
	__u32 pending;
	__u32 skipped; /* its calls that seem to have passed no end */
	__u32 zero;
};

/*
 * Where a call is only counted. The function that does the work has two probes. An instruction near
 * the end of those that call it shows the result too, and where all of these are known, that one
 * probe is enough. A call's return tells the end whether it took the call.
 */
enum ts_counts_at {
	TS_AT_RETURN, /* ends are compared with it */
	TS_AT_END,
	TS_AT_BOTH /* at the return, and at the end what no return told it: it may not be probed */
};

/*
 * Filters: one lookup a key that is in use, whatever the number of subscriptions. The map `filters`
 * goes from {key, value} to the subscriptions that name this value; control.wants[key] has the
 * subscriptions that name any value. A subscription that names none is not constrained. Keys of
 * processes come first: the others are a connection's, and known when a call on it is over.
 */
enum ts_filter_key {
	TS_KEY_PID,
	TS_KEY_COMM,
	TS_KEY_UID,
	TS_KEY_EXE,	  /* a struct ts_exe: a program's path, or its last name alone */
	TS_KEY_CGROUP,	  /* a struct ts_cgroup, and what is below it */
	TS_KEY_CONTAINER, /* the same: a container's cgroup */
	TS_PROCESS_KEYS,
	TS_KEY_LPORT = TS_PROCESS_KEYS, /* ports, as numbers of the host */
	TS_KEY_RPORT,
	TS_KEY_LADDR, /* networks: in the map `nets` */
	TS_KEY_RADDR,
	TS_KEY_COUNT
};

/* A cgroup as a filter's value. */
#define TS_CGROUP_V2 (~0u)
#define TS_HIERARCHIES 4 /* of cgroups, that filters name at the same time */
struct ts_cgroup {
	__u64 id;     /* its folder's inode number */
	__u32 subsys; /* of v1: the controller's number in this kernel; else TS_CGROUP_V2 */
	__u32 zero;
};

/*
 * A program as a filter's value: hashes of its path and of the path's last name. Names are hashed
 * by words of 8 bytes, the last one padded with NUL; paths by their names' hashes, from the last to
 * the first, which is how the kernel has them.
 */
#define TS_EXE_NAMES 32 /* in a path that can be named, at most */
#define TS_EXE_NAME 255 /* bytes in one of them, at most */
#define TS_EXE_SEED 0xcbf29ce484222325ull
struct ts_exe {
	__u64 path; /* 0: any */
	__u64 name;
};

static inline __attribute__((always_inline)) __u64 ts_exe_mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
	return hash ^ hash >> 29;
}

/* Of what was mixed for all names: never 0. */
static inline __attribute__((always_inline)) __u64 ts_exe_path(__u64 hash)
{
	return hash | 1;
}

struct ts_filter_id {
	__u32 key;  /* enum ts_filter_key */
	__u32 zero; /* 0 */
	__u8 value[TS_FILTER_VALUE];
};

/*
 * A network as a filter's value. The map gives the longest that an address is in; its
 * subscriptions are also those of the wider ones around it.
 */
struct ts_net_id {
	__u32 bits; /* of what follows: those of `key`, then as many of `address` as count */
	__u32 key;  /* enum ts_filter_key */
	__u8 address[TS_FILTER_VALUE];
};
#define TS_NET_KEY_BITS 32

struct ts_filter_subs {
	__u64 accept; /* these name the value */
	__u64 reject; /* these exclude it */
	__u64 follow; /* TS_KEY_PID: these want the children of this process too */
};

/* What a subscription asks of a call that transferred something; 0: anything will do. */
#define TS_PREFIX 16
#define TS_PREFIXES 4
struct ts_pick {
	__u64 min_len, max_len; /* bytes transferred */
	__u32 capture;		/* bytes to copy, or TS_CAPTURE_ALL */
	__u32 sample;		/* one call in so many, chosen by ts_data.call */
	__u32 first;		/* only so many of each direction of a connection */
	__u32 rate;		/* only so many in each second of CLOCK_MONOTONIC */
	__u32 prefixes;		/* of these, what the bytes begin with */
	__u32 zero;
	struct {
		__u64 value[2],
			mask[2]; /* bytes as they lie in memory; the mask's are 0xff, or 0 */
		__u64 len;
	} prefix[TS_PREFIXES];
	__u64 second, count; /* the kernel's, of `rate`; a race may let too many pass */
};

/* Of a call's number, which also is a time, makes one that `sample` is as likely to choose as not.
 */
static inline __attribute__((always_inline)) __u32 ts_sample_of(__u64 call)
{
	return (__u32)((call * 0x9e3779b97f4a7c15ull) >> 32);
}

/* The one word of state that user space changes while programs run: a map that both sides see. */
struct ts_control {
	__u64 armed;		     /* the consumer sleeps: the next record must wake it */
	__u64 enabled;		     /* subscriptions that are on */
	__u64 errors;		     /* subscriptions that want calls that transferred nothing */
	__u64 wants[TS_KEY_COUNT];   /* subscriptions that accept only named values of this key */
	__u64 rejects[TS_KEY_COUNT]; /* subscriptions that exclude values of this key */
	/* One of the pids in the map `filters`, with what it has there; 0: none. */
	__u64 first_pid;
	struct ts_filter_subs first;
	__u64 ends;	  /* subscriptions that name ports or addresses at all */
	__u64 picks;	  /* subscriptions that ask something of a call */
	__u64 heads;	  /* those of them that ask for its first bytes */
	__u64 follows;	  /* subscriptions that follow children */
	__u64 opens;	  /* subscriptions that want the ends of handshakes */
	__u64 fails;	  /* subscriptions that want errors */
	__u64 control;	  /* subscriptions that want kTLS' control records */
	__u64 hellos;	  /* subscriptions that want hellos */
	__u64 aggs;	  /* subscriptions that are aggregations, as the map `aggs` says */
	__u64 aggs_ends;  /* those of them whose keys have addresses or ports */
	__u64 counted;	  /* those of them to which a result is all: ends may take their calls */
	__u32 aggs_count; /* of that map's entries */
	__u32 aggs_full;  /* set by the programs: the table had no room */
	__u64 generation; /* of the filters by cgroup and program: another when they changed */
	__u32 hierarchies[TS_HIERARCHIES]; /* ts_cgroup.subsys of those that filters name */
	__u32 hierarchies_count;
	__u32 zero;
	__u64 tested; /* tests of sites that are over */
	/*
	 * Connections that have no descriptor: what is needed to find their sockets (enum
	 * ts_search, set by the programs), and since when sockets are watched.
	 */
	__u64 search, watched;
	__u64 lives;	  /* the lives of all processes are told, not only of those in `watched` */
	__u64 lives_lost; /* set by the programs: there was no room for a struct ts_life */
};

/*
 * What subscriptions may ask for beyond calls as events: of the rest the programs that are loaded
 * for it know nothing.
 */
enum ts_ask {
	TS_ASK_CGROUPS = 1 << 0,  /* filters by cgroup or container */
	TS_ASK_EXES = 1 << 1,	  /* filters by program */
	TS_ASK_SOCKETS = 1 << 2,  /* filters by ports or addresses */
	TS_ASK_PICKS = 1 << 3,	  /* struct ts_pick, or captures that differ */
	TS_ASK_AGGS = 1 << 4,	  /* struct ts_agg */
	TS_ASK_OUTCOMES = 1 << 5, /* how handshakes end, and calls that fail */
	TS_ASK_ALL = (1 << 6) - 1
};
/* Where a program goes on: slots of its map `goes_on`, which has so many. */
enum { TS_GOES_ON_AT_RETURN, TS_GOES_ON_IN_WHOLE, TS_GOES_ON };

enum ts_search {
	TS_SEARCH_CALLS = 1 << 0, /* the socket that is used in a library's call */
	TS_SEARCH_MARKS = 1 << 1, /* the socket that gets what was written to a memory BIO */
	TS_SEARCH_OVER = 1 << 2,  /* one was looked for long enough */
};

/*
 * Aggregations. A subscription may be one: calls that it wants are added up in a table, under a
 * key. They are events for it only where the table has no room for the key, or a value is too
 * large.
 */
enum ts_agg_form {
	TS_AGG_NONE,  /* it is none: all are events */
	TS_AGG_SUM,   /* how many there are, and their sum */
	TS_AGG_ENDS,  /* the smallest and the largest too */
	TS_AGG_HIST,  /* as ENDS, an entry for each power of two */
	TS_AGG_LHIST, /* as ENDS, an entry for each step */
};
enum ts_agg_value { TS_AGG_LEN, TS_AGG_RET, TS_AGG_DURATION /* ns */ };
/* What of a call is in the key; the rest of it is 0. */
enum ts_agg_part {
	TS_AGG_PID = 1 << 0,
	TS_AGG_TID = 1 << 1,
	TS_AGG_UID = 1 << 2,
	TS_AGG_COMM = 1 << 3,
	TS_AGG_CGROUP = 1 << 4,
	TS_AGG_SOURCE = 1 << 5,
	TS_AGG_DIR = 1 << 6,
	TS_AGG_RADDR = 1 << 7, /* a connection whose ends are not known is an event */
	TS_AGG_RPORT = 1 << 8,
};
#define TS_AGG_ENDS_PARTS (TS_AGG_RADDR | TS_AGG_RPORT)
/* Values from -2^36 to below 2^36: a table's sums stay below 2^63 for 2^27 calls. */
#define TS_AGG_LIMIT (1ll << 36)

struct ts_agg {
	__u64 sub; /* its subscription's bit */
	__u32 id;  /* of one run: no two have the same */
	__u8 form, value;
	__u16 parts;
	__u64 scale;	/* TS_AGG_HIST: powers of two of value / scale */
	__s64 min, max; /* TS_AGG_LHIST: where the first step begins, where the last one ends */
	__u64 step;
	__u32 last; /* number of the last step; the first is 1 */
	__u32 zero;
};

struct ts_agg_key {
	__u32 id;
	/*
	 * The thread, where there is more than sums: then nobody else writes to the entry, and
	 * nothing is lost between its reading and writing. Else 0.
	 */
	__u32 writer;
	__s32 bucket; /* as lua/aggregate_kinds.lua numbers them */
	__u32 pid, tid, uid, source;
	__u32 dir;
	__u64 cgroup;
	char comm[TS_COMM_LEN];
	__u8 raddr[TS_FILTER_VALUE]; /* of IPv4: ::ffff:a.b.c.d */
	__u16 rport;
	__u16 zero[3];
};

struct ts_agg_cell {
	__u64 count, bytes;
	__s64 sum;
	__s64 min, max; /* min is above max where the form has none */
	__u64 first;	/* nsecs of its first call */
};

/* What a copy of the programs of bpf/ktls.bpf.c serves: constants, set before it is loaded. */
#define TS_HOOK_ARGS 6
struct ts_hook {
	__u32 rule;
	__u16 args[TS_HOOK_ARGS]; /* byte offsets in struct pt_regs of a function's arguments, */
	__u16 ret, sp;		  /* its return value and the stack pointer */
	__u32 zero;
	__u64 page_offset_base, vmemmap_base; /* where the kernel has these; 0: it has not */
};

/*
 * The kernel's numbers for types of its own: constants, as above. cast: it has bpf_rdonly_cast;
 * word: of one that begins with a number of 8 bytes.
 */
struct ts_types {
	__u32 cast, file, task, word;
};
/* What calls a function of the kernel's, until user space puts its number there. */
#define TS_CALL_CAST 0x7ca57
#define TS_CALL_KEEP_PROCESSOR 0x7ca58	/* bpf_preempt_disable */
#define TS_CALL_LEAVE_PROCESSOR 0x7ca59 /* bpf_preempt_enable */

/*
 * A record. The ring buffer, a file written with -w, and everything that is handed up the pipeline
 * are sequences of these: the size in bytes (this header included), the type, then the type's body.
 */
enum ts_record_type {
	TS_REC_DATA = 1, /* struct ts_data: plaintext. From BPF, as are the next two */
	TS_REC_CLOSE,	 /* struct ts_data: a connection's end; no payload */
	TS_REC_CONN,	 /* struct ts_conn_info: what is known of a connection */
	TS_REC_OPEN,	 /* struct ts_data, then struct ts_open: a handshake's end, an error */
	TS_REC_HELLO,	 /* struct ts_hello: how a TLS connection begins on the wire */
	TS_REC_START,	 /* the types from here on are made by user space: core/record.h */
	TS_REC_SOURCE,
	TS_REC_PROCESS,
	TS_REC_EXEC,
	TS_REC_EXIT,
	TS_REC_LOST,
	TS_REC_TICK,
	TS_REC_SIGNAL,
	TS_REC_STOP,
	TS_REC_ATTACH,
	TS_REC_TYPES,
	TS_REC_LIFE /* struct ts_life: from BPF to the tracer, which hands it to nobody */
};

struct ts_record {
	__u32 size;
	__u16 type;
	__u16 zero;
};

enum ts_data_flags {
	TS_DATA_MORE = 1 << 0,	 /* another record of the same call follows */
	TS_DATA_PEEK = 1 << 1,	 /* bytes that will be read again: they have no position */
	TS_DATA_FAULT = 1 << 2,	 /* some of the bytes wanted could not be read from the process */
	TS_DATA_NODATA = 1 << 3, /* the call transfers bytes that never are in its memory */
	TS_DATA_EARLY = 1 << 4,	 /* TLS 1.3 early data */
	TS_DATA_KTLS = 1 << 5,	 /* the kernel makes the records of this direction */
	/* Bytes of a library's call above kTLS that other subscriptions see: they have no position.
	 */
	TS_DATA_BELOW = 1 << 6,
	TS_DATA_CONTROL = 1 << 7, /* a record that is not data, of kTLS: it has no position */
	TS_DATA_REST = 1 << 8,	  /* TS_REC_CLOSE: what was decrypted before may still be read */
};
#define TS_DATA_UNCOUNTED (TS_DATA_PEEK | TS_DATA_BELOW | TS_DATA_CONTROL)
#define TS_RECORD_DATA 23 /* RFC 8446, 5.1: ContentType application_data */

/*
 * A piece of one call's plaintext. Invariant, which core/stream.c checks:
 * record.size == sizeof(struct ts_data) + captured; off + captured <= len.
 */
struct ts_data {
	struct ts_record record;
	__u64 nsecs;	   /* CLOCK_MONOTONIC at the return */
	__u64 duration;	   /* ns from enter to return */
	__u64 subs;	   /* subscriptions that want it */
	__u64 conn;	   /* the connection's address in the process */
	__u64 conn_opened; /* when first seen; {pid, conn, conn_opened} names a connection */
	__u64 call;	   /* names the call: the same in all its records, and in no other's */
	__u64 pos;	   /* bytes of this connection and direction transferred before this call */
	__u64 len;	   /* bytes that the call transferred */
	__u64 off;	   /* where this record's bytes lie in the call's */
	__s64 ret;	   /* what the function returned */
	__u64 cgroup;	   /* cgroup v2 id */
	__u64 goid;	   /* the goroutine's number; 0: not one's, or unknown */
	__u32 source;	   /* TS_REC_SOURCE with this id tells function and library */
	__u32 captured;	   /* payload bytes in this record */
	__u32 pid, tid, ppid;
	__u32 uid, gid;
	__u32 cpu;
	__s32 fd;     /* the connection's descriptor; below 0: unknown */
	__u32 flags;  /* enum ts_data_flags */
	__u8 dir;     /* enum ts_dir */
	__u8 content; /* kTLS: the TLS record's ContentType; 0: not known */
	__u8 how;     /* TS_REC_CLOSE: enum ts_how */
	__u8 zero;
	__u32 nth; /* this call's number in its direction of the connection, from 1; 0: not known */
	char comm[TS_COMM_LEN]; /* the thread's name, NUL-padded */
	__u8 payload[];
};

enum ts_open_what {
	TS_OPEN_DONE = 1 << 0,	   /* a handshake is done */
	TS_OPEN_FAILED = 1 << 1,   /* a handshake failed */
	TS_OPEN_ERROR = 1 << 2,	   /* a call failed; also with the one above */
	TS_OPEN_GIVEN_UP = 1 << 3, /* with TS_OPEN_FAILED: no call said so, the connection ended */
};

/* What is known of a handshake that ended, or of a call that failed. 0: not known. */
struct ts_open {
	__u32 what;   /* enum ts_open_what */
	__u32 reason; /* OpenSSL's: SSL_R_* */
	__u32 verify; /* OpenSSL's: X509_V_ERR_* */
	__u16 version, cipher;
	__u8 result;  /* OpenSSL's: SSL_ERROR_* */
	__u8 timed;   /* the head's duration is the handshake's */
	__u8 role;    /* TS_CLIENT, TS_SERVER */
	__u8 resumed; /* TS_NO, TS_YES */
	__u32 zero;
	char alpn[256]; /* RFC 7301, 3.1: at most 255 bytes */
	char sni[256];
};
enum { TS_CLIENT = 1, TS_SERVER };
enum { TS_NO = 1, TS_YES };

/*
 * What a socket tells of its connection. Numbers are the host's; 0 is not known. An address has its
 * length: of AF_INET 4, of AF_INET6 16, of AF_UNIX a path's, or a name's that begins with NUL.
 */
#define TS_ADDRESS 108
struct ts_conn_info {
	struct ts_record record;
	__u64 nsecs;
	__u64 conn, conn_opened; /* with pid: as in struct ts_data */
	__u32 pid;
	__u16 family;
	__u16 version; /* 0x0303: TLS 1.2 */
	__u16 cipher;  /* linux/tls.h: TLS_CIPHER_* */
	__u16 lport, rport;
	__u8 llen, rlen;
	__u8 laddr[TS_ADDRESS], raddr[TS_ADDRESS];
};

/* What happened to a process: to any, or to one of those in the map `watched`. */
enum ts_life_what {
	TS_LIFE_EXEC,
	TS_LIFE_EXIT,  /* its last thread's */
	TS_LIFE_LOADED /* its dynamic linker loaded or unloaded something, or is about to */
};
struct ts_life {
	struct ts_record record;
	__u64 nsecs;
	__u32 pid;
	__u32 what; /* enum ts_life_what */
	char comm[TS_COMM_LEN];
};

enum ts_hello_flags {
	TS_HELLO_RETRY = 1 << 0, /* the client's second, after a HelloRetryRequest */
	TS_HELLO_SSL2 = 1 << 1,	 /* in the form of SSL 2.0 */
	TS_HELLO_CUT = 1 << 2,	 /* it goes on behind the bytes that are looked at */
};
#define TS_HELLO_WINDOW 16384 /* bytes of a direction that are looked at */

/*
 * A record of this type holds a whole ClientHello or ServerHello, from its type on; pos and skip
 * are 0. From bpf/hello.bpf.c come, by a channel of their own, pieces of what a TCP connection
 * begins with: `skip` bytes of headers, then those from `pos` on of a direction.
 */
struct ts_hello {
	struct ts_record record;
	__u64 nsecs;
	__u64 subs;
	__u64 cgroup;
	__u64 sock;  /* the socket's address in the kernel, and the number of its first byte in */
	__u32 start; /* TCP: with dir they name a direction of a connection */
	__u32 pos, len, skip;
	__u32 pid, tid,
		ppid; /* pid 0: who it was is not known, and the others are not, up to comm */
	__u32 uid, gid;
	__u32 cpu;
	__u16 family; /* as in struct ts_conn_info */
	__u16 lport, rport;
	__u8 dir;   /* enum ts_dir */
	__u8 flags; /* enum ts_hello_flags */
	__u8 laddr[16], raddr[16];
	char comm[TS_COMM_LEN];
	__u8 payload[];
};

/* What a connection in the map `conns` begins with; there it is no larger than TS_CONN_ROOM. */
#define TS_CONN_ROOM 512
struct ts_progress {
	__u64 opened;
	__u64 pos[2]; /* bytes transferred, by direction */
};

/* Each says what was not shown, or why. */
enum ts_counter {
	TS_CNT_EVENTS,	    /* calls delivered to the ring, whole or in part */
	TS_CNT_BYTES,	    /* payload bytes delivered */
	TS_CNT_LOST_EVENTS, /* calls of which nothing was delivered: the ring was full */
	TS_CNT_LOST_BYTES,  /* transferred bytes lost to a full ring, partly delivered calls too */
	TS_CNT_FAULTS,	    /* payload bytes that could not be read from the process */
	TS_CNT_UNREADABLE,  /* calls whose length could not be read: not delivered */
	TS_CNT_FLOWS_FULL,  /* calls not followed: too many threads or goroutines */
	TS_CNT_UNPAIRED,    /* calls given up: their return was never seen */
	TS_CNT_CONNS_FULL,  /* calls whose connection could not be remembered: no position */
	TS_CNT_FILTERED,    /* hits that no subscription wanted */
	TS_CNT_MISSED,	    /* hits that the kernel did not run (filled by user space) */
	TS_CNT_EARLIER,	    /* calls that return, whose beginning nobody saw */
	TS_CNT_UNFINISHED,  /* writes that failed, of which part may have gone out */
	TS_CNT_STACKS,	    /* calls while one on another stack was in flight (bpf/returns.h) */
	TS_CNT_COUNT
};
#define TS_CNT_ROOM 16 /* also in recordings, which last longer than what is counted today */

/* What one processor counted; no two share a cache line. */
struct ts_counts {
	__u64 n[TS_CNT_ROOM]; /* enum ts_counter */
};

_Static_assert(sizeof(struct ts_value) == 8, "layout");
_Static_assert(sizeof(struct ts_pick) == 216, "layout");
_Static_assert(TS_MAX_RULES <= TS_SITE_RULE + 1, "layout");
_Static_assert(sizeof(struct ts_tested) == 32, "layout");
_Static_assert(sizeof(struct ts_rule) == 40 + 9 * 8 + 24 + 80 + 112 + 8 + sizeof(struct ts_shake),
	       "layout");
_Static_assert(sizeof(struct ts_shake) == 13 * 24 + 8, "layout");
_Static_assert(sizeof(struct ts_open) == 24 + 256 + 256, "layout");
_Static_assert(sizeof(struct ts_filter_id) == 24, "layout");
_Static_assert(sizeof(struct ts_agg) == 56, "layout");
_Static_assert(sizeof(struct ts_agg_key) == 80, "layout");
_Static_assert(sizeof(struct ts_agg_cell) == 48, "layout");
_Static_assert(sizeof(struct ts_cgroup) == TS_FILTER_VALUE, "layout");
_Static_assert(sizeof(struct ts_exe) == TS_FILTER_VALUE, "layout");
_Static_assert(sizeof(struct ts_net_id) == 24, "layout");
_Static_assert(sizeof(struct ts_record) == 8, "layout");
_Static_assert(sizeof(struct ts_data) == 168, "layout");
_Static_assert(sizeof(struct ts_conn_info) == 264, "layout");
_Static_assert(sizeof(struct ts_hello) == 136, "layout");
_Static_assert(sizeof(struct ts_life) == 40, "layout");
_Static_assert(TS_CNT_COUNT <= TS_CNT_ROOM, "layout");
_Static_assert(sizeof(struct ts_hook) == 40, "layout");

#endif
