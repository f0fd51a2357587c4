/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "alloc.h"
#include "pcap.h"
#include "read_pcap.h"

#define TO_FILE(p) (&(struct output_file_options){.path = (p), .secret = true})
#define WALL 1000 /* what is added to the clock */
#define BEGIN                                                                                      \
	"section 3=Linux 6.1 4=tlsscope " TS_VERSION "\n"                                          \
	"interface link=101 most=0 2=tlsscope 3=plaintext of TLS connections, in packets made "    \
	"for it unit=9 12=Linux 6.1 1=box\n"

struct fixture {
	char dir[32], path[64];
	struct pcap *pcap;
	struct stream_conn conns[9];
	struct stream_source source;
};

static void start(struct pcap *p)
{
	const struct rec_start body = {.wall_offset = WALL};
	const char *strings[] = {"6.1", "box", NULL};
	struct ts_buf b = {0};

	pcap_start(p, (const void *)record_build(&b, TS_REC_START, &body, sizeof(body), strings));
	ts_buf_free(&b);
}

static void open_file(struct fixture *f, uint64_t rotate)
{
	struct output_file_options where = {f->path, .secret = true, .rotate = rotate, .keep = 3};
	unsigned int i;

	strcpy(f->dir, "/tmp/tlsscope-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/out.pcapng", f->dir);
	assert_int_equal(pcap_open(&f->pcap, &where, NULL), 0);
	for (i = 0; i < TS_ARRAY_SIZE(f->conns); i++)
		f->conns[i] = (struct stream_conn){.id = i, .fd = -1, .how = TS_HOW_FREED};
	f->source = (struct stream_source){1, 0, "openssl", "SSL_write", "/lib/libssl.so.3"};
}

/* A message; what is not named is as usual. */
struct message {
	unsigned int conn;
	enum ts_dir dir;
	const char *data;
	uint64_t nsecs, len, pos, gap, size;
	unsigned int tid, flags;
	bool unplaced;
	const char *comm;
};

static void say(struct fixture *f, struct message m)
{
	size_t size = m.size ? m.size : m.data ? strlen(m.data) : 0;
	struct ts_data head = {
		.nsecs = m.nsecs,
		.conn_opened = !m.unplaced,
		.pos = m.pos,
		.pid = 7,
		.tid = m.tid ? m.tid : 7,
		.flags = m.flags,
		.dir = m.dir,
	};
	struct stream_message sm = {
		.head = &head,
		.source = &f->source,
		.conn = &f->conns[m.conn],
		.data = (const void *)m.data,
		.size = size,
		.len = m.len ? m.len : size,
		.gap = m.gap,
	};

	memcpy(head.comm, m.comm ? m.comm : "curl", strlen(m.comm ? m.comm : "curl"));
	sm.truncated = sm.size < sm.len;
	pcap_message(f->pcap, &sm);
}

static void close_files(struct fixture *f)
{
	char path[80];
	int i;

	unlink(f->path);
	for (i = 1; i < 9; i++) {
		snprintf(path, sizeof(path), "%s.%d", f->path, i);
		unlink(path);
	}
	assert_int_equal(rmdir(f->dir), 0);
}

static void expect(struct fixture *f, const char *want)
{
	struct pcap_reader r = {0};

	assert_int_equal(pcap_close(f->pcap, NULL), 0);
	read_pcap(&r, f->path);
	ts_buf_add(&r.text, "", 1);
	assert_string_equal((char *)r.text.data, want);
	free_reader(&r);
	close_files(f);
}

#define A "192.0.2.1:49153 > 198.51.100.1:80"
#define B "198.51.100.1:80 > 192.0.2.1:49153"
#define HELLO(time)                                                                                \
	time " " A " S -1 1=curl[7] conn 1, its addresses are not known out\n" time " " B          \
	     " SA -1 ack 0 in\n" time " " A " A 0 ack 0 out\n"
#define CALL "1=curl[7] conn 1 SSL_write /lib/libssl.so.3"

static void conversation(void **state)
{
	struct fixture f;
	struct stat st;

	(void)state;
	open_file(&f, 0);
	start(f.pcap);
	say(&f, (struct message){.conn = 1, .dir = TS_OUT, .data = "GET /\n", .nsecs = 1});
	say(&f, (struct message){.conn = 1, .dir = TS_IN, .data = "yes", .nsecs = 2, .tid = 8});
	say(&f, (struct message){.conn = 1, .dir = TS_OUT, .data = "x", .nsecs = 3, .pos = 6});
	assert_int_equal(stat(f.path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	pcap_closed(f.pcap, &f.conns[1], 9);
	pcap_closed(f.pcap, &f.conns[2], 9); /* said nothing */
	pcap_lost(f.pcap, 5);
	expect(&f, BEGIN HELLO("1001") "1001 " A " AP 0 ack 0 'GET /\n' " CALL " out\n"
				       "1002 " B " AP 0 ack 6 'yes' " CALL " tid 8 in\n"
				       "1003 " A " AP 6 ack 3 'x' " CALL " out\n"
				       "1009 " A " AF 7 ack 3 out\n"
				       "1009 " B " AF 3 ack 8 in\n"
				       "1009 " A " A 8 ack 4 out\n"
				       "counts 1009 2=1001 3=1009 4=8 5=5\n");
}

static void nothing(void **state)
{
	struct fixture f;

	(void)state;
	open_file(&f, 0);
	start(f.pcap);
	/* None of these is a part of the stream. */
	say(&f, (struct message){.conn = 1, .dir = TS_IN, .data = "peek", .flags = TS_DATA_PEEK});
	say(&f, (struct message){.conn = 1, .dir = TS_IN, .data = "below", .flags = TS_DATA_BELOW});
	say(&f,
	    (struct message){.conn = 1, .dir = TS_IN, .data = "alert", .flags = TS_DATA_CONTROL});
	say(&f, (struct message){.conn = 1, .dir = TS_IN, .data = NULL});
	expect(&f, BEGIN "counts 0 2=0 3=0 4=0 5=0\n");
}

/* What is missing is missing in the numbers too. */
static void holes(void **state)
{
	struct fixture f;

	(void)state;
	open_file(&f, 0);
	start(f.pcap);
	say(&f, (struct message){.conn = 1, .dir = TS_OUT, .data = "one", .len = 10});
	say(&f, (struct message){.conn = 1, .dir = TS_OUT, .data = "two", .pos = 15, .gap = 5});
	say(&f, (struct message){.conn = 1, .dir = TS_OUT, .data = NULL, .pos = 18, .len = 100});
	say(&f, (struct message){.conn = 1, .dir = TS_OUT, .data = "late", .pos = 11});
	say(&f, (struct message){.conn = 1, .dir = TS_OUT, .data = "unplaced", .unplaced = true});
	expect(&f,
	       BEGIN HELLO("1000") "1000 " A " AP 0 ack 0 'one' " CALL
				   ", 3 of 10 bytes captured out\n"
				   "1000 " A " AP 15 ack 0 'two' " CALL
				   ", 5 bytes missing before out\n"
				   "1000 " A " A 18 ack 0 " CALL ", 0 of 100 bytes captured out\n"
				   "1000 " A " AP 11 ack 0 'late' " CALL " out\n"
				   "1000 " A " AP 118 ack 0 'unplaced' " CALL " out\n"
				   "counts 1000 2=1000 3=1000 4=5 5=0\n");
}

/* Numbers have 32 bits: a longer hole is shown as 2^30 bytes. */
static void wide_holes(void **state)
{
	struct fixture f;

	(void)state;
	open_file(&f, 0);
	start(f.pcap);
	say(&f,
	    (struct message){
		    .conn = 1, .dir = TS_OUT, .data = "a", .pos = 5ull << 30, .gap = 5ull << 30});
	say(&f, (struct message){.conn = 1,
				 .dir = TS_OUT,
				 .data = NULL,
				 .pos = (5ull << 30) + 1,
				 .len = 9ull << 30});
	say(&f, (struct message){.conn = 1, .dir = TS_OUT, .data = "b", .pos = (14ull << 30) + 1});
	expect(&f, BEGIN HELLO("1000") "1000 " A " AP 1073741824 ack 0 'a' " CALL
				       ", 5368709120 bytes missing before out\n"
				       "1000 " B " A 0 ack 1073741825 in\n"
				       "1000 " A " A 1073741825 ack 0 " CALL
				       ", 0 of 9663676416 bytes captured out\n"
				       "1000 " B " A 0 ack -2147483647 in\n"
				       "1000 " A " AP -2147483647 ack 0 'b' " CALL " out\n"
				       "counts 1000 2=1000 3=1000 4=3 5=0\n");
}

/* Segments of legal size, every byte in its place; acknowledged before the window is full. */
static void large_messages(void **state)
{
	const size_t size = 1000000, count = 300;
	char *data = malloc(size);
	struct pcap_reader r = {0};
	struct fixture f;
	size_t i;

	(void)state;
	for (i = 0; i < size; i++)
		data[i] = (char)(i * 7 >> 3);
	open_file(&f, 0);
	say(&f, (struct message){.conn = 1, .dir = TS_IN, .data = data, .size = size});
	assert_int_equal(pcap_close(f.pcap, NULL), 0);
	assert_int_equal(read_pcap(&r, f.path), 3 + 3 + (size + 64511) / 64512);
	assert_int_equal(r.said.len, size);
	assert_memory_equal(r.said.data, data, size);
	ts_buf_add(&r.text, "", 1);
	assert_non_null(strstr((char *)r.text.data, " A 64512 ack 0 of 64512 "));
	assert_non_null(strstr((char *)r.text.data, " AP 967680 ack 0 of 32320 "));
	free_reader(&r);
	assert_int_equal(pcap_open(&f.pcap, TO_FILE("/dev/null"), NULL), 0);
	for (i = 0; i < count; i++)
		say(&f,
		    (struct message){
			    .conn = 1, .dir = TS_IN, .data = data, .size = size, .pos = i * size});
	assert_int_equal(pcap_close(f.pcap, NULL), 0);
	close_files(&f);
	free(data);
}

static void set_ends(struct stream_conn *c, int family, const char *l, int lport, const char *r,
		     int rport)
{
	c->info.family = (__u16)family;
	c->info.llen = c->info.rlen = family == AF_INET ? 4 : 16;
	c->info.lport = (__u16)lport;
	c->info.rport = (__u16)rport;
	assert_int_equal(inet_pton(family, l, c->info.laddr), 1);
	assert_int_equal(inet_pton(family, r, c->info.raddr), 1);
}

/* Real ends, whoever speaks first; the port without TLS; both ends of one connection; used again.
 */
static void real_ends(void **state)
{
	struct fixture f;

	(void)state;
	open_file(&f, 0);
	start(f.pcap);
	set_ends(&f.conns[1], AF_INET, "10.0.0.1", 40000, "10.0.0.2", 443);
	f.conns[1].fd = 5;
	set_ends(&f.conns[2], AF_INET, "10.0.0.2", 443, "10.0.0.1", 40000);
	set_ends(&f.conns[3], AF_INET6, "2001:db8::1", 40000, "2001:db8::2", 9443);
	set_ends(&f.conns[4], AF_INET6, "::ffff:10.0.0.7", 993, "::ffff:10.0.0.8", 50000);
	set_ends(&f.conns[5], AF_INET, "10.0.0.1", 40000, "10.0.0.2", 443);
	say(&f, (struct message){.conn = 1, .dir = TS_IN, .data = "a"});
	say(&f, (struct message){.conn = 2, .dir = TS_OUT, .data = "b"});
	pcap_closed(f.pcap, &f.conns[2], 0);
	pcap_closed(f.pcap, &f.conns[1], 0);
	say(&f, (struct message){.conn = 3, .dir = TS_IN, .data = "c"});
	say(&f, (struct message){.conn = 4, .dir = TS_IN, .data = "d"});
	say(&f, (struct message){.conn = 5, .dir = TS_IN, .data = "e"});
#define C "10.0.0.1:40000 > 10.0.0.2:80"
#define D "10.0.0.2:80 > 10.0.0.1:40000"
#define E "198.51.100.1:49154 > 192.0.2.1:80"
#define F "192.0.2.1:80 > 198.51.100.1:49154"
#define G "[2001:db8::1]:40000 > [2001:db8::2]:9443"
#define OF(n) "1=curl[7] conn " n
#define BY " SSL_write /lib/libssl.so.3"
	expect(&f, BEGIN "1000 " C
			 " S -1 " OF("1") " fd 5, in truth 10.0.0.1:40000 to 10.0.0.2:443 out\n"
					  "1000 " D " SA -1 ack 0 in\n"
					  "1000 " C " A 0 ack 0 out\n"
					  "1000 " D " AP 0 ack 0 'a' " OF("1") BY
	       " in\n"
	       "1000 " E " S -1 " OF("2") ", in truth 10.0.0.2:443 to 10.0.0.1:40000 in\n"
					  "1000 " F " SA -1 ack 0 out\n"
					  "1000 " E " A 0 ack 0 in\n"
					  "1000 " F " AP 0 ack 0 'b' " OF("2") BY
	       " out\n"
	       "1000 " F " AF 1 ack 0 out\n"
	       "1000 " E " AF 0 ack 2 in\n"
	       "1000 " F " A 2 ack 1 out\n"
	       "1000 " C " AF 0 ack 1 out\n"
	       "1000 " D " AF 1 ack 1 in\n"
	       "1000 " C " A 1 ack 2 out\n"
	       "1000 2001:db8::1:40000 > 2001:db8::2:9443 S -1 " OF(
		       "3") " out\n"
			    "1000 2001:db8::2:9443 > 2001:db8::1:40000 SA -1 ack 0 in\n"
			    "1000 2001:db8::1:40000 > 2001:db8::2:9443 A 0 ack 0 out\n"
			    "1000 2001:db8::2:9443 > 2001:db8::1:40000 AP 0 ack 0 'c' " OF("3") BY
	       " in\n"
	       "1000 10.0.0.8:50000 > 10.0.0.7:143 S -1 " OF(
		       "4") ", in truth 10.0.0.7:993 to 10.0.0.8:50000 in\n"
			    "1000 10.0.0.7:143 > 10.0.0.8:50000 SA -1 ack 0 out\n"
			    "1000 10.0.0.8:50000 > 10.0.0.7:143 A 0 ack 0 in\n"
			    "1000 10.0.0.8:50000 > 10.0.0.7:143 AP 0 ack 0 'd' " OF("4") BY
	       " in\n"
	       "1000 " C " S -1 " OF("5") ", in truth 10.0.0.1:40000 to 10.0.0.2:443 out\n"
					  "1000 " D " SA -1 ack 0 in\n"
					  "1000 " C " A 0 ack 0 out\n"
					  "1000 " D " AP 0 ack 0 'e' " OF("5") BY
	       " in\n"
	       "counts 1000 2=1000 3=1000 4=5 5=0\n");
}

/* HTTP/2 is where a dissector finds it, whoever begins; ports that tell nothing. */
static void http2_ends(void **state)
{
	static const char settings[] = "\0\0\6\4\0\0\0\0\0\0\3\0\0\0\200";
	struct pcap_reader r = {0};
	struct fixture f;

	(void)state;
	open_file(&f, 0);
	start(f.pcap);
	set_ends(&f.conns[1], AF_INET, "10.0.0.1", 40000, "10.0.0.2", 50000);
	set_ends(&f.conns[2], AF_INET, "10.0.0.3", 49000, "10.0.0.4", 50000);
	set_ends(&f.conns[3], AF_INET, "10.0.0.5", 9000, "10.0.0.6", 9001);
	say(&f, (struct message){.conn = 1, .dir = TS_OUT, .data = "PRI * HTTP/2.0\r\n\r\n"});
	say(&f, (struct message){.conn = 2, .dir = TS_OUT, .data = settings, .size = 15});
	say(&f, (struct message){.conn = 3, .dir = TS_IN, .data = "PRI * HTTP/1.0\r\n\r\n"});
	assert_int_equal(pcap_close(f.pcap, NULL), 0);
	read_pcap(&r, f.path);
	ts_buf_add(&r.text, "", 1);
	assert_non_null(strstr((char *)r.text.data, " 10.0.0.1:40000 > 10.0.0.2:80 S "));
	assert_non_null(strstr((char *)r.text.data, "in truth 10.0.0.1:40000 to 10.0.0.2:50000"));
	assert_non_null(strstr((char *)r.text.data, " 10.0.0.4:50000 > 10.0.0.3:80 S "));
	assert_non_null(strstr((char *)r.text.data, " 10.0.0.6:9001 > 10.0.0.5:9000 S "));
	free_reader(&r);
	close_files(&f);
}

/* The handshake tells who connected, where ports and words would say something else. */
static void known_roles(void **state)
{
	struct stream_shake client = {.role = TS_CLIENT}, server = {.role = TS_SERVER};
	struct stream_shake unknown = {0};
	struct pcap_reader r = {0};
	struct fixture f;

	(void)state;
	open_file(&f, 0);
	start(f.pcap);
	set_ends(&f.conns[1], AF_INET, "10.0.0.1", 40001, "10.0.0.2", 50001);
	set_ends(&f.conns[2], AF_INET, "10.0.0.1", 40002, "10.0.0.2", 50002);
	set_ends(&f.conns[3], AF_INET, "10.0.0.1", 40003, "10.0.0.2", 443);
	set_ends(&f.conns[4], AF_INET, "10.0.0.1", 40004, "10.0.0.2", 50004);
	f.conns[1].shake = &client;
	f.conns[2].shake = &server;
	f.conns[3].shake = &server;
	f.conns[4].shake = &unknown;
	f.conns[5].shake = &server;
	say(&f, (struct message){.conn = 1, .dir = TS_IN, .data = "220 hello"});
	say(&f, (struct message){.conn = 2, .dir = TS_OUT, .data = "220 hello"});
	say(&f, (struct message){.conn = 3, .dir = TS_OUT, .data = "220 hello"});
	say(&f, (struct message){.conn = 4, .dir = TS_IN, .data = "220 hello"});
	say(&f, (struct message){.conn = 5, .dir = TS_OUT, .data = "220 hello"});
	assert_int_equal(pcap_close(f.pcap, NULL), 0);
	read_pcap(&r, f.path);
	ts_buf_add(&r.text, "", 1);
	assert_non_null(strstr((char *)r.text.data, " 10.0.0.1:40001 > 10.0.0.2:50001 S "));
	assert_non_null(strstr((char *)r.text.data, " 10.0.0.2:50002 > 10.0.0.1:40002 S "));
	assert_non_null(strstr((char *)r.text.data, " 10.0.0.2:443 > 10.0.0.1:40003 S "));
	assert_non_null(strstr((char *)r.text.data, " 10.0.0.2:50004 > 10.0.0.1:40004 S "));
	assert_non_null(strstr((char *)r.text.data, " 198.51.100.1:49157 > 192.0.2.1:80 S "));
	free_reader(&r);
	close_files(&f);
}

/* A Unix socket; "any"; and an end that was not seen. */
static void unusual_ends(void **state)
{
	struct fixture f;

	(void)state;
	open_file(&f, 0);
	start(f.pcap);
	f.conns[1].info =
		(struct ts_conn_info){.family = AF_UNIX, .rlen = 4, .raddr = {0, 'a', '\n', 'b'}};
	set_ends(&f.conns[2], AF_INET, "0.0.0.0", 40000, "10.0.0.2", 443);
	f.conns[2].how = TS_HOW_NONE;
	say(&f, (struct message){.conn = 1, .dir = TS_OUT, .data = "a"});
	say(&f, (struct message){.conn = 2, .dir = TS_IN, .data = "b"});
	pcap_closed(f.pcap, &f.conns[2], 1);
	expect(&f, BEGIN "1000 " A " S -1 " OF("1") ", Unix socket \\x00a\\nb out\n"
						    "1000 " B " SA -1 ack 0 in\n"
						    "1000 " A " A 0 ack 0 out\n"
						    "1000 " A " AP 0 ack 0 'a' " OF("1") BY
	       " out\n"
	       "1000 " E " S -1 " OF("2") ", its addresses are not known in\n"
					  "1000 " F " SA -1 ack 0 out\n"
					  "1000 " E " A 0 ack 0 in\n"
					  "1000 " E " AP 0 ack 0 'b' " OF("2") BY
	       " in\n"
	       "counts 1000 2=1000 3=1000 4=2 5=0\n");
}

static void names_are_harmless(void **state)
{
	static char path[5000];
	struct pcap_reader r = {0};
	struct fixture f;

	(void)state;
	memset(path, '\xff', sizeof(path) - 1);
	open_file(&f, 0);
	f.source.path = path;
	say(&f, (struct message){.conn = 1,
				 .dir = TS_OUT,
				 .data = "a",
				 .comm = "\x1b[2J\n\xff"
					 "12345678"});
	assert_int_equal(pcap_close(f.pcap, NULL), 0);
	read_pcap(&r, f.path);
	ts_buf_add(&r.text, "", 1);
	assert_non_null(strstr((char *)r.text.data, "1=\\x1b[2J\\n\\xff12345678[7] conn 1"));
	assert_null(memchr(r.text.data, 0x1b, r.text.len));
	assert_null(memchr(r.text.data, 0xff, r.text.len));
	free_reader(&r);
	close_files(&f);
}

/* Each file is whole; together they are what one would be. */
static void rotation(void **state)
{
	struct pcap_reader r = {0};
	char data[1000], path[80];
	struct fixture f;
	struct stat st;
	size_t i, packets = 0;
	int n;

	(void)state;
	open_file(&f, 10000);
	start(f.pcap);
	for (i = 0; i < 25; i++) {
		memset(data, 'a' + (int)i, sizeof(data));
		say(&f, (struct message){.conn = 1,
					 .dir = TS_OUT,
					 .data = data,
					 .size = sizeof(data),
					 .pos = 1000 * i});
	}
	assert_int_equal(pcap_close(f.pcap, NULL), 0);
	for (n = 3; n >= 0; n--) {
		snprintf(path, sizeof(path), n ? "%s.%d" : "%s", f.path, n);
		if (stat(path, &st)) {
			assert_int_equal(n, 3);
			continue;
		}
		assert_int_equal(st.st_mode & 07777, 0600);
		assert_true(st.st_size <= 10000 && (!n || st.st_size > 8000));
		packets += read_pcap(&r, path) - 2;
	}
	assert_int_equal(packets, 3 + 25 + 1);
	assert_int_equal(r.said.len, 25000);
	for (i = 0; i < r.said.len; i++)
		assert_int_equal(r.said.data[i], 'a' + i / 1000);
	ts_buf_add(&r.text, "", 1);
	assert_non_null(strstr((char *)r.text.data, A " AP 24000 ack 0 of 1000 "));
	free_reader(&r);
	close_files(&f);
}

static void cannot_be_written(void **state)
{
	struct ts_err err = {""};
	struct fixture f = {0};
	int terminal;

	(void)state;
	assert_int_equal(pcap_open(&f.pcap, TO_FILE("/nonexistent/file"), &err), -ENOENT);
	assert_int_equal(pcap_open(&f.pcap, TO_FILE("/dev/full"), &err), 0);
	pcap_flush(f.pcap);
	assert_int_equal(pcap_failed(f.pcap), 0);
	start(f.pcap);
	pcap_flush(f.pcap);
	assert_int_equal(pcap_failed(f.pcap), ENOSPC);
	assert_int_equal(pcap_close(f.pcap, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "/dev/full failed: No space left"));
	assert_int_equal(pcap_close(NULL, NULL), 0);

	terminal = posix_openpt(O_RDWR | O_NOCTTY);
	assert_true(terminal >= 0 && !grantpt(terminal) && !unlockpt(terminal));
	assert_int_equal(pcap_open(&f.pcap, TO_FILE(ptsname(terminal)), &err), -EINVAL);
	assert_non_null(strstr(err.text, "not for a terminal"));
	close(terminal);
}

static void file_becomes_private(void **state)
{
	struct fixture f;
	struct stat st;

	(void)state;
	open_file(&f, 0);
	assert_int_equal(pcap_close(f.pcap, NULL), 0);
	assert_int_equal(chmod(f.path, 0644), 0);
	assert_int_equal(pcap_open(&f.pcap, TO_FILE(f.path), NULL), 0);
	assert_int_equal(stat(f.path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(pcap_close(f.pcap, NULL), 0);
	close_files(&f);
}

/* Wherever memory ends: no crash, nothing leaks, and it is told. */
static void no_memory(void **state)
{
	struct ts_err err = {""};
	struct fixture f;
	size_t at;
	int ret;

	(void)state;
	open_file(&f, 0);
	assert_int_equal(pcap_close(f.pcap, NULL), 0);
	set_ends(&f.conns[1], AF_INET, "10.0.0.1", 40000, "10.0.0.2", 443);
	for (at = 1;; at++) {
		alloc_left = at;
		ret = pcap_open(&f.pcap, TO_FILE(f.path), &err);
		if (!ret) {
			say(&f, (struct message){.conn = 1, .dir = TS_OUT, .data = "one"});
			say(&f, (struct message){.conn = 2, .dir = TS_OUT, .data = "two"});
			pcap_closed(f.pcap, &f.conns[1], 0);
			ret = pcap_failed(f.pcap);
			assert_int_equal(pcap_close(f.pcap, &err), -ret);
			assert_true(!ret || ret == ENOMEM);
		}
		if (alloc_left)
			break;
		assert_true(ret);
		assert_non_null(strstr(err.text, "memory"));
	}
	assert_true(at > 8);
	assert_int_equal(ret, 0);
	alloc_left = 0;
	close_files(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(conversation),
		cmocka_unit_test(nothing),
		cmocka_unit_test(holes),
		cmocka_unit_test(wide_holes),
		cmocka_unit_test(large_messages),
		cmocka_unit_test(real_ends),
		cmocka_unit_test(http2_ends),
		cmocka_unit_test(known_roles),
		cmocka_unit_test(unusual_ends),
		cmocka_unit_test(names_are_harmless),
		cmocka_unit_test(rotation),
		cmocka_unit_test(cannot_be_written),
		cmocka_unit_test(file_becomes_private),
		cmocka_unit_test(no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
