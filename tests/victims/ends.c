/* SPDX-License-Identifier: MIT */
/*
 * Processes whose threads end at the same time, the first of them a little earlier or later.
 *
 * usage: ends PROCESSES
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 8

static pthread_barrier_t together;

static void *end(void *first)
{
	pthread_barrier_wait(&together);
	if (first)
		_exit(0);
	return NULL;
}

static void live(void)
{
	pthread_t threads[THREADS];
	int i;

	pthread_barrier_init(&together, NULL, THREADS + 1);
	for (i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, end, i ? NULL : &together);
	pthread_barrier_wait(&together);
	pthread_exit(NULL);
}

int main(int argc, char **argv)
{
	int i;

	for (i = argc > 1 ? atoi(argv[1]) : 0; i > 0; i--)
		if (!fork())
			live();
	while (wait(NULL) > 0)
		;
	return 0;
}
