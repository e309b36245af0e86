# The result cache: an answer from it is the computed one, whatever else goes
# on: several databases and backends, another model under the same name, too
# little memory, a crash.

use strict;
use warnings;
use lib '.', 't';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

make_model('tiny.gguf');
make_model('slow.gguf', 'slow');
make_model('other.gguf', qw(--preset tiny --layers 3 --embd 256 --heads 8 --kv-heads 2 --head-dim 32
	--ff 512 --type q4_k_m --chat llama30 --seed 21));
my $node = start_node('main', "llama3.models = 'tiny.gguf, other.gguf'", "llama3.default_model = 'tiny'",
	'llama3.enable_result_cache = on', 'llama3.result_cache_size = 1MB', 'max_worker_processes = 16');

sub counters
{
	my ($columns) = @_;
	return split /\|/, $node->safe_psql('postgres', "SELECT $columns FROM llama_stat, llama_stat_result_cache");
}

# What a statement asked of the engine and of the cache.
sub work
{
	my ($sql, $dbname) = @_;
	my @before = counters('requests_done, hits, misses, stored');
	$node->safe_psql($dbname // 'postgres', $sql);
	my @after = counters('requests_done, hits, misses, stored');
	return join ' ', map { $after[$_] - $before[$_] } 0 .. $#after;
}

# ----------------------------------------------------- the same bits as without
# Probabilities and vectors as they are sent: every bit of them.
my @calls = map {
	my $model = $_;
	map { "$_, model => '$model')" } (
		"llama_embed('a text'", "llama_embed('a text', 5", "llama_embed('a text', pooling => 'last'",
		"llama_similarity('a text', 'another'", "llama_filter_prob('a text', 'it is long'",
		"llama_classify_prob('a text', '{one,two and more,three}'",
		"llama_classify_prob('a text', '{one,two}', calibrate => true", "llama_score('a text', 'length', 0, 20",
		"llama_rank('which?', 'a text'", "llama_generate('a text', max_tokens => 20, temperature => 1, seed => 3",
		"llama_complete('', max_tokens => 20", "llama_classify('a text', '{one,two}'",
		"llama_classify_multi('a text', '{one,two,three}', threshold => 0.3", "llama_sentiment('a text'",
		"llama_summarize('a text', 4", "llama_filter('a text', 'it is long'");
} qw(tiny other);
sub bytes { return $node->safe_psql('postgres', "SET llama3.enable_result_cache = $_[0]; " . join('; ', map { "SELECT record_send(ROW($_))" } @calls)); }
my $computed = bytes('off');
my $n = @calls;
is(work('SELECT 1'), '0 0 0 0', 'a session without the cache leaves it alone');
is(bytes('on'), $computed, 'answers that are put into the cache are those without it');
my ($stored) = counters('stored');
is($stored, $n, 'all of them are put there');
is(bytes('on'), $computed, 'answers from the cache too, bit for bit');
is((counters('hits'))[0], $n, 'all of them were found');

# SQL tests print the same with the cache and without, unless they count what was
# asked of the engine.
for my $file (map { "../sql/$_.sql" } qw(arguments chat classify embed encoding generate))
{
	my %out;
	for my $mode ('on', 'off')
	{
		$node->safe_psql('postgres', 'DROP DATABASE IF EXISTS suite');
		$node->safe_psql('postgres', 'CREATE DATABASE suite');
		$node->safe_psql('suite', 'CREATE EXTENSION llama3');
		local $ENV{PGOPTIONS} = "-c llama3.enable_result_cache=$mode";
		my $out = '';
		IPC::Run::run([ $node->installed_command('psql'), '-Xqa', '-d', $node->connstr('suite'), '-f', $file ],
			'<', '/dev/null', '>', \$out, '2>&1');
		$out{$mode} = $out;
	}
	ok($out{on} eq $out{off} && length $out{on} > 100, "$file: the same with the cache and without");
}

# ------------------------------------------------------------------- databases
my $question = "SELECT llama_filter_prob('of one database', 'short')";
$node->safe_psql('postgres', 'CREATE DATABASE second');
$node->safe_psql('postgres', q{CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0});
$node->safe_psql($_, 'CREATE EXTENSION llama3') for 'second', 'latin';
is(work($question), '1 0 1 1', 'a new question is computed');
is(work($question), '0 1 0 0', 'and found by another session');
is(work($question, 'second'), '1 0 1 1', 'but not from another database');
is(work($question, 'second'), '0 1 0 0', 'which has its own answer');
is(work($question, 'latin'), '1 0 1 1', 'nor from one of another encoding');

# ---------------------------------------- another model under the name of the first
my $by_name = "SELECT llama_embed('named', 4, model => 'changing')";
my %expected = map { $_ => $node->safe_psql('postgres', "SET llama3.enable_result_cache = off; SELECT llama_embed('named', 4, model => '$_')") } qw(tiny other);
isnt($expected{tiny}, $expected{other}, 'two models answer differently');
for my $model (qw(tiny other tiny other))
{
	$node->safe_psql('postgres', "SELECT llama_load_model('$model.gguf', 'changing')");
	is($node->safe_psql('postgres', $by_name), $expected{$model}, "the name means $model: its answer");
	$node->safe_psql('postgres', "SELECT llama_unload_model('changing')");
}
my ($ret, undef, $err) = $node->psql('postgres', $by_name);
like($err, qr/model "changing" does not exist/, 'none without a model, though there is an answer');
is(work("SELECT llama_embed('named', 4, model => 'tiny')"), '0 1 0 0', 'the same weights under another name: found');

# ------------------------------------------------------------- under pressure
# Four times the answers that fit; one of them is asked for again and again.
$node->safe_psql('postgres', 'SELECT llama_result_cache_reset()');
my $embed = "llama_embed('text ' || i, model => 'other') FROM generate_series";
$node->safe_psql('postgres', "SELECT $embed(1, 50) i");
my $often = "SELECT llama_embed('often', model => 'other')";
my $answer = $node->safe_psql('postgres', $often);
my @before = counters('stored, evicted, entries');
my $found = 0;
for my $round (1 .. 12)
{
	$node->safe_psql('postgres', "SELECT $embed($round * 300, $round * 300 + 299) i");
	$found++ if work($often) eq '0 1 0 0';
}
my ($size, $used, $entries, @after) = counters('size_bytes, used_bytes, entries, stored, evicted');
cmp_ok($after[1] - $before[1], '>', 2500, 'answers are evicted for others');
cmp_ok($used, '<=', $size, "no more memory is used than is there");
cmp_ok($used, '>', $size / 2, 'which is made use of');
is($entries, $before[2] + $after[0] - $before[0] - ($after[1] - $before[1]), 'what was stored is there or was evicted');
is($found, 12, 'an answer that is used stays');
is($node->safe_psql('postgres', $often), $answer, 'unchanged');
is(work("SELECT $embed(3850, 3899) i"), '0 50 0 0', 'so do the last ones');
is(work("SELECT $embed(300, 349) i"), '50 0 50 50', 'the first are computed again');
my $sum = "SELECT md5(string_agg(e::text, ' ' ORDER BY i)) FROM (SELECT i, llama_embed('text ' || i, model => 'other') AS e FROM generate_series(2400, 3899) i) s";
is($node->safe_psql('postgres', $sum), $node->safe_psql('postgres', "SET llama3.enable_result_cache = off; $sum"),
	'all of them are right, found or computed');

# Short and long answers together, so that entries are moved past the ring's end.
my $mixed = "SELECT md5(string_agg(CASE i % 3 WHEN 0 THEN llama_embed('m' || i)::text WHEN 1 THEN llama_filter_prob('m' || i, 'x')::text "
  . "ELSE llama_classify_multi('m' || i, ARRAY['a', repeat('b', i), 'c'], threshold => 0)::text END, ' ' ORDER BY i)) FROM generate_series(1, 900) i";
my $plain = $node->safe_psql('postgres', "SET llama3.enable_result_cache = off; $mixed");
is($node->safe_psql('postgres', $mixed), $plain, "answers of all lengths, round $_") for 1 .. 3;

# --- what is large is not kept
my ($too_large) = counters('too_large');
my $large = "SELECT length(llama_classify_multi('x', (SELECT array_agg(i || repeat(' a', 100)) FROM generate_series(1, 200) i), threshold => 0)::text) > 33000";
is($node->safe_psql('postgres', $large), 't', 'an answer of more than a 32nd of the cache');
is((counters('too_large'))[0], $too_large + 1, 'is not kept');
like(work($large), qr/^1 0 1 0$/, 'but computed again');

# ------------------------------------------------------------------ many backends
$node->safe_psql('postgres', 'SELECT llama_result_cache_reset()');
@before = counters('stored, evicted');
my $same = "SELECT md5(string_agg(llama_filter_prob('row ' || i % 200, 'y')::text, ',' ORDER BY i)) FROM generate_series(1, 1000) i";
my @clients = map { spawn_sql($node, $same) } 1 .. 10;
my %answers;
$answers{ finish_sql($_) . $_->{out} }++ for @clients;
is(scalar(keys %answers), 1, 'ten backends that ask the same get the same');
@after = counters('entries, stored');
is("$after[0] " . ($after[1] - $before[0]), '200 200', 'each answer is stored once');
# Readers, writers, evictions and resets at the same time.
@clients = map {
	my $own = $_ % 4;
	spawn_sql($node, "SELECT md5(string_agg(a, ',' ORDER BY r, i)) FROM generate_series(1, 6) r, generate_series(1, 300) i, "
		  . "LATERAL (SELECT llama_embed($own || ' ' || i % 150)::text AS a OFFSET 0) s")
} 0 .. 11;
$node->safe_psql('postgres', 'SELECT llama_result_cache_reset()') for 1 .. 20;
my @by_kind = ({}, {}, {}, {});
$by_kind[ $_ % 4 ]{ finish_sql($clients[$_]) . $clients[$_]{out} }++ for 0 .. 11;
is(join(' ', map { scalar keys %$_ } @by_kind), '1 1 1 1', 'with others that evict, and while it is emptied');
like((keys %{ $by_kind[0] })[0], qr/^0\w{32}$/, 'they all end well');

# ------------------------------------------------------ equal requests in flight
# Each takes a while; what was generated tells how often it was computed.
$node->safe_psql('postgres', "SELECT llama_load_model('slow.gguf')");
use constant ANSWER => 120;
sub long_answer { return "SELECT md5(llama_complete('$_[0]', max_tokens => " . ANSWER . ", repeat_penalty => 0.1, model => 'slow'))"; }
sub generated { return $node->safe_psql('postgres', 'SELECT sum(decode_tokens) FROM llama_stat_workers'); }
sub wait_running { my ($n) = @_; ok(wait_until("$n run", sub { running_requests($node) == $n }), "$n at the same time"); }
# Start clients one after the other, each when those before it run.
sub start_all
{
	my ($prompt, @how) = @_;
	my @started;
	for my $how (@how)
	{
		push @started, spawn_sql($node, ($how->{set} // '') . long_answer($prompt), dbname => $how->{dbname});
		wait_running(scalar @started);
	}
	return @started;
}
# Finish them: their different answers, without those that failed.
sub finish_all
{
	my %out;
	finish_sql($_) == 0 && $out{ $_->{out} }++ for @_;
	return keys %out;
}
sub alone { return $node->safe_psql('postgres', 'SET llama3.enable_result_cache = off; ' . long_answer($_[0])); }

my $generated = generated();
is(join(' ', finish_all(start_all('shared', {}, {}, {}))), alone('shared'), 'three that ask the same at the same time get the answer');
# the first token of an answer is the prompt's; the comparison computed it once more
is(generated() - $generated, 2 * (ANSWER - 1), 'which was computed once for all of them');

$generated = generated();
my @two = start_all('of two databases', {}, { dbname => 'second' });
is(scalar(finish_all(@two)), 1, 'two databases get the same');
is(generated() - $generated, 2 * (ANSWER - 1), 'but each its own');
$generated = generated();
@two = start_all('by itself', {}, { set => 'SET llama3.enable_result_cache = off; ' });
is(scalar(finish_all(@two)), 1, 'a session that computes everything gets the same');
is(generated() - $generated, 2 * (ANSWER - 1), 'and computes it');

@two = start_all('given up', {}, {});
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM (SELECT pid FROM llama_stat_requests WHERE state = 'running' ORDER BY running_ms DESC LIMIT 1) s");
finish_sql($two[0]);
is(sqlstate_of($two[0]{err}), '57014', 'the one who asked first gives up');
is(join(' ', finish_all($two[1])), alone('given up'), 'and the other has the answer');
@two = start_all('followed no more', {}, {});
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM (SELECT pid FROM llama_stat_requests WHERE state = 'running' ORDER BY running_ms LIMIT 1) s");
finish_sql($two[1]);
is(sqlstate_of($two[1]{err}), '57014', 'the one who asked last gives up');
is(join(' ', finish_all($two[0])), alone('followed no more'), 'and the first has the answer');
@two = start_all('both given up', {}, {});
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM llama_stat_requests WHERE state = 'running'");
is(scalar(finish_all(@two)), 0, 'when both give up');
ok(wait_until('the slots are free', sub { $node->safe_psql('postgres', 'SELECT slots_in_use = 0 FROM llama_stat') eq 't' }), 'nothing goes on');

@two = start_all('after a restart', {}, {});
my ($engine) = worker_pids($node);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($engine)");
is(join(' ', finish_all(@two)), alone('after a restart'), 'both have it when the worker was ended in between');

# Vectors and probabilities are copied too.
for my $call ("llama_embed(repeat('a long text ', 700), model => 'slow')",
	"llama_classify_prob(repeat('a long text ', 700), '{one,two and more,three}', model => 'slow')")
{
	my @clients = map { spawn_sql($node, "SELECT $call") } 1 .. 2;
	wait_running(2);
	is(join(' ', finish_all(@clients)), $node->safe_psql('postgres', "SET llama3.enable_result_cache = off; SELECT $call"),
		'two of ' . substr($call, 0, index($call, '(')) . ' get the same');
}

# --------------------------------------------------------------------- a crash
my $pid_file = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $pid_file->query("SELECT pg_backend_pid()");
is(work("SELECT llama_similarity('before', 'the crash')"), '2 0 1 1', 'stored before a crash');
my $similarity = $node->safe_psql('postgres', "SELECT llama_similarity('before', 'the crash')");
kill 'KILL', $pid;
eval { $pid_file->quit };
ok(wait_until('the server is back', sub { $node->psql('postgres', 'SELECT 1') == 0 && worker_pids($node) }),
	'the server comes back from a crash');
is((counters('entries + hits + misses + stored'))[0], 0, 'with an empty cache');
is($node->safe_psql('postgres', "SELECT llama_similarity('before', 'the crash')"), $similarity, 'and the same answer');
is(work("SELECT llama_similarity('before', 'the crash')"), '0 1 0 0', 'which is kept again');

# ------------------------------------------------------------------ none at all
$node->append_conf('postgresql.conf', 'llama3.result_cache_size = 0');
$node->restart;
is($node->safe_psql('postgres', "SELECT llama_similarity('before', 'the crash')"), $similarity, 'a server without: the same answer');
is(work("SELECT llama_similarity('before', 'the crash')"), '2 0 0 0', 'computed every time');
$node->safe_psql('postgres', 'SELECT llama_result_cache_reset()');
is(join(' ', counters('size_bytes, used_bytes, entries, hits, misses, stored, too_large, evicted')), '0 0 0 0 0 0 0 0', 'and nothing is counted');
$node->stop;

done_testing();
