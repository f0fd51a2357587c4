/* SPDX-License-Identifier: MIT */
/*
 * The functions of glibc that Debian's libssl and libcrypto use and musl does not have, so that a
 * program of musl can load them: a process without glibc, its loader or its cache.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <syslog.h>

long __fdelt_chk(long fd)
{
	return fd / (long)(8 * sizeof(long));
}

void *__memcpy_chk(void *to, const void *from, size_t n, size_t size)
{
	(void)size;
	return memcpy(to, from, n);
}

void *__memset_chk(void *to, int byte, size_t n, size_t size)
{
	(void)size;
	return memset(to, byte, n);
}

char *__strcat_chk(char *to, const char *from, size_t size)
{
	(void)size;
	return strcat(to, from);
}

char *__strcpy_chk(char *to, const char *from, size_t size)
{
	(void)size;
	return strcpy(to, from);
}

char *__strncpy_chk(char *to, const char *from, size_t n, size_t size)
{
	(void)size;
	return strncpy(to, from, n);
}

int __vfprintf_chk(FILE *f, int flag, const char *format, va_list args)
{
	(void)flag;
	return vfprintf(f, format, args);
}

int __fprintf_chk(FILE *f, int flag, const char *format, ...)
{
	va_list args;
	int n;

	(void)flag;
	va_start(args, format);
	n = vfprintf(f, format, args);
	va_end(args);
	return n;
}

int __sprintf_chk(char *to, int flag, size_t size, const char *format, ...)
{
	va_list args;
	int n;

	(void)flag;
	va_start(args, format);
	n = vsnprintf(to, size, format, args);
	va_end(args);
	return n;
}

int __vsnprintf_chk(char *to, size_t n, int flag, size_t size, const char *format, va_list args)
{
	(void)flag;
	(void)size;
	return vsnprintf(to, n, format, args);
}

int __snprintf_chk(char *to, size_t n, int flag, size_t size, const char *format, ...)
{
	va_list args;
	int length;

	(void)flag;
	(void)size;
	va_start(args, format);
	length = vsnprintf(to, n, format, args);
	va_end(args);
	return length;
}

void __syslog_chk(int priority, int flag, const char *format, ...)
{
	(void)priority;
	(void)flag;
	(void)format;
}

long __isoc23_strtol(const char *s, char **end, int base)
{
	return strtol(s, end, base);
}

unsigned long __isoc23_strtoul(const char *s, char **end, int base)
{
	return strtoul(s, end, base);
}

/* For OpenSSL's jobs that switch stacks, which nothing here asks for. */
int getcontext(void *context)
{
	(void)context;
	errno = ENOSYS;
	return -1;
}

int setcontext(const void *context)
{
	return getcontext((void *)context);
}

int swapcontext(void *old, const void *context)
{
	(void)old;
	return getcontext((void *)context);
}

void makecontext(void *context, void (*f)(void), int n, ...)
{
	(void)context;
	(void)f;
	(void)n;
}
