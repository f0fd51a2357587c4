/* SPDX-License-Identifier: MIT */
/*
 * What the files of doctor share: doctor.c (the run), doctor_process.c (a process), doctor_file.c
 * (what is in a file), doctor_libs.c (libraries that are known by more than the probe table),
 * doctor_net.c (who holds connections), doctor_print.c and doctor_json.c.
 */
#ifndef TLSSCOPE_DOCTOR_PRIVATE_H
#define TLSSCOPE_DOCTOR_PRIVATE_H

#include "container.h"
#include "doctor.h"
#include "info.h"
#include "output.h"
#include "proc.h"
#include "targets.h"

/*
 * A TLS library as a file shows it: by the file's name, by code of this name, or by text among its
 * constants that only this library's code has (where it is a part of another program). A row that
 * is like OpenSSL has OpenSSL's functions, and is probed where they have names.
 */
struct doctor_known {
	const char *name;      /* as it is shown */
	const char *files[2];  /* base names: globs */
	const char *companion; /* base name of the file beside it that has its version: a glob */
	const char *symbol;
	const char *signs[3];
	const char *version;  /* what stands before the version's first digit */
	bool dated;	      /* a date stands behind the version */
	bool version_is_sign; /* a version is a sign of it */
	bool like_openssl;
	const char *reason, *remedy; /* why it cannot be captured; what to do */
};
extern const struct doctor_known doctor_known[];
extern const size_t doctor_known_count;
#define DOCTOR_KNOWN_MAX 16 /* at least doctor_known_count */

const char *doctor_base_name(const char *path);
/* A file of this name is of the row's library; or is its companion. */
bool doctor_named(const struct doctor_known *k, const char *path);
bool doctor_is_companion(const struct doctor_known *k, const char *path);

struct doctor_func {
	char name[128];
	const char *serves;	/* as lib_serves says */
	char how[96], cost[64]; /* as in struct resolve_func */
	unsigned int sites;
};

/* One library in one file. Invariant: it is captured, or reason says why not. */
struct doctor_lib {
	const struct doctor_known *known; /* NULL: of Go */
	const char *name;
	char version[64]; /* "": unknown */
	char about[64];	  /* what else is known of it: a sentence's part; or "" */
	struct doctor_func *funcs;
	size_t funcs_count;
	struct ts_buf notes; /* lines: what is left out, and why */
	bool captured;
	char reason[512];
	const char *remedy; /* NULL: the reason has it */
};

/* A file, looked at once however many processes map it. */
#define DOCTOR_LIBS 6
struct doctor_file {
	bool deep; /* its constants were read too */
	bool stripped, is_32bit;
	char problem[512]; /* why it cannot be looked into; "" */
	struct doctor_lib libs[DOCTOR_LIBS];
	size_t libs_count;
	const struct doctor_known *companion; /* whose version it has */
	char version[64];
	struct doctor_file *next;
};

/* All that was looked at. */
struct doctor_files {
	struct targets *targets;
	struct ts_filter everybody;
	struct ts_map map; /* {device, inode} to struct doctor_file */
	struct doctor_file *first, *now;
};
int doctor_files_open(struct doctor_files *files, struct ts_err *err);
void doctor_files_close(struct doctor_files *files);
/*
 * What is in an open file. pid: whose path it is; 0: ours. deep: look for libraries that are built
 * into it too, which reads more of it. NULL: no memory. Lives as long as files.
 */
struct doctor_file *doctor_look(struct doctor_files *files, uint32_t pid, int fd, const char *path,
				bool deep);
/* The library's version, from its companion beside it in the same folder where it has none. */
void doctor_take_version(struct doctor_lib *lib, const struct doctor_file *companion);

/* A file that a process has, or that was named. */
struct doctor_use {
	char *path; /* as the process sees it, without " (deleted)" */
	struct doctor_file *file;
	bool deleted, is_program;
};

/* Whether the file is the library, or has it built into it. */
bool doctor_is_shared(const struct doctor_lib *lib, const char *path);

enum doctor_verdict { DOCTOR_NO, DOCTOR_PARTLY, DOCTOR_YES };
/* Of files together. *problem: the first library that cannot be captured; NULL: there is none. */
enum doctor_verdict doctor_judge(const struct doctor_use *uses, size_t count,
				 const struct doctor_lib **problem);

struct doctor_process {
	struct proc_info info;
	struct container container; /* id "": in none */
	unsigned int connections;   /* established TCP connections that it holds */
	bool connections_known;
	struct doctor_use *uses;
	size_t uses_count, files_count; /* files with TLS; all that it maps */
	bool other_mount_namespace, deleted, musl, is_32bit;
	const char *problem; /* why its files cannot be seen */
	enum doctor_verdict verdict;
	const char *reason, *remedy;
};

/*
 * What is in a process; doctor_process_free. narrow: its lib key. NULL, with *ret: -ESRCH, it has
 * ended; -ENOMEM and others.
 */
struct doctor_process *doctor_look_at_process(struct doctor_files *files,
					      const struct ts_filter *narrow, uint32_t pid,
					      bool deep, int *ret);
void doctor_process_free(struct doctor_process *p);
bool doctor_has_library(const struct doctor_process *p);

/* Established TCP connections, by network namespace. */
struct doctor_net {
	struct ts_map namespaces; /* {inode of the namespace} that were read */
	struct ts_map sockets;	  /* {namespace, inode of the socket} */
};
void doctor_net_close(struct doctor_net *net);
/* How many of them a process has descriptors of; -errno: that cannot be seen. */
int doctor_net_count(struct doctor_net *net, uint32_t pid);

void doctor_print_machine(struct output *out, const struct info_check *checks, size_t count);
void doctor_print_process(struct output *out, const struct doctor_process *p);
void doctor_print_file(struct output *out, const struct doctor_use *use);
/* Processes without a connection that have a library: one line a library. */
struct doctor_others {
	const struct doctor_lib *lib;
	char *path; /* as the first of them sees it */
	uint32_t *pids;
	char comm[TS_COMM_LEN]; /* of the first */
	size_t count;
};
void doctor_print_others(struct output *out, const struct doctor_others *others, size_t count,
			 size_t printed);

void doctor_json_machine(struct output *out, const struct info_check *checks, size_t count);
void doctor_json_process(struct output *out, const struct doctor_process *p);
void doctor_json_file(struct output *out, const struct doctor_use *use);
void doctor_json_others(struct output *out, const struct doctor_others *others, size_t count);
void doctor_send(struct output *out, struct ts_buf *b); /* and empties it */

#endif
