/* SPDX-License-Identifier: MIT */
/*
 * What the files of the Lua host share. script.c opens and loads, lua_run.c runs handlers,
 * lua_core.c has the primitives on which lua/prelude.lua builds what users see; one file more a
 * subject.
 */
#ifndef TLSSCOPE_LUA_HOST_H
#define TLSSCOPE_LUA_HOST_H

#include <signal.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "libs.h"
#include "script.h"
#include "script_prompt.h"
#include "ws.h"

/*
 * The main stack of the state, from its bottom. An event is one of a ring of userdata: one that a
 * script kept is not the current one when it is used later, and that is seen.
 */
#define HOST_EVENTS 64
enum { HOST_MSGH = 1, HOST_FIRST_EVENT, HOST_TOP = HOST_FIRST_EVENT + HOST_EVENTS - 1 };

#define HOST_LIBRARY "tlsscope.library" /* in the registry: the globals of embedded modules */

#define HOST_CAPTURE 16384 /* bytes a call where nobody says otherwise */
#define HOST_MEMORY (1ull << 30)
#define HTTP_MEMORY (256ull << 20) /* of HTTP that is unfinished, on all connections */
#define HOST_TEXT_MAX (64u << 20)  /* no source file is larger */

/* What a handler of plaintext gets: calls, or what lua_http.c makes of them. */
enum http_event {
	HTTP_NO_EVENT,
	HTTP_EVENT,
	HTTP_REQUEST_EVENT,
	HTTP_RESPONSE_EVENT,
	WS_MESSAGE_EVENT,
	GRPC_CALL_EVENT,
	HTTP_DATA_EVENT,
};

/* A handler of plaintext. Its place in script.handlers is its bit and its place in script.subs. */
struct host_handler {
	struct ts_sub own; /* as declared: not narrowed by target{} */
	int fn, where;	   /* references; where: LUA_NOREF if there is none */
	int handle;	   /* its table in Lua */
	bool used, any_capture, no_peeks;
	uint64_t second, in_second; /* of `rate`: events that it got in this second */
	enum http_event http;
	size_t body; /* of HTTP: bytes of each body to keep; of WebSockets: of each message */
	uint64_t events, bytes;
};

/* What lua/prelude.lua returned: functions, the lists of the own events' handlers, the timers.
 * References.
 */
struct host_callbacks {
	int fire, tick, failed, started, lists, timers, repl, help;
};

/* Who is asked for: the process of that number at that time. */
struct host_who {
	uint32_t pid;
	uint64_t nsecs, cgroup; /* cgroup 0: not known */
	bool ended;		/* it ended then */
};

struct host_procs {
	struct ts_map by_pid; /* struct host_proc */
	struct host_proc *oldest, *newest;
};

/* The last event that a handler got, for the prompt: the message, until it becomes a table. */
struct host_last {
	bool wanted, valid; /* valid: the message and what it points to are */
	struct stream_message message;
	struct ts_buf bytes; /* the message's head, then its data */
	size_t size;
	const struct host_handler *handler;
	int copy; /* a reference */
};

/* Aggregations in the kernel: what lua_agg.c keeps. */
struct host_aggs {
	struct host_agg *list; /* by ts_agg.id - 1 */
	size_t count, merged;  /* merged: of the cells, those that Lua has */
	struct ts_buf cells;   /* struct host_cell: handed over by the kernel */
	uint64_t drained;      /* when, by the system's clock */
	uint64_t seen;	       /* script.calls at that time */
	int on_cell;	       /* reference to the function that adds one */
	bool merging, often;   /* often: an event that is no plaintext's is being handled */
	bool processes;	       /* keys tell of processes */
};

/* Where an event's field name may lie: see lua_event.c. */
struct host_name {
	const char *name;
	int field;
};
#define HOST_NAMES 256

struct script {
	lua_State *L;
	struct script_options o;
	struct script_config config;
	size_t memory, memory_max;

	struct host_handler handlers[TS_MAX_SUBS];
	struct ts_sub subs[TS_MAX_SUBS]; /* the same, narrowed */
	size_t subs_count;
	struct ts_filter target, given; /* given: what target{} reads at the moment */
	uint32_t capture;
	bool changed;
	struct host_callbacks callbacks;

	/* The message at hand; NULL when no handler runs. */
	const struct stream_message *message;
	const struct host_handler *handler;
	void *event; /* its userdata */
	unsigned int event_slot;
	size_t event_size;
	bool event_has_data;	/* its user value holds the data */
	char comm[TS_COMM_LEN]; /* what was pushed last: as in struct ts_data */
	struct host_name names[HOST_NAMES];

	struct {
		struct ts_map conns; /* struct host_http, by the connection's id */
		struct host_http *oldest, *newest;
		struct http_firing *firing; /* the event at hand; NULL: none */
		uint64_t serial;	    /* its number */
		struct ts_buf body;	    /* for what is decoded */
		size_t memory;		    /* about what all readers have */
		uint64_t given_up;	    /* readers that had to make room */
		struct ws_memory ws_memory; /* of all WebSockets */
	} http;

	struct host_procs procs;
	struct host_who about; /* of the own event at hand */
	struct host_aggs aggs;
	uint64_t calls;	      /* of Lua, by host_call */
	uint64_t now;	      /* 0: nothing was seen yet */
	uint64_t wall_offset; /* 0: not known */
	uint64_t began;	      /* nsecs of the run's start */
	uint64_t next_tick;
	bool started, stopped, exited;
	enum script_time time_shown;
	int status;
	uint64_t errors;
	struct {
		uint64_t second;
		char text[16];
	} time; /* the last second shown */

	/* The prompt, where there is one. */
	bool cut;   /* a call was interrupted */
	char *main; /* the name of the main chunk; NULL: no script was loaded */
	int prompt; /* what lua/repl.lua returned: a reference */
	script_command_fn command;
	void *command_ctx;
	struct host_last last;
	struct ts_buf scratch; /* of a primitive that is running */

	volatile sig_atomic_t running, interrupted;
};

struct script *host_of(lua_State *L);

/* lua_load.c */
/* Reads a file of text. checked: refuses what others than its user could have written. */
int host_read_file(const char *path, struct ts_buf *out, bool checked, struct ts_err *err);
/* Push a chunk, or an error object; return as lua_load does. The buffer is freed. */
int host_load_buffer(lua_State *L, const char *chunk, struct ts_buf *text);
/* Pushes nil where there is no such file. */
int host_load_embedded(lua_State *L, const char *path);

/* Reads a script or recipe by its name. */
int host_read_script(struct ts_buf *text, enum script_kind kind, const char *what,
		     struct ts_err *err);

/* lua_run.c: what script.h says of messages, records and interrupts */
/* lua_pcall(nargs, nresults) with traceback, and interrupts told from others. */
int host_call(struct script *s, int nargs, int nresults);
/* Tells of the error on the top, and takes it. handle: the handler's table when it ran. */
void host_handler_failed(struct script *s, const struct host_handler *h, int handle);
void host_interrupted(lua_State *L, lua_Debug *ar); /* raises what an interrupt raises */
void host_clock(struct script *s, uint64_t nsecs);
/* Pushes HH:MM:SS.mmm, or nil when the time of day is not known. */
void host_push_time(lua_State *L, struct script *s, uint64_t nsecs);

/* lua_errors.c */
void host_open_errors(lua_State *L);
int host_traceback(lua_State *L); /* the message handler */
/*
 * Raises an error in what the script says, not in what it does: told with the line of the script's
 * own innermost function and a caret under `word` (may be NULL), without traceback.
 */
int host_fail(lua_State *L, const char *word, const char *format, ...) TS_PRINTF(3, 4);
int host_fail_nearest(lua_State *L, const char *what, const char *name, const char *nearest);
/* Prints the error object at index: first line after `prefix`, then source and caret or frames. */
void host_tell(lua_State *L, int index, const char *prefix);
const char *host_message(lua_State *L, int index); /* its first line; valid while it is there */
/* Turns the message of a failed lua_load on the top into an error object with a place. */
void host_syntax_error(lua_State *L, const char *text, size_t len, size_t read);
bool host_is_exit(lua_State *L, int index); /* what exit() raises */
int host_raise_exit(lua_State *L);
/* Keeps a source for carets. */
void host_keep_source(lua_State *L, const char *chunk, const char *text, size_t len);

void host_forget_source(lua_State *L, const char *chunk);
void host_push_source(lua_State *L, const char *chunk); /* or nil */

/* lua_core.c: pushes the table of primitives. */
void host_push_core(lua_State *L);
/* lua_subs.c: adds the primitives for handlers and filters to the table on the top. */
void host_add_subs(lua_State *L);

/* lua_facts.c: adds what the prompt can tell to the table on the top. */
void host_add_facts(lua_State *L);
void host_keep_last(struct script *s, const struct stream_message *m);
void host_copy_last(lua_State *L, int event); /* in a protected call: this event is it */
void host_settle_last(struct script *s);      /* while what it points to is there; no Lua runs */

/* lua_agg.c: adds the primitives for aggregations in the kernel to the table on the top. */
void host_add_aggs(lua_State *L);
void host_sync_aggs(lua_State *L);     /* takes over what the kernel has, where that is not new */
void host_aggs_tick(struct script *s); /* once a second at least */
void host_aggs_free(struct script *s);

/* lua_event.c */
void host_open_events(lua_State *L); /* pushes HOST_EVENTS userdata */

/* lua_open.c: nil where it is 0; why a handshake or a call failed */
void host_push_version(lua_State *L, unsigned int version);
void host_push_cipher(lua_State *L, unsigned int cipher);
void host_push_failure(lua_State *L, const struct ts_open *o);

/* lua_open_reasons.c: what OpenSSL calls an error of its libssl; NULL: unknown */
const char *host_reason_text(unsigned int number);

/* Pushes a field of what is common to all events of plaintext; false: of no such name. */
bool host_push_message_field(lua_State *L, const struct stream_message *m, const char *name);

/* lua_http.c, lua_http_event.c. subs: the handlers whose filter took the message. */
void host_open_http(lua_State *L);
void host_http_message(struct script *s, const struct stream_message *m, uint64_t subs);
void host_http_closed(struct script *s, const struct stream_conn *conn, uint64_t nsecs);
void host_http_flush(struct script *s, uint64_t nsecs); /* what is unfinished is told */
void host_http_free(struct script *s);

/* lua_conn.c */
void host_open_conns(lua_State *L);
void host_push_conn(lua_State *L, struct stream_conn *c);
/* What its socket told: peer, laddr, ...; false, and nothing is pushed: of no such name. */
bool host_push_info(lua_State *L, const struct stream_conn *c, const char *name);
void host_conn_closed(lua_State *L, struct stream_conn *c); /* nothing where Lua never saw it */

/* lua_hello.c: a field in which hellos differ from calls; false, and nothing is pushed: none. */
bool host_push_hello(lua_State *L, const struct stream_message *m, const char *name);

/* lua_proc.c */
void host_open_procs(lua_State *L);
/* ask: of the system, where nothing is known. */
void host_push_proc(lua_State *L, struct script *s, const struct host_who *who, bool ask);
/* What to call the process' container, or nil. */
void host_push_container(lua_State *L, struct script *s, const struct host_who *who, bool ask);
int host_container(lua_State *L); /* container() -> that of the own event at hand, or nil */
void host_proc_record(struct script *s, const struct ts_record *r);
void host_procs_free(struct script *s);

/* lua_sandbox.c: the standard libraries, as far as this script may have them. */
void host_open_libraries(lua_State *L, bool unsafe);

#endif
