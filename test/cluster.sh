# Private PostgreSQL clusters for the tests and the bench; sourced by shell
# scripts.
#
# A cluster listens on a socket in its own directory only.  initdb and the
# server refuse root, so everything of theirs runs as the user that owns the
# directory: postgres when we are root.

PG_CONFIG=${PG_CONFIG:-pg_config}
PG_BIN=$("$PG_CONFIG" --bindir)
PGXS_DIR=$(dirname "$("$PG_CONFIG" --pgxs)")/../..

if [ "$(id -u)" = 0 ]; then
	PG_USER=postgres
	as_pg() { runuser -u postgres -- "$@"; }
else
	PG_USER=$(id -un)
	as_pg() { "$@"; }
fi
# From a directory that every user can enter.
as_pg_anywhere() { (cd / && as_pg "$@"); }

# cluster_start DIR NAME=VALUE...: initdb and start; DIR must not exist.
cluster_start()
{
	cluster_dir=$1
	shift
	as_pg_anywhere mkdir -p "$cluster_dir/socket"
	as_pg_anywhere "$PG_BIN/initdb" -D "$cluster_dir/data" -U postgres -A trust -E UTF8 \
		--locale=C.UTF-8 --no-sync >"$cluster_dir.initdb.log" 2>&1 || {
		cat "$cluster_dir.initdb.log" >&2
		return 1
	}
	{
		echo "listen_addresses = ''"
		echo "unix_socket_directories = '$cluster_dir/socket'"
		echo "fsync = off"
		echo "shared_preload_libraries = 'llama3'"
		for setting in "$@"; do
			echo "${setting%%=*} = '${setting#*=}'"
		done
	} | as_pg_anywhere tee -a "$cluster_dir/data/postgresql.conf" >/dev/null
	# -l would be opened by the server's user: keep the log beside the data.
	as_pg_anywhere "$PG_BIN/pg_ctl" -D "$cluster_dir/data" -l "$cluster_dir/server.log" -w -t 120 start \
		>/dev/null || {
		tail -n 30 "$cluster_dir/server.log" >&2
		return 1
	}
}

# cluster_stop DIR
cluster_stop()
{
	as_pg_anywhere "$PG_BIN/pg_ctl" -D "$1/data" -m immediate -w stop >/dev/null 2>&1 || true
}

# cluster_psql DIR ARGUMENTS...
cluster_psql()
{
	cluster_dir=$1
	shift
	as_pg_anywhere "$PG_BIN/psql" -X -h "$cluster_dir/socket" -U postgres "$@"
}
