#!/bin/sh
# SPDX-License-Identifier: MIT
# Prints C that carries the named files (core/embed.h): embed.sh BUILD_FOLDER FILE...
# A file under BUILD_FOLDER is known by its name without it.
build=$1
shift
echo '#include "embed.h"'
n=0
for f; do
	n=$((n + 1))
	printf '__asm__(".section .rodata\\n.global embed%d, embed%dend\\n"\n' $n $n
	printf '\t"embed%d: .incbin \\"%s\\"\\nembed%dend: .byte 0\\n.previous");\n' $n "$f" $n
	printf 'extern const unsigned char embed%d[], embed%dend[];\n' $n $n
done
echo 'const struct embed_file embed_files[] = {'
n=0
for f; do
	n=$((n + 1))
	printf '\t{"%s", embed%d, embed%dend},\n' "${f#"$build"/}" $n $n
done
echo '	{0, 0, 0},'
echo '};'
