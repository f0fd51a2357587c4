# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Completion for bash: what can be said comes from the program itself.

_tlsscope()
{
	local line name word=${COMP_WORDS[COMP_CWORD]}
	COMPREPLY=()
	while IFS= read -r line; do
		case $line in
		:files) compopt -o default -o filenames; mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$word") ;;
		:users) mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -u -- "$word") ;;
		:commands) mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -c -- "$word") ;;
		*)
			name=${line%%$'\t'*}
			case $word in
			[\'\"]*) compopt -o nospace ;;
			*) printf -v name %q "$name" ;;
			esac
			COMPREPLY+=("$name")
			;;
		esac
	done < <("${COMP_WORDS[0]}" complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _tlsscope tlsscope
