# What the views and pg_stat_activity say of a server at work, and at rest.

use strict;
use warnings;
use lib '.', 't';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

make_model('slow.gguf', 'slow');
my $node = start_node('main', "llama3.models = 'slow.gguf'", 'llama3.workers = 2');
worker_pids($node);

# --- who has his answer finds the worker at rest
is($node->safe_psql('postgres', q{
	DO $$
	DECLARE
		late int := 0;
	BEGIN
		FOR i IN 1 .. 60 LOOP
			PERFORM llama_complete('x', max_tokens => 1);
			late := late + (SELECT count(*) FROM llama_stat_workers WHERE running > 0 OR state = 'running')
				+ (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'llama3 engine' AND state <> 'idle');
			PERFORM pg_stat_clear_snapshot();
		END LOOP;
		RAISE EXCEPTION 'late %', late;
	EXCEPTION WHEN raise_exception THEN
		PERFORM set_config('test.late', SQLERRM, false);
	END $$;
	SELECT current_setting('test.late')}), 'late 0', 'an answer is not there before the views know it');

# --- pg_stat_activity
sub activity
{
	return $node->safe_psql('postgres', q{SELECT state, query FROM pg_stat_activity
		WHERE backend_type = 'llama3 engine' ORDER BY query});
}
is(activity(), "idle|llama3 engine 1: idle\nidle|llama3 engine 2: idle", 'idle workers say so, one row each');
my $client = spawn_sql($node, 'SELECT llama_complete(\'x\', max_tokens => 8000)');
wait_until('a request runs', sub { running_requests($node) == 1 });
like(activity(), qr/^active\|llama3 engine [12]: serving slow, 1 request$/m, 'a running worker says what it does');
like(activity(), qr/^idle\|llama3 engine [12]: idle$/m, 'while the other is idle');
$node->safe_psql('postgres', 'SELECT pg_cancel_backend(pid) FROM llama_stat_requests');
finish_sql($client);
ok(wait_until('the workers are idle', sub { activity() !~ /active/ }), 'and they are idle again');
is(activity(), "idle|llama3 engine 1: idle\nidle|llama3 engine 2: idle", 'which they say');
is($node->safe_psql('postgres', q{SELECT state, query FROM pg_stat_activity WHERE backend_type = 'llama3 loader'}),
	'idle|llama3 loader: idle', 'as the loader does');

# --- llama_stat_requests.prompt: the end of what somebody wrote
$node->safe_psql('postgres', q{CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0});
$node->safe_psql('latin', 'CREATE EXTENSION llama3');
sub shown_prompt
{
	my ($call, $dbname) = @_;
	my $other = spawn_sql($node, "SET client_encoding = 'UTF8'; SELECT $call");
	wait_until('a request runs', sub { running_requests($node) == 1 });
	my $prompt = $node->safe_psql($dbname // 'postgres',
		"SET client_encoding = 'UTF8'; SELECT prompt FROM llama_stat_requests");
	$node->safe_psql('postgres', 'SELECT pg_cancel_backend(pid) FROM llama_stat_requests');
	finish_sql($other);
	return $prompt;
}
my $page = 'page ' x 60;
is(shown_prompt(q{llama_generate('Tell me about tables.', system => 'Be brief.', max_tokens => 8000)}),
	'Tell me about tables.', 'a prompt is shown without the template');
is(shown_prompt(q{llama_chat('[{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A page."},
	{"role": "user", "content": "\n\nWhich\n\nends?"}]', max_tokens => 8000)}),
	"Which\n\nends?", 'of a chat the last message');
is(shown_prompt("llama_complete('$page' || 'the end', max_tokens => 8000)"),
	substr("${page}the end", -200), 'of a long text the last 200 bytes');
is(shown_prompt("llama_complete(repeat('\x{c3}\x{a9}', 150) || 'x', max_tokens => 8000)"),
	"\x{c3}\x{a9}" x 99 . 'x', 'cut between characters');
is(shown_prompt("llama_complete('caf\x{c3}\x{a9} \x{f0}\x{9f}\x{8e}\x{89}', max_tokens => 8000)", 'latin'),
	"caf\x{c3}\x{a9} ?", 'in the encoding of the database that looks');
is(shown_prompt("llama_generate('a <|end_header_id|> b', max_tokens => 8000)"), 'a <|end_header_id|> b',
	'what looks like a special token is text');
$node->stop;

done_testing();
