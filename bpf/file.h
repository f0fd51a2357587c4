/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From a descriptor to its file, and from a file to its socket. */
#ifndef TLSSCOPE_FILE_H
#define TLSSCOPE_FILE_H

#include "task.h"

/* The file of a descriptor of the current process: a struct file; 0: none. */
__noinline __u64 file_of(__s32 fd)
{
	struct file **files = 0;
	struct task_struct *task;
	struct fdtable *table;
	__u32 max = 0;

	/* Its pointers are followed without a helper. */
	if (TASK_IS_TYPED) {
		task = typed_task();
		table = task->files->fdt;
		max = table->max_fds;
		files = table->fd;
	} else {
		task = (void *)bpf_get_current_task();
		table = BPF_CORE_READ(task, files, fdt);
		max = BPF_CORE_READ(table, max_fds);
		files = BPF_CORE_READ(table, fd);
	}
	return (__u32)fd < max ? word_at(files + fd) : 0;
}

/* Its inode's number. */
static __always_inline __u64 inode_of_file(__u64 file)
{
	struct file *f = (void *)file;

	if (!HAS_CAST)
		return BPF_CORE_READ(f, f_inode, i_ino);
	f = cast_to(f, types.file);
	return f->f_inode->i_ino;
}

/* The socket of a struct file; 0: it is none's. Only a socket's has one that points back to it. */
__noinline __u64 socket_of(__u64 file)
{
	struct file *f = (void *)file;
	struct socket *socket = BPF_CORE_READ(f, private_data);

	if ((BPF_CORE_READ(f, f_inode, i_mode) & S_IFMT) != S_IFSOCK ||
	    BPF_CORE_READ(socket, file) != f)
		return 0;
	return (__u64)BPF_CORE_READ(socket, sk);
}

#endif
