/* SPDX-License-Identifier: MIT */
/*
 * Has an SSL_write of its own, which may be entered behind its first instruction, and calls it
 * LINES times. With "patched", it first changes that instruction in memory, so that the code is not
 * what its file says: the connection differs by one behind it. With "reads", it calls an SSL_read
 * of the same kind five times before each line. x86_64 only.
 *
 * usage: patched LINES [patched | reads]
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int SSL_write(void *ssl, const void *buf, int num);
int SSL_read(void *ssl, void *buf, int num);

/* endbr64; test rdi, rdi; je to the next; mov eax, edx; ret */
#define FUNCTION(name)                                                                             \
	__asm__(".text\n"                                                                          \
		".balign 16\n"                                                                     \
		".globl " name "\n"                                                                \
		".type " name ", @function\n" name ":\n"                                           \
		"	.byte 0xf3, 0x0f, 0x1e, 0xfa\n"                                                  \
		"	testq %rdi, %rdi\n"                                                              \
		"	je 1f\n"                                                                         \
		"1:	movl %edx, %eax\n"                                                             \
		"	ret\n"                                                                           \
		".size " name ", . - " name "\n")
FUNCTION("SSL_write");
FUNCTION("SSL_read");
FUNCTION("SSL_CTX_free"); /* as every libssl has it */

static int patch(void)
{
	static const unsigned char inc_rdi[] = {0x48, 0xff, 0xc7};
	unsigned char *code = (unsigned char *)SSL_write;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char *from = code - (size_t)code % page;

	if (mprotect(from, 2 * page, PROT_READ | PROT_WRITE | PROT_EXEC))
		return 1;
	memcpy(code + 4, inc_rdi, sizeof(inc_rdi));
	return mprotect(from, 2 * page, PROT_READ | PROT_EXEC);
}

int main(int argc, char **argv)
{
	int lines = argc > 1 ? atoi(argv[1]) : 0, i;
	char text[32], line[8], ssl[64];
	bool reads = argc > 2 && !strcmp(argv[2], "reads");
	int n;

	if (argc > 2 && !reads && patch()) {
		perror("mprotect");
		return 1;
	}
	puts("waiting");
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		return 1;
	for (i = 0; i < lines; i++) {
		snprintf(text, sizeof(text), "line %05d\n", i);
		for (n = 0; reads && n < 5; n++, usleep(1000))
			SSL_read(ssl, text, (int)strlen(text));
		if (SSL_write(ssl, text, (int)strlen(text)) != (int)strlen(text))
			return 1;
		usleep(1000);
	}
	return 0;
}
