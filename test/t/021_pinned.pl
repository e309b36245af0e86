# Pinned forms where only IMMUTABLE functions will do: shipped by postgres_fdw
# from one cluster to another, in generated columns and expression indexes, and
# through a dump; and never an answer of another model.

use strict;
use warnings;
use lib '.', 't';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

make_model('tiny.gguf');
make_model('other.gguf', qw(--preset tiny --layers 3 --embd 256 --heads 8 --kv-heads 2 --head-dim 32
	--ff 512 --type q4_k_m --chat llama30 --seed 21));
my $local = start_node('local', "llama3.models = 'tiny.gguf'");
my $remote = start_node('remote', "llama3.models = 'far=tiny.gguf'");

my $pin = $local->safe_psql('postgres', 'SELECT llama_pin()');
(my $checksum = $pin) =~ s/.*@/@/;
is($remote->safe_psql('postgres', 'SELECT llama_pin()'), "far$checksum", 'one file, one checksum, on every server');

# ------------------------------------------------------------- postgres_fdw
$remote->safe_psql('postgres', q{CREATE TABLE rows (id int PRIMARY KEY, x text, label text);
	INSERT INTO rows (id, x) SELECT i, CASE WHEN i <> 9 THEN 'row ' || i END FROM generate_series(1, 40) i});
$local->safe_psql('postgres', q{
	CREATE EXTENSION postgres_fdw;
	CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw
		OPTIONS (host '} . $remote->host . q{', port '} . $remote->port . q{', dbname 'postgres', extensions 'llama3', fdw_tuple_cost '100');
	CREATE USER MAPPING FOR CURRENT_USER SERVER far;
	CREATE FOREIGN TABLE rows (id int, x text, label text) SERVER far;
	CREATE TABLE copy AS SELECT * FROM rows});

sub explain { return $local->safe_psql('postgres', "EXPLAIN (VERBOSE, COSTS off) $_[0]"); }
# Requests that a statement made here and there.
sub requests { return map { $_->safe_psql('postgres', 'SELECT requests_done FROM llama_stat') } $local, $remote; }
sub work
{
	my @before = requests();
	my $out = $local->safe_psql('postgres', $_[0]);
	my @after = requests();
	return ($out, join ' ', map { $after[$_] - $before[$_] } 0, 1);
}

my $median = $local->safe_psql('postgres', "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY llama_filter_prob(x, 'short')) FROM copy");
my $where = "WHERE llama_filter_prob_pinned(x, 'short', '$checksum') > '$median' ORDER BY id";
like(explain("SELECT id FROM rows $where"), qr/Remote SQL: SELECT id FROM public\.rows WHERE \(\(public\.llama_filter_prob_pinned\(x, 'short'/,
	'WHERE: the call is in the remote statement');
my ($there, $asked) = work("SELECT id FROM rows $where");
like($asked, qr/^0 [1-9]/, 'and made there, none here');
my $here = $local->safe_psql('postgres', "SELECT id FROM copy $where");
is($there, $here, 'with the rows of a local table');
cmp_ok(length $here, '>', 10, 'of which there are some');
unlike(explain("SELECT id FROM rows WHERE llama_filter_prob(x, 'short') > 0.2"), qr/Remote SQL:.*llama/,
	'a form that is not pinned stays here');

my $set = "SET label = llama_classify_pinned(x, '{p,q,r}', '$checksum')";
my $plan = explain("UPDATE rows $set WHERE id > 5");
like($plan, qr/Foreign Update.*Remote SQL: UPDATE public\.rows SET label = public\.llama_classify_pinned\(x, /s, 'UPDATE SET: in the remote statement');
unlike($plan, qr/Llama Batch/, 'of which this server makes no batch');
(undef, $asked) = work("UPDATE rows $set WHERE id > 5");
is($asked, '0 34', 'computed there, once for each row with a text');
$local->safe_psql('postgres', "UPDATE copy $set WHERE id > 5");
my $labels = "SELECT string_agg(coalesce(label, '-'), '' ORDER BY id) FROM";
is($local->safe_psql('postgres', "$labels rows"), $local->safe_psql('postgres', "$labels copy"), 'with the labels of a local update');

my $returning = "RETURNING id, label, llama_filter_pinned(x, 'short', '$checksum')";
is($local->safe_psql('postgres', "UPDATE rows $set WHERE id = 3 $returning"),
	$local->safe_psql('postgres', "UPDATE copy $set WHERE id = 3 $returning"), 'and with RETURNING');
my $group = "SELECT llama_classify_pinned(x, '{p,q,r}', '$checksum') AS c, count(*) FROM";
like(explain("$group rows GROUP BY 1"), qr/Remote SQL: SELECT public\.llama_classify_pinned\(.*GROUP BY 1/, 'GROUP BY is shipped');
is($local->safe_psql('postgres', "$group rows GROUP BY 1 ORDER BY 1"), $local->safe_psql('postgres', "$group copy GROUP BY 1 ORDER BY 1"), 'with the same groups');
like(explain("DELETE FROM rows WHERE llama_filter_pinned(x, 'short', '$checksum') AND id > 38"), qr/Remote SQL: DELETE FROM public\.rows WHERE .*llama_filter_pinned/,
	'and so is DELETE');
is($local->safe_psql('postgres', "SET llama3.enable_batching = off; SELECT id, llama_score_pinned(x, 'length', '$checksum') FROM rows $where"),
	$local->safe_psql('postgres', "SELECT id, llama_score_pinned(x, 'length', '$checksum') FROM rows $where"), 'with batching and without');

# A remote server with another model says so.
$remote->safe_psql('postgres', "SELECT llama_unload_model('far'); SELECT llama_load_model('other.gguf', 'far')");
my (undef, undef, $err) = $local->psql('postgres', "SELECT id FROM rows $where");
like($err, qr/no loaded model has the checksum/, 'no answer of a remote server with another model');
$remote->safe_psql('postgres', "SELECT llama_unload_model('far'); SELECT llama_load_model('tiny.gguf', 'far')");
is($local->safe_psql('postgres', "SELECT id FROM rows $where"), $here, 'but again when its model is back, under whatever name');

# ------------------------------- another model under the name that is pinned
my $by_name = "llama_classify_pinned(x, '{p,q,r}', '$pin')";
$local->safe_psql('postgres', "CREATE TABLE kept (id int, x text, label text GENERATED ALWAYS AS ($by_name) STORED);
	INSERT INTO kept SELECT i, 'kept ' || i FROM generate_series(1, 20) i;
	CREATE INDEX kept_score ON kept (llama_score_pinned(x, 'length', '$pin'))");
my $kept = $local->safe_psql('postgres', 'SELECT label FROM kept ORDER BY id');
my @questions = ("SELECT $by_name FROM kept", "SELECT llama_embed_pinned('x', '$pin')", "UPDATE kept SET x = x || '.' WHERE id = 1",
	"INSERT INTO kept VALUES (30, 'new')", "SELECT id FROM copy WHERE llama_filter_pinned(x, 'short', '$pin')", 'REINDEX INDEX kept_score');
for my $cache ('off', 'on')
{
	my $on = "SET llama3.enable_result_cache = $cache";
	my $expected = $local->safe_psql('postgres', "$on; SELECT llama_embed_pinned('x', '$pin')");
	$local->safe_psql('postgres', "SELECT llama_unload_model('tiny'); SELECT llama_load_model('other.gguf', 'tiny')");
	for my $question (@questions)
	{
		my ($ret, $out, $error) = $local->psql('postgres', "$on; $question", extra_params => [ '-v', 'VERBOSITY=verbose' ]);
		like("$out$error", qr/^[^\n]*ERROR:  55000: model "tiny" is not the one that is pinned\nDETAIL:  Its checksum is [0-9a-f]{32}, and the pin's is [0-9a-f]{32}\.\nHINT:/,
			"another model under the name, cache $cache: " . substr($question, 0, 30));
	}
	isnt($local->safe_psql('postgres', "SELECT llama_embed('x', 3)"), $local->safe_psql('postgres', "SELECT llama_embed('x', 4)"), 'which answers who did not pin');
	is($local->safe_psql('postgres', 'SELECT label FROM kept ORDER BY id'), $kept, 'what is stored can be read');
	$local->safe_psql('postgres', "SELECT llama_unload_model('tiny')");
	(undef, undef, $err) = $local->psql('postgres', "$on; SELECT llama_embed_pinned('x', '$pin')", extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	is(sqlstate_of($err), '42704', "no model, cache $cache: an error");
	$local->safe_psql('postgres', "SELECT llama_load_model('tiny.gguf')");
	is($local->safe_psql('postgres', "$on; SELECT llama_embed_pinned('x', '$pin')"), $expected, 'the model is back: its answer');
}

# ---------------------------------------------------------- dump and restore
my $dump = "$PostgreSQL::Test::Utils::tmp_check/dump.sql";
$local->command_ok([ 'pg_dump', '-f', $dump, '-t', 'kept', '-d', $local->connstr('postgres') ], 'a dump');
unlike(slurp_file($dump), qr/COPY public\.kept \([^)]*label/, 'holds no generated values');
sub restore
{
	my ($dbname) = @_;
	$remote->safe_psql('postgres', "CREATE DATABASE $dbname");
	$remote->safe_psql($dbname, 'CREATE EXTENSION llama3');
	my $out = '';
	IPC::Run::run([ $remote->installed_command('psql'), '-Xq', '-v', 'VERBOSITY=verbose', '-d', $remote->connstr($dbname), '-f', $dump ], '<', '/dev/null', '>', \$out, '2>&1');
	return $out;
}
like(restore('without'), qr/ERROR:  42704: model "tiny" does not exist/, 'restored without the model: an error');
$remote->safe_psql('postgres', "SELECT llama_load_model('tiny.gguf')");
unlike(restore('complete'), qr/ERROR/, 'restored with it');
is($remote->safe_psql('complete', 'SELECT label FROM kept ORDER BY id'), $kept, 'the same values are computed');
like($remote->safe_psql('complete', "SET enable_seqscan = off; EXPLAIN SELECT id FROM kept WHERE llama_score_pinned(x, 'length', '$pin') > 3"),
	qr/kept_score/, 'and the index is there');

# ------------------------------------------------------------ context_limit
# It may forbid an answer, and must not cut one.
my $story = "length(llama_complete_pinned('once upon', '$checksum', max_tokens => 100, repeat_penalty => 0.1))";
my $whole = $local->safe_psql('postgres', "SELECT $story");
$local->append_conf('postgresql.conf', 'llama3.context_limit = 64');
$local->restart;
cmp_ok($local->safe_psql('postgres', "SELECT length(llama_complete('once upon', max_tokens => 100, repeat_penalty => 0.1))"), '<', $whole,
	'llama3.context_limit cuts an answer');
for my $cache ('off', 'on')
{
	(undef, undef, $err) = $local->psql('postgres', "SET llama3.enable_result_cache = $cache; "
		  . "SELECT length(llama_complete('once upon', max_tokens => 100, repeat_penalty => 0.1)); SET llama3.on_error = 'null'; SELECT $story",
		extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	like($err, qr/ERROR:  54000: prompt of \d+ tokens and answer of 100 do not fit into "llama3.context_limit"/, "but no pinned one, cache $cache");
}
is($local->safe_psql('postgres', "SELECT llama_complete_pinned('once upon', '$checksum', max_tokens => 5) = llama_complete('once upon', max_tokens => 5)"), 't',
	'a pinned answer that fits is given');
$local->stop;
$remote->stop;

done_testing();
