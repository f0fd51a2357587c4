/* SPDX-License-Identifier: MIT */
/*
 * The kernel as a user of its own TLS: a network block device over a kTLS connection to a server in
 * this program. Reads some blocks and writes some; then prints the two ends as ktls.c does, of the
 * server's also what it moved.
 *
 * usage: ktls_nbd DEVICE   waits for a line on stdin when the connection is there
 */
#include "ktls_keys.h"

#include <endian.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/nbd.h>
#include <pthread.h>
#include <sys/ioctl.h>

enum {
	BLOCK = 4096,
	BLOCKS = 16,
	HEADER = 28, /* of a request: magic, type, handle, from, length */
	ANSWER = 16, /* magic, error, handle */
	STORED = 8,  /* tags of the content */
	WRITTEN = 9,
};

struct served {
	struct side *side;
	char data[BLOCKS * BLOCK];
};

struct device {
	int fd;
	pthread_t thread;
};

static void take(struct side *s, void *buf, size_t n)
{
	char *at = buf;

	while (n) {
		size_t got = moved(&s->in, "recv", recv(s->fd, at, n, 0));

		at += got;
		n -= got;
	}
}

static void give(struct side *s, const void *buf, size_t n)
{
	if (moved(&s->out, "send", send(s->fd, buf, n, 0)) != n)
		die("send");
}

static void *serve(void *arg)
{
	struct served *d = arg;
	unsigned char request[HEADER], answer[ANSWER] = {0};
	uint32_t type, length, magic = htobe32(NBD_REPLY_MAGIC);
	uint64_t from;

	memcpy(answer, &magic, sizeof(magic));
	for (;;) {
		take(d->side, request, sizeof(request));
		memcpy(&type, request + 4, sizeof(type));
		memcpy(&from, request + 16, sizeof(from));
		memcpy(&length, request + 24, sizeof(length));
		memcpy(answer + 8, request + 8, 8);
		type = be32toh(type) & 0xffff;
		from = be64toh(from);
		length = be32toh(length);
		if (type == NBD_CMD_DISC)
			return NULL;
		if (type > NBD_CMD_WRITE || from > sizeof(d->data) ||
		    length > sizeof(d->data) - from)
			die("a request that nobody made");
		if (type == NBD_CMD_WRITE)
			take(d->side, d->data + from, length);
		give(d->side, answer, sizeof(answer));
		if (type == NBD_CMD_READ)
			give(d->side, d->data + from, length);
	}
}

static void *run_device(void *arg)
{
	struct device *d = arg;

	ioctl(d->fd, NBD_DO_IT);
	return NULL;
}

/* After this the kernel alone uses the socket. */
static void start(struct device *d, const char *path, int sock)
{
	uint64_t size = 0;

	d->fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (d->fd < 0)
		die(path);
	if (ioctl(d->fd, NBD_SET_BLKSIZE, (unsigned long)BLOCK) ||
	    ioctl(d->fd, NBD_SET_SIZE_BLOCKS, (unsigned long)BLOCKS) ||
	    ioctl(d->fd, NBD_SET_SOCK, (unsigned long)sock) ||
	    pthread_create(&d->thread, NULL, run_device, d))
		die("NBD_SET_SOCK");
	while (!ioctl(d->fd, BLKGETSIZE64, &size) && size != BLOCKS * BLOCK)
		usleep(10000);
}

static void use(const struct device *d)
{
	struct tally stored = {.tag = STORED};
	char *buf;

	if (posix_memalign((void **)&buf, BLOCK, 4 * BLOCK))
		die("posix_memalign");
	if (pread(d->fd, buf, 3 * BLOCK, BLOCK) != 3 * BLOCK)
		die("pread");
	check_text(&stored, BLOCK, buf, 3 * BLOCK);
	text(buf, 4 * BLOCK, WRITTEN, 8 * BLOCK);
	if (pwrite(d->fd, buf, 4 * BLOCK, 8 * BLOCK) != 4 * BLOCK)
		die("pwrite");
	free(buf);
}

int main(int argc, char **argv)
{
	struct side client = {.name = "client", .version = "TLSv1.3", .cipher = ciphers};
	struct side server = {.name = "server", .version = "TLSv1.3", .cipher = ciphers};
	struct tally written = {.tag = WRITTEN};
	struct served served = {.side = &server};
	struct device device;
	pthread_t thread;
	int fd[2];

	if (argc != 2)
		return 2;
	client.out.tag = server.in.tag = 2;
	client.in.tag = server.out.tag = 3;
	connected(false, false, fd);
	client.fd = fd[0];
	server.fd = fd[1];
	set_keys(&client);
	set_keys(&server);
	printf("waiting\n");
	fflush(stdout);
	if (getchar() == EOF)
		return 1;
	text(served.data, sizeof(served.data), STORED, 0);
	if (pthread_create(&thread, NULL, serve, &served))
		die("pthread_create");
	start(&device, argv[1], client.fd);
	use(&device);
	ioctl(device.fd, NBD_DISCONNECT);
	pthread_join(thread, NULL);
	report(&client);
	report(&server);
	shutdown(server.fd, SHUT_RDWR);
	pthread_join(device.thread, NULL);
	ioctl(device.fd, NBD_CLEAR_SOCK);
	check_text(&written, 8 * BLOCK, served.data + 8 * BLOCK, 4 * BLOCK);
	return 0;
}
