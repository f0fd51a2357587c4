/* SPDX-License-Identifier: MIT */
/*
 * Who is traced: the keys of target{}, of a handler's options and of the command line, in one form.
 * Within a key a list means or; keys and filters intersect; an excluded value never passes.
 */
#ifndef TLSSCOPE_FILTER_H
#define TLSSCOPE_FILTER_H

#include "base.h"

/*
 * Accepted and excluded values of a key that the kernel compares as they are. Owned by the filter.
 */
struct ts_filter_list {
	struct ts_filter_item {
		/* comm, cut to 15 bytes as the kernel does; an address; a struct ts_exe. The rest
		 * is 0. */
		char text[TS_FILTER_VALUE];
		uint64_t number; /* pid, uid, port; of a network: bits of text that count */
		char *exe;	 /* a program as it was named, owned; else NULL */
		bool net;	 /* a network: it holds others */
		bool program;	 /* text is a struct ts_exe: a name alone holds paths */
		bool exclude;
		bool follow; /* pid: with its children */
	} * items;
	size_t count;
	bool nothing; /* the intersection of lists with nothing in common: nobody passes */
};

/*
 * The same of a key whose values user space must find out about: library names, globs or paths when
 * a file is attached; which cgroups are meant, whenever there are new ones.
 */
struct ts_filter_names {
	struct ts_filter_name {
		char *text;
		bool exclude;
		unsigned int set; /* of each set with accepted names, one must match */
	} * items;		  /* by set, ascending */
	size_t count;
};
enum ts_names { TS_NAMES_LIB, TS_NAMES_CGROUP, TS_NAMES_CONTAINER, TS_NAMES_COUNT };

struct ts_filter {
	struct ts_filter_list keys[TS_KEY_COUNT]; /* those of cgroups stay empty */
	struct ts_filter_names names[TS_NAMES_COUNT];
};

void ts_filter_free(struct ts_filter *f); /* and empties it */

/*
 * Adds one value to a key: "pid", "comm", "uid", "exe", "lport", "rport", "laddr", "raddr", "lib",
 * "cgroup", "container". A uid may be a user's name, a pid and a port are above 0, an exe is a path
 * from the root or the last name of one, an address is IPv4 or IPv6, alone or with the length of a
 * prefix: "10.0.0.0/8". To be called before filters intersect: behind that it would widen what they
 * mean. Returns 0, -EINVAL with err set for a bad value or key, -ENOMEM.
 */
int ts_filter_add(struct ts_filter *f, const char *key, const char *value, bool exclude,
		  struct ts_err *err);

/*
 * What a script calls the key; NULL: it has no values of its own. And a value of it, as
 * ts_filter_add takes it.
 */
const char *ts_filter_key(enum ts_filter_key key);
#define TS_FILTER_TEXT 64
const char *ts_filter_text(const struct ts_filter_item *item, char text[TS_FILTER_TEXT]);

/*
 * A program as BPF sees it: by its path as /proc/PID/exe shows it, also of one that was deleted; or
 * by the path's last name. ts_exe_parse: of what a user says; -EINVAL with err set.
 */
struct ts_exe ts_exe_of(const char *path);
int ts_exe_parse(const char *value, struct ts_exe *out, struct ts_err *err);

/* Whether value b of a key is a; of networks, lies within it; of programs, has that last name. */
bool ts_filter_holds(const struct ts_filter_item *a, const struct ts_filter_item *b);

/* Adds a process whose children are traced too (-c). */
int ts_filter_follow(struct ts_filter *f, uint32_t pid);

/* Narrows f to what passes f and other. 0 or -ENOMEM. */
int ts_filter_intersect(struct ts_filter *f, const struct ts_filter *other);

/* Whether a process and thread pass these keys: what BPF decides, for replays. exe "": not known.
 */
bool ts_filter_passes(const struct ts_filter *f, uint32_t pid, const char *comm, uint32_t uid,
		      const char *exe);

/*
 * Whether a connection passes its keys. A port or an address that is not known passes unless some
 * are named, also where it is excluded.
 */
bool ts_filter_ends_pass(const struct ts_filter *f, const struct ts_conn_info *info);
/* Whether any of these keys is used. */
bool ts_filter_names_ends(const struct ts_filter *f);

/*
 * Whether a file passes the lib key. path is the file's path as its process sees it. A value with a
 * slash is matched against the whole path, another against the base name; both as globs, and a
 * value without wildcard also matches names that continue with "." or "-" ("libssl" takes
 * libssl.so.3).
 */
bool ts_filter_lib_passes(const struct ts_filter *f, const char *path);

/* Whether what `matches` knows passes a list of names. */
bool ts_filter_names_pass(const struct ts_filter_names *n,
			  bool (*matches)(void *ctx, const char *value), void *ctx);

/*
 * A subscription: one handler or aggregation, with what it wants. Its index in the array handed to
 * the tracer is its bit in the masks.
 */
struct ts_sub {
	uint64_t probes; /* bits of enum ts_probe (libs.h) */
	struct ts_filter filter;
	uint32_t capture;    /* bytes a call, or TS_CAPTURE_ALL */
	struct ts_pick pick; /* but for its capture */
	bool errors;	     /* calls that transferred nothing too */
	bool enabled;
	bool removed; /* its bit may be used again */
	/* form is not TS_AGG_NONE: the kernel is to add up its events. sub is not set. */
	struct ts_agg agg;
};

bool ts_pick_is_any(const struct ts_pick *p); /* nothing is asked of a call */
/* -EINVAL: the text is empty or longer than TS_PREFIX; -E2BIG: there are TS_PREFIXES already. */
int ts_pick_prefix(struct ts_pick *p, const char *text, size_t len);
/*
 * Whether a call passes, but for `rate`: what BPF decides, for replays. data: `size` of its bytes;
 * what of them is not there may be anything.
 */
bool ts_pick_passes(const struct ts_pick *p, const struct ts_data *call, const unsigned char *data,
		    size_t size);

#endif
