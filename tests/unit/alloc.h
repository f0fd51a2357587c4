/* SPDX-License-Identifier: MIT */
/* Makes the n-th allocation from now fail. The Makefile wraps the functions of a test that includes
 * this. */
#ifndef TLSSCOPE_TEST_ALLOC_H
#define TLSSCOPE_TEST_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

static size_t alloc_left; /* allocations until the one that fails; 0: none fails */

static inline bool alloc_fails(void)
{
	return alloc_left && !--alloc_left;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *s);

void *__wrap_malloc(size_t size)
{
	return alloc_fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return alloc_fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return alloc_fails() ? NULL : __real_realloc(p, size);
}

char *__wrap_strdup(const char *s)
{
	return alloc_fails() ? NULL : __real_strdup(s);
}

#endif
