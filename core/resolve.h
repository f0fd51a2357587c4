/* SPDX-License-Identifier: MIT */
/*
 * From a file and the probe table to sites: at which offsets of the file to attach, and in which
 * registers the values lie there.
 */
#ifndef TLSSCOPE_RESOLVE_H
#define TLSSCOPE_RESOLVE_H

#include "image.h"
#include "libs.h"

enum resolve_role {
	RESOLVE_ENTER,	/* a uprobe that runs `enter` */
	RESOLVE_LEAVE,	/* a uprobe that runs `leave` */
	RESOLVE_RETURN, /* a uretprobe that runs `leave` */
	RESOLVE_END,	/* a uprobe that runs `end` */
};

/*
 * A function whose symbol is costly to probe has two enter sites, with a return site each where it
 * has such: the symbol serves until the cheap one has proved itself, and where it does not.
 */
enum resolve_where {
	RESOLVE_ANYHOW,
	RESOLVE_SYMBOL,
	RESOLVE_CHEAP,
	RESOLVE_ASIDE, /* of functions with `inner`: probed only instead of that one */
};

struct resolve_site {
	uint64_t offset; /* in the file */
	uint32_t func;	 /* index in plan.funcs */
	enum resolve_role role;
	enum resolve_where where;
	bool session; /* RESOLVE_ENTER: it may be one, as a return probe does no harm here */
};

/* A function that is hooked. rule lacks what only the tracer knows: subs, source, capture. */
struct resolve_func {
	const struct lib_func *func;
	char name[256]; /* in the file; of func, where that is not a pattern */
	struct ts_rule rule;
	char how[96];  /* "dynsym", "call target of SSL_read and SSL_read_ex", ... */
	char cost[64]; /* of the enter site: "push, emulated", "stepped: ..." */
	/*
	 * It calls the function of this index in the plan, which alone is probed, but where calls
	 * are only counted: then those that call it are. Else its own index.
	 */
	size_t inner;
};

/*
 * Owned by the caller; resolve_free. notes are sentences for -v and --dry-run: what was left out
 * and why, lines ended by \n.
 */
/* What the running kernel's table of symbols tells; addresses are 0 where it does not. */
struct resolve_kernel {
	uint64_t page_offset_base, vmemmap_base; /* of x86_64: where pages are */
	bool preempt_off; /* kprobe.multi is on the function graph (6.14): not preempted in it */
};

struct resolve_plan {
	const struct lib_row *row;
	char about[128]; /* what the file tells of itself: "go1.24.4, arguments in registers"; or ""
			  */
	struct resolve_func *funcs;
	size_t funcs_count;
	struct resolve_site *sites;
	size_t sites_count;
	struct resolve_kernel kernel; /* of lib_kernel's plan */
	struct ts_buf notes;
};

/* Whether the image is of the row's kind. 0, -ENOENT: no; others with a sentence. */
int resolve_is(struct image *im, const struct lib_row *row, struct ts_err *err);

/*
 * Plans all of the row's functions that the file has. 0 even if there is none (sites_count is 0
 * then, notes say why); -ENOMEM; -ENOEXEC: built for another architecture than this kernel's.
 */
int resolve_image(struct image *im, const struct lib_row *row, struct resolve_plan *out,
		  struct ts_err *err);
/* The same for any architecture: what would be attached on a machine of the image's own. */
int resolve_any(struct image *im, const struct lib_row *row, struct resolve_plan *out,
		struct ts_err *err);
/*
 * Adds where OpenSSL's connections have their descriptors, to a plan of the file `ssl`; crypto: the
 * libcrypto beside it, or NULL. A note says how, or why not. 0 or -ENOMEM.
 */
int resolve_bio(struct resolve_plan *plan, struct image *ssl, struct image *crypto);
void resolve_free(struct resolve_plan *plan);

/* Whether the running kernel's own TLS is there: built in, or its module is loaded. */
bool resolve_kernel_ready(void);
/* What to say where it is not: why, and what to do. */
const char *resolve_kernel_missing(void);
/* Plans those functions of lib_kernel that the running kernel has, without sites. */
int resolve_kernel(struct resolve_plan *out, struct ts_err *err);

/* Plans of files that were looked at, by build-id. resolve_cached is as resolve_image. */
struct resolve_cache;
/* ends: functions with `inner` are looked for too, which takes a while. NULL: no memory. */
struct resolve_cache *resolve_cache_open(bool ends);
void resolve_cache_close(struct resolve_cache *cache);
int resolve_cached(struct resolve_cache *cache, struct image *im, const struct lib_row *row,
		   struct resolve_plan *out, struct ts_err *err);

#endif
