# What the planner learns while the server runs, which other sessions then have:
# the speed of the engine, and how often llama_filter is true.

use strict;
use warnings;
use lib '.', 't';
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

make_model('tiny.gguf');
my $node = start_node('main', "llama3.models = 'tiny.gguf'", "llama3.default_model = 'tiny'",
	"shared_preload_libraries = 'pg_stat_statements,llama3'", 'pg_stat_statements.track_planning = on');

sub make_texts
{
	my ($dbname) = @_;
	$node->safe_psql($dbname, q{CREATE TABLE texts AS SELECT i AS id, 'text ' || i AS x, repeat('-', 500) AS fill FROM generate_series(1, 1000) i;
		ANALYZE texts});
}
make_texts('postgres');
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION llama3');
make_texts('other');

# An estimate of the topmost node of a plan.
sub estimate
{
	my ($what, $query, $dbname) = @_;
	return decode_json($node->safe_psql($dbname // 'postgres', "EXPLAIN (FORMAT json) $query"))->[0]{Plan}{$what};
}
sub rows { return estimate('Plan Rows', "SELECT id FROM texts WHERE llama_filter(x, 'c')", @_); }
# Units of a call, from its total cost for 1,000 rows.
sub cost { return estimate('Total Cost', "SELECT $_[0] FROM texts") / 1000; }

# ------------------------------------------------------------------ speeds
# 16 tokens and those of eight or nine bytes, at 512 tokens a second; an answer at 64.
my $text = cost("llama_filter(x, 'c')");
my $answer = cost('llama_complete(x, 640)') - $text;
cmp_ok(abs($text / (100_000 * 18.2 / 512) - 1), '<', 0.05, "before the engine has worked, a text costs its default ($text)");
cmp_ok(abs($answer / 1_000_000 - 1), '<', 0.01, "and an answer of ten seconds a million ($answer)");
# Rates as llama_stat_workers has them, which are over all tokens.
$node->safe_psql('postgres', "SELECT count(llama_embed(x, 1)) FROM texts WHERE id <= 200");
my $measured = $node->safe_psql('postgres', 'SELECT tokens_per_second FROM llama_stat_workers');
$text = cost("llama_filter(x, 'c')");
my $speed = 100_000 * 18.2 / $text;
cmp_ok(abs(log($speed / $measured) / log(2)), '<', 0.6, "then at the measured speed, to a power of two ($speed, $measured)");
cmp_ok(abs(cost('llama_complete(x, 640)') - $text - $answer), '<', 0.01 * $answer, 'answers still at the default');
$node->safe_psql('postgres', "SELECT count(llama_complete(x, 40, repeat_penalty => 0.1)) FROM texts WHERE id <= 100");
cmp_ok(abs(cost('llama_complete(x, 640)') - $text - $answer), '>', 0.3 * $answer, 'until there were some');
# A few tokens more do not change what was learnt, but by a power of two where it
# was near the border of one.
sub about { my ($cost, $before) = @_; return $cost <= 2.1 * $before && $before <= 2.1 * $cost; }
my $before = cost('llama_complete(x, 640)');
$node->safe_psql('postgres', "SELECT count(llama_complete(x, 2)) FROM texts WHERE id <= 3");
ok(about(cost('llama_complete(x, 640)'), $before), 'costs stay about as they are for a while');
# Counters go on when a worker is started again.
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(pid) FROM llama_stat_workers');
wait_until('the worker is back', sub { $node->safe_psql('postgres', 'SELECT restarts > 0 AND pid IS NOT NULL FROM llama_stat_workers') eq 't' });
$node->safe_psql('postgres', "SELECT llama_embed('x', 1)");
ok(about(cost('llama_complete(x, 640)'), $before), 'also after a restart of the worker');

# ------------------------------------------------------------- selectivities
is(rows(), 333, 'a third, as for any condition');
$node->safe_psql('postgres', "SELECT count(llama_filter(x, 'c')) FROM texts WHERE id <= 99");
is(rows(), 333, 'until there are 100 answers');
my ($n, $n_true) = split /\|/, $node->safe_psql('postgres', "SELECT count(f), count(*) FILTER (WHERE f) FROM (SELECT llama_filter(x, 'c') f FROM texts WHERE id <= 150 OFFSET 0) s");
# The first 99 were known, and are counted once.
my $share = $n_true / $n;
my $tenth = int(10 * $share + 0.5) / 10;
$tenth = $tenth < 0.01 ? 0.01 : $tenth > 0.99 ? 0.99 : $tenth;
is(rows(), 1000 * $tenth, "then the share of true ones, to a tenth ($share)");
is(rows('other'), 333, 'each database counts its own');
is($node->safe_psql('postgres', "SET llama3.filter_selectivity = 0.2; EXPLAIN SELECT id FROM texts WHERE llama_filter(x, 'c')") =~ /rows=200 /, 1, 'a setting comes first');
$node->safe_psql('postgres', "SELECT count(llama_filter(NULL, 'c')) FROM texts");
is(rows(), 1000 * $tenth, 'NULLs are no answers');

# ------------------------------------------------- what the rest of a plan is
# A condition's input is known from what passes.
$node->safe_psql('postgres', "ALTER SYSTEM SET llama3.filter_selectivity = 0.25; SELECT pg_reload_conf()");
wait_until('the setting is there', sub { $node->safe_psql('postgres', 'SHOW llama3.filter_selectivity') eq '0.25' });
my $session = $node->background_psql('postgres', on_error_stop => 1);
sub expected_rows
{
	my ($where) = @_;
	$session->query_safe("BEGIN; DECLARE c CURSOR FOR SELECT id FROM texts WHERE $where; MOVE 1 IN c");
	my $rows = $node->safe_psql('postgres', 'SELECT rows_total FROM llama_progress_statements');
	$session->query_safe('CLOSE c; COMMIT');
	return $rows;
}
is(expected_rows("llama_filter(x, 'c') OR llama_filter(x, 'c') IS NULL OR true"), '', 'no call, no progress');
is(expected_rows("(llama_filter(x, 'c')) IS NOT NULL"), '', 'progress of a condition that is not known');
$session->query_safe("SET llama3.filter_selectivity = 1");
is(expected_rows("llama_filter(x, 'c') AND id <= 500"), 500, 'and of one that is') or diag($session->{stderr});
$session->quit;

# Neighbours that count plans see one, however often the query was planned.
$node->safe_psql('postgres', 'CREATE EXTENSION pg_stat_statements; SELECT pg_stat_statements_reset()');
my $parallel = 'SET min_parallel_table_scan_size = 0;';
my $query = "SELECT count(llama_filter(x, 'd')) FROM texts WHERE id <= 500";
cmp_ok(500 * cost("llama_filter(x, 'd')"), '>', 2000, 'calls that cost more than to start workers');
unlike($node->safe_psql('postgres', "$parallel EXPLAIN $query"), qr/Gather/, 'are no reason to');
$node->safe_psql('postgres', "$parallel $query");
is($node->safe_psql('postgres', q{SELECT plans, calls, rows FROM pg_stat_statements WHERE query LIKE 'SELECT count(llama_filter%'}),
	'1|1|1', 'pg_stat_statements counts one plan');
like($node->safe_psql('postgres', "$parallel SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; EXPLAIN $query"), qr/Gather/, 'the rest of a query can be');

$node->stop;
done_testing();
