# DROP EXTENSION, DROP DATABASE and unloading while requests run.

use strict;
use warnings;
use lib '.', 't';
use Time::HiRes qw(sleep time);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

make_model('slow.gguf', 'slow');
my $node = start_node('main', "llama3.models = 'slow.gguf'", 'llama3.kv_cache_size = 1GB');
my $segments = shared_memory_files();
my $long = "SELECT llama_complete('on and on', max_tokens => 8000, repeat_penalty => 0.1)";

# --- the engine answers DROP DATABASE's barrier while it computes
$node->safe_psql('postgres', 'CREATE DATABASE other');
my $busy = spawn_sql($node, $long);
wait_until('a request runs', sub { running_requests($node) > 0 });
my $drop = spawn_sql($node, 'DROP DATABASE other', pgoptions => '-c statement_timeout=20s');
is(finish_sql($drop), 0, 'DROP DATABASE does not wait for a busy engine') or diag($drop->{err});
is(running_requests($node), 1, 'the request runs on');

# --- DROP EXTENSION in another database, and in the same one
$node->safe_psql('postgres', 'CREATE DATABASE third');
$node->safe_psql('third', 'CREATE EXTENSION llama3');
is($node->psql('third', 'DROP EXTENSION llama3'), 0, 'DROP EXTENSION elsewhere does not wait');
is($node->psql('postgres', "SET lock_timeout = '20s'; DROP EXTENSION llama3"), 0,
	'DROP EXTENSION while a request of it runs');
$node->safe_psql('postgres', 'CREATE EXTENSION llama3');
is(running_requests($node), 1, 'leaves the request alone');

# --- unloading
my ($ret, $out, $err) = $node->psql('postgres', "SELECT llama_unload_model('slow', wait => false)",
	extra_params => [ '-v', 'VERBOSITY=verbose' ]);
is(sqlstate_of($err), '55006', 'unloading a busy model without waiting is refused');
my $unload = spawn_sql($node, "SELECT llama_unload_model('slow')");
ok(wait_until('the model is being unloaded', sub {
	$node->safe_psql('postgres', 'SELECT state FROM llama_models') eq 'unloading' }),
	'unloading waits');
($ret, $out, $err) = $node->psql('postgres', "SELECT llama_complete('x', model => 'slow')",
	extra_params => [ '-v', 'VERBOSITY=verbose' ]);
is(sqlstate_of($err), '55000', 'a new request is refused meanwhile');
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%unload_model%' AND pid <> pg_backend_pid()");
finish_sql($unload);
is(sqlstate_of($unload->{err}), '57014', 'a cancelled unloading');
is($node->safe_psql('postgres', 'SELECT state FROM llama_models'), 'ready', 'leaves the model loaded');
is(running_requests($node), 1, 'and its request running');

$unload = spawn_sql($node, "SELECT llama_unload_model('slow')");
wait_until('the model is being unloaded', sub {
	$node->safe_psql('postgres', 'SELECT state FROM llama_models') eq 'unloading' });
$node->safe_psql('postgres', 'SELECT pg_cancel_backend(pid) FROM llama_stat_requests');
finish_sql($busy);
is(finish_sql($unload), 0, 'unloading ends when the last request does') or diag($unload->{err});
is($node->safe_psql('postgres', 'SELECT count(*) FROM llama_models'), '0', 'the model is gone');
cmp_ok(scalar(shared_memory_files()), '<', $segments, 'and so is its shared memory');
$node->safe_psql('postgres', "SELECT llama_load_model('slow.gguf')");
nothing_left_behind($node, $segments, 'after all this');
$node->stop;

done_testing();
