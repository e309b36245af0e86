# Progress of steps that take long; sourced by demo/run.
#
# On a terminal it is one line that changes in place.  Elsewhere, as in a log,
# it is a line every few seconds.  What takes under a second shows nothing but
# its end.

PROGRESS_SECONDS=5		# between two lines of a log
PROGRESS_DETAIL=		# a function that prints how far the step is, or nothing
if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ]; then
	IN_PLACE=1 BOLD=$'\e[1m' PLAIN=$'\e[0m'
else
	IN_PLACE= BOLD= PLAIN=
fi
progress_shown=
progress_ticker=
progress_last=-$PROGRESS_SECONDS

# progress_show TEXT: this is where it is now.
progress_show()
{
	if [ -n "$IN_PLACE" ]; then
		printf '\r\e[K%s' "$1"
		progress_shown=1
	elif [ $((SECONDS - progress_last)) -ge "$PROGRESS_SECONDS" ]; then
		printf '%s\n' "$1"
		progress_last=$SECONDS
	fi
}

# What follows is printed in the progress' place.
progress_end()
{
	if [ -n "$progress_ticker" ]; then
		{ kill "$progress_ticker"; wait "$progress_ticker"; } 2>/dev/null
		progress_ticker=
		progress_shown=$IN_PLACE
	fi
	[ -z "$progress_shown" ] || printf '\r\e[K'
	progress_shown=
	progress_last=-$PROGRESS_SECONDS
}

# progress_while NAME LOG COMMAND...: run a command with its output added to a
# log.  It is in the foreground, so that Ctrl-C reaches it, but in a subshell:
# this shell's traps wait for its end, and do not write into the log.
progress_while()
{
	local name=$1 log=$2 never status
	shift 2
	exec {never}<> <(:)		# to wait on without a process that could be left over
	(
		trap - EXIT
		while ! read -r -t 1 -u "$never" && kill -0 $$ 2>/dev/null; do
			progress_show "$name: $((SECONDS - progress_started)) s${PROGRESS_DETAIL:+$($PROGRESS_DETAIL)}"
		done
	) &
	progress_ticker=$!
	("$@") >>"$log" 2>&1 </dev/null
	status=$?
	progress_end
	exec {never}<&-
	return "$status"
}

# progress_start; progress_done NAME TEXT: the last line of a step.
progress_start() { progress_started=$SECONDS; }
progress_done() { printf '%-10s %s (%d s)\n' "$1" "$2" $((SECONDS - progress_started)); }
