/* SPDX-License-Identifier: MIT */
/*
 * A program without TLS that loads it late: waits for a line on stdin, loads the library LIBRARY
 * (ops.c as a shared object, which brings libssl) and runs ops_main with the arguments that follow.
 *
 * usage: dl LIBRARY ARGUMENT...
 */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	int (*run)(int, char **);
	void *library;

	if (argc < 2)
		return 2;
	printf("before\n");
	fflush(stdout);
	if (getchar() == EOF)
		return 1;
	library = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
	if (!library) {
		fprintf(stderr, "dl: %s\n", dlerror());
		return 1;
	}
	*(void **)&run = dlsym(library, "ops_main");
	return run ? run(argc - 1, argv + 1) : 1;
}
